"""Who waits for the slots of a budget, in order, so that batches of several slots get their turn."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "rate_queue",
        sa.Column("place", sa.BigInteger, primary_key=True),
        sa.Column("budget", sa.Text, nullable=False),
        sa.Column("permits", sa.Integer, nullable=False, comment="slots that it waits for"),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False, comment="void after this"),
        schema="ops",
        comment="Requests that wait for slots, in the order in which they came.",
    )
    op.create_index("rate_queue_budget", "rate_queue", ["budget", "place"], schema="ops")
