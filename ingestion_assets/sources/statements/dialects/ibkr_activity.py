"""The activity statement of Interactive Brokers as CSV: some thirty sections, in the language of the account.

https://www.ibkrguides.com/reportingreference/reportguide/activitystatements.htm
"""

from ingestion_assets.sources.statements.dialects.sections import IBKR_VALUES, Event, SectionDialect

_CASH = Event(
    ("Date", "Settle Date"), ("Currency", "Account", "Date", "Settle Date", "Description", "Amount")
)

ACTIVITY = SectionDialect(
    name="ibkr_activity",
    title=None,
    values=IBKR_VALUES,
    events={
        # Without what the day of the statement decides: closing price, gains marked to market, codes.
        "Trades": Event(
            ("Date/Time",),
            (
                "DataDiscriminator",
                "Account",
                "Currency",
                "Symbol",
                "Date/Time",
                "Quantity",
                "T. Price",
                "Proceeds",
            ),
        ),
        "Corporate Actions": Event(
            ("Date/Time", "Report Date"),
            ("Account", "Currency", "Report Date", "Date/Time", "Description", "Quantity", "Proceeds"),
        ),
        "Transaction Fees": Event(
            ("Date/Time",),
            ("Account", "Currency", "Date/Time", "Symbol", "Description", "Quantity", "Amount"),
        ),
        "Transfers": Event(
            ("Date",),
            ("Account", "Currency", "Symbol", "Date", "Type", "Direction", "Qty", "Cash Amount"),
        ),
        "Deposits & Withdrawals": _CASH,
        "Fees": _CASH,
        "Dividends": _CASH,
        "Payment In Lieu Of Dividends": _CASH,
        "Withholding Tax": _CASH,
        "Interest": _CASH,
        "Bond Interest Received": _CASH,
        "Commission Adjustments": _CASH,
        "Other Fees": _CASH,
    },
)
