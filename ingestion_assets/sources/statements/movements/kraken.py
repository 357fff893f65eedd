"""How the ledgers of Kraken become movements: each line is one change of a balance; `refid` joins the legs of a trade.

A line without txid is the shadow of one that has it, and tells nothing.
https://support.kraken.com/hc/en-us/articles/360001169383
"""

from collections.abc import Iterator, Sequence

from ingestion_assets.sources.statements.movements.coins import Leg, changed, is_money, paid, traded
from ingestion_assets.sources.statements.movements.movement import ZERO, Movement, Stored, Unknown

TRADES = frozenset({"trade", "spend", "receive", "conversion", "margin", "settled", "rollover", "sale"})
KINDS = {
    "deposit": "deposit", "withdrawal": "withdrawal", "transfer": "transfer", "staking": "staking", "dividend": "reward",
    "reward": "reward", "credit": "reward", "airdrop": "reward", "adjustment": "balance_adjustment", "invite bonus": "reward",
}  # fmt: skip
EARN = {"reward": "staking", "bonus": "staking", "allocation": "transfer", "deallocation": "transfer", "autoallocation": "transfer", "migration": "transfer"}  # fmt: skip


class Kraken:
    """The booking."""

    dialects = ("kraken_ledgers",)

    def movements(self, lines: Sequence[Stored]) -> Iterator[Movement | Unknown]:
        """What these lines tell."""
        trades: dict[str, list[Stored]] = {}
        for line in lines:
            if not line.text("txid"):
                continue
            said, sub = line.text("type"), line.text("subtype")
            kind = EARN.get(sub) if said == "earn" else KINDS.get(said)
            try:
                if said in TRADES:
                    line.number("amount"), line.number("fee")
                    trades.setdefault(line.text("refid") or line.id, []).append(line)
                elif kind is None:
                    yield Unknown(line, f"nobody knows what {said} / {sub} is")
                else:
                    leg = Leg(line, line.text("asset"), line.number("amount"))
                    yield from changed(leg, kind, fee=-line.number("fee"), description=sub or None)
            except ValueError as error:
                yield Unknown(line, str(error))
        for refid, legs in trades.items():
            yield from traded([_leg(leg) for leg in legs], refid)
            for line in legs:
                if line.number("fee") and not is_money(line.text("asset")):
                    yield from paid(line, line.text("asset"), -line.number("fee"), part=1)


def _leg(line: Stored) -> Leg:
    coin = line.text("asset")
    return Leg(line, coin, line.number("amount"), fee=-line.number("fee") if is_money(coin) else ZERO)
