"""Who has moved a cursor last: two workers side by side may move it to the same place."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column(
        "cursors",
        sa.Column("moved_by", UUID(as_uuid=True), comment="the writer that has moved it last, which is open for one drain"),
        schema="ops",
    )  # fmt: skip
