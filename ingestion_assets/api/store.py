"""Pages of transfers from the database: a cursor's, a number's, and how many there are."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from msgspec.structs import replace
from psycopg import sql

from ingestion_assets.api import pages, records
from ingestion_assets.api.config import Limits, ServedChain
from ingestion_assets.api.database import Database
from ingestion_assets.api.memory import Recent
from ingestion_assets.api.ordering import Position, position
from ingestion_assets.api.pages import Wanted
from ingestion_assets.api.records import Stored
from ingestion_assets.api.snapshot import Snapshot

_TOTAL = sql.SQL(
    "SELECT coalesce(sum(transfer_count), 0)::bigint FROM core.transfer_daily_totals WHERE chain = ANY(%s)"
)
_TOTAL_OF_TOKEN = _TOTAL + sql.SQL(" AND token_address = %s")

# Postgres opens every month that a page might reach into, whether it does or not: most of the cost of a page that does not. So it is
# first asked for the rows of two months at most, which nearly always are enough.
NEAR = timedelta(days=31)


@dataclass(frozen=True, slots=True)
class Page:
    """Rows right after a position, and whether there are more after them."""

    rows: Sequence[Stored]
    has_more: bool
    begins: Position | None  # None: at the first row of all

    @property
    def ends(self) -> Position | None:
        """Right after its last row."""
        return position(self.rows[-1]) if self.rows else self.begins


@dataclass(frozen=True, slots=True)
class Counted:
    """How many rows there are: all, or at least so many."""

    rows: int
    truncated: bool


class Transfers:
    """The stored transfers.

    Args:
        database: where they are.
        limits: how far a filter is counted.
    """

    def __init__(self, database: Database, limits: Limits) -> None:
        self._database = database
        self._limits = limits
        self._ends: Recent[tuple[str, Wanted, int, int], Position] = Recent(4_096)
        self._counts: Recent[tuple[str, Wanted], Counted] = Recent(4_096)

    async def after(self, wanted: Wanted, size: int, at: Position | None) -> Page:
        """The rows right after a position; None: the first ones."""
        near = None if at is None else _near(wanted, at)
        found = [] if near is None else await self._rows(near, pages.page(near, size + 1, at))
        if len(found) <= size:
            found = await self._rows(wanted, pages.page(wanted, size + 1, at))
        return Page([Stored._make(row) for row in found[:size]], len(found) > size, at)

    async def numbered(
        self, wanted: Wanted, size: int, number: int, client: str, *, counting: Snapshot | None = None
    ) -> Page:
        """A page by its number, from 1.

        A client that asks for one page after another is led on from where its last one ended: it pays for no page twice, and
        sees no row twice, and misses none, when others are inserted meanwhile. Only who jumps pays for what he jumps over.

        Args:
            wanted: of which it is a page.
            size: rows of a page.
            number: of the page.
            client: who asks.
            counting: of the store, if `count` will be asked as well: where one query finds both, it does.
        """
        at: Position | None = None
        if number > 1:
            at = self._ends.get((client, wanted, size, number - 1))
            if at is None:
                at = await self._jump(wanted, (number - 1) * size)
            if at is None:
                return Page((), has_more=False, begins=None)
        if number == 1 and counting is not None and wanted.is_of_account:
            page = await self._first_counted(wanted, size, counting)
        else:
            page = await self.after(wanted, size, at)
        if page.has_more and page.ends is not None:
            self._ends.put((client, wanted, size, number), page.ends)
        return page

    async def _first_counted(self, wanted: Wanted, size: int, snapshot: Snapshot) -> Page:
        """The first rows of an account. Most of the work is to look for it in each month, and is done once for both."""
        key = _counted_as(wanted, snapshot)
        if self._counts.get(key):
            return await self.after(wanted, size, None)
        found = await self._rows(wanted, pages.first_counted(wanted, size + 1, self._limits.count))
        self._counts.put(key, self._no_further(found[0][-1] if found else 0))
        return Page([Stored._make(row[:-1]) for row in found[:size]], len(found) > size, None)

    async def _jump(self, wanted: Wanted, rows: int) -> Position | None:
        found = await self._rows(wanted, pages.position_before(wanted, rows))
        return found[0] if found else None

    async def _rows(self, wanted: Wanted, query: tuple[bytes, dict[str, Any]]) -> list[tuple[Any, ...]]:
        if not wanted.chains:  # sources.yaml names none
            return []
        return await self._database.rows(*query, plan_anew=wanted.is_skewed)

    async def count(self, wanted: Wanted, snapshot: Snapshot) -> Counted:
        """How many rows a filter finds; remembered until something changes."""
        key = _counted_as(wanted, snapshot)
        known = self._counts.get(key)
        return known or self._counts.put(key, await self._count(wanted))

    async def _count(self, wanted: Wanted) -> Counted:
        if wanted.is_whole:
            chains = list(wanted.chains)
            query = (_TOTAL, (chains,)) if wanted.token is None else (_TOTAL_OF_TOKEN, (chains, wanted.token))
            [total] = await self._database.row(*query)
            return Counted(total, truncated=False)
        counted = await self._rows(wanted, pages.count(wanted, self._limits.count))
        return self._no_further(counted[0][0] if counted else 0)

    def _no_further(self, found: int) -> Counted:
        return Counted(min(found, self._limits.count), truncated=found > self._limits.count)


def _counted_as(wanted: Wanted, snapshot: Snapshot) -> tuple[str, Wanted]:
    """What a count is remembered by: it is the same in both directions, until something changes."""
    return snapshot.version, replace(wanted, newest_first=True)


def _near(wanted: Wanted, at: Position) -> Wanted | None:
    """The same, but no further from a position than most pages reach; None: of what is wanted there may be a row a year."""
    if wanted.is_of_account or wanted.hash is not None:
        return None
    time = at[0]
    try:
        if wanted.newest_first:
            return replace(wanted, since=max(wanted.since or time - NEAR, time - NEAR))
        return replace(wanted, until=min(wanted.until or time + NEAR, time + NEAR))
    except OverflowError:  # the first or the last month that there is
        return None


def described(row: Stored, chain: ServedChain, head: int | None) -> records.Transfer:
    """A row as answers tell it."""
    index = None if row.log_index is None else str(row.log_index)
    return records.transfer_as(
        records.Transfer, row, head, chain.chain_id, chain.name, index, row.ordinal, row.id.hex
    )
