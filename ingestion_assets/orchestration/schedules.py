"""Schedules. Belongs here: what happens by the clock. What happens because there is something new is a sensor.

https://docs.dagster.io/guides/automate/schedules
"""

import dagster as dg

from ingestion_assets.orchestration.jobs import tidy


def nightly_tidy(status: dg.DefaultScheduleStatus) -> dg.ScheduleDefinition:
    """Run `tidy` every night."""
    return dg.ScheduleDefinition(
        name="nightly_tidy",
        job=tidy,
        cron_schedule="17 3 * * *",
        execution_timezone="UTC",
        default_status=status,
        description="Keeps Dagster's own storage small.",
    )
