"""The IO manager. Belongs here: draining what an asset returned, and handing stored rows to derived assets.

What a run reports is decided here: which partitions became whole, with which numbers, and whether an
error is worth another attempt.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import dagster as dg
import pandas as pd
import sqlalchemy as sa

from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.http import sent
from ingestion_assets.engine.store import Store
from ingestion_assets.engine.stream import Batch, Covered, Drained, Stream, Tally, name_of
from ingestion_assets.orchestration import metadata
from ingestion_assets.orchestration.ingest import Ingestion, sorted_for_dagster
from ingestion_assets.orchestration.partitions import grid_of, in_partitions, rows_by_partition

REPORT_EVERY = 30.0  # seconds between lines of progress: each is a row in Dagster's event log

CODE_SERVER = (
    ".dagster/grpc_info"  # tag in which Dagster keeps the address of the code server that started a run
)

OnCommit = Callable[[Stream, Batch, Tally], None]


class Stopped(dg.DagsterError, dg.DagsterExecutionInterruptedError):
    """The run was told to stop, and did, between two batches.

    To Dagster it is an interruption: no further step begins, and the run ends CANCELED if a person had asked for
    that, otherwise (Ctrl-C, a deploy) as a FAILURE of the kind that run retries repeat, although they leave failed steps
    alone. It is a DagsterError because nothing else passes the RetryPolicy, which would begin again at once.
    """


class StoreIOManager(dg.IOManager):
    """Drains streams into Postgres, and reads rows back as DataFrames.

    Args:
        store: where batches are committed.
        engine: for counting and reading rows.
        tables: our tables by name, `raw.evm_transactions`.
        on_commit: told of every committed batch.
    """

    def __init__(
        self,
        store: Store,
        engine: sa.Engine,
        tables: Mapping[str, sa.Table],
        *,
        on_commit: OnCommit | None = None,
    ) -> None:
        self._store = store
        self._engine = engine
        self._tables = tables
        self._on_commit = on_commit
        self._stopped_runs: set[str] = set()

    def handle_output(self, context: dg.OutputContext, obj: Ingestion) -> None:
        """Drain, then report each partition that is whole.

        Raises:
            Failure: a person must act; it is not retried.
            Stopped: the run was asked to end.
            RetryRequested: the source told us when to come back.
            Transient: the RetryPolicy decides.
        """
        if self._must_not_begin(context):
            raise Stopped("the run was stopped before this asset was read")
        started, requests = time.monotonic(), sent.total()
        progress = Progress(context, obj, self._store, self._on_commit)
        # Signals are held back until all is reported: an exception in the middle of that would be taken for
        # an error, and the RetryPolicy would do again what is done.
        with stop_requests() as stop:
            try:
                drained = self._drain(obj, stop, progress)
                run_metadata = {
                    **metadata.numbers(drained.tally),
                    "requests": sent.total() - requests,
                    "seconds": round(time.monotonic() - started, 2),
                }
                context.log.info(
                    "%d batches, %d records: %d new, %d known, %d rejected; %d requests",
                    drained.tally.batches, drained.tally.fetched, drained.tally.inserted,
                    drained.tally.duplicate, drained.tally.rejected, run_metadata["requests"],
                )  # fmt: skip
                if drained.stopped:
                    raise Stopped(
                        "stopped between two batches: all that was committed stays, and the next run goes on from there"
                    )
                self._report(context, obj, drained, run_metadata)
            finally:
                if stop.is_set():
                    self._stopped_runs.add(context.run_id)

    def _must_not_begin(self, context: dg.OutputContext) -> bool:
        """Whether the run was asked to end while nobody listened: after the last drain, or in an asset's body."""
        if context.run_id in self._stopped_runs:
            return True
        run = context.step_context.instance.get_run_by_id(context.run_id)
        return run is not None and run.status in (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)

    def _drain(self, obj: Ingestion, stop: threading.Event, progress: "Progress") -> Drained:
        with sorted_for_dagster():
            return drain(
                obj.streams,
                self._store,
                read_ahead=obj.read_ahead,
                writers=obj.writers,
                should_stop=stop.is_set,
                on_commit=progress,
            )

    def _report(
        self, context: dg.OutputContext, obj: Ingestion, drained: Drained, run_metadata: Mapping[str, Any]
    ) -> None:
        if drained.failed:
            reasons = [f"{stream}: {error}" for stream, error in drained.failed.items()]
            raise dg.Failure(
                f"SchemaDrift in {len(reasons)} of {len(obj.streams)} streams: {'; '.join(reasons[:5])}. "
                "The other streams are read to their end.",
                metadata={**run_metadata, "drifted": dg.MetadataValue.json(reasons)},
                allow_retries=False,
            )
        table, time_column = self._table(context)
        keys = list(context.asset_partition_keys)
        counts = rows_by_partition(
            self._engine, table, time_column, keys, grid_of(context.asset_partitions_def)
        )
        with sorted_for_dagster():
            unproved = set(obj.partitions_of(drained.unproved)) if drained.unproved else set()
        step = context.step_context
        rows = metadata.row_count(self._engine, table)
        of_run = {
            **({} if rows is None else {"dagster/row_count": rows}),
            **metadata.coverage(self._store, obj.streams),
            **obj.metadata(),
            **run_metadata,
        }
        for key in keys:
            counted = {} if counts is None else {"dagster/partition_row_count": counts.get(key, 0)}
            of_partition = {**counted, **of_run}
            if not drained.unproved:
                step.add_asset_metadata(metadata=of_partition, asset_key=context.asset_key, partition_key=key)
            elif key not in unproved:
                # The step is about to fail for the sake of others: this partition is whole nevertheless.
                context.log_event(
                    dg.AssetMaterialization(context.asset_key, partition=key, metadata=of_partition)
                )
        if drained.unproved:
            reasons = [f"{stream}: {gap.reason}" for stream, gaps in drained.unproved.items() for gap in gaps]
            raise dg.Failure(
                f"{len(reasons)} ranges cannot be proved whole: {'; '.join(reasons[:5])}. What the source showed of them is "
                "stored, the ranges stay listed by `ingestion gaps`.",
                metadata={**run_metadata, "unproved": dg.MetadataValue.json(reasons)},
                allow_retries=False,
            )

    def load_input(self, context: dg.InputContext) -> pd.DataFrame:
        """The stored rows of the upstream partitions. NUMERIC comes as Decimal, so no number loses digits."""
        table, time_column = self._table(context.upstream_output)
        query = sa.select(table)
        if context.has_asset_partitions:
            keys = list(context.asset_partition_keys)
            grid = grid_of(context.asset_partitions_def)
            query = query.where(in_partitions(table, time_column, keys, grid))
        with self._engine.connect() as connection:
            return pd.read_sql(query, connection, coerce_float=False)

    def _table(self, context: dg.OutputContext | None) -> tuple[sa.Table, str]:
        said = (context.definition_metadata if context else None) or {}
        return self._tables[said["dagster/table_name"]], said["partition_expr"]


