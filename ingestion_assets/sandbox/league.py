"""A made-up league of tournament mafia: who plays, where, in which role, and what everybody's numbers are.

Every tournament follows from the seed, its year and its number, so a larger league holds the smaller one, and adding a tournament
changes its players' numbers and nobody else's. `gomafia` shows it as the site does; what is true of it is told here.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache

from ingestion_assets.sandbox.draw import Draw, digest

ROLES = ("don", "mafia", "mafia", "sheriff", "red", "red", "red", "red", "red", "red")
BLACK = ("don", "mafia")
SEATS = len(ROLES)

_SYLLABLES = ("ма", "фи", "я", "до", "н", "ше", "ри", "ф", "го", "род", "ноч", "ь", "ли", "са", "бор", "тур")
_ODD_NAMES = (
    "PELIMENI",
    "PELIMENI",
    'О\'Хара "Кот"',
    "Обратная\\черта",
    "Ёж 🦔",
    "Ян",
    "Sheriff_№1",
    "<b>Тег</b> & Ко",
)
_CITIES = ("Москва", "МСК", "Санкт-Петербург", "СПб", "Питер", "Казань", "Нижний Новгород", "Н.Новгород")
_CLUBS = ("Чёрная кошка", "Красный город", "Titan", "Город \\ ночь", "Белый кролик")


@dataclass(frozen=True, slots=True)
class Seat:
    """One player at a table; `points` in hundredths."""

    player: int
    role: str
    points: int
    elo_change: int


@dataclass(frozen=True, slots=True)
class Game:
    """One table of one round. `winner` is red, mafia or draw."""

    round: int
    table: int
    winner: str
    judge: str
    seats: tuple[Seat, ...]

    def won(self, seat: Seat) -> bool:
        """Whether this player has won; nobody wins a draw."""
        return self.winner == ("mafia" if seat.role in BLACK else "red")


@dataclass(frozen=True, slots=True)
class Result:
    """What a tournament was for one player: place, GG points, Elo, and roubles in hundredths (0: no prize)."""

    place: int
    gg: int
    elo_change: int
    prize: int


@dataclass(slots=True)
class Year:
    """One player in one year: games and wins by role, tournaments, and points in hundredths."""

    games: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("red", "mafia", "sheriff", "don"), 0)
    )
    wins: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("red", "mafia", "sheriff", "don"), 0))
    tournaments: int = 0
    points: int = 0
    gg: int = 0


class League:
    """The whole of it.

    Args:
        players: how many there are.
        clubs: how many.
        years: in which tournaments were held.
        tournaments: of each year that were played; one more is cancelled, and of the last year one is still to come.
        tables, rounds: of each tournament.
        seed: of all draws.
    """

    def __init__(
        self,
        *,
        players: int = 60,
        clubs: int = 5,
        years: tuple[int, ...] = (2025, 2026),
        tournaments: int = 4,
        tables: int = 2,
        rounds: int = 3,
        seed: int = 1,
    ) -> None:
        if players < tables * SEATS:
            raise ValueError(f"{tables} tables need {tables * SEATS} players, not {players}")
        self.years = years
        self.rounds, self.tables = rounds, tables
        self._seed = seed
        self._per_year = tournaments
        self.players = tuple(10 + n + n // 7 for n in range(players))
        self.clubs = tuple(3 + 7 * n for n in range(clubs))
        self.of_year: dict[tuple[int, int], Year] = defaultdict(Year)  # by year and player
        self.history: dict[int, dict[int, Result]] = defaultdict(dict)  # by player and tournament
        for tournament in self.played():
            self._count(tournament)

    def name(self, player: int) -> str:
        """A nickname; two players have the same one."""
        number = self.players.index(player) if player < 30 else player
        if number < len(_ODD_NAMES):
            return _ODD_NAMES[number]
        draw = Draw(self._seed, "name", player)
        text = "".join(_SYLLABLES[draw.below(len(_SYLLABLES))] for _ in range(draw.between(2, 4)))
        return f"{text.capitalize()} {player}"

    def city(self, player: int) -> str:
        """As somebody has typed it."""
        return _CITIES[Draw(self._seed, "city", player).below(len(_CITIES))]

    def elo(self, player: int) -> str:
        """Follows from what was played, so that it changes when somebody plays."""
        played = sum(
            self.of_year[year, player].tournaments for year in self.years if (year, player) in self.of_year
        )
        base = int(digest(self._seed, "elo", player, played, size=4), 16) % 6_000
        return f"{800 + base // 4}.{(base % 4) * 25:02d}"

    def club(self, player: int) -> int | None:
        """The club that a player belongs to, if any."""
        drawn = Draw(self._seed, "club", player).below(len(self.clubs) + 1)
        return None if drawn == len(self.clubs) else self.clubs[drawn]

    def club_name(self, club: int) -> str:
        """Some names are shared by no other club, and all are Cyrillic or odd."""
        number = self.clubs.index(club)
        return f"{_CLUBS[number % len(_CLUBS)]} {number}" if number >= len(_CLUBS) else _CLUBS[number]

    def members(self, club: int) -> list[int]:
        """Its players."""
        return [player for player in self.players if self.club(player) == club]

    def rating(self, year: int) -> list[int]:
        """The players of a year, the best first."""
        found = [player for y, player in self.of_year if y == year]
        return sorted(found, key=lambda player: (-self.of_year[year, player].gg, player))

    def tournaments(self) -> list[int]:
        """All, the newest first, as the site lists them."""
        found = [number for year in self.years for number in self._numbers(year)]
        return sorted(found, key=lambda number: (self.day(number), number), reverse=True)

    def played(self) -> Iterator[int]:
        """Those that have games."""
        return (
            number
            for year in self.years
            for number in self._numbers(year)
            if self.status(number) == "finished"
        )

    def _numbers(self, year: int) -> list[int]:
        extra = 2 if year == self.years[-1] else 1
        return [self.years.index(year) * 100_000 + 1 + n for n in range(self._per_year + extra)]

    def year(self, tournament: int) -> int:
        """Its year."""
        return self.years[tournament // 100_000]

    def day(self, tournament: int) -> date:
        """Its first day."""
        number = tournament % 100_000
        return date(self.year(tournament), 1, 5) + timedelta(days=number * 3 % 350)

    def status(self, tournament: int) -> str:
        """The first of each year was cancelled; the second of the last year is still to come."""
        number = tournament % 100_000
        if number == 1:
            return "cancelled"
        return "scheduled" if number == 2 and self.year(tournament) == self.years[-1] else "finished"

    def stars(self, tournament: int) -> int:
        """0 to 5."""
        return tournament % 6

    @lru_cache(maxsize=64)  # noqa: B019 - a league lives as long as its process
    def games(self, tournament: int) -> tuple[Game, ...]:
        """All games of a tournament; one that was not played has none."""
        if self.status(tournament) != "finished":
            return ()
        draw = Draw(self._seed, "tournament", tournament)
        roster = _sample(draw, self.players, self.tables * SEATS)
        found: list[Game] = []
        for number in range(1, self.rounds + 1):
            _shuffle(draw, roster)
            found += [
                self._game(draw, number, table, roster[(table - 1) * SEATS : table * SEATS])
                for table in range(1, self.tables + 1)
            ]
        return tuple(found)

    def _game(self, draw: Draw, number: int, table: int, players: list[int]) -> Game:
        roles = list(ROLES)
        _shuffle(draw, roles)
        winner = ("red", "mafia", "red", "mafia", "draw")[min(4, draw.below(41) // 10)]
        seats = tuple(
            Seat(player, role, draw.below(120) - 20, draw.between(-9, 9))
            for player, role in zip(players, roles, strict=True)
        )
        return Game(number, table, winner, f"Судья {draw.below(5)}", seats)

    def _count(self, tournament: int) -> None:
        year = self.year(tournament)
        sums: dict[int, int] = defaultdict(int)
        changes: dict[int, int] = defaultdict(int)
        for game in self.games(tournament):
            for seat in game.seats:
                own = self.of_year[year, seat.player]
                own.games[seat.role] += 1
                own.wins[seat.role] += game.won(seat)
                own.points += seat.points
                sums[seat.player] += seat.points + 100 * game.won(seat)
                changes[seat.player] += seat.elo_change
        order = sorted(sums, key=lambda player: (-sums[player], player))
        for place, player in enumerate(order, 1):
            gg = max(0, (len(order) - place) * (1 + self.stars(tournament)))
            prize = (6_000_000, 150_050, 1_000_000)[place - 1] if place <= 3 else 0
            self.history[player][tournament] = Result(place, gg, changes[player], prize)
            self.of_year[year, player].tournaments += 1
            self.of_year[year, player].gg += gg


def _shuffle(draw: Draw, items: list) -> None:  # type: ignore[type-arg]
    for at in range(len(items) - 1, 0, -1):
        other = draw.below(at + 1)
        items[at], items[other] = items[other], items[at]


def _sample(draw: Draw, items: tuple[int, ...], size: int) -> list[int]:
    pool = list(items)
    for at in range(size):
        other = draw.between(at, len(pool) - 1)
        pool[at], pool[other] = pool[other], pool[at]
    return pool[:size]
