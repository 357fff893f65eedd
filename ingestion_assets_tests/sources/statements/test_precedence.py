"""Several formats of one account: the richest file tells what it covers, and the others the rest."""

import itertools
import random
from datetime import date
from decimal import Decimal

import pytest

from ingestion_assets.engine.errors import Transient
from ingestion_assets.engine.store import Store, connection_pool
from ingestion_assets.engine.stream import Done
from ingestion_assets.sources.statements import topics
from ingestion_assets.sources.statements.derived_assets import missing
from ingestion_assets.sources.statements.movement_stream import AccountMovements, seconds_of
from ingestion_assets.sources.statements.movements import ibkr_activity, ibkr_flex, ibkr_transactions
from ingestion_assets.sources.statements.precedence import superseded
from ingestion_assets.sources.statements.proof import proofs
from ingestion_assets_tests.engine.things import Countdown, Death, SteppingPool, die
from ingestion_assets_tests.sources.statements.tiny import DERIVED, Dropped, everything

# March in an activity statement: two trades, a dividend, a deposit, and a refund of tax for a day of the year before.
ACTIVITY = """Statement,Header,Field Name,Field Value
Statement,Data,Title,Activity Statement
Statement,Data,Period,"March 1, 2025 - March 31, 2025"
Account Information,Header,Field Name,Field Value
Account Information,Data,Base Currency,USD
Cash Report,Header,Currency Summary,Currency,Total,Securities,Futures,
Cash Report,Data,Starting Cash,USD,1000,1000,0,
Cash Report,Data,Commissions,USD,-2,-2,0,
Cash Report,Data,Deposits,USD,50,50,0,
Cash Report,Data,Dividends,USD,7,7,0,
Cash Report,Data,Withholding Tax,USD,3,3,0,
Cash Report,Data,Trades (Purchase),USD,-300,-300,0,
Cash Report,Data,Ending Cash,USD,758,758,0,
Trades,Header,DataDiscriminator,Asset Category,Currency,Symbol,Date/Time,Quantity,T. Price,C. Price,Proceeds,Comm/Fee,Basis,Realized P/L,MTM P/L,Code
Trades,Data,Order,Stocks,USD,XYZ,"2025-03-04, 09:30:00",10,10,10,-100,-1,101,0,0,O
Trades,Data,Order,Stocks,USD,XYZ,"2025-03-20, 09:30:00",20,10,10,-200,-1,201,0,0,O
Deposits & Withdrawals,Header,Currency,Settle Date,Description,Amount
Deposits & Withdrawals,Data,USD,2025-03-18,Electronic Fund Transfer,50
Dividends,Header,Currency,Date,Description,Amount
Dividends,Data,USD,2025-03-19,XYZ(US0000000001) Cash Dividend,7
Withholding Tax,Header,Currency,Date,Description,Amount,Code
Withholding Tax,Data,USD,2024-12-15,XYZ(US0000000001) Cash Dividend - US Tax,3,
"""
TRADE = (
    '<Trade currency="USD" assetCategory="STK" conid="11" symbol="XYZ" tradeID="{id}" dateTime="{day};093000" tradeDate="{day}"'
    ' quantity="{quantity}" tradePrice="10" proceeds="{proceeds}" netCash="{net}" taxes="0" ibCommission="-1"'
    ' ibCommissionCurrency="USD" openCloseIndicator="O" notes="" levelOfDetail="EXECUTION" />'
)
TRADES = TRADE.format(id=2, day="20250320", quantity=20, proceeds=-200, net=-201)
EARLY = TRADE.format(id=1, day="20250304", quantity=10, proceeds=-100, net=-101)
CASH = (
    '<CashTransaction currency="USD" conid="11" symbol="XYZ" assetCategory="STK" type="Dividends" transactionID="31"'
    ' dateTime="20250319" amount="7" description="dividend" levelOfDetail="DETAIL" />'
)
REFUND = (
    '<CashTransaction currency="USD" conid="11" symbol="XYZ" assetCategory="STK" type="Withholding Tax" transactionID="32"'
    ' dateTime="20241215" reportDate="20250325" amount="3" description="tax" levelOfDetail="DETAIL" />'
)
HISTORY = """Statement,Header,Field Name,Field Value
Statement,Data,Title,Transaction History
Statement,Data,Period,"March 1, 2025 - April 30, 2025"
Summary,Header,Field Name,Field Value
Summary,Data,Base Currency,USD
Transaction History,Header,Date,Account,Description,Transaction Type,Symbol,Quantity,Price,Gross Amount ,Commission,Net Amount
Transaction History,Data,2025-03-04,U***00000,XYZ CORP,Buy,XYZ,10,10,-100,-1,-101
Transaction History,Data,2025-04-02,U***00000,XYZ CORP,Buy,XYZ,30,10,-300,-1,-301
"""


