"""Asset checks. Belongs here: statements about stored data that anybody may ask for again at any time.

https://docs.dagster.io/guides/test/asset-checks
"""

from collections.abc import Callable, Sequence

import dagster as dg

from ingestion_assets.engine.coverage import Range, Ranges, difference
from ingestion_assets.engine.store import Store
from ingestion_assets.engine.stream import Stream
from ingestion_assets.orchestration.resources import DATABASE, Database

Streams = Callable[[dg.OpExecutionContext], Sequence[Stream]]

SHOWN = 20  # gaps and dead letters listed in a check's metadata


def clean(
    asset_key: dg.AssetKey, streams: Streams, *, required_resource_keys: set[str]
) -> dg.AssetChecksDefinition:
    """The check `clean`: what was asked for is whole, and every record of it is stored.

    In a run with partitions it looks at these; asked for by itself it looks for holes in all that is covered.

    Args:
        asset_key: of the asset whose streams they are.
        streams: the streams of the run's partitions.
        required_resource_keys: what `streams` reads from `context.resources`.
    """

    @dg.asset_check(
        asset=asset_key,
        name="clean",
        description="Every wanted position is covered with evidence, and no dead letter waits for a replay.",
        required_resource_keys={DATABASE, *required_resource_keys},
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        operation = context.op_execution_context
        database: Database = getattr(operation.resources, DATABASE)
        if operation.has_partition_key or operation.has_partition_key_range:
            wanted = {stream.key: stream.wanted() for stream in streams(operation)}
            gaps = missing(database.store, wanted)
            letters = open_letters(database.store, wanted)
        else:
            prefix = "/".join(asset_key.path) + "/"
            gaps = database.store.holes(prefix)
            letters = database.store.count_open_letters(prefix)
        return _result(gaps, letters)

    return check


def missing(store: Store, wanted: dict[str, Ranges]) -> dict[str, Ranges]:
    """What is wanted and not covered, by stream; streams that are whole are left out."""
    covered = store.covered(wanted)
    gaps = {stream: difference(ranges, covered.get(stream, ())) for stream, ranges in wanted.items()}
    return {stream: found for stream, found in gaps.items() if found}


def open_letters(store: Store, wanted: dict[str, Ranges]) -> dict[str, int]:
    """How many open dead letters lie in the wanted ranges, by stream."""
    found: dict[str, int] = {}
    for stream, lo, hi in store.open_letter_ranges(wanted):
        if any(_overlap((lo, hi), one) for one in wanted[stream]):
            found[stream] = found.get(stream, 0) + 1
    return found


def _overlap(one: Range, other: Range) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _result(gaps: dict[str, Ranges], letters: dict[str, int]) -> dg.AssetCheckResult:
    found = [f"{stream}: {lo}–{hi}" for stream, ranges in gaps.items() for lo, hi in ranges]
    count = sum(letters.values())
    if found:
        advice = "Materialise the partitions again; `ingestion gaps` names what the source could not prove."
    elif count:
        advice = "See ops.dead_letters; `ingestion replay` reads their ranges again."
    else:
        advice = "All of it is covered and stored."
    return dg.AssetCheckResult(
        passed=not found and not count,
        severity=dg.AssetCheckSeverity.ERROR if found else dg.AssetCheckSeverity.WARN,
        description=f"{len(found)} gaps, {count} open dead letters. {advice}",
        metadata={
            "gaps": len(found),
            "dead_letters": count,
            "first": dg.MetadataValue.json([*found, *letters][:SHOWN]),
        },
    )