class Progress:
    """Says every half minute how far the drain is and when it may end, and tells `on_commit` of every batch."""

    def __init__(
        self,
        context: dg.OutputContext,
        obj: Ingestion,
        store: Store,
        on_commit: OnCommit | None = None,
        *,
        every: float = REPORT_EVERY,
    ) -> None:
        self._context = context
        self._ingestion = obj
        self._store = store
        self._on_commit = on_commit
        self._total = Tally()
        self._every = every
        self._said_at = time.monotonic()
        self._requests = sent.total()
        self._read = 0  # positions, summed over keys

    def __call__(self, stream: Stream, batch: Batch, tally: Tally) -> None:
        """One batch is committed."""
        self._total.add(tally)
        if isinstance(batch.mark, Covered):
            self._read += (batch.mark.hi - batch.mark.lo + 1) * len(batch.keys or stream.keys)
        if self._on_commit is not None:
            self._on_commit(stream, batch, tally)
        if time.monotonic() - self._said_at >= self._every:
            self._said_at = time.monotonic()
            self._context.log.info(
                "so far %d batches and %d new rows; now at %s, %s",
                self._total.batches, self._total.inserted, name_of(stream), batch.mark,
            )  # fmt: skip
            self._estimate()
            said = self._ingestion.progress()
            if said:
                self._context.log_event(dg.AssetObservation(self._context.asset_key, metadata=said))

    def _estimate(self) -> None:
        """What is left costs what was read so far has cost; a guess, and said to be one."""
        requests = sent.total() - self._requests
        missing = metadata.missing(self._store, self._ingestion.streams)
        if not (requests and self._read and missing):
            return
        left = round(requests * missing / self._read)
        end = self._ingestion.finish(left)
        when = "" if end is None else f"; the budgets allow that by {end:%Y-%m-%d %H:%M} UTC"
        self._context.log.info("%d requests so far, about %d more%s", requests, left, when)


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event that is set when Dagster, or a person, wants the process to stop.

    Dagster would raise an exception wherever the main thread happens to be; held back like this, the
    drain ends at the next batch boundary instead.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals reach the main thread only
        return

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
