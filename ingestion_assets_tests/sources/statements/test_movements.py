"""Each booking, by the files of its dialects and what should be made of them."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from ingestion_assets.sources.statements.dialects import DIALECTS
from ingestion_assets.sources.statements.movements import BOOKINGS
from ingestion_assets.sources.statements.movements.coins import is_money
from ingestion_assets.sources.statements.movements.movement import KINDS, Movement, Unknown, shared
from ingestion_assets_tests.sources.statements.booking import movements_of, stored_lines, told
from ingestion_assets_tests.sources.statements.tiny import HEADER

FILES = Path(__file__).parent / "files"
NAMES = sorted(path.name for path in FILES.iterdir() if path.suffix in (".csv", ".xml"))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_becomes_the_movements_that_the_golden_result_says(name):
    """Kind, position, money, what is paired, and what nobody knows."""
    golden = (FILES / name).with_suffix(".movements.json")
    assert told(movements_of((FILES / name).read_bytes())) == json.loads(golden.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_no_line_is_told_twice_and_every_kind_is_known(name):
    """A part of a line is one movement."""
    found = [one for one in movements_of((FILES / name).read_bytes()) if isinstance(one, Movement)]
    assert len({(one.line.id, one.part) for one in found}) == len(found)
    assert {one.kind for one in found} <= set(KINDS)


def test_every_dialect_has_a_booking():
    """A new one is wanted in both places."""
    assert set(BOOKINGS) == {dialect.name for dialect in DIALECTS}


def test_the_money_of_a_tastytrade_history_is_that_of_its_lines():
    """Value, commissions and fees, to the last cent, however many contracts they are spread over."""
    content = (FILES / "tastytrade_positions.csv").read_bytes()
    found = movements_of(content)
    stated = sum(
        line.number(name) for line in stored_lines(content) for name in ("value", "commissions", "fees")
    )
    unknown = sum(one.line.number("value") for one in found if isinstance(one, Unknown))
    booked = sum(one.amount + one.commission + one.fee for one in found if isinstance(one, Movement))
    assert booked == stated - unknown


@pytest.mark.parametrize(
    ("total", "number"), [("-1.00", 3), ("0", 2), ("100.01", 7), ("0.000000000000000001", 3)]
)
def test_parts_of_a_sum_add_up_to_it(total, number):
    """To the last digit."""
    parts = shared(Decimal(total), number)
    assert len(parts) == number
    assert sum(parts) == Decimal(total)


@pytest.mark.parametrize(
    ("coin", "money"),
    [
        ("USD", True),
        ("ZEUR", True),
        ("USDC.M", True),
        ("LDBUSD", True),
        ("BTC", False),
        ("ETH.S", False),
        ("LDO", False),
    ],
)
def test_what_is_money(coin, money):
    """Fiat and what is held at its value, also where it is staked or saved."""
    assert is_money(coin) is money


def tastytrade(*lines: str) -> list[str]:
    """What some lines of a history tell."""
    return told(movements_of("\n".join((HEADER, *lines)).encode()))


def test_a_leg_without_its_partner_is_a_sale_of_its_own():
    """Money was got for it."""
    (found,) = tastytrade(
        "2025-06-10T13:00:00+0000,Receive Deliver,Stock Merger,SELL_TO_CLOSE,OLDX,Equity,Cash merger,800.00,200,4.00,--,0.00,,,,,,,,800.00,USD"
    )
    assert found == "2025-06-10T13:00:00 merger stock OLDX of OLDX -200 800 0 0 USD close"


def test_legs_further_apart_than_two_seconds_have_nothing_to_do_with_one_another():
    """Nor have those whose sums differ."""
    line = "2025-06-10T13:00:{:02}+0000,Receive Deliver,Symbol Change,{},{},Equity,change,{},200,4.00,--,0.00,,,,,,,,0,USD"
    for second, value in ((4, "-800.00"), (1, "-700.00")):
        found = tastytrade(
            line.format(0, "SELL_TO_CLOSE", "OLDX", "800.00"),
            line.format(second, "BUY_TO_OPEN", "NEWX", value),
        )
        assert not any("paired" in one for one in found)
    found = tastytrade(
        line.format(0, "SELL_TO_CLOSE", "OLDX", "800.00"), line.format(2, "BUY_TO_OPEN", "NEWX", "-800.00")
    )
    assert all("paired" in one for one in found)
