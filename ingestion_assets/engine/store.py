"""The sink on Postgres: rows, dead letters and the mark of a batch in ONE transaction.

How rows get in is `copying`'s business. Rows that are stored already count as duplicates, so committing a batch twice
changes nothing, and two workers on one range do no harm.
"""

import uuid
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TypeVar

import msgspec
import psycopg
import sqlalchemy as sa
import tenacity
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolTimeout
from sqlalchemy.dialects import postgresql

from ingestion_assets.engine import marks
from ingestion_assets.engine.copying import insert
from ingestion_assets.engine.coverage import Ranges, union
from ingestion_assets.engine.errors import DatabaseUnavailable, Fenced, Transient
from ingestion_assets.engine.stream import (
    Batch,
    Covered,
    Cursor,
    Derived,
    Done,
    Raised,
    Rejected,
    Settled,
    Stream,
    Tally,
    Turn,
    Unproved,
)

T = TypeVar("T")
DIALECT = postgresql.psycopg.dialect()  # type: ignore[no-untyped-call]
Connection = psycopg.Connection[TupleRow]

# Lost connections, deadlocks between two workers and serialisation failures: the same commit may succeed next time.
PASSING = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout)

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
        query = "SELECT stream, lo, hi FROM ops.coverage WHERE stream = ANY(%s)"
        return _by_stream(self.transaction(lambda c: c.execute(query, [list(streams)]).fetchall()))

    def unproved(self, streams: Iterable[str], *, within: timedelta | None = None) -> dict[str, Ranges]:
        """The gaps that the source could not prove whole when it was last asked, by stream; `within`: not longer ago."""
        query = "SELECT stream, lo, hi FROM ops.unproved WHERE stream = ANY(%s) AND (%s::interval IS NULL OR noticed_at > now() - %s::interval)"
        return _by_stream(
            self.transaction(lambda c: c.execute(query, [list(streams), within, within]).fetchall())
        )

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
        self._me = uuid.uuid4()
        self.done, self._epoch = store.transaction(self._load)
        self._expect_new = True  # until a batch holds rows that another stream, or another worker, has stored

    def _load(self, connection: Connection) -> tuple[dict[str, Done], int]:
        covered = _by_stream(
            connection.execute(
                "SELECT stream, lo, hi FROM ops.coverage WHERE stream = ANY(%s)", [list(self._keys)]
            ).fetchall()
        )
        cursors = connection.execute(
            "SELECT stream, value::text, epoch, records FROM ops.cursors WHERE stream = ANY(%s)",
            [list(self._keys)],
        ).fetchall()
        done = {key: Done(covered.get(key, ())) for key in self._keys}
        epoch = 0
        for stream, value, moves, records in cursors:  # a stream with a cursor has one key
            letters = marks.count_open_letters(connection, stream)
            done[stream], epoch = Done(covered.get(stream, ()), value.encode(), records, letters), moves
        return done, epoch

    def commit(self, batch: Batch, turn: Turn | None = None) -> Tally:
        """Store rows, dead letters and the mark in one transaction. Rows that Postgres refuses become dead letters.

        With a `turn`, they are copied before it comes, and the mark moves after it has.

        Raises:
            Fenced: another writer has moved this stream's cursor since this writer was opened.
            Transient: what the batch requires is not so any more.
            DatabaseUnavailable: the database stayed away.
        """
        tally = self._store.transaction(lambda connection: self._commit(connection, batch, turn))
        if isinstance(batch.mark, Cursor):
            self._epoch += 1
        return tally

    def _commit(self, connection: Connection, batch: Batch, turn: Turn | None) -> Tally:
        keys = batch.keys or self._keys
        if batch.requires or batch.removes:
            if turn is not None:
                turn()
            _see_to(connection, keys, batch)
        is_outdone = False
        with connection.transaction() as part:
            tally = self._store_part(connection, batch, keys, turn)
            if isinstance(batch.mark, Covered) and marks.is_outdone(connection, keys, batch.mark):
                # Somebody else has shown since that it is whole, on better evidence: nothing can be missing there.
                is_outdone = True
                raise psycopg.Rollback(part)
        return Tally(batch.fetched, duplicate=batch.fetched, batches=1) if is_outdone else tally

    def _store_part(
        self, connection: Connection, batch: Batch, keys: tuple[str, ...], turn: Turn | None
    ) -> Tally:
        tally, rejected = self._insert(connection, batch, turn)
        if turn is not None:
            turn()
        match batch.mark:
            case Covered():
                marks.cover(connection, keys, batch.mark, records=batch.fetched)
            case Raised():
                marks.raise_evidence(connection, keys, batch.mark)
            case Unproved():
                marks.unprove(connection, keys, batch.mark)
            case Cursor():
                if not self._move(connection, keys, msgspec.json.encode(batch.mark).decode(), tally):
                    return tally  # its dead letters are buried too
            case Settled():
                marks.settle(connection, keys, batch.mark, records=tally.inserted, is_stored=not rejected)
                return tally
            case Derived():
                tally.add(batch.mark.work(connection))
                tally.batches = 1
                return tally
        marks.bury(connection, keys, batch.mark, rejected)
        return tally

    def _insert(
        self, connection: Connection, batch: Batch, turn: Turn | None
    ) -> tuple[Tally, list[Rejected]]:
        tally = Tally(fetched=batch.fetched, batches=1)
        rejected = list(batch.rejected)
        for rows in batch.rows:
            inserted, refused = insert(connection, rows, expect_new=self._expect_new, turn=turn)
            tally.inserted += inserted
            tally.duplicate += rows.count - len(refused) - inserted
            rejected += refused
        self._expect_new = not tally.duplicate
        tally.rejected = len(rejected)
        return tally, rejected

    def _move(self, connection: Connection, keys: tuple[str, ...], value: str, tally: Tally) -> bool:
        """Compare-and-set: the cursor moves only from the epoch this writer has seen.

        Returns:
            False: an earlier attempt of this very commit has moved it, and its acknowledgement was lost.
        """
        (key,) = keys  # several feeds cannot share one position
        moved = connection.execute(
            "INSERT INTO ops.cursors (stream, value, epoch, records, moved_by)"
            " SELECT %(stream)s, %(value)s, 1, %(records)s, %(me)s"
            " WHERE %(epoch)s = 0 ON CONFLICT (stream) DO NOTHING"
            if self._epoch == 0
            else "UPDATE ops.cursors SET value = %(value)s, epoch = epoch + 1, records = records + %(records)s,"
            " updated_at = now(), moved_by = %(me)s WHERE stream = %(stream)s AND epoch = %(epoch)s",
            {
                "stream": key,
                "value": value,
                "epoch": self._epoch,
                "records": tally.inserted,
                "me": self._me,
            },
        ).rowcount
        if moved:
            return True
        found = connection.execute(
            "SELECT epoch, moved_by = %s FROM ops.cursors WHERE stream = %s", [self._me, key]
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


def _see_to(connection: Connection, keys: tuple[str, ...], batch: Batch) -> None:
    """See that what a batch requires is so, and remove what is no longer true."""
    for query in batch.requires:
        if _execute(connection, query.with_for_update(read=True)).fetchone() is None:
            raise Transient(
                f"what was read of {keys[0]} is not true any more: its source has changed meanwhile"
            )
    for statement in batch.removes:
        _execute(connection, statement)
