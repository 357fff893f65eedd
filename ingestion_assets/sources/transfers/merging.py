"""How raw transfers become those of the store: the blocks that have changed are merged again, and compared with what is stored.

All in SQL, for no row has to leave the database, and all in one transaction, under a lock for each chain: what is merged, the
notes that it was done for, the totals that it makes out of date, and the coverage. A note that arrives meanwhile stays for the next
transaction, so it does no harm that each statement sees a little more of the raw tables than the one before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import psycopg

from ingestion_assets.engine.store import Connection
from ingestion_assets.engine.stream import Tally
from ingestion_assets.sources.transfers import inheriting, months

STORE = "transfers/transfers"


def lock(connection: Connection, chain: str) -> None:
    """Nobody else changes the store of this chain until the transaction ends."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"{STORE}/{chain}"])


@dataclass(frozen=True, slots=True)
class Merge:
    """The work of one transaction.

    Args:
        chain: its name.
        notes: ids in `ops.transfer_changes`, of one month. Those that somebody else has seen to meanwhile are passed over.
    """

    chain: str
    notes: Sequence[int]

    def __call__(self, connection: Connection) -> Tally:
        """Make the store of these blocks the union of the raw tables.

        Returns:
            `fetched` are the raw rows that had changed, `inserted` those that the store did not have as they are.
        """
        lock(connection, self.chain)
        taken = connection.execute(_TAKE, [list(self.notes)]).fetchone()
        if taken is None or taken[0] is None:
            return Tally()
        blocks, first, last, noted = taken
        begin = floor(connection, self.chain) or date(1, 1, 1)
        values = {"chain": self.chain, "blocks": blocks, "floor": begin}
        connection.execute(_PLAN)
        # Two providers may tell two times of one block, hardly ever more than a day apart.
        near = {
            months.month_of(day) for day in (first - timedelta(days=1), first, last, last + timedelta(days=1))
        }
        for month in near.intersection(months.kept(connection, self.chain)):
            leaf = months.leaf(self.chain, month).as_string(None)
            connection.execute(_REMOVE.format(month=leaf), values)
        wanted = {months.month_of(first), months.month_of(last)}
        months.make(connection, self.chain, (month for month in wanted if month >= begin))
        added = _add(connection, self.chain, values)
        inheriting.inherit(connection, self.chain)
        return Tally(fetched=int(noted), inserted=added, duplicate=max(0, int(noted) - added))


def _add(connection: Connection, chain: str, values: dict[str, object]) -> int:
    try:
        with connection.transaction():
            return _count(connection, values)
    except psycopg.errors.CheckViolation:  # a row is of another month than the note of its block says
        months.make(connection, chain, (month for (month,) in connection.execute(_MONTHS, values).fetchall()))
        return _count(connection, values)


def _count(connection: Connection, values: dict[str, object]) -> int:
    added = connection.execute(_ADD, values).fetchone()
    return int(added[0]) if added else 0


def floor(connection: Connection, chain: str) -> date | None:
    """The first day whose transfers are kept; None: all are."""
    found = connection.execute("SELECT day FROM ops.transfer_floors WHERE chain = %s", [chain]).fetchone()
    return found[0] if found else None


_TAKE = """
    WITH taken AS (DELETE FROM ops.transfer_changes WHERE id = ANY(%s) RETURNING blocks, day, rows)
    SELECT range_agg(blocks)::text, min(day), max(day), sum(rows) FROM taken"""

# Every join here looks up a few blocks, or one row, in an index. The planner cannot know how few: OFFSET 0 keeps the lookups apart.
_PLAN = """
    SELECT set_config(name, 'off', true) FROM unnest(
        ARRAY['enable_hashjoin', 'enable_mergejoin', 'enable_material', 'enable_memoize', 'enable_seqscan', 'jit']) AS name"""

_BLOCKS = """
    blocks AS MATERIALIZED (
        SELECT lower(one) AS lo, upper(one) - 1 AS hi FROM unnest(%(blocks)s::int8multirange) AS one)"""
# What the store should have of a row: of both tables what each knows better. A list's record tells more than a log.
_MERGED = """
    coalesce(e.block_time, t.block_time), coalesce(e.log_index, t.log_index), t.token_symbol, t.token_decimals,
    coalesce(t.provider, e.provider), coalesce(t.payload, e.payload)"""
_HAVING = "block_time, log_index, token_symbol, token_decimals, provider, payload"
_KEY = "chain, block_number, tx_hash, token_address, from_address, to_address, value, ordinal, id"

_E, _T = "raw.evm_erc20_transfers", "raw.evm_token_transfers"


def _in_blocks(table: str, name: str) -> str:
    conditions = f"{name}.chain = %(chain)s AND {name}.block_number BETWEEN blocks.lo AND blocks.hi"
    return (
        f"blocks CROSS JOIN LATERAL (SELECT * FROM {table} AS {name} WHERE {conditions} OFFSET 0) AS {name}"
    )


def _same(table: str, name: str, other: str) -> str:
    key = ", ".join(f"{{0}}.{column}" for column in ("chain", "block_number", "id"))
    where = f"({key.format(name)}) = ({key.format(other)})"
    return f"LEFT JOIN LATERAL (SELECT * FROM {table} AS {name} WHERE {where} OFFSET 0) AS {name} ON true"


def _key(of: str) -> str:
    return ", ".join(f"{of}.{column}" for column in _KEY.split(", "))


_SOURCE = f"""
    SELECT {_key("e")}, {_MERGED}
    FROM {_in_blocks(_E, "e")} {_same(_T, "t", "e")}
    UNION ALL
    SELECT {_key("t")}, t.block_time, t.log_index, t.token_symbol, t.token_decimals, t.provider, t.payload
    FROM {_in_blocks(_T, "t")} {_same(_E, "e", "t")} WHERE e.id IS NULL"""

_FLAGGED = """
    flagged AS (
        INSERT INTO ops.transfer_cells (chain, day, token_address)
        SELECT DISTINCT %(chain)s, timezone('UTC', block_time)::date, token_address FROM {of}
        ON CONFLICT DO NOTHING)
    SELECT count(*) FROM {of}"""

_REMOVE = f"""
    WITH {_BLOCKS}, outdated AS (
        SELECT s.block_number, s.block_time, s.id
        FROM {_in_blocks("{month}", "s")} {_same(_E, "e", "s")} {_same(_T, "t", "s")}
        WHERE ({_MERGED}) IS DISTINCT FROM ({", ".join(f"s.{one}" for one in _HAVING.split(", "))})),
    removed AS (
        DELETE FROM {{month}} AS s USING outdated AS o
        WHERE (s.block_number, s.id, s.block_time) = (o.block_number, o.id, o.block_time)
        RETURNING s.block_time, s.token_address),
    {_FLAGGED.format(of="removed")}"""

_MONTHS = f"""
    WITH {_BLOCKS}, source ({_KEY}, {_HAVING}) AS ({_SOURCE})
    SELECT DISTINCT date_trunc('month', timezone('UTC', block_time))::date FROM source
    WHERE block_time >= timezone('UTC', %(floor)s::timestamp)"""

_ADD = f"""
    WITH {_BLOCKS}, source ({_KEY}, {_HAVING}) AS ({_SOURCE}),
    added AS (
        INSERT INTO core.transfers ({_KEY}, {_HAVING})
        SELECT * FROM source WHERE block_time >= timezone('UTC', %(floor)s::timestamp)
        ON CONFLICT DO NOTHING
        RETURNING block_time, token_address),
    {_FLAGGED.format(of="added")}"""
