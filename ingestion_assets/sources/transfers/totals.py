"""The daily totals: of each token and day whose transfers have changed, added up again from all of its transfers.

Adding the new ones to the old total would do for count and volume, but not for the addresses, of which the total does not say who
they were; and a total that is always made of the rows themselves cannot drift away from them. It costs a scan of one token's day,
and only where something has changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import LiteralString

from psycopg import sql

from ingestion_assets.engine.store import Connection
from ingestion_assets.engine.stream import Tally
from ingestion_assets.sources.transfers import months
from ingestion_assets.sources.transfers.merging import lock

Cell = tuple[date, str]  # a day and a token of a chain


@dataclass(frozen=True, slots=True)
class Sum:
    """The work of one transaction: these cells of a chain, but for those that somebody else has added up meanwhile."""

    chain: str
    cells: Sequence[Cell]

    def __call__(self, connection: Connection) -> Tally:
        """Add up again.

        Returns:
            `fetched` are cells, `inserted` those that have transfers.
        """
        lock(connection, self.chain)
        taken = connection.execute(_TAKE, _values(self.chain, self.cells)).fetchall()
        if not taken:
            return Tally()
        values = _values(self.chain, taken)
        connection.execute(_FORGET, values)
        inserted = connection.execute(_of_chain(_INSERT, connection, self.chain), values).rowcount
        return Tally(fetched=len(taken), inserted=inserted)


def wrong(connection: Connection, chain: str, cells: Sequence[Cell]) -> list[Cell]:
    """Those of these cells whose total is not what their transfers add up to now; those that wait to be added up are right."""
    query = _of_chain(_WRONG, connection, chain)
    return connection.execute(query, _values(chain, cells)).fetchall() if cells else []


def _of_chain(query: LiteralString, connection: Connection, chain: str) -> sql.Composed:
    """A query over the chain's own table, which changes under the chain's lock alone.

    `core.transfers` changes whenever any chain is new. A statement that is planned at that very moment may miss what has been
    attached just before: it would find no transfers, and take the cells for empty.
    """
    return sql.SQL(query).format(transfers=months.of_chain(connection, chain))


def _values(chain: str, cells: Sequence[Cell]) -> dict[str, object]:
    days = [day for day, _ in cells]
    return {
        "chain": chain, "days": days, "tokens": [token for _, token in cells], "first": min(days), "last": max(days)
    }  # fmt: skip


_CELLS = "unnest(%(days)s::date[], %(tokens)s::text[]) AS cell (day, token_address)"
_TAKE = f"""
    DELETE FROM ops.transfer_cells AS c USING {_CELLS}
    WHERE c.chain = %(chain)s AND (c.day, c.token_address) = (cell.day, cell.token_address)
    RETURNING c.day, c.token_address"""
_FORGET = f"""
    DELETE FROM core.transfer_daily_totals AS t USING {_CELLS}
    WHERE t.chain = %(chain)s AND (t.day, t.token_address) = (cell.day, cell.token_address)"""
# Each transfer counts for its sender and for its receiver; the addresses are grouped first, so that memory holds each once.
# `first` and `last` let the planner leave out all other months.
_ADDED_UP = f"""
    SELECT %(chain)s::text AS chain, cell.day, cell.token_address, total.*
    FROM {_CELLS} CROSS JOIN LATERAL (
        SELECT sum(transfers)::bigint AS transfer_count, sum(volume) AS volume, count(address) AS unique_addresses
        FROM (SELECT party.address, count(*) FILTER (WHERE party.sends) AS transfers, sum(s.value) FILTER (WHERE party.sends) AS volume
              FROM {{transfers}} AS s CROSS JOIN LATERAL (VALUES (true, s.from_address), (false, s.to_address)) AS party (sends, address)
              WHERE s.chain = %(chain)s
                AND hashtextextended(s.token_address, 0) = hashtextextended(cell.token_address, 0)
                AND s.token_address = cell.token_address
                AND s.block_time >= timezone('UTC', cell.day::timestamp)
                AND s.block_time < timezone('UTC', cell.day::timestamp + interval '1 day')
                AND s.block_time >= timezone('UTC', %(first)s::timestamp)
                AND s.block_time < timezone('UTC', %(last)s::timestamp + interval '1 day')
              GROUP BY party.address) AS parties
        HAVING sum(transfers) > 0) AS total"""
_INSERT = f"""
    INSERT INTO core.transfer_daily_totals (chain, day, token_address, transfer_count, volume, unique_addresses)
    {_ADDED_UP}"""
_WRONG = f"""
    WITH added_up AS ({_ADDED_UP}), stored AS (
        SELECT t.* FROM core.transfer_daily_totals AS t JOIN {_CELLS} USING (day, token_address) WHERE t.chain = %(chain)s)
    SELECT day, token_address FROM added_up FULL JOIN stored USING (chain, day, token_address)
    WHERE (added_up.transfer_count, added_up.volume, added_up.unique_addresses)
          IS DISTINCT FROM (stored.transfer_count, stored.volume, stored.unique_addresses)
      AND NOT EXISTS (SELECT FROM ops.transfer_cells AS c
                      WHERE (c.chain, c.day, c.token_address) = (%(chain)s, day, token_address))"""
