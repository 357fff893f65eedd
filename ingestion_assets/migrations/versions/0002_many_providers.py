"""Many providers: their state, what was learnt of them, reorganisations, and the transfers of whole tokens."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, UUID

revision = "0002"
down_revision = "0001"

TIME = sa.DateTime(timezone=True)
NOW = sa.text("now()")


def upgrade() -> None:
    _providers()
    _reorganisations()
    _tokens()


def _providers() -> None:
    op.create_table(
        "providers",
        sa.Column("scope", sa.Text, primary_key=True, comment="what it serves: the chain"),
        sa.Column("provider", sa.Text, primary_key=True),
        sa.Column(
            "state", sa.Text, nullable=False, server_default="closed", comment="closed, open, half-open"
        ),
        sa.Column("failures", sa.Integer, nullable=False, server_default="0", comment="in a row"),
        sa.Column("until", TIME, nullable=True, comment="while open: asked again after this"),
        sa.Column("reason", sa.Text, nullable=True, comment="the last failure"),
        sa.Column(
            "unsupported", JSONB, nullable=False, server_default="{}", comment="question: {reason, until}"
        ),
        sa.Column(
            "lies", sa.Integer, nullable=False, server_default="0", comment="answers that were proved wrong"
        ),
        sa.Column("last_lie", sa.Text, nullable=True),
        sa.Column("lied_at", TIME, nullable=True),
        sa.Column("succeeded_at", TIME, nullable=True),
        sa.Column("failed_at", TIME, nullable=True),
        schema="ops",
        comment="The circuit breaker of each provider, shared by all processes, and how often it was caught lying.",
    )
    op.create_table(
        "log_ranges",
        sa.Column("chain", sa.Text, primary_key=True),
        sa.Column("provider", sa.Text, primary_key=True),
        sa.Column("filter", sa.Text, primary_key=True, comment="class of question"),
        sa.Column("blocks", sa.BigInteger, nullable=False, comment="to ask for next"),
        sa.Column("most_blocks", sa.BigInteger, nullable=True, comment="what it allows, as far as it said"),
        sa.Column("most_logs", sa.BigInteger, nullable=True, comment="in one answer, as far as it said"),
        sa.Column("updated_at", TIME, nullable=False, server_default=NOW),
        schema="ops",
        comment="How many blocks one question for logs may span: learnt from refusals, kept for all runs.",
    )


def _reorganisations() -> None:
    op.create_table(
        "headers",
        sa.Column("chain", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("parent_hash", sa.Text, nullable=False),
        schema="ops",
        comment="Blocks we have built upon: all of the unfinal ones, and the last one of each run."
        " A reorganisation is found here.",
    )
    op.create_table(
        "reorgs",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("fork", sa.BigInteger, nullable=False, comment="the last block that both have"),
        sa.Column("head", sa.BigInteger, nullable=False, comment="the highest block we had built upon"),
        sa.Column("old_hash", sa.Text, nullable=False, comment="of that block, as we knew it"),
        sa.Column(
            "new_hash", sa.Text, nullable=True, comment="as it is now; null where the chain ends before it"
        ),
        sa.Column("streams", sa.Integer, nullable=False, comment="that had read beyond the fork"),
        sa.Column("noticed_at", TIME, nullable=False, server_default=NOW),
        schema="ops",
        comment="Reorganisations that reached what was stored. What lies beyond the fork is read again.",
    )
    op.create_index("reorgs_by_chain", "reorgs", ["chain", "fork"], schema="ops")


def _tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("chain", sa.Text, primary_key=True),
        sa.Column("token", sa.Text, primary_key=True),
        sa.Column("symbol", sa.Text, nullable=True),
        sa.Column("decimals", sa.Integer, nullable=True),
        schema="ops",
        comment="What token contracts say of themselves, for providers that give logs only.",
    )
    op.create_table(
        "evm_erc20_transfers",
        sa.Column("chain", sa.Text, primary_key=True),
        sa.Column("block_number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("block_time", TIME, nullable=False),
        sa.Column("tx_hash", sa.Text, nullable=False, comment="0x…, lower case"),
        sa.Column("from_address", sa.Text, nullable=False),
        sa.Column("to_address", sa.Text, nullable=True, comment="null where a contract is created"),
        sa.Column("token_address", sa.Text, nullable=False),
        sa.Column("value", sa.Numeric(78, 0), nullable=False, comment="smallest unit: wei, or the token's"),
        sa.Column(
            "ordinal", sa.Integer, nullable=False, comment="among rows equal in the natural key, 0 first"
        ),
        sa.Column("log_index", sa.Integer, nullable=False),
        sa.Column("block_hash", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False, comment="who gave the payload"),
        sa.Column("payload", JSONB, nullable=False, comment="the record as received"),
        sa.Column("id", UUID(as_uuid=True), primary_key=True, comment="hash of natural key and ordinal"),
        schema="raw",
        comment="Every ERC-20 transfer of the watched tokens, from logs.",
    )
    op.create_index(
        "evm_erc20_transfers_by_time", "evm_erc20_transfers", ["chain", "block_time"], schema="raw"
    )
