"""The schemas, the engine's tables, and the tables of watched EVM accounts."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, UUID

revision = "0001"
down_revision = None

TIME = sa.DateTime(timezone=True)
NOW = sa.text("now()")
UINT256 = sa.Numeric(78, 0)


def upgrade() -> None:
    for schema in ("raw", "core", "ops"):
        op.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    _marks()
    _budgets()
    _chains()
    _accounts()


def _marks() -> None:
    op.create_table(
        "coverage",
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column("lo", sa.BigInteger, primary_key=True),
        sa.Column("hi", sa.BigInteger, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("records", sa.BigInteger, nullable=False),
        sa.Column("updated_at", TIME, nullable=False, server_default=NOW),
        sa.CheckConstraint("lo <= hi", name="coverage_is_a_range"),
        schema="ops",
        comment="Ranges of a stream that are whole, disjoint; evidence says why we believe so.",
    )
    op.create_table(
        "cursors",
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column("value", JSONB, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("updated_at", TIME, nullable=False, server_default=NOW),
        schema="ops",
        comment="Position of feeds without a domain of their own; epoch counts its moves and fences late workers.",
    )
    op.create_table(
        "unproved",
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column("lo", sa.BigInteger, primary_key=True),
        sa.Column("hi", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("noticed_at", TIME, nullable=False, server_default=NOW),
        schema="ops",
        comment="Gaps that the source could not prove whole when last asked.",
    )
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("lo", sa.BigInteger, nullable=True),
        sa.Column("hi", sa.BigInteger, nullable=True),
        sa.Column("position", sa.BigInteger, nullable=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("raw", sa.LargeBinary, nullable=False),
        sa.Column("noticed_at", TIME, nullable=False, server_default=NOW),
        sa.Column("settled_at", TIME, nullable=True),
        schema="ops",
        comment="Records we could not store, as received. Settled when their range was read again.",
    )
    op.create_index(
        "dead_letters_open",
        "dead_letters",
        ["stream", "lo"],
        schema="ops",
        postgresql_where=sa.text("settled_at IS NULL"),
    )


def _budgets() -> None:
    op.create_table(
        "rate_slots",
        sa.Column("budget", sa.Text, primary_key=True),
        sa.Column("slot", sa.Integer, primary_key=True),
        sa.Column("free_at", TIME, nullable=False, server_default=sa.text("'-infinity'")),
        schema="ops",
        comment="A budget of n requests a window has n slots; each is used once a window, by any process.",
    )
    op.create_table(
        "rate_days",
        sa.Column("budget", sa.Text, primary_key=True),
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("used", sa.BigInteger, nullable=False),
        schema="ops",
        comment="Requests of each budget and UTC day, retries included.",
    )


def _chains() -> None:
    op.create_table(
        "chains",
        sa.Column("chain", sa.Text, primary_key=True),
        sa.Column("head", sa.BigInteger, nullable=False),
        sa.Column("final", sa.BigInteger, nullable=False),
        sa.Column("checked_at", TIME, nullable=False),
        schema="ops",
        comment="How far each chain was when it was last asked.",
    )
    op.create_table(
        "block_times",
        sa.Column("chain", sa.Text, primary_key=True),
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("block", sa.BigInteger, nullable=False),
        schema="ops",
        comment="The first block of each UTC day that was ever needed; final, so it never changes.",
    )


def _accounts() -> None:
    _raw_table(
        "evm_transactions",
        [],
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
    _raw_table(
        "evm_internal_transactions",
        [],
        [
            sa.Column("type", sa.Text, nullable=False, comment="call, create, create2, selfdestruct, …"),
            sa.Column("contract_address", sa.Text, nullable=True, comment="the contract it created"),
            sa.Column("failed", sa.Boolean, nullable=False),
            sa.Column(
                "trace_id", sa.Text, nullable=True, comment="the provider's; differs between providers"
            ),
        ],
        "Value calls, creations and self-destructs inside transactions, from or to watched accounts.",
    )
    _raw_table(
        "evm_token_transfers",
        [sa.Column("token_address", sa.Text, nullable=False)],
        [
            sa.Column(
                "log_index", sa.Integer, nullable=True, comment="null where the provider does not tell"
            ),
            sa.Column("token_symbol", sa.Text, nullable=True),
            sa.Column("token_decimals", sa.Integer, nullable=True),
        ],
        "ERC-20 transfers from or to watched accounts.",
    )


def _raw_table(
    name: str, in_key: list[sa.Column[object]], attributes: list[sa.Column[object]], comment: str
) -> None:
    op.create_table(
        name,
        sa.Column("chain", sa.Text, primary_key=True),
        sa.Column("block_number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("block_time", TIME, nullable=False),
        sa.Column("tx_hash", sa.Text, nullable=False, comment="0x…, lower case"),
        sa.Column("from_address", sa.Text, nullable=False),
        sa.Column("to_address", sa.Text, nullable=True, comment="null where a contract is created"),
        *in_key,
        sa.Column("value", UINT256, nullable=False, comment="smallest unit: wei, or the token's"),
        sa.Column(
            "ordinal", sa.Integer, nullable=False, comment="among rows equal in the natural key, 0 first"
        ),
        *attributes,
        sa.Column("provider", sa.Text, nullable=False, comment="who gave the payload"),
        sa.Column("payload", JSONB, nullable=False, comment="the record as received"),
        sa.Column("id", UUID(as_uuid=True), primary_key=True, comment="hash of natural key and ordinal"),
        schema="raw",
        comment=comment,
    )
    op.create_index(f"{name}_by_time", name, ["chain", "block_time"], schema="raw")
