"""What the three formats of Interactive Brokers share: kinds of assets, corporate actions, exchanges of currency.

https://www.ibkrguides.com/reportingreference/reportguide/corporateactionsfq.htm
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
    MONEY,
    OPENING,
    OUT,
    ZERO,
    Asset,
    Movement,
    Stored,
)

# What a description calls it, the surest first. What is exchanged for something else keeps its cost.
ACTIONS = (
    (re.compile(r"\bREVERSE SPLIT\b|\bSPLIT 1 FOR \d{2,}", re.IGNORECASE), "reverse_split"),
    (re.compile(r"\bSPLIT\b|\bSTOCK DIVIDEND\b", re.IGNORECASE), "split"),
    (re.compile(r"\bSPIN-?OFF\b", re.IGNORECASE), "spin_off"),
    (re.compile(r"\b(?:MERGED|MERGER|ACQUISITION|TENDERED|EXCHANGE OFFER)\b", re.IGNORECASE), "merger"),
    (re.compile(r"\b(?:CUSIP|ISIN|SYMBOL)\b.*\bCHANGE|\bNAME CHANGE\b", re.IGNORECASE), "symbol_change"),
    (re.compile(r"\bADJUSTMENT\b|\bADJUSTED\b", re.IGNORECASE), "strike_adjustment"),
    (re.compile(r"\b(?:DELISTED|BANKRUPTCY|WORTHLESS)\b", re.IGNORECASE), "expiration"),
)
_LEG = re.compile(r"\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\)\s*$")  # (GCM, GRAN COLOMBIA GOLD CORP, CA38501D5010)
_OPTION = re.compile(r"(\S+) (\d{2})([A-Z]{3})(\d{2}) (\d+(?:\.\d+)?) ([PC])")  # SPY 20JAN23 400 P
_OCC = re.compile(r"(\S{1,6}) *(\d{2})(\d{2})(\d{2})([PC])(\d{5})(\d{3})")  # FB    180921C00200000
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_CODES = (("A", "assignment"), ("Ex", "exercise"), ("GEA", "exercise"), ("Ep", "expiration"))

WITHHOLDING_ON_INTEREST = re.compile(r"\bINTEREST\b", re.IGNORECASE)


def action_of(description: str) -> str:
    """Which kind of corporate action a description tells of.

    Raises:
        ValueError: nobody knows it.
    """
    for pattern, kind in ACTIONS:
        if pattern.search(description):
            return kind
    raise ValueError(f"nobody knows this corporate action: {description[:80]!r}")


def leg_of(description: str) -> tuple[str, str, str]:
    """A corporate action, and whose leg a line is: what all legs say, the symbol, and the security's id."""
    found = _LEG.search(description)
    if not found:
        return description, description.partition("(")[0].strip(), ""
    parts = [part.strip() for part in found[1].split(", ")]
    return description[: found.start()], parts[0], parts[-1] if len(parts) > 1 else ""


def kind_of(codes: str, otherwise: str = "trade") -> str:
    """What a trade is by its codes: A;C · Ex;O · C;Ep."""
    said = {code.strip() for code in codes.split(";")}
    return next((kind for code, kind in _CODES if code in said), otherwise)


def effect_of(codes: str) -> str | None:
    """Whether a trade opened or closed; None: both, or nobody says."""
    said = {code.strip() for code in codes.split(";")}
    if ("O" in said) == ("C" in said):
        return None
    return "open" if "O" in said else "close"


def step_of(effect: str | None) -> int:
    """Among trades of one moment, what is closed was opened before."""
    return CLOSING if effect == "close" else OPENING


@lru_cache(maxsize=16_384)
def option(
    symbol: str, multiplier: str | None, key: str | None = None, ticker: str | None = None
) -> Asset | None:
    """An option by its symbol; None: it is none."""
    found = _OPTION.fullmatch(symbol)
    if found and found[3] in _MONTHS:
        expires = date(2000 + int(found[4]), _MONTHS.index(found[3]) + 1, int(found[2]))
        strike, side = Decimal(found[5]), found[6]
    else:
        found = _OCC.fullmatch(symbol)
        if not found:
            return None
        expires = date(2000 + int(found[2]), int(found[3]), int(found[4]))
        strike, side = Decimal(f"{found[6]}.{found[7]}"), found[5]
    return Asset(
        "option", symbol, ticker or found[1], key or symbol, expires, strike, "put" if side == "P" else "call",
        Decimal(multiplier) if multiplier else Decimal(100),
    )  # fmt: skip


def exchange(
    line: Stored, pair: str, amount: Decimal, currency: str, proceeds: Decimal
) -> Iterator[Movement]:
    """Both legs of an exchange of currencies, EUR.USD: so much of the first, so much of the second."""
    first, _, second = pair.partition(".")
    if not (first and second):
        raise ValueError(f"no pair of currencies: {pair!r}")
    yield Movement(line, "fx_trade", currency=first, amount=amount, pair=line.id, step=MONEY)
    yield Movement(
        line, "fx_trade", currency=currency or second, amount=proceeds, pair=line.id, step=MONEY, part=1
    )


def corporate(legs: Sequence[tuple[str, Movement]]) -> Iterator[Movement]:
    """The legs of corporate actions, each with what its action is known by: what goes out is replaced by what comes in.

    A leg that goes out for money alone is a sale; one that comes in alone is more of the same, or something new.
    """
    actions: dict[str, list[Movement]] = {}
    for action, movement in legs:
        actions.setdefault(action, []).append(movement)
    for found in actions.values():
        outs = [one for one in found if one.quantity < 0]
        ins = [one for one in found if one.quantity > 0]
        if outs and ins:
            pair, at = min(one.line.id for one in found), min(one.line.at for one in found)
            for one in (*outs, *ins):
                yield replace(one, pair=pair, at=at, rank="", step=OUT if one.quantity < 0 else IN)
            continue
        for one in found:
            is_more = one.kind in ("split", "reverse_split")
            effect = None if is_more else "close" if one.quantity < 0 else "open"
            yield replace(one, effect=effect, step=IN if is_more else step_of(effect))


def paid_or_got(amount: Decimal) -> str:
    """What a sum is that was paid in or out."""
    return "withdrawal" if amount < ZERO else "deposit"
