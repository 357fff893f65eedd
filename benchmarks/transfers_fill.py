"""Fills the transfer store with made-up transfers, through the raw tables and the real normalisation; prints rows per second.

Three chains share the rows: `ethereum` has two fifths of them, `base` and `polygon` the rest. The transfers of each chain are spread
evenly over the days before `--until`, 30 tokens and 200,000 accounts are as unevenly popular as real ones, one transfer in a
thousand is the twin of the one before it, and one in ten is known from an account's list, without a log index, of which every other one is
known from logs as well. Every row is a function of its number, so the same options make the same tables, and a fill that was stopped goes on.

    python benchmarks/transfers_fill.py --rows 5000000                       # a Postgres of its own, which goes when it ends
    python benchmarks/transfers_fill.py --rows 5000000 --database-url URL    # an empty database, which stays
"""

import argparse
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg

from ingestion_assets import migrations
from ingestion_assets.engine import database, marks
from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.store import Store, connection_pool
from ingestion_assets.engine.stream import Covered, Evidence
from ingestion_assets.sources.transfers.streams import Changes, OutdatedTotals

CHUNK = 100_000  # transfers that one statement makes
TOKENS, ACCOUNTS = 30, 200_000
ALL_DAYS = ((date(2000, 1, 1), date(2100, 1, 1)),)


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain, and its part of the rows."""

    name: str
    seconds: int  # between two blocks
    first: int  # block, at the beginning of the days
    share: float


CHAINS = (
    Chain("ethereum", 12, 18_000_000, 0.4),
    Chain("base", 2, 8_000_000, 0.35),
    Chain("polygon", 2, 50_000_000, 0.25),
)


def fill(url: str, rows: int, *, days: int = 540, until: date = date(2026, 11, 1)) -> None:
    """Make the rows and bring them into the store.

    Args:
        url: of a database; it is migrated first.
        rows: transfers in the store, over all chains.
        days: they are spread over.
        until: the day after the last one.
    """
    database.migrate(url, migrations.SCRIPTS)
    begin = datetime(until.year, until.month, until.day, tzinfo=UTC) - timedelta(days=days)
    pool = connection_pool(url)
    try:
        store = Store(pool)
        started = time.monotonic()
        for chain in CHAINS:
            _raw(store, chain, int(rows * chain.share), begin, days)
        print(f"raw rows made at {rows / (time.monotonic() - started):,.0f} a second", flush=True)
        for table in ("raw.evm_erc20_transfers", "raw.evm_token_transfers"):
            with pool.connection() as connection:
                connection.execute(f"ANALYZE {table}")
        _normalise(store)
    finally:
        pool.close()
    _sizes(url)


def _normalise(store: Store) -> None:
    for kind, streams in {
        "transfers": [Changes(store, chain.name, ALL_DAYS) for chain in CHAINS],
        "cells of daily totals": [OutdatedTotals(store, chain.name, ALL_DAYS) for chain in CHAINS],
    }.items():
        started = time.monotonic()
        drained = drain(streams, store)
        seconds = time.monotonic() - started
        print(
            f"{drained.tally.inserted:,} {kind} in {seconds:,.0f} s: {drained.tally.inserted / seconds:,.0f} a second, "
            f"{drained.tally.batches} commits",
            flush=True,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"this process had {peak} MB at most", flush=True)


def _raw(store: Store, chain: Chain, rows: int, begin: datetime, days: int) -> None:
    blocks = days * 86_400 // chain.seconds
    values = {
        "chain": chain.name, "seconds": chain.seconds, "first": chain.first, "begin": begin, "rows": rows, "blocks": blocks,
        "tokens": TOKENS, "accounts": ACCOUNTS,
    }  # fmt: skip
    for lo in range(0, rows, CHUNK):
        chunk = {**values, "lo": lo, "hi": min(rows, lo + CHUNK) - 1}

        def make(
            connection: psycopg.Connection[tuple[object, ...]], chunk: dict[str, object] = chunk
        ) -> None:
            connection.execute(_FROM_LOGS, chunk)
            connection.execute(_FROM_LISTS, chunk)

        store.transaction(make)
    store.transaction(lambda connection: _marks(connection, chain, blocks, begin, days))


def _marks(
    connection: psycopg.Connection[tuple[object, ...]], chain: Chain, blocks: int, begin: datetime, days: int
) -> None:
    last = chain.first + blocks - 1
    tokens = [token for (token,) in connection.execute(_TOKENS, {"chain": chain.name, "tokens": TOKENS})]
    marks.cover(
        connection,
        [f"evm/erc20_transfers/{chain.name}/{token}" for token in tokens],
        Covered(chain.first, last, Evidence("header", "rpc")),
    )
    (account,) = connection.execute("SELECT " + _account("'hot'")).fetchone() or ("",)
    marks.cover(
        connection,
        [f"evm/token_transfers/{chain.name}/{account}"],
        Covered(chain.first, last, Evidence("counted", "etherscan+blockscout")),
    )
    connection.execute(
        "INSERT INTO ops.chains (chain, head, final, checked_at) VALUES (%s, %s, %s, now())"
        " ON CONFLICT (chain) DO UPDATE SET head = excluded.head, final = excluded.final, checked_at = now()",
        [chain.name, last + 64, last],
    )
    for day in range(days):
        connection.execute(
            "INSERT INTO ops.block_times (chain, day, block) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            [chain.name, (begin + timedelta(days=day)).date(), chain.first + day * 86_400 // chain.seconds],
        )


def _hex(seed: str) -> str:
    return f"'0x' || md5({seed}) || md5({seed} || '.')"


def _account(seed: str) -> str:
    return f"'0x' || md5({seed}) || left(md5({seed} || '.'), 8)"


_MAKE = f"""
    WITH numbered AS (
        SELECT n, n - (n %% 1000 = 1)::int AS m FROM generate_series(%(lo)s::bigint, %(hi)s::bigint) AS n),
    made AS (
        SELECT n, m, n - m AS ordinal, %(first)s + m * %(blocks)s / %(rows)s AS block, ((n * 3) %% 1000)::int AS log_index,
               {_hex("%(chain)s || (m / 2)")} AS tx_hash,
               -- Popularity falls off as in real life: the cube of an even number between 0 and 1.
               {_account("%(chain)s || 't' || floor(%(tokens)s * power((hashint8(m) & 65535) / 65536.0, 3))")} AS token,
               {_account("'a' || floor(%(accounts)s * power((hashint8(m * 7 + 1) & 1048575) / 1048576.0, 3))")} AS sender,
               CASE WHEN m %% 10 = 0 THEN {_account("'hot'")}
                    ELSE {_account("'a' || floor(%(accounts)s * power((hashint8(m * 7 + 2) & 1048575) / 1048576.0, 3))")} END AS receiver,
               ((hashint8(m * 7 + 3)::bigint & 2147483647) * 1000000000)::numeric(78, 0) AS value
        FROM numbered),
    dated AS (
        SELECT *, %(begin)s::timestamptz + (block - %(first)s) * %(seconds)s * interval '1 second' AS at FROM made)"""
_ID = "md5(tx_hash || sender || receiver || token || value || ordinal)::uuid"
_FROM_LOGS = f"""
    {_MAKE}
    INSERT INTO raw.evm_erc20_transfers (chain, block_number, block_time, tx_hash, from_address, to_address, token_address, value,
                                         ordinal, log_index, block_hash, provider, payload, id)
    SELECT %(chain)s, block, at, tx_hash, sender, receiver, token, value, ordinal, log_index, {_hex("%(chain)s || block")}, 'rpc',
           jsonb_build_object(
               'address', token, 'blockHash', {_hex("%(chain)s || block")}, 'blockNumber', '0x' || to_hex(block), 'data',
               '0x' || lpad(to_hex(value::bigint), 64, '0'), 'logIndex', '0x' || to_hex(log_index), 'removed', false, 'topics',
               jsonb_build_array('0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef',
                                 '0x000000000000000000000000' || substr(sender, 3), '0x000000000000000000000000' || substr(receiver, 3)),
               'transactionHash', tx_hash, 'transactionIndex', '0x' || to_hex(log_index / 3)),
           {_ID}
    FROM dated WHERE m %% 20 <> 10
    ON CONFLICT DO NOTHING"""
_FROM_LISTS = f"""
    {_MAKE}
    INSERT INTO raw.evm_token_transfers (chain, block_number, block_time, tx_hash, from_address, to_address, token_address, value,
                                         ordinal, log_index, token_symbol, token_decimals, provider, payload, id)
    SELECT %(chain)s, block, at, tx_hash, sender, receiver, token, value, ordinal, NULL, upper(substr(token, 3, 4)), 18, 'etherscan',
           jsonb_build_object(
               'blockNumber', block::text, 'timeStamp', extract(epoch FROM at)::bigint::text, 'hash', tx_hash, 'nonce', n::text,
               'blockHash', {_hex("%(chain)s || block")}, 'from', sender, 'contractAddress', token, 'to', receiver, 'value', value::text,
               'tokenName', 'Token ' || substr(token, 3, 4), 'tokenSymbol', upper(substr(token, 3, 4)), 'tokenDecimal', '18',
               'transactionIndex', (log_index / 3)::text, 'gas', '90000', 'gasPrice', '13600000000', 'gasUsed', '51000',
               'cumulativeGasUsed', '12063700', 'input', 'deprecated', 'confirmations', '8205100'),
           {_ID}
    FROM dated WHERE m %% 10 = 0
    ON CONFLICT DO NOTHING"""
_TOKEN = _account("%(chain)s || 't' || n")
_TOKENS = f"SELECT {_TOKEN} FROM generate_series(0, %(tokens)s - 1) AS n"


def _sizes(url: str) -> None:
    with psycopg.connect(url) as connection:
        for table, rows, whole, indexes in connection.execute(_SIZES).fetchall():
            print(
                f"{table}: {rows:,} rows, {whole / 1e6:,.0f} MB, of which {indexes / 1e6:,.0f} MB are indexes"
            )


_SIZES = """
    SELECT 'core.transfers', sum((SELECT count(*) FROM core.transfers)) / count(*), sum(pg_total_relation_size(relid)),
           sum(pg_indexes_size(relid))
    FROM pg_partition_tree('core.transfers') WHERE isleaf
    UNION ALL
    SELECT 'core.transfer_daily_totals', (SELECT count(*) FROM core.transfer_daily_totals),
           pg_total_relation_size('core.transfer_daily_totals'), pg_indexes_size('core.transfer_daily_totals')"""


@contextmanager
def _own_postgres() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="transfers_fill_"))
    try:
        yield database.embedded(folder / "postgres")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--days", type=int, default=540)
    parser.add_argument("--until", type=date.fromisoformat, default=date(2026, 11, 1))
    parser.add_argument("--database-url", help="postgresql://…; none: a server of its own")
    options = parser.parse_args()
    if options.database_url:
        fill(options.database_url, options.rows, days=options.days, until=options.until)
    else:
        with _own_postgres() as url:
            fill(url, options.rows, days=options.days, until=options.until)


if __name__ == "__main__":
    main()
