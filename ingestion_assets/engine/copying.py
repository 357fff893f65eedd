"""The row path: COPY. Everything here runs inside the transaction of a commit, which `store` opens.

Rows are copied straight into the table while they are new, else into a private staging table and from there with
`INSERT … ON CONFLICT DO NOTHING`, or `DO UPDATE` where the row that has less in a column is to stay.

Two batches of one cursor are copied side by side and committed in turn. Where the same row is in both, the one before may
wait in Postgres for the one behind it, which waits here for its turn: no database sees such a deadlock, because one half
of it is ours. So whoever waits for long takes back what it has copied and goes by way of a staging table, which nobody
else can see.
"""

import psycopg
import sqlalchemy as sa
from psycopg import sql
from psycopg.rows import TupleRow

from ingestion_assets.engine import rows as copy_text
from ingestion_assets.engine.stream import Rejected, Rows, Turn

Connection = psycopg.Connection[TupleRow]

PATIENCE = 1.0  # seconds that copied rows may keep others waiting before it is their turn

# What Postgres says of a row that it cannot hold. The last two are OperationalErrors, but belong to the row: JSON
# that is nested too deeply, and values too large for jsonb or for an index, fail again every time.
REFUSED = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.errors.StatementTooComplex,
    psycopg.errors.ProgramLimitExceeded,
)


def insert(
    connection: Connection,
    rows: Rows,
    *,
    expect_new: bool = False,
    turn: Turn | None = None,
    patience: float = PATIENCE,
) -> tuple[int, list[Rejected]]:
    """Store rows that are not stored yet.

    Args:
        connection: inside a transaction.
        rows: one block of one table.
        expect_new: copy straight into the table first, which is a third cheaper when no row is stored yet.
        turn: of this batch, if another one is before it: come when this returns.
        patience: seconds that rows which were copied straight into the table wait for it.

    Returns:
        How many were new, and the rows that Postgres refuses for what they hold.
    """
    if not rows.count:
        return 0, []
    try:
        if expect_new:
            try:
                with connection.transaction() as straight:
                    _copy(connection, rows, _name(rows.table))
                    if turn is None or turn(patience):
                        return rows.count, []
                    raise psycopg.Rollback(straight)  # it may be that the batch before waits for these rows
            except psycopg.errors.UniqueViolation:
                pass  # some are stored: the careful way finds out which
        with connection.transaction():
            return _copy_new(connection, rows, turn), []
    except REFUSED as error:
        if rows.count == 1:
            return 0, [_refused(rows, error)]
    # Somewhere in the block is a row that Postgres refuses: halve until it stands alone.
    block = rows.lines.splitlines(keepends=True)
    middle = len(block) // 2
    inserted, refused = 0, []
    for half in (block[:middle], block[middle:]):
        new, bad = insert(connection, Rows(rows.table, b"".join(half), len(half), rows.least), turn=turn)
        inserted += new
        refused += bad
    return inserted, refused


def _copy_new(connection: Connection, rows: Rows, turn: Turn | None) -> int:
    """Copy into a staging table of this connection's own, and from there what is not stored yet."""
    target, stage = _name(rows.table), sql.Identifier(f"stage_{rows.table.fullname}")
    connection.execute(
        sql.SQL("CREATE TEMP TABLE IF NOT EXISTS {} (LIKE {}) ON COMMIT DELETE ROWS").format(stage, target)
    )
    connection.execute(
        sql.SQL("DELETE FROM {}").format(stage)
    )  # what an earlier half of this transaction left
    _copy(connection, rows, stage)
    if turn is not None:
        turn()
    names = _columns(rows.table)
    command = sql.SQL("INSERT INTO {} AS t ({names}) SELECT {names} FROM {} ").format(
        target, stage, names=names
    )
    if rows.least is None:
        return connection.execute(command + sql.SQL("ON CONFLICT DO NOTHING")).rowcount
    least, key = sql.Identifier(rows.least), sql.SQL(", ").join(map(sql.Identifier, rows.table.primary_key.columns.keys()))  # fmt: skip
    command += sql.SQL(
        "ON CONFLICT ({key}) DO UPDATE SET ({names}) = (SELECT excluded.*) WHERE excluded.{least} < t.{least}"
        " RETURNING xmax = 0"  # no transaction has put it in the place of another row
    ).format(key=key, names=names, least=least)
    return sum(is_new for (is_new,) in connection.execute(command).fetchall())


def _copy(connection: Connection, rows: Rows, into: sql.Identifier) -> None:
    command = sql.SQL("COPY {} ({}) FROM STDIN").format(into, _columns(rows.table))
    with connection.cursor() as cursor, cursor.copy(command) as copy:
        copy.write(rows.lines)


def _name(table: sa.Table) -> sql.Identifier:
    return sql.Identifier(*table.fullname.split("."))


def _columns(table: sa.Table) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)


def _refused(rows: Rows, error: psycopg.Error) -> Rejected:
    names = [column.name for column in rows.table.columns]
    raw = copy_text.column(rows.lines, names.index("payload")) if "payload" in names else rows.lines
    reason = error.diag.message_primary or str(error)
    if error.diag.table_name:  # the staging table has the same columns, and means nothing to anybody
        reason = reason.replace(f'"{error.diag.table_name}"', f'"{rows.table.name}"')
    return Rejected(raw, f"Postgres refuses it: {reason}")
