"""What gomafia.pro is asked, in our terms: the questions, the answers, and the protocol of whoever answers.

Belongs here: words, and nothing that asks. `api` and `pages` are the two ways to ask; whoever reads a phase knows only this.
A record says everything as text, under the names of `fields` in `records`; what a way cannot know is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from ingestion_assets.engine.stream import Rejected

Listing = Literal["clubs", "players", "tournaments"]
Subject = Literal["club_members", "player_year_stats", "player_tournament_histories", "games"]


@dataclass(frozen=True, slots=True)
class Place:
    """Which entities does a listing name, from position `lo` on? The first position is 1.

    `counted`: the answer has to say how many there are in all. `year`: of the rating of players.
    """

    listing: Listing
    lo: int
    year: int | None = None
    counted: bool = False

    @property
    def about(self) -> str:
        """The class of the question, for what a way does not support."""
        return self.listing


@dataclass(frozen=True, slots=True)
class Entity:
    """What belongs to one entity: the members of a club, the year or the history of a player, the games of a tournament?"""

    subject: Subject
    id: int
    year: int | None = None

    @property
    def about(self) -> str:
        """The class of the question, for what a way does not support; the years may differ in that."""
        return self.subject if self.year is None else f"{self.subject}/{self.year}"


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that the site told: `fields` as texts by our names, `payload` as received (JSON)."""

    payload: bytes
    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Seat:
    """One player at the table of a game."""

    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Game:
    """The table of a round, with its seats."""

    record: Record
    seats: tuple[Seat, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """The entities at the positions from `lo` on, one each; `total` is how many the site says there are, where it says so."""

    lo: int
    records: tuple[Record | Rejected, ...]
    total: int | None

    @property
    def hi(self) -> int:
        """The last position."""
        return self.lo + len(self.records) - 1


@dataclass(frozen=True, slots=True)
class Whole:
    """All that belongs to an entity. Where the site has no such entity (any more), `missing` says so."""

    records: tuple[Record | Rejected, ...] = ()
    games: tuple[Game, ...] = ()
    missing: str | None = None


class Provider(Protocol):
    """One way to ask the site. Every method raises `engine.errors`; none of them loops for ever."""

    @property
    def name(self) -> str:
        """As in sources.yaml."""
        ...

    def listed(self, place: Place) -> Part:
        """The entities from this position on, or from a little before: at least the one at `lo`.

        Raises:
            Transient: it cannot be asked now, or there is nothing at `lo`.
            SchemaDrift: it answers in a shape that is not known.
        """
        ...

    def whole(self, entity: Entity) -> Whole:
        """All that belongs to an entity, proved to be all by what the site says.

        Raises:
            Transient: it cannot be asked now, or gives less than it says there is.
            Unsupported: this way has no answer to such a question.
            SchemaDrift: it answers in a shape that is not known.
        """
        ...

    def close(self) -> None:
        """Close its connections."""
        ...
