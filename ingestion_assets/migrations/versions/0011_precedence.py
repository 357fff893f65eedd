"""What the richer files of an account tell, so that the same lines of poorer ones are not counted beside them."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

# Which lines a file holds decides what it covers, and a file may bring no line that is new. So the account has changed, and
# none of its days has.
NOTE = """
CREATE FUNCTION ops.note_statement_files() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ops.statement_counters AS c (source, account, change)
    SELECT DISTINCT 'statements/lines', account, 1::bigint FROM changed ORDER BY 2
    ON CONFLICT (source, account) DO UPDATE SET change = c.change + 1;
    RETURN NULL;
END $$"""

# Accounts that hold several formats already are looked at once more.
AGAIN = """
UPDATE ops.statement_counters SET change = change + 1 WHERE source = 'statements/lines'"""


def upgrade() -> None:
    op.create_table(
        "statement_covers",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("file", sa.Text, primary_key=True, comment="SHA-256 of its content"),
        sa.Column("topic", sa.Text, primary_key=True, comment="trades, dividends, …"),
        sa.Column("first", sa.Date, primary_key=True, comment="of the statement's period"),
        sa.Column("last", sa.Date, primary_key=True),
        sa.Column("dialect", sa.Text, nullable=False, comment="of the file; poorer ones give way to it"),
        schema="ops",
        comment="What the richer files of an account tell, and of which days, as movements are derived by it.",
    )
    op.execute(NOTE)
    for event, rows in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
        op.execute(
            f"CREATE TRIGGER note_{event.lower()} AFTER {event} ON ops.statement_chunks REFERENCING {rows} TABLE AS changed"
            " FOR EACH STATEMENT EXECUTE FUNCTION ops.note_statement_files()"
        )
    op.execute(AGAIN)
