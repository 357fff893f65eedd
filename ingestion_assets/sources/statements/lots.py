"""Lots: what was opened, at which cost, and what it was closed with; first in, first out. Nothing here reads or writes.

Exact to the last digit, in the context `EXACT`: what is left of a lot keeps what was not taken of its cost, so that parts
always add up.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

from ingestion_assets.sources.statements.movements.movement import IN, MONEY, OUT, REPLACING, ZERO

NEVER = date.max  # closed: not yet
UNKNOWN = ""  # currency of what came without money
GOING = frozenset({"withdrawal", "fee", "acat", "swap"})  # what goes like this is not sold
EXCHANGING = frozenset({"trade", "fx_trade", *REPLACING})
SPLITS = frozenset({"split", "reverse_split"})
DIGITS = Decimal("1e-12")  # to which shares of a cost are rounded; what is left over stays with the last one


class Moved(NamedTuple):
    """A movement as the lots see it."""

    at: datetime
    rank: str
    step: int
    id: str
    kind: str
    instrument: str | None
    ticker: str | None
    asset: str | None
    strike: Decimal | None
    put_call: str | None
    multiplier: Decimal | None
    effect: str | None
    quantity: Decimal
    currency: str | None
    amount: Decimal
    commission: Decimal
    fee: Decimal
    cash: Decimal
    pair: str | None

    @property
    def day(self) -> date:
        """In UTC."""
        return self.at.date()

    @property
    def order(self) -> str:
        """Sorts as movements do: what is first in is first out."""
        return f"{self.at:%Y%m%d%H%M%S%f} {self.rank} {self.step} {self.id}"


@dataclass(slots=True)
class Lot:
    """What is left of it, and what it was."""

    opened: date
    id: str
    part: int
    rank: str
    asset: str
    ticker: str
    currency: str
    is_share: bool
    quantity: Decimal
    cost: Decimal
    left: Decimal
    cost_left: Decimal
    closed: date = NEVER


@dataclass(frozen=True, slots=True)
class Closing:
    """So much of a lot taken out by a movement. `lot` is None where nobody knows when it was opened."""

    day: date
    id: str
    part: int
    lot: Lot | None
    quantity: Decimal
    cost: Decimal
    currency: str
    proceeds: Decimal | None
    realized: Decimal | None


@dataclass(slots=True)
class Effect:
    """What one movement has done to positions and to where its cash belongs.

    Args:
        opened: new lots.
        closings: what was taken out of which.
        realized: of its currency.
        unmatched: of its currency: got for what nobody knows when it was opened.
        exchanged: by currency.
        deployed: capital.
    """

    opened: list[Lot] = field(default_factory=list[Lot])
    closings: list[Closing] = field(default_factory=list[Closing])
    realized: Decimal = ZERO
    unmatched: Decimal = ZERO
    exchanged: dict[str, Decimal] = field(default_factory=dict[str, Decimal])
    deployed: Decimal = ZERO

    def exchange(self, currency: str, amount: Decimal) -> None:
        """So much went for something else."""
        if not amount:
            return
        self.exchanged[currency] = self.exchanged.get(currency, ZERO) + amount


class _Bag:
    """What goes out in the legs of one pair, until it comes in again."""

    def __init__(self) -> None:
        self.pieces: list[tuple[Decimal, Decimal, Lot | None]] = []  # quantity, cost, lot
        self.adjusted = ZERO  # by money that went with the legs
        self.currency: str | None = None


class _Money:
    """The money of the trades of one moment whose coins are legs of their own, shared by the coins.

    Args:
        moment: all movements of it.
    """

    def __init__(self, moment: Sequence[Moved]) -> None:
        sums: dict[str, dict[str, Decimal]] = {}
        self._coins: dict[str, Decimal] = {}  # how many are still to be paid for
        for one in moment:
            if not one.pair or one.kind != "trade":
                continue
            if one.step == MONEY and one.currency:
                of = sums.setdefault(one.pair, {})
                of[one.currency] = of.get(one.currency, ZERO) + one.cash
            elif one.asset and one.currency is None:
                self._coins[one.pair] = self._coins.get(one.pair, ZERO) + abs(one.quantity)
        self._left = {
            pair: next(iter(of.items()))
            for pair, of in sums.items()
            if len(of) == 1 and self._coins.get(pair)
        }

    def buys(self, one: Moved) -> bool:
        """Whether it is a leg of such a trade: one currency for one coin."""
        return one.kind == "trade" and one.pair in self._left

    def paid_for(self, one: Moved) -> Moved:
        """A coin with its share of the money; the last one has the rest."""
        assert one.pair is not None  # noqa: S101 - for the type checker
        currency, left = self._left[one.pair]
        coins, here = self._coins[one.pair], abs(one.quantity)
        share = left if here == coins else _part(left, here, coins)
        self._left[one.pair], self._coins[one.pair] = (currency, left - share), coins - here
        return one._replace(currency=currency, cash=share, amount=share)


class Positions:
    """The open lots of an account.

    Args:
        held: open lots by asset, the oldest first.
    """

    def __init__(self, held: Iterable[Lot] = ()) -> None:
        self._held: dict[tuple[str, bool], deque[Lot]] = {}  # by asset, and whether they are long
        for lot in held:
            self.add(lot)

    def add(self, lot: Lot) -> None:
        """A lot that is open already; the oldest first."""
        self._held.setdefault((lot.asset, lot.left > 0), deque()).append(lot)

    def apply(self, moment: Sequence[Moved]) -> Iterator[tuple[Moved, Effect]]:
        """All movements of one moment, in their order."""
        money = _Money(moment)
        bags: dict[str, _Bag] = {}
        for one in moment:
            effect = Effect()
            if one.asset is None or not one.quantity:
                if one.currency and one.kind in EXCHANGING and not money.buys(one):
                    effect.exchange(one.currency, one.cash)
            elif money.buys(one) and one.currency is None:
                self._move(money.paid_for(one), effect)
            elif one.kind in REPLACING and one.pair:
                self._replace(one, bags.setdefault(one.pair, _Bag()), effect)
            elif one.kind in SPLITS and one.step == IN:
                self._scale(one, effect)
            elif (
                one.kind != "transfer"
            ):  # to another wallet of the same account: it is still there, at the same cost
                self._move(one, effect)
            yield one, effect

    def _move(self, one: Moved, effect: Effect) -> None:
        """Close what is held the other way round, then open what is left."""
        assert one.asset is not None  # noqa: S101 - for the type checker
        rest, cash = one.quantity, one.cash
        if one.effect != "open":
            goes = one.kind in GOING
            rest, cash = self._close(one, rest, cash, effect, without_money=goes)
            if rest and (one.effect == "close" or one.step == OUT or goes):
                currency = one.currency or UNKNOWN
                effect.closings.append(
                    Closing(one.day, one.id, len(effect.closings), None, -rest, ZERO, currency, cash if one.currency else None, None)
                )  # fmt: skip
                effect.unmatched += cash
                return
        if rest:
            self._open(one, rest, -cash, one.currency or UNKNOWN, effect)
            effect.deployed += _deployed(one, rest)

    def _close(
        self, one: Moved, rest: Decimal, cash: Decimal, effect: Effect, *, without_money: bool
    ) -> tuple[Decimal, Decimal]:
        for lot, taken, cost in self._take(one, rest):
            share = cash if -taken == rest else _part(cash, abs(taken), abs(rest))
            rest, cash = rest + taken, cash - share
            proceeds: Decimal | None = share if one.currency else None
            realized = None
            if without_money or one.currency is None:
                proceeds = None
                effect.exchange(lot.currency, -cost)
                if one.currency:
                    effect.exchange(one.currency, share)
            elif lot.currency == one.currency:
                realized = share - cost
                effect.realized += realized
            elif lot.currency == UNKNOWN:
                effect.unmatched += share
            else:  # paid in one currency, sold for another
                effect.exchange(lot.currency, -cost)
                effect.exchange(one.currency, share)
            effect.closings.append(
                Closing(one.day, one.id, len(effect.closings), lot, taken, cost, one.currency or lot.currency, proceeds, realized)
            )  # fmt: skip
        return rest, cash

    def _take(self, one: Moved, rest: Decimal) -> Iterator[tuple[Lot, Decimal, Decimal]]:
        """The oldest lots that a change of this sign closes: so much of each, and its cost."""
        side = one.asset or "", rest < 0  # what is sold was long
        held = self._held.get(side)
        while rest and held:
            lot = held[0]
            taken = lot.left if abs(lot.left) <= abs(rest) else -rest
            cost = lot.cost_left if taken == lot.left else _part(lot.cost_left, abs(taken), abs(lot.left))
            lot.left -= taken
            lot.cost_left -= cost
            rest += taken
            if not lot.left:
                lot.closed = one.day
                held.popleft()
                if not held:
                    del self._held[side]
            yield lot, taken, cost

    def _open(
        self,
        one: Moved,
        quantity: Decimal,
        cost: Decimal,
        currency: str,
        effect: Effect,
        *,
        rank: str | None = None,
    ) -> None:
        assert one.asset is not None  # noqa: S101 - for the type checker
        lot = Lot(
            one.day, one.id, len(effect.opened), rank or one.order, one.asset, one.ticker or one.asset, currency,
            one.put_call is None, quantity, cost, quantity, cost,
        )  # fmt: skip
        effect.opened.append(lot)
        held = self._held.setdefault((one.asset, quantity > 0), deque())
        if rank is None or not held or held[-1].rank <= rank:
            held.append(lot)
        else:  # carried here from older ones
            held.insert(next(n for n, other in enumerate(held) if other.rank > rank), lot)

    def _replace(self, one: Moved, bag: _Bag, effect: Effect) -> None:
        """Out: take the lots along. In: they are lots of something else now, at the same cost."""
        if one.step == OUT:
            rest = one.quantity
            for lot, taken, cost in self._take(one, rest):
                rest += taken
                bag.pieces.append((taken, cost, lot))
                bag.currency = bag.currency or lot.currency
                effect.closings.append(
                    Closing(one.day, one.id, len(effect.closings), lot, taken, cost, lot.currency, None, None)
                )
            unknown = _part(one.cash, abs(rest), abs(one.quantity)) if rest != one.quantity else one.cash
            if rest:
                bag.pieces.append((-rest, ZERO, None))
                effect.unmatched += unknown
                effect.closings.append(
                    Closing(one.day, one.id, len(effect.closings), None, -rest, ZERO, one.currency or UNKNOWN, None, None)
                )  # fmt: skip
                bag.adjusted -= one.cash - unknown
            else:
                bag.adjusted -= one.cash
            return
        self._carry_in(one, bag, effect)

    def _carry_in(self, one: Moved, bag: _Bag, effect: Effect) -> None:
        extra = bag.adjusted - one.cash
        bag.adjusted = ZERO
        pieces = bag.pieces or [(one.quantity, ZERO, None)]
        total = sum((abs(quantity) for quantity, _, _ in pieces), ZERO)
        left, extra_left = one.quantity, extra
        for number, (quantity, cost, lot) in enumerate(pieces, 1):
            is_last = number == len(pieces)
            got = left if is_last else _part(one.quantity, abs(quantity), total)
            more = extra_left if is_last else _part(extra, abs(quantity), total)
            left, extra_left = left - got, extra_left - more
            currency = lot.currency if lot else one.currency or bag.currency or UNKNOWN
            if got:
                self._open(one, got, cost + more, currency, effect, rank=lot.rank if lot else None)
        bag.pieces = []

    def _scale(self, one: Moved, effect: Effect) -> None:
        """A split of which one line tells: so many more, or less, of the same."""
        name = one.asset or ""
        held = self._held.get((name, True)) or self._held.get((name, False)) or ()
        total = sum((lot.left for lot in held), ZERO)
        if not total:
            self._move(one._replace(effect="open" if one.quantity > 0 else "close"), effect)
            return
        bag = _Bag()
        for lot, taken, cost in list(self._take(one._replace(quantity=-total), -total)):
            bag.pieces.append((taken, cost, lot))
            effect.closings.append(
                Closing(one.day, one.id, len(effect.closings), lot, taken, cost, lot.currency, None, None)
            )
        self._carry_in(one._replace(quantity=total + one.quantity), bag, effect)


def _part(whole: Decimal, share: Decimal, of: Decimal) -> Decimal:
    """So many parts of a sum, rounded to `DIGITS`."""
    return (whole * share / of).quantize(DIGITS)


def _deployed(one: Moved, opened: Decimal) -> Decimal:
    """The capital that an opening takes: a bought option and a sold put their strike, shares their price."""
    if one.kind == "acat" or one.kind in REPLACING:
        return ZERO
    if one.put_call is None:
        return abs(one.amount)
    if one.put_call == "call" and opened < 0:
        return ZERO
    return abs((one.strike or ZERO) * (one.multiplier or 1) * opened)


def by_moment(moved: Iterable[Moved]) -> Iterator[list[Moved]]:
    """Movements that happened at the same time, together."""
    held: list[Moved] = []
    for one in moved:
        if held and held[0].at != one.at:
            yield held
            held = []
        held.append(one)
    if held:
        yield held
