"""The sink on Postgres: rows, dead letters and the mark of a batch in ONE transaction.

The row path is COPY: straight into the table while rows are new, else into a private staging table and
from there with `INSERT … ON CONFLICT DO NOTHING`. Rows that are stored already count as duplicates, so
committing a batch twice changes nothing, and two workers on one range do no harm.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec
import psycopg
import sqlalchemy as sa
import tenacity
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolTimeout
from sqlalchemy.dialects import postgresql

from ingestion_assets.engine import marks
from ingestion_assets.engine import rows as copy_text
from ingestion_assets.engine.coverage import Ranges, union
from ingestion_assets.engine.errors import DatabaseUnavailable, Fenced, Transient
from ingestion_assets.engine.stream import (
    Batch,
    Covered,
    Cursor,
    Done,
    Raised,
    Rejected,
    Rows,
    Stream,
    Tally,
    Unproved,
)

T = TypeVar("T")
DIALECT = postgresql.psycopg.dialect()  # type: ignore[no-untyped-call]
Connection = psycopg.Connection[TupleRow]

# Lost connections, deadlocks between two workers and serialisation failures: the same commit may succeed next time.
PASSING = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout)

# What Postgres says of a row that it cannot hold. The last two are OperationalErrors, but belong to the row: JSON
# that is nested too deeply, and values too large for jsonb or for an index, fail again every time.
REFUSED = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.errors.StatementTooComplex,
    psycopg.errors.ProgramLimitExceeded,
)


WAIT = tenacity.wait_random_exponential(multiplier=0.2, max=10)  # seconds


def connection_pool(url: str, *, max_size: int = 4, timeout: float = 30.0) -> ConnectionPool[Connection]:
    """Connections to Postgres, checked before use, opened when first needed.

    Args:
        url: postgresql://…, as libpq takes it.
        max_size: most connections of this process.
        timeout: seconds to wait for one.
    """
    return ConnectionPool(
        url,
        min_size=0,
        max_size=max_size,
        timeout=timeout,
        open=True,
        check=ConnectionPool.check_connection,
        configure=_configure,
        kwargs={"application_name": "ingestion_assets"},
    )


def _configure(connection: Connection) -> None:
    """Room for a page of rows in a staging table without spilling; it is taken only when used."""
    connection.execute("SET temp_buffers = '64MB'")
    connection.commit()


class Store:
    """Commits batches to Postgres and knows what is committed.

    Args:
        pool: from `connection_pool`.
        attempts: how often a transaction is tried when the database goes away or breaks a deadlock.
        wait: how to wait between attempts (a tenacity strategy; seconds).
    """

    def __init__(
        self,
        pool: ConnectionPool[Connection],
        *,
        attempts: int = 5,
        wait: tenacity.wait.WaitBaseT = WAIT,
    ) -> None:
        self.pool = pool
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(PASSING),
            stop=tenacity.stop_after_attempt(attempts),
            wait=wait,
            reraise=True,
        )

    def open(self, stream: Stream) -> "StreamWriter":
        """A writer for one stream, knowing what is committed of it."""
        return StreamWriter(self, stream.keys)

    def transaction(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction; run it again, from the start, when the database failed in passing.

        Raises:
            DatabaseUnavailable: it failed every time.
        """

        def attempt() -> T:
            with self.pool.connection() as connection, connection.transaction():
                return work(connection)

        try:
            return self._retrying(attempt)
        except PASSING as error:
            raise DatabaseUnavailable(
                f"Postgres does not answer ({_place(self.pool.conninfo)}): {error}; what is committed stays, "
                "and the next run goes on from there"
            ) from error

    def covered(self, streams: Iterable[str]) -> dict[str, Ranges]:
        """The ranges that are whole, by stream; streams without any are left out."""
        return self._ranges("coverage", streams)

    def unproved(self, streams: Iterable[str]) -> dict[str, Ranges]:
        """The gaps that the source could not prove whole when it was last asked, by stream."""
        return self._ranges("unproved", streams)

    def evidence(self, streams: Iterable[str], lo: int, hi: int) -> dict[str, int]:
        """How many of these streams have coverage of each level of evidence between `lo` and `hi`."""
        query = (
            "SELECT evidence, count(DISTINCT stream) FROM ops.coverage"
            " WHERE stream = ANY(%s) AND hi >= %s AND lo <= %s GROUP BY 1 ORDER BY 1"
        )
        return dict(self.transaction(lambda c: c.execute(query, [list(streams), lo, hi]).fetchall()))

    def covered_by(self, streams: Iterable[str]) -> list[tuple[str, int, int, str, str]]:
        """Every covered range of these streams: stream, lo, hi, level of evidence, and by whose word."""
        query = "SELECT stream, lo, hi, evidence, provider FROM ops.coverage WHERE stream = ANY(%s) ORDER BY stream, lo"
        return self.transaction(lambda c: c.execute(query, [list(streams)]).fetchall())

    def holes(self, prefix: str) -> dict[str, Ranges]:
        """Uncovered ranges between covered ones, for the streams whose key begins with `prefix`."""
        found: dict[str, Ranges] = {}
        for stream, lo, hi in self.transaction(lambda c: c.execute(_HOLES, [prefix]).fetchall()):
            found[stream] = (*found.get(stream, ()), (lo, hi))
        return found

    def count_open_letters(self, prefix: str) -> dict[str, int]:
        """How many dead letters are open, for the streams whose key begins with `prefix`."""
        query = "SELECT stream, count(*) FROM ops.dead_letters WHERE settled_at IS NULL AND starts_with(stream, %s) GROUP BY 1"
        return dict(self.transaction(lambda c: c.execute(query, [prefix]).fetchall()))

    def open_letter_ranges(self, streams: Iterable[str]) -> list[tuple[str, int, int]]:
        """Stream and range of every open dead letter of these streams; letters of feeds with a cursor have none."""
        query = (
            "SELECT stream, lo, hi FROM ops.dead_letters"
            " WHERE settled_at IS NULL AND lo IS NOT NULL AND stream = ANY(%s)"
        )
        return self.transaction(lambda c: c.execute(query, [list(streams)]).fetchall())

    def unproved_reasons(self, streams: Iterable[str]) -> dict[str, list[tuple[int, int, str]]]:
        """Range and reason of what the source could not prove whole, by stream."""
        query = "SELECT stream, lo, hi, reason FROM ops.unproved WHERE stream = ANY(%s)"
        found: dict[str, list[tuple[int, int, str]]] = {}
        for stream, lo, hi, reason in self.transaction(
            lambda c: c.execute(query, [list(streams)]).fetchall()
        ):
            found.setdefault(stream, []).append((lo, hi, reason))
        return found

    def _ranges(self, table: str, streams: Iterable[str]) -> dict[str, Ranges]:
        query = sql.SQL("SELECT stream, lo, hi FROM {} WHERE stream = ANY(%s)").format(
            sql.Identifier("ops", table)
        )
        return _by_stream(self.transaction(lambda c: c.execute(query, [list(streams)]).fetchall()))


