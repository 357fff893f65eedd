"""How far a stream is, in `ops`: covered and unproved ranges, and the dead letters of what was read.

Everything here runs inside the transaction that stores the rows; `engine.store` opens it. All marks of one
stream are made one after another: the lock lets a second worker see what the first has done.
"""

from collections import Counter
from collections.abc import Collection, Sequence

import psycopg
from psycopg.rows import TupleRow

from ingestion_assets.engine.coverage import Range, difference
from ingestion_assets.engine.rows import printable
from ingestion_assets.engine.stream import (
    LEVELS,
    Covered,
    Cursor,
    Evidence,
    Raised,
    Rejected,
    Settled,
    Unproved,
)

Connection = psycopg.Connection[TupleRow]


def lock(connection: Connection, streams: Sequence[str]) -> None:
    """Nobody else changes the ranges of these streams until the transaction ends.

    Streams share a fixed number of locks, taken in one order: Postgres has room for some thousand in all.
    """
    connection.execute(_LOCK, [list(streams)])


def cover(connection: Connection, streams: Sequence[str], mark: Covered, *, records: int = 0) -> None:
    """Add a covered range to each of these streams.

    Ranges of a stream stay disjoint, and grow instead of multiplying, in any order. Stronger evidence takes the
    place of weaker; weaker adds nothing to what is covered.

    Args:
        connection: inside the transaction that stores the rows.
        streams: whose range it is.
        mark: the range and its evidence.
        records: how many records were read for it; of several streams the first one counts them.
    """
    lock(connection, streams)
    if mark.anew:
        for stream in streams:
            records += _cut_out(connection, stream, (mark.lo, mark.hi), LEVELS)
    for number, stream in enumerate(_not_simply_longer(connection, streams, mark, records)):
        is_first = number == 0 and stream == streams[0]
        _cover_one(connection, stream, mark, records if is_first else 0)
    _forget_unproved(connection, streams, (mark.lo, mark.hi))


def is_outdone(connection: Connection, streams: Sequence[str], mark: Covered) -> bool:
    """Whether all of the range is covered, for each of these streams, on stronger evidence. Comes after the mark, under its lock."""
    stronger = LEVELS[LEVELS.index(mark.evidence.level) + 1 :]
    if not stronger:
        return False
    found = _touching(connection, streams, (mark.lo, mark.hi), stronger)
    return all(not difference([(mark.lo, mark.hi)], found.get(stream, ())) for stream in streams)


def raise_evidence(connection: Connection, streams: Sequence[str], mark: Raised) -> None:
    """Let stronger evidence take the place of weaker, where these streams are covered now."""
    lock(connection, streams)
    for stream, ranges in _touching(connection, streams, (mark.lo, mark.hi), _weaker(mark.evidence)).items():
        for lo, hi in ranges:
            within = Covered(max(lo, mark.lo), min(hi, mark.hi), mark.evidence)
            _cover_one(connection, stream, within, 0)


def _touching(
    connection: Connection, streams: Sequence[str], asked: Range, levels: Sequence[str] = LEVELS
) -> dict[str, list[Range]]:
    """The covered ranges that touch the asked one and have one of these levels of evidence, whole, by stream."""
    found: dict[str, list[Range]] = {}
    for stream, lo, hi, *_ in connection.execute(_TOUCHING, _span(streams, asked, levels)).fetchall():
        found.setdefault(stream, []).append((lo, hi))
    return found


def _span(streams: Sequence[str], asked: Range, levels: Sequence[str] = ()) -> dict[str, object]:
    return {"streams": list(streams), "lo": asked[0], "hi": asked[1], "levels": list(levels)}


def _weaker(evidence: Evidence) -> Sequence[str]:
    return LEVELS[: LEVELS.index(evidence.level)]


def _not_simply_longer(
    connection: Connection, streams: Sequence[str], mark: Covered, records: int
) -> Sequence[str]:
    """Let those ranges grow to which the mark is the next piece, and touches nothing else; name the other streams.

    That is how a scan goes on, and with thousands of streams it has to be one statement.
    """
    if len(streams) == 1:
        return streams
    span = {
        "streams": list(streams), "first": streams[0], "lo": mark.lo, "hi": mark.hi, "records": records,
        "evidence": mark.evidence.level, "by": mark.evidence.by,
    }  # fmt: skip
    done = {stream for (stream,) in connection.execute(_LENGTHEN, span).fetchall()}
    done |= {stream for (stream,) in connection.execute(_BEGIN, span).fetchall()}
    return [stream for stream in streams if stream not in done]


