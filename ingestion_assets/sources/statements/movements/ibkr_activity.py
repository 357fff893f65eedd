"""How the activity statement of Interactive Brokers becomes movements: by section."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from ingestion_assets.sources.statements.movements import ibkr
from ingestion_assets.sources.statements.movements.movement import ZERO, Asset, Movement, Stored, Unknown

INSTRUMENTS = {
    "Stocks": "stock", "Equity and Index Options": "option", "Options on Futures": "future_option", "Futures": "future",
    "Bonds": "bond", "Warrants": "warrant", "Mutual Funds": "fund", "CFDs": "cfd", "Treasury Bills": "bond",
    "Structured Products": "warrant", "ETFs": "stock",
}  # fmt: skip
DETAILS = frozenset({"Trade", "ClosedLot", "Closed Lot"})  # of orders that have a line of their own

# True of the statement, and no events.
FACTS = frozenset(
    {
        "Statement", "Account Information", "Net Asset Value", "Change in NAV", "Mark-to-Market Performance Summary",
        "Realized & Unrealized Performance Summary", "Month & Year to Date Performance Summary", "Cash Report",
        "Open Positions", "Forex Balances", "Interest Accruals", "Change in Dividend Accruals", "Open Dividend Accruals",
        "Financial Instrument Information", "Base Currency Exchange Rate", "Codes", "Notes", "Legal Notes",
        "Notes/Legal Notes", "Location of Customer Assets, Positions and Money", "Net Stock Position Summary",
        "IBKR Managed Securities Lent", "IBKR Managed Securities Lent Activity (Stock Yield Enhancement Program)",
        "Stock Yield Enhancement Program Securities Lent", "Stock Yield Enhancement Program Securities Lent Activity",
        "Stock Yield Enhancement Program Securities Lent Interest Details", "Borrow Fee Details", "Hard to Borrow Details",
        "Commission Details", "Unbundled Commission Details", "Forex P/L Details", "Deposits in Transit", "Trade Summary by Symbol",
        "Trade Summary by Asset Class", "Tiered Interest Details", "Interest Details", "Transaction Fees", "Sales Tax Details",
        "Trade Confirmation", "GrandTotal", "Advisor Fees Details",
    }
)  # fmt: skip


class ActivityStatement:
    """The booking."""

    dialects = ("ibkr_activity",)

    def movements(self, lines: Sequence[Stored]) -> Iterator[Movement | Unknown]:
        """What these lines tell. Totals, and all that is true of the statement only, tell nothing."""
        actions: list[tuple[str, Movement]] = []
        for line in lines:
            if line.section in FACTS or line.text("kind") != "Data":
                continue
            if line.section not in SECTIONS:
                yield Unknown(line, f"nobody knows the section {line.section!r}")
                continue
            try:
                found = list(SECTIONS[line.section](line))
            except ValueError as error:
                yield Unknown(line, str(error))
                continue
            for movement in found:
                if line.section == "Corporate Actions":
                    description = ibkr.leg_of(line.text("Description"))[0]
                    actions.append((f"{line.text('Date/Time')} {description}", movement))
                else:
                    yield from movement.by_contract()
        yield from ibkr.corporate(actions)


def _trade(line: Stored) -> Iterator[Movement]:
    if line.text("DataDiscriminator") in DETAILS:
        return
    if line.text("DataDiscriminator") != "Order":
        raise ValueError(f"nobody knows the discriminator {line.text('DataDiscriminator')!r}")
    category, symbol = line.text("Asset Category"), line.text("Symbol")
    quantity, proceeds = line.number("Quantity"), line.number("Proceeds")
    if category == "Forex":
        yield from ibkr.exchange(line, symbol, quantity, line.text("Currency"), proceeds)
        yield from _commission_of_exchange(line, symbol.partition(".")[0])
        return
    if category not in INSTRUMENTS:
        raise ValueError(f"nobody knows the asset category {category!r}")
    codes = line.text("Code")
    effect = ibkr.effect_of(codes)
    asset = ibkr.option(symbol, None) or Asset(INSTRUMENTS[category], symbol, symbol, symbol)
    yield Movement(
        line, ibkr.kind_of(codes), asset, quantity, line.number("T. Price"), line.text("Currency"), proceeds,
        line.number("Comm/Fee"), effect=effect, step=ibkr.step_of(effect),
    )  # fmt: skip


def _commission_of_exchange(line: Stored, first: str) -> Iterator[Movement]:
    """It is charged in the first currency of the pair, and listed in the base currency at the rate of the day."""
    for name in line.payload:
        if name.startswith("Comm"):
            listed = name.partition(" in ")[2] or line.text("Currency")
            amount = line.number(name)
            rate = line.number(f"Rate in {listed}")
            if rate and first != listed:
                amount, listed = round(amount / rate, 8).normalize(), first
            if amount:
                yield Movement(line, "fee", currency=listed, commission=amount, part=2)


def _cash(kind: str | None) -> Callable[[Stored], Iterator[Movement]]:
    def booked(line: Stored) -> Iterator[Movement]:
        if line.payload.get("Date") is None and line.payload.get("Settle Date") is None:
            return  # a total
        amount = line.number("Amount")
        symbol = line.text("Description").partition("(")[0].strip()
        is_of_security = kind in ("dividend", "withholding") and "(" in line.text("Description")
        yield Movement(
            line, kind or ibkr.paid_or_got(amount), Asset("stock", symbol, symbol, symbol) if is_of_security else None,
            currency=line.text("Currency"), amount=amount, description=line.payload.get("Description"),
        )  # fmt: skip

    return booked


def _action(line: Stored) -> Iterator[Movement]:
    if line.payload.get("Date/Time") is None and line.payload.get("Report Date") is None:
        return
    description = line.text("Description")
    _, symbol, _ = ibkr.leg_of(description)
    yield Movement(
        line, ibkr.action_of(description), Asset("stock", symbol, symbol, symbol), line.number("Quantity"),
        currency=line.text("Currency"), amount=line.number("Proceeds"), description=description,
    )  # fmt: skip


def _transfer(line: Stored) -> Iterator[Movement]:
    if line.payload.get("Date") is None:
        return
    symbol, cash = line.text("Symbol"), line.number("Cash Amount")
    quantity = line.number("Qty")
    if line.text("Direction").lower() == "out":
        quantity = -abs(quantity)
    if symbol and quantity:
        yield Movement(
            line, "acat", Asset("stock", symbol, symbol, symbol), quantity, currency=line.text("Currency"),
            effect="open" if quantity > ZERO else "close", description=line.payload.get("Type"),
        )  # fmt: skip
    if cash:
        yield Movement(line, ibkr.paid_or_got(cash), currency=line.text("Currency"), amount=cash, part=1)


SECTIONS: Mapping[str, Callable[[Stored], Iterator[Movement]]] = {
    "Trades": _trade,
    "Corporate Actions": _action,
    "Transfers": _transfer,
    "Deposits & Withdrawals": _cash(None),
    "Dividends": _cash("dividend"),
    "Payment In Lieu Of Dividends": _cash("dividend"),
    "Withholding Tax": _cash("withholding"),
    "Interest": _cash("interest"),
    "Bond Interest Received": _cash("interest"),
    "Fees": _cash("fee"),
    "Other Fees": _cash("fee"),
    "Commission Adjustments": _cash("fee"),
    "Commission Credits": _cash("fee"),
}
