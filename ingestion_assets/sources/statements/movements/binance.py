"""How the transaction records of Binance become movements: each line is one change of a balance.

What happened in one second belongs together: the legs of a trade have no other sign of it.
https://www.binance.com/en/support/faq/detail/990afa0a0a9341f78e7a9298a9575163
"""

from collections.abc import Iterator, Sequence

from ingestion_assets.sources.statements.movements.coins import Leg, changed, is_money, paid, traded
from ingestion_assets.sources.statements.movements.movement import (
    IN,
    OUT,
    Asset,
    Movement,
    Stored,
    Unknown,
)

# In lower case: the exports spell them in several ways.
TRADES = {
    "buy": "spot", "sell": "spot", "transaction related": "spot", "transaction buy": "spot", "transaction spend": "spot",
    "transaction sold": "spot", "transaction revenue": "spot", "small assets exchange bnb": "dust", "binance convert": "convert",
    "large otc trading": "otc", "auto-invest transaction": "auto",
}  # fmt: skip
FEES = frozenset({"fee", "transaction fee"})
KINDS = {
    "deposit": "deposit", "fiat deposit": "deposit", "withdraw": "withdrawal", "fiat withdraw": "withdrawal",
    "fiat withdrawal": "withdrawal", "send": "withdrawal", "merchant acquiring": "withdrawal",
    "commission fee shared with you": "reward", "referral kickback": "reward", "referral commission": "reward",
    "commission rebate": "reward", "commission history": "reward", "distribution": "reward", "airdrop assets": "reward",
    "cash voucher distribution": "reward", "cash voucher": "reward", "launchpool airdrop": "reward", "launchpool interest": "reward",
    "simple earn flexible interest": "staking", "simple earn locked rewards": "staking", "staking rewards": "staking",
    "savings interest": "staking", "pos savings interest": "staking", "eth 2.0 staking rewards": "staking",
    "asset recovery": "swap", "token swap - distribution": "swap", "token swap - redenomination/rebranding": "swap",
    "transfer between main and funding wallet": "transfer", "transfer between main account/futures and margin account": "transfer",
}  # fmt: skip
BY_SIGN = frozenset({"p2p trading", "receive", "binance pay", "pay", "fiat ocbs - add fiat and fees"})
# Into another wallet of the same person and back; some of these tell of one side only.
EARN = frozenset(
    {
        "simple earn flexible redemption", "simple earn flexible subscription", "simple earn locked redemption",
        "simple earn locked subscription", "savings purchase", "savings redemption", "pos savings purchase",
        "pos savings redemption", "staking purchase", "staking redemption",
    }
)  # fmt: skip


class Binance:
    """The booking."""

    dialects = ("binance",)

    def movements(self, lines: Sequence[Stored]) -> Iterator[Movement | Unknown]:
        """What these lines tell."""
        trades: dict[tuple[object, ...], list[Leg]] = {}
        for line in lines:
            said, coin = line.text("operation").lower(), line.text("coin")
            try:
                amount = line.number("change")
            except ValueError as error:
                yield Unknown(line, str(error))
                continue
            leg = Leg(line, coin, amount)
            if said in TRADES:
                trades.setdefault((line.at, line.text("user_id"), TRADES[said]), []).append(leg)
            elif said in FEES:
                yield from paid(line, coin, amount)
            elif said in EARN:
                yield from _moved(leg)
            elif said in KINDS:
                yield from changed(leg, KINDS[said], description=line.payload.get("remark"))
            elif said in BY_SIGN:
                kind = "deposit" if amount > 0 else "withdrawal"
                yield from changed(leg, kind, description=line.payload.get("remark"))
            else:
                yield Unknown(line, f"nobody knows the operation {line.text('operation')!r}")
        for legs in trades.values():
            yield from traded(legs, min(leg.line.id for leg in legs))


def _moved(leg: Leg) -> Iterator[Movement]:
    """Into savings or out of them. A coin keeps its cost there, and stays in the account."""
    if is_money(leg.coin):
        yield from changed(leg, "transfer")
        return
    here = Asset("coin", leg.coin, leg.coin, leg.coin)
    there = Asset("coin", f"{leg.coin} (earn)", leg.coin, f"{leg.coin} (earn)")
    for part, (asset, amount) in enumerate(((here, leg.amount), (there, -leg.amount))):
        yield Movement(
            leg.line, "transfer", asset, amount, pair=leg.line.id, step=OUT if amount < 0 else IN, part=part
        )
