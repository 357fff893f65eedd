"""The transaction records of Binance: one CSV, times in UTC, each leg of a trade on a line of its own.

https://www.binance.com/en/support/faq/detail/990afa0a0a9341f78e7a9298a9575163
"""

from ingestion_assets.sources.statements.dialects.table import Column, Table, TableDialect
from ingestion_assets.sources.statements.values import number, text

BINANCE = TableDialect(
    name="binance",
    broker="binance",
    tables=(
        Table(
            section="Transactions",
            at="UTC_Time",
            account="user_id",
            columns=(
                Column("User_ID", "user_id", text),
                Column("Account", "wallet", text),
                Column("Operation", "operation", text),
                Column("Coin", "coin", text),
                Column("Change", "change", number),
                Column("Remark", "remark", text),
            ),
        ),
    ),
)
