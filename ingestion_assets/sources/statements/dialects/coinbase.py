"""The transaction report of Coinbase: a CSV that may begin with a few lines about its owner.

https://help.coinbase.com/en/coinbase/taxes/reports/download-your-tax-reports
"""

from ingestion_assets.sources.statements.dialects.table import Column, Table, TableDialect
from ingestion_assets.sources.statements.values import number, text

COINBASE = TableDialect(
    name="coinbase",
    broker="coinbase",
    preamble=8,
    tables=(
        Table(
            section="Transactions",
            at="Timestamp",
            columns=(
                Column("ID", "id", text, optional=True),
                Column("Transaction Type", "type", text),
                Column("Asset", "asset", text),
                Column("Quantity Transacted", "quantity", number),
                Column("Price Currency", "price_currency", text, also=("Spot Price Currency",)),
                Column("Price at Transaction", "price", number, also=("Spot Price at Transaction",)),
                Column("Subtotal", "subtotal", number),
                Column("Total (inclusive of fees and/or spread)", "total", number),
                Column("Fees and/or Spread", "fees", number),
                Column("Notes", "notes", text),
            ),
        ),
    ),
)
