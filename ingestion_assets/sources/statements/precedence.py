"""Which lines give way, because a richer file of their account tells the same: superseded, and not booked.

A file covers a topic in the period that it states, if it holds a line of that topic. What it holds none of it either was not
asked for, and then others have to tell it; or there was nothing, and then nobody else tells anything of it. What files
cover is computed of stored rows alone, so the order in which they came does not matter; and it is kept in
`ops.statement_covers`, so that what a new or a vanished file changes are days like any others that have changed.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import msgspec

from ingestion_assets.engine.coverage import Ranges, difference, union
from ingestion_assets.engine.store import Connection, Store
from ingestion_assets.sources.statements.movements.movement import Stored
from ingestion_assets.sources.statements.registry import STREAM as LINES
from ingestion_assets.sources.statements.topics import (
    EVENTS,
    PERIODS,
    RICHNESS,
    day_of,
    period_of,
    sum_of,
    topic_of,
)

RICHER = tuple(name for name, richness in RICHNESS.items() if richness > 0)

_PAYLOAD = msgspec.json.Decoder(dict[str, str | None])


@dataclass(frozen=True, slots=True, order=True)
class Cover:
    """What a file tells.

    Args:
        file: SHA-256 of its content.
        topic: of which.
        first: day of the period.
        last: day of it.
        dialect: that the file is written in.
    """

    file: str
    topic: str
    first: date
    last: date
    dialect: str


@dataclass(frozen=True, slots=True)
class Precedence:
    """What the files of an account cover. With no covers nothing gives way."""

    covers: Sequence[Cover] = ()
    _found: dict[tuple[str, str, date], str | None] = field(
        default_factory=dict[tuple[str, str, date], str | None]
    )

    def superseding(self, line: Stored) -> str | None:
        """The file that tells what a line tells: of several the richest, then that with the least hash. None: it counts."""
        topic = topic_of(line) if self.covers and line.dialect in RICHNESS else None
        if topic is None:
            return None
        asked = line.dialect, topic, day_of(line)
        if asked not in self._found:
            self._found[asked] = self._file(*asked)
        return self._found[asked]

    def _file(self, dialect: str, topic: str, day: date) -> str | None:
        found = [
            (-RICHNESS[cover.dialect], cover.file)
            for cover in self.covers
            if cover.topic == topic
            and cover.first <= day <= cover.last
            and RICHNESS[cover.dialect] > RICHNESS[dialect]
        ]
        return min(found)[1] if found else None

    def might_be_repeated(self, line: Stored) -> bool:
        """Whether a richer line of the same day may tell the same, although no file covers that day."""
        richest = max((RICHNESS[cover.dialect] for cover in self.covers), default=-1)
        return RICHNESS.get(line.dialect, richest) < richest and sum_of(line) is not None

    def counting(self, group: Sequence[Stored]) -> Sequence[Stored]:
        """Those lines of a group that are booked."""
        if not self.covers:
            return group
        kept = [line for line in group if self.superseding(line) is None]
        return _without_repeated(kept)


def _without_repeated(group: Sequence[Stored]) -> Sequence[Stored]:
    """Without what a richer line of the same day tells: a sum may be booked long after its day, as refunds of taxes are.

    Then a query tells it in the period that it was booked in, and its day lies in none.
    """
    richest = max((RICHNESS.get(line.dialect, -1) for line in group), default=-1)
    told = [sum_of(line) for line in group if RICHNESS.get(line.dialect, -1) == richest]
    kept: list[Stored] = []
    for line in group:
        mine = sum_of(line)
        if RICHNESS.get(line.dialect, richest) < richest and mine is not None and mine in told:
            told.remove(mine)
        else:
            kept.append(line)
    return kept


def noted(store: Store, account: str) -> Precedence:
    """As it was last taken note of."""
    return Precedence(store.transaction(lambda c: _noted(c, account)))


def note(store: Store, account: str) -> None:
    """Compute what the files of an account cover, if anything of it has changed, and note which days that concerns.

    They are noted as changed, in this very transaction: whatever was derived of them by what was noted before is taken back,
    and whoever is deriving them at this moment cannot commit.
    """
    store.transaction(lambda connection: _note(connection, account))


def _note(connection: Connection, account: str) -> None:
    asked = {"source": LINES, "account": account, "follower": f"statements/covers/{account}"}
    if connection.execute(_BEHIND, asked).fetchone() is None:
        return
    # Nobody changes lines of the account until this is committed.
    (last,) = connection.execute(_LOCKED, asked).fetchone() or (0,)
    before, after = _noted(connection, account), covers_of(connection, account)
    days = [day for one, other in ((before, after), (after, before)) for day in _days(one, other)]
    if before != after:
        connection.execute("DELETE FROM ops.statement_covers WHERE account = %s", [account])
        connection.cursor().executemany(
            "INSERT INTO ops.statement_covers (account, file, topic, first, last, dialect) VALUES (%s, %s, %s, %s, %s, %s)",
            [(account, one.file, one.topic, one.first, one.last, one.dialect) for one in after],
        )
    if days:
        last += 1
        connection.execute(_CHANGED, asked | {"change": last})
        for lo, hi in union(days):
            connection.execute(
                _TOUCHED,
                asked | {"change": last, "first": date.fromordinal(lo), "last": date.fromordinal(hi)},
            )
    connection.execute(_FOLLOWED, asked | {"change": last})


def _noted(connection: Connection, account: str) -> list[Cover]:
    return [Cover(*row) for row in connection.execute(_COVERS, [account]).fetchall()]


def _days(covers: Iterable[Cover], without: Iterable[Cover]) -> Iterator[tuple[int, int]]:
    """The days that these cover and those do not, topic by topic and dialect by dialect, as ordinals."""
    these, those = _ranges(covers), _ranges(without)
    for key, ranges in these.items():
        yield from difference(ranges, those.get(key, ()))


def _ranges(covers: Iterable[Cover]) -> Mapping[tuple[str, str], Ranges]:
    found: defaultdict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for one in covers:
        found[one.dialect, one.topic].append((one.first.toordinal(), one.last.toordinal()))
    return {key: union(ranges) for key, ranges in found.items()}


def covers_of(connection: Connection, account: str) -> list[Cover]:
    """What the files of an account cover, by their stored lines; of an account in one format nothing, for nothing gives way."""
    dialects: dict[str, str] = dict(connection.execute(_DIALECTS, {"account": account}).fetchall())
    if len(RICHNESS.keys() & set(dialects.values())) < 2:  # noqa: PLR2004
        return []
    periods: defaultdict[str, set[tuple[date, date]]] = defaultdict(set)
    topics: defaultdict[str, set[str]] = defaultdict(set)
    asked = {
        "account": account,
        "files": [file for file, dialect in dialects.items() if dialect in RICHER],
        "periods": list(PERIODS),
        "sections": [*PERIODS, *EVENTS],
    }
    for file, dialect, section, payload in connection.execute(_TOLD, asked).fetchall():
        line = Stored(_NEVER, "", dialect, section, _PAYLOAD.decode(payload))
        period, topic = period_of(line), topic_of(line)
        if period is not None:
            periods[file].add(period)
        if topic is not None:
            topics[file].add(topic)
    return sorted(
        Cover(file, topic, first, last, dialects[file])
        for file, own in topics.items()
        for topic in own
        for first, last in periods[file]
    )


def superseded(store: Store, account: str) -> dict[tuple[str, str], int]:
    """How many lines of an account give way, by their dialect and by the file that tells the same."""
    precedence = noted(store, account)
    found: defaultdict[tuple[str, str], int] = defaultdict(int)
    if precedence.covers:
        poorer = [name for name in RICHNESS if name != "ibkr_flex"]
        for at, dialect, section, payload, count in store.transaction(
            lambda c: c.execute(_POORER, [account, poorer]).fetchall()
        ):
            line = Stored(at, "", dialect, section, _PAYLOAD.decode(payload))
            file = precedence.superseding(line)
            if file is not None:
                found[dialect, file] += count
    return dict(found)


_NEVER = datetime.max.replace(tzinfo=UTC)
_BEHIND = """
    SELECT c.change FROM ops.statement_counters AS c LEFT JOIN ops.statement_followers AS f ON f.stream = %(follower)s
    WHERE c.source = %(source)s AND c.account = %(account)s AND c.change > coalesce(f.change, 0)"""
_LOCKED = """
    SELECT change FROM ops.statement_counters WHERE source = %(source)s AND account = %(account)s FOR UPDATE"""
_COVERS = """
    SELECT file, topic, first, last, dialect FROM ops.statement_covers WHERE account = %s ORDER BY 1, 2, 3, 4"""
_CHANGED = """
    UPDATE ops.statement_counters SET change = %(change)s WHERE source = %(source)s AND account = %(account)s"""
_TOUCHED = """
    UPDATE ops.statement_changes SET change = %(change)s
    WHERE source = %(source)s AND account = %(account)s AND day BETWEEN %(first)s AND %(last)s"""
_FOLLOWED = """
    INSERT INTO ops.statement_followers (stream, change) VALUES (%(follower)s, %(change)s)
    ON CONFLICT (stream) DO UPDATE SET change = excluded.change"""
_DIALECTS = """
    SELECT f.file, held.dialect
    FROM (SELECT DISTINCT file FROM ops.statement_chunks WHERE account = %(account)s) AS f
    CROSS JOIN LATERAL (
        SELECT l.dialect FROM ops.statement_chunks AS k, raw.statement_lines AS l
        WHERE k.account = %(account)s AND k.file = f.file AND l.account = k.account
          AND l.at BETWEEN k.first_at AND k.last_at AND l.id = ANY (k.ids)
        LIMIT 1
    ) AS held"""
_TOLD = """
    SELECT DISTINCT k.file, l.dialect, l.section,
        CASE WHEN l.section = ANY (%(periods)s) THEN jsonb_build_object(
                'fromDate', l.payload -> 'fromDate', 'toDate', l.payload -> 'toDate',
                'Field Name', l.payload -> 'Field Name', 'Field Value', l.payload -> 'Field Value')
            ELSE jsonb_build_object(
                'type', l.payload -> 'type', 'levelOfDetail', l.payload -> 'levelOfDetail',
                'kind', l.payload -> 'kind', 'DataDiscriminator', l.payload -> 'DataDiscriminator',
                'Date', CASE WHEN l.payload ->> 'Date/Time' IS NOT NULL OR l.payload ->> 'Date' IS NOT NULL
                    OR l.payload ->> 'Settle Date' IS NOT NULL OR l.payload ->> 'Report Date' IS NOT NULL
                    THEN 'told' END) END::text
    FROM ops.statement_chunks AS k, unnest(k.ids) AS held (id), raw.statement_lines AS l
    WHERE k.account = %(account)s AND k.file = ANY (%(files)s) AND l.account = k.account
      AND l.at BETWEEN k.first_at AND k.last_at AND l.id = held.id AND l.section = ANY (%(sections)s)"""
_POORER = """
    SELECT date_trunc('day', at, 'UTC'), dialect, section,
        jsonb_build_object(
            'kind', payload -> 'kind', 'DataDiscriminator', payload -> 'DataDiscriminator',
            'Transaction Type', payload -> 'Transaction Type', 'Report Date', payload -> 'Report Date',
            'Date', coalesce(payload -> 'Date/Time', payload -> 'Date', payload -> 'Settle Date'))::text, count(*)
    FROM raw.statement_lines WHERE account = %s AND dialect = ANY (%s) GROUP BY 1, 2, 3, 4"""
