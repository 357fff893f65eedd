"""The nouns of the second phase: a stored line, what happened (a movement), and a dialect's way from one to the other.

Nothing here reads or writes. A movement changes a position, or cash, or both; amounts are exact decimals, signed as they
change what the account holds. One file in this folder for each family of dialects declares how its lines become movements.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import ROUND_DOWN, Context, Decimal
from functools import lru_cache
from typing import Protocol

ZERO = Decimal(0)
EXACT = Context(prec=300)  # in which sums are made: no sum of what a line may hold is ever rounded

KINDS = (
    "trade", "fx_trade", "assignment", "exercise", "delivery", "expiration", "acat", "split", "reverse_split", "merger",
    "symbol_change", "strike_adjustment", "spin_off", "dividend", "withholding", "interest", "lending_income", "fee",
    "balance_adjustment", "settlement", "deposit", "withdrawal", "transfer", "swap", "staking", "reward",
)  # fmt: skip

# What replaces one position by another: costs go with it, and nothing is realized.
REPLACING = frozenset({"split", "reverse_split", "merger", "symbol_change", "strike_adjustment", "swap", "transfer"})  # fmt: skip

# Order among those of one moment: a trade's cash is known before its coins, what is closed was opened before.
MONEY, OPENING, CLOSING, OUT, IN = range(5)

APART = 2  # seconds: lines with a longer silence between them have nothing to do with one another


@dataclass(frozen=True, slots=True)
class Stored:
    """A line as `raw.statement_lines` holds it; `id` is written with hyphens."""

    at: datetime
    id: str
    dialect: str
    section: str
    payload: Mapping[str, str | None]

    def text(self, name: str) -> str:
        """A column; empty where it says nothing."""
        return self.payload.get(name) or ""

    def number(self, name: str) -> Decimal:
        """A column that holds a decimal; zero where it says nothing.

        Raises:
            ValueError: it holds something else.
        """
        return decimal(self.payload.get(name) or "0", name)


@lru_cache(maxsize=65_536)
def decimal(written: str, name: str) -> Decimal:
    """A decimal of a payload.

    Raises:
        ValueError: it is none.
    """
    try:
        return Decimal(written)
    except ArithmeticError as error:
        raise ValueError(f"{name} is no number: {written!r}") from error


@dataclass(frozen=True, slots=True)
class Asset:
    """What a position is of.

    Args:
        instrument: stock, option, future_option, future, coin, fund, bond, warrant, cfd, …
        symbol: as the source writes it.
        ticker: the underlying; of what has none, the symbol.
        key: what the position is kept under: a symbol may change its name, and an id does not.
        expiration: of an option.
        strike: of an option.
        put_call: `put`, `call`.
        multiplier: units of the underlying in one contract.
    """

    instrument: str
    symbol: str
    ticker: str
    key: str
    expiration: date | None = None
    strike: Decimal | None = None
    put_call: str | None = None
    multiplier: Decimal | None = None

    @property
    def is_option(self) -> bool:
        """Whether it is counted by contracts that expire."""
        return self.put_call is not None


@dataclass(frozen=True, slots=True)
class Movement:
    """What happened.

    Args:
        line: that tells of it.
        kind: one of `KINDS`.
        asset: whose position changes; with no quantity, what the money came from.
        quantity: by which it changes.
        price: of one, as the line states it.
        currency: of the money; None where none moves.
        amount: by which the cash changes, without the next two.
        commission: by which it changes the cash: mostly negative.
        fee: likewise; taxes of a trade too.
        effect: `open` or `close`; None: the position decides.
        step: order among those of one moment.
        pair: of what belongs together the same text.
        at: when it took effect, if that is not when the line says.
        rank: order among those of one moment, before the step: times and ids of lines that tell a day only.
        description: for people.
        part: of its line.
    """

    line: Stored
    kind: str
    asset: Asset | None = None
    quantity: Decimal = ZERO
    price: Decimal | None = None
    currency: str | None = None
    amount: Decimal = ZERO
    commission: Decimal = ZERO
    fee: Decimal = ZERO
    effect: str | None = None
    step: int = OPENING
    pair: str | None = None
    at: datetime | None = None
    rank: str = ""
    description: str | None = None
    part: int = 0

    @property
    def cash(self) -> Decimal:
        """By how much the cash changes."""
        return self.amount + self.commission + self.fee

    def by_contract(self) -> Iterator["Movement"]:
        """One movement for each contract, if it is of options; their sum is this one."""
        count = abs(self.quantity)
        if self.asset is None or not self.asset.is_option or count <= 1 or count != count.to_integral_value():
            yield self
            return
        number = int(count)
        one = Decimal(1).copy_sign(self.quantity)
        amounts, commissions, fees = (
            shared(total, number) for total in (self.amount, self.commission, self.fee)
        )
        for part in range(number):
            yield replace(
                self,
                quantity=one,
                amount=amounts[part],
                commission=commissions[part],
                fee=fees[part],
                pair=f"{self.pair}/{part}" if self.pair else None,
                part=self.part + part,
            )


@lru_cache(maxsize=16_384)
def shared(total: Decimal, number: int) -> tuple[Decimal, ...]:
    """A sum in so many parts, which differ by less than a hundredth of a cent and add up to it exactly."""
    if not total:
        return (ZERO,) * number
    unit = Decimal(1).scaleb(min(-4, int(total.as_tuple().exponent)))
    each = (total / number).quantize(unit, ROUND_DOWN).normalize()
    return (*(each,) * (number - 1), total - each * (number - 1))


@dataclass(frozen=True, slots=True)
class Unknown:
    """A line of which nobody knows what happened, and why."""

    line: Stored
    reason: str


class Booking(Protocol):
    """How the lines of some dialects become movements."""

    @property
    def dialects(self) -> tuple[str, ...]:
        """Whose lines it understands."""
        ...

    def movements(self, lines: Sequence[Stored]) -> Iterator[Movement | Unknown]:
        """What lines tell that stand within `APART` seconds of one another; all of them, in order of time.

        What is true of the statement and is no event gives nothing; each other line gives a movement or an `Unknown`.
        """
        ...
