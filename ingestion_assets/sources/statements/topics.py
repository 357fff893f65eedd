"""What a line of Interactive Brokers tells of, in whichever of its three formats. Belongs here: sections and types by topic.

A topic is as much as a person chooses at once when a query is made: a section, and of the cash transactions a type.
https://www.ibkrguides.com/reportingreference/reportguide/activityflexqueryreference.htm
"""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal

from ingestion_assets.sources.statements.dialects.ibkr_languages import PERIOD
from ingestion_assets.sources.statements.dialects.sections import first_day, last_day
from ingestion_assets.sources.statements.movements import ibkr_activity, ibkr_flex
from ingestion_assets.sources.statements.movements.movement import Stored

# The richer the format, the greater. A Flex query tells ids, an activity statement orders in their own currency, and a
# transaction history all sums in one currency.
RICHNESS: Mapping[str, int] = {"ibkr_transactions": 0, "ibkr_activity": 1, "ibkr_flex": 2}

TRADES, ACTIONS, TRANSFERS, CASH, DIVIDENDS = (
    "trades",
    "corporate actions",
    "transfers",
    "deposits",
    "dividends",
)
WITHHOLDING, INTEREST, FEES, ADJUSTMENTS = "withholding", "interest", "fees", "commission adjustments"

OF_ELEMENT = {"Trade": TRADES, "CorporateAction": ACTIONS, "Transfer": TRANSFERS}
OF_TYPE = {
    "Dividends": DIVIDENDS, "Payment In Lieu Of Dividends": DIVIDENDS, "Withholding Tax": WITHHOLDING,
    "871(m) Withholding": WITHHOLDING, "Broker Interest Paid": INTEREST, "Broker Interest Received": INTEREST,
    "Bond Interest Paid": INTEREST, "Bond Interest Received": INTEREST, "Other Fees": FEES, "Broker Fees": FEES,
    "Advisor Fees": FEES, "Commission Adjustments": ADJUSTMENTS, "Deposits/Withdrawals": CASH,
    "Deposits & Withdrawals": CASH,
}  # fmt: skip
OF_SECTION = {
    "Trades": TRADES, "Corporate Actions": ACTIONS, "Transfers": TRANSFERS, "Deposits & Withdrawals": CASH,
    "Dividends": DIVIDENDS, "Payment In Lieu Of Dividends": DIVIDENDS, "Withholding Tax": WITHHOLDING, "Interest": INTEREST,
    "Bond Interest Received": INTEREST, "Fees": FEES, "Other Fees": FEES, "Commission Adjustments": ADJUSTMENTS,
    "Commission Credits": ADJUSTMENTS,
}  # fmt: skip
# `Adjustment` is what the base currency makes of cash in others, so it goes with the trades that were told in it.
OF_TRANSACTION = {
    "Buy": TRADES, "Sell": TRADES, "Assignment": TRADES, "Exercise": TRADES, "Expiration": TRADES,
    "Forex Trade Component": TRADES, "Adjustment": TRADES, "Dividend": DIVIDENDS, "Payment in Lieu": DIVIDENDS,
    "Foreign Tax Withholding": WITHHOLDING, "Credit Interest": INTEREST, "Debit Interest": INTEREST,
    "Investment Interest Received": INTEREST, "Investment Interest Paid": INTEREST, "Other Fee": FEES, "Sales Tax": FEES,
    "Commission Adjustment": ADJUSTMENTS, "Deposit": CASH, "Withdrawal": CASH, "Electronic Fund Transfer": CASH,
}  # fmt: skip

WHEN = ("Date/Time", "Date", "Settle Date", "Report Date")  # a line that tells none of them is a total
PERIODS = ("FlexStatement", "Statement")  # sections that tell the period of a file
EVENTS = (*OF_ELEMENT, "CashTransaction", *OF_SECTION)  # those of the two formats that others give way to


def topic_of(line: Stored) -> str | None:
    """What a line tells of; None: it becomes no movement, or none that another format tells too."""
    if line.dialect == "ibkr_flex":
        if line.text("levelOfDetail") in ibkr_flex.DETAILS:
            return None
        return (
            OF_TYPE.get(line.text("type"))
            if line.section == "CashTransaction"
            else OF_ELEMENT.get(line.section)
        )
    if line.text("kind") != "Data":
        return None
    if line.dialect == "ibkr_activity":
        is_total = not any(map(line.text, WHEN))
        is_detail = line.text("DataDiscriminator") in ibkr_activity.DETAILS
        return None if is_total or is_detail else OF_SECTION.get(line.section)
    if line.dialect == "ibkr_transactions" and line.section == "Transaction History":
        return OF_TRANSACTION.get(line.text("Transaction Type"))
    return None


def period_of(line: Stored) -> tuple[date, date] | None:
    """The first and the last day of its statement, if this is the line that tells them and they can be read."""
    try:
        if line.section == "FlexStatement":
            said = [line.text(name).replace("-", "") for name in ("fromDate", "toDate")]
            return date.fromisoformat(said[0]), date.fromisoformat(said[1])
        if line.section == "Statement" and line.text("Field Name") in PERIOD:
            return first_day(line.text("Field Value")), last_day(line.text("Field Value"))
    except ValueError:
        pass  # a form of date that nobody knows: the file covers nothing
    return None


def day_of(line: Stored) -> date:
    """On which the broker booked what a line of a CSV tells: a statement is of what was booked in its period."""
    try:
        return date.fromisoformat(line.text("Report Date")[:10])
    except ValueError:
        return line.at.date()


def sum_of(line: Stored) -> tuple[str, str, Decimal] | None:
    """Topic, currency and amount of what changes the cash alone; None: it is something else, or a sum of others."""
    topic = topic_of(line)
    if topic in (None, TRADES, ACTIONS, TRANSFERS) or line.text("levelOfDetail") in ibkr_flex.COARSE:
        return None
    names = ("currency", "amount") if line.dialect == "ibkr_flex" else ("Currency", "Amount")
    try:
        return (topic, line.text(names[0]), line.number(names[1])) if line.text(names[1]) else None
    except ValueError:
        return None
