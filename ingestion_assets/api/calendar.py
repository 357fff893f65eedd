"""How much of each day is covered, for the calendar of the status page. Pure: a snapshot.

A day of a chain is a range of blocks, known once the first blocks of the day and of the next one were looked up. A run over many days looks
up its first and its last one alone: where all of the blocks between two days that are known are covered, or none of them, so are
those of each day between. What is not known was never asked for.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from itertools import accumulate, pairwise

from ingestion_assets.api.config import ServedChain
from ingestion_assets.api.coverage import covered
from ingestion_assets.api.lists import streams
from ingestion_assets.api.snapshot import Snapshot
from ingestion_assets.engine.coverage import Range

WEEKS = 53
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Day:
    """One square: `share` of the day's blocks, over all streams, that is covered; None: the day's blocks are not known."""

    day: date
    week: int  # column
    weekday: int  # row, Monday first
    share: float | None

    @property
    def level(self) -> str:
        """How it is painted."""
        if self.share is None:
            return "unknown"
        if self.share <= 0:
            return "none"
        return "all" if self.share >= 1 else f"some{min(3, 1 + int(self.share * 3))}"

    @property
    def said(self) -> str:
        """What it says when it is pointed at."""
        if self.share is None:
            return f"{self.day}: not looked up yet"
        # nothing short of all is rounded to it
        percent = "100" if self.share >= 1 else f"{min(99.9, self.share * 100):.1f}"
        return f"{self.day}: {percent} % covered"


@lru_cache(maxsize=32)
def year(snapshot: Snapshot, chain: ServedChain, today: date) -> Sequence[Day]:
    """The last 53 weeks of a chain, its oldest day first."""
    first = max(chain.start, today - timedelta(weeks=WEEKS - 1, days=today.weekday()))
    days = [first + n * DAY for n in range((today - first).days + 1)]
    shares = _shares(snapshot, chain, days)
    monday = first - timedelta(days=first.weekday())
    return [Day(day, (day - monday).days // 7, day.weekday(), shares.get(day)) for day in days]


def _shares(snapshot: Snapshot, chain: ServedChain, days: Sequence[date]) -> Mapping[date, float]:
    spans = _spans(snapshot, chain, days)
    keys = streams(chain)
    if not keys or not spans:
        return {}
    count = _Count([(lo, hi) for _, _, lo, hi in spans])
    for key in keys:
        for lo, hi in covered(snapshot, key):
            count.add(lo, hi)
    found: dict[date, float] = {}
    for (first, after, _, _), counted in zip(spans, count.shares(), strict=True):
        share = min(1.0, counted / len(keys))
        if share in (0.0, 1.0) or after - first == DAY:
            found |= {first + n * DAY: share for n in range((after - first).days)}
    return found


def _spans(
    snapshot: Snapshot, chain: ServedChain, days: Sequence[date]
) -> Sequence[tuple[date, date, int, int]]:
    """From one day whose first block is known to the next: the first day, the one after the last, and their first and last block."""
    starts, last = snapshot.days.get(chain.name, {}), snapshot.of(chain).final
    known = sorted((day, block) for day, block in starts.items() if day <= days[-1])
    if last is not None and days[-1] in starts:
        known.append((days[-1] + DAY, last + 1))  # as far as it is final
    return [(first, after, lo, end - 1) for (first, lo), (after, end) in pairwise(known) if end > lo]


class _Count:
    """How often each of some spans is covered. A range costs a few steps, however many spans it covers from end to end.

    Args:
        spans: in order, without overlaps.
    """

    def __init__(self, spans: Sequence[Range]) -> None:
        self._spans = spans
        self._ends = [hi for _, hi in spans]
        self._parts = [0] * len(spans)  # positions of spans that are covered in part
        self._steps = [0] * (
            len(spans) + 1
        )  # how many ranges more cover all of a span than of the one before it

    def add(self, lo: int, hi: int) -> None:
        """Count a range."""
        first = bisect_left(self._ends, lo)
        if first < len(self._spans) and self._spans[first][0] < lo:
            self._parts[first] += max(0, min(hi, self._spans[first][1]) - lo + 1)
            first += 1
        beyond = bisect_left(self._ends, hi + 1)  # the first span that ends beyond it
        if first > beyond:
            return
        self._steps[first] += 1
        self._steps[beyond] -= 1
        if beyond < len(self._spans):
            self._parts[beyond] += max(0, hi - self._spans[beyond][0] + 1)

    def shares(self) -> Sequence[float]:
        """Of each span how often it is covered, a part of it counting for that part."""
        return [
            whole + part / (hi - lo + 1)
            for (lo, hi), whole, part in zip(self._spans, accumulate(self._steps), self._parts, strict=False)
        ]
