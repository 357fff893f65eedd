"""The asset of a stream. Belongs here: the one decorator that turns a function returning streams into an asset.

The function says *what* to read and returns at once; the IO manager drains it, so Dagster shows the work
as "handling the output", and its RetryPolicy covers it.
"""

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import dagster as dg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from ingestion_assets.engine.budget import PATIENCE
from ingestion_assets.engine.errors import Permanent, Transient
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


def _nothing() -> Mapping[str, Any]:
    return {}


def _unknown(_requests: int) -> datetime | None:
    return None


@dataclass(frozen=True, slots=True)
class Ingestion:
    """What an ingesting asset returns: streams, unopened.

    `read_ahead` and `writers` are `drain`'s. `partitions_of` names the partitions that unproved ranges lie in. `finish` says when so many
    more requests can be through, by the budgets. `metadata` is asked when all is read, for what the source has to add;
    `progress` every half minute while it is read, and Dagster shows it as an observation.
    """

    streams: Sequence[Stream]
    read_ahead: int = 1
    writers: int = 1
    partitions_of: Callable[[Unprovable], Iterable[str]] = field(default=_none)
    finish: Callable[[int], datetime | None] = field(default=_unknown)
    metadata: Callable[[], Mapping[str, Any]] = field(default=_nothing)
    progress: Callable[[], Mapping[str, Any]] = field(default=_nothing)


@contextmanager
def sorted_for_dagster() -> Iterator[None]:
    """Say of our errors what Dagster should do about them.

    Raises:
        Failure: a person must act, or the source asks for a longer wait than a run should sit out; not retried.
        RetryRequested: the source told us when to come back.
        Transient: the RetryPolicy decides.
    """
    try:
        yield
    except Permanent as error:
        raise dg.Failure(f"{type(error).__name__}: {error}", allow_retries=False) from error
    except Transient as error:
        if error.retry_after is None:
            raise
        if error.retry_after > PATIENCE:
            raise dg.Failure(
                f"{error}; the source asks to be left alone for {error.retry_after:.0f} s",
                allow_retries=False,
            ) from error
        raise dg.RetryRequested(max_retries=RETRY.max_retries, seconds_to_wait=error.retry_after) from error


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
    after: Sequence[dg.AssetKey] = (),
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
        after: assets whose tables it is made from.
    """
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", dg.BetaWarning
        )  # backfill policies are; the version of Dagster is pinned
        decorate = dg.asset(
            key=key.split("/"),
            io_manager_key=STORE,
            deps=list(after),
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

    def asset(streams: Callable[[dg.AssetExecutionContext], Ingestion]) -> dg.AssetsDefinition:
        @functools.wraps(streams)
        def body(context: dg.AssetExecutionContext) -> Ingestion:
            with sorted_for_dagster():
                return streams(context)

        return decorate(body)

    return asset


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
