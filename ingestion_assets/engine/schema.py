"""The engine's own tables, in the schema `ops`: how far every stream is, and what went wrong on the way.

DDL comes from `ingestion_assets/migrations`; a test compares the two. Rows of sources live in `raw`.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, UUID

metadata = sa.MetaData()
NOW = sa.text("now()")


coverage = sa.Table(
    "coverage",
    metadata,
    sa.Column("stream", sa.Text, primary_key=True),
    sa.Column("lo", sa.BigInteger, primary_key=True),
    sa.Column("hi", sa.BigInteger, nullable=False),
    sa.Column("evidence", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("records", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
    sa.CheckConstraint("lo <= hi", name="coverage_is_a_range"),
    schema="ops",
    comment="Ranges of a stream that are whole, disjoint; evidence says why we believe so.",
)

cursors = sa.Table(
    "cursors",
    metadata,
    sa.Column("stream", sa.Text, primary_key=True),
    sa.Column("value", JSONB, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
    sa.Column(
        "records", sa.BigInteger, nullable=False, server_default="0", comment="rows that it has stored"
    ),
    sa.Column(
        "moved_by",
        UUID(as_uuid=True),
        comment="the writer that has moved it last, which is open for one drain",
    ),
    schema="ops",
    comment="Position of feeds without a domain of their own; epoch counts its moves and fences late workers.",
)

unproved = sa.Table(
    "unproved",
    metadata,
    sa.Column("stream", sa.Text, primary_key=True),
    sa.Column("lo", sa.BigInteger, primary_key=True),
    sa.Column("hi", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("noticed_at", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
    schema="ops",
    comment="Gaps that the source could not prove whole when last asked.",
)

dead_letters = sa.Table(
    "dead_letters",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("stream", sa.Text, nullable=False),
    sa.Column("lo", sa.BigInteger, nullable=True),
    sa.Column("hi", sa.BigInteger, nullable=True),
    sa.Column("position", sa.BigInteger, nullable=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("raw", sa.LargeBinary, nullable=False),
    sa.Column("noticed_at", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
    sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
    sa.Index("dead_letters_open", "stream", "lo", postgresql_where=sa.text("settled_at IS NULL")),
    schema="ops",
    comment="Records we could not store, as received. Settled when their range was read again.",
)

feed_fields = sa.Table(
    "feed_fields",
    metadata,
    sa.Column("feed", sa.Text, primary_key=True),
    sa.Column("field", sa.Text, primary_key=True, comment="a key of its records"),
    sa.Column("noticed_at", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
    schema="ops",
    comment="Which fields the records of a feed have had, so that a new one is noticed once.",
)

rate_slots = sa.Table(
    "rate_slots",
    metadata,
    sa.Column("budget", sa.Text, primary_key=True),
    sa.Column("slot", sa.Integer, primary_key=True),
    sa.Column("free_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("'-infinity'")),
    schema="ops",
    comment="A budget of n requests a window has n slots; each is used once a window, by any process.",
)

rate_queue = sa.Table(
    "rate_queue",
    metadata,
    sa.Column("place", sa.BigInteger, primary_key=True),
    sa.Column("budget", sa.Text, nullable=False),
    sa.Column("permits", sa.Integer, nullable=False, comment="slots that it waits for"),
    sa.Column("until", sa.DateTime(timezone=True), nullable=False, comment="void after this"),
    sa.Index("rate_queue_budget", "budget", "place"),
    schema="ops",
    comment="Requests that wait for slots, in the order in which they came.",
)

rate_days = sa.Table(
    "rate_days",
    metadata,
    sa.Column("budget", sa.Text, primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("used", sa.BigInteger, nullable=False),
    schema="ops",
    comment="Requests of each budget and UTC day, retries included.",
)

providers = sa.Table(
    "providers",
    metadata,
    sa.Column("scope", sa.Text, primary_key=True, comment="what it serves: the chain"),
    sa.Column("provider", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False, server_default="closed", comment="closed, open, half-open"),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0", comment="in a row"),
    sa.Column(
        "until", sa.DateTime(timezone=True), nullable=True, comment="while open: asked again after this"
    ),
    sa.Column("reason", sa.Text, nullable=True, comment="the last failure"),
    sa.Column("unsupported", JSONB, nullable=False, server_default="{}", comment="question: {reason, until}"),
    sa.Column(
        "lies", sa.Integer, nullable=False, server_default="0", comment="answers that were proved wrong"
    ),
    sa.Column("last_lie", sa.Text, nullable=True),
    sa.Column("lied_at", sa.DateTime(timezone=True), nullable=True),
    sa.Column("succeeded_at", sa.DateTime(timezone=True), nullable=True),
    sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True),
    schema="ops",
    comment="The circuit breaker of each provider, shared by all processes, and how often it was caught lying.",
)
