"""A table, streams whose every record a test knows beforehand, and ways to die while draining them.

As a program it drains `long_streams` and kills itself at a planned step: `python -m … URL STEP`.
"""

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import sqlalchemy as sa
import tenacity
from sqlalchemy.dialects.postgresql import JSONB

from ingestion_assets.engine import rows
from ingestion_assets.engine.coverage import Ranges, difference, union
from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.store import Store, connection_pool
from ingestion_assets.engine.stream import Batch, Covered, Cursor, Done, Evidence, Rejected, Rows, Unproved
from ingestion_assets_tests.tables import empty

STATED = Evidence("stated", "test")

metadata = sa.MetaData()
table = sa.Table(
    "things",
    metadata,
    sa.Column("stream", sa.Text, primary_key=True),
    sa.Column("position", sa.BigInteger, primary_key=True),
    sa.Column("value", sa.Text, primary_key=True),
    sa.Column("ordinal", sa.Integer, primary_key=True),
    sa.Column("amount", sa.Numeric(78, 0), nullable=False),
    sa.Column("payload", JSONB, nullable=False),
    schema="raw",
)


@dataclass(frozen=True)
class Thing:
    """A record. `kind` says what becomes of it: a row, or why not."""

    position: int
    value: str = "a"
    kind: str = "good"  # good, rejected (by the source), null, overflow, number (each refused by Postgres)

    @property
    def payload(self) -> bytes:
        """The record as received."""
        number = b"1e999999" if self.kind == "number" else b"1"
        return b'{"value": "%s", "n": %s, "at": %d}' % (self.value.encode(), number, self.position)

    def line(self, stream: str, ordinal: int) -> bytes:
        """Its row."""
        amount = {"null": rows.NULL, "overflow": b"1" + b"0" * 78}.get(self.kind, b"7")
        columns = [
            rows.text(stream),
            b"%d" % self.position,
            rows.text(self.value),
            b"%d" % ordinal,
            amount,
            rows.payload(self.payload),
        ]
        return b"\t".join(columns) + b"\n"


def batch(mark, stream: str, things: Sequence[Thing]) -> Batch:
    """What a source makes of its records: equal ones are told apart by their ordinal."""
    seen: Counter[Thing] = Counter()
    lines, rejected = [], []
    for thing in things:
        if thing.kind == "rejected":
            rejected.append(Rejected(thing.payload, "it is bad"))
        else:
            lines.append(thing.line(stream, seen[thing]))
            seen[thing] += 1
    return Batch(mark, (Rows(table, b"".join(lines), len(lines)),), tuple(rejected))


@dataclass(frozen=True)
class Blocks:
    """A stream over the positions 0..last, `width` of them in each batch."""

    key: str
    things: tuple[Thing, ...]
    last: int
    width: int = 3
    unprovable: frozenset[int] = frozenset()

    @property
    def keys(self) -> tuple[str, ...]:
        """It has one."""
        return (self.key,)

    def wanted(self) -> Ranges:
        """All its positions."""
        return ((0, self.last),)

    def read(self, done: Mapping[str, Done]) -> Iterator[Batch]:
        """What is missing, oldest first."""
        for lo, hi in difference(self.wanted(), done[self.key].covered):
            while lo <= hi:
                end = lo
                if lo not in self.unprovable:
                    while end < min(hi, lo + self.width - 1) and end + 1 not in self.unprovable:
                        end += 1
                mark = Unproved(lo, end, "who knows") if lo in self.unprovable else Covered(lo, end, STATED)
                yield batch(mark, self.key, [thing for thing in self.things if lo <= thing.position <= end])
                lo = end + 1  # noqa: PLW2901


class Token(Cursor):
    """The next page of a `Feed`."""

    page: int


