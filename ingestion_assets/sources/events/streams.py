"""What is drained: a feed as a whole, a feed day by day, and the dead letters of a feed."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import msgspec

from ingestion_assets.engine.coverage import Range, Ranges, difference, intersection, union
from ingestion_assets.engine.dead_letters import DeadLetter
from ingestion_assets.engine.errors import Misconfigured, ProtocolError
from ingestion_assets.engine.prefetch import gathered
from ingestion_assets.engine.stream import Batch, Covered, Done, Evidence, Rows, Settled
from ingestion_assets.sources.events.feed import Answer, Feed, Question, together
from ingestion_assets.sources.events.paging import CursorExpired
from ingestion_assets.sources.events.position import ROUNDING
from ingestion_assets.sources.events.records import Found, Unreadable
from ingestion_assets.sources.events.sweeps import MOST_LOST, Step, Sweeps
from ingestion_assets.sources.events.tables import events

WHOLE, BY_DAY = "events/events", "events/events_by_day"  # asset keys, and what stream keys begin with

# One commit holds what has arrived, up to these bounds: many small pages share a transaction, and none waits for the next one.
MOST_ROWS = 4_000
MOST_SECONDS = 1.0

# Commits side by side: two fill the cores of a small Postgres, while the third waits for its turn.
WRITERS = 3

Span = tuple[date, date]


def depth(feed: Feed) -> int:
    """Pages that may lie ready: enough for the next commit."""
    return max(1, 2 * MOST_ROWS // feed.config.page_size)


class Bounds:
    """When a group of pages is as large as one commit may be.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = 0.0

    def __call__(self, group: "Sequence[Step | Piece]") -> bool:
        """Whether nothing more may be added."""
        if len(group) == 1:
            self._began = self._clock()
        rows = sum(len(one.answer.records) for one in group)
        return rows >= MOST_ROWS or self._clock() - self._began >= MOST_SECONDS


@dataclass(frozen=True)
class History:
    """All of a feed, from its beginning or from where the last drain has left it, until it is caught up.

    Args:
        feed: what is read.
        most: pages; the next drain goes on behind them.
    """

    feed: Feed
    most: int | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """`events/events/<feed>`."""
        return (f"{WHOLE}/{self.feed.name}",)

    def wanted(self) -> Ranges:
        """A feed has no positions."""
        return ()

    def read(self, done: Mapping[str, Done]) -> Iterator[Batch]:
        """Groups of pages. While one is made into rows, the next is on the wire."""
        mine = done[self.keys[0]]
        sweeps = Sweeps(self.feed, self.most)
        groups = gathered(lambda: sweeps.steps(mine), depth=depth(self.feed), is_full=Bounds())
        with closing(groups):
            for group in groups:
                found = together(self.feed.rows(step.answer) for step in group)
                yield Batch(group[-1].position, (found.rows,), found.rejected)


@dataclass(frozen=True, slots=True)
class Piece:
    """A page of some days, and the seconds that are whole once it is stored; None: not a whole one yet."""

    answer: Answer
    covered: Range | None


