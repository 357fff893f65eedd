"""The ledgers of Kraken: one CSV, times in UTC. A line without txid is the shadow of one that has it; it is kept as it is.

https://support.kraken.com/hc/en-us/articles/360001169383
"""

from ingestion_assets.sources.statements.dialects.table import Column, Table, TableDialect
from ingestion_assets.sources.statements.values import number, text

KRAKEN = TableDialect(
    name="kraken_ledgers",
    broker="kraken",
    tables=(
        Table(
            section="Ledgers",
            at="time",
            columns=(
                Column("txid", "txid", text),
                Column("refid", "refid", text),
                Column("type", "type", text),
                Column("subtype", "subtype", text),
                Column("aclass", "aclass", text),
                Column("subclass", "subclass", text, in_key=False, optional=True),
                Column("asset", "asset", text),
                Column("wallet", "wallet", text, in_key=False, optional=True),
                Column("amount", "amount", number),
                Column("fee", "fee", number),
                Column("balance", "balance", number),
                Column("amountusd", "amount_usd", number, in_key=False, optional=True),
            ),
        ),
    ),
)
