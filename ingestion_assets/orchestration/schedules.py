"""Schedules. Belongs here: what happens by the clock. What happens because there is something new is a sensor.

https://docs.dagster.io/guides/automate/schedules
"""

import dagster as dg


def nightly(job: dg.JobDefinition, *, at: str, automate: bool, description: str) -> dg.ScheduleDefinition:
    """Run a job every night.

    Args:
        job: what is run; the schedule is called `nightly_` and its name.
        at: when, as cron's minute and hour (UTC).
        automate: whether it is switched on when first seen.
        description: for the UI.
    """
    return dg.ScheduleDefinition(
        name=f"nightly_{job.name}",
        job=job,
        cron_schedule=f"{at} * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING if automate else dg.DefaultScheduleStatus.STOPPED,
        description=description,
    )
