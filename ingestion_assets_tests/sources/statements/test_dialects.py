"""Each dialect, by a file in it and what should be read of it; and what their writers spell in several ways."""

import io
import json
from datetime import UTC, date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion_assets.engine.stream import Rejected
from ingestion_assets.sources.statements import values
from ingestion_assets.sources.statements.dialects import DIALECTS, named, recognise
from ingestion_assets.sources.statements.dialects.sections import last_day
from ingestion_assets.sources.statements.line import Line, Unreadable
from ingestion_assets_tests.sources.statements.tiny import HEADER, fill, history, stored

FILES = Path(__file__).parent / "files"
NAMES = sorted(path.name for path in FILES.iterdir() if path.suffix != ".json")


def read(content: bytes) -> tuple[str, list[Line | Rejected]]:
    """The dialect of a file, and its records."""
    dialect = recognise(content.decode("utf-8", "replace").removeprefix("\ufeff"))
    return dialect.name, list(dialect.read(io.BytesIO(content)))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_read_as_the_golden_result_says(name):
    """Position, section, time in UTC, whose it is, and every column that says something."""
    golden = json.loads((FILES / name).with_suffix(".json").read_text(encoding="utf-8"))
    dialect, records = read((FILES / name).read_bytes())
    assert dialect == golden["dialect"]
    assert [
        {
            "line": line.position,
            "section": line.section,
            "at": line.at.isoformat(),
            "account": line.account,
            "payload": {column: value for column, value in line.payload.items() if value is not None},
        }
        for line in records
    ] == golden["lines"]


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".csv")])
def test_a_line_is_kept_verbatim(name):
    """From its first byte to the one before its line end, whatever is quoted in it."""
    physical = (FILES / name).read_bytes().decode("utf-8-sig").splitlines(keepends=True)
    _, records = read((FILES / name).read_bytes())
    for line in records:
        rest = "".join(physical[line.position - 1 :])
        assert rest.startswith(line.raw)
        assert rest[len(line.raw) :].lstrip("\r")[:1] in ("\n", "")


def test_an_element_is_kept_verbatim():
    """As it stands between its brackets."""
    text = (FILES / "ibkr_flex.xml").read_text()
    _, records = read(text.encode())
    assert all(line.raw in text and line.raw.startswith(f"<{line.section} ") for line in records)
    assert text.count("accountId=") == sum("accountId=" in line.raw for line in records)


def test_dialects_have_names_of_their_own():
    """They are part of identities."""
    assert len({dialect.name for dialect in DIALECTS}) == len(DIALECTS)
    for dialect in DIALECTS:
        assert named(dialect.name) is dialect
    with pytest.raises(Unreadable, match="there is no dialect 'x' here; there are tastytrade"):
        named("x")


@pytest.mark.parametrize("name", NAMES)
def test_no_file_is_recognised_by_two(name):
    """But the transaction history of one broker, which looks like its statement, and is asked for first."""
    head = (FILES / name).read_text(encoding="utf-8-sig")
    found = [dialect.name for dialect in DIALECTS if dialect.recognises(head)]
    assert len(found) == 1 or found == ["ibkr_transactions", "ibkr_activity"]


@pytest.mark.parametrize("change", ["Sub Type,", "Currency", "Quantity,Average Price,"])
def test_a_header_that_changed_is_not_recognised(change):
    """A column that is missing or new may change what the others mean."""
    with pytest.raises(Unreadable, match="its format is not known"):
        recognise(
            HEADER.replace(
                change,
                change.replace("Sub", "Subsub").replace("Currency", "Currency,New").replace("Quantity,", ""),
            )
        )


def test_columns_may_stand_in_any_order():
    """The key does not depend on it."""
    rows = [row.split(",") for row in (HEADER, fill(1))]
    turned = "\n".join(",".join(reversed(row)) for row in rows)
    _, [line] = read(history(fill(1)).encode())
    _, [other] = read(turned.encode())
    assert (line.key, line.payload) == (other.key, other.payload)


def test_a_line_that_is_too_short_is_rejected():
    """With the number of its cells."""
    _, [letter] = read(history("2025-01-01T00:00:00Z,Trade").encode())
    assert (letter.position, letter.reason) == (2, "2 cells below a header of 21")


