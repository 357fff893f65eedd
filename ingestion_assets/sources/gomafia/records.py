"""Records as rows: which fields each table takes, how their texts are read, and what is refused.

Limits are those that k05m0navt/mafia-insight checks (`src/lib/gomafia/validators`): names of players 1–50 characters, of clubs 2–100, of
tournaments 2–200; Elo 0–5000; stars 0–5; no negative counts. A record beyond them, or with a text that cannot be read, is
refused with the reason and kept as received.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from ingestion_assets.engine import rows
from ingestion_assets.engine.stream import Newest, Rejected, Rows
from ingestion_assets.sources.gomafia import tables, words
from ingestion_assets.sources.gomafia.provider import Game, Record
from ingestion_assets.sources.gomafia.words import Unreadable

Read = Callable[[object], object]
Values = dict[str, object]


def _required(read: Read) -> Read:
    def checked(value: object) -> object:
        found = read(value)
        if found is None:
            raise Unreadable("it is missing")
        return found

    return checked


def _long(lo: int, hi: int) -> Read:
    def checked(value: object) -> object:
        found = words.text(value)
        if found is None or not lo <= len(found) <= hi:
            raise Unreadable(f"{lo} to {hi} characters are wanted, found {value!r}")
        return found

    return checked


def _between(read: Read, lo: int, hi: int | None = None) -> Read:
    def checked(value: object) -> object:
        found = read(value)
        if isinstance(found, int | Decimal) and (found < lo or (hi is not None and found > hi)):
            limits = f"{lo} or more" if hi is None else f"{lo} to {hi}"
            raise Unreadable(f"{limits} is wanted, found {value!r}")
        return found

    return checked


def _flag(value: object) -> bool | None:
    plain = words.text(value)
    if plain is None:
        return None
    if plain not in ("0", "1"):
        raise Unreadable(f"0 or 1 is wanted, found {value!r}")
    return plain == "1"


def _optional_identity(value: object) -> int | None:
    number = words.whole(value)
    return number or None  # 0 stands for nobody


COUNT = _between(words.count, 0)
ELO = _between(words.number, 0, 5_000)
STARS = _between(words.whole, 0, 5)

PLAYER_NAME, CLUB_NAME, TOURNAMENT_NAME = _long(1, 50), _long(2, 100), _long(2, 200)


@dataclass(frozen=True)
class Kind:
    """How records of one kind become rows of one table.

    Args:
        table: where to.
        fields: columns that are read from the record, each with its reader.
        alike: the columns that every way of asking tells, and whose change means that more has changed: the digest is theirs.
        by, partial: of `Newest`, for what is listed.
    """

    table: sa.Table
    fields: Mapping[str, Read]
    alike: tuple[str, ...] = ()
    by: tuple[str, ...] = ("seen_at",)
    partial: tuple[str, ...] = ()
    newest: Newest | None = field(init=False)

    def __post_init__(self) -> None:
        rule = Newest(self.by, since="as_of", digest="digest", partial=self.partial) if self.alike else None
        object.__setattr__(self, "newest", rule)

    def values(self, record: Mapping[str, object]) -> Values:
        """The columns that the record tells.

        Raises:
            Unreadable: it cannot be a row; the message names the field.
        """
        found: Values = {}
        for name, read in self.fields.items():
            try:
                found[name] = read(record.get(name))
            except Unreadable as error:
                raise Unreadable(f"{name}: {error}") from error
        if self.alike:
            told = "\x1f".join(f"{name}={_plain(found[name])}" for name in self.alike)
            found["digest"] = hashlib.blake2b(told.encode(errors="replace"), digest_size=8).hexdigest()
        return found

    @property
    def key(self) -> tuple[str, ...]:
        """The columns of the primary key."""
        return tuple(self.table.primary_key.columns.keys())

    def block(self, values: Sequence[Values]) -> Rows:
        """Rows, no two of them with one key."""
        lines = b"".join(map(self._line, values))
        return Rows(self.table, lines, len(values), newest=self.newest)

    def _line(self, row: Values) -> bytes:
        return (
            b"\t".join(_encoded(row.get(name)) for name in [column.name for column in self.table.columns])
            + b"\n"
        )


def _plain(value: object) -> str:
    """A value for the digest: 1450.50 and 1450.5 are the same."""
    return format(value.normalize(), "f") if isinstance(value, Decimal) else str(value)


def _encoded(value: object) -> bytes:
    if isinstance(value, bytes):  # a payload
        return rows.payload(value)
    if isinstance(value, datetime):
        return value.isoformat().encode()
    return rows.text(None if value is None else str(value))


CLUBS = Kind(
    tables.clubs,
    {
        "id": words.identity, "name": CLUB_NAME, "region": words.region, "country": words.text, "rank": words.whole,
        "score": words.number, "elo_average": ELO,
    },
    alike=("name",),
    partial=("region", "country", "score", "elo_average"),
)  # fmt: skip
PLAYERS = Kind(
    tables.players,
    {
        "id": words.identity, "name": PLAYER_NAME, "region": words.region, "country": words.text, "club": words.text,
        "elo": ELO,
    },
    alike=("name", "club", "elo"),
    by=("year", "seen_at"),
    partial=("region", "country"),
)  # fmt: skip
RATINGS = Kind(
    tables.ratings,
    {
        "player_id": words.identity, "rank": words.whole, "tournaments": COUNT, "score": words.number, "elo": ELO,
    },
    alike=("tournaments", "score", "elo"),
)  # fmt: skip
TOURNAMENTS = Kind(
    tables.tournaments,
    {
        "id": words.identity, "name": TOURNAMENT_NAME, "date_start": _required(words.day), "date_end": words.day,
        "region": words.region, "country": words.text, "type": words.text, "status": words.status, "stars": STARS,
        "elo_average": ELO, "is_fsm": _flag, "chief_judge_id": _optional_identity,
    },
    alike=("name", "date_start", "date_end", "status"),
    partial=("region", "country", "type", "elo_average", "is_fsm", "chief_judge_id"),
)  # fmt: skip
CLUB_MEMBERS = Kind(
    tables.club_members,
    {
        "player_id": words.identity, "name": PLAYER_NAME, "rank": words.whole, "tournaments": COUNT, "score": words.number,
        "elo": ELO,
    },
)  # fmt: skip
YEAR_STATS = Kind(
    tables.year_stats,
    {
        "games": _required(COUNT), "civilian": _required(COUNT), "mafia": _required(COUNT), "sheriff": _required(COUNT),
        "don": _required(COUNT), "wins": COUNT, "civilian_wins": COUNT, "mafia_wins": COUNT, "sheriff_wins": COUNT,
        "don_wins": COUNT, "elo": ELO, "extra_points": words.number,
    },
)  # fmt: skip
HISTORIES = Kind(
    tables.player_tournaments,
    {
        "tournament_id": words.identity, "name": words.text, "place": _between(words.whole, 1), "gg": words.number,
        "elo_change": words.number, "prize": words.roubles,
    },
)  # fmt: skip
GAMES = Kind(
    tables.games,
    {
        "round_number": _required(COUNT),
        "table_number": _required(COUNT),
        "winner": words.winner,
        "judge": words.text,
    },
)
SEATS = Kind(
    tables.participations,
    {
        "seat": _required(_between(words.whole, 1, 100)), "player_id": words.identity, "role": words.role,
        "points": words.number, "elo_change": words.number,
    },
)  # fmt: skip

BLACK = ("DON", "MAFIA")


def refused(record: Record, error: Unreadable, position: int) -> Rejected:
    """A record that cannot be a row."""
    return Rejected(record.payload, str(error), position)


def rows_of(kind: Kind, records: Iterable[tuple[int, Record | Rejected]], more: Mapping[str, object]) -> tuple[list[Values], list[Rejected]]:  # fmt: skip
    """Records, each with its position, as the values of rows; `more` holds what they do not tell themselves.

    Of two with one key the second is refused: what belongs to an entity is named once.
    """
    good: dict[tuple[object, ...], Values] = {}
    bad: list[Rejected] = []
    for position, record in records:
        if isinstance(record, Rejected):
            bad.append(Rejected(record.raw, record.reason, position))
            continue
        try:
            row = {**more, **kind.values(record.fields), "payload": record.payload}
            key = tuple(row[name] for name in kind.key)
            if key in good:
                raise Unreadable(f"a second record of {', '.join(map(str, key))}")
        except Unreadable as error:
            bad.append(refused(record, error, position))
        else:
            good[key] = row
    return list(good.values()), bad


def game_rows(tournament: int, game: Game, more: Mapping[str, object]) -> tuple[Values, list[Values]]:
    """A game and its seats.

    Raises:
        Unreadable: the game or one of its seats cannot be a row; a game without one of its players is none.
    """
    values: Values = {"tournament_id": tournament, **more, **GAMES.values(game.record.fields), "payload": game.record.payload}  # fmt: skip
    seats: list[Values] = []
    for number, seat in enumerate(game.seats, 1):
        try:
            told = SEATS.values({"seat": number} | {n: v for n, v in seat.fields.items() if v is not None})
        except Unreadable as error:
            raise Unreadable(f"seat {number}: {error}") from error
        place: dict[str, Any] = {
            name: values[name] for name in ("tournament_id", "round_number", "table_number")
        }
        seats.append({**place, **told, "won": _won(values["winner"], told["role"])})
    numbers = [row["seat"] for row in seats]
    if len(set(numbers)) < len(numbers):
        raise Unreadable(f"two players share a seat: {numbers}")
    return values, seats


def _won(winner: object, role: object) -> bool | None:
    return None if winner is None else winner == ("BLACK" if role in BLACK else "RED")
