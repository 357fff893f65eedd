"""The transaction history of Interactive Brokers as CSV: one section that matters, amounts in the base currency.

https://www.ibkrguides.com/clientportal/performanceandstatements/transaction-history.htm
"""

from ingestion_assets.sources.statements.dialects.sections import IBKR_VALUES, Event, SectionDialect

TRANSACTION_HISTORY = SectionDialect(
    name="ibkr_transactions",
    title="Transaction History",
    values=IBKR_VALUES,
    events={
        "Transaction History": Event(
            ("Date",),
            (
                "Date",
                "Account",
                "Description",
                "Transaction Type",
                "Symbol",
                "Quantity",
                "Price",
                "Gross Amount",
                "Commission",
                "Net Amount",
            ),
        )
    },
)
