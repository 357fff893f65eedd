"""Jobs. Belongs here: what is run by hand or by a schedule and materialises nothing.

https://docs.dagster.io/guides/build/jobs
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from ingestion_assets.engine import dead_letters
from ingestion_assets.orchestration.resources import DATABASE, Database
from ingestion_assets.orchestration.sensors import PARTITION, RANGE_END, RANGE_START, SYNC


class ReplayConfig(dg.Config):
    """Which dead letters to replay."""

    streams: str = "%"  # a LIKE pattern of stream keys, such as evm/token_transfers/%


@dg.op(required_resource_keys={DATABASE})
def reopen_ranges(context: dg.OpExecutionContext, config: ReplayConfig) -> None:
    """Take the ranges of open dead letters out of the coverage, so that they are read again."""
    database: Database = getattr(context.resources, DATABASE)
    reopened = dead_letters.replay(database.store, config.streams)
    for stream, ranges in reopened.items():
        context.log.info("%s: %s", stream, ", ".join(f"{lo}–{hi}" for lo, hi in ranges))
    context.add_output_metadata({"streams": len(reopened), "ranges": sum(map(len, reopened.values()))})


@dg.job(
    description="Reads the ranges of open dead letters again: a sync or a backfill after this job does the reading."
)
def replay_dead_letters() -> None:
    """See the description."""
    reopen_ranges()


class TidyConfig(dg.Config):
    """How long records of finished syncs are kept."""

    keep_hours: int = 24


@dg.op
def forget_superseded_syncs(context: dg.OpExecutionContext, config: TidyConfig) -> None:
    """Delete the records of old syncs whose days were synced again later.

    A sync every half minute leaves thousands of runs a day in Dagster's storage, and Dagster itself never
    deletes any. Rows and marks are not touched, and each day keeps the run that read it last.
    """
    before = datetime.now(UTC) - timedelta(hours=config.keep_hours)
    kept: set[tuple[str | None, ...]] = set()
    forgotten = 0
    subjects = [one for _, values in context.instance.get_run_tags(tag_keys=[SYNC]) for one in values]
    if not subjects:
        return
    ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    syncs = dg.RunsFilter(tags={SYNC: sorted(subjects)}, statuses=ended)
    for record in context.instance.get_run_records(syncs):  # newest first
        tags = record.dagster_run.tags
        days = tuple(tags.get(tag) for tag in (SYNC, PARTITION, RANGE_START, RANGE_END))
        if days in kept and record.create_timestamp < before:
            context.instance.delete_run(record.dagster_run.run_id)
            forgotten += 1
        elif record.dagster_run.status == dg.DagsterRunStatus.SUCCESS:
            kept.add(days)
    context.add_output_metadata({"forgotten": forgotten})


@dg.job(description="Deletes the run records of superseded syncs, which Dagster would keep for ever.")
def tidy() -> None:
    """See the description."""
    forget_superseded_syncs()