def _by_stream(found: Iterable[TupleRow]) -> dict[str, Ranges]:
    ranges: dict[str, list[tuple[int, int]]] = {}
    for stream, lo, hi in found:
        ranges.setdefault(stream, []).append((lo, hi))
    return {stream: union(own) for stream, own in ranges.items()}


def _place(url: str | Callable[[], str]) -> str:
    """Where a database is, without the password."""
    known = conninfo_to_dict(url() if callable(url) else url)
    return f"{known.get('dbname', '')} at {known.get('host', 'localhost')}:{known.get('port', 5432)}"


_HOLES = """
    SELECT stream, hi + 1, next_lo - 1
    FROM (SELECT stream, hi, lead(lo) OVER (PARTITION BY stream ORDER BY lo) AS next_lo
          FROM ops.coverage WHERE starts_with(stream, %s)) AS ranges
    WHERE next_lo > hi + 1 ORDER BY stream, hi"""


class StreamWriter:
    """Commits the batches of one stream. A stream with a cursor is fenced: only one writer gets ahead."""

    def __init__(self, store: Store, keys: tuple[str, ...]) -> None:
        self._store = store
        self._keys = keys
        self.done, self._epoch = store.transaction(self._load)
        self._expect_new = True  # until a batch holds rows that another stream, or another worker, has stored

    def _load(self, connection: Connection) -> tuple[dict[str, Done], int]:
        covered = _by_stream(
            connection.execute(
                "SELECT stream, lo, hi FROM ops.coverage WHERE stream = ANY(%s)", [list(self._keys)]
            ).fetchall()
        )
        cursors = connection.execute(
            "SELECT stream, value::text, epoch FROM ops.cursors WHERE stream = ANY(%s)", [list(self._keys)]
        ).fetchall()
        done = {key: Done(covered.get(key, ())) for key in self._keys}
        epoch = 0
        for stream, value, moves in cursors:  # a stream with a cursor has one key
            done[stream], epoch = Done(covered.get(stream, ()), value.encode()), moves
        return done, epoch

    def commit(self, batch: Batch) -> Tally:
        """Store rows, dead letters and the mark in one transaction. Rows that Postgres refuses become dead letters.

        Raises:
            Fenced: another writer has moved this stream's cursor since this writer was opened.
            Transient: what the batch requires is not so any more.
            DatabaseUnavailable: the database stayed away.
        """
        tally = self._store.transaction(lambda connection: self._commit(connection, batch))
        if isinstance(batch.mark, Cursor):
            self._epoch += 1
        return tally

    def _commit(self, connection: Connection, batch: Batch) -> Tally:
        tally = Tally(fetched=batch.fetched, batches=1)
        rejected = list(batch.rejected)
        keys = batch.keys or self._keys
        for query in batch.requires:
            if _execute(connection, query.with_for_update(read=True)).fetchone() is None:
                raise Transient(
                    f"what was read of {keys[0]} is not true any more: its source has changed meanwhile"
                )
        for statement in batch.removes:
            _execute(connection, statement)
        for rows in batch.rows:
            inserted, refused = insert(connection, rows, expect_new=self._expect_new)
            tally.inserted += inserted
            tally.duplicate += rows.count - len(refused) - inserted
            rejected += refused
        self._expect_new = not tally.duplicate
        tally.rejected = len(rejected)
        match batch.mark:
            case Covered():
                marks.cover(connection, keys, batch.mark, records=batch.fetched)
            case Raised():
                marks.raise_evidence(connection, keys, batch.mark)
            case Unproved():
                marks.unprove(connection, keys, batch.mark)
            case Cursor():
                if not self._move(connection, keys, msgspec.json.encode(batch.mark).decode()):
                    return tally  # its dead letters are buried too
        marks.bury(connection, keys, batch.mark, rejected)
        return tally

    def _move(self, connection: Connection, keys: tuple[str, ...], value: str) -> bool:
        """Compare-and-set: the cursor moves only from the epoch this writer has seen.

        Returns:
            False: an earlier attempt of this very commit has moved it, and its acknowledgement was lost.
        """
        (key,) = keys  # several feeds cannot share one position
        moved = connection.execute(
            "INSERT INTO ops.cursors (stream, value, epoch) SELECT %(stream)s, %(value)s, 1 WHERE %(epoch)s = 0"
            " ON CONFLICT (stream) DO NOTHING"
            if self._epoch == 0
            else "UPDATE ops.cursors SET value = %(value)s, epoch = epoch + 1, updated_at = now()"
            " WHERE stream = %(stream)s AND epoch = %(epoch)s",
            {"stream": key, "value": value, "epoch": self._epoch},
        ).rowcount
        if moved:
            return True
        found = connection.execute(
            "SELECT epoch, value = %s::jsonb FROM ops.cursors WHERE stream = %s", [value, key]
        ).fetchone()
        if found == (self._epoch + 1, True):
            return False
        raise Fenced(
            f"another worker has moved the cursor of {key}; this one stops, and nothing is lost: "
            "the other one goes on from there"
        )


