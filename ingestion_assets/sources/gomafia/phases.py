"""The phases of the import: what each is called, what it needs first, and how it is partitioned. Names only; nothing here runs."""

from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from ingestion_assets.sources.gomafia import tables
from ingestion_assets.sources.gomafia.provider import Listing, Subject

By = Literal["year", "ids"]


@dataclass(frozen=True, slots=True)
class Phase:
    """One asset of the family.

    Args:
        name: of the asset, and what its stream keys begin with: `gomafia/clubs`.
        table: where its rows go.
        by: how it is partitioned: by the years that `column` lies in, or by ranges of ids in `column`.
        column: of the table.
        needs: the phases that have to be read before.
        listing, subject: what the site is asked; of the statistics, which are counted from our own tables, neither.
        keyed_by_year: whether each year has a stream of its own.
        what: in a sentence, for the UI.
    """

    name: str
    table: sa.Table
    by: By
    column: str
    what: str
    needs: tuple[str, ...] = ()
    listing: Listing | None = None
    subject: Subject | None = None
    keyed_by_year: bool = False

    @property
    def asset(self) -> str:
        """Its asset key, and the beginning of its stream keys."""
        return f"gomafia/{self.name}"

    def key(self, year: int | None) -> str:
        """Under which its marks are kept."""
        return f"{self.asset}/{year}" if self.keyed_by_year else self.asset


CLUBS = Phase("clubs", tables.clubs, "ids", "id", "The list of clubs.", listing="clubs")
PLAYERS = Phase(
    "players", tables.ratings, "year", "year",
    "The rating of each year: the players whom it names (`raw.gomafia_players`), and their places.",
    listing="players", keyed_by_year=True,
)  # fmt: skip
CLUB_MEMBERS = Phase(
    "club_members", tables.club_members, "ids", "club_id", "Who belongs to each club.",
    needs=("clubs", "players"), subject="club_members",
)  # fmt: skip
YEAR_STATS = Phase(
    "player_year_stats", tables.year_stats, "year", "year", "Games and wins of each player and year, by role.",
    needs=("players",), subject="player_year_stats", keyed_by_year=True,
)  # fmt: skip
TOURNAMENTS = Phase(
    "tournaments", tables.tournaments, "year", "date_start", "The list of tournaments.", listing="tournaments"
)
HISTORIES = Phase(
    "player_tournament_histories", tables.player_tournaments, "ids", "player_id",
    "The tournaments that each player has played, with place, points and prize.",
    needs=("players", "tournaments"), subject="player_tournament_histories",
)  # fmt: skip
GAMES = Phase(
    "games", tables.games, "year", "played_on", "The games of each tournament, the newest first, and who sat at their tables.",
    needs=("tournaments", "players"), subject="games",
)  # fmt: skip
STATISTICS = Phase(
    "statistics", tables.role_statistics, "ids", "player_id",
    "Games, wins and points of each player in each role, counted from the games that are stored.",
    needs=("games", "player_year_stats", "player_tournament_histories", "club_members"),
)  # fmt: skip

PHASES = (
    CLUBS,
    PLAYERS,
    CLUB_MEMBERS,
    YEAR_STATS,
    TOURNAMENTS,
    HISTORIES,
    GAMES,
    STATISTICS,
)  # in the order of an import
NAMED = {phase.name: phase for phase in PHASES}
