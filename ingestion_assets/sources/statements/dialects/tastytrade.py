"""The transaction history of Tastytrade: one CSV of 21 columns, newest first; the older exports have no Total.

https://support.tastytrade.com/support/s/solutions/articles/43000435192
"""

from ingestion_assets.sources.statements.dialects.table import Column, Table, TableDialect
from ingestion_assets.sources.statements.values import american_date, number, text, zoned

TASTYTRADE = TableDialect(
    name="tastytrade",
    broker="tastytrade",
    tables=(
        Table(
            section="History",
            at="Date",
            time=zoned,
            columns=(
                Column("Type", "type", text),
                Column("Sub Type", "sub_type", text),
                Column("Action", "action", text),
                Column("Symbol", "symbol", text),
                Column("Instrument Type", "instrument_type", text),
                Column("Description", "description", text),
                Column("Value", "value", number),
                Column("Quantity", "quantity", number),
                Column("Average Price", "average_price", number),
                Column("Commissions", "commissions", number),
                Column("Fees", "fees", number),
                Column("Multiplier", "multiplier", number),
                Column("Root Symbol", "root_symbol", text),
                Column("Underlying Symbol", "underlying_symbol", text),
                Column("Expiration Date", "expiration_date", american_date),
                Column("Strike Price", "strike_price", number),
                Column("Call or Put", "call_or_put", text),
                Column("Order #", "order", text),
                # Only some exports of the same line have it; it is Value, Commissions and Fees, give or take a cent.
                Column("Total", "total", number, in_key=False, optional=True),
                Column("Currency", "currency", text),
            ),
        ),
    ),
)
