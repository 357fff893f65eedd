"""Dead letters: records that could not be stored. Listing them, and replaying their ranges.

A replay takes the ranges of open dead letters out of the coverage, so that the next drain reads them
again; the letters are settled by that reading. Nothing is deleted, and rows that are stored stay.
"""

from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import TupleRow

from ingestion_assets.engine.coverage import Ranges, union
from ingestion_assets.engine.marks import lock, uncover
from ingestion_assets.engine.store import Connection, Store


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record that waits for a replay. Those of a feed with a cursor have no range: only `raw` can be tried again."""

    id: int
    stream: str
    lo: int | None
    hi: int | None
    reason: str
    raw: bytes
    noticed_at: datetime


def open_letters(store: Store, streams: str = "%", *, limit: int = 1000) -> list[DeadLetter]:
    """The newest open dead letters of streams that are LIKE the pattern."""
    query = (
        "SELECT id, stream, lo, hi, reason, raw, noticed_at FROM ops.dead_letters"
        " WHERE settled_at IS NULL AND stream LIKE %s ORDER BY id DESC LIMIT %s"
    )
    found = store.transaction(lambda c: c.execute(query, [streams, limit]).fetchall())
    return [_letter(row) for row in found]


def feed_letters(store: Store, stream: str) -> list[DeadLetter]:
    """All open dead letters of a feed with a cursor, the oldest first."""
    query = (
        "SELECT id, stream, lo, hi, reason, raw, noticed_at FROM ops.dead_letters"
        " WHERE settled_at IS NULL AND lo IS NULL AND stream = %s ORDER BY id"
    )
    found = store.transaction(lambda c: c.execute(query, [stream]).fetchall())
    return [_letter(row) for row in found]


def _letter(row: TupleRow) -> DeadLetter:
    number, stream, lo, hi, reason, raw, noticed_at = row
    return DeadLetter(number, stream, lo, hi, reason, bytes(raw), noticed_at)


def replay(store: Store, streams: str = "%") -> dict[str, Ranges]:
    """Make the ranges of open dead letters wanted again.

    Args:
        store: where they are.
        streams: a LIKE pattern of stream keys.

    Returns:
        The ranges, by stream, that the next drain will read again.
    """
    return store.transaction(lambda connection: _reopen(connection, streams))


def _reopen(connection: Connection, streams: str) -> dict[str, Ranges]:
    letters = connection.execute(
        "SELECT stream, lo, hi FROM ops.dead_letters WHERE settled_at IS NULL AND lo IS NOT NULL AND stream LIKE %s",
        [streams],
    ).fetchall()
    reopened: dict[str, Ranges] = {}
    for stream, lo, hi in letters:
        reopened[stream] = union([*reopened.get(stream, ()), (lo, hi)])
    lock(connection, list(reopened))  # all at once, so that two replays cannot block each other
    for stream, ranges in reopened.items():
        for lo, hi in ranges:
            uncover(connection, stream, (lo, hi))
    return reopened