def test_one_trade_in_statements_of_three_languages_is_one_line(inbox, connection):
    """With other closing prices, line ends, and names; what belongs to each statement is kept for each."""
    for name in ("ibkr_activity_en.csv", "ibkr_activity_de.csv", "ibkr_activity_ru.csv"):
        inbox.put(name, (FILES / name).read_bytes())
    assert inbox.imported().tally.rejected == 0
    query = "SELECT account, count(*) FROM raw.statement_lines WHERE section = 'Trades' AND payload->>'kind' = 'Data' AND payload->>'Symbol' = 'XYZ' GROUP BY 1"
    assert connection.execute(query).fetchall() == [("ibkr-U7654321", 1)]
    query = "SELECT count(*) FROM raw.statement_lines WHERE section = 'Statement' AND payload->>'Field Name' = 'Period'"
    assert connection.execute(query).fetchone() == (3,)


def test_two_downloads_of_the_last_365_days_share_their_events(inbox, connection):
    """Keyed on ids: other columns, another form of dates, another order."""
    text = (FILES / "ibkr_flex.xml").read_text()
    later = (
        text.replace("20240401", "20240402").replace("20250331", "20250401")
        .replace('dateTime="20250304;093000"', 'dateTime="2025-03-04"').replace(' description="X &amp; Y"', "")
        .replace("04-MAR-25", "03/04/2025").replace('rate="0.95"', 'rate="0.950"')
    )  # fmt: skip
    inbox.put("u/one.xml", text)
    inbox.put("u/two.xml", later)
    inbox.imported()
    query = "SELECT section, count(*) FROM raw.statement_lines GROUP BY 1 ORDER BY 1"
    assert connection.execute(query).fetchall() == [
        ("AccountInformation", 2),
        ("CashTransaction", 1),
        ("ConversionRate", 1),
        ("FlexStatement", 2),
        ("Trade", 2),
    ]


def test_a_file_of_several_accounts_needs_a_folder(inbox):
    """Where it is said whose it is."""
    text = (FILES / "ibkr_flex.xml").read_text()
    both = text.replace(
        "</FlexStatements>", '<FlexStatement accountId="U2" toDate="20250331"/></FlexStatements>'
    )
    inbox.put("one.xml", both)
    (said,) = inbox.look().rejected
    assert "it holds lines of 2 accounts (U2, U7654321): put it into a folder that names one" in said
    inbox.put("family/one.xml", both)
    inbox.imported()
    assert {account for (account,) in stored_accounts(inbox)} == {"family"}


def stored_accounts(inbox):
    """Of the lines in the table."""
    return inbox.store.transaction(
        lambda c: c.execute("SELECT DISTINCT account FROM raw.statement_lines").fetchall()
    )


@pytest.mark.parametrize(
    ("name", "account"),
    [
        ("ibkr_flex.xml", "ibkr-U7654321"),
        ("binance.csv", "binance-42"),
        ("kraken.csv", "kraken"),
        ("ibkr_transactions.csv", "ibkr-U---00000"),
    ],
)
def test_a_file_at_the_top_is_of_the_account_that_it_names(inbox, name, account):
    """With what no partition key can hold left out."""
    inbox.put(name, (FILES / name).read_bytes())
    inbox.now += 3600
    assert [file.account for file in inbox.look().new] == [account]


def test_an_export_without_records_is_whole_at_once(inbox, connection):
    """Nothing is wanted of it."""
    inbox.put("nothing.csv", (FILES / "kucoin_nothing.csv").read_bytes())
    assert inbox.imported().tally.batches == 0
    assert stored(connection) == []
    assert inbox.look().rejected == []


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("1,300.00", "1300"), ("-0.12", "-0.12"), ("--", None), ("-", None), ("", None), ("0.00", "0"), ("-0.00", "0"),
        ("€4,250.75", "4250.75"), ("-€812.5", "-812.5"), ("$1", "1"), ("-1.234567891E-4", "-0.0001234567891"),
        ("0.000000000000000001", "0.000000000000000001"), ("100", "100"), ("+5", "5"), ("007", "7"),
        ("123456789012345678901234567.8", "123456789012345678901234567.8"), ("12,345,678", "12345678"),
    ],
)  # fmt: skip
def test_numbers_are_exact_and_spelled_in_one_way(cell, number):
    """No digit is lost, whatever is written around them."""
    assert values.number(cell) == number