@dataclass(frozen=True)
class Days:
    """Days of a feed that can filter by time. The positions are seconds since 1970, so no cursor is ever stored.

    Any worker may read any days, in any order; what is covered is not asked for again.

    Args:
        feed: what is read.
        days: first and last day (UTC), inclusive.
    """

    feed: Feed
    days: tuple[Span, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """`events/events_by_day/<feed>`."""
        return (f"{BY_DAY}/{self.feed.name}",)

    def wanted(self) -> Ranges:
        """The seconds of these days, as far as all their events should have appeared by now."""
        last = int(self.feed.clock().timestamp()) - self.feed.config.settle_seconds - 1
        days = [(_midnight(lo), _midnight(hi + timedelta(days=1)) - 1) for lo, hi in self.days]
        return intersection(union(days), [(0, last)])

    def read(self, done: Mapping[str, Done]) -> Iterator[Batch]:
        """What is missing, gap by gap."""
        for gap in difference(self.wanted(), done[self.keys[0]].covered):
            yield from self._batches(gap)

    def _batches(self, gap: Range) -> Iterator[Batch]:
        evidence = Evidence("stated", self.feed.name)
        groups = gathered(lambda: self._pieces(*gap), depth=depth(self.feed), is_full=Bounds())
        kept: list[Found] = []  # pages that do not hold a whole second yet
        with closing(groups):
            for group in groups:
                kept += [self.feed.rows(piece.answer) for piece in group]
                covered = union(piece.covered for piece in group if piece.covered is not None)
                if covered:
                    found, kept = together(kept), []
                    mark = Covered(covered[0][0], covered[-1][1], evidence)
                    yield Batch(mark, (found.rows,), found.rejected)

    def _pieces(self, lo: int, hi: int) -> Iterator[Piece]:
        """The pages between two seconds. Where a token expires, the rest is simply asked for anew."""
        token: str | None = None
        votes = lost = 0
        while lo <= hi:
            question = Question(token, since=lo * 1_000, until=(hi + 1) * 1_000)
            try:
                answer = self.feed.ask(question)
            except CursorExpired as error:
                self.feed.notes.expired += 1
                lost += 1
                if token is None or lost > MOST_LOST:
                    raise ProtocolError(f"{self.feed.name}: {error}, again and again") from error
                token = None
                continue
            if token is None:
                self._see_that_it_filters(answer, lo, hi)
            lost = 0
            votes += answer.direction
            before = (lo, hi)
            lo, hi = self._left(answer, votes, lo, hi)
            yield Piece(answer, _taken(before, (lo, hi)))
            token = answer.page.token

    def _left(self, answer: Answer, votes: int, lo: int, hi: int) -> Range:
        """What is left once this page is stored: the second of its last event may go on, on the next page."""
        if not answer.page.more:
            return hi + 1, hi
        order = self.feed.config.order
        back = votes < 0 if order is None else order == "newest first"
        if answer.last is None or (votes == 0 and order is None):
            return lo, hi
        second, near = answer.last.time // 1_000, 2 * ROUNDING // 1_000
        if second < lo - near if back else second > hi + near:
            return hi + 1, hi  # the token leads on, beyond what was asked for
        second = max(lo, min(hi, second))
        return (lo, second) if back else (second, hi)

    def _see_that_it_filters(self, answer: Answer, lo: int, hi: int) -> None:
        if answer.first is None or answer.last is None:
            return
        around = (lo * 1_000 - 2 * ROUNDING, (hi + 1) * 1_000 + 2 * ROUNDING)
        if not any(around[0] <= one.time <= around[1] for one in (answer.first, answer.last)):
            raise Misconfigured(
                f"{self.feed.name} gave events of another time than was asked for: it does not filter by "
                f"{self.feed.config.time_filter.since} and {self.feed.config.time_filter.until}; remove start from sources.yaml"
            )


def _midnight(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def _taken(before: Range, after: Range) -> Range | None:
    """What of one range is not in the other, which lies at one end of it."""
    taken = difference([before], [after])
    return taken[0] if taken else None


@dataclass(frozen=True)
class Letters:
    """The dead letters of a feed, tried again. What can be read now becomes a row; the others stay as they are.

    Args:
        feed: whose they are.
        letters: those that are open.
    """

    feed: Feed
    letters: Sequence[DeadLetter]

    @property
    def keys(self) -> tuple[str, ...]:
        """As the feed's own."""
        return (f"{WHOLE}/{self.feed.name}",)

    def wanted(self) -> Ranges:
        """They lie outside of all ranges."""
        return ()

    def read(self, done: Mapping[str, Done]) -> Iterator[Batch]:  # noqa: ARG002 - letters that are settled are not listed
        """One letter, one batch: each is settled by its own row."""
        for letter in self.letters:
            try:
                line = self.feed.records.line(letter.raw)
            except (msgspec.DecodeError, UnicodeError, Unreadable):
                continue
            yield Batch(Settled(letter.id), (Rows(events, line, 1),))
