"""Many providers of one real chain: each alone, and all of them lying in every way at once, end at the same truth."""

import csv
import json
import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml

from ingestion_assets_tests.acceptance.conftest import BLOCKS
from ingestion_assets_tests.acceptance.test_truth import INTERNALS, TRANSACTIONS, digest, installed, result

__all__ = ["installed"]  # a fixture

LAST_DAY = "2024-02-02"

TOKENS = (
    "concat_ws('|', tx_hash, coalesce(log_index::text, '?'), token_address, from_address, to_address, value)"
)

# What each provider cannot know: its digest of that kind is compared without it.
NO_TRACE_IDS, NO_LOG_INDEX = {"blockscout", "blockscout-rest"}, {"etherscan", "routescan"}

# Every fault of the upstreams, the silent ones too. `match` keeps them off the questions for heads and blocks.
LOUD = [
    {"kind": "status", "status": 503, "p": 0.02}, {"kind": "html", "p": 0.01}, {"kind": "reset", "p": 0.01},
    {"kind": "close", "p": 0.01}, {"kind": "truncate", "p": 0.01}, {"kind": "truncate", "clean": True, "p": 0.01},
    {"kind": "reset_body", "at": 0.5, "p": 0.01}, {"kind": "slow_body", "ms": 20, "chunks": 3, "p": 0.01},
    {"kind": "latency", "ms": 20, "jitter_ms": 20, "p": 0.02}, {"kind": "not_json", "p": 0.005},
    {"kind": "content_type", "value": "text/html", "p": 0.01}, {"kind": "hang", "ms": 300, "p": 0.005},
]  # fmt: skip
EXPLORER = [
    {"kind": "result_string", "p": 0.005}, {"kind": "result_null", "p": 0.005},
    {"kind": "wrap_result", "in": "data", "times": 2},
    {"kind": "rate_limited", "limit": 3, "p": 0.005}, {"kind": "shuffle_rows", "p": 0.01},
    {"kind": "drop_field", "field": "value", "rows": [0], "p": 0.01},
    {"kind": "null_field", "field": "from", "rows": [0], "p": 0.005},
    {"kind": "garbage_field", "field": "blockNumber", "rows": [0], "p": 0.005},
    {"kind": "rename_field", "field": "hash", "to": "txHash", "rows": [0], "p": 0.005},
    {"kind": "type_change", "field": "nonce", "rows": [0], "p": 0.005},
    {"kind": "add_field", "field": "brandNew", "rows": "all", "p": 0.02},
    {"kind": "duplicate_rows", "n": 1, "p": 0.02}, {"kind": "drop_rows", "n": 1, "p": 0.05},
    {"kind": "empty_page", "p": 0.03}, {"kind": "shift", "n": 1, "p": 0.05}, {"kind": "shift", "n": -1, "p": 0.05},
]  # fmt: skip
NODE = [
    {"kind": "rpc_error", "item_p": 0.02, "p": 0.1}, {"kind": "rpc_null", "item_p": 0.02, "p": 0.1},
    {"kind": "rpc_missing", "p": 0.03}, {"kind": "rpc_short", "item_p": 0.05, "p": 0.2},
]  # fmt: skip


