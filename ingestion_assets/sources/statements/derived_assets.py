"""The assets that are derived of stored lines, their checks, and how a run's partitions become streams."""

from collections.abc import Iterable
from datetime import date
from typing import Any

import dagster as dg
import sqlalchemy as sa

from ingestion_assets.engine.coverage import Ranges, difference, size, union
from ingestion_assets.engine.store import Store
from ingestion_assets.engine.stream import Stream
from ingestion_assets.orchestration import partitions
from ingestion_assets.orchestration.checks import clean
from ingestion_assets.orchestration.ingest import Ingestion, ingest
from ingestion_assets.orchestration.resources import DATABASE, Database
from ingestion_assets.sources.statements.config import StatementsConfig
from ingestion_assets.sources.statements.derived_tables import broker_snapshots, movements, ticker_snapshots
from ingestion_assets.sources.statements.movement_stream import (
    CHUNK,
    STREAM,
    AccountMovements,
    seconds_of,
    time_of,
)
from ingestion_assets.sources.statements.precedence import superseded
from ingestion_assets.sources.statements.proof import proofs
from ingestion_assets.sources.statements.registry import STREAM as LINES_STREAM
from ingestion_assets.sources.statements.registry import Registry
from ingestion_assets.sources.statements.snapshot_stream import (
    BROKER,
    TICKER,
    AccountSnapshots,
    day_of,
    ordinal,
)

LINES = dg.AssetKey(LINES_STREAM.split("/"))
MOVEMENTS = dg.AssetKey(STREAM.split("/"))
BROKER_SNAPSHOTS = dg.AssetKey(BROKER.split("/"))
TICKER_SNAPSHOTS = dg.AssetKey(TICKER.split("/"))
DERIVED = (MOVEMENTS, BROKER_SNAPSHOTS, TICKER_SNAPSHOTS)
SHOWN = 50  # files and mismatches told of in a check


def definitions(config: StatementsConfig, accounts: str) -> dg.Definitions:
    """The three assets and their checks.

    Args:
        config: of sources.yaml.
        accounts: name under which Dagster keeps the accounts.
    """
    weeks = partitions.account_weeks(accounts, config.first_week)
    return dg.Definitions(
        assets=[
            _movements(weeks),
            _snapshots(
                TICKER,
                ticker_snapshots,
                weeks,
                "Each ticker at the end of each day on which it moved: shares, cost, incomes, what was realized.",
            ),
            _snapshots(
                BROKER,
                broker_snapshots,
                weeks,
                "Each account and currency at the end of each day on which something moved. Made in one pass with those of the tickers.",
            ),
        ],
        asset_checks=[
            clean(MOVEMENTS, _movements_within, required_resource_keys=set()),
            clean(BROKER_SNAPSHOTS, _snapshots_within, required_resource_keys=set()),
            clean(TICKER_SNAPSHOTS, _snapshots_within, required_resource_keys=set()),
            _proved(),
        ],
    )


def _store(context: Any) -> Store:
    database: Database = getattr(context.resources, DATABASE)
    return database.store


def _movements(weeks: dg.MultiPartitionsDefinition) -> dg.AssetsDefinition:
    @ingest(
        key=STREAM,
        table=movements,
        time_column="at",
        partitions_def=weeks,
        group_name="statements",
        required_resource_keys={DATABASE},
        after=[LINES],
        description="What happened in each account, from its stored lines: a row for each contract and each leg.",
    )
    def statement_movements(context: dg.AssetExecutionContext) -> Ingestion:
        store = _store(context)
        streams = [AccountMovements(account, store) for account in _accounts(context.partition_keys)]
        for stream in streams:
            context.log.info("%s: %d lines to derive again", stream.account, lines_behind(stream))

        def progress() -> dict[str, Any]:
            return {"accounts": dg.MetadataValue.json([_progress(stream) for stream in streams])}

        def said() -> dict[str, Any]:
            given_way = [one for stream in streams for one in _given_way(store, stream.account)]
            return progress() | ({"superseded": dg.MetadataValue.json(given_way)} if given_way else {})

        return Ingestion(streams, metadata=said, progress=progress)

    return statement_movements


def _given_way(store: Store, account: str) -> list[dict[str, Any]]:
    """How many lines of an account are told by a richer file, for people to read."""
    found = superseded(store, account)
    paths = {file.hash: file.path for file in Registry(store).files(account)} if found else {}
    return [
        {"account": account, "dialect": dialect, "lines": count, "by": paths.get(file, file)}
        for (dialect, file), count in sorted(found.items())
    ]


