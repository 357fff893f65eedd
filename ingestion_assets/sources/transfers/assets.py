"""The assets of this family, their checks, what keeps them fresh, and the job that prunes them. The only module here that knows Dagster's resources."""

from collections.abc import Mapping
from datetime import UTC, date, datetime

import dagster as dg

from ingestion_assets.orchestration import partitions
from ingestion_assets.orchestration.ingest import Ingestion, ingest, sorted_for_dagster
from ingestion_assets.orchestration.resources import DATABASE, Database
from ingestion_assets.orchestration.schedules import nightly
from ingestion_assets.orchestration.sensors import initial_status, sync
from ingestion_assets.sources.environment import Environment
from ingestion_assets.sources.transfers import looking, retention
from ingestion_assets.sources.transfers.merging import STORE
from ingestion_assets.sources.transfers.streams import TOTALS, Changes, OutdatedTotals
from ingestion_assets.sources.transfers.tables import daily_totals, transfers

TRANSFERS, DAILY_TOTALS = dg.AssetKey(STORE.split("/")), dg.AssetKey(TOTALS.split("/"))
RAW = (dg.AssetKey(["evm", "token_transfers"]), dg.AssetKey(["evm", "erc20_transfers"]))

SYNC_SECONDS = 30  # least time between two looks of the sensor
SHOWN = 20  # findings in a check's metadata

Kept = Mapping[str, int | None]  # by chain, how many days of transfers are kept; None: all
Spans = Mapping[str, tuple[partitions.Span, ...]]


def definitions(
    kept: Kept, environment: Environment, chain_days: dg.MultiPartitionsDefinition, start: date
) -> dg.Definitions:
    """The store and its totals, their checks, a sensor for each chain, and the job that drops old months.

    Args:
        kept: by chain, how many days of transfers are kept.
        environment: whether sensors and schedules begin switched on.
        chain_days: the partitions, those of the raw transfers.
        start: the first day of them.
    """
    job = _prune_job(kept)
    prunes = nightly(
        job,
        at="47 2",
        automate=environment.automate,
        description="Lets old months go on the day on which they are old enough.",
    )
    limited = [name for name, days in kept.items() if days is not None]
    status = initial_status(automate=environment.automate)
    return dg.Definitions(
        assets=[_transfers(kept, chain_days), _daily_totals(chain_days)],
        asset_checks=[_union(kept), _exact(kept)],
        jobs=[job],
        schedules=[prunes] if limited else [],
        sensors=[_sensor(name, start, status) for name in kept],
    )


def _transfers(kept: Kept, chain_days: dg.MultiPartitionsDefinition) -> dg.AssetsDefinition:
    @ingest(
        key=STORE,
        table=transfers,
        time_column="block_time",
        partitions_def=chain_days,
        group_name="transfers",
        required_resource_keys={DATABASE},
        description="Every ERC-20 transfer that is known, once: the transfers of watched tokens and those of watched accounts, merged.",
        after=RAW,
    )
    def store(context: dg.AssetExecutionContext) -> Ingestion:
        database: Database = getattr(context.resources, DATABASE)
        today = datetime.now(UTC).date()
        return Ingestion(
            [
                Changes(database.store, chain, days, retention.first_day(today, kept.get(chain)))
                for chain, days in partitions.spans(context.partition_keys).items()
            ]
        )

    return store


def _daily_totals(chain_days: dg.MultiPartitionsDefinition) -> dg.AssetsDefinition:
    @ingest(
        key=TOTALS,
        table=daily_totals,
        time_column="day",
        partitions_def=chain_days,
        group_name="transfers",
        required_resource_keys={DATABASE},
        description="How many transfers each token had on each day, how much they moved, and how many addresses took part.",
        after=[TRANSFERS],
    )
    def totals(context: dg.AssetExecutionContext) -> Ingestion:
        database: Database = getattr(context.resources, DATABASE)
        wanted = partitions.spans(context.partition_keys)
        return Ingestion([OutdatedTotals(database.store, chain, days) for chain, days in wanted.items()])

    return totals


