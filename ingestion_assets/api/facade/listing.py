"""Lists of the raw tables in block order: transactions and internal transactions of watched accounts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from psycopg import sql

from ingestion_assets.api import coverage, records
from ingestion_assets.api.database import Database
from ingestion_assets.api.memory import Recent
from ingestion_assets.sources.evm import tables

_AS_TEXT = frozenset({"value", "gas_price", "payload"})


@dataclass(frozen=True, slots=True)
class Listing:
    """One list: its table, the stream that fills it, its order within a chain, and how a row is told."""

    table: sa.Table
    stream: str
    order: tuple[str, ...]
    told: Callable[[Mapping[str, Any], int | None], object]

    @property
    def columns(self) -> tuple[str, ...]:
        """In this order."""
        return tuple(column.name for column in self.table.columns)


TRANSACTIONS = Listing(
    tables.transactions, coverage.TRANSACTIONS, ("block_number", "tx_index", "id"), records.transaction
)
INTERNAL_TRANSACTIONS = Listing(
    tables.internal_transactions,
    coverage.INTERNAL_TRANSACTIONS,
    ("block_number", "id"),
    records.internal_transaction,
)


@dataclass(frozen=True, slots=True)
class Query:
    """Which rows of a list."""

    chain: str
    lo: int | None
    hi: int | None
    address: str | None
    hash: str | None
    newest_first: bool


class Lists:
    """The lists, a page at a time; a client that goes from page to page is led on from where its last one ended.

    Args:
        database: where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ends: Recent[tuple[str, str, Query, int, int], tuple[Any, ...]] = Recent(4_096)

    async def page(
        self, listing: Listing, query: Query, *, page: int, size: int, client: str
    ) -> Sequence[Mapping[str, Any]]:
        """The rows of a page, by its number, from 1."""
        key = (client, listing.stream, query, size)
        after = self._ends.get((*key, page - 1)) if page > 1 else None
        skipped = 0 if after is not None else (page - 1) * size
        found = await self._database.rows(
            _query(listing, query, is_after=after is not None),
            {
                "chain": query.chain, "lo": query.lo or 0, "hi": query.hi, "address": query.address,
                "hash": query.hash, "limit": size, "skipped": skipped,
                **{f"at_{name}": value for name, value in zip(listing.order, after or (), strict=False)},
            },
        )  # fmt: skip
        rows = [dict(zip(listing.columns, row, strict=True)) for row in found]
        if len(rows) == size:
            self._ends.put((*key, page), tuple(rows[-1][name] for name in listing.order))
        return rows


def _query(listing: Listing, query: Query, *, is_after: bool) -> sql.Composed:
    conditions: list[sql.Composable] = [sql.SQL("chain = %(chain)s"), sql.SQL("block_number >= %(lo)s")]
    if query.hi is not None:
        conditions.append(sql.SQL("block_number <= %(hi)s"))
    if query.address is not None:
        conditions.append(sql.SQL("%(address)s IN (from_address, to_address, contract_address)"))
    if query.hash is not None:
        conditions.append(sql.SQL("tx_hash = %(hash)s"))
    if is_after:
        sign = sql.SQL("<" if query.newest_first else ">")
        conditions += [
            sql.SQL("block_number {}= %(at_block_number)s").format(sign),  # what the index can look up
            sql.SQL("({}) {} ({})").format(
                sql.SQL(", ").join(map(sql.Identifier, listing.order)),
                sign,
                sql.SQL(", ").join(sql.Placeholder(f"at_{name}") for name in listing.order),
            ),
        ]
    word = sql.SQL("{} DESC" if query.newest_first else "{}")
    return sql.SQL("SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT %(limit)s OFFSET %(skipped)s").format(
        sql.SQL(", ").join(
            sql.SQL("{0}::text AS {0}" if name in _AS_TEXT else "{}").format(sql.Identifier(name))
            for name in listing.columns
        ),
        sql.Identifier(str(listing.table.schema), listing.table.name),
        sql.SQL(" AND ").join(conditions),
        sql.SQL(", ").join(word.format(sql.Identifier(name)) for name in listing.order),
    )