def on_rows(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rules, for the questions about accounts only: what is broken here must be noticed from the rows."""
    return [{**rule, "match": {"action": "~txlist|txlistinternal|tokentx"}} for rule in rules]


@pytest.fixture
def providers(harness):
    """Every kind of provider that the upstreams have, over the same chain."""
    url, node = harness.explorer, harness.proxy
    return {
        "etherscan": {"kind": "etherscan", "url": f"{url}/v2/api"},
        "blockscout": {"kind": "blockscout", "url": url},
        "blockscout-rest": {"kind": "blockscout", "api": "v2", "url": url, "name": "blockscout-rest"},
        "routescan": {"kind": "routescan", "url": f"{url}/v2/network/mainnet/evm/31337/etherscan/api"},
        "rpc": {"kind": "rpc", "url": node},
    }


def watch(installed, harness, providers: list[dict[str, Any]], *, accounts: int | None = None, **chain: Any):
    """Write sources.yaml for the first chain; the watched accounts are returned."""
    truth = harness.truth["one"]
    addresses = list(truth["addresses"])[:accounts]
    content = {
        "chain_id": 31337,
        "start": "2024-01-01",
        "finality": {"depth": 0},
        "providers": providers,
        "addresses": addresses,
        **chain,
    }
    (installed.home / "sources.yaml").write_text(yaml.safe_dump({"chains": {"one": content}}))
    return addresses


def lines(connection: psycopg.Connection[Any], expression: str, table: str) -> list[str]:
    """One line for each row of a table."""
    return [line for (line,) in connection.execute(f"SELECT {expression} FROM raw.evm_{table}").fetchall()]


def agrees_by_count(connection, table: str, kind: str, folder: Path) -> None:
    """Rows by account and day, for what has no digest of its own: the ground truth counts what an account is named in."""
    found: Counter[tuple[str, str]] = Counter()
    query = f"""
        SELECT account, to_char(block_time AT TIME ZONE 'UTC', 'YYYY-MM-DD'), count(*) FROM (
            SELECT block_time, unnest(array(SELECT DISTINCT unnest(ARRAY[from_address, to_address]))) AS account
            FROM raw.evm_{table}) AS named WHERE account IS NOT NULL GROUP BY 1, 2"""
    for account, day, count in connection.execute(query).fetchall():
        found[account, day] = count
    with (folder / "address_days.csv").open() as file:
        wanted = {
            (row["address"], row["day"]): int(row["rows"])
            for row in csv.DictReader(file)
            if row["kind"] == kind
        }
    assert dict(found) == wanted


@pytest.mark.parametrize(
    "name",
    [
        "rpc",
        pytest.param("blockscout", marks=pytest.mark.drill),
        pytest.param("blockscout-rest", marks=pytest.mark.drill),
        pytest.param("routescan", marks=pytest.mark.drill),
    ],
)
def test_each_kind_of_provider_alone_gives_the_truth(harness, installed, providers, name):
    """Digests of transactions, internal transactions and token transfers; what a provider cannot know is NULL."""
    tokens = {"tokens": list(harness.truth["one"]["erc20"])} if name == "rpc" else {}
    watch(installed, harness, [providers[name]], **tokens)
    installed.backfill()
    truth = harness.truth["one"]
    with psycopg.connect(installed.database) as connection:
        assert digest(lines(connection, TRANSACTIONS, "transactions")) == truth["digests"]["tx"]
        if name in NO_TRACE_IDS:
            assert lines(connection, "count(*)::text", "internal_transactions") == [
                str(truth["totals"]["internal"])
            ]
        else:
            assert (
                digest(lines(connection, INTERNALS, "internal_transactions")) == truth["digests"]["internal"]
            )
        if name in NO_LOG_INDEX:
            agrees_by_count(connection, "token_transfers", "erc20", harness.folder / "one")
        else:
            assert digest(lines(connection, TOKENS, "token_transfers")) == truth["digests"]["erc20"]
        if tokens:
            assert digest(lines(connection, TOKENS, "erc20_transfers")) == truth["digests"]["erc20"]


def named(connection, table: str, address: str) -> int:
    """How many rows name an account."""
    created = "" if table == "token_transfers" else "OR contract_address = %(address)s"
    query = f"SELECT count(*) FROM raw.evm_{table} WHERE from_address = %(address)s OR to_address = %(address)s {created}"
    [(count,)] = connection.execute(query, {"address": address}).fetchall()
    return int(count)


# Watched while every provider lies. More are a matter of patience: each run asks, and proves, all that is left.
ACCOUNTS = 60 if BLOCKS >= 400 else 12


def test_nothing_that_is_lost_on_the_way_passes_as_proved(harness, installed, providers):
    """Every fault at every provider, three kills: the tables are the truth, but for blocks that are listed as unproved."""
    order = [
        providers[name] | {"attempts": 3, "timeout_seconds": 2}
        for name in ("etherscan", "blockscout", "routescan", "rpc")
    ]
    watch(installed, harness, order, accounts=ACCOUNTS, proofs=["nonce", "balance", "counted"])
    harness.fail(on_rows([*LOUD, *EXPLORER]), [*LOUD, *NODE], seed=11)
    try:
        for _ in range(3):
            run = installed.start("backfill", "evm/*", "--here", "--to", LAST_DAY)
            before = records(installed.database)
            while run.poll() is None and records(installed.database) - before < 5 * ACCOUNTS:
                with suppress(subprocess.TimeoutExpired):
                    run.wait(0.1)
            run.kill()
            run.communicate()
        for _ in range(6):  # each run reads what is missing, and its checks prove what is not proved yet
            said = " ".join(installed.start("backfill", "evm/*", "--here", "--to", LAST_DAY).communicate())
            if is_proved(installed.database):
                break
    finally:
        harness.fail([], [], seed=0)

    with psycopg.connect(installed.database) as connection:
        unproved = connection.execute("SELECT stream, lo, hi, reason FROM ops.unproved").fetchall()
        lied = connection.execute(
            "SELECT provider, lies, last_lie FROM ops.providers WHERE lies > 0"
        ).fetchall()
        weak = connection.execute(
            "SELECT stream, lo, hi, evidence FROM ops.coverage WHERE evidence = 'stated'"
        ).fetchall()
        print(f"{len(unproved)} unproved, {len(weak)} only stated, liars: {lied}; {said[-900:]}")  # noqa: T201 - for the record
        assert lied, "faults were switched on, and nobody was caught"
        truth = harness.truth["one"]
        for table, kind in (
            ("transactions", "tx"),
            ("internal_transactions", "internal"),
            ("token_transfers", "erc20"),
        ):
            differing = {
                address: (named(connection, table, address), counts.get(kind, 0))
                for address, counts in list(truth["addresses"].items())[:ACCOUNTS]
                if named(connection, table, address) != counts.get(kind, 0)
                and not any(stream.endswith(address) and table in stream for stream, *_ in (*unproved, *weak))
            }
            assert not differing, f"{table}: stored and true counts {json.dumps(differing)}"


def is_proved(database: str) -> bool:
    """Whether nothing is unproved, and nothing only stated."""
    with psycopg.connect(database) as connection:
        [(left,)] = connection.execute(
            "SELECT (SELECT count(*) FROM ops.unproved)"
            " + (SELECT count(*) FROM ops.coverage WHERE evidence = 'stated')"
        ).fetchall()
    return bool(left == 0)


def records(database: str) -> int:
    """How many records are covered; 0 before there is a table."""
    with psycopg.connect(database) as connection:
        try:
            [(found,)] = connection.execute("SELECT coalesce(sum(records), 0) FROM ops.coverage").fetchall()
        except psycopg.errors.UndefinedTable:
            return 0
    return int(found)


@pytest.mark.parametrize(
    ("rule", "depth"),
    [pytest.param(0, 6, marks=pytest.mark.drill), pytest.param(4, 6, marks=pytest.mark.drill), (4, 12)],
)
def test_a_reorganisation_leaves_the_new_truth(harness, installed, rule, depth):
    """As deep as the rule, and deeper: what was read of the old branch is replaced."""
    with harness.branch() as node:
        order = [{"kind": "rpc", "url": node.url}]
        watch(installed, harness, order, finality={"depth": rule}, follow_head=True)
        installed.backfill()
        node.reorganise(depth)
        truth = node.truth()
        addresses = list(truth["addresses"])
        watch(installed, harness, order, finality={"depth": rule}, follow_head=True, addresses=addresses)
        result(installed.start("backfill", "evm/*", "--here", "--to", LAST_DAY))
        with psycopg.connect(installed.database) as connection:
            for expression, table, kind in (
                (TRANSACTIONS, "transactions", "tx"),
                (INTERNALS, "internal_transactions", "internal"),
                (TOKENS, "token_transfers", "erc20"),
            ):
                assert digest(lines(connection, expression, table)) == truth["digests"][kind], table
            [(fork,)] = connection.execute("SELECT fork FROM ops.reorgs").fetchall()
            assert fork <= node.fork
    httpx.get(f"{harness.explorer}/_control/tables").raise_for_status()  # the other chains are as they were
