"""The events family: its table, what is known of its feeds, and how many rows a cursor has stored."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, UUID

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column(
        "cursors",
        sa.Column(
            "records", sa.BigInteger, nullable=False, server_default="0", comment="rows that it has stored"
        ),
        schema="ops",
    )
    op.create_table(
        "events",
        sa.Column(
            "id", UUID(as_uuid=True), primary_key=True, comment="the source's, or a hash of it and feed"
        ),
        sa.Column("feed", sa.Text, primary_key=True, comment="as in sources.yaml"),
        sa.Column("type", sa.Text, nullable=True),
        sa.Column("event_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("payload", JSONB, nullable=False, comment="the record as received"),
        schema="raw",
        comment="Events of paginated feeds.",
    )
    op.create_index("events_by_time", "events", ["event_time"], schema="raw", postgresql_using="brin")
    op.create_table(
        "feed_fields",
        sa.Column("feed", sa.Text, primary_key=True),
        sa.Column("field", sa.Text, primary_key=True, comment="a key of its records"),
        sa.Column("noticed_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        schema="ops",
        comment="Which fields the records of a feed have had, so that a new one is noticed once.",
    )
