"""How the history of Tastytrade becomes movements.

A line has a type, a sub type, and an action that says what it does to the position. Options are booked by contract. Money
movements are booked by what they are, which the description and the sign tell, and not always the sub type.
https://support.tastytrade.com/support/s/solutions/articles/43000435192
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from functools import lru_cache

from ingestion_assets.sources.statements.movements.movement import (
    CLOSING,
    IN,
    OPENING,
    OUT,
    Asset,
    Movement,
    Stored,
    Unknown,
)

INSTRUMENTS = {
    "Equity": "stock", "Equity Option": "option", "Future Option": "future_option", "Future": "future",
    "Cryptocurrency": "coin", "Bond": "bond",
}  # fmt: skip

# Action: the sign of the position's change, and what it does to it. Futures and some removals tell no more than a side.
ACTIONS = {
    "BUY_TO_OPEN": (1, "open"), "BUY_TO_CLOSE": (1, "close"), "SELL_TO_OPEN": (-1, "open"), "SELL_TO_CLOSE": (-1, "close"),
    "BUY": (1, None), "SELL": (-1, None),
}  # fmt: skip

REPLACED = {
    "Special Dividend": "strike_adjustment", "Symbol Change": "symbol_change", "Reverse Split": "reverse_split",
    "Forward Split": "split", "Stock Split": "split", "Stock Merger": "merger", "Merger": "merger",
}  # fmt: skip
REMOVED = {
    "Expiration": "expiration", "Assignment": "assignment", "Exercise": "exercise",
    "Cash Settled Assignment": "assignment", "Cash Settled Exercise": "exercise",
}  # fmt: skip
SIDES = frozenset({"Buy to Open", "Buy to Close", "Sell to Open", "Sell to Close", "Buy", "Sell"})
INTEREST = re.compile(r"\bINTEREST\b|^FROM \d\d/\d\d THRU \d\d/\d\d\b", re.IGNORECASE)
MONEY = {
    "Credit Interest": "interest", "Debit Interest": "interest", "Balance Adjustment": "balance_adjustment", "Fee": "fee",
    "Fully Paid Stock Lending Income": "lending_income", "Mark to Market": "settlement",
}  # fmt: skip
PAID_IN = frozenset({"Deposit", "Withdrawal", "Transfer"})  # the sign says which of them it was

NAMING = ("symbol", "underlying_symbol", "expiration_date", "strike_price", "call_or_put")
_PRICE = re.compile(r"@ ([\d,]*\.?\d+)\s*$")
MOST_OFF = Decimal("0.01")  # by which the two sides of a replacement may differ


class Tastytrade:
    """The booking."""

    dialects = ("tastytrade",)

    def movements(self, lines: Sequence[Stored]) -> Iterator[Movement | Unknown]:
        """What these lines tell."""
        replacing: list[Movement] = []
        for line in lines:
            try:
                found = _movement(line, lines)
            except ValueError as error:
                yield Unknown(line, str(error))
                continue
            if found.kind in REPLACED.values():
                replacing.append(found)
            else:
                yield from found.by_contract()
        for found in _paired(replacing):
            yield from found.by_contract()


def _movement(line: Stored, group: Sequence[Stored]) -> Movement:
    kind, sub_type = line.text("type"), line.text("sub_type")
    if kind == "Trade" and sub_type in SIDES:
        return _position(line, "trade")
    if kind == "Money Movement":
        return _money(line, sub_type)
    if kind == "Receive Deliver":
        if sub_type in REPLACED:
            return _position(line, REPLACED[sub_type])
        if sub_type in REMOVED:
            return _position(line, REMOVED[sub_type])
        if sub_type in SIDES:
            return _position(line, _delivered_by(line, group))
        if sub_type == "ACAT":
            return _position(line, "acat")
    raise ValueError(f"nobody knows what {kind} / {sub_type} is")


def _delivered_by(line: Stored, group: Sequence[Stored]) -> str:
    """Shares come from an option that was removed at the same moment."""
    ticker = line.text("symbol")
    removed = {
        REMOVED[other.text("sub_type")]
        for other in group
        if other.text("sub_type") in ("Assignment", "Exercise") and other.text("underlying_symbol") == ticker
    }
    return removed.pop() if len(removed) == 1 else "delivery"


def _position(line: Stored, kind: str) -> Movement:
    action = line.text("action")
    if not action and kind in REMOVED.values():
        action = "BUY_TO_CLOSE" if kind == "assignment" else "SELL_TO_CLOSE"
    if action not in ACTIONS:
        raise ValueError(f"nobody knows the action {action!r}")
    sign, effect = ACTIONS[action]
    value, quantity = line.number("value"), line.number("quantity")
    if not quantity:
        raise ValueError("it moves a position by nothing")
    if not line.text("currency"):
        raise ValueError("it tells no currency")
    price = _price(line)
    return Movement(
        line,
        kind,
        _asset(line, value, quantity, price),
        sign * quantity,
        price,
        line.text("currency"),
        value,
        line.number("commissions"),
        line.number("fees"),
        effect,
        CLOSING if effect == "close" else OPENING,
        description=line.payload.get("description"),
    )


def _price(line: Stored) -> Decimal | None:
    found = _PRICE.search(line.text("description"))
    return Decimal(found[1].replace(",", "")) if found else None


def _asset(line: Stored, value: Decimal, quantity: Decimal, price: Decimal | None) -> Asset:
    multiplier = line.text("multiplier")
    instrument = line.text("instrument_type")
    if instrument in ("Future Option", "Future") and price and value:
        # The column says 1. What a point is worth follows from the price of one contract.
        exact = abs(value) / (quantity * price)
        if exact == exact.to_integral_value():
            multiplier = f"{int(exact)}"
    return _known(instrument, multiplier, *map(line.text, NAMING))


@lru_cache(maxsize=16_384)
def _known(instrument: str, multiplier: str, symbol: str, underlying: str, *contract: str) -> Asset:
    expiration, strike, put_call = contract
    if instrument not in INSTRUMENTS:
        raise ValueError(f"nobody knows the instrument {instrument!r}")
    if not symbol:
        raise ValueError("it names no symbol")
    return Asset(
        INSTRUMENTS[instrument],
        symbol,
        underlying or symbol,
        symbol,
        date.fromisoformat(expiration) if expiration else None,
        Decimal(strike) if strike else None,
        put_call.lower() or None,
        Decimal(multiplier) if multiplier else None,
    )


def _money(line: Stored, sub_type: str) -> Movement:
    value = line.number("value")
    if sub_type == "Dividend":
        kind = "dividend" if value >= 0 else "withholding"
    elif sub_type in MONEY:
        kind = MONEY[sub_type]
    elif sub_type in PAID_IN and INTEREST.search(line.text("description")):
        kind = "interest"
    elif sub_type in PAID_IN:
        kind = "deposit" if value >= 0 else "withdrawal"
    else:
        raise ValueError(f"nobody knows what Money Movement / {sub_type} is")
    if not line.text("currency"):
        raise ValueError("it tells no currency")
    return Movement(
        line,
        kind,
        _of(line),
        currency=line.text("currency"),
        amount=value,
        commission=line.number("commissions"),
        fee=line.number("fees"),
        description=line.payload.get("description"),
    )


def _of(line: Stored) -> Asset | None:
    symbol = line.text("symbol")
    if not symbol or line.text("instrument_type") not in INSTRUMENTS:
        return None
    return _asset(line, Decimal(0), Decimal(1), None)


def _paired(legs: Sequence[Movement]) -> Iterator[Movement]:
    """What was closed and what was opened in its place, at the time of the first of both."""
    opened = [leg for leg in legs if leg.effect == "open"]
    for leg in legs:
        if leg.effect == "open":
            continue
        fits = [other for other in opened if _fit(leg, other)]
        if not fits:
            yield leg  # nothing came instead: what it tells of money is what was got for it
            continue
        other = min(fits, key=lambda one: (abs(one.line.at - leg.line.at), one.line.id))
        opened.remove(other)
        at, pair = min(leg.line.at, other.line.at), leg.line.id
        yield replace(leg, pair=pair, at=at, step=OUT)
        yield replace(other, pair=pair, at=at, step=IN)
    yield from opened


def _fit(closed: Movement, opened: Movement) -> bool:
    one, other = closed.asset, opened.asset
    assert one is not None  # noqa: S101 - for the type checker
    assert other is not None  # noqa: S101
    return (
        closed.kind == opened.kind
        and (closed.quantity < 0) == (opened.quantity > 0)
        and one.put_call == other.put_call
        and (one.expiration == other.expiration or closed.kind != "strike_adjustment")
        and one.key != other.key
        and abs(closed.amount + opened.amount) <= MOST_OFF
    )
