"""A range in windows: several are read at the same time, and their readings are given in the order of the blocks.

Belongs here: what all kinds of record share when blocks are read side by side and judged one by one. What a block must
look like to be believed is said where it is read.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from ingestion_assets.engine.errors import SchemaDrift
from ingestion_assets.engine.stream import Rejected
from ingestion_assets.sources.evm.provider import Reading
from ingestion_assets.sources.evm.records import Page, Row

T = TypeVar("T")

DRIFT = 3  # blocks one after another that cannot be read are no longer a run of bad blocks


@dataclass(slots=True)
class Found:
    """The records of one block that are asked for, in its order."""

    rows: list[Row] = field(default_factory=list)
    bad: list[Rejected] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a block is not believed. `unreadable`: it has another shape than we know."""

    reason: str
    unreadable: bool = False


Verdict = Found | Doubt


def side_by_side(
    pool: ThreadPoolExecutor,
    width: int,
    blocks: tuple[int, int],
    cut: Callable[[int, int], int],
    read: Callable[[int, int], Sequence[Reading]],
) -> Iterator[Reading]:
    """The readings of a range, oldest first.

    Memory holds `width` windows, and the one that the consumer works on.

    Args:
        pool: whose threads read.
        width: windows that may be under way, or lie ready.
        blocks: first and last.
        cut: the last block of the window that begins at `lo` and may reach `hi`.
        read: reads a window, as far as one answer reaches: what is left of it is read next.
    """
    lo, last = blocks
    under_way: deque[tuple[int, Future[Sequence[Reading]]]] = deque()
    try:
        while under_way or lo <= last:
            while len(under_way) < width and lo <= last:
                end = cut(lo, last)
                under_way.append((end, pool.submit(read, lo, end)))
                lo = end + 1
            end, window = under_way.popleft()
            readings = window.result()
            reached = readings[-1].hi
            if reached < end:
                under_way.appendleft((end, pool.submit(read, reached + 1, end)))
            elif lo <= last:
                following = cut(lo, last)
                under_way.append((following, pool.submit(read, lo, following)))
                lo = following + 1
            del window
            yield from readings
    finally:
        for _, window in under_way:
            window.cancel()


def twice(
    blocks: Sequence[int], read: Callable[[Sequence[int]], Mapping[int, T | Doubt]]
) -> dict[int, T | Doubt]:
    """What is read of some blocks; those that are in doubt are read once more.

    Backends that lag, and a reorganisation between two questions, make true blocks contradict themselves for a moment.
    """
    found = dict(read(blocks))
    again = [block for block in blocks if isinstance(found[block], Doubt)]
    if again:
        found.update(read(again))
    return found


def readings(host: str, lo: int, hi: int, verdicts: Mapping[int, Verdict], level: str) -> list[Reading]:
    """Readings of `lo`..`hi`: one for each run of blocks that are believed, and one for each block in doubt.

    Nothing of a block in doubt is given: what a node invents must not reach a table.

    Args:
        host: whose blocks these are.
        lo: first block.
        hi: last block.
        verdicts: of each block; blocks without one hold nothing that is asked for, and are believed.
        level: evidence of what is believed.

    Raises:
        SchemaDrift: one block after another has a shape that we do not know.
    """
    given: list[Reading] = []
    start = lo
    doubts = [block for block in sorted(verdicts) if isinstance(verdicts[block], Doubt)]
    _check_drift(host, doubts, verdicts)
    for block in [*doubts, hi + 1]:
        if start < block:
            given.append(Reading(start, block - 1, _page(start, block - 1, verdicts), level))
        doubt = verdicts.get(block)
        if isinstance(doubt, Doubt):
            given.append(Reading(block, block, Page.empty(), level, doubt.reason))
        start = block + 1
    return given


def _page(lo: int, hi: int, verdicts: Mapping[int, Verdict]) -> Page:
    rows: list[Row] = []
    bad: list[tuple[int, Rejected]] = []
    for block in sorted(block for block in verdicts if lo <= block <= hi):
        found = verdicts[block]
        assert isinstance(found, Found)  # noqa: S101 - for the type checker: doubts are cut out
        bad += [(len(rows), letter) for letter in found.bad]
        rows += found.rows
    return Page(rows, bad, is_last=True)


def _check_drift(host: str, doubts: Sequence[int], verdicts: Mapping[int, Verdict]) -> None:
    unreadable = [block for block in doubts if getattr(verdicts[block], "unreadable", False)]
    if (
        len(unreadable) >= DRIFT
        and unreadable[-1] - unreadable[0] == len(unreadable) - 1 == len(verdicts) - 1
    ):
        reason = getattr(verdicts[unreadable[0]], "reason", "")
        raise SchemaDrift(f"{host}: none of {len(unreadable)} blocks can be read; the first: {reason}")
