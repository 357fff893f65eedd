"""How much of each day is covered, for the calendar of the status page. Pure: a snapshot.

A day of a chain is a range of blocks, known once the first blocks of the day and of the next one were looked up. What is not known was
never asked for.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

from ingestion_assets.api.config import ServedChain
from ingestion_assets.api.coverage import covered
from ingestion_assets.api.lists import streams
from ingestion_assets.api.snapshot import Snapshot

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
    return [
        Day(day, (day - monday).days // 7, day.weekday(), shares.get(day)) for day in days
    ]


def _shares(snapshot: Snapshot, chain: ServedChain, days: Sequence[date]) -> Mapping[date, float]:
    starts, last = snapshot.days.get(chain.name, {}), snapshot.of(chain).final
    spans: list[tuple[date, int, int]] = []
    for day in days:
        begin, end = starts.get(day), starts.get(day + DAY)
        if end is None and last is not None and day == days[-1]:
            end = last + 1  # as far as it is final
        if begin is not None and end is not None and end > begin:
            spans.append((day, begin, end - 1))
    keys = streams(chain)
    if not keys or not spans:
        return {}
    ends = [hi for _, _, hi in spans]
    blocks = [0.0] * len(spans)  # of days that are covered in part
    steps = [0] * (len(spans) + 1)  # of days that are covered from end to end: how many more streams do so from here on
    for key in keys:
        for lo, hi in covered(snapshot, key):
            index = bisect_left(ends, lo)
            whole_from = index
            if index < len(spans) and spans[index][1] < lo:
                blocks[index] += max(0, min(hi, spans[index][2]) - lo + 1)
                whole_from = index + 1
            whole_to = bisect_left(ends, hi + 1)  # the first one that ends beyond it
            if whole_from < whole_to:
                steps[whole_from] += 1
                steps[whole_to] -= 1
            if whole_from <= whole_to < len(spans) and hi >= spans[whole_to][1]:
                blocks[whole_to] += hi - spans[whole_to][1] + 1
    found: dict[date, float] = {}
    whole = 0
    for (day, lo, hi), step, part in zip(spans, steps, blocks, strict=False):
        whole += step
        found[day] = min(1.0, (whole + part / (hi - lo + 1)) / len(keys))
    return found
