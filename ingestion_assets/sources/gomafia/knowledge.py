"""What our own tables know of the site: which entities there are, when each listing was read, and what statistics follow. Queries only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa

from ingestion_assets.engine.coverage import Range
from ingestion_assets.engine.store import Store
from ingestion_assets.sources.gomafia.phases import Phase
from ingestion_assets.sources.gomafia.tables import (
    clubs,
    participations,
    players,
    ratings,
    sweeps,
    tournaments,
)

NOT_PLAYED = ("SCHEDULED", "CANCELLED")  # statuses of tournaments that have no games


@dataclass(frozen=True, slots=True)
class Sweep:
    """A reading of a listing from its beginning: when it began, and how many entities the site said there are."""

    began_at: datetime
    total: int


@dataclass(frozen=True, slots=True)
class Tournament:
    """A tournament whose games are asked for."""

    id: int
    played_on: date


class Knowledge:
    """What is stored.

    Args:
        store: where.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def sweep(self, key: str) -> Sweep | None:
        """The last reading of a listing that has begun, wherever it has got to."""
        query = "SELECT began_at, total FROM ops.gomafia_sweeps WHERE listing = %s"
        found = self.store.transaction(lambda c: c.execute(query, [key]).fetchone())
        return None if found is None else Sweep(*found)

    def has_begun(self, asset: str) -> bool:
        """Whether a listing was ever begun, in any of its years."""
        query = "SELECT 1 FROM ops.gomafia_sweeps WHERE listing = %s OR starts_with(listing, %s) LIMIT 1"
        return self.store.transaction(lambda c: c.execute(query, [asset, f"{asset}/"]).fetchone()) is not None

    def seen(self, phase: Phase, year: int | None, began_at: datetime) -> int:
        """How many different entities a reading of a listing has named."""
        table = phase.table
        query = f"SELECT count(*) FROM {table.fullname} WHERE seen_at = %s"
        values: list[object] = [began_at]
        if year is not None:
            query, values = f"{query} AND year = %s", [*values, year]
        return self._number(query, values)

    def clubs(self, blocks: Sequence[Range]) -> list[int]:
        """The clubs in these ranges of ids."""
        return self._ids(f"SELECT id FROM {clubs.fullname} WHERE {_IN_BLOCKS} ORDER BY 1", blocks)

    def players(self, blocks: Sequence[Range]) -> list[int]:
        """The players in these ranges of ids."""
        return self._ids(f"SELECT id FROM {players.fullname} WHERE {_IN_BLOCKS} ORDER BY 1", blocks)

    def rated(self, year: int) -> list[int]:
        """The players whom the rating of a year names."""
        query = f"SELECT player_id FROM {ratings.fullname} WHERE year = %s ORDER BY 1"
        return [row[0] for row in self.store.transaction(lambda c: c.execute(query, [year]).fetchall())]

    def tournaments(self, years: Sequence[int]) -> list[Tournament]:
        """The tournaments that began in these years and may have games, the newest first."""
        query = (
            f"SELECT id, date_start FROM {tournaments.fullname} WHERE extract(year FROM date_start) = ANY(%s)"
            " AND (status IS NULL OR status <> ALL(%s)) ORDER BY date_start DESC, id DESC"
        )
        found = self.store.transaction(lambda c: c.execute(query, [list(years), list(NOT_PLAYED)]).fetchall())
        return [Tournament(*row) for row in found]

    def last_player(self) -> int:
        """The highest number of a player that is known, from the ratings or from a game."""
        query = f"SELECT greatest((SELECT max(id) FROM {players.fullname}), (SELECT max(player_id) FROM {participations.fullname}), 0)"
        return self._number(query, [])

    def statistics(self, block: Range) -> list[tuple[object, ...]]:
        """Rows of `core.gomafia_role_statistics` for these players, as the games that are stored have them."""
        return self.store.transaction(lambda c: c.execute(_STATISTICS, block).fetchall())

    def _ids(self, query: str, blocks: Sequence[Range]) -> list[int]:
        los, his = [lo for lo, _ in blocks], [hi for _, hi in blocks]
        return [row[0] for row in self.store.transaction(lambda c: c.execute(query, [los, his]).fetchall())]

    def _number(self, query: str, values: Sequence[object]) -> int:
        found = self.store.transaction(lambda c: c.execute(query, values).fetchone())
        return int(found[0]) if found else 0


_IN_BLOCKS = (
    "EXISTS (SELECT FROM unnest(%s::bigint[], %s::bigint[]) AS block (lo, hi) WHERE id BETWEEN lo AND hi)"
)
_STATISTICS = """
    SELECT p.player_id, p.role, count(*), count(*) FILTER (WHERE p.won),
           count(*) FILTER (WHERE NOT p.won AND g.winner <> 'DRAW'), count(*) FILTER (WHERE g.winner = 'DRAW'),
           coalesce(sum(p.points), 0), max(g.played_on)
    FROM raw.gomafia_participations AS p JOIN raw.gomafia_games AS g USING (tournament_id, round_number, table_number)
    WHERE p.player_id BETWEEN %s AND %s AND g.winner IS NOT NULL
    GROUP BY 1, 2 ORDER BY 1, 2"""


def changed_in(table: sa.Table, column: str, began_at: datetime, **where: object) -> sa.Select[tuple[int]]:
    """The entities that a reading has found new or different."""
    query = sa.select(table.c[column]).where(table.c.as_of == began_at)
    return query.where(*(table.c[name] == value for name, value in where.items()))


def replaced(table: sa.Table, **where: object) -> sa.Delete:
    """What is stored of an entity, to go when it was read anew."""
    return sa.delete(table).where(*(table.c[name] == value for name, value in where.items()))


def noted(sweep: Sweep, key: str) -> tuple[sa.Delete, bytes]:
    """The row of a sweep, and what it takes the place of."""
    line = f"{key}\t{sweep.began_at.isoformat()}\t{sweep.total}\n"
    return sa.delete(sweeps).where(sweeps.c.listing == key), line.encode()
