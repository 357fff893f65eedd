"""The code location: what Dagster loads. Settings, sources and orchestration meet here and nowhere else."""

from datetime import date

import dagster as dg

from ingestion_assets import migrations
from ingestion_assets.engine import database as postgres
from ingestion_assets.orchestration import jobs, partitions, resources, schedules, sensors
from ingestion_assets.orchestration.ingest import STORE
from ingestion_assets.orchestration.io_manager import OnCommit
from ingestion_assets.settings import Settings
from ingestion_assets.sources.events import assets as events
from ingestion_assets.sources.events import tables as events_tables
from ingestion_assets.sources.evm import assets as evm
from ingestion_assets.sources.evm import tables as evm_tables
from ingestion_assets.sources.gomafia import assets as gomafia
from ingestion_assets.sources.gomafia import tables as gomafia_tables
from ingestion_assets.sources.statements import assets as statements
from ingestion_assets.sources.statements import derived_tables as statement_tables
from ingestion_assets.sources.transfers import assets as transfers
from ingestion_assets.sources.transfers import tables as transfer_tables

TABLES = (
    evm_tables.metadata,
    events_tables.metadata,
    gomafia_tables.metadata,
    statement_tables.metadata,
    transfer_tables.metadata,
)


def build(settings: Settings, *, on_commit: OnCommit | None = None) -> dg.Definitions:
    """The definitions for these settings. Asks neither a database nor a source; tests call it with their own.

    Args:
        settings: from the environment, or a test's own.
        on_commit: told of every committed batch of the runs in this process.

    Raises:
        Misconfigured: sources.yaml is not right; the message says where.
    """
    sources = settings.sources()
    chains, feeds = sources.chains, sources.events
    start = min((chain.start for chain in chains.values()), default=date(2015, 7, 30))
    ours: list[dg.Definitions] = []
    if chains:
        chain_days = partitions.chain_days(sorted(chains), start)
        ours.append(evm.definitions(chains, settings, chain_days))
        kept = {name: chain.retention_days for name, chain in chains.items()}
        ours.append(transfers.definitions(kept, settings, chain_days, start))
    if feeds:
        ours.append(events.definitions(feeds, settings))
    if sources.statements is not None:
        ours.append(statements.definitions(sources.statements, settings))
    if sources.gomafia is not None:
        ours.append(gomafia.definitions(sources.gomafia, settings))
    everywhere = dg.Definitions(
        jobs=[jobs.replay_dead_letters, jobs.tidy],
        schedules=[
            schedules.nightly(
                jobs.tidy,
                at="17 3",
                automate=settings.automate,
                description="Keeps Dagster's own storage small.",
            )
        ],
        sensors=[sensors.resume_lost_runs()] if ours else [],
        resources={
            resources.DATABASE: resources.database(
                settings.database_url, lambda url: postgres.migrate(url, migrations.SCRIPTS)
            ),
            STORE: resources.io_manager(
                {table.fullname: table for metadata in TABLES for table in metadata.tables.values()},
                on_commit,
            ),
        },
        # One process for each run: a second one per step doubles the cost of a run that has one kind of step.
        executor=dg.in_process_executor,
    )
    return dg.Definitions.merge(*ours, everywhere)


@dg.definitions
def defs() -> dg.Definitions:
    """What `dagster dev -w workspace.yaml` serves."""
    return build(Settings.from_environment())
