"""What the exchanges share: which coins are money, and the legs of a trade.

Money is fiat and what is held at its value; it is counted by currency. All else is a position, as a stock is. Both legs of
a trade are movements of their own, with one `pair`; the lots of a coin take their cost from the money of their pair.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache

from ingestion_assets.sources.statements.movements.movement import (
    IN,
    MONEY,
    OPENING,
    OUT,
    ZERO,
    Asset,
    Movement,
    Stored,
)

FIAT = frozenset(
    [
        "USD",
        "EUR",
        "GBP",
        "CHF",
        "JPY",
        "CAD",
        "AUD",
        "NZD",
        "SEK",
        "NOK",
        "DKK",
        "PLN",
        "CZK",
        "HUF",
        "UAH",
        "RUB",
        "TRY",
        "BRL",
        "MXN",
        "ZAR",
        "INR",
        "CNY",
        "HKD",
        "SGD",
        "KRW",
        "ILS",
        "AED",
        "THB",
    ]
)
STABLE = frozenset(
    [
        "USDT",
        "USDC",
        "BUSD",
        "FDUSD",
        "TUSD",
        "DAI",
        "PYUSD",
        "USDP",
        "GUSD",
        "EURT",
        "EURC",
        "USD1",
        "UST",
        "USTC",
    ]
)

# What Kraken calls some of the older ones.
LEGACY = {
    f"X{coin}": coin for coin in ("ETH", "XBT", "LTC", "XRP", "XLM", "ZEC", "ETC", "REP", "MLN", "XMR", "XDG")
}

_WRAPPED = re.compile(r"(?:LD)?([A-Z0-9]+?)(?:\.[A-Z])?")  # LDBUSD lies in savings, USDC.M is staked


@lru_cache(maxsize=4_096)
def is_money(coin: str) -> bool:
    """Whether a coin is counted by currency."""
    found = _WRAPPED.fullmatch(coin)
    bare = found[1] if found else coin
    return bare in FIAT or bare in STABLE or (bare[:1] == "Z" and bare[1:] in FIAT)


@lru_cache(maxsize=4_096)
def coin_asset(coin: str) -> Asset:
    """A coin as a position; ETH.S, which is staked, is a position of ETH."""
    bare = coin.partition(".")[0]
    bare = LEGACY.get(bare, bare)
    return Asset("coin", coin, bare, bare)


@dataclass(frozen=True, slots=True)
class Leg:
    """So much of a coin more, or less; and what was paid beside it, if it is money."""

    line: Stored
    coin: str
    amount: Decimal
    part: int = 0
    fee: Decimal = ZERO


def changed(
    leg: Leg, kind: str, *, fee: Decimal = ZERO, description: str | None = None
) -> Iterator[Movement]:
    """A leg that stands alone, and what it cost.

    Args:
        leg: without the fee.
        kind: of movement.
        fee: of the same coin, as it changes the balance.
        description: for people.
    """
    if is_money(leg.coin):
        yield Movement(
            leg.line,
            kind,
            currency=leg.coin,
            amount=leg.amount,
            fee=fee,
            part=leg.part,
            description=description,
        )
        return
    if leg.amount:
        yield Movement(
            leg.line, kind, coin_asset(leg.coin), leg.amount, step=OUT if leg.amount < 0 else OPENING, part=leg.part,
            description=description,
        )  # fmt: skip
    if fee:
        yield from paid(leg.line, leg.coin, fee, part=leg.part + 1)


def paid(line: Stored, coin: str, fee: Decimal, *, part: int = 0) -> Iterator[Movement]:
    """A fee in some coin; positive where it was given back."""
    if is_money(coin):
        yield Movement(line, "fee", currency=coin, fee=fee, part=part)
    else:
        yield Movement(line, "fee", coin_asset(coin), fee, step=OUT if fee < 0 else OPENING, part=part)


def traded(legs: Sequence[Leg], pair: str, *, kind: str = "trade") -> Iterator[Movement]:
    """The legs of one trade, at the time of the first.

    Money for money is an exchange of currencies; one coin for money is a trade; coins for coins take their cost along.
    """
    at: datetime = min(leg.line.at for leg in legs)
    coins = {leg.coin for leg in legs if not is_money(leg.coin)}
    for leg in legs:
        if is_money(leg.coin):
            what = kind if coins else "fx_trade"
            yield Movement(
                leg.line, what, currency=leg.coin, amount=leg.amount, fee=leg.fee, pair=pair, at=at, step=MONEY, part=leg.part
            )  # fmt: skip
        elif len(coins) == 1:
            yield Movement(
                leg.line, kind, coin_asset(leg.coin), leg.amount, pair=pair, at=at, part=leg.part,
                step=OUT if leg.amount < 0 else OPENING,
            )  # fmt: skip
        else:
            yield Movement(
                leg.line, "swap", coin_asset(leg.coin), leg.amount, pair=pair, at=at, part=leg.part,
                step=OUT if leg.amount < 0 else IN,
            )  # fmt: skip
