"""The account history of a real Ethereum node, against ground truth that shares no code with us."""

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from ingestion_assets_tests.acceptance.conftest import SEEDS

LAST_DAY = "2024-02-02"  # past the last block

# The columns of a digest's lines, as the ground truth defines them.
TRANSACTIONS = """
    concat_ws('|', tx_hash, block_number, tx_index, from_address, coalesce(to_address, contract_address), value,
              succeeded::int, gas_used, gas_price)"""
INTERNALS = """
    concat_ws('|', tx_hash, trace_id, type, from_address, coalesce(to_address, contract_address, ''), value, failed::int)"""


@dataclass
class Project:
    """An installation of its own: sources.yaml, DAGSTER_HOME, and the database of the test."""

    home: Path
    database: str

    def environment(self) -> dict[str, str]:
        """Of its processes."""
        return {
            **os.environ,
            "DAGSTER_HOME": str(self.home),
            "INGESTION_DATABASE_URL": self.database,
            "INGESTION_SOURCES": "",
        }

    def watch(self, explorer: str, chains: dict[str, tuple[int, list[str]]], **provider: Any) -> None:
        """Write sources.yaml: chain ids and addresses by name."""
        content = {
            "chains": {
                name: {
                    "chain_id": chain_id,
                    "start": "2024-01-01",
                    "finality": {"depth": 0},
                    "providers": [{"kind": "etherscan", "url": f"{explorer}/v2/api", **provider}],
                    "addresses": addresses,
                }
                for name, (chain_id, addresses) in chains.items()
            }
        }
        (self.home / "sources.yaml").write_text(yaml.safe_dump(content))

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start the command `ingestion`."""
        command = [sys.executable, "-m", "ingestion_assets", *arguments, "--json"]
        return subprocess.Popen(
            command, env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def backfill(self, *options: str, assets: str = "evm/*") -> list[dict[str, Any]]:
        """Read everything, here."""
        return result(self.start("backfill", assets, "--here", "--to", LAST_DAY, *options))


def result(process: "subprocess.Popen[str]") -> list[dict[str, Any]]:
    """What a command printed, once it has ended well."""
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    found: list[dict[str, Any]] = json.loads(out)
    return found


@pytest.fixture
def installed(tmp_path: Path, database_url: str, project: Path) -> Project:
    """A fresh installation."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(project / "dagster_home" / "dagster.yaml", home)
    return Project(home, database_url)


def digest(lines: list[str]) -> str:
    """As the ground truth makes them."""
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


@pytest.mark.parametrize(
    "names",
    [("two",), pytest.param(("one", "two"), marks=pytest.mark.drill)],
    ids=["one chain", "two chains"],
)
def test_chains_equal_their_ground_truth_at_the_price_of_one_scan(harness, installed, names):
    """All accounts, of two chains at once: counts, sums and digests agree; asked once, and never again. So does the store of transfers."""
    chains = {name: (SEEDS[name][0], list(harness.truth[name]["addresses"])) for name in names}
    installed.watch(harness.explorer, chains)
    harness.reset()
    installed.backfill()

    perfect = sum(
        max(1, ceil(counts.get(kind, 0) / 1000))
        for name in chains
        for counts in harness.truth[name]["addresses"].values()
        for kind in ("tx", "internal", "erc20")
    )
    asked = harness.stats()["requests"]
    print(f"{asked} requests, a perfect scan makes {perfect}: {asked / perfect:.3f}")  # noqa: T201 - for the record
    assert asked <= 1.2 * perfect

    with psycopg.connect(installed.database) as connection:
        for name in chains:
            agrees(connection, name, harness.truth[name], harness.folder / name / "address_days.csv")

    harness.reset()
    installed.backfill()
    routes = harness.stats()["by_route"]
    assert not [route for route in routes if route.startswith("account.")], routes

    installed.backfill(assets="transfers/*")
    with psycopg.connect(installed.database) as connection:
        for name in chains:
            store_agrees(connection, name, harness.truth[name])


def store_agrees(connection: psycopg.Connection[Any], chain: str, truth: dict[str, Any]) -> None:
    """The transfer store: by token, row by row and in the daily totals; and these have each day's transfers."""
    for query in (
        "SELECT token_address, count(*), sum(value) FROM core.transfers WHERE chain = %s GROUP BY 1",
        "SELECT token_address, sum(transfer_count), sum(volume) FROM core.transfer_daily_totals WHERE chain = %s GROUP BY 1",
    ):
        found = connection.execute(query, [chain]).fetchall()
        assert {token: {"transfers": int(n), "sum": str(total)} for token, n, total in found} == truth[
            "erc20"
        ]
    by_day = (
        "SELECT day::text, sum(transfer_count) FROM core.transfer_daily_totals WHERE chain = %s GROUP BY 1"
    )
    raw = "SELECT timezone('UTC', block_time)::date::text, count(*) FROM raw.evm_token_transfers WHERE chain = %s GROUP BY 1"
    stored = dict(connection.execute(by_day, [chain]).fetchall())
    assert stored == dict(connection.execute(raw, [chain]).fetchall())


