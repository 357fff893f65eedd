"""Lots and sums: first in, first out, exact, and every cent accounted for."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion_assets.sources.statements.lots import Moved, Positions, by_moment
from ingestion_assets.sources.statements.movements.movement import (
    CLOSING,
    EXACT,
    IN,
    MONEY,
    OPENING,
    OUT,
    ZERO,
)
from ingestion_assets.sources.statements.snapshots import Book

BEGIN = datetime(2025, 3, 3, tzinfo=UTC)


def moved(minute: int, quantity, cash, **other) -> Moved:
    """A movement of ABC for dollars, by default."""
    said = {
        "at": BEGIN + timedelta(minutes=minute), "rank": "", "step": OPENING, "id": f"{minute:04}", "kind": "trade",
        "instrument": "stock", "ticker": "ABC", "asset": "ABC", "strike": None, "put_call": None, "multiplier": None,
        "effect": None, "quantity": Decimal(quantity), "currency": "USD", "amount": Decimal(cash or 0), "commission": ZERO,
        "fee": ZERO, "cash": Decimal(cash or 0), "pair": None,
    }  # fmt: skip
    return Moved(**said | other)


def booked(*movements: Moved):
    """The closings, and the sums at the end."""
    positions, book, closings = Positions(), Book(), []
    with localcontext(EXACT):
        for moment in by_moment(movements):
            for one, effect in positions.apply(moment):
                book.add(one, effect)
                closings += effect.closings
    return closings, book


def accounted_for(book: Book) -> None:
    """As the table's constraint has it."""
    with localcontext(EXACT):
        for of in book.accounts.values():
            assert of.cash == (
                of.deposited - of.withdrawn + of.dividends_received + of.other_income - of.account_costs + of.realized_gains
                - of.invested + of.exchanged + of.unmatched
            )  # fmt: skip


def test_the_oldest_lot_is_sold_first_and_what_is_left_keeps_the_rest_of_its_cost():
    """A third of three that cost 10 is 3.333333333333, and the other two keep 6.666666666667."""
    closings, book = booked(moved(1, 3, -10), moved(2, 1, -9), moved(3, -1, 5), moved(4, -2, 8))
    assert [(one.lot.id, one.cost, one.realized) for one in closings] == [
        ("0001", Decimal("3.333333333333"), Decimal("1.666666666667")),
        ("0001", Decimal("6.666666666667"), Decimal("1.333333333333")),
    ]
    assert book.accounts["USD"].realized_gains == 3
    assert book.accounts["USD"].invested == 9
    assert book.tickers["ABC", "USD"].total_shares == 1
    accounted_for(book)


def test_a_sale_beyond_what_is_held_opens_a_short_lot():
    """Unless it says that it closes: then nobody knows what it closed."""
    _, book = booked(moved(1, 1, -10), moved(2, -3, 33))
    assert (book.accounts["USD"].realized_gains, book.accounts["USD"].invested) == (1, -22)
    _, book = booked(moved(1, 1, -10), moved(2, -3, 33, effect="close", step=CLOSING))
    assert (book.accounts["USD"].unmatched, book.accounts["USD"].open_lots) == (22, 0)
    accounted_for(book)


def test_a_long_and_a_short_lot_of_one_thing_live_side_by_side_where_lines_say_so():
    """To open is not to close."""
    _, book = booked(moved(1, 1, -10, effect="open"), moved(2, -1, 12, effect="open"))
    assert (book.accounts["USD"].open_lots, book.accounts["USD"].realized_gains) == (2, 0)


def test_an_expired_long_option_realizes_what_it_cost():
    """Nothing is got for it."""
    _, book = booked(
        moved(1, 1, -17, put_call="call", strike=Decimal(65), multiplier=Decimal(5), effect="open"),
        moved(2, -1, 0, kind="expiration", put_call="call", effect="close", step=CLOSING),
    )
    assert book.accounts["USD"].realized_gains == -17
    assert book.tickers["ABC", "USD"].capital_deployed == 325


def test_a_replaced_position_keeps_its_cost_and_its_place():
    """A strike that is adjusted, a reverse split: nothing is realized until what came of it is sold."""
    closings, book = booked(
        moved(1, 96, -1000),
        moved(2, 96, -1100),
        moved(3, -96, 50, kind="reverse_split", step=OUT, pair="p", effect="close"),
        moved(3, -96, 46, kind="reverse_split", step=OUT, pair="p", effect="close", id="0003b"),
        moved(
            3,
            24,
            -96,
            kind="reverse_split",
            step=IN,
            pair="p",
            asset="ABC1",
            ticker="ABC1",
            effect="open",
            id="0003c",
        ),
        moved(4, -12, 1500, asset="ABC1", ticker="ABC1"),
    )
    assert closings[-1].cost == 1000
    assert book.accounts["USD"].realized_gains == 500
    assert book.accounts["USD"].invested == 1100
    accounted_for(book)


