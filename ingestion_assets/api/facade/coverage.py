"""What headers tell of an answer's coverage: the envelope has no room for it."""

from collections.abc import Sequence

from ingestion_assets.api import coverage
from ingestion_assets.api.config import ServedChain
from ingestion_assets.api.pages import Wanted
from ingestion_assets.api.snapshot import Snapshot
from ingestion_assets.engine.coverage import Ranges, difference, intersection
from ingestion_assets.engine.stream import LEVELS

MOST_SHOWN = 20  # gaps

COMPLETE, EVIDENCE, GAPS = "X-Coverage-Complete", "X-Coverage-Evidence", "X-Coverage-Gaps"


def of_transfers(snapshot: Snapshot, chain: ServedChain, wanted: Wanted) -> dict[str, str]:
    """Of transfers."""
    ranges, streams = coverage.of_question(snapshot, chain, wanted)
    return _headers(snapshot, chain, wanted, ranges, streams)


def of_stream(
    snapshot: Snapshot, chain: ServedChain, stream: str, lo: int | None, hi: int | None
) -> dict[str, str]:
    """Of the records of one stream."""
    ranges = coverage.covered(snapshot, stream)
    return _headers(snapshot, chain, Wanted((chain.name,), lo=lo, hi=hi), ranges, [stream])


def _headers(
    snapshot: Snapshot, chain: ServedChain, wanted: Wanted, ranges: Ranges, streams: Sequence[str]
) -> dict[str, str]:
    reach = coverage.span(snapshot, chain, wanted, ranges)
    if reach is None:
        return {COMPLETE: "false"}
    inside = intersection(ranges, [reach])
    gaps = difference([reach], inside)
    found = {COMPLETE: "false" if gaps else "true"}
    if levels := [piece.evidence for piece in coverage.weakest(snapshot, streams, inside)]:
        found[EVIDENCE] = min(levels, key=LEVELS.index)
    if gaps:
        found[GAPS] = ",".join(f"{lo}-{hi}" for lo, hi in gaps[:MOST_SHOWN])
    return found
