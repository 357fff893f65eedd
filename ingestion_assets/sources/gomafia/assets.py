"""The assets of this family, one for each phase; their checks; the sensor. The only module here that knows Dagster's resources."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from datetime import date
from typing import Any

import dagster as dg

from ingestion_assets.engine.coverage import size
from ingestion_assets.engine.stream import Stream
from ingestion_assets.orchestration import metadata, partitions, resources
from ingestion_assets.orchestration.checks import clean
from ingestion_assets.orchestration.ingest import Ingestion, Unprovable, ingest
from ingestion_assets.orchestration.resources import DATABASE, Database
from ingestion_assets.orchestration.sensors import in_order, initial_status
from ingestion_assets.sources.environment import Environment
from ingestion_assets.sources.gomafia import integrity
from ingestion_assets.sources.gomafia.config import GomafiaConfig
from ingestion_assets.sources.gomafia.phases import NAMED, PHASES, STATISTICS, Phase
from ingestion_assets.sources.gomafia.site import Site
from ingestion_assets.sources.gomafia.streams import Validation
from ingestion_assets.sources.gomafia.work import pending, streams_of

RESOURCE, LOOKING = "gomafia", "gomafia_looking"  # resource keys


def definitions(config: GomafiaConfig, environment: Environment) -> dg.Definitions:
    """The assets, their checks, the sensor, and the resource that they share."""
    by = {"year": partitions.years(config.start_year), "ids": partitions.id_ranges()}
    status = initial_status(automate=environment.automate)
    return dg.Definitions(
        assets=[_asset(phase, by[phase.by]) for phase in PHASES],
        asset_checks=[
            *(_clean(phase, config) for phase in PHASES),
            *(_valid(phase) for phase in PHASES if phase is not STATISTICS),
            *(_integrity(phase) for phase in integrity.CHECKED),
        ],
        sensors=[_sensor(config, status)],
        resources={
            RESOURCE: _resource(config, attempts=None),
            LOOKING: _resource(config, attempts=1),
        },
    )


def _resource(config: GomafiaConfig, *, attempts: int | None) -> dg.ResourceDefinition:
    def opened(database: Database) -> AbstractContextManager[Site]:
        return closing(Site(config, database.store, attempts=attempts))

    return resources.sources(opened, "gomafia.pro, as sources.yaml says it is asked.")


def _asset(phase: Phase, partitions_def: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    @ingest(
        key=phase.asset,
        table=phase.table,
        time_column=phase.column,
        partitions_def=partitions_def,
        group_name="gomafia",
        required_resource_keys={RESOURCE},
        description=phase.what,
        after=[
            dg.AssetDep(NAMED[name].asset.split("/"), partition_mapping=dg.AllPartitionMapping())
            for name in phase.needs
        ],
    )
    def asset(context: dg.AssetExecutionContext) -> Ingestion:
        site: Site = getattr(context.resources, RESOURCE)
        site.owner = f"run {context.run.run_id[:8]}"  # for whoever wants to import the same meanwhile
        validation = Validation()
        keys = list(context.partition_keys)
        streams = streams_of(phase, site, keys, validation)

        def said() -> dict[str, Any]:
            if phase is STATISTICS:
                return {}
            told = {"checked": validation.checked, "refused": validation.refused, "rate": validation.rate}
            return {"validation": dg.MetadataValue.json(told)}

        return Ingestion(
            streams,
            read_ahead=0,  # nothing is asked for twice after a crash but what was on its way
            partitions_of=_partitions_of(phase, site, keys),
            metadata=said,
            progress=Progress(site, streams, said),
        )

    return asset


def _partitions_of(phase: Phase, site: Site, keys: Sequence[str]) -> Callable[[Unprovable], Iterable[str]]:
    """The partitions of a run that something is missing of. A listing that is not whole may lack anything."""

    def found(unproved: Unprovable) -> Iterator[str]:
        if phase.keyed_by_year:
            yield from (key.rpartition("/")[2] for key in unproved)
        elif phase.listing is not None:
            yield from keys
        elif phase.by == "ids":
            yield from (partitions.id_key(gap.lo) for gaps in unproved.values() for gap in gaps)
        else:
            years = {one.id: one.played_on for one in site.knowledge.tournaments([int(key) for key in keys])}
            for gaps in unproved.values():
                yield from (str(day.year) for gap in gaps if isinstance(day := years.get(gap.lo), date))

    return found


class Progress:
    """How far a run is: done, total, rate and time left. Shown as an observation while it runs.

    Args:
        site: whose marks are looked at.
        streams: what is read.
        more: what else there is to say.
        clock: seconds.
    """

    def __init__(
        self,
        site: Site,
        streams: Sequence[Stream],
        more: Callable[[], Mapping[str, Any]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._site = site
        self._streams = streams
        self._more = more
        self._clock = clock
        self._began = clock()
        self._first: int | None = None

    def __call__(self) -> dict[str, Any]:
        """Now."""
        total = sum(size(ranges) for ranges in metadata.wanted_by_key(self._streams).values())
        missing = metadata.missing(self._site.store, self._streams)
        seconds = self._clock() - self._began
        if self._first is None:
            self._first, self._began = missing, self._clock()
            read, seconds = 0, 0.0
        else:
            read = max(0, self._first - missing)
        rate = read / seconds if read and seconds else None
        return {
            "done": total - missing,
            "total": total,
            **({} if rate is None else {"per_second": rate, "seconds_left": missing / rate}),
            **self._more(),
        }


def _clean(phase: Phase, config: GomafiaConfig) -> dg.AssetChecksDefinition:
    def streams(context: dg.OpExecutionContext) -> list[Stream]:
        site: Site = getattr(context.resources, RESOURCE)
        if context.has_partition_key or context.has_partition_key_range:
            return streams_of(phase, site, context.partition_keys)
        every = partitions.years(config.start_year) if phase.by == "year" else partitions.id_ranges()
        return streams_of(phase, site, every.get_partition_keys())

    return clean(
        dg.AssetKey(phase.asset.split("/")), streams, required_resource_keys={RESOURCE}, has_holes=False
    )


def _valid(phase: Phase) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=dg.AssetKey(phase.asset.split("/")),
        name="valid",
        description=f"At least {integrity.WANTED_PERCENT} % of the records are within the limits; the others are dead letters.",
        required_resource_keys={DATABASE},
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        database: Database = getattr(context.op_execution_context.resources, DATABASE)
        found = integrity.validity(database.store, phase)
        share = "nothing is stored yet" if found.rate is None else f"{found.rate:%} of the records are valid"
        return dg.AssetCheckResult(
            passed=found.is_enough,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{share}: {found.stored} rows, {found.refused} dead letters.",
            metadata={
                "stored": found.stored,
                "refused": found.refused,
                **({} if found.rate is None else {"rate": found.rate}),
            },
        )

    return check


def _integrity(phase: Phase) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=dg.AssetKey(phase.asset.split("/")),
        name="integrity",
        description="Rows that belong together do: links, sums, orphans. An error where the site cannot be the cause.",
        required_resource_keys={DATABASE},
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        database: Database = getattr(context.op_execution_context.resources, DATABASE)
        found = integrity.findings(database.store, phase)
        broken = [one for one in found if one.count]
        return dg.AssetCheckResult(
            passed=not broken,
            severity=dg.AssetCheckSeverity.ERROR
            if any(one.rule.severe for one in broken)
            else dg.AssetCheckSeverity.WARN,
            description="; ".join(f"{one.count} {one.rule.what}" for one in broken)
            or "All of it fits together.",
            metadata={"findings": dg.MetadataValue.json({one.rule.what: one.count for one in found})},
        )

    return check


def _sensor(config: GomafiaConfig, status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    def look(context: dg.SensorEvaluationContext) -> Iterator[tuple[dg.AssetKey, list[str]]]:
        site: Site = getattr(context.resources, LOOKING)
        for phase, keys in pending(site):
            yield dg.AssetKey(phase.asset.split("/")), keys

    return in_order(
        name="gomafia_sync",
        subject="gomafia",
        assets=[dg.AssetKey(phase.asset.split("/")) for phase in PHASES],
        pending=look,
        required_resource_keys={LOOKING},
        interval=config.sync_seconds,
        status=status,
    )