def flex(*elements: str, first: str = "20250315", last: str = "20250415") -> str:
    """A query of one period."""
    return (
        f'<FlexQueryResponse queryName="q" type="AF"><FlexStatements count="1"><FlexStatement accountId="U1" fromDate="{first}"'
        f' toDate="{last}" whenGenerated="{last};041130">{"".join(elements)}</FlexStatement></FlexStatements></FlexQueryResponse>'
    )


FILES = {
    "activity.csv": ACTIVITY, "history.csv": HISTORY, "trades.xml": flex(TRADES), "cash.xml": flex(CASH, REFUND),
    "longer.xml": flex(EARLY, TRADES, first="20250301"),
}  # fmt: skip

WIDE = flex(TRADES, first="20250301")


def read(inbox: Dropped, *names: str, chunk: int = 1000) -> None:
    """One file after another, each of them derived before the next one comes."""
    for name in names:
        inbox.put(f"a/{name}", FILES[name])
        inbox.imported(chunk)
        inbox.derived(chunk)


def told(connection) -> list[tuple]:
    """Day, kind, cash and dialect of each movement."""
    return connection.execute(
        "SELECT m.at::date::text, m.kind, m.cash, l.dialect FROM core.movements AS m JOIN raw.statement_lines AS l"
        " ON l.account = m.account AND l.at = m.line_at AND l.id = m.line ORDER BY 1, 2, 3"
    ).fetchall()


def cash(connection) -> Decimal:
    """The sum of all movements."""
    return connection.execute("SELECT sum(cash) FROM core.movements").fetchone()[0]


def test_a_query_tells_its_period_and_its_sections_and_the_statement_the_rest(inbox, connection):
    """A trade before the period, and what the query was not asked for, stay with the CSV."""
    read(inbox, "activity.csv")
    assert cash(connection) == -242
    read(inbox, "trades.xml")
    assert told(connection) == [
        ("2024-12-15", "withholding", 3, "ibkr_activity"),
        ("2025-03-04", "trade", -101, "ibkr_activity"),
        ("2025-03-18", "deposit", 50, "ibkr_activity"),
        ("2025-03-19", "dividend", 7, "ibkr_activity"),
        ("2025-03-20", "trade", -201, "ibkr_flex"),
    ]
    read(inbox, "cash.xml")
    assert [(day, kind) for day, kind, _, dialect in told(connection) if dialect == "ibkr_activity"] == [
        ("2025-03-04", "trade"),
        ("2025-03-18", "deposit"),  # the query holds no deposits
    ]
    assert cash(connection) == -242
    assert connection.execute("SELECT count(*) FROM ops.dead_letters").fetchone() == (0,)
    snapshot = "SELECT cash FROM core.broker_snapshots ORDER BY day DESC LIMIT 1"
    assert connection.execute(snapshot).fetchone() == (-242,)


def test_any_order_of_all_formats_leaves_the_same_tables(inbox, connection):
    """In the last one the statement gives way to both queries, and the history to all."""
    orders = random.Random(7).sample(list(itertools.permutations(FILES)), 4)
    found = []
    for order in orders:
        connection.execute(
            "TRUNCATE raw.statement_lines, ops.coverage, ops.dead_letters, ops.statement_chunks, ops.statement_counters,"
            " ops.statement_changes, ops.statement_followers, ops.statement_files, ops.statement_inbox, ops.statement_covers, "
            + ", ".join(DERIVED.values())
        )
        for path in inbox.folder.rglob("*.*"):
            path.unlink()
        read(inbox, *order, chunk=3)
        found.append(everything(connection))
    assert all(one == found[0] for one in found)
    # The history alone tells of April, but the queries cover it: they say that there was no trade.
    assert cash(connection) == -242
    assert {dialect for *_, dialect in told(connection)} == {"ibkr_activity", "ibkr_flex"}


@pytest.mark.parametrize("gone", ["trades.xml", "cash.xml"])
def test_what_gave_way_comes_back_when_the_richer_file_is_taken_away(inbox, connection, gone):
    """And nothing stays of the other one."""
    read(inbox, "activity.csv")
    before = told(connection)
    read(inbox, gone)
    assert told(connection) != before
    connection.execute("DELETE FROM raw.statement_lines WHERE dialect = 'ibkr_flex'")
    inbox.derived()
    assert told(connection) == before