def _snapshots(
    key: str, table: sa.Table, weeks: dg.MultiPartitionsDefinition, description: str
) -> dg.AssetsDefinition:
    @ingest(
        key=key,
        table=table,
        time_column="at",
        partitions_def=weeks,
        group_name="statements",
        required_resource_keys={DATABASE},
        after=[MOVEMENTS],
        description=description,
    )
    def statement_snapshots(context: dg.AssetExecutionContext) -> Ingestion:
        store = _store(context)
        streams = [AccountSnapshots(account, store) for account in _accounts(context.partition_keys)]

        def said() -> dict[str, Any]:
            return {
                "accounts": dg.MetadataValue.json(
                    [
                        {"account": stream.account, "days_missing": size(missing(store, stream))}
                        for stream in streams
                    ]
                )
            }

        return Ingestion(streams, metadata=said, progress=said)

    return statement_snapshots


def _accounts(partition_keys: Iterable[str]) -> list[str]:
    """Each of them is brought up to date as a whole: what a week is depends on the weeks before it."""
    return sorted({partitions.parse(key)[0] for key in partition_keys})


def _movements_within(context: dg.OpExecutionContext) -> list[Stream]:
    spans = partitions.spans(context.partition_keys, partitions.ACCOUNT_WEEKS)
    return [
        AccountMovements(account, _store(context), union(seconds_of(*span) for span in own))
        for account, own in spans.items()
    ]


def _snapshots_within(context: dg.OpExecutionContext) -> list[Stream]:
    spans = partitions.spans(context.partition_keys, partitions.ACCOUNT_WEEKS)
    return [
        AccountSnapshots(
            account, _store(context), union((ordinal(first), ordinal(last)) for first, last in own)
        )
        for account, own in spans.items()
    ]


def missing(store: Store, stream: AccountMovements | AccountSnapshots) -> Ranges:
    """What is wanted of an account and not derived, or not any more."""
    wanted = stream.wanted()  # takes back what changed, before it is asked what is covered
    covered = store.covered(stream.keys)
    return union(gap for key in stream.keys for gap in difference(wanted, covered.get(key, ())))


def lines_behind(stream: AccountMovements) -> int:
    """How many lines have no movements yet, or not any more."""
    query = "SELECT count(*) FROM raw.statement_lines WHERE account = %s AND at >= %s AND at < %s"
    return sum(
        stream.store.transaction(
            lambda c, lo=lo, hi=hi: (
                c.execute(query, [stream.account, time_of(lo), time_of(hi + 1)]).fetchone() or (0,)
            )[0]  # type: ignore[misc]
        )
        for lo, hi in missing(stream.store, stream)
    )


def _progress(stream: AccountMovements) -> dict[str, Any]:
    behind = lines_behind(stream)
    return {"account": stream.account, "lines_missing": behind, "chunks_missing": -(-behind // CHUNK)}


def underived(store: Store, account: str) -> set[date]:
    """The days of an account whose movements or snapshots are missing: the first of each range, and the last."""
    days: set[date] = set()
    for lo, hi in missing(store, AccountMovements(account, store)):
        days |= {time_of(lo).date(), time_of(hi).date()}
    for lo, hi in missing(store, AccountSnapshots(account, store)):
        days |= {day_of(lo), day_of(hi)}
    return days


def _proved() -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=MOVEMENTS,
        name="proved",
        description="The sums and positions that each file states are those of its movements, and each statement begins where the last one ended.",
        required_resource_keys={DATABASE},
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        operation = context.op_execution_context
        store = _store(operation)
        registry = Registry(store)
        if operation.has_partition_key or operation.has_partition_key_range:
            spans = partitions.spans(operation.partition_keys, partitions.ACCOUNT_WEEKS)
            files = [
                file
                for account, own in spans.items()
                for file in registry.files(account)
                if any(first <= week <= last for first, last in own for week in file.weeks)
            ]
        else:
            files = registry.files()
        unread = registry.missing(files)
        found = proofs(store, [file for file in files if file.key not in unread])
        wrong = [f"{proof.file}: {said}" for proof in found for said in proof.mismatches()]
        return dg.AssetCheckResult(
            passed=not wrong,
            severity=dg.AssetCheckSeverity.ERROR,
            description=(
                f"{len(wrong)} mismatches; the first: {wrong[0]}"
                if wrong
                else f"{sum(len(proof.sums) for proof in found)} sums of {len(found)} files agree."
            ),
            metadata={
                "files": dg.MetadataValue.json([proof.told() for proof in found[:SHOWN]]),
                "files_proved": len(found),
                "mismatches": dg.MetadataValue.json(wrong[:SHOWN]),
            },
        )

    return check
