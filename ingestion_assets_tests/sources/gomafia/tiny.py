"""A small league behind a server of its own, the site opened on it, and what its tables should hold."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.store import Store
from ingestion_assets.engine.stream import Drained, Tally
from ingestion_assets.sandbox.faults import Faults
from ingestion_assets.sandbox.gomafia import gomafia
from ingestion_assets.sandbox.league import League
from ingestion_assets.sources.gomafia import words
from ingestion_assets.sources.gomafia.config import GomafiaConfig
from ingestion_assets.sources.gomafia.phases import PHASES, Phase
from ingestion_assets.sources.gomafia.site import Site
from ingestion_assets.sources.gomafia.work import keys_of, streams_of
from ingestion_assets_tests.upstream import Upstream

SMALL = {"players": 30, "clubs": 3, "tables": 1, "rounds": 2}
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
ROLES = {"don": "DON", "mafia": "MAFIA", "sheriff": "SHERIFF", "red": "CIVILIAN"}


@dataclass
class World:
    """The league may be replaced by another one, the clock moved, and faults switched on."""

    store: Store
    league: League
    now: datetime = NOW
    waited: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.faults = Faults(gomafia(lambda: self.league))
        self.url = ""

    def later(self, **time: float) -> None:
        """Time passes."""
        self.now += timedelta(**time)

    def sleep(self, seconds: float) -> None:
        """Whoever waits sees the clock move."""
        self.waited.append(seconds)
        self.now += timedelta(seconds=seconds)

    @contextmanager
    def site(self, **typed: object) -> Iterator[Site]:
        """Opened as a run does."""
        config = GomafiaConfig(
            **{
                "url": self.url,
                "requests_per_second": 1000,
                "start_year": 2025,
                "timeout_seconds": 5,
                **typed,
            }
        )
        site = Site(config, self.store, clock=lambda: self.now, sleep=self.sleep)
        try:
            yield site
        finally:
            site.close()

    def run(self, *phases: Phase, most: int | None = None, **typed: object) -> dict[str, Drained]:
        """Drain whole phases, all of them if none is named; `most` commits of each, then it is stopped."""
        with self.site(**typed) as site:
            return {phase.name: self._drain(phase, site, most) for phase in phases or PHASES}

    def _drain(self, phase: Phase, site: Site, most: int | None) -> Drained:
        commits: list[Tally] = []
        return drain(
            streams_of(phase, site, keys_of(phase, site)),
            self.store,
            read_ahead=0,
            should_stop=lambda: most is not None and len(commits) >= most,
            on_commit=lambda _stream, _batch, tally: commits.append(tally),
        )

    def asked(self) -> list[tuple[str, dict[str, str]]]:
        """All requests since the last call, and forget them."""
        found = [(one.path, dict(one.values)) for one in self.faults.asked]
        self.faults.asked.clear()
        return found


@contextmanager
def opened(store: Store, league: League | None = None) -> Iterator[World]:
    """The world, served."""
    world = World(store, league or League(tournaments=3, **SMALL))
    with Upstream(world.faults) as upstream:
        world.url = upstream.url
        yield world


def stored(connection, table: str, *columns: str) -> set[tuple[object, ...]]:
    """Those columns of all rows; no two rows may be equal in them."""
    found = connection.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall()
    assert len(found) == len(set(found))
    return set(found)


def agrees(connection, league: League) -> None:
    """Every table holds what is true of the league, row by row."""
    assert stored(connection, "raw.gomafia_clubs", "id", "name") == {
        (c, league.club_name(c)) for c in league.clubs
    }
    rated = {(year, player) for year in league.years for player in league.rating(year)}
    assert stored(connection, "raw.gomafia_ratings", "year", "player_id", "tournaments", "score", "elo") == {
        (y, p, league.of_year[y, p].tournaments, league.of_year[y, p].gg, Decimal(league.elo(p)))
        for y, p in rated
    }
    assert stored(connection, "raw.gomafia_players", "id", "name", "club", "elo", "year") == {
        (
            p,
            words.text(league.name(p)),
            club and league.club_name(club),
            Decimal(league.elo(p)),
            max(y for y, q in rated if q == p),
        )
        for p in {player for _, player in rated}
        for club in [league.club(p)]
    }
    assert stored(connection, "raw.gomafia_club_members", "club_id", "player_id") == {
        (club, player) for club in league.clubs for player in league.members(club)
    }
    assert stored(connection, "raw.gomafia_player_year_stats", "year", "player_id", "games", "civilian", "mafia", "sheriff", "don") == {
        (y, p, sum(own.games.values()), own.games["red"], own.games["mafia"], own.games["sheriff"], own.games["don"])
        for y, p in rated
        for own in [league.of_year[y, p]]
    }  # fmt: skip
    assert stored(connection, "raw.gomafia_tournaments", "id", "name", "date_start", "date_end", "stars") == {
        (t, f"Кубок «{t}»", league.day(t), league.day(t), league.stars(t)) for t in league.tournaments()
    }
    assert stored(
        connection,
        "raw.gomafia_player_tournaments",
        "player_id",
        "tournament_id",
        "place",
        "gg",
        "elo_change",
        "prize",
    ) == {
        (p, t, r.place, r.gg, r.elo_change, Decimal(r.prize) / 100 if r.prize else None)
        for p in league.players
        for t, r in league.history.get(p, {}).items()
    }
    words_of = {"red": "RED", "mafia": "BLACK", "draw": "DRAW"}
    assert stored(connection, "raw.gomafia_games", "tournament_id", "round_number", "table_number", "played_on", "winner", "judge") == {
        (t, g.round, g.table, league.day(t), words_of[g.winner], g.judge) for t in league.played() for g in league.games(t)
    }  # fmt: skip
    columns = (
        "tournament_id",
        "round_number",
        "table_number",
        "seat",
        "player_id",
        "role",
        "won",
        "points",
        "elo_change",
    )
    assert stored(connection, "raw.gomafia_participations", *columns) == {
        (t, g.round, g.table, n, s.player, ROLES[s.role], g.won(s), Decimal(s.points) / 100, s.elo_change)
        for t in league.played() for g in league.games(t) for n, s in enumerate(g.seats, 1)
    }  # fmt: skip
    counted: dict[tuple[int, str], list[object]] = {}
    for t in league.played():
        for g in league.games(t):
            for s in g.seats:
                own = counted.setdefault((s.player, ROLES[s.role]), [0, 0, 0, 0, Decimal(0), league.day(t)])
                own[0] += 1
                own[1 if g.won(s) else 3 if g.winner == "draw" else 2] += 1
                own[4] += Decimal(s.points) / 100
                own[5] = max(own[5], league.day(t))
    columns = ("player_id", "role", "games", "wins", "losses", "draws", "points", "last_played")
    assert stored(connection, "core.gomafia_role_statistics", *columns) == {
        (*key, *own) for key, own in counted.items()
    }
