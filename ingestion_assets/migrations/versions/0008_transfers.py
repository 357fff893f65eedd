"""The transfer store: its partitioned table, daily totals, and triggers that note what changes in the raw tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import INT8MULTIRANGE, JSONB, UUID

revision = "0008"
down_revision = "0007"

TIME = sa.DateTime(timezone=True)
NOW = sa.text("now()")
SOURCES = ("evm_token_transfers", "evm_erc20_transfers")


def upgrade() -> None:
    _transfers()
    _totals()
    _work()
    _triggers()
    _what_is_stored_already()


def _transfers() -> None:
    op.create_table(
        "transfers",
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("block_number", sa.BigInteger, nullable=False),
        sa.Column("block_time", TIME, nullable=False),
        sa.Column("tx_hash", sa.Text, nullable=False, comment="0x…, lower case"),
        sa.Column("log_index", sa.Integer, nullable=True, comment="null where nobody has told it yet"),
        sa.Column("token_address", sa.Text, nullable=False),
        sa.Column("from_address", sa.Text, nullable=False),
        sa.Column("to_address", sa.Text, nullable=True),
        sa.Column("value", sa.Numeric(78, 0), nullable=False, comment="the token's smallest unit"),
        sa.Column(
            "ordinal", sa.Integer, nullable=False, comment="among rows equal in the natural key, 0 first"
        ),
        sa.Column("token_symbol", sa.Text, nullable=True, comment="null where the record does not tell"),
        sa.Column("token_decimals", sa.Integer, nullable=True),
        sa.Column("provider", sa.Text, nullable=False, comment="who gave the payload"),
        sa.Column("payload", JSONB, nullable=False, comment="the record as received"),
        sa.Column("id", UUID(as_uuid=True), nullable=False, comment="hash of natural key and ordinal"),
        sa.Column(
            "place",
            sa.BigInteger,
            sa.Computed(
                "block_number * 16777216 + LEAST(COALESCE(log_index, 16777215), 16777215)", persisted=True
            ),
            nullable=False,
            comment="block_number * 2^24 + log index, or 2^24 - 1 where that is not known",
        ),
        sa.PrimaryKeyConstraint("block_number", "id", "block_time", "chain"),
        schema="core",
        comment="Every ERC-20 transfer that is known, once: the union of raw.evm_erc20_transfers and raw.evm_token_transfers.",
        postgresql_partition_by="LIST (chain)",
    )
    order = ["block_time", "place", "id"]
    indexes: dict[str, list[str | sa.TextClause]] = {
        "transfers_by_time": [*order],
        "transfers_by_sender": [sa.text("hashtextextended(from_address, 0)"), *order],
        "transfers_by_receiver": [sa.text("hashtextextended(to_address, 0)"), *order],
        "transfers_by_token": [sa.text("hashtextextended(token_address, 0)"), *order],
        "transfers_by_hash": [sa.text("hashtextextended(tx_hash, 0)")],
    }
    for name, columns in indexes.items():
        op.create_index(name, "transfers", columns, schema="core")


def _totals() -> None:
    op.create_table(
        "transfer_daily_totals",
        sa.Column("chain", sa.Text, primary_key=True),
        sa.Column("day", sa.Date, primary_key=True, comment="UTC"),
        sa.Column("token_address", sa.Text, primary_key=True),
        sa.Column("transfer_count", sa.BigInteger, nullable=False),
        sa.Column("volume", sa.Numeric, nullable=False, comment="the token's smallest unit"),
        sa.Column(
            "unique_addresses", sa.BigInteger, nullable=False, comment="senders and receivers, each once; 0x0 too"
        ),
        schema="core",
        comment="Transfers of each token and UTC day. Exact, but for the cells in ops.transfer_cells, which have changed since.",
    )  # fmt: skip


def _work() -> None:
    op.create_table(
        "transfer_changes",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("day", sa.Date, nullable=False, comment="UTC, of the rows that have changed"),
        sa.Column("blocks", INT8MULTIRANGE, nullable=False, comment="the blocks that have such rows, and no others"),
        sa.Column("rows", sa.BigInteger, nullable=False, comment="how many have changed"),
        sa.Column("noticed_at", TIME, nullable=False, server_default=NOW),
        schema="ops",
        comment="Blocks whose raw transfers have changed since core.transfers was made of them; written by triggers.",
    )  # fmt: skip
    op.create_index("transfer_changes_by_day", "transfer_changes", ["chain", "day", "id"], schema="ops")
    op.create_table(
        "transfer_cells",
        sa.Column("chain", sa.Text, primary_key=True),
        sa.Column("day", sa.Date, primary_key=True, comment="UTC"),
        sa.Column("token_address", sa.Text, primary_key=True),
        schema="ops",
        comment="Cells of core.transfer_daily_totals whose transfers have changed since they were added up.",
    )
    op.create_table(
        "transfer_floors",
        sa.Column("chain", sa.Text, primary_key=True),
        sa.Column("day", sa.Date, nullable=False, comment="the first day that is kept, the first of a month; UTC"),
        sa.Column("block", sa.BigInteger, nullable=False, comment="the first block that is kept"),
        sa.Column("moved_at", TIME, nullable=False, server_default=NOW),
        schema="ops",
        comment="Where the transfers of a chain begin to be kept: what lies before is neither stored nor missing.",
    )  # fmt: skip


# What has changed, by chain and day, a note for some 10,000 rows each: the work of one transaction is a few of them.
_NOTES = """
    INSERT INTO ops.transfer_changes (chain, day, blocks, rows)
    SELECT chain, day, range_agg(int8range(block_number, block_number, '[]')), sum(rows)
    FROM (SELECT chain, day, block_number, rows,
                 (sum(rows) OVER (PARTITION BY chain, day ORDER BY block_number) - 1) / 10000 AS part
          FROM (SELECT chain, timezone('UTC', block_time)::date AS day, block_number, count(*)::bigint AS rows
                FROM {changed} GROUP BY 1, 2, 3) AS blocks) AS parts
    GROUP BY chain, day, trunc(part)"""


def _triggers() -> None:
    op.execute(
        f"""
        CREATE FUNCTION ops.note_transfers() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            {_NOTES.format(changed="changed")};
            RETURN NULL;
        END $$"""
    )
    for table in SOURCES:
        for event, rows in (("INSERT", "NEW"), ("DELETE", "OLD")):
            op.execute(
                f"CREATE TRIGGER note_{event.lower()} AFTER {event} ON raw.{table}"
                f" REFERENCING {rows} TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION ops.note_transfers()"
            )
        # Nothing of ours updates them. If somebody does, both what was and what is has changed.
        for rows in ("OLD", "NEW"):
            op.execute(
                f"CREATE TRIGGER note_update_{rows.lower()} AFTER UPDATE ON raw.{table}"
                f" REFERENCING {rows} TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION ops.note_transfers()"
            )


def _what_is_stored_already() -> None:
    for table in SOURCES:
        op.execute(_NOTES.format(changed=f"raw.{table}"))