def _cover_one(connection: Connection, stream: str, mark: Covered, records: int) -> None:
    records += _cut_out(connection, stream, (mark.lo, mark.hi), _weaker(mark.evidence))
    span = _span([stream], (mark.lo - 1, mark.hi + 1), LEVELS)
    near = [found for _, *found in connection.execute(_TOUCHING, span).fetchall()]
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


def _absorb(connection: Connection, stream: str, lo: int) -> int:
    gone = connection.execute(
        "DELETE FROM ops.coverage WHERE stream = %s AND lo = %s RETURNING records", [stream, lo]
    ).fetchone()
    return int(gone[0]) if gone else 0


def uncover(connection: Connection, stream: str, gap: Range) -> None:
    """Take a range out of the coverage, so that it is wanted again."""
    lock(connection, [stream])
    _cut_out(connection, stream, gap, LEVELS)


def reopen(connection: Connection, stream: str, positions: Collection[int]) -> None:
    """Take single positions out of the coverage. What is not covered costs next to nothing."""
    if not positions:
        return
    lock(connection, [stream])
    found = connection.execute(_COVERED_OF, {"stream": stream, "positions": sorted(positions)})
    for (position,) in found.fetchall():
        _cut_out(connection, stream, (position, position), LEVELS)


def uncover_beyond(connection: Connection, streams: Sequence[str], position: int) -> None:
    """Take all that lies beyond a position out of the marks of these streams, so that it is wanted again."""
    lock(connection, streams)
    span = {"streams": list(streams), "position": position}
    for table in ("coverage", "unproved"):
        connection.execute(
            f"DELETE FROM ops.{table} WHERE stream = ANY(%(streams)s) AND lo > %(position)s", span
        )
        connection.execute(
            f"UPDATE ops.{table} SET hi = %(position)s WHERE stream = ANY(%(streams)s) AND hi > %(position)s",
            span,
        )
    connection.execute(
        "UPDATE ops.dead_letters SET settled_at = now()"
        " WHERE stream = ANY(%(streams)s) AND lo > %(position)s AND settled_at IS NULL",
        span,
    )


def _cut_out(connection: Connection, stream: str, gap: Range, levels: Sequence[str]) -> int:
    """Take a range out of the coverage that has one of these levels of evidence.

    Returns:
        How many records were counted with ranges of which nothing is left.
    """
    cut = connection.execute(_CUT_OUT, _span([stream], gap, levels)).fetchall()
    homeless = 0
    for lo, hi, evidence, provider, records in cut:
        left = records
        for rest_lo, rest_hi in difference([(lo, hi)], [gap]):
            connection.execute(
                "INSERT INTO ops.coverage (stream, lo, hi, evidence, provider, records) VALUES (%s, %s, %s, %s, %s, %s)",
                [stream, rest_lo, rest_hi, evidence, provider, left],
            )
            left = 0  # not counted in both halves
        homeless += left
    return homeless


def unprove(connection: Connection, streams: Sequence[str], mark: Unproved) -> None:
    """Note that a range could not be proved whole, but for what somebody else has proved already."""
    lock(connection, streams)
    if mark.retracts:
        for stream in streams:
            _cut_out(connection, stream, (mark.lo, mark.hi), LEVELS)
    _forget_unproved(connection, streams, (mark.lo, mark.hi))
    covered = _touching(connection, streams, (mark.lo, mark.hi))
    for stream in streams:
        for lo, hi in difference([(mark.lo, mark.hi)], covered.get(stream, ())):
            connection.execute(
                "INSERT INTO ops.unproved (stream, lo, hi, reason) VALUES (%s, %s, %s, %s)",
                [stream, lo, hi, printable(mark.reason)],
            )


