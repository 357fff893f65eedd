"""The exports of KuCoin: account history, deposits, withdrawals, spot orders, their fills, fills of bots, and conversions.

Times are those of the zone in the header.

Other exports of KuCoin (futures, margin, earn, snapshots) are not read, and refused as unknown.
https://www.kucoin.com/support/900005034986
"""

from ingestion_assets.sources.statements.dialects.table import Column, Table, TableDialect
from ingestion_assets.sources.statements.values import number, text

_OWNER = (Column("UID", "uid", text), Column("Account Type", "account_type", text))
_ORDER = (
    Column("Order ID", "order_id", text),
    Column("Symbol", "symbol", text),
    Column("Side", "side", text),
    Column("Order Type", "order_type", text),
)
_FILL = (
    Column("Avg. Filled Price", "price", number, also=("Filled Price",)),
    Column("Filled Amount", "amount", number),
    Column("Filled Volume", "volume", number),
    Column("Filled Volume (USDT)", "volume_usdt", number, in_key=False),
    Column("Fee", "fee", number),
    Column("Fee Currency", "fee_currency", text),
)
_MOVEMENT = (
    *_OWNER,
    Column("Coin", "coin", text),
    Column("Amount", "amount", number),
    Column("Fee", "fee", number),
    Column("Hash", "hash", text),
    Column("Transfer Network", "network", text),
    Column("Status", "status", text),
    Column("Remarks", "remarks", text),
)

KUCOIN = TableDialect(
    name="kucoin",
    broker="kucoin",
    remarks=frozenset({"No matching records found.", "No matching records found"}),
    tables=(
        Table(
            section="Account History",
            at="Time",
            account="uid",
            columns=(
                *_OWNER,
                Column("Currency", "coin", text),
                Column("Side", "side", text),
                Column("Amount", "amount", number),
                Column("Fee", "fee", number),
                Column("Remark", "remarks", text),
                Column("Type", "type", text, in_key=False, optional=True),
            ),
        ),
        Table("Deposits", "Time", (*_MOVEMENT, Column("Deposit Address", "address", text)), account="uid"),
        Table(
            "Withdrawals",
            "Time",
            (*_MOVEMENT, Column("Withdrawal Address/Account", "address", text)),
            account="uid",
        ),
        Table(
            "Spot Orders",
            "Filled Time",
            (
                *_OWNER,
                *_ORDER,
                Column("Order Time", "order_time_as_written", text, in_key=False),
                Column("Order Price", "order_price", number),
                Column("Order Amount", "order_amount", number),
                *_FILL,
                Column("Tax", "tax", number, in_key=False, optional=True),
                Column("Status", "status", text),
            ),
            account="uid",
        ),
        Table(
            "Spot Fills",
            "Filled Time",
            (
                *_OWNER,
                *_ORDER,
                *_FILL,
                Column("Tax", "tax", number, in_key=False, optional=True),
                Column("Maker/Taker", "maker_or_taker", text, optional=True),
            ),
            account="uid",
            also=("Time Filled",),  # of trading bots
        ),
        Table(
            "Convert",
            "Time of Update",
            (
                *_OWNER,
                Column("Payment Account", "payment_account", text),
                Column("Sell", "sell", text),
                Column("Buy", "buy", text),
                Column("Price", "price", text),
                Column("Tax", "tax", number, in_key=False, optional=True),
                Column("Status", "status", text),
            ),
            account="uid",
        ),
    ),
)