def _spans(context: dg.AssetCheckExecutionContext, store: Database, kept: Kept) -> Spans:
    """The days that a check looks at: those of its run, or all that are kept."""
    operation = context.op_execution_context
    if operation.has_partition_key or operation.has_partition_key_range:
        days: Spans = partitions.spans(operation.partition_keys)
    else:
        days = dict.fromkeys(kept, ((date(2009, 1, 3), datetime.now(UTC).date()),))
    return looking.days_kept(store.store, days, kept)


def _union(kept: Kept) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=TRANSFERS,
        name="union",
        description="Each day has as many transfers as the raw tables together, each counted once, and no change of them is left to merge.",
        required_resource_keys={DATABASE},
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        database: Database = getattr(context.op_execution_context.resources, DATABASE)
        days = _spans(context, database, kept)
        with sorted_for_dagster():
            waiting = looking.left_to_do(database.store, days)
            differing = looking.differing_days(database.store, days)
        said = "; ".join([*differing[:1], *waiting[:1]])
        return dg.AssetCheckResult(
            passed=not (waiting or differing),
            severity=dg.AssetCheckSeverity.ERROR if differing else dg.AssetCheckSeverity.WARN,
            description=f"{len(differing)} days differ, {len(waiting)} wait to be merged: {said}"
            if said
            else "The store is the union of the raw tables.",
            metadata={
                "differing_days": len(differing),
                "days_to_merge": len(waiting),
                "first": dg.MetadataValue.json([*differing, *waiting][:SHOWN]),
            },
        )

    return check


def _exact(kept: Kept) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=DAILY_TOTALS,
        name="exact",
        description="A sample of the totals, added up again from the transfers, comes to the same; no total is out of date.",
        required_resource_keys={DATABASE},
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        database: Database = getattr(context.op_execution_context.resources, DATABASE)
        days = _spans(context, database, kept)
        with sorted_for_dagster():
            looked, bad = looking.wrong_totals(database.store, days)
            waiting = looking.outdated_cells(database.store, days)
        return dg.AssetCheckResult(
            passed=not (bad or waiting),
            severity=dg.AssetCheckSeverity.ERROR if bad else dg.AssetCheckSeverity.WARN,
            description=f"Of {looked} totals that were added up again {len(bad)} are wrong; {waiting} are out of date.",
            metadata={
                "added_up_again": looked,
                "wrong": len(bad),
                "out_of_date": waiting,
                "first": dg.MetadataValue.json(bad[:SHOWN]),
            },
        )

    return check


def _sensor(chain: str, start: date, status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    def pending(context: dg.SensorEvaluationContext) -> set[str]:
        database: Database = getattr(context.resources, DATABASE)
        return looking.pending(database.store, chain, start)

    return sync(
        name=f"transfers_sync_{chain.replace('-', '_')}",
        chain=chain,
        assets=[TRANSFERS, DAILY_TOTALS],
        pending=pending,
        required_resource_keys={DATABASE},
        interval=SYNC_SECONDS,
        status=status,
    )


def _prune_job(kept: Kept) -> dg.JobDefinition:
    @dg.op(required_resource_keys={DATABASE})
    def drop_old_months(context: dg.OpExecutionContext) -> None:
        """Drop the months of each chain that lie before what sources.yaml keeps."""
        database: Database = getattr(context.resources, DATABASE)
        today = datetime.now(UTC).date()
        dropped: dict[str, list[str]] = {}
        with sorted_for_dagster():
            for chain, days in kept.items():
                begin = retention.first_day(today, days)
                gone = database.store.transaction(
                    lambda c, chain=chain, begin=begin: retention.prune(c, chain, begin)  # type: ignore[misc]
                )
                dropped[chain] = [f"{month:%Y-%m}" for month in gone]
        context.add_output_metadata({"dropped": dg.MetadataValue.json(dropped)})

    @dg.job(
        name="prune_transfers",
        description="Drops the months of the transfer store that lie before the retention_days of their chain.",
    )
    def job() -> None:
        drop_old_months()

    return job
