"""How far a stream is, in `ops`: covered and unproved ranges, and the dead letters of what was read.

Everything here runs inside the transaction that stores the rows; `engine.store` opens it. All marks of one
stream are made one after another: the lock lets a second worker see what the first has done.
"""

from collections import Counter
from collections.abc import Sequence

import psycopg
from psycopg.rows import TupleRow

from ingestion_assets.engine.coverage import Range, difference
from ingestion_assets.engine.rows import printable
from ingestion_assets.engine.stream import Covered, Cursor, Mark, Rejected, Unproved

Connection = psycopg.Connection[TupleRow]


def lock(connection: Connection, stream: str) -> None:
    """Nobody else changes the ranges of this stream until the transaction ends."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [stream])


def cover(connection: Connection, stream: str, mark: Covered, *, records: int = 0) -> None:
    """Add a covered range. Ranges of a stream stay disjoint, and grow instead of multiplying, in any order."""
    lock(connection, stream)
    near = connection.execute(
        "SELECT lo, hi, evidence, provider FROM ops.coverage WHERE stream = %s AND hi >= %s AND lo <= %s",
        [stream, mark.lo - 1, mark.hi + 1],
    ).fetchall()
    alike = [(lo, hi) for lo, hi, *why in near if tuple(why) == (mark.evidence.level, mark.evidence.by)]
    above = dict(alike)
    below = {hi: lo for lo, hi in alike}
    for gap_lo, gap_hi in difference([(mark.lo, mark.hi)], [(lo, hi) for lo, hi, *_ in near]):
        lo, hi = below.get(gap_lo - 1, gap_lo), gap_hi
        if gap_hi + 1 in above:  # the last gap between two ranges closes: they become one
            hi = above[gap_hi + 1]
            records += _absorb(connection, stream, gap_hi + 1)
        connection.execute(
            "INSERT INTO ops.coverage (stream, lo, hi, evidence, provider, records) VALUES (%s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (stream, lo) DO UPDATE"
            " SET hi = excluded.hi, records = coverage.records + excluded.records, updated_at = now()",
            [stream, lo, hi, mark.evidence.level, mark.evidence.by, records],
        )
        below[hi] = lo
        records = 0  # counted once, whatever the number of pieces
    _forget_unproved(connection, stream, (mark.lo, mark.hi))


def _absorb(connection: Connection, stream: str, lo: int) -> int:
    gone = connection.execute(
        "DELETE FROM ops.coverage WHERE stream = %s AND lo = %s RETURNING records", [stream, lo]
    ).fetchone()
    return int(gone[0]) if gone else 0


def uncover(connection: Connection, stream: str, gap: Range) -> None:
    """Take a range out of the coverage, so that it is wanted again."""
    lock(connection, stream)
    cut = connection.execute(
        "DELETE FROM ops.coverage WHERE stream = %s AND hi >= %s AND lo <= %s RETURNING lo, hi, evidence, provider, records",
        [stream, *gap],
    ).fetchall()
    for lo, hi, evidence, provider, records in cut:
        left = records
        for rest_lo, rest_hi in difference([(lo, hi)], [gap]):
            connection.execute(
                "INSERT INTO ops.coverage (stream, lo, hi, evidence, provider, records) VALUES (%s, %s, %s, %s, %s, %s)",
                [stream, rest_lo, rest_hi, evidence, provider, left],
            )
            left = 0  # not counted in both halves


def unprove(connection: Connection, stream: str, mark: Unproved) -> None:
    """Note that a range could not be proved whole, but for what somebody else has proved already."""
    lock(connection, stream)
    _forget_unproved(connection, stream, (mark.lo, mark.hi))
    covered = connection.execute(
        "SELECT lo, hi FROM ops.coverage WHERE stream = %s AND hi >= %s AND lo <= %s",
        [stream, mark.lo, mark.hi],
    ).fetchall()
    for lo, hi in difference([(mark.lo, mark.hi)], covered):
        connection.execute(
            "INSERT INTO ops.unproved (stream, lo, hi, reason) VALUES (%s, %s, %s, %s)",
            [stream, lo, hi, printable(mark.reason)],
        )


def _forget_unproved(connection: Connection, stream: str, asked: Range) -> None:
    """What was asked again has a new answer; what lies beside it keeps its old one, for pages end where they like."""
    cut = connection.execute(
        "DELETE FROM ops.unproved WHERE stream = %s AND hi >= %s AND lo <= %s RETURNING lo, hi, reason, noticed_at",
        [stream, *asked],
    ).fetchall()
    for lo, hi, reason, noticed_at in cut:
        for rest_lo, rest_hi in difference([(lo, hi)], [asked]):
            connection.execute(
                "INSERT INTO ops.unproved (stream, lo, hi, reason, noticed_at) VALUES (%s, %s, %s, %s, %s)",
                [stream, rest_lo, rest_hi, reason, noticed_at],
            )


def bury(connection: Connection, stream: str, mark: Mark, rejected: Sequence[Rejected]) -> None:
    """Keep what could not be stored. Comes after the mark, and so under its lock.

    The dead letters of a covered range are those of its last reading: older ones are settled by it. A
    reading that proves nothing settles nothing. A record that waits already does not wait twice.
    """
    if isinstance(mark, Cursor):
        for letter in rejected:
            _bury_one(connection, stream, letter, None)
        return
    span = {"stream": stream, "lo": mark.lo, "hi": mark.hi, "raws": [letter.raw for letter in rejected]}
    if isinstance(mark, Covered):
        connection.execute(_SETTLE, span)
        connection.execute(_NARROW, span)
    waiting = Counter(bytes(raw) for (raw,) in connection.execute(_WAITING, span)) if rejected else Counter()
    for letter in rejected:
        if waiting[letter.raw]:
            waiting[letter.raw] -= 1
        else:
            _bury_one(connection, stream, letter, (mark.lo, mark.hi))


def _bury_one(connection: Connection, stream: str, letter: Rejected, read: Range | None) -> None:
    at, lo, hi = letter.position, None, None
    if read is not None:
        if at is not None and not read[0] <= at <= read[1]:
            at = None  # a record that lies about its place is found again where it was read
        lo, hi = read if at is None else (at, at)
    connection.execute(
        "INSERT INTO ops.dead_letters (stream, lo, hi, position, reason, raw) VALUES (%s, %s, %s, %s, %s, %s)",
        [stream, lo, hi, at, printable(letter.reason), letter.raw],
    )


# A letter without a position waits for the whole page it was on. The next reading may cut its pages elsewhere:
# then the letter waits for the rest of its page, unless this reading found the same record again.
_OVERLAP = """
    stream = %(stream)s AND settled_at IS NULL AND lo <= %(hi)s AND hi >= %(lo)s"""
_SETTLE = f"""
    UPDATE ops.dead_letters SET settled_at = now()
    WHERE {_OVERLAP} AND lo >= %(lo)s AND hi <= %(hi)s"""
_NARROW = f"""
    UPDATE ops.dead_letters
    SET lo = CASE WHEN lo < %(lo)s THEN lo ELSE %(hi)s + 1 END, hi = CASE WHEN lo < %(lo)s THEN %(lo)s - 1 ELSE hi END
    WHERE {_OVERLAP} AND (lo < %(lo)s) <> (hi > %(hi)s) AND raw <> ALL (%(raws)s)"""
_WAITING = f"""
    SELECT raw FROM ops.dead_letters WHERE {_OVERLAP} AND raw = ANY (%(raws)s)"""
