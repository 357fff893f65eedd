"""Two small chains of transfers whose every row a test can know, and the API served over them on a real port."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import httpx
import psycopg
import uvicorn

from ingestion_assets.api.app import create_app
from ingestion_assets.api.config import ApiConfig, Limits, ServedChain, ServedProvider
from ingestion_assets.sources.transfers import months
from ingestion_assets_tests.upstream import free_port

START = datetime(2024, 1, 30, tzinfo=UTC)  # so that there are two months
SECONDS = 600  # between two blocks of either chain
ACCOUNTS = ["0x" + f"{n:x}" * 40 for n in range(1, 7)]
TOKENS = ["0x" + f"{n:x}" * 40 for n in (10, 11, 12)]
STRANGER = "0x" + "9" * 40

ALPHA = ServedChain("alpha", 1, date(2024, 1, 30), frozenset(ACCOUNTS[:2]), frozenset(TOKENS[:2]))
BETA = ServedChain(
    "beta-2", 2, date(2024, 1, 30), frozenset(ACCOUNTS[:1]), frozenset("*"), providers=(ServedProvider("etherscan", "host", 100),)
)  # fmt: skip
CHAINS = (ALPHA, BETA)

GENEROUS = Limits(requests_per_second=0)


def connect(url: str) -> "psycopg.Connection[tuple[object, ...]]":
    """A connection that commits each statement."""
    return psycopg.connect(url, autocommit=True)


# Row n lies in block n/2 and equals row n-1 in time; every seventh has no log index, every eleventh is to oneself, and every thirteenth
# is the twin of the one before it.
_ROWS = """
    INSERT INTO core.transfers (chain, block_number, block_time, tx_hash, log_index, token_address, from_address, to_address, value,
                                ordinal, token_symbol, token_decimals, provider, payload, id)
    SELECT %(chain)s, n / 2, %(start)s::timestamptz + (n / 2) * %(seconds)s * interval '1 second',
           '0x' || lpad(to_hex(n / 3), 64, '0'), CASE WHEN n %% 7 > 0 THEN n %% 2 * 3 END,
           (%(tokens)s::text[])[1 + n %% 3], (%(accounts)s::text[])[1 + n %% 6],
           (%(accounts)s::text[])[1 + CASE WHEN n %% 11 = 0 THEN n %% 6 ELSE (n / 6 + n) %% 6 END],
           CASE WHEN n = 4 THEN power(2::numeric, 256) - 1 ELSE n END, (n %% 13 = 0)::int, 'TKN', 18, 'etherscan',
           jsonb_build_object('nonce', n::text, 'gas', '0x5208', 'tokenName', 'A token', 'blockHash', '0xbb'),
           md5(%(chain)s || n)::uuid
    FROM generate_series(%(first)s::int, %(last)s::int) AS n"""
_TOTALS = """
    INSERT INTO core.transfer_daily_totals
    SELECT chain, timezone('UTC', block_time)::date, token_address, count(*), sum(value), count(DISTINCT from_address)
    FROM core.transfers GROUP BY 1, 2, 3
    ON CONFLICT (chain, day, token_address) DO UPDATE
    SET transfer_count = excluded.transfer_count, volume = excluded.volume, unique_addresses = excluded.unique_addresses"""


def add_rows(connection, chain: ServedChain, first: int, last: int) -> None:
    """Store the rows `first` to `last` of a chain, and count them."""
    connection.execute(
        _ROWS,
        {
            "chain": chain.name, "start": START, "seconds": SECONDS, "tokens": TOKENS, "accounts": ACCOUNTS, "first": first,
            "last": last,
        },
    )  # fmt: skip
    connection.execute(_TOTALS)


def fill(connection, rows: int = 240) -> None:
    """Both chains with so many rows each, read up to their last final block but for a gap in one account's stream."""
    last = rows // 2
    for chain in CHAINS:
        months.make(connection, chain.name, [date(2024, 1, 1), date(2024, 2, 1)])
        add_rows(connection, chain, 0, rows - 1)
        keys = [
            *(f"evm/token_transfers/{chain.name}/{address}" for address in chain.addresses),
            *(f"evm/erc20_transfers/{chain.name}/{token}" for token in chain.tokens),
        ]
        for key in keys:
            ranges = (
                [(0, 39), (50, last)] if last > 50 and key.endswith(f"alpha/{ACCOUNTS[1]}") else [(0, last)]
            )
            for lo, hi in ranges:
                connection.execute(
                    "INSERT INTO ops.coverage (stream, lo, hi, evidence, provider, records) VALUES (%s, %s, %s, %s, 'etherscan', 5)",
                    [key, lo, hi, "stated" if "token_transfers" in key else "header"],
                )
        connection.execute(
            "INSERT INTO ops.chains (chain, head, final, checked_at) VALUES (%s, %s, %s, now())",
            [chain.name, last + 10, last],
        )
        for day in range((last * SECONDS) // 86_400 + 1):
            connection.execute(
                "INSERT INTO ops.block_times VALUES (%s, %s, %s)",
                [chain.name, (START + timedelta(days=day)).date(), -(-day * 86_400 // SECONDS)],
            )


def stored(connection, where: str = "true") -> list[dict[str, object]]:
    """All rows in the total order, oldest first, sorted here and not by the database."""
    names = (
        "block_time",
        "chain",
        "place",
        "id",
        "block_number",
        "token_address",
        "from_address",
        "to_address",
        "tx_hash",
    )
    query = f"SELECT {', '.join(names)} FROM core.transfers WHERE {where}"
    rows = [dict(zip(names, row, strict=True)) for row in connection.execute(query).fetchall()]
    return sorted(rows, key=lambda row: (row["block_time"], row["chain"], row["place"], row["id"].hex))


def config(url: str, **changes) -> ApiConfig:
    """What the API is told of these chains."""
    return ApiConfig(url, **{"chains": CHAINS, "limits": GENEROUS, "refresh_seconds": 0.1, **changes})


@contextmanager
def served(told: ApiConfig, explorers=None) -> Iterator[httpx.Client]:
    """The API on a port of its own, and a client of it."""
    app = create_app(told, explorers)
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(
            app, port=port, log_level="warning", access_log=False, ws="none", timeout_graceful_shutdown=1
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    base = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=base, timeout=30) as client:
            while not server.started:
                assert thread.is_alive(), "the API did not start"
                thread.join(0.01)
            client.app = app
            yield client
    finally:
        server.should_exit = True
        thread.join()


def walk(client: httpx.Client, between=None, **question) -> list[dict[str, object]]:
    """All pages of a question, by cursor; `between` is called after each."""
    found: list[dict[str, object]] = []
    while True:
        answer = client.get("/api/transfers", params=question)
        assert answer.status_code == 200, answer.text
        told = answer.json()
        found += told["data"]
        if told["meta"]["nextCursor"] is None:
            assert not told["meta"]["hasMore"]
            return found
        question["cursor"] = told["meta"]["nextCursor"]
        if between is not None:
            between(len(found))
