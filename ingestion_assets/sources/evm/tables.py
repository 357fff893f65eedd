"""The tables of this family: `raw.evm_*`, and what `ops` remembers about chains.

Identity of a row = chain + block + natural key + ordinal among equals. Content is not identity: one
transaction may hold several transfers that are equal in every field, and explorers give no log index.
`id` is the hash of natural key and ordinal (see `records`). The block leads the key so that the index
grows at its end, whatever its size. A provider that shows a transaction in another block than it is in makes a second
row of it, which the proofs find.
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

erc20_transfers = _table(
    "evm_erc20_transfers",
    _movement(sa.Column("token_address", sa.Text, nullable=False)),
    [
        sa.Column("log_index", sa.Integer, nullable=False),
        sa.Column("block_hash", sa.Text, nullable=False),
    ],
    "Every ERC-20 transfer of the watched tokens, from logs.",
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

headers = sa.Table(
    "headers",
    metadata,
    sa.Column("chain", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Column("parent_hash", sa.Text, nullable=False),
    schema="ops",
    comment="Blocks we have built upon: all of the unfinal ones, and the last one of each run. A reorganisation is found here.",
)

reorgs = sa.Table(
    "reorgs",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("chain", sa.Text, nullable=False),
    sa.Column("fork", sa.BigInteger, nullable=False, comment="the last block that both have"),
    sa.Column("head", sa.BigInteger, nullable=False, comment="the highest block we had built upon"),
    sa.Column("old_hash", sa.Text, nullable=False, comment="of that block, as we knew it"),
    sa.Column(
        "new_hash", sa.Text, nullable=True, comment="as it is now; null where the chain ends before it"
    ),
    sa.Column("streams", sa.Integer, nullable=False, comment="that had read beyond the fork"),
    sa.Column("noticed_at", TIME, nullable=False, server_default=sa.text("now()")),
    sa.Index("reorgs_by_chain", "chain", "fork"),
    schema="ops",
    comment="Reorganisations that reached what was stored. What lies beyond the fork is read again.",
)

branches = sa.Table(
    "branches",
    metadata,
    sa.Column("chain", sa.Text, primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False, server_default="0"),
    schema="ops",
    comment="How often each chain was taken back: what was read before that is not committed after it.",
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("chain", sa.Text, primary_key=True),
    sa.Column("token", sa.Text, primary_key=True),
    sa.Column("symbol", sa.Text, nullable=True),
    sa.Column("decimals", sa.Integer, nullable=True),
    schema="ops",
    comment="What token contracts say of themselves, for providers that give logs only.",
)

log_ranges = sa.Table(
    "log_ranges",
    metadata,
    sa.Column("chain", sa.Text, primary_key=True),
    sa.Column("provider", sa.Text, primary_key=True),
    sa.Column("filter", sa.Text, primary_key=True, comment="class of question"),
    sa.Column("blocks", sa.BigInteger, nullable=False, comment="to ask for next"),
    sa.Column("most_blocks", sa.BigInteger, nullable=True, comment="what it allows, as far as it said"),
    sa.Column("most_logs", sa.BigInteger, nullable=True, comment="in one answer, as far as it said"),
    sa.Column("updated_at", TIME, nullable=False, server_default=sa.text("now()")),
    schema="ops",
    comment="How many blocks one question for logs may span: learnt from refusals, kept for all runs.",
)
