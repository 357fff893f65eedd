"""Real statement files, where `../shared/data` holds them; else a skip. All of them together, killed, in two orders.

What is compared is computed here from the files themselves, by other means than the dialects'.
"""

import csv
import io
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from ingestion_assets.engine.store import Store, connection_pool
from ingestion_assets.sources.statements.dialects.ibkr_flex import FLEX, NUMBERS
from ingestion_assets.sources.statements.line import Line
from ingestion_assets_tests.conftest import TEMPLATE, fresh
from ingestion_assets_tests.sources.statements.tiny import Dropped, stored

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
FAMILIES = ("tastytrade", "ibkr_csv", "ibkr_flex", "exchanges")
PROGRAM = "ingestion_assets_tests.sources.statements.tiny"

pytestmark = pytest.mark.skipif(not (DATA / "tastytrade").exists(), reason="the real files are not here")


def files(*families: str) -> list[Path]:
    """Those that brokers wrote, not what is expected of them."""
    return sorted(
        path for family in families for path in (DATA / family).iterdir() if path.suffix in (".csv", ".xml")
    )


def drop(inbox: Dropped, *families: str) -> None:
    """Each family is an account."""
    for path in files(*families):
        target = inbox.folder / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)


@pytest.fixture(scope="module")
def whole(postgres, tmp_path_factory):
    """All of them, imported in peace, once for all tests: the inbox, and a connection to look at what is stored."""
    for url in fresh(postgres, TEMPLATE):
        with connection_pool(url) as pool, psycopg.connect(url, autocommit=True) as connection:
            inbox = Dropped(
                tmp_path_factory.mktemp("statements") / "inbox", Store(pool), now=time.time() + 3600
            )
            drop(inbox, *FAMILIES)
            assert not inbox.imported(2000).failed
            yield Whole(inbox, connection, url)


@dataclass(frozen=True)
class Whole:
    """What was imported, and where."""

    inbox: Dropped
    connection: psycopg.Connection
    url: str

    def execute(self, *query):
        """Ask the database."""
        return self.connection.execute(*query)


def test_nothing_is_rejected_and_nothing_is_lost(whole):
    """Neither a file nor a line."""
    assert not (whole.inbox.folder / "rejected").exists()
    assert whole.execute("SELECT count(*) FROM ops.dead_letters").fetchone() == (0,)
    assert whole.execute("SELECT count(*) FROM ops.statement_files").fetchone() == (len(files(*FAMILIES)),)


def test_two_orders_and_any_kills_leave_identical_tables(whole, project):
    """SIGKILL at random moments, other orders and other chunks each time."""
    connection = whole.connection
    quiet = stored(connection)
    connection.execute("TRUNCATE raw.statement_lines, ops.coverage")
    chance = random.Random(11)
    for seed in range(5):
        before = connection.execute("SELECT count(*) FROM ops.coverage").fetchone()
        with subprocess.Popen(
            [sys.executable, "-m", PROGRAM, whole.url, str(whole.inbox.folder), str(seed)], cwd=project
        ) as process:
            deadline = time.monotonic() + 60
            while (
                connection.execute("SELECT count(*) FROM ops.coverage").fetchone() == before
                and process.poll() is None
            ):
                assert time.monotonic() < deadline
            time.sleep(chance.uniform(0, 0.2))
            process.kill()
    command = [sys.executable, "-m", PROGRAM, whole.url, str(whole.inbox.folder), "99"]
    assert process.returncode in (-signal.SIGKILL, 0)
    subprocess.run(command, cwd=project, check=True)
    assert stored(connection) == quiet


def rows(path: Path) -> list[dict[str, str]]:
    """A CSV by its header."""
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))


def test_tastytrade_exports_merge_to_the_larger_count_of_each_line(whole):
    """A line but for its Total; real fills that are equal are many."""
    largest: Counter[tuple[str, ...]] = Counter()
    for path in files("tastytrade"):
        largest |= Counter(
            tuple(value for name, value in row.items() if name != "Total") for row in rows(path)
        )
    assert whole.execute(
        "SELECT count(*) FROM raw.statement_lines WHERE account = 'tastytrade'"
    ).fetchone() == (largest.total(),)
    assert whole.execute(
        "SELECT count(*) FROM raw.statement_lines WHERE account = 'tastytrade' AND ordinal > 0"
    ).fetchone() == (largest.total() - len(largest),)


def test_tastytrade_totals_are_the_sum_of_their_parts(whole):
    """Value + commissions + fees: the broker rounds, so that three of the real lines are off by a cent, and none by more."""
    query = (
        "SELECT abs((payload->>'total')::numeric - (payload->>'value')::numeric"
        " - coalesce((payload->>'commissions')::numeric, 0) - coalesce((payload->>'fees')::numeric, 0)), count(*)"
        " FROM raw.statement_lines WHERE account = 'tastytrade' AND payload->>'total' IS NOT NULL GROUP BY 1"
    )
    off = dict(whole.execute(query).fetchall())
    assert off.pop(0) > 400
    assert off == {Decimal("0.01"): 3}


