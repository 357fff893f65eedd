"""How long transfers are kept. Belongs here: moving the floor of a chain, and what goes with it.

The floor is the first day that is kept, always the first of a month. What lies below is dropped from the store, month by
month, with its totals, and is taken out of the store's coverage: it is neither missing, nor merged again. The raw rows and their coverage
stay as they are. So nothing is fetched again, proofs that need an account's whole history can still be made, and a floor that is moved back
gets its months back from there.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import psycopg

from ingestion_assets.engine.errors import Transient
from ingestion_assets.engine.store import Connection
from ingestion_assets.engine.stream import Tally
from ingestion_assets.sources.transfers import inheriting, months
from ingestion_assets.sources.transfers.merging import floor, lock

log = logging.getLogger(__name__)

PATIENCE = "1s"  # so long a month waits for those who read it, and whoever comes after waits for it


def first_day(today: date, retention_days: int | None) -> date | None:
    """The first day that is kept: of the month in which the oldest day lies that has to be; None: all are kept."""
    return None if retention_days is None else months.month_of(today - timedelta(days=retention_days))


@dataclass(frozen=True, slots=True)
class Keep:
    """The work of one transaction: let a chain's store begin where sources.yaml wants it to, and bring its coverage up to date.

    Args:
        chain: its name.
        begin: the first day that is kept, from `first_day`.
    """

    chain: str
    begin: date | None

    def __call__(self, connection: Connection) -> Tally:
        """Move the floor, if it is to be moved; if somebody is reading what lies below, it stays where it is for now."""
        lock(connection, self.chain)
        try:
            with connection.transaction():
                prune(connection, self.chain, self.begin)
        except Transient as error:
            log.warning("%s", error)
            inheriting.inherit(connection, self.chain)
        return Tally()


def prune(connection: Connection, chain: str, begin: date | None) -> list[date]:
    """What `Keep` does.

    Returns:
        The months that were dropped.

    Raises:
        Transient: somebody is reading a month that is to be dropped, and does not come to an end; nothing is changed.
    """
    lock(connection, chain)
    before = floor(connection, chain)
    dropped: list[date] = []
    if begin is None:
        connection.execute("DELETE FROM ops.transfer_floors WHERE chain = %s", [chain])
    elif begin != before:
        connection.execute(_SET_FLOOR, {"chain": chain, "day": begin})
    if before is not None and (begin is None or begin < before):
        note(connection, chain, begin or date(1, 1, 1), before - timedelta(days=1))
    if begin is not None:
        dropped = _drop(connection, chain, begin)
    inheriting.inherit(connection, chain)
    return dropped


def _drop(connection: Connection, chain: str, begin: date) -> list[date]:
    gone = [month for month in months.kept(connection, chain) if month < begin]
    if gone:
        connection.execute("SELECT set_config('lock_timeout', %s, true)", [PATIENCE])
        try:
            for month in gone:
                months.drop(connection, chain, month)
        except psycopg.errors.LockNotAvailable as error:
            raise Transient(
                f"transfers of {chain} before {begin} are being read, and so were not dropped: the next run, or the job prune_transfers, "
                "tries it again"
            ) from error
        connection.execute("SELECT set_config('lock_timeout', '0', true)")
    for table in ("ops.transfer_changes", "ops.transfer_cells", "core.transfer_daily_totals"):
        connection.execute(f"DELETE FROM {table} WHERE chain = %s AND day < %s", [chain, begin])
    return gone


def note(connection: Connection, chain: str, first: date, last: date) -> None:
    """Note the days `first`..`last` as changed, both as they are in the raw tables and as they are in the store: they are merged again."""
    for table in _TABLES:
        connection.execute(_NOTE.format(table=table), {"chain": chain, "first": first, "last": last})


_TABLES: Sequence[str] = ("raw.evm_erc20_transfers", "raw.evm_token_transfers", "core.transfers")

# The same notes as the triggers write.
_NOTE = """
    INSERT INTO ops.transfer_changes (chain, day, blocks, rows)
    SELECT %(chain)s, day, range_agg(int8range(block_number, block_number, '[]')), sum(rows)
    FROM (SELECT day, block_number, rows,
                 (sum(rows) OVER (PARTITION BY day ORDER BY block_number) - 1) / 10000 AS part
          FROM (SELECT timezone('UTC', block_time)::date AS day, block_number, count(*)::bigint AS rows
                FROM {table}
                WHERE chain = %(chain)s AND block_time >= timezone('UTC', %(first)s::timestamp)
                  AND block_time < timezone('UTC', %(last)s::timestamp + interval '1 day')
                GROUP BY 1, 2) AS blocks) AS parts
    GROUP BY day, trunc(part)"""

# Nobody has told the first block of the month? Then it begins after the last block before it that has transfers: no block
# between has any.
_SET_FLOOR = """
    INSERT INTO ops.transfer_floors (chain, day, block)
    SELECT %(chain)s, %(day)s, coalesce(
        (SELECT block FROM ops.block_times WHERE chain = %(chain)s AND day = %(day)s),
        (SELECT max(block_number) + 1 FROM (
            (SELECT block_number FROM raw.evm_erc20_transfers
             WHERE chain = %(chain)s AND block_time < timezone('UTC', %(day)s::timestamp)
             ORDER BY block_time DESC, block_number DESC LIMIT 1)
            UNION ALL
            (SELECT block_number FROM raw.evm_token_transfers
             WHERE chain = %(chain)s AND block_time < timezone('UTC', %(day)s::timestamp)
             ORDER BY block_time DESC, block_number DESC LIMIT 1)) AS before),
        0)
    ON CONFLICT (chain) DO UPDATE SET day = excluded.day, block = excluded.block, moved_at = now()"""
