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
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from ingestion_assets.engine.store import Store, connection_pool
from ingestion_assets.sources.statements.dialects.ibkr_flex import FLEX, NUMBERS
from ingestion_assets.sources.statements.line import Line
from ingestion_assets.sources.statements.proof import proofs
from ingestion_assets_tests.conftest import TEMPLATE, fresh
from ingestion_assets_tests.sources.statements.tiny import Dropped, everything

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
            inbox.derived(2000)
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


RESET = (
    "TRUNCATE raw.statement_lines, core.movements, core.lots, core.closings, core.ticker_snapshots, core.broker_snapshots,"
    " ops.coverage, ops.dead_letters, ops.statement_chunks, ops.statement_changes, ops.statement_counters, ops.statement_followers"
)


@pytest.mark.parametrize("order", [11, 12])
def test_any_order_and_any_kills_leave_identical_tables(whole, project, order):
    """Lines, movements, lots and snapshots: SIGKILL at random moments, another order and other chunks each time."""
    connection = whole.connection
    quiet = everything(connection)
    assert len(quiet["movements"]) > 1_000
    connection.execute(RESET)
    chance = random.Random(order)
    for seed in range(order, order + 4):
        before = marks(connection)
        with subprocess.Popen(
            [sys.executable, "-m", PROGRAM, whole.url, str(whole.inbox.folder), str(seed)], cwd=project
        ) as process:
            deadline = time.monotonic() + 60
            while marks(connection) == before and process.poll() is None:
                assert time.monotonic() < deadline
            time.sleep(chance.uniform(0, 0.6))
            process.kill()
        assert process.returncode in (-signal.SIGKILL, 0)
    subprocess.run(
        [sys.executable, "-m", PROGRAM, whole.url, str(whole.inbox.folder), str(order + 99)],
        cwd=project,
        check=True,
    )
    again = everything(connection)
    for name, rows_of in quiet.items():
        assert again[name] == rows_of, name


def marks(connection) -> tuple:
    """What changes whenever anything is committed."""
    return connection.execute("SELECT count(*), sum(hi - lo), max(updated_at) FROM ops.coverage").fetchone()


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


@pytest.fixture(scope="module")
def apart(postgres, tmp_path_factory):
    """Each file an account of its own, named like the file."""
    for url in fresh(postgres, TEMPLATE):
        with connection_pool(url) as pool, psycopg.connect(url, autocommit=True) as connection:
            inbox = Dropped(tmp_path_factory.mktemp("apart") / "inbox", Store(pool), now=time.time() + 3600)
            for path in files(*FAMILIES):
                target = inbox.folder / path.stem / path.name
                target.parent.mkdir(parents=True)
                shutil.copy2(path, target)
            assert not inbox.imported(2000).failed
            inbox.derived(2000)
            yield Whole(inbox, connection, url)


