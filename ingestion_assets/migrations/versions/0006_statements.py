"""Statement files, what lies in their inbox, and the lines of them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

revision = "0006"
down_revision = "0005"

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "statement_lines",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("at", TIME, primary_key=True, comment="of the line; midnight UTC of its day where it tells none"),
        sa.Column("dialect", sa.Text, nullable=False, comment="the format it was read in"),
        sa.Column("section", sa.Text, nullable=False, comment="the part of the statement, by its English name"),
        sa.Column("ordinal", sa.Integer, nullable=False, comment="among lines of its file equal in the natural key, 0 first"),
        sa.Column("payload", JSONB, nullable=False, comment="its columns: decimals as text, times in UTC"),
        sa.Column("raw", sa.Text, nullable=False, comment="the line verbatim"),
        sa.Column("file", sa.Text, nullable=False, comment="SHA-256 of the file; of several that hold it the least"),
        sa.Column("line", sa.BigInteger, nullable=False, comment="where it begins in that file, from 1; of XML, its number among the elements"),
        sa.Column("id", UUID(as_uuid=True), primary_key=True, comment="hash of natural key and ordinal"),
        schema="raw",
        comment="Every line of every statement, once.",
    )  # fmt: skip
    op.create_table(
        "statement_files",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("hash", sa.Text, primary_key=True, comment="SHA-256 of its content"),
        sa.Column("path", sa.Text, nullable=False, comment="where it lies in the inbox; of a file in a ZIP, archive!name"),
        sa.Column("dialect", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False, comment="bytes"),
        sa.Column("positions", sa.BigInteger, nullable=False, comment="lines, or XML elements, that its stream wants; 0: it holds no record"),
        sa.Column("records", sa.BigInteger, nullable=False),
        sa.Column("weeks", ARRAY(sa.Date), nullable=False, comment="the Mondays of the weeks that its records lie in"),
        sa.Column("in_order", sa.Boolean, nullable=False, comment="its records stand in order of time, either way"),
        sa.Column("registered_at", TIME, nullable=False, server_default=sa.text("now()")),
        schema="ops",
        comment="Statement files by content. How far each is imported, ops.coverage says.",
    )  # fmt: skip
    op.create_table(
        "statement_inbox",
        sa.Column("path", sa.Text, primary_key=True, comment="relative to the inbox"),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("modified_ns", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False, comment="settling, registered, changed"),
        schema="ops",
        comment="What lay in the inbox when it was last looked at.",
    )
