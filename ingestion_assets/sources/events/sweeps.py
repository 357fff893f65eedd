"""Which page is asked for next. Belongs here: going on, finding the place again, starting over, and stopping."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from ingestion_assets.engine.errors import ProtocolError, Transient
from ingestion_assets.engine.stream import Done
from ingestion_assets.sources.events.feed import Answer, Feed, Question
from ingestion_assets.sources.events.paging import CursorExpired
from ingestion_assets.sources.events.position import SHORT, Position, found_again
from ingestion_assets.sources.events.records import Anchor

log = logging.getLogger(__name__)

MOST_LOST = 3  # places lost in a row without a page between, and sweeps that a run starts over


@dataclass(frozen=True, slots=True)
class Step:
    """A page, and what is known once it is stored."""

    answer: Answer
    position: Position


class Sweeps:
    """Reads a feed until it is caught up, or has read as many pages as it may.

    Args:
        feed: what is read.
        most: pages; None: until it is caught up.
    """

    def __init__(self, feed: Feed, most: int | None = None) -> None:
        self._feed = feed
        self._config = feed.config
        self._most = most
        self._lost = 0  # in a row
        self._can_filter = True
        self._again: set[str] = set()  # ids of events where reading again ends

    def steps(self, done: Done) -> Iterator[Step]:
        """The pages that are still missing after `done`, and after each the position."""
        begun = done.position(Position)
        stored = begun
        position = Position() if begun is None else self._resumed(begun, done)
        pages = in_sweep = 0
        while self._most is None or pages < self._most:
            answer, position = self._ask(position)
            pages, in_sweep = pages + 1, in_sweep + 1
            before, position = position, self._after(position, answer)
            if not _is_idle(stored, before, position, answer):
                stored = position
                yield Step(answer, position)
            if position.ended:
                # Newest first: what has appeared while a long sweep went on is still to come.
                if in_sweep == 1 or position.goes_back(self._config) is not True:
                    return
                position, in_sweep = position.next_sweep(self._config), 0

    def _resumed(self, position: Position, done: Done) -> Position:
        if not position.ended:
            return position
        if position.missing(done.records, done.letters):
            # Rows may have been there before this cursor was: only a count of all of them is sure.
            position = msgspec.structs.replace(position, others=max(0, self._feed.count() - done.records))
            missing = position.missing(done.records, done.letters)
            if missing and position.short < SHORT:
                log.warning(
                    "%s says that it has %d events, and %d of them are not stored: reading all of it again",
                    self._feed.name, position.total, missing,
                )  # fmt: skip
                return position.counted_anew()
        else:
            position = msgspec.structs.replace(position, short=0)
        return position.next_sweep(self._config)

    def _ask(self, position: Position) -> tuple[Answer, Position]:
        """The next page, from wherever the place is found again if its token is gone."""
        while True:
            try:
                if position.is_expired(self._feed.clock()):
                    raise CursorExpired("its time is over")
                answer = self._feed.ask(position.question)
            except CursorExpired as error:
                position = self._lose(position, error)
                continue
            except Transient as error:
                if not position.is_expired(self._feed.clock()):
                    raise
                position = self._lose(position, error)  # some say it with a 502
                continue
            place = found_again(position, answer, self._config, shows_it=self._shows(answer, position.seeks))
            if place is False:
                self._can_filter = False
                position = self._start_over(position)
                continue
            self._lost = 0
            return answer, msgspec.structs.replace(position, seeks=None) if place else position

    def _after(self, position: Position, answer: Answer) -> Position:
        shows_floor = self._shows(answer, position.floor)
        if self._again:
            self._count_again(answer)
        return position.after(answer, self._config, self._feed.clock(), shows_floor=shows_floor)

    def _shows(self, answer: Answer, anchor: Anchor | None) -> bool:
        return anchor is not None and self._feed.holds(answer, anchor)

    def _count_again(self, answer: Answer) -> None:
        ids = self._feed.records.ids(answer.records)
        ends = [number for number, one in enumerate(ids) if one in self._again]
        self._feed.notes.read_again += ends[0] + 1 if ends else len(ids)
        if ends:
            self._again = set()
            log.info("%s: %d events were read again so far", self._feed.name, self._feed.notes.read_again)

    def _lose(self, position: Position, why: Exception) -> Position:
        """The token is gone: find the place by time, or start over."""
        if position.token is None:
            raise ProtocolError(f"{self._feed.name}: {why}, and none was used") from why
        self._feed.notes.expired += 1
        self._lost += 1
        if self._lost > MOST_LOST:
            raise Transient(
                f"{self._feed.name}: its cursors expire before the next page can be asked for"
            ) from why
        last = position.last
        if last is None:
            return position.from_the_beginning()
        self._again = {last.id}
        if not self._can_filter or position.goes_back(self._config) is None:
            return self._start_over(position)
        log.info("%s: the cursor has expired; going on from the time of %s", self._feed.name, last.id)
        return position.at_time_of(last, self._config)

    def _start_over(self, position: Position) -> Position:
        self._feed.notes.started_over += 1
        if self._feed.notes.started_over > MOST_LOST:
            raise Transient(
                f"{self._feed.name}: its cursors expire again and again before a sweep ends, and it cannot filter by time"
            )
        log.warning(
            "%s: the cursor has expired, and its place cannot be found by time: this sweep starts over",
            self._feed.name,
        )
        return position.from_the_beginning()


def _is_idle(stored: Position | None, before: Position, after: Position, answer: Answer) -> bool:
    """Whether a page is a look that found nothing new, and so not worth a commit."""
    if stored is None or not stored.ended or not after.ended:
        return False
    same = (after.total, after.others, after.short) == (stored.total, stored.others, stored.short)
    if before.question == Question() and before.floor is not None and answer.first == before.floor:
        return same
    # At the end every answer may bring another token for what comes later.
    timeless = {"expires": None, "token": None}
    return msgspec.structs.replace(after, **timeless) == msgspec.structs.replace(stored, **timeless)
