"""The asset of a stream. Belongs here: the one decorator that turns a function returning streams into an asset.

The function says *what* to read and returns at once; the IO manager drains it, so Dagster shows the work
as "handling the output", and its RetryPolicy covers it.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from ingestion_assets.engine.stream import Stream, Unproved

DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]

STORE = "store"  # resource key of the IO manager

# Three more attempts inside the run; what is committed stays, so an attempt begins where the last one ended.
RETRY = dg.RetryPolicy(max_retries=3, delay=2, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.FULL)

# Launching a run writes one planned event for each partition: so many keep a launch under two seconds on
# Postgres (benchmarks/launch.py), and a backfill of years is still a handful of scans.
MAX_PARTITIONS_PER_RUN = 250

Unprovable = Mapping[str, tuple[Unproved, ...]]


def _none(_unproved: Unprovable) -> Iterable[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Ingestion:
    """What an ingesting asset returns: streams, unopened.

    `read_ahead` and `readers` are `drain`'s. `partitions_of` names the partitions that unproved ranges lie in.
    """

    streams: Sequence[Stream]
    read_ahead: int = 1
    readers: int = 1
    partitions_of: Callable[[Unprovable], Iterable[str]] = field(default=_none)


def ingest(
    *,
    key: str,
    table: sa.Table,
    time_column: str,
    partitions_def: dg.PartitionsDefinition[str],
    group_name: str,
    required_resource_keys: set[str],
    description: str,
    retry_policy: dg.RetryPolicy = RETRY,
) -> Callable[[Callable[[dg.AssetExecutionContext], Ingestion]], dg.AssetsDefinition]:
    """Make an asset of a function that returns an `Ingestion`.

    Args:
        key: `evm/transactions`.
        table: where its rows go; its columns are shown in the UI.
        time_column: the column that says which day a row belongs to.
        partitions_def: its partitions.
        group_name: the source family.
        required_resource_keys: what the function reads from `context.resources`.
        description: Markdown, for the UI.
        retry_policy: attempts inside a run, for what is Transient.
    """
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", dg.BetaWarning
        )  # backfill policies are; the version of Dagster is pinned
        return dg.asset(
            key=key.split("/"),
            io_manager_key=STORE,
            partitions_def=partitions_def,
            backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=MAX_PARTITIONS_PER_RUN),
            retry_policy=retry_policy,
            group_name=group_name,
            kinds={"postgres"},
            required_resource_keys=required_resource_keys,
            description=description,
            metadata={
                "dagster/table_name": table.fullname,
                "dagster/column_schema": column_schema(table),
                "partition_expr": time_column,
            },
        )


def column_schema(table: sa.Table) -> dg.TableSchema:
    """A table's columns as Dagster shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                column.type.compile(DIALECT).lower(),
                description=column.comment,
                constraints=dg.TableColumnConstraints(nullable=bool(column.nullable)),
            )
            for column in table.columns
        ]
    )