TRUSTED = {
    "OptionsIncome": "options_income", "Commissions": "commissions", "Fees": "fees", "MovementCounter": "movement_counter",
    "Deposited": "deposited", "DividendsReceived": "dividends_received",
}  # fmt: skip
EXPECTED = {
    "futopt_broker": "FutureOptions", "mpw_broker": "MPWImportTest", "tsll_broker": "TsllImportTest",
    "pfizer_all": "PfizerImportTest", "options_all": "TastytradeOptionsTest",
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_broker_snapshots_are_what_their_project_asserts_on_every_date(apart, name):
    """Of its columns those that are to be trusted."""
    query = f"SELECT {', '.join(TRUSTED.values())} FROM core.broker_snapshots WHERE account = %s AND day <= %s ORDER BY day DESC LIMIT 1"
    checked = 0
    for expected in json.loads((DATA / f"tastytrade/expected/{name}.json").read_text()):
        if expected["_section"] != "getBrokerAccountSnapshots":
            continue
        day = "2100-01-01" if expected["Date"] == "TODAY" else expected["Date"]
        found = apart.execute(query, [EXPECTED[name], day]).fetchone()
        for column, value in zip(TRUSTED, found, strict=True):
            assert abs(Decimal(expected[column]) - value) < Decimal("1e-20"), (expected["Date"], column)
            checked += 1
    assert checked >= 18


def fifo(path: Path) -> tuple[Decimal, Decimal, Decimal]:
    """Realized, what open lots cost, and cash, by the plainest program: one lot for each contract or share."""
    held: dict[tuple[str, bool], deque[Decimal]] = defaultdict(deque)
    carried: list[Decimal] = []
    realized = cash = Decimal(0)
    found = sorted(
        rows(path), key=lambda row: (datetime.fromisoformat(row["Date"]), "CLOSE" in row["Action"])
    )
    specials = [row for row in found if row["Sub Type"] == "Special Dividend"]
    for row in found:
        money = sum(
            Decimal(row[name].replace(",", "").replace("--", "0"))
            for name in ("Value", "Commissions", "Fees")
        )
        cash += money
        if row["Type"] == "Money Movement" or row in specials:
            if row in specials and "CLOSE" in row["Action"]:
                carried = [
                    held[row["Symbol"], row["Action"][0] == "S"].popleft()
                    for _ in range(int(row["Quantity"]))
                ]
                partner = next(
                    one for one in specials if one["Date"] == row["Date"] and "OPEN" in one["Action"]
                )
                held[partner["Symbol"], row["Action"][0] == "S"].extend(carried)
            continue
        units = int(Decimal(row["Quantity"].replace(",", "")))
        for _ in range(units):
            if "OPEN" in row["Action"]:
                held[row["Symbol"], row["Action"][0] == "B"].append(-money / units)
            else:
                realized += money / units - held[row["Symbol"], row["Action"][0] == "S"].popleft()
    return realized, sum((sum(lots) for lots in held.values()), Decimal(0)), cash


@pytest.mark.parametrize(
    "name", ["FutureOptions", "MPWImportTest", "PfizerImportTest", "TsllImportTest", "TastytradeOptionsTest"]
)
def test_realized_gains_and_open_costs_are_those_of_a_plain_fifo(apart, name):
    """To a millionth of a cent; and the cash is the sum of Value, Commissions and Fees, exactly."""
    found = apart.execute(
        "SELECT realized_gains, invested, cash FROM core.broker_snapshots WHERE account = %s ORDER BY day DESC LIMIT 1",
        [name],
    ).fetchone()
    realized, invested, cash = fifo(DATA / "tastytrade" / f"{name}.csv")
    assert abs(found[0] - realized) < Decimal("1e-8")
    assert abs(found[1] - invested) < Decimal("1e-8")
    assert found[2] == cash


@pytest.mark.parametrize(
    ("name", "ticker"),
    [("mpw_ticker", "MPW"), ("tsll_ticker", "TSLL"), ("pfizer_all", "PFE"), ("options_all", "SOFI")],
)
def test_ticker_snapshots_are_what_their_project_asserts_on_every_date(apart, name, ticker):
    """Shares, incomes and costs, which do not depend on what it makes of lots."""
    columns = {
        "TotalShares": "total_shares", "Dividends": "dividends", "DividendTaxes": "dividend_taxes", "Options": "options",
        "TotalIncomes": "total_incomes", "Commissions": "commissions", "Fees": "fees",
    }  # fmt: skip
    account = EXPECTED.get(name) or EXPECTED[name.replace("ticker", "broker")]
    query = f"SELECT {', '.join(columns.values())} FROM core.ticker_snapshots WHERE account = %s AND ticker = %s AND day <= %s ORDER BY day DESC LIMIT 1"
    checked = 0
    for expected in json.loads((DATA / f"tastytrade/expected/{name}.json").read_text()):
        if expected["_section"] != f"get{ticker}Snapshots":
            continue
        day = "2100-01-01" if expected["Date"] == "TODAY" else expected["Date"]
        found = apart.execute(query, [account, ticker, day]).fetchone()
        for column, value in zip(columns, found, strict=True):
            assert abs(Decimal(expected[column]) - value) < Decimal("0.005"), (expected["Date"], column)
            checked += 1
    assert checked > 20


def test_nothing_that_happened_is_unknown(whole):
    """Each line of the real files becomes a movement, or tells of none."""
    assert whole.execute("SELECT reason FROM ops.dead_letters WHERE settled_at IS NULL").fetchall() == []


@pytest.mark.parametrize(("currency", "ending"), [("GBP", "2.14206"), ("USD", "5.074062")])
def test_the_movements_of_an_activity_statement_end_with_its_cash(apart, currency, ending):
    """Also in the currency in which the commission was charged, and not the one it is listed in."""
    query = "SELECT sum(cash) FROM core.movements WHERE account = 'InitialImport' AND currency = %s"
    assert apart.execute(query, [currency]).fetchone() == (Decimal(ending),)


def test_the_movements_of_the_exchanges_end_with_their_balances(apart):
    """Kraken's as its project expects, Binance's as the lines add up."""
    query = "SELECT currency, sum(cash) FROM core.movements WHERE account = %s AND currency IS NOT NULL GROUP BY 1"
    kraken = dict(apart.execute(query, ["tests_importers_kraken_ledgers"]).fetchall())
    assert kraken == {"USDC": 0, "USDC.M": Decimal("1001.12345678")}
    binance = dict(apart.execute(query, ["tests_importers_binance_binance"]).fetchall())
    binance |= dict(
        apart.execute(
            "SELECT symbol, sum(quantity) FROM core.movements WHERE account = 'tests_importers_binance_binance' AND instrument = 'coin'"
            " AND symbol NOT LIKE '%%(earn)' GROUP BY 1"
        ).fetchall()
    )
    stated: defaultdict[str, Decimal] = defaultdict(Decimal)
    for row in rows(DATA / "exchanges/tests_importers_binance_binance.csv"):
        stated[row["Coin"]] += Decimal(row["Change"])
    assert binance == stated


def test_the_transaction_history_ends_with_its_portfolio(apart):
    """2 CNX1 at 2,007.77 less half of the commission, as its project's rules have it; and 3,027.40 GBP."""
    account = "tests_interactive_brokers_data_test_basic"
    cash = apart.execute("SELECT sum(cash) FROM core.movements WHERE account = %s", [account]).fetchone()[0]
    assert round(cash, 2) == Decimal("3027.40")
    shares, realized, dividends, taxes = apart.execute(
        "SELECT total_shares, realized, (SELECT sum(dividends) FROM core.ticker_snapshots WHERE account = %s AND ticker <> 'CNX1'),"
        " (SELECT sum(dividend_taxes) FROM core.ticker_snapshots WHERE account = %s AND ticker <> 'CNX1' AND day >= '2025-10-01')"
        " FROM core.ticker_snapshots WHERE account = %s AND ticker = 'CNX1' ORDER BY day DESC LIMIT 1",
        [account, account, account],
    ).fetchone()
    assert (shares, dividends, taxes) == (2, 21, Decimal("3.15"))
    assert realized == Decimal(1999) - Decimal(4003) / 2


COUNTED = {
    "dividend": ("DIVIDENDS",), "withholding": ("TAXES", "TAX_REFUND"), "deposit": ("DEPOSIT",), "withdrawal": ("REMOVAL",),
    "interest": ("INTEREST", "INTEREST_CHARGE"), "fee": ("FEES", "FEES_REFUND"),
}  # fmt: skip


@pytest.mark.parametrize("number", [1, 3, 5, 7, 9, 11, 15, 19, 21, 23, 25, 27, 29])
def test_flex_queries_become_what_another_project_makes_of_them(apart, number):
    """As many trades and account transactions of each kind as it counts, with the same sums."""
    name = f"testIBFlexStatementFile{number:02}"
    case = next(
        one for one in json.loads((DATA / "ibkr_flex/expected.json").read_text()) if one["test"] == name
    )
    kinds = dict(
        apart.execute(
            "SELECT kind, count(*) FROM core.movements WHERE account = %s AND kind <> 'trade' GROUP BY 1",
            [name],
        ).fetchall()
    )
    trades = apart.execute(
        "SELECT count(DISTINCT line) FROM core.movements WHERE account = %s AND kind = 'trade'", [name]
    ).fetchone()[0]
    sold_for_cash = apart.execute(
        "SELECT count(*) FROM core.movements WHERE account = %s AND kind = 'merger' AND cash > 0", [name]
    ).fetchone()[0]
    counts = case["counts"]
    buys = counts.get("buySellTransactions", counts.get("countBuySell"))
    corporate = kinds.get("merger", 0) + kinds.get("reverse_split", 0) - sold_for_cash
    assert trades + sold_for_cash == buys
    others = sum(kinds.get(kind, 0) for kind in COUNTED)
    assert others + corporate == counts.get("accountTransactions", counts.get("countAccountTransactions"))


def test_every_file_proves_itself_but_those_that_hold_less_than_they_state(apart):
    """What does not agree is told, and is what was cut out of the files, or belongs to another one."""
    found = proofs(apart.inbox.store, apart.inbox.inbox.registry.files())
    wrong = {(proof.account, said.split(":")[0]) for proof in found for said in proof.mismatches()}
    assert wrong == {
        ("ibkr_multi_currency_sample", "Open Positions, AAPL"),  # bought in the statement of another day
        ("ibkr_multi_currency_sample", "Open Positions, MSFT"),
        ("ibkr_non_trading_day_sample", "Open Positions, AAPL"),
        ("ibkr_non_trading_day_sample", "Open Positions, MSFT"),
        ("testIBFlexStatementFile21", "CashReport, EUR"),  # most of its trades were taken out
        ("testIBFlexStatementFile21", "CashReport, USD"),
        ("tests_interactive_brokers_data_test_basic", "Summary, GBP"),  # a made-up summary
    }
    assert sum(len(proof.sums) for proof in found) > 50
