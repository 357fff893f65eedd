"""The tables of this family: `core.transfers`, what it adds up to, and what is left to do.

**Identity** is that of the raw tables: chain, block and `id`, the hash of natural key and ordinal. A transfer known from
logs and the same one from a list without log indexes have one `id`, so the union of both tables by it is the multiset
maximum of both.

**Order.** Pages go by `ORDER`: time, chain, place, id; no two rows are equal in all four, and none of them is ever null.
`place` is the block and the log index in one number. Where the log index is not known the row is the last of its block,
and moves to its place, within the block, on the day that somebody tells it.

**Partitions.** One for each chain and month: `core.transfers` by LIST (chain), and below by RANGE (block_time). So the
indexes hold no chain, and a query for one chain, with its rows in the order of time, is an index scan that begins in the
newest (or oldest) month and ends when the page is full. There is no default partition: it would cost that order. Pages over
several chains are one such query for each chain, each with the page's limit, joined by UNION ALL, sorted, and cut. After the
row (time, chain, place, id) of a page that goes forward come, of each chain c,

    c before `chain`    (block_time) > (time)
    c = `chain`         (block_time, place, id) > (time, place, id)
    c after `chain`     (block_time) >= (time)

and backward the same with every sign turned. Write the comparison of several columns as a row comparison, which Postgres
looks up in the index, and add `block_time >= time` beside it: only that lets Postgres leave out whole months.

**Filters**, for each chain, all in that order:

    time                block_time between two times                        transfers_by_time
    block, blocks       between the times of both ends, which `transfers_pkey` tells: the block_time of the first row with
                        block_number >= lo, and of the last one with block_number <= hi; and block_number between lo and hi
    sender, receiver    `same(column, value)`                               transfers_by_sender, transfers_by_receiver
    address             both of these joined by UNION ALL, the second one without rows whose sender is the address too
    token               `same(column, value)`                               transfers_by_token
    hash                `same(column, value)`                               transfers_by_hash; a handful of rows, then sorted

The last four index a 64-bit hash of the text: 8 bytes instead of 43 or 67. `same` compares both, so that a hash that two
texts share does no harm.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import INT8MULTIRANGE, JSONB, UUID

metadata = sa.MetaData()

UINT256 = sa.Numeric(78, 0)
TIME = sa.DateTime(timezone=True)
NOW = sa.text("now()")

ORDER = ("block_time", "chain", "place", "id")

# 2^24 places in a block, the last of which is that of rows without a log index; blocks up to 2^39.
PLACE = "block_number * 16777216 + LEAST(COALESCE(log_index, 16777215), 16777215)"


def _hash(column: str) -> sa.TextClause:
    return sa.text(f"hashtextextended({column}, 0)")


def _order() -> tuple[str, str, str]:
    return "block_time", "place", "id"


transfers = sa.Table(
    "transfers",
    metadata,
    sa.Column("chain", sa.Text, nullable=False),
    sa.Column("block_number", sa.BigInteger, nullable=False),
    sa.Column("block_time", TIME, nullable=False),
    sa.Column("tx_hash", sa.Text, nullable=False, comment="0x…, lower case"),
    sa.Column("log_index", sa.Integer, nullable=True, comment="null where nobody has told it yet"),
    sa.Column("token_address", sa.Text, nullable=False),
    sa.Column("from_address", sa.Text, nullable=False),
    sa.Column("to_address", sa.Text, nullable=True),
    sa.Column("value", UINT256, nullable=False, comment="the token's smallest unit"),
    sa.Column("ordinal", sa.Integer, nullable=False, comment="among rows equal in the natural key, 0 first"),
    sa.Column("token_symbol", sa.Text, nullable=True, comment="null where the record does not tell"),
    sa.Column("token_decimals", sa.Integer, nullable=True),
    sa.Column("provider", sa.Text, nullable=False, comment="who gave the payload"),
    sa.Column("payload", JSONB, nullable=False, comment="the record as received"),
    sa.Column("id", UUID(as_uuid=True), nullable=False, comment="hash of natural key and ordinal"),
    sa.Column(
        "place",
        sa.BigInteger,
        sa.Computed(PLACE, persisted=True),
        nullable=False,
        comment="block_number * 2^24 + log index, or 2^24 - 1 where that is not known",
    ),
    sa.PrimaryKeyConstraint("block_number", "id", "block_time", "chain"),
    sa.Index("transfers_by_time", *_order()),
    sa.Index("transfers_by_sender", _hash("from_address"), *_order()),
    sa.Index("transfers_by_receiver", _hash("to_address"), *_order()),
    sa.Index("transfers_by_token", _hash("token_address"), *_order()),
    sa.Index("transfers_by_hash", _hash("tx_hash")),
    schema="core",
    comment="Every ERC-20 transfer that is known, once: the union of raw.evm_erc20_transfers and raw.evm_token_transfers.",
    postgresql_partition_by="LIST (chain)",
)

daily_totals = sa.Table(
    "transfer_daily_totals",
    metadata,
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
)

changes = sa.Table(
    "transfer_changes",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("chain", sa.Text, nullable=False),
    sa.Column("day", sa.Date, nullable=False, comment="UTC, of the rows that have changed"),
    sa.Column(
        "blocks", INT8MULTIRANGE, nullable=False, comment="the blocks that have such rows, and no others"
    ),
    sa.Column("rows", sa.BigInteger, nullable=False, comment="how many have changed"),
    sa.Column("noticed_at", TIME, nullable=False, server_default=NOW),
    sa.Index("transfer_changes_by_day", "chain", "day", "id"),
    schema="ops",
    comment="Blocks whose raw transfers have changed since core.transfers was made of them; written by triggers.",
)

cells = sa.Table(
    "transfer_cells",
    metadata,
    sa.Column("chain", sa.Text, primary_key=True),
    sa.Column("day", sa.Date, primary_key=True, comment="UTC"),
    sa.Column("token_address", sa.Text, primary_key=True),
    schema="ops",
    comment="Cells of core.transfer_daily_totals whose transfers have changed since they were added up.",
)

floors = sa.Table(
    "transfer_floors",
    metadata,
    sa.Column("chain", sa.Text, primary_key=True),
    sa.Column(
        "day", sa.Date, nullable=False, comment="the first day that is kept, the first of a month; UTC"
    ),
    sa.Column("block", sa.BigInteger, nullable=False, comment="the first block that is kept"),
    sa.Column("moved_at", TIME, nullable=False, server_default=NOW),
    schema="ops",
    comment="Where the transfers of a chain begin to be kept: what lies before is neither stored nor missing.",
)


def same(column: sa.ColumnElement[str], value: str | sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Whether an address, a token or a transaction's hash is this one, in the words of its index; values in lower case."""
    zero: sa.ColumnElement[int] = sa.literal_column("0")
    return sa.and_(
        sa.func.hashtextextended(column, zero) == sa.func.hashtextextended(value, zero), column == value
    )