@dataclass(frozen=True)
class Feed:
    """A stream of pages with a cursor."""

    key: str
    pages: tuple[tuple[Thing, ...], ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """It has one."""
        return (self.key,)

    def wanted(self) -> Ranges:
        """A feed has no positions."""
        return ()

    def read(self, done: Mapping[str, Done]) -> Iterator[Batch]:
        """What is missing, oldest first."""
        at = done[self.key].position(Token)
        for number in range(at.page if at else 0, len(self.pages)):
            yield batch(Token(number + 1), self.key, self.pages[number])


def snapshot(connection: psycopg.Connection) -> dict[str, list]:
    """All that a run leaves behind, but for times and how its ranges are cut."""
    queries = {
        "rows": "SELECT stream, position, value, ordinal, amount, payload::text FROM raw.things",
        "letters": "SELECT stream, reason, raw FROM ops.dead_letters WHERE settled_at IS NULL",
        "unproved": "SELECT stream, lo, hi, reason FROM ops.unproved",
        "cursors": "SELECT stream, value::text, epoch FROM ops.cursors",
    }
    found = {name: sorted(connection.execute(query).fetchall()) for name, query in queries.items()}
    return found | {"covered": sorted(coverage(connection).items())}


def coverage(connection: psycopg.Connection) -> dict[str, Ranges]:
    """The covered ranges by stream. They must be disjoint."""
    found: dict[str, list] = {}
    for stream, lo, hi in connection.execute("SELECT stream, lo, hi FROM ops.coverage").fetchall():
        found.setdefault(stream, []).append((lo, hi))
    for ranges in found.values():
        assert sum(hi - lo + 1 for lo, hi in ranges) == sum(hi - lo + 1 for lo, hi in union(ranges))
    return {stream: union(ranges) for stream, ranges in found.items()}


def forget(connection: psycopg.Connection) -> None:
    """Make the database as good as new."""
    empty(connection, "raw.things", "ops.coverage", "ops.cursors", "ops.dead_letters", "ops.unproved")


class Death(BaseException):
    """The process ends here, as if killed: nobody catches this."""


class Countdown:
    """Does something at the n-th step of a run, and never again. A step is whatever could be the last thing done."""

    def __init__(self, steps: int, act) -> None:
        self.left = steps
        self._act = act
        self._lock = threading.Lock()

    def __call__(self) -> None:
        """One step."""
        with self._lock:
            self.left -= 1
            due = self.left == 0
        if due:
            self._act()


def die() -> None:
    """Death inside a process that goes on."""
    raise Death


class SteppingPool:
    """A connection pool that makes a step before each statement, before each COMMIT and after it."""

    def __init__(self, pool, step) -> None:
        self._pool = pool
        self._step = step
        self.conninfo = pool.conninfo

    @contextmanager
    def connection(self):
        """As the pool's own."""
        with self._pool.connection() as connection:
            self._step()
            yield _SteppingConnection(connection, self._step)


class _SteppingConnection:
    def __init__(self, connection, step) -> None:
        self._connection = connection
        self._step = step

    def execute(self, *query):
        """As the connection's own, after a step."""
        self._step()
        return self._connection.execute(*query)

    def cursor(self):
        """As the connection's own, after a step."""
        self._step()
        return self._connection.cursor()

    @contextmanager
    def transaction(self):
        """As the connection's own, with a step on either side of its end."""
        with self._connection.transaction():
            yield
            self._step()
        self._step()


def impatient(pool, attempts: int = 5) -> Store:
    """A store that does not wait between its attempts."""
    return Store(pool, attempts=attempts, wait=tenacity.wait_none())


def long_streams() -> list:
    """Streams with a bit of everything, long enough to be killed in the middle of."""
    kinds = ("good", "good", "good", "rejected", "good", "good", "number")
    things = tuple(Thing(n // 3, "ab"[n % 2], kinds[n % 7]) for n in range(300))
    pages = tuple(things[n : n + 10] for n in range(0, 300, 10))
    unprovable = frozenset({40, 90})
    return [Blocks("blocks/long", things, 110, 2, unprovable), Feed("feed/long", pages)]


if __name__ == "__main__":
    countdown = Countdown(int(sys.argv[2]), lambda: os.kill(os.getpid(), signal.SIGKILL))
    with connection_pool(sys.argv[1]) as opened:
        mortal = Store(SteppingPool(opened, countdown))
        drain(long_streams(), mortal, read_ahead=2, writers=int(sys.argv[3]))
