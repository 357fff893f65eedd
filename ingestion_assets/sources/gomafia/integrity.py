"""Whether what is stored fits together: queries that count what does not, and the share of records that were valid.

Nothing is mended here. A finding is a sentence with a number; where the site itself contradicts itself, it stays one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ingestion_assets.engine.store import Store
from ingestion_assets.sources.gomafia.phases import (
    CLUB_MEMBERS,
    GAMES,
    HISTORIES,
    PHASES,
    PLAYERS,
    STATISTICS,
    YEAR_STATS,
    Phase,
)

WANTED_PERCENT = 98  # of records that are valid


@dataclass(frozen=True, slots=True)
class Rule:
    """What must not be found. `severe`: it cannot come from the site, so rows are missing or wrong."""

    what: str
    query: str  # gives one number
    severe: bool = False


_NO_PLAYER = "NOT EXISTS (SELECT FROM raw.gomafia_players AS p WHERE p.id = t.player_id)"
_NO_GAME = (
    "NOT EXISTS (SELECT FROM raw.gomafia_games AS g WHERE (g.tournament_id, g.round_number, g.table_number)"
    " = (t.tournament_id, t.round_number, t.table_number))"
)
_ONE_GAME = (
    "SELECT tournament_id, round_number, table_number FROM raw.gomafia_participations GROUP BY 1, 2, 3"
)

RULES: Mapping[str, tuple[Rule, ...]] = {
    PLAYERS.name: (
        Rule(
            "places in a rating without a player",
            f"SELECT count(*) FROM raw.gomafia_ratings AS t WHERE {_NO_PLAYER}",
            severe=True,
        ),
    ),
    CLUB_MEMBERS.name: (
        Rule(
            "members of clubs that are not listed",
            "SELECT count(*) FROM raw.gomafia_club_members AS t"
            " WHERE NOT EXISTS (SELECT FROM raw.gomafia_clubs AS c WHERE c.id = t.club_id)",
            severe=True,
        ),
        Rule(
            "members of clubs whom no rating names",
            f"SELECT count(*) FROM raw.gomafia_club_members AS t WHERE {_NO_PLAYER}",
        ),
    ),
    YEAR_STATS.name: (
        Rule(
            "years of players whose roles do not add up to their games",
            "SELECT count(*) FROM raw.gomafia_player_year_stats WHERE civilian + mafia + sheriff + don <> games",
        ),
        Rule(
            "years of players with more wins than games in a role",
            "SELECT count(*) FROM raw.gomafia_player_year_stats WHERE civilian_wins > civilian OR mafia_wins > mafia"
            " OR sheriff_wins > sheriff OR don_wins > don OR wins > games",
        ),
        Rule(
            "years of players whom the rating of that year does not name",
            "SELECT count(*) FROM raw.gomafia_player_year_stats AS t WHERE NOT EXISTS"
            " (SELECT FROM raw.gomafia_ratings AS r WHERE (r.year, r.player_id) = (t.year, t.player_id))",
        ),
    ),
    HISTORIES.name: (
        Rule(
            "histories of players whom no rating names",
            f"SELECT count(*) FROM raw.gomafia_player_tournaments AS t WHERE {_NO_PLAYER}",
            severe=True,
        ),
        Rule(
            "entries of histories whose tournament is not listed",
            "SELECT count(*) FROM raw.gomafia_player_tournaments AS t"
            " WHERE NOT EXISTS (SELECT FROM raw.gomafia_tournaments AS o WHERE o.id = t.tournament_id)",
        ),
    ),
    GAMES.name: (
        Rule(
            "seats without a game",
            f"SELECT count(*) FROM raw.gomafia_participations AS t WHERE {_NO_GAME}",
            severe=True,
        ),
        Rule(
            "games of tournaments that are not listed",
            "SELECT count(*) FROM raw.gomafia_games AS t"
            " WHERE NOT EXISTS (SELECT FROM raw.gomafia_tournaments AS o WHERE o.id = t.tournament_id)",
            severe=True,
        ),
        Rule(
            "seats of players whom no rating names",
            f"SELECT count(*) FROM raw.gomafia_participations AS t WHERE {_NO_PLAYER}",
        ),
        Rule(
            "games where a player sits twice",
            f"SELECT count(*) FROM ({_ONE_GAME} HAVING count(*) > count(DISTINCT player_id)) AS found",
        ),
        Rule(
            "games without exactly one don, two mafiosi and one sheriff",
            f"SELECT count(*) FROM ({_ONE_GAME} HAVING count(*) FILTER (WHERE role = 'DON') <> 1"
            " OR count(*) FILTER (WHERE role = 'MAFIA') <> 2 OR count(*) FILTER (WHERE role = 'SHERIFF') <> 1) AS found",
        ),
        Rule(
            "players who sat in a tournament that their history does not have, though it was read",
            "SELECT count(*) FROM (SELECT DISTINCT player_id, tournament_id FROM raw.gomafia_participations) AS t"
            " WHERE EXISTS (SELECT FROM raw.gomafia_player_tournaments AS h WHERE h.player_id = t.player_id) AND NOT EXISTS"
            " (SELECT FROM raw.gomafia_player_tournaments AS h WHERE (h.player_id, h.tournament_id) = (t.player_id, t.tournament_id))",
        ),
    ),
    STATISTICS.name: (
        Rule(
            "games in the statistics that the seats do not have, or the other way round",
            "SELECT abs((SELECT coalesce(sum(games), 0) FROM core.gomafia_role_statistics)"
            " - (SELECT count(*) FROM raw.gomafia_participations WHERE won IS NOT NULL))",
            severe=True,
        ),
        Rule(
            "years of players whose games at the tables are not as many as the site counts",
            "SELECT count(*) FROM (SELECT t.player_id, extract(year FROM g.played_on)::int AS year, count(*) AS games"
            " FROM raw.gomafia_participations AS t JOIN raw.gomafia_games AS g USING (tournament_id, round_number, table_number)"
            " GROUP BY 1, 2) AS met JOIN raw.gomafia_player_year_stats AS told USING (player_id, year) WHERE met.games <> told.games",
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """How often a rule is broken."""

    rule: Rule
    count: int


def findings(store: Store, phase: Phase) -> list[Finding]:
    """The rules of a phase, each with how often it is broken, now."""
    found: list[Finding] = []
    for rule in RULES.get(phase.name, ()):
        row = store.transaction(lambda c, rule=rule: c.execute(rule.query).fetchone())  # type: ignore[misc]
        found.append(Finding(rule, int(row[0]) if row else 0))
    return found


@dataclass(frozen=True, slots=True)
class Validity:
    """How much of what a phase was told is stored, and how much waits as dead letters."""

    stored: int
    refused: int

    @property
    def rate(self) -> float | None:
        """The share that is stored, not rounded; None where there is nothing yet."""
        told = self.stored + self.refused
        return self.stored / told if told else None

    @property
    def is_enough(self) -> bool:
        """Whether it reaches the wanted share. Whole numbers are compared: 97.5 % is not 98 %."""
        return self.stored * 100 >= (self.stored + self.refused) * WANTED_PERCENT


def validity(store: Store, phase: Phase) -> Validity:
    """Of all that is stored of a phase."""
    stored = store.transaction(lambda c: c.execute(f"SELECT count(*) FROM {phase.table.fullname}").fetchone())
    letters = (
        store.count_open_letters(f"{phase.asset}/")
        if phase.keyed_by_year
        else store.count_open_letters(phase.asset)
    )
    own = {
        key: count
        for key, count in letters.items()
        if key == phase.asset or key.startswith(f"{phase.asset}/")
    }
    return Validity(int(stored[0]) if stored else 0, sum(own.values()))


CHECKED = tuple(phase for phase in PHASES if phase.name in RULES)