def test_a_split_of_one_line_changes_the_number_and_not_the_cost():
    """Three for one, of what is there."""
    _, book = booked(moved(1, 100, -1000), moved(2, 200, 0, kind="split", step=IN), moved(3, -150, 900))
    assert (book.accounts["USD"].realized_gains, book.accounts["USD"].invested) == (400, 500)
    assert book.tickers["ABC", "USD"].total_shares == 150
    accounted_for(book)


def test_a_coin_takes_its_cost_from_the_money_of_its_pair():
    """Two rows for the coin, one for the money, whose fee is part of the cost."""
    coin = {"currency": None, "pair": "t", "instrument": "coin"}
    _, book = booked(
        moved(
            1, 0, -931, asset=None, ticker=None, step=MONEY, pair="t", amount=Decimal(-930), fee=Decimal(-1)
        ),
        moved(1, 1, None, id="a", **coin),
        moved(1, 2, None, id="b", **coin),
        moved(2, 0, 700, asset=None, ticker=None, step=MONEY, pair="u"),
        moved(2, -2, None, step=OUT, id="c", **coin | {"pair": "u"}),
    )
    third = Decimal("310.333333333333")
    assert book.accounts["USD"].realized_gains == 700 - third - _half_of(931 - third)
    assert book.tickers["ABC", "USD"].total_shares == 1
    assert book.accounts["USD"].fees == 1
    accounted_for(book)


def _half_of(cost: Decimal) -> Decimal:
    """Of two coins, as they are rounded."""
    return (cost / 2).quantize(Decimal("1e-12"))


def test_what_was_paid_in_one_currency_and_sold_in_another_realizes_nothing():
    """Nobody tells a rate; each currency is still accounted for."""
    _, book = booked(moved(1, 2, -20), moved(2, -1, 15, currency="EUR"))
    assert book.accounts["EUR"].exchanged == 15
    assert book.accounts["USD"].exchanged == -10
    assert book.accounts["USD"].realized_gains == 0
    accounted_for(book)


def test_what_came_without_money_has_no_cost_and_what_it_is_sold_for_is_unmatched():
    """A coin that was deposited."""
    _, book = booked(moved(1, 1, None, kind="deposit", currency=None), moved(2, -1, 15))
    assert (book.accounts["USD"].unmatched, book.accounts["USD"].realized_gains) == (15, 0)
    accounted_for(book)


def test_a_sum_of_very_large_and_very_small_numbers_is_not_rounded():
    """Eighteen decimals beside billions."""
    large, small = Decimal(123456789012345678), Decimal("0.000000000000000001")
    _, book = booked(moved(1, 1, -large), moved(2, 1, -small))
    assert book.accounts["USD"].invested == Decimal("123456789012345678.000000000000000001")
    accounted_for(book)


quantities = st.integers(-9, 9).filter(bool)
cents = st.integers(-(10**6), 10**6).map(lambda n: Decimal(n) / 100)
trades = st.tuples(
    st.sampled_from(("A", "B")),
    st.sampled_from(("USD", "EUR")),
    quantities,
    cents,
    st.sampled_from((None, "open", "close")),
)


@given(st.lists(trades, max_size=40))
def test_whatever_is_traded_every_cent_is_accounted_for_and_positions_add_up(many):
    """Also what was never opened."""
    found = [
        moved(minute, quantity, cash, asset=name, ticker=name, currency=currency, effect=effect, commission=Decimal("-0.1"),
              amount=cash + Decimal("0.1"))
        for minute, (name, currency, quantity, cash, effect) in enumerate(many)
    ]  # fmt: skip
    closings, book = booked(*found)
    accounted_for(book)
    for name in ("A", "B"):
        unknown = sum(
            (one.quantity for one in closings if one.lot is None and moved_of(found, one).asset == name), ZERO
        )
        held = sum((of.total_shares for (ticker, _), of in book.tickers.items() if ticker == name), ZERO)
        assert held == sum(one.quantity for one in found if one.asset == name) + unknown


def moved_of(found, closing):
    """The movement that closed."""
    return next(one for one in found if one.id == closing.id)


@pytest.mark.parametrize("kind", ["withdrawal", "fee", "acat"])
def test_what_leaves_without_money_takes_its_cost_along(kind):
    """It is no longer invested, and was not realized."""
    _, book = booked(moved(1, 2, -20), moved(2, -1, None, kind=kind, currency=None, step=OUT))
    assert (book.accounts["USD"].invested, book.accounts["USD"].exchanged) == (10, -10)
    accounted_for(book)