def agrees(
    connection: psycopg.Connection[Any], chain: str, truth: dict[str, Any], address_days: Path
) -> None:
    """The three tables say of this chain what its ground truth says."""

    def rows(query: str) -> list[tuple[Any, ...]]:
        return connection.execute(query, {"chain": chain}).fetchall()

    for table, line, kind in (
        ("evm_transactions", TRANSACTIONS, "tx"),
        ("evm_internal_transactions", INTERNALS, "internal"),
    ):
        lines = rows(
            f"SELECT {line}, (block_time AT TIME ZONE 'UTC')::date::text FROM raw.{table} WHERE chain = %(chain)s"
        )
        assert len(lines) == truth["totals"][kind]
        assert digest([line for line, _ in lines]) == truth["digests"][kind]
        for day, said in truth["days"].items():
            assert digest([line for line, on in lines if on == day]) == said["digests"][kind], (kind, day)

    fees = "SELECT sum(gas_used * gas_price), sum(value) FILTER (WHERE succeeded) FROM raw.evm_transactions WHERE chain = %(chain)s"
    assert [str(total) for total in rows(fees)[0]] == [
        truth["sums_wei"]["fees"],
        truth["sums_wei"]["tx_value"],
    ]
    internal = "SELECT sum(value) FROM raw.evm_internal_transactions WHERE chain = %(chain)s AND NOT failed"
    assert str(rows(internal)[0][0]) == truth["sums_wei"]["internal_value"]

    # Explorers give no log index, so transfers are compared by token, and by account and day.
    tokens = "SELECT token_address, count(*), sum(value) FROM raw.evm_token_transfers WHERE chain = %(chain)s GROUP BY 1"
    assert {token: {"transfers": n, "sum": str(total)} for token, n, total in rows(tokens)} == truth["erc20"]
    by_account = """
        SELECT (block_time AT TIME ZONE 'UTC')::date::text, address, count(*), sum(value)
        FROM raw.evm_token_transfers,
             LATERAL (SELECT from_address UNION SELECT to_address) AS parties(address)
        WHERE chain = %(chain)s GROUP BY 1, 2"""
    with address_days.open(newline="") as file:
        expected = {
            (line["day"], line["address"]): (int(line["rows"]), line["value_sum"])
            for line in csv.DictReader(file)
            if line["kind"] == "erc20"
        }
    assert {(day, address): (n, str(total)) for day, address, n, total in rows(by_account)} == expected


def test_four_runs_at_once_share_three_requests_a_second(harness, installed):
    """The explorer never counts a fourth request in any second, summed over all our processes."""
    busiest = Counter(
        {address: counts.get("tx", 0) for address, counts in harness.truth["one"]["addresses"].items()}
    )
    watched = [address for address, _ in busiest.most_common(4)]
    installed.watch(harness.explorer, {"one": (31337, watched)}, requests_per_second=3)
    harness.reset()
    weeks = [
        ("2024-01-01", "2024-01-07"),
        ("2024-01-08", "2024-01-14"),
        ("2024-01-15", "2024-01-21"),
        ("2024-01-22", LAST_DAY),
    ]
    runs = [
        installed.start("backfill", "evm/transactions", "--here", "--from", first, "--to", last)
        for first, last in weeks
    ]
    for run in runs:
        result(run)
    stats = harness.stats()
    print(f"{stats['requests']} requests, most in one second: {stats['keys']}")  # noqa: T201 - for the record
    assert all(key["max_in_1s"] <= 3 for key in stats["keys"].values())
    with psycopg.connect(installed.database) as connection:
        [(stored,)] = connection.execute("SELECT count(*) FROM raw.evm_transactions").fetchall()
        gone = "SELECT count(*) FROM raw.evm_transactions WHERE NOT (from_address = ANY(%s) OR to_address = ANY(%s) OR contract_address = ANY(%s))"
        assert connection.execute(gone, [watched] * 3).fetchone() == (0,)
    assert stored >= max(harness.truth["one"]["addresses"][address]["tx"] for address in watched)
