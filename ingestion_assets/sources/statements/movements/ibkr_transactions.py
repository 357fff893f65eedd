"""How the transaction history of Interactive Brokers becomes movements: by type; all sums are in the base currency."""

from collections.abc import Iterator, Sequence

from ingestion_assets.sources.statements.movements import ibkr
from ingestion_assets.sources.statements.movements.movement import (
    CLOSING,
    OPENING,
    Asset,
    Movement,
    Stored,
    Unknown,
)

POSITIONS = {
    "Buy": "trade",
    "Sell": "trade",
    "Assignment": "assignment",
    "Exercise": "exercise",
    "Expiration": "expiration",
}
CASH = {
    "Dividend": "dividend", "Payment in Lieu": "dividend", "Foreign Tax Withholding": "withholding",
    "Credit Interest": "interest", "Debit Interest": "interest", "Investment Interest Received": "interest",
    "Investment Interest Paid": "interest", "Forex Trade Component": "fx_trade", "Adjustment": "balance_adjustment",
    "Other Fee": "fee", "Commission Adjustment": "fee", "Sales Tax": "fee", "Deposit": None, "Withdrawal": None,
    "Electronic Fund Transfer": None,
}  # fmt: skip
FACTS = frozenset({"Statement", "Summary", "Account Information"})


class TransactionHistory:
    """The booking."""

    dialects = ("ibkr_transactions",)

    def movements(self, lines: Sequence[Stored]) -> Iterator[Movement | Unknown]:
        """What these lines tell."""
        for line in lines:
            if line.section in FACTS or line.text("kind") != "Data":
                continue
            try:
                yield from _movement(line).by_contract()
            except ValueError as error:
                yield Unknown(line, str(error))


def _movement(line: Stored) -> Movement:
    said, symbol, currency = (
        line.text("Transaction Type"),
        line.text("Symbol").strip("-"),
        line.text("Base Currency"),
    )
    if line.section != "Transaction History":
        raise ValueError(f"nobody knows the section {line.section!r}")
    if not currency:
        raise ValueError("its statement names no base currency above it")
    gross, commission = line.number("Gross Amount"), line.number("Commission")
    asset = None
    if symbol and said != "Forex Trade Component":
        asset = ibkr.option(symbol, None) or Asset("stock", symbol, symbol, symbol)
    description = line.payload.get("Description")
    if said in POSITIONS:
        quantity = line.number("Quantity")
        return Movement(
            line, POSITIONS[said], asset, quantity, line.number("Price"), currency, gross, commission,
            step=CLOSING if quantity < 0 else OPENING, description=description,
        )  # fmt: skip
    if said not in CASH:
        raise ValueError(f"nobody knows the transaction type {said!r}")
    return Movement(
        line, CASH[said] or ibkr.paid_or_got(gross), asset, currency=currency, amount=gross, commission=commission,
        description=description,
    )  # fmt: skip
