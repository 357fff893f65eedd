"""How the report of Coinbase becomes movements: each line is a whole transaction, valued in the owner's currency.

https://help.coinbase.com/en/coinbase/taxes/reports/download-your-tax-reports
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal

from ingestion_assets.sources.statements.movements.coins import Leg, changed, coin_asset, is_money, traded
from ingestion_assets.sources.statements.movements.movement import (
    CLOSING,
    IN,
    OPENING,
    OUT,
    ZERO,
    Movement,
    Stored,
    Unknown,
)

BOUGHT = frozenset({"Buy", "Advanced Trade Buy", "Advance Trade Buy"})
SOLD = frozenset({"Sell", "Advanced Trade Sell", "Advance Trade Sell"})
KINDS = {
    "Send": "withdrawal", "Receive": "deposit", "Deposit": "deposit", "Withdrawal": "withdrawal", "Pro Deposit": "transfer",
    "Pro Withdrawal": "transfer", "Exchange Deposit": "transfer", "Exchange Withdrawal": "transfer",
    "Staking Income": "staking", "Inflation Reward": "staking", "Rewards Income": "reward", "Reward Income": "reward",
    "Learning Reward": "reward", "Coinbase Earn": "reward", "Incentives Rewards Payout": "reward", "Subscription Rebates (24 Hours)": "reward",
}  # fmt: skip
OUTGOING = frozenset({"Send", "Withdrawal", "Pro Deposit", "Exchange Deposit"})

_CONVERTED = re.compile(r"Converted ([\d.,]+) (\S+) to ([\d.,]+) (\S+)")


class Coinbase:
    """The booking."""

    dialects = ("coinbase",)

    def movements(self, lines: Sequence[Stored]) -> Iterator[Movement | Unknown]:
        """What these lines tell. One transaction may be told in several currencies: the first by name counts."""
        told: dict[tuple[str, ...], Stored] = {}
        for line in lines:
            key = (line.text("id") or line.id, line.text("type"), line.text("asset"), line.text("quantity"))
            before = told.get(key)
            if before is None or line.text("price_currency") < before.text("price_currency"):
                told[key] = line
        found: list[Movement] = []
        for line in told.values():
            try:
                found += _movements(line)
            except ValueError as error:
                yield Unknown(line, str(error))
        yield from _renamed(found)


def _movements(line: Stored) -> Iterator[Movement]:
    said, coin, currency = line.text("type"), line.text("asset"), line.text("price_currency")
    quantity = line.number("quantity")
    if said in BOUGHT or said in SOLD:
        sign = 1 if said in BOUGHT else -1
        if not currency:
            raise ValueError("it tells no currency")
        yield Movement(
            line, "trade", coin_asset(coin), sign * abs(quantity), line.number("price"), currency,
            -sign * abs(line.number("subtotal")), fee=-abs(line.number("fees")), step=OPENING if sign > 0 else CLOSING,
            description=line.payload.get("notes"),
        )  # fmt: skip
    elif said == "Convert":
        yield from _converted(line, currency)
    elif said in KINDS:
        amount = -abs(quantity) if said in OUTGOING else quantity
        yield from changed(Leg(line, coin, amount), KINDS[said], description=line.payload.get("notes"))
    else:
        raise ValueError(f"nobody knows the transaction type {said!r}")


def _converted(line: Stored, currency: str) -> Iterator[Movement]:
    """A coin for another, both at the value that the line tells."""
    found = _CONVERTED.search(line.text("notes"))
    if not found:
        raise ValueError(f"it does not say what was converted to what: {line.text('notes')[:80]!r}")
    if is_money(found[2]) or is_money(found[4]):
        yield from traded(
            [Leg(line, found[2], -_amount(found[1])), Leg(line, found[4], _amount(found[3]), 1)], line.id
        )
        return
    value = abs(line.number("subtotal"))
    for part, (amount, coin, sign) in enumerate(((found[1], found[2], -1), (found[3], found[4], 1))):
        yield Movement(
            line, "trade", coin_asset(coin), sign * _amount(amount), currency=currency or None,
            amount=-sign * value if currency else ZERO, step=CLOSING if sign < 0 else OPENING, part=part, pair=line.id,
            description=line.payload.get("notes"),
        )  # fmt: skip


def _amount(written: str) -> Decimal:
    return Decimal(written.replace(",", "").rstrip("."))


def _renamed(found: Sequence[Movement]) -> Iterator[Movement]:
    """As much of one coin sent as of another received in the same moment: it has a new name, and keeps its cost."""
    received = [one for one in found if one.kind == "deposit" and one.asset is not None]
    for one in found:
        if one in received:
            continue
        other = next(
            (
                other
                for other in received
                if one.kind == "withdrawal" and other.quantity == -one.quantity and other.line.at == one.line.at and other.asset != one.asset
            ),
            None,
        )  # fmt: skip
        if other is None:
            yield one
            continue
        received.remove(other)
        for half, step in ((one, OUT), (other, IN)):
            yield replace(half, kind="symbol_change", pair=one.line.id, step=step)
    yield from received