@given(st.from_regex(r"[+-]?[019]{1,4}(\.[019]{1,4})?", fullmatch=True))
def test_numbers_that_are_written_as_ours_are_spelled_like_all_others(cell):
    """Most cells are taken as they stand, but for zeros at the end."""
    assert values.number(cell) == values.plain(cell)


@pytest.mark.parametrize(
    "cell", ["1.300,00", "1,30", "abc", "1e999999", "NaN", "Infinity", "1 2x", "9" * 200, "٣"]
)
def test_what_is_no_number_is_told(cell):
    """Never guessed."""
    with pytest.raises(ValueError, match="no number"):
        values.number(cell)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("20250304", "2025-03-04"), ("2025-03-04", "2025-03-04"), ("04-MAR-25", "2025-03-04"), ("03/04/2025", "2025-03-04"),
        ("03/04/25", "2025-03-04"), ("20250304;093000", "2025-03-04T14:30:00Z"), ("20250304 09:30:00", "2025-03-04T14:30:00Z"),
        ("2025-03-04, 09:30:00", "2025-03-04T14:30:00Z"), ("2025-03-04;093000", "2025-03-04T14:30:00Z"), ("2025-03-04T09:30:00", "2025-03-04T14:30:00Z"),
        ("20250304,093000", "2025-03-04T14:30:00Z"), ("2025-07-04, 09:30:00", "2025-07-04T13:30:00Z"),
        ("2025-07-04, 09:30:00 EST", "2025-07-04T14:30:00Z"), ("2025-03-04;09:30:00 UTC", "2025-03-04T09:30:00Z"), ("--", None), ("", None),
    ],
)  # fmt: skip
def test_dates_of_flex_queries_in_all_their_forms(cell, said):
    """Times are those of New York, summer and winter, unless they say otherwise."""
    assert values.ibkr_time(cell) == said


@pytest.mark.parametrize("cell", ["20251304", "2025-02-30", "04-XXX-25", "yesterday", "20250304;250000", "1"])
def test_what_is_no_date_is_told(cell):
    """Never guessed."""
    with pytest.raises(ValueError, match="no date"):
        values.ibkr(cell)


@pytest.mark.parametrize(
    "cell", ["0001-01-01T00:00:00+2359", "9999-12-31T23:59:59-2359", "2025-02-30T00:00:00Z", "soon"]
)
def test_what_is_no_time_is_told(cell):
    """Also what has no place in the calendar once it is UTC."""
    for read_time in (values.zoned, values.in_zone(UTC)):
        with pytest.raises(ValueError, match="no time"):
            read_time(cell)


@pytest.mark.parametrize("cell", ["13/45/25", "2025-01-01", "2/30/25"])
def test_what_is_no_american_date_is_told(cell):
    """Month first, with slashes."""
    with pytest.raises(ValueError, match="no date"):
        values.american_date(cell)


def test_a_time_without_its_zone_is_told():
    """Nobody knows which it is."""
    _, [letter] = read(history(fill(1).replace("+0100", "")).encode())
    assert "a time without its zone" in letter.reason


@pytest.mark.parametrize(
    ("period", "day"),
    [
        ("February 28, 2023", date(2023, 2, 28)), ("January 1, 2024 - December 31, 2025", date(2025, 12, 31)),
        ("März 1, 2025 - März 31, 2025", date(2025, 3, 31)), ("15. Mai 2026", date(2026, 5, 15)),
        ("Январь 1, 2020 - Декабрь 31, 2020", date(2020, 12, 31)), ("2025-01-01 - 2025-01-31", date(2025, 1, 31)),
    ],
)  # fmt: skip
def test_the_period_of_a_statement_in_its_language(period, day):
    """Its last day."""
    assert last_day(period) == day


def test_a_statement_without_a_period_is_refused():
    """Its totals would belong to no day."""
    text = (
        (FILES / "ibkr_activity_en.csv").read_text(encoding="utf-8-sig").replace("Data,Period", "Data,Peryod")
    )
    with pytest.raises(Unreadable, match="tell no period"):
        read(text.encode())
