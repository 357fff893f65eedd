"""How the Flex queries of Interactive Brokers become movements: by element.

A query may tell one thing at several levels of detail. The finest counts, and the others only where it is missing.
https://www.ibkrguides.com/reportingreference/reportguide/tradesfq.htm
"""

from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal

from ingestion_assets.sources.statements.movements import ibkr
from ingestion_assets.sources.statements.movements.movement import ZERO, Asset, Movement, Stored, Unknown

INSTRUMENTS = {
    "STK": "stock", "OPT": "option", "FOP": "future_option", "FUT": "future", "BOND": "bond", "BILL": "bond", "FUND": "fund",
    "WAR": "warrant", "IOPT": "warrant", "CFD": "cfd", "CRYPTO": "coin", "CMDTY": "commodity",
}  # fmt: skip

CASH = {
    "Dividends": "dividend", "Payment In Lieu Of Dividends": "dividend", "Withholding Tax": "withholding",
    "871(m) Withholding": "withholding", "Broker Interest Paid": "interest", "Broker Interest Received": "interest",
    "Bond Interest Paid": "interest", "Bond Interest Received": "interest", "Other Fees": "fee", "Broker Fees": "fee",
    "Advisor Fees": "fee", "Commission Adjustments": "fee", "Price Adjustments": "balance_adjustment", "Other Income": "reward",
    "Deposits/Withdrawals": None, "Deposits & Withdrawals": None,
}  # fmt: skip

COARSE = frozenset({"ORDER", "SUMMARY", "SYMBOL_SUMMARY", "ASSET_SUMMARY"})
DETAILS = frozenset({"CLOSED_LOT", "WASH_SALE"})

# True of the statement or told by another element too, and no events of their own.
FACTS = frozenset(
    {
        "FlexStatement", "AccountInformation", "CashReportCurrency", "ConversionRate", "ChangeInNAV", "OpenPosition", "FxLot",
        "FxTransaction", "FxPosition", "SecurityInfo", "ChangeInPositionValue", "StatementOfFundsLine", "OptionEAE", "Lot",
        "EquitySummaryByReportDateInBase", "MTMPerformanceSummaryUnderlying", "FIFOPerformanceSummaryUnderlying",
        "MTDYTDPerformanceSummaryUnderlying", "InterestAccrualsCurrency", "ChangeInDividendAccrual", "OpenDividendAccrual",
        "TransactionTax", "SalesTax", "Order", "SymbolSummary", "AssetSummary", "TransferLot", "TierInterestDetail", "UnbundledCommissionDetail",
        "SLBActivity", "SLBFee", "SLBOpenContract", "HardToBorrowDetail", "NetStockPosition", "ComplexPosition",
        "UnsettledTransfer", "PriorPeriodPosition", "FdicInsuredDepositsByBank", "CFDCharge", "TradeConfirm", "WashSale",
        "RoutingCommission", "HKIPOOpenSubscription", "BorrowFeesDetail", "InterestDetail", "CreditDebitCardBalance",
    }
)  # fmt: skip


class Flex:
    """The booking."""

    dialects = ("ibkr_flex",)

    def movements(self, lines: Sequence[Stored]) -> Iterator[Movement | Unknown]:
        """What these lines tell: those of one day, for they tell no more."""
        fine = {_told(line) for line in lines if line.text("levelOfDetail") not in COARSE | DETAILS}
        actions: list[tuple[str, Movement]] = []
        for line in lines:
            level = line.text("levelOfDetail")
            if line.section in FACTS or level in DETAILS or (level in COARSE and _told(line) in fine):
                continue
            try:
                found = list(_element(line))
            except ValueError as error:
                yield Unknown(line, str(error))
                continue
            for movement in found:
                if line.section == "CorporateAction":
                    description = ibkr.leg_of(line.text("description"))[0]
                    actions.append(
                        (f"{line.text('actionID')} {line.text('dateTime')} {description}", movement)
                    )
                else:
                    yield from movement.by_contract()
        yield from ibkr.corporate(actions)


def _told(line: Stored) -> tuple[str, ...]:
    """What a line tells of, whatever its level of detail."""
    if line.section == "Trade":
        return ("Trade", line.text("ibOrderID"), line.text("conid"), line.text("symbol"))
    return (
        line.section,
        line.text("type"),
        line.text("currency"),
        line.text("conid"),
        line.text("description"),
    )


def _element(line: Stored) -> Iterator[Movement]:
    if line.section == "Trade":
        return _trade(line)
    if line.section == "CashTransaction":
        return _cash(line)
    if line.section == "CorporateAction":
        return _action(line)
    if line.section == "Transfer":
        return _transfer(line)
    raise ValueError(f"nobody knows the element {line.section}")