def _forget_unproved(connection: Connection, streams: Sequence[str], asked: Range) -> None:
    """What was asked again has a new answer; what lies beside it keeps its old one, for pages end where they like."""
    cut = connection.execute(_FORGET_UNPROVED, _span(streams, asked)).fetchall()
    for stream, lo, hi, reason, noticed_at in cut:
        for rest_lo, rest_hi in difference([(lo, hi)], [asked]):
            connection.execute(
                "INSERT INTO ops.unproved (stream, lo, hi, reason, noticed_at) VALUES (%s, %s, %s, %s, %s)",
                [stream, rest_lo, rest_hi, reason, noticed_at],
            )


def settle(
    connection: Connection, streams: Sequence[str], mark: Settled, *, records: int, is_stored: bool
) -> None:
    """Close a dead letter whose row is stored now, and count the row where those of its cursor are counted."""
    query = "UPDATE ops.dead_letters SET settled_at = now() WHERE id = %s AND settled_at IS NULL"
    if is_stored and connection.execute(query, [mark.letter]).rowcount:
        connection.execute(
            "UPDATE ops.cursors SET records = records + %s WHERE stream = ANY(%s)", [records, list(streams)]
        )


def count_open_letters(connection: Connection, stream: str) -> int:
    """How many dead letters of a stream wait for a replay."""
    query = "SELECT count(*) FROM ops.dead_letters WHERE stream = %s AND settled_at IS NULL"
    found = connection.execute(query, [stream]).fetchone()
    return int(found[0]) if found else 0


def bury(
    connection: Connection,
    streams: Sequence[str],
    mark: Cursor | Covered | Raised | Unproved,
    rejected: Sequence[Rejected],
) -> None:
    """Keep what could not be stored. Comes after the mark, and so under its lock.

    The dead letters of a covered range are those of its last reading: older ones are settled by it. A
    reading that proves nothing settles nothing. A record that waits already does not wait twice.
    """
    if isinstance(mark, Cursor):
        _bury_beside_a_cursor(connection, streams[0], rejected)
        return
    read = mark.lo, mark.hi
    span = {
        "streams": list(streams), "lo": mark.lo, "hi": mark.hi, "raws": [letter.raw for letter in rejected]
    }  # fmt: skip
    if isinstance(mark, Covered | Raised):
        if isinstance(mark, Raised):
            span["streams"] = _covered_throughout(connection, streams, read)
        connection.execute(_SETTLE, span)
        connection.execute(_NARROW, span)
    waiting: Counter[tuple[str, bytes]] = Counter()
    if rejected:
        waiting.update((stream, bytes(raw)) for stream, raw in connection.execute(_WAITING, span))
    for letter in rejected:
        for stream in letter.keys or streams:
            if waiting[stream, letter.raw]:
                waiting[stream, letter.raw] -= 1
            else:
                _bury_one(connection, stream, letter, read)


def _bury_beside_a_cursor(connection: Connection, stream: str, rejected: Sequence[Rejected]) -> None:
    """A feed that begins again meets its bad records again."""
    if not rejected:
        return
    query = "SELECT raw FROM ops.dead_letters WHERE stream = %s AND settled_at IS NULL AND raw = ANY(%s)"
    found = connection.execute(query, [stream, [letter.raw for letter in rejected]])
    waiting = Counter(bytes(raw) for (raw,) in found)
    for letter in rejected:
        if waiting[letter.raw]:
            waiting[letter.raw] -= 1
        else:
            _bury_one(connection, stream, letter, None)


