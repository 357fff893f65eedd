"""How the exports of KuCoin become movements. Its account history tells all of it again, a line for each leg.

A leg of the account history counts where no line of another export tells of the same: a coin, a time, and an amount.
https://www.kucoin.com/support/900005034986
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal

from ingestion_assets.sources.statements.movements.coins import Leg, changed, is_money, paid, traded
from ingestion_assets.sources.statements.movements.movement import ZERO, Movement, Stored, Unknown

DONE = frozenset({"success", "deal", "done", "successful", "completed", ""})
OUTGOING = frozenset({"withdrawal", "out", "withdraw"})
INCOMING = frozenset({"deposit", "in"})
TRADE_REMARKS = ("spot", "exchange", "convert", "trade", "margin")
REWARD_REMARKS = (
    "reward",
    "bonus",
    "staking",
    "earn",
    "interest",
    "airdrop",
    "profit",
    "rebate",
    "distribution",
    "promotion",
    "activity",
)


class KuCoin:
    """The booking."""

    dialects = ("kucoin",)

    def movements(self, lines: Sequence[Stored]) -> Iterator[Movement | Unknown]:
        """What these lines tell."""
        fills = {line.text("order_id") for line in lines if line.section == "Spot Fills"}
        told: list[Movement] = []
        history: list[Leg] = []
        for line in lines:
            try:
                if line.section == "Account History":
                    history.append(_leg(line))
                elif line.section != "Spot Orders" or line.text("order_id") not in fills:
                    told += _movements(line)
            except ValueError as error:
                yield Unknown(line, str(error))
        yield from told
        known = [(one.asset.symbol if one.asset else one.currency, one.quantity or one.cash) for one in told]
        legs: list[Leg] = []
        for leg in history:
            if (leg.coin, leg.amount) in known:
                known.remove((leg.coin, leg.amount))
            else:
                legs.append(leg)
        yield from _of_history(legs)


def _movements(line: Stored) -> Iterator[Movement]:
    if line.text("status").lower() not in DONE:
        return
    if line.section in ("Deposits", "Withdrawals"):
        sign = 1 if line.section == "Deposits" else -1
        kind = "deposit" if sign > 0 else "withdrawal"
        leg = Leg(line, line.text("coin"), sign * line.number("amount"))
        yield from changed(leg, kind, fee=-line.number("fee"), description=line.payload.get("remarks"))
    elif line.section in ("Spot Orders", "Spot Fills"):
        base, _, quote = line.text("symbol").partition("-")
        sign = {"buy": 1, "sell": -1}.get(line.text("side").lower(), 0)
        if not (sign and quote):
            raise ValueError(f"nobody knows the side {line.text('side')!r} of {line.text('symbol')!r}")
        if not line.number("amount"):
            return  # an order of which nothing was filled
        is_beside = line.text("fee_currency") == quote and is_money(quote)
        fee = -line.number("fee") if is_beside else ZERO
        money = Leg(line, quote, -sign * line.number("volume"), 1, fee)
        yield from traded([Leg(line, base, sign * line.number("amount")), money], line.id)
        if line.number("fee") and not is_beside:
            yield from paid(line, line.text("fee_currency"), -line.number("fee"), part=2)
    elif line.section == "Convert":
        yield from traded([Leg(line, *_sum(line, "sell", -1)), Leg(line, *_sum(line, "buy", 1), 1)], line.id)
    else:
        raise ValueError(f"nobody knows the section {line.section!r}")


def _sum(line: Stored, name: str, sign: int) -> tuple[str, Decimal]:
    """A cell that holds an amount and its coin: 0.05 ETH."""
    amount, _, coin = line.text(name).partition(" ")
    if not coin:
        raise ValueError(f"{name} is no amount of a coin: {line.text(name)!r}")
    try:
        return coin, sign * Decimal(amount.replace(",", ""))
    except ArithmeticError as error:
        raise ValueError(f"{name} is no amount of a coin: {line.text(name)!r}") from error


def _leg(line: Stored) -> Leg:
    side = line.text("side").lower()
    if side not in OUTGOING | INCOMING:
        raise ValueError(f"nobody knows the side {line.text('side')!r}")
    sign = -1 if side in OUTGOING else 1
    return Leg(line, line.text("coin"), sign * line.number("amount"))


def _of_history(legs: Sequence[Leg]) -> Iterator[Movement | Unknown]:
    trades: list[Leg] = []
    for leg in legs:
        remark = leg.line.text("remarks").lower()
        if any(word in remark for word in REWARD_REMARKS):
            yield from changed(leg, "reward" if leg.amount > 0 else "transfer", description=remark)
        elif "transfer" in remark:
            yield from changed(leg, "transfer", description=remark)
        elif "deposit" in remark or "withdraw" in remark:
            yield from changed(leg, "deposit" if leg.amount > 0 else "withdrawal", description=remark)
        elif any(word in remark for word in TRADE_REMARKS):
            trades.append(leg)
        else:
            yield Unknown(leg.line, f"nobody knows the remark {leg.line.text('remarks')!r}")
    if len({leg.coin for leg in trades}) > 1:
        yield from traded(trades, min(leg.line.id for leg in trades))
    else:
        for leg in trades:
            yield Unknown(leg.line, "one leg of a trade, and the other one is not there")