def _rank(line: Stored) -> str:
    return f"{line.text('dateTime') or line.text('tradeTime')} {line.text('transactionID'):>20}"


def _asset(line: Stored) -> Asset | None:
    symbol, category = line.text("symbol"), line.text("assetCategory")
    if not symbol:
        return None
    if category and category not in INSTRUMENTS:
        raise ValueError(f"nobody knows the asset category {category!r}")
    key = line.text("conid") or symbol
    ticker = line.text("underlyingSymbol") or symbol
    put_call = {"P": "put", "C": "call"}.get(line.text("putCall"))
    if category not in ("OPT", "FOP"):
        return Asset(
            INSTRUMENTS.get(category, "stock"), symbol, symbol, key, multiplier=_said(line, "multiplier")
        )
    if put_call is None:
        return ibkr.option(symbol, line.payload.get("multiplier"), key, ticker)
    expiry = line.text("expiry").replace("-", "")
    return Asset(
        INSTRUMENTS[category], symbol, ticker, key, date.fromisoformat(expiry) if expiry else None, _said(line, "strike"),
        put_call, _said(line, "multiplier"),
    )  # fmt: skip


def _said(line: Stored, name: str) -> Decimal | None:
    return line.number(name) or None


def _trade(line: Stored) -> Iterator[Movement]:
    quantity, proceeds, currency = line.number("quantity"), line.number("proceeds"), line.text("currency")
    commission, charged = line.number("ibCommission"), line.text("ibCommissionCurrency") or currency
    if not currency:
        raise ValueError("it tells no currency")
    if line.payload.get("proceeds") is None and line.payload.get("tradePrice") is not None:
        proceeds = -quantity * line.number("tradePrice") * (line.number("multiplier") or 1)
    if line.text("assetCategory") == "CASH":
        yield from ibkr.exchange(line, line.text("symbol"), quantity, currency, proceeds)
        if commission:
            yield Movement(line, "fee", currency=charged, commission=commission, part=2)
        return
    taxes = line.number("taxes")
    if line.payload.get("netCash") is not None and charged == currency:
        proceeds = line.number("netCash") - commission - taxes  # of a CFD no more than the commission is paid
    asset = _asset(line)
    if asset is None:
        raise ValueError("it names no symbol")
    codes = f"{line.text('openCloseIndicator')};{line.text('notes')}"
    effect = ibkr.effect_of(codes)
    if line.text("transactionType") == "TradeCancel":
        effect = "close"
    here = commission if charged == currency else ZERO
    yield Movement(
        line, ibkr.kind_of(codes), asset, quantity, _said(line, "tradePrice"), currency, proceeds, here, taxes, effect,
        ibkr.step_of(effect), rank=_rank(line), description=line.payload.get("description"),
    )  # fmt: skip
    if commission and charged != currency:
        yield Movement(line, "fee", asset, currency=charged, commission=commission, part=1_000_000)


def _cash(line: Stored) -> Iterator[Movement]:
    said, amount = line.text("type"), line.number("amount")
    if said not in CASH:
        raise ValueError(f"nobody knows the cash transaction {said!r}")
    if not line.text("currency"):
        raise ValueError("it tells no currency")
    yield Movement(
        line, CASH[said] or ibkr.paid_or_got(amount), _asset(line), currency=line.text("currency"), amount=amount,
        rank=_rank(line), description=line.payload.get("description"),
    )  # fmt: skip


def _action(line: Stored) -> Iterator[Movement]:
    asset = _asset(line)
    if asset is None:
        raise ValueError("it names no symbol")
    yield Movement(
        line, ibkr.action_of(line.text("description")), asset, line.number("quantity"), currency=line.text("currency"),
        amount=line.number("proceeds"), rank=_rank(line), description=line.payload.get("description"),
    )  # fmt: skip


def _transfer(line: Stored) -> Iterator[Movement]:
    asset, quantity, cash = _asset(line), line.number("quantity"), line.number("cashTransfer")
    if line.text("direction") == "OUT":
        quantity = -abs(quantity)
    if asset is not None and quantity and line.text("assetCategory") != "CASH":
        yield Movement(
            line, "acat", asset, quantity, currency=line.text("currency"), effect="open" if quantity > ZERO else "close",
            rank=_rank(line), description=line.payload.get("type"),
        )  # fmt: skip
    if cash:
        yield Movement(line, ibkr.paid_or_got(cash), currency=line.text("currency"), amount=cash, part=1)
