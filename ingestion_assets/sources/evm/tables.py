"""The tables of this family: `raw.evm_*`, and what `ops` remembers about chains.

Identity of a row = chain + block + natural key + ordinal among equals. Content is not identity: one
transaction may hold several transfers that are equal in every field, and explorers give no log index.
`id` is the hash of natural key and ordinal (see `records`). The block leads the key so that the index
grows at its end, whatever its size; a transaction is in one block of a chain only.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, UUID

metadata = sa.MetaData()

UINT256 = sa.Numeric(78, 0)
TIME = sa.DateTime(timezone=True)


def _table(
    name: str, natural_key: list[sa.Column[object]], attributes: list[sa.Column[object]], comment: str
) -> sa.Table:
    """The columns stand in the order in which `records` writes them."""
    return sa.Table(
        name,
        metadata,
        sa.Column("chain", sa.Text, primary_key=True),
        sa.Column("block_number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("block_time", TIME, nullable=False),
        *natural_key,
        sa.Column(
            "ordinal", sa.Integer, nullable=False, comment="among rows equal in the natural key, 0 first"
        ),
        *attributes,
        sa.Column("provider", sa.Text, nullable=False, comment="who gave the payload"),
        sa.Column("payload", JSONB, nullable=False, comment="the record as received"),
        sa.Column("id", UUID(as_uuid=True), primary_key=True, comment="hash of natural key and ordinal"),
        sa.Index(f"{name}_by_time", "chain", "block_time"),
        schema="raw",
        comment=comment,
    )


def _movement(*extra: sa.Column[object]) -> list[sa.Column[object]]:
    return [
        sa.Column("tx_hash", sa.Text, nullable=False, comment="0x…, lower case"),
        sa.Column("from_address", sa.Text, nullable=False),
        sa.Column("to_address", sa.Text, nullable=True, comment="null where a contract is created"),
        *extra,
        sa.Column("value", UINT256, nullable=False, comment="smallest unit: wei, or the token's"),
    ]


transactions = _table(
    "evm_transactions",
    _movement(),
    [
        sa.Column("tx_index", sa.Integer, nullable=False, comment="position in the block"),
        sa.Column("contract_address", sa.Text, nullable=True, comment="the contract it created"),
        sa.Column("nonce", sa.BigInteger, nullable=True),
        sa.Column("gas_used", sa.BigInteger, nullable=False),
        sa.Column("gas_price", UINT256, nullable=False, comment="effective, wei"),
        sa.Column("succeeded", sa.Boolean, nullable=False),
    ],
    "Transactions from or to watched accounts.",
)

internal_transactions = _table(
    "evm_internal_transactions",
    _movement(),
    [
        sa.Column("type", sa.Text, nullable=False, comment="call, create, create2, selfdestruct, …"),
        sa.Column("contract_address", sa.Text, nullable=True, comment="the contract it created"),
        sa.Column("failed", sa.Boolean, nullable=False),
        sa.Column("trace_id", sa.Text, nullable=True, comment="the provider's; differs between providers"),
    ],
    "Value calls, creations and self-destructs inside transactions, from or to watched accounts.",
)

token_transfers = _table(
    "evm_token_transfers",
    _movement(sa.Column("token_address", sa.Text, nullable=False)),
    [
        sa.Column("log_index", sa.Integer, nullable=True, comment="null where the provider does not tell"),
        sa.Column("token_symbol", sa.Text, nullable=True),
        sa.Column("token_decimals", sa.Integer, nullable=True),
    ],
    "ERC-20 transfers from or to watched accounts.",
)

chains = sa.Table(
    "chains",
    metadata,
    sa.Column("chain", sa.Text, primary_key=True),
    sa.Column("head", sa.BigInteger, nullable=False),
    sa.Column("final", sa.BigInteger, nullable=False),
    sa.Column("checked_at", TIME, nullable=False),
    schema="ops",
    comment="How far each chain was when it was last asked.",
)

block_times = sa.Table(
    "block_times",
    metadata,
    sa.Column("chain", sa.Text, primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("block", sa.BigInteger, nullable=False),
    schema="ops",
    comment="The first block of each UTC day that was ever needed; final, so it never changes.",
)