def amounts(connection, currency: str) -> dict[str, Decimal]:
    """The cash report of one statement: what -> how much."""
    query = (
        "SELECT payload->>'Currency Summary', (payload->>'Total')::numeric FROM raw.statement_lines"
        " WHERE account = 'ibkr_csv' AND section = 'Cash Report' AND payload->>'Currency' = %s AND payload ? 'Currency Summary'"
    )
    return dict(connection.execute(query, [currency]).fetchall())


@pytest.mark.parametrize(
    ("currency", "ending"),
    [("Base Currency Summary", "7.649460738"), ("GBP", "2.14206"), ("USD", "5.074062")],
)
def test_the_cash_of_an_activity_statement_adds_up(whole, currency, ending):
    """Start and components are the end, in each currency; and the end is what its project says."""
    said = amounts(whole, currency)
    components = sum(amount for name, amount in said.items() if not name.startswith(("Starting", "Ending")))
    assert said["Starting Cash"] + components == said["Ending Cash"] == Decimal(ending)


def test_the_transaction_history_ends_with_its_balance(whole):
    """3,027.40 GBP in 12 lines, as its project expects."""
    query = "SELECT count(*), sum((payload->>'Net Amount')::numeric) FROM raw.statement_lines WHERE dialect = 'ibkr_transactions' AND section = 'Transaction History'"
    count, balance = whole.execute(query).fetchone()
    assert count == 12
    assert round(balance, 2) == Decimal("3027.40")


def test_every_flex_element_is_a_line_once(whole):
    """Those with an id by their id, and no other element with attributes is missing."""
    ids: Counter[str] = Counter()
    for path in files("ibkr_flex"):
        of_file: Counter[str] = Counter()
        for element in ET.parse(path).iter():  # noqa: S314 - files that were looked at
            if element.tag == "Trade" and element.get("tradeID"):
                of_file[element.get("tradeID", "")] += 1
        ids |= of_file
    query = "SELECT payload->>'tradeID', count(*) FROM raw.statement_lines WHERE section = 'Trade' AND payload->>'tradeID' IS NOT NULL GROUP BY 1"
    assert Counter(dict(whole.execute(query).fetchall())) == ids


@pytest.mark.parametrize(("dialect", "lines"), [("kraken_ledgers", 8), ("coinbase", 8), ("binance", 56)])
def test_every_line_of_the_exchanges_is_there(whole, dialect, lines):
    """Also shadow rows, and a trade that is told in two currencies."""
    query = "SELECT count(*) FROM raw.statement_lines WHERE dialect = %s"
    assert whole.execute(query, [dialect]).fetchone() == (lines,)


def test_the_last_balances_of_kraken_are_what_is_expected(whole):
    """0.00 USDC and 1001.12345678 USDC.M, by the lines that have a txid; shadow rows have none."""
    query = (
        "SELECT payload->>'asset', sum((payload->>'amount')::numeric - (payload->>'fee')::numeric) FROM raw.statement_lines"
        " WHERE dialect = 'kraken_ledgers' AND payload->>'txid' IS NOT NULL GROUP BY 1"
    )
    assert dict(whole.execute(query).fetchall()) == {"USDC": 0, "USDC.M": Decimal("1001.12345678")}


def test_flex_attributes_are_what_another_project_reads_in_them():
    """Dates in all their forms, and exact numbers: 34 kinds of elements."""
    checked = 0
    for case in json.loads((DATA / "ibkr_flex/ibflex_element_cases.json").read_text()):
        text = f"<FlexQueryResponse><FlexStatement toDate='20250101'>{case['xml'][0]}</FlexStatement></FlexQueryResponse>"
        records = [line for line in FLEX.read(io.BytesIO(text.encode())) if isinstance(line, Line)]
        for what, said in case["asserts"]:
            found = re.fullmatch(r"instance\.(\w+)", what)
            date = re.fullmatch(r"datetime\.date\((\d+), (\d+), (\d+)\)", said)
            number = re.fullmatch(r"decimal\.Decimal\(['\"](.+)['\"]\)", said)
            if not found or len(records) != 2 or found[1] not in records[1].payload:
                continue
            value = records[1].payload[found[1]]
            if date:
                assert value == "{}-{:>02}-{:>02}".format(*date.groups()), (case["case"], what)
                checked += 1
            elif number and found[1] in NUMBERS:
                assert Decimal(value or 0) == Decimal(number[1]), (case["case"], what)
                checked += 1
    assert checked > 50