def test_only_days_on_which_it_matters_are_derived_again(inbox, connection):
    """A second query of the same days brings none."""
    read(inbox, "activity.csv", "trades.xml")
    inbox.put("a/again.xml", flex(TRADES).replace("041130", "051130"))
    inbox.imported()
    connection.execute("UPDATE core.movements SET description = 'untouched' WHERE kind = 'trade'")
    inbox.derived()
    untouched = "SELECT at::date::text FROM core.movements WHERE description = 'untouched' ORDER BY 1"
    assert connection.execute(untouched).fetchall() == [("2025-03-04",), ("2025-03-20",)]


def test_a_file_without_new_lines_can_cover_more(inbox, connection):
    """Its statement of a longer period is all that is new; the trade in it is known."""
    read(inbox, "activity.csv", "trades.xml")
    inbox.put("a/wide.xml", WIDE)
    inbox.imported()
    inbox.derived()
    assert [day for day, kind, *_ in told(connection) if kind == "trade"] == ["2025-03-20"]


def test_what_was_read_by_an_older_precedence_is_not_committed(inbox):
    """Although not one line of its days has changed."""
    read(inbox, "activity.csv", "trades.xml")
    days = (seconds_of(date(2025, 3, 1), date(2025, 3, 10)),)
    stream = AccountMovements("a", inbox.store, days)
    (batch,) = stream.read({stream.keys[0]: Done()})
    writer = inbox.store.open(stream)
    inbox.put("a/wide.xml", WIDE)
    inbox.imported()
    assert missing(inbox.store, stream)
    with pytest.raises(Transient, match="not true any more"):
        writer.commit(batch)


def test_killed_anywhere_the_tables_are_those_of_one_run(inbox, database_url, connection):
    """Also between the note of what is covered and what follows from it."""
    read(inbox, "activity.csv")
    for name in ("trades.xml", "cash.xml", "history.csv"):
        inbox.put(f"a/{name}", FILES[name])
    inbox.imported(1000)
    chance, deaths = random.Random(3), 0
    while deaths < 30:
        countdown = Countdown(chance.randint(5, 60), die)
        with connection_pool(database_url) as pool:
            mortal = Dropped(inbox.folder, Store(SteppingPool(pool, countdown)), inbox.config, inbox.now)
            try:
                mortal.derived(2, ["a"])
                break
            except Death:
                deaths += 1
    inbox.derived()
    assert deaths
    killed = everything(connection)
    connection.execute("DELETE FROM ops.coverage WHERE stream NOT LIKE 'statements/lines/%'")
    inbox.derived()
    assert everything(connection) == killed
    assert cash(connection) == -242


def test_both_files_prove_themselves_and_the_proof_tells_how_many_lines_give_way(inbox):
    """By what they would be."""
    read(inbox, "activity.csv", "trades.xml", "cash.xml")
    found = {proof.file: proof for proof in proofs(inbox.store, inbox.inbox.registry.files())}
    csv = found["a/activity.csv"]
    assert [one.agrees for one in csv.sums if one.section == "Cash Report"] == [True]
    assert dict(csv.superseded) == {
        "a/trades.xml": 1,
        "a/cash.xml": 1,
        "lines of the same day and amount": 1,
    }
    assert csv.note is not None
    assert csv.note.startswith("3 lines give way: ")
    assert not list(found["a/trades.xml"].mismatches())
    assert sum(superseded(inbox.store, "a").values()) == 2


def test_nothing_is_noted_of_an_account_in_one_format(inbox, connection):
    """Nor of two formats that lie in folders of their own."""
    inbox.put("a/trades.xml", FILES["trades.xml"])
    inbox.put("b/activity.csv", FILES["activity.csv"])
    inbox.imported()
    inbox.derived()
    assert connection.execute("SELECT count(*) FROM ops.statement_covers").fetchone() == (0,)
    assert cash(connection) == -242 - 201


def test_whatever_becomes_a_movement_has_a_topic():
    """But for the two types of cash transactions that no other format tells."""
    assert set(topics.OF_SECTION) == set(ibkr_activity.SECTIONS)
    assert set(topics.OF_TRANSACTION) == {*ibkr_transactions.POSITIONS, *ibkr_transactions.CASH}
    assert set(ibkr_flex.CASH) - set(topics.OF_TYPE) == {"Price Adjustments", "Other Income"}
