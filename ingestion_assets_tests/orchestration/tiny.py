"""The smallest source: a table of three columns, a stream whose batches are written in the test, one asset.

Positions are days since 2024-01-01, so a test can say `covers(0, 9)` and mean ten partitions.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import dagster as dg
import sqlalchemy as sa

from ingestion_assets import migrations
from ingestion_assets.engine import database
from ingestion_assets.engine.coverage import union
from ingestion_assets.engine.stream import Batch, Covered, Done, Evidence, Rows, Unproved
from ingestion_assets.orchestration import partitions, resources
from ingestion_assets.orchestration.checks import clean
from ingestion_assets.orchestration.ingest import STORE, Ingestion, ingest

FIRST = date(2024, 1, 1)
KEY = dg.AssetKey(["tiny", "days"])
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
AT_ONCE = dg.RetryPolicy(max_retries=3)

TABLE = sa.Table(
    "tiny",
    sa.MetaData(schema="raw"),
    sa.Column("chain", sa.Text),
    sa.Column("at", sa.DateTime(timezone=True)),
    sa.Column("n", sa.Numeric(78, 0), primary_key=True),
)


def rows(chain: str, *days: int) -> tuple[Rows, ...]:
    """One row on each of these days."""
    lines = "".join(f"{chain}\t{FIRST + timedelta(days=n)} 12:00:00+00\t{10**30 + n}\n" for n in days)
    return (Rows(TABLE, lines.encode(), len(days)),)


def covers(lo: int, hi: int, *, chain: str = "a", rejected=()) -> Batch:
    """The batch that makes these days whole, with a row each."""
    return Batch(Covered(lo, hi, Evidence("stated", "a test")), rows(chain, *range(lo, hi + 1)), rejected)


def cannot_prove(day: int, *, chain: str = "a") -> Batch:
    """The batch of a day that the source shows and cannot prove whole."""
    return Batch(Unproved(day, day, "its pages moved"), rows(chain, day))


Plan = Callable[[Done], Iterator[Batch]]


@dataclass(frozen=True)
class Tiny:
    """A stream that wants days and reads what the test says."""

    chain: str
    days: tuple[partitions.Span, ...]
    plan: Plan

    @property
    def keys(self) -> tuple[str, ...]:
        """As a real one's."""
        return (f"tiny/days/{self.chain}",)

    def wanted(self):
        """The days as positions."""
        return union(((lo - FIRST).days, (hi - FIRST).days) for lo, hi in self.days)

    def read(self, done: Mapping[str, Done]) -> Iterator[Batch]:
        """What the test says."""
        return iter(self.plan(done[self.keys[0]]))


def partition(day: int, chain: str = "a") -> str:
    """The partition key of a day."""
    return partitions.key(chain, FIRST + timedelta(days=day))


def _partitions_of(unproved):
    return [partition(gap.lo, stream.split("/")[2]) for stream, gaps in unproved.items() for gap in gaps]


def definitions(
    url: str, plan: Plan, *extra, retry: dg.RetryPolicy = AT_ONCE, on_commit=None
) -> dg.Definitions:
    """An asset, its check, and assets of the test's own, on a database that has the table."""
    TABLE.metadata.create_all(database.engine(url))

    def streams(context):
        return [Tiny(chain, days, plan) for chain, days in partitions.spans(context.partition_keys).items()]

    @ingest(
        key="tiny/days",
        table=TABLE,
        time_column="at",
        partitions_def=partitions.chain_days(["a", "b"], FIRST),
        group_name="tiny",
        required_resource_keys=set(),
        description="Days.",
        retry_policy=retry,
    )
    def days(context: dg.AssetExecutionContext) -> Ingestion:
        return Ingestion(streams(context), partitions_of=_partitions_of)

    return dg.Definitions(
        assets=[days, *extra],
        asset_checks=[clean(KEY, streams, required_resource_keys=set())],
        resources={
            resources.DATABASE: resources.database(
                lambda: url, lambda address: database.migrate(address, migrations.SCRIPTS)
            ),
            STORE: resources.io_manager({TABLE.fullname: TABLE}, on_commit),
        },
        executor=dg.in_process_executor,
    )


def run(defs: dg.Definitions, instance: dg.DagsterInstance, first: int, last: int, *assets, chain="a"):
    """Materialise a range of days; the result, whether it succeeded or not."""
    keys = assets or (KEY,)
    job = defs.get_repository_def().get_implicit_job_def_for_assets(keys)
    tags = {
        "dagster/asset_partition_range_start": partition(first, chain),
        "dagster/asset_partition_range_end": partition(last, chain),
    }
    return job.execute_in_process(
        instance=instance, tags=tags, asset_selection=keys, raise_on_error=False, run_config=QUIET
    )


def stored(connection) -> list[str]:
    """The days of the rows in the table, in order."""
    return [
        f"{chain}|{day}"
        for chain, day in connection.execute("SELECT chain, at::date::text FROM raw.tiny ORDER BY 1, 2")
    ]


def materialised(instance, result, key: dg.AssetKey = KEY) -> dict[str, dict[str, object]]:
    """Partition -> metadata values, as Dagster remembers a run."""
    found = {}
    for record in instance.fetch_materializations(key, limit=1000).records:
        if record.run_id == result.run_id:
            assert record.partition_key not in found, "reported twice"
            metadata = record.asset_materialization.metadata
            found[record.partition_key] = {name: value.value for name, value in metadata.items()}
    return found


def failure(result) -> str:
    """What the failed step says."""
    (event,) = [event for event in result.all_events if event.is_step_failure]
    data = event.step_failure_data
    return (data.user_failure_data and data.user_failure_data.description) or data.error.to_string()
