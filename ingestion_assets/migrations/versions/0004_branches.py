"""How often each chain was taken back: what was read before that is not committed after it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "branches",
        sa.Column("chain", sa.Text, primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False, server_default="0"),
        schema="ops",
        comment="How often each chain was taken back: what was read before that is not committed after it.",
    )
