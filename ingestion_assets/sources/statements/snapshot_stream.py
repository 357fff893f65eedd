"""What is derived of an account's movements: lots, and the snapshots of the account and of its tickers.

The positions of this stream are days, since 1970. A day depends on all days before it, so what changed on one makes the days
from it on wanted again; but the rows of the day before are all that they need: its sums, and the lots that were open.
One pass makes both snapshots, and covers the keys of both.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import localcontext

import sqlalchemy as sa

from ingestion_assets.engine import marks, rows
from ingestion_assets.engine.coverage import Ranges, difference, intersection
from ingestion_assets.engine.store import Connection, Store
from ingestion_assets.engine.stream import Batch, Covered, Done, Evidence, Rows
from ingestion_assets.sources.statements.changes import Followed
from ingestion_assets.sources.statements.derived_tables import (
    broker_snapshots,
    closings,
    lots,
    ticker_snapshots,
)
from ingestion_assets.sources.statements.lots import NEVER, Closing, Lot, Moved, Positions, by_moment
from ingestion_assets.sources.statements.movement_stream import STREAM as MOVEMENTS
from ingestion_assets.sources.statements.movements.movement import EXACT, ZERO
from ingestion_assets.sources.statements.snapshots import (
    SUMS_OF_ACCOUNT,
    Account,
    Book,
    Ticker,
    account_row,
    midnight,
    ticker_row,
)

BROKER, TICKER = "statements/broker_snapshots", "statements/ticker_snapshots"
CHUNK = 5_000  # movements of one commit, and the rest of their last day
PAGE = 5_000  # movements of one query
EVIDENCE = Evidence("stated", "movements")
_FIRST = date(1970, 1, 1)


def ordinal(day: date) -> int:
    """The position of a day."""
    return (day - _FIRST).days


def day_of(position: int) -> date:
    """The day of a position."""
    return _FIRST + timedelta(days=position)


@dataclass(frozen=True, slots=True)
class AccountSnapshots:
    """The snapshots of one account.

    Args:
        account: whose.
        store: where its movements are.
        within: only these days are wanted; None: all.
        chunk: movements of one commit.
    """

    account: str
    store: Store
    within: Ranges | None = None
    chunk: int = CHUNK

    @property
    def keys(self) -> tuple[str, ...]:
        """Two for each account: `statements/broker_snapshots/<account>`, and the same of its tickers."""
        return (f"{BROKER}/{self.account}", f"{TICKER}/{self.account}")

    @property
    def movements(self) -> Followed:
        """What they are derived from."""
        return Followed(self.store, MOVEMENTS, self.account)

    def wanted(self) -> Ranges:
        """From the first day with movements to the last. What comes after a change is taken back first."""
        self.movements.note(self.keys, self._take_back)
        days = self.movements.days()
        if days is None:
            return ()
        whole = ((ordinal(days[0]), ordinal(days[1])),)
        return whole if self.within is None else intersection(whole, self.within)

    def _take_back(self, connection: Connection, days: Sequence[date]) -> None:
        if days:
            marks.uncover_beyond(connection, self.keys, ordinal(days[0]) - 1)

    def read(self, done: Mapping[str, Done]) -> Iterator[Batch]:
        """What is missing, oldest first: from the first day that is not covered to the last one."""
        whole = self.wanted()
        gaps = [gap for key in self.keys for gap in difference(whole, done[key].covered)]
        if gaps:
            yield from self._from(day_of(min(lo for lo, _ in gaps)), day_of(whole[-1][1]))

    def _from(self, first: date, last: date) -> Iterator[Batch]:
        state = _State(self, first)
        lo, held, since = first, list[Moved](), None
        for moved, number in self._moved(first, last):
            if len(held) >= self.chunk and moved.day != held[-1].day:
                end = held[-1].day
                yield self._batch(state, lo, end, held, since or 0)
                lo, held, since = end + timedelta(days=1), [], None
            held.append(moved)
            since = number if since is None else min(since, number)
        yield self._batch(state, lo, last, held, self.movements.number() if since is None else since)

    def _moved(self, first: date, last: date) -> Iterator[tuple[Moved, int]]:
        at: object = midnight(first)
        after: Sequence[object] = ("", -1, "00000000-0000-0000-0000-000000000000")
        while True:
            number = self.movements.number()
            asked = {
                "account": self.account, "at": at, "end": midnight(last + timedelta(days=1)), "page": PAGE,
                "rank": after[0], "step": after[1], "id": after[2],
            }  # fmt: skip
            page = self.store.transaction(
                lambda c, asked=asked: c.execute(_MOVED, asked).fetchall()  # type: ignore[misc]
            )
            for row in page:
                yield Moved._make(row), number
            if len(page) < PAGE:
                return
            at, *after = page[-1][:4]

    def _batch(self, state: "_State", lo: date, hi: date, moved: Sequence[Moved], since: int) -> Batch:
        with localcontext(EXACT):
            found = state.days(moved)
        mine = [
            table.c.account == self.account for table in (lots, closings, ticker_snapshots, broker_snapshots)
        ]
        removes = (
            sa.delete(lots).where(mine[0], lots.c.opened.between(lo, hi)),
            *state.reopened(),
            sa.delete(closings).where(mine[1], closings.c.day.between(lo, hi)),
            sa.delete(ticker_snapshots).where(mine[2], ticker_snapshots.c.day.between(lo, hi)),
            sa.delete(broker_snapshots).where(mine[3], broker_snapshots.c.day.between(lo, hi)),
        )
        return Batch(
            Covered(ordinal(lo), ordinal(hi), EVIDENCE),
            found,
            removes=removes,
            requires=self.movements.unchanged(lo, hi, since),
        )


class _State:
    """What the next day needs: the open lots and the last sums of what it touches. Each is read when it is first touched."""

    def __init__(self, stream: AccountSnapshots, first: date) -> None:
        self._stream = stream
        self._first = first
        self._positions = Positions()
        self._book = Book()
        self._known: set[str] = set()  # tickers
        self._asked = {"account": stream.account, "first": first, "never": NEVER}
        self._to_reopen = True

    def days(self, moved: Sequence[Moved]) -> tuple[Rows, ...]:
        """The rows of whole days."""
        self._load(moved)
        changed: dict[tuple[date, str, int], Lot] = {}
        if self._to_reopen:
            changed |= {_key(lot): lot for lot in self._closed_later()}
        taken: list[Closing] = []
        account = self._stream.account
        tickers: list[tuple[object, ...]] = []
        brokers: list[tuple[object, ...]] = []
        before: date | None = None
        for moment in by_moment(moved):
            if before is not None and moment[0].day != before:
                self._end(before, tickers, brokers)
            before = moment[0].day
            for one, effect in self._positions.apply(moment):
                self._book.add(one, effect)
                for lot in effect.opened:
                    changed[_key(lot)] = lot
                for closing in effect.closings:
                    taken.append(closing)
                    if closing.lot is not None and not closing.lot.left:
                        changed[_key(closing.lot)] = closing.lot
        if before is not None:
            self._end(before, tickers, brokers)
        return (
            _rows(lots, [(account, *_lot(lot)) for lot in changed.values()], least="closed", counts=False),
            _rows(closings, [(account, *_closing(one)) for one in taken], counts=False),
            _rows(ticker_snapshots, tickers),
            _rows(broker_snapshots, brokers),
        )

    def reopened(self) -> Iterable[sa.Delete]:
        """What the first commit takes away to put it back as it was: lots that were closed on days that come again."""
        if self._to_reopen:
            self._to_reopen = False
            yield sa.delete(lots).where(
                lots.c.account == self._stream.account,
                lots.c.opened < self._first,
                lots.c.closed >= self._first,
                lots.c.closed < NEVER,
            )

    def _end(self, day: date, tickers: list[tuple[object, ...]], brokers: list[tuple[object, ...]]) -> None:
        account, book = self._stream.account, self._book
        currencies, names = book.end_of_day()
        brokers += [
            (account, currency, day, midnight(day), *account_row(book.accounts[currency]))
            for currency in currencies
        ]
        for ticker, currency in names:
            invested = book.accounts[currency].invested if currency in book.accounts else ZERO
            of = book.tickers[ticker, currency]
            tickers.append((account, ticker, currency, day, midnight(day), *ticker_row(of, invested)))

    def _load(self, moved: Sequence[Moved]) -> None:
        names = sorted({one.ticker for one in moved if one.ticker} - self._known)
        self._known.update(names)
        currencies = {one.currency for one in moved if one.currency}
        store = self._stream.store
        if names:
            for lot in store.transaction(lambda c: self._open(c, names)):
                self._positions.add(lot)
                currencies.add(lot.currency)
                of = self._book.tickers.setdefault((lot.ticker, lot.currency), Ticker())
                of.open_lots += 1
                if lot.is_share:
                    of.total_shares += lot.left
                    of.share_cost += lot.cost_left
            store.transaction(lambda c: self._last_of_tickers(c, names))
        wanted = sorted(currencies - set(self._book.accounts))
        if wanted:
            store.transaction(lambda c: self._last_of_accounts(c, wanted))

    def _open(self, connection: Connection, tickers: Sequence[str]) -> list[Lot]:
        found = connection.execute(_OPEN, self._asked | {"tickers": list(tickers)}).fetchall()
        return [Lot(*row) for row in found]

    def _closed_later(self) -> list[Lot]:
        """As they were: with all of it open."""
        found = self._stream.store.transaction(lambda c: c.execute(_CLOSED_LATER, self._asked).fetchall())
        return [Lot(*row) for row in found]

    def _last_of_tickers(self, connection: Connection, tickers: Sequence[str]) -> None:
        query = connection.execute(_TICKERS, self._asked | {"tickers": list(tickers)})
        for ticker, currency, *sums in query.fetchall():
            of = self._book.tickers.setdefault((ticker, currency), Ticker())
            for name, value in zip(_SUMS_OF_TICKER, sums, strict=True):
                setattr(of, name, value)

    def _last_of_accounts(self, connection: Connection, currencies: Sequence[str]) -> None:
        query = connection.execute(_ACCOUNTS, self._asked | {"currencies": list(currencies)})
        for currency, *sums in query.fetchall():
            self._book.accounts[currency] = Account(*sums)


def _key(lot: Lot) -> tuple[date, str, int]:
    return lot.opened, lot.id, lot.part


def _lot(lot: Lot) -> tuple[object, ...]:
    return (
        lot.opened, lot.id, lot.part, lot.rank, lot.asset, lot.ticker, lot.currency, lot.is_share, lot.quantity, lot.cost,
        lot.closed,
    )  # fmt: skip


def _closing(one: Closing) -> tuple[object, ...]:
    return (
        one.day, one.id, one.part, one.lot.id if one.lot else None, one.lot.part if one.lot else None, one.quantity, one.cost,
        one.currency, one.proceeds, one.realized,
    )  # fmt: skip


def _rows(
    table: sa.Table, records: Sequence[Sequence[object]], *, least: str | None = None, counts: bool = True
) -> Rows:
    return Rows(table, rows.lines(records), len(records), least, counts=counts)


_SUMS_OF_TICKER = (
    "invested", "dividends", "dividend_taxes", "options", "commissions", "fees", "realized", "capital_deployed",
)  # fmt: skip

_MOVED = """
    SELECT at, rank, step, id::text, kind, instrument, ticker, asset, strike, put_call, multiplier, effect, quantity, currency,
           amount, commission, fee, cash, pair
    FROM core.movements
    WHERE account = %(account)s AND at >= %(at)s AND at < %(end)s
      AND (at, rank COLLATE "C", step, id) > (%(at)s, %(rank)s, %(step)s, %(id)s::uuid)
    ORDER BY at, rank COLLATE "C", step, id LIMIT %(page)s"""

_OPEN = """
    SELECT l.opened, l.id::text, l.part, l.rank, l.asset, l.ticker, l.currency, l.is_share, l.quantity, l.cost,
           l.quantity - coalesce(c.quantity, 0), l.cost - coalesce(c.cost, 0)
    FROM core.lots AS l LEFT JOIN LATERAL (
        SELECT sum(quantity) AS quantity, sum(cost) AS cost FROM core.closings AS c
        WHERE c.account = l.account AND c.lot = l.id AND c.lot_part = l.part AND c.day < %(first)s) AS c ON true
    WHERE l.account = %(account)s AND l.ticker = ANY(%(tickers)s) AND l.closed >= %(first)s AND l.opened < %(first)s
    ORDER BY l.rank COLLATE "C", l.opened, l.id, l.part"""

_CLOSED_LATER = """
    SELECT opened, id::text, part, rank, asset, ticker, currency, is_share, quantity, cost, quantity, cost
    FROM core.lots WHERE account = %(account)s AND opened < %(first)s AND closed >= %(first)s AND closed < %(never)s"""

_TICKERS = f"""
    SELECT asked.ticker, last.* FROM unnest(%(tickers)s::text[]) AS asked (ticker), LATERAL (
        SELECT DISTINCT ON (currency) currency, {", ".join(_SUMS_OF_TICKER)} FROM core.ticker_snapshots
        WHERE account = %(account)s AND ticker = asked.ticker AND day < %(first)s ORDER BY currency, day DESC) AS last"""

_ACCOUNTS = f"""
    SELECT asked.currency, last.* FROM unnest(%(currencies)s::text[]) AS asked (currency), LATERAL (
        SELECT {", ".join(SUMS_OF_ACCOUNT)} FROM core.broker_snapshots
        WHERE account = %(account)s AND currency = asked.currency AND day < %(first)s ORDER BY day DESC LIMIT 1) AS last"""
