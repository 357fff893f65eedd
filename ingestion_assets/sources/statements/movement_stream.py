"""What is derived of an account's lines: its movements, and the marks that say up to which second of which lines.

The positions of this stream are the seconds of the lines' times. Lines that stand close together may belong together, two
legs of a trade or of a split: a group of them is never cut, neither by a chunk nor by what has to be derived again.
Lines of which a richer file of the account tells the same become nothing: see `precedence`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import localcontext

import msgspec
import sqlalchemy as sa

from ingestion_assets.engine import marks, rows
from ingestion_assets.engine.coverage import Range, Ranges, difference, intersection, union
from ingestion_assets.engine.store import Connection, Store
from ingestion_assets.engine.stream import Batch, Covered, Done, Evidence, Rejected, Rows
from ingestion_assets.sources.statements import precedence
from ingestion_assets.sources.statements.changes import Followed
from ingestion_assets.sources.statements.derived_tables import movements
from ingestion_assets.sources.statements.movement_rows import row
from ingestion_assets.sources.statements.movements import BOOKINGS
from ingestion_assets.sources.statements.movements.movement import APART, EXACT, Movement, Stored, Unknown
from ingestion_assets.sources.statements.registry import STREAM as LINES

STREAM = "statements/movements"
CHUNK = 2_000  # lines of one commit, and the rest of their last group
PAGE = 5_000  # lines of one query
EVIDENCE = Evidence("stated", "statement lines")
DAY = 86_400

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PAYLOAD = msgspec.json.Decoder(dict[str, str | None])


def second(at: datetime) -> int:
    """The position of a time."""
    return (at - _EPOCH) // timedelta(seconds=1)


def time_of(position: int) -> datetime:
    """The time of a position."""
    return _EPOCH + timedelta(seconds=position)


def seconds_of(first: date, last: date) -> Range:
    """The positions of days, first and last included."""
    begin = (first - _EPOCH.date()).days * DAY
    return begin, (last - _EPOCH.date()).days * DAY + DAY - 1


@dataclass(frozen=True, slots=True)
class AccountMovements:
    """The movements of one account.

    Args:
        account: whose.
        store: where the lines are.
        within: only these seconds are wanted; None: all.
        chunk: lines of one commit.
    """

    account: str
    store: Store
    within: Ranges | None = None
    chunk: int = CHUNK

    @property
    def keys(self) -> tuple[str, ...]:
        """One for each account: `statements/movements/<account>`."""
        return (f"{STREAM}/{self.account}",)

    @property
    def lines(self) -> Followed:
        """What they are derived from."""
        return Followed(self.store, LINES, self.account)

    def wanted(self) -> Ranges:
        """From the first day with lines to the last. What changed since the last look is taken back first."""
        precedence.note(self.store, self.account)
        self.lines.note(self.keys, self._take_back)
        days = self.lines.days()
        if days is None:
            return ()
        whole = (seconds_of(*days),)
        return whole if self.within is None else intersection(whole, self.within)

    def _take_back(self, connection: Connection, days: Sequence[date]) -> None:
        for lo, hi in union(seconds_of(day, day) for day in days):
            marks.uncover(connection, self.keys[0], (lo - APART, hi + APART))

    def read(self, done: Mapping[str, Done]) -> Iterator[Batch]:
        """What is missing, oldest first. Around it, whole groups are derived again."""
        gaps = difference(self.wanted(), done[self.keys[0]].covered)
        reached: int | None = None  # what is derived, in this very reading
        for lo, hi in gaps:
            begin = lo if reached is None else max(lo, reached + 1)
            if begin > hi:
                continue
            begin = self._begin(begin)
            for batch in self._gap(begin, hi):
                mark = batch.mark
                assert isinstance(mark, Covered)  # noqa: S101 - for the type checker
                reached = mark.hi
                yield batch

    def _begin(self, position: int) -> int:
        """Where the group begins that reaches over a position from before; the position itself, if none does."""
        begin = position
        while True:
            before = self.store.transaction(lambda c, at=begin: self._before(c, at))  # type: ignore[misc]
            for at in before:
                if begin - at > APART:
                    return begin
                begin = at
            if not before:
                return begin

    def _before(self, connection: Connection, position: int) -> list[int]:
        found = connection.execute(
            "SELECT DISTINCT at FROM raw.statement_lines WHERE account = %s AND at < %s ORDER BY at DESC LIMIT 500",
            [self.account, time_of(position)],
        ).fetchall()
        return [second(at) for (at,) in found]

    def _gap(self, lo: int, hi: int) -> Iterator[Batch]:
        held: list[list[Stored]] = []
        size, since = 0, None
        number_before = self.lines.number()  # of a gap without lines
        for group, number in self._groups(lo, hi):
            if size >= self.chunk:
                end = second(held[-1][-1].at)
                yield self._batch(lo, end, held, since or 0)
                lo, held, size, since = end + 1, [], 0, None
            held.append(group)
            size += len(group)
            since = number if since is None else min(since, number)
        end = max(hi, second(held[-1][-1].at)) if held else hi
        yield self._batch(lo, end, held, number_before if since is None else since)

    def _groups(self, lo: int, hi: int) -> Iterator[tuple[list[Stored], int]]:
        """Lines that stand together, and the number of the change before which they were read. The last may end after `hi`."""
        group: list[Stored] = []
        number = 0
        for line, since in self._lines(lo):
            if group and second(line.at) - second(group[-1].at) > APART:
                yield group, number
                group = []
            if not group:
                if second(line.at) > hi:
                    return
                number = since
            group.append(line)
        if group:
            yield group, number

    def _lines(self, lo: int) -> Iterator[tuple[Stored, int]]:
        at, after = time_of(lo), "00000000-0000-0000-0000-000000000000"
        while True:
            number = self.lines.number()
            page = self.store.transaction(
                lambda c, at=at, after=after: c.execute(  # type: ignore[misc]
                    _PAGE, {"account": self.account, "at": at, "after": after, "page": PAGE}
                ).fetchall()
            )
            for when, name, dialect, section, payload in page:
                yield Stored(when, name, dialect, section, _PAYLOAD.decode(payload)), number
            if len(page) < PAGE:
                return
            at, after = page[-1][0], page[-1][1]

    def _batch(self, lo: int, hi: int, groups: Sequence[Sequence[Stored]], since: int) -> Batch:
        account = rows.text(self.account)
        lines: list[bytes] = []
        unknown: list[Unknown] = []
        # Read after the lines, and whatever changes it changes their days: so it is as new as `since`, or nothing is committed.
        files = precedence.noted(self.store, self.account)
        with localcontext(EXACT):
            for group in groups:
                for found in booked(files.counting(group)):
                    if isinstance(found, Unknown):
                        unknown.append(found)
                    else:
                        lines.append(row(account, found))
        removes = sa.delete(movements).where(
            movements.c.account == self.account,
            movements.c.line_at >= time_of(lo),
            movements.c.line_at < time_of(hi + 1),
        )
        return Batch(
            Covered(lo, hi, EVIDENCE),
            (Rows(movements, b"".join(lines), len(lines)),),
            self._rejected(unknown),
            removes=(removes,),
            requires=self.lines.unchanged(time_of(lo).date(), time_of(hi).date(), since),
        )

    def _rejected(self, unknown: Sequence[Unknown]) -> tuple[Rejected, ...]:
        return tuple(Rejected(self._verbatim(one.line), one.reason, second(one.line.at)) for one in unknown)

    def _verbatim(self, line: Stored) -> bytes:
        query = "SELECT raw FROM raw.statement_lines WHERE account = %s AND at = %s AND id = %s"
        found = self.store.transaction(
            lambda c: c.execute(query, [self.account, line.at, line.id]).fetchone()
        )
        return found[0].encode() if found else msgspec.json.encode(line.payload)


def booked(group: Sequence[Stored]) -> Iterator[Movement | Unknown]:
    """What a group of lines tells, each dialect by itself."""
    dialects = {line.dialect for line in group}
    if len(dialects) == 1:
        yield from _booked_by(dialects.pop(), group)
        return
    for dialect in sorted(dialects):
        yield from _booked_by(dialect, [line for line in group if line.dialect == dialect])


def _booked_by(dialect: str, lines: Sequence[Stored]) -> Iterator[Movement | Unknown]:
    booking = BOOKINGS.get(dialect)
    if booking is None:
        yield from (Unknown(line, f"nobody has said how {dialect} becomes movements") for line in lines)
    else:
        yield from booking.movements(lines)


_PAGE = """
    SELECT at, id::text, dialect, section, payload::text FROM raw.statement_lines
    WHERE account = %(account)s AND at >= %(at)s AND (at, id) > (%(at)s, %(after)s::uuid) ORDER BY at, id LIMIT %(page)s"""
