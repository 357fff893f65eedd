"""Sensors. Belongs here: noticing that there is something to do, cheaply, and asking for one run that does it.

https://docs.dagster.io/guides/automate/sensors
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date

import dagster as dg

from ingestion_assets.orchestration import partitions

SYNC = "ingestion/sync"  # tag of the runs that sensors ask for; its value is the sensor's subject

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
PARTITION = "dagster/partition"

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

Pending = Callable[[dg.SensorEvaluationContext], Iterable[str]]


def sync(
    *,
    name: str,
    chain: str,
    assets: Sequence[dg.AssetKey],
    pending: Pending,
    required_resource_keys: set[str],
    interval: int,
    status: dg.DefaultSensorStatus,
) -> dg.SensorDefinition:
    """A sensor that keeps one chain fresh: one run at a time, never two for the same days.

    Args:
        name: of the sensor.
        chain: whose partitions it asks for.
        assets: what a run materialises.
        pending: the partitions that have something to read, from the source and the marks.
        required_resource_keys: what `pending` reads from `context.resources`.
        interval: least seconds between two looks.
        status: whether it is switched on when first seen.
    """

    @dg.sensor(
        name=name,
        asset_selection=dg.AssetSelection.assets(*assets),
        minimum_interval_seconds=interval,
        default_status=status,
        required_resource_keys=required_resource_keys,
        description=f"Reads what is new on {chain}, and fills holes in what was read before.",
    )
    def look(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        days = partitions.spans(pending(context)).get(chain, ())
        if not days:
            return dg.SkipReason(f"{chain} is covered up to its last final block")
        first, last = days[-1]  # the newest; older holes have their turn when this one is read
        for run in context.instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):
            if overlaps(run.tags, chain, (first, last)):
                return dg.SkipReason(f"run {run.run_id[:8]} already works on these days of {chain}")
        return dg.SensorResult(run_requests=[request(chain, (first, last))])

    return look


def request(chain: str, span: partitions.Span) -> dg.RunRequest:
    """One run over a span of a chain's days. It has no run key: Dagster remembers those for ever."""
    first, last = partitions.key(chain, span[0]), partitions.key(chain, span[1])
    tags = {SYNC: chain}
    if first == last:
        return dg.RunRequest(partition_key=first, tags=tags)
    return dg.RunRequest(tags={**tags, RANGE_START: first, RANGE_END: last})


def overlaps(tags: Mapping[str, str], chain: str, span: tuple[date, date]) -> bool:
    """Whether a run with these tags reads any of a chain's days."""
    first, last = tags.get(RANGE_START) or tags.get(PARTITION), tags.get(RANGE_END) or tags.get(PARTITION)
    if first is None or last is None or "|" not in first:
        return False
    (run_chain, run_first), (_, run_last) = partitions.parse(first), partitions.parse(last)
    return run_chain == chain and run_first <= span[1] and span[0] <= run_last