def _covered_throughout(connection: Connection, streams: Sequence[str], read: Range) -> list[str]:
    """Those of the streams that are covered from the first to the last position; for them a proof settles what it has seen."""
    covered = _touching(connection, streams, read)
    return [stream for stream, ranges in covered.items() if not difference([read], ranges)]


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
    stream = ANY(%(streams)s) AND settled_at IS NULL AND lo <= %(hi)s AND hi >= %(lo)s"""
_SETTLE = f"""
    UPDATE ops.dead_letters SET settled_at = now()
    WHERE {_OVERLAP} AND lo >= %(lo)s AND hi <= %(hi)s"""
_NARROW = f"""
    UPDATE ops.dead_letters
    SET lo = CASE WHEN lo < %(lo)s THEN lo ELSE %(hi)s + 1 END, hi = CASE WHEN lo < %(lo)s THEN %(lo)s - 1 ELSE hi END
    WHERE {_OVERLAP} AND (lo < %(lo)s) <> (hi > %(hi)s) AND raw <> ALL (%(raws)s)"""
_WAITING = f"""
    SELECT stream, raw FROM ops.dead_letters WHERE {_OVERLAP} AND raw = ANY (%(raws)s)"""

# The ranges of some streams that may touch lo..hi. They are disjoint: at most one of them begins before lo, and it is the
# last of those that do. So this costs the same however many ranges there are, in whatever order they came.
_NEAR = """
    (SELECT DISTINCT stream FROM unnest(%(streams)s::text[]) AS stream) AS asked
    CROSS JOIN LATERAL (
        (SELECT b.* FROM ops.{table} AS b WHERE b.stream = asked.stream AND b.lo <= %(lo)s ORDER BY b.lo DESC LIMIT 1)
        UNION ALL
        (SELECT b.* FROM ops.{table} AS b WHERE b.stream = asked.stream AND b.lo > %(lo)s AND b.lo <= %(hi)s)) AS near"""
_TOUCHING = f"""
    SELECT near.stream, near.lo, near.hi, near.evidence, near.provider FROM {_NEAR.format(table="coverage")}
    WHERE near.hi >= %(lo)s AND near.evidence = ANY(%(levels)s)"""
_CUT_OUT = f"""
    DELETE FROM ops.coverage AS r USING {_NEAR.format(table="coverage")}
    WHERE near.hi >= %(lo)s AND near.evidence = ANY(%(levels)s) AND r.stream = near.stream AND r.lo = near.lo
    RETURNING r.lo, r.hi, r.evidence, r.provider, r.records"""
_FORGET_UNPROVED = f"""
    DELETE FROM ops.unproved AS r USING {_NEAR.format(table="unproved")}
    WHERE near.hi >= %(lo)s AND r.stream = near.stream AND r.lo = near.lo
    RETURNING r.stream, r.lo, r.hi, r.reason, r.noticed_at"""
_COVERED_OF = """
    SELECT asked.position FROM unnest(%(positions)s::bigint[]) AS asked (position)
    CROSS JOIN LATERAL (SELECT c.hi FROM ops.coverage AS c WHERE c.stream = %(stream)s AND c.lo <= asked.position
                        ORDER BY c.lo DESC LIMIT 1) AS before
    WHERE before.hi >= asked.position"""
_LOCK = """
    SELECT pg_advisory_xact_lock(7, bucket)
    FROM (SELECT DISTINCT hashtext(stream) & 1023 AS bucket FROM unnest(%s::text[]) AS stream ORDER BY 1) AS buckets"""
# The range before the mark ends right there, and neither another range nor the next one is touched.
_LENGTHEN = """
    UPDATE ops.coverage AS c
    SET hi = %(hi)s, updated_at = now(),
        records = records + CASE WHEN c.stream = %(first)s THEN %(records)s ELSE 0 END
    FROM unnest(%(streams)s::text[]) AS asked (stream)
    CROSS JOIN LATERAL (SELECT max(b.lo) AS lo FROM ops.coverage AS b
                        WHERE b.stream = asked.stream AND b.lo <= %(hi)s::bigint + 1) AS before
    WHERE c.stream = asked.stream AND c.lo = before.lo AND c.hi = %(lo)s::bigint - 1
      AND c.evidence = %(evidence)s AND c.provider = %(by)s
    RETURNING c.stream"""
_BEGIN = """
    INSERT INTO ops.coverage (stream, lo, hi, evidence, provider, records)
    SELECT asked.stream, %(lo)s, %(hi)s, %(evidence)s, %(by)s, CASE WHEN asked.stream = %(first)s THEN %(records)s ELSE 0 END
    FROM unnest(%(streams)s::text[]) AS asked (stream)
    WHERE coalesce((SELECT b.hi FROM ops.coverage AS b WHERE b.stream = asked.stream AND b.lo <= %(hi)s::bigint + 1
                    ORDER BY b.lo DESC LIMIT 1) < %(lo)s::bigint - 1, true)
    RETURNING stream"""