def _execute(connection: Connection, statement: sa.Executable) -> psycopg.Cursor[TupleRow]:
    """Run a statement of SQLAlchemy inside our transaction."""
    assert isinstance(statement, sa.ClauseElement)  # noqa: S101 - for the type checker
    compiled = statement.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})
    return connection.execute(str(compiled), compiled.params)


def insert(connection: Connection, rows: Rows, *, expect_new: bool = False) -> tuple[int, list[Rejected]]:
    """Store rows that are not stored yet.

    Args:
        connection: inside a transaction.
        rows: one block of one table.
        expect_new: copy straight into the table first, which is a third cheaper when no row is stored yet.

    Returns:
        How many were new, and the rows that Postgres refuses for what they hold.
    """
    if not rows.count:
        return 0, []
    try:
        if expect_new:
            try:
                with connection.transaction():
                    _copy(connection, rows, _name(rows.table))
                    return rows.count, []
            except psycopg.errors.UniqueViolation:
                pass  # some are stored: the careful way finds out which
        with connection.transaction():
            return _copy_new(connection, rows), []
    except REFUSED as error:
        if rows.count == 1:
            return 0, [_refused(rows, error)]
    # Somewhere in the block is a row that Postgres refuses: halve until it stands alone.
    block = rows.lines.splitlines(keepends=True)
    middle = len(block) // 2
    inserted, refused = 0, []
    for half in (block[:middle], block[middle:]):
        new, bad = insert(connection, Rows(rows.table, b"".join(half), len(half), rows.least))
        inserted += new
        refused += bad
    return inserted, refused


def _copy_new(connection: Connection, rows: Rows) -> int:
    """Copy into a staging table of this connection's own, and from there what is not stored yet."""
    target, stage = _name(rows.table), sql.Identifier(f"stage_{rows.table.fullname}")
    connection.execute(
        sql.SQL("CREATE TEMP TABLE IF NOT EXISTS {} (LIKE {}) ON COMMIT DELETE ROWS").format(stage, target)
    )
    connection.execute(
        sql.SQL("DELETE FROM {}").format(stage)
    )  # what an earlier half of this transaction left
    _copy(connection, rows, stage)
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
