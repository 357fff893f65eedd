"""Asset checks. Belongs here: statements about stored data that anybody may ask for again at any time.

https://docs.dagster.io/guides/test/asset-checks
"""

from collections.abc import Callable, Iterable, Sequence

import dagster as dg

from ingestion_assets.engine.coverage import Range, Ranges, difference, intersection, size
from ingestion_assets.engine.store import Store
from ingestion_assets.engine.stream import LEVELS, Stream
from ingestion_assets.orchestration.ingest import sorted_for_dagster
from ingestion_assets.orchestration.io_manager import Stopped, stop_requests
from ingestion_assets.orchestration.metadata import wanted_by_key
from ingestion_assets.orchestration.proving import Proof, Proved, prove
from ingestion_assets.orchestration.resources import DATABASE, Database

Streams = Callable[[dg.OpExecutionContext], Sequence[Stream]]
Lacking = Callable[[dg.OpExecutionContext], Iterable[str]]


def _nothing(_context: dg.OpExecutionContext) -> Iterable[str]:
    return ()


MOST_STREAMS = 100  # listed with their evidence
SHOWN = 20  # gaps and dead letters listed in a check's metadata


def clean(
    asset_key: dg.AssetKey,
    streams: Streams,
    *,
    required_resource_keys: set[str],
    lacking: Lacking = _nothing,
    has_holes: bool = True,
) -> dg.AssetChecksDefinition:
    """The check `clean`: what was asked for is whole, and every record of it is stored.

    In a run with partitions it looks at these; asked for by itself it looks for holes in all that is covered.

    Args:
        asset_key: of the asset whose streams they are.
        streams: the streams of the run's partitions.
        required_resource_keys: what `streams` and `lacking` read from `context.resources`.
        lacking: what is missing of streams that have no positions, a sentence each.
        has_holes: whether what lies between two covered ranges is missing. Where positions are ids, there may be none; `streams` then
            knows all that is wanted, also without partitions.
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
        if operation.has_partition_key or operation.has_partition_key_range or not has_holes:
            wanted = wanted_by_key(streams(operation))
            gaps = missing(database.store, wanted)
            letters = open_letters(database.store, wanted) | letters_of_feeds(database.store, wanted)
        else:
            prefix = "/".join(asset_key.path) + "/"
            gaps = database.store.holes(prefix)
            letters = database.store.count_open_letters(prefix)
        return _result(gaps, letters, list(lacking(operation)))

    return check


def proved(
    asset_key: dg.AssetKey,
    streams: Streams,
    proofs: Callable[[dg.OpExecutionContext], Sequence[Proof]],
    *,
    required_resource_keys: set[str],
    after: Sequence[dg.AssetKey] = (),
) -> dg.AssetChecksDefinition:
    """The check `proved`: what is stored stands up to the proofs that are wanted; what does not is mended or taken back.

    Args:
        asset_key: of the asset whose streams they are.
        streams: the streams of the run's partitions, or of all that was ever asked for.
        proofs: streams that compare what is committed with something else, and raise the evidence.
        required_resource_keys: what both read from `context.resources`.
        after: other assets that the proofs compare with.
    """

    @dg.asset_check(
        asset=asset_key,
        name="proved",
        description="The evidence of each stream, raised by the proofs that sources.yaml wants; fails where they contradict.",
        required_resource_keys={DATABASE, *required_resource_keys},
        additional_deps=list(after),
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        operation = context.op_execution_context
        database: Database = getattr(operation.resources, DATABASE)
        with stop_requests() as stop, sorted_for_dagster():
            found = prove(proofs(operation), database.store, should_stop=stop.is_set)
        if found.stopped:
            raise Stopped("stopped between two proofs: what they have shown so far stays")
        wanted = wanted_by_key(streams(operation))
        doubts = in_doubt(database.store, wanted)
        return dg.AssetCheckResult(
            passed=not (doubts or found.failed),
            severity=dg.AssetCheckSeverity.ERROR if doubts else dg.AssetCheckSeverity.WARN,
            description=_proved(found, doubts),
            metadata={
                "evidence": dg.MetadataValue.json(levels(database.store, wanted)),
                "contradictions": len(found.contradictions),
                "mended_rows": found.mended_rows,
                "first": dg.MetadataValue.json([*doubts, *found.failed, *found.findings][:SHOWN]),
            },
        )

    return check


def _proved(found: Proved, doubts: Sequence[str]) -> str:
    said = [f"{found.mended_rows} rows were mended."] if found.mended_rows else []
    if doubts:
        said.append(
            f"{len(found.contradictions)} contradictions now, {len(doubts)} ranges that nobody could settle, out of the "
            f"coverage; the first: {doubts[0]}."
        )
    if found.failed:
        said.append(f"{len(found.failed)} proofs could not be made; the first: {found.failed[0]}.")
    if found.findings:
        said.append(f"{len(found.findings)} findings; the first: {found.findings[0]}.")
    return " ".join(said) or "Nothing contradicts what is stored."


def in_doubt(store: Store, wanted: dict[str, Ranges]) -> list[str]:
    """What of the wanted ranges was read, or contradicted, and could not be proved: a sentence each."""
    return [
        f"{stream}: {lo}–{hi}: {reason}"
        for stream, doubts in store.unproved_reasons(wanted).items()
        for lo, hi, reason in doubts
        if any(_overlap((lo, hi), one) for one in wanted[stream])
    ]


def levels(store: Store, wanted: dict[str, Ranges]) -> dict[str, dict[str, int]]:
    """How many wanted positions of each stream have which evidence; `missing` are those that have none.

    Of many streams those with the most missing or weakest come first, and the rest is left out.
    """
    found = {key: {"missing": size(ranges)} for key, ranges in wanted.items()}
    weakest = dict.fromkeys(wanted, len(LEVELS))
    for key, lo, hi, level, by in store.covered_by(wanted):
        here = size(intersection(wanted[key], [(lo, hi)]))
        if here:
            name = f"{level} by {by}"
            found[key][name] = found[key].get(name, 0) + here
            found[key]["missing"] -= here
            weakest[key] = min(weakest[key], LEVELS.index(level))
    shown = sorted(found, key=lambda key: (not found[key]["missing"], weakest[key]))[:MOST_STREAMS]
    if len(shown) < len(found):
        return {key: found[key] for key in shown} | {"streams left out": {"": len(found) - len(shown)}}
    return found


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


def letters_of_feeds(store: Store, wanted: dict[str, Ranges]) -> dict[str, int]:
    """How many dead letters are open of the streams that have no positions."""
    feeds = [stream for stream, ranges in wanted.items() if not ranges]
    return {stream: n for stream in feeds if (n := store.count_open_letters(stream).get(stream, 0))}


def _overlap(one: Range, other: Range) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _result(gaps: dict[str, Ranges], letters: dict[str, int], lacking: list[str]) -> dg.AssetCheckResult:
    found = [f"{stream}: {lo}–{hi}" for stream, ranges in gaps.items() for lo, hi in ranges] + lacking
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
