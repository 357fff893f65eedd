"""The JSON API of gomafia.pro: a form is posted to `/api/<entity>/<action>`, and `{"result": "success", "data": …}` comes back.

Where each fact was seen:

* the endpoints `user/getTop` (`year`, `region`, `limit`, `offset`), `club/getTop` (`limit`, `offset`), `club/getResidents` (`id`, `limit`, `offset`),
  `stats/get` (`id`, `period`, `gameType`, `tournamentType`), `tournament/getAll` (`time`, `fsm`, `type`, `limit`, `offset`), `tournament/get` (`id`), all POST
  forms with text values: Vyasma-Mafia/gomafia-library, `GomafiaRestClient.kt`;
* the fields of clubs, users and tournaments, all texts, `total_rows` in each of them: `dto/ClubDto.kt`, `UserDto.kt`, `TournamentDto.kt` there;
* the shape of `stats`: `dto/StatsDto.kt` there, and `scrape_user` in `scraper.py` of Luka5s5/gomafia_stats;
* games as `games[].gameNum`, `.game[].tableNum`, `.win`, `.referee`, `.table[]` with `place`, `id`, `login`, `role`, `points`, `eloDelta`:
  `getTournament`, `dto/GameDto.kt` and `PlayerDto.kt` of the library;
* `"result": "success"`: several public scripts that call `stats/get`.

Not seen anywhere, and so to be looked at before the first live run: that `period` takes a year (clients send `all`), that
`region` and `time` take `all` (clients send one region, and `finished`; the site's own pages have `regionUsers=all` and `time=all`), and how an
entity is answered for that does not exist. There is no endpoint known for a player's history.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec

from ingestion_assets.engine.errors import NotFound, SchemaDrift, Transient, Unsupported
from ingestion_assets.engine.http import Client
from ingestion_assets.engine.rows import mend
from ingestion_assets.engine.stream import Rejected
from ingestion_assets.sources.gomafia.doubts import believed
from ingestion_assets.sources.gomafia.provider import Entity, Game, Part, Place, Record, Seat, Whole

T = TypeVar("T")

FORM = "application/x-www-form-urlencoded"
MEMBERS = 1_000  # of one question

# Our names -> theirs. A path with dots leads into objects.
CLUB = {
    "id": "id", "name": "title", "region": "city", "country": "country", "rank": "rank", "score": "club_score",
    "elo_average": "elo_average",
}  # fmt: skip
PLAYER = {
    "id": "id", "player_id": "id", "name": "login", "region": "city", "country": "country", "club": "title", "elo": "elo",
    "rank": "rank", "tournaments": "tournaments_played", "score": "tournaments_score",
}  # fmt: skip
TOURNAMENT = {
    "id": "id", "name": "title", "date_start": "date_start", "date_end": "date_end", "region": "city_translate",
    "country": "country_translate", "type": "type_translate", "status": "status", "stars": "star",
    "elo_average": "elo_average", "is_fsm": "is_fsm_rating", "chief_judge_id": "main_referee_id",
}  # fmt: skip
YEAR = {
    "games": "stats.primary.total_games", "civilian": "stats.primary.red", "mafia": "stats.primary.mafia",
    "sheriff": "stats.primary.sheriff", "don": "stats.primary.don", "wins": "stats.win_rate.total_wins.value",
    "civilian_wins": "stats.win_rate.red.win.value", "mafia_wins": "stats.win_rate.mafia.win.value",
    "sheriff_wins": "stats.win_rate.sheriff.win.value", "don_wins": "stats.win_rate.don.win.value", "elo": "user.elo",
    "extra_points": "stats.advanced_points.points_10_games",
}  # fmt: skip
GAME = {"table_number": "tableNum", "winner": "win", "judge": "referee"}
SEAT = {
    "seat": "place", "player_id": "id", "role": "role", "points": "points", "elo_change": "eloDelta",
}  # fmt: skip
# A record without these is none; the others may be absent where the site leaves out what is empty.
NEEDED = {
    "id",
    "player_id",
    "name",
    "date_start",
    "games",
    "civilian",
    "mafia",
    "sheriff",
    "don",
    "table_number",
    "role",
    "winner",
}

TOTAL = "total_rows"

# No number ever becomes a float on its way.
DECODER = msgspec.json.Decoder(float_hook=Decimal)
ENCODER = msgspec.json.Encoder(decimal_format="number")

Raw = dict[str, Any]


class Api:
    """The API as a provider.

    Args:
        client: for `…/api`.
        page_size: entities of one question to a listing.
    """

    name = "api"

    def __init__(self, client: Client, page_size: int) -> None:
        self._client = client
        self._size = page_size

    def listed(self, place: Place) -> Part:
        """A page of a listing, with what the site says of the total."""
        form: dict[str, object] = {"limit": self._size, "offset": place.lo - 1}
        match place.listing:
            case "clubs":
                path, names = "club/getTop", CLUB
            case "players":
                path, names = "user/getTop", PLAYER
                form = {"year": place.year, "region": "all", **form}
            case "tournaments":
                path, names = "tournament/getAll", TOURNAMENT
                form = {"time": "all", "fsm": "all", "type": "all", **form}
        return self._ask(path, form, lambda data: _part(path, _list(path, data), names, place.lo))

    def whole(self, entity: Entity) -> Whole:
        """All that belongs to an entity."""
        form: dict[str, object] = {"id": entity.id}
        try:
            match entity.subject:
                case "club_members":
                    return self._members(entity.id)
                case "player_year_stats":
                    form |= {"period": entity.year, "gameType": "all", "tournamentType": "all"}
                    return self._ask("stats/get", form, lambda data: _stats(entity, data))
                case "games":
                    return self._ask("tournament/get", form, lambda data: _games(entity, data))
                case "player_tournament_histories":
                    raise Unsupported("the API has no endpoint for the history of a player that is known")
        except NotFound:
            return _no_such(entity)

    def _members(self, club: int) -> Whole:
        path, found = "club/getResidents", list[Record | Rejected]()
        while True:
            form: dict[str, object] = {"id": club, "limit": MEMBERS, "offset": len(found)}
            part = self._ask(path, form, lambda data: _part(path, _list(path, data), PLAYER, 1))
            found += part.records
            if not part.records and found:
                raise Transient(f"{path}: the list of club {club} ends before what it says of its length")
            if len(found) >= (part.total or 0):
                return Whole(tuple(found))

    def _ask(self, path: str, form: Mapping[str, object], read: Callable[[Any], T]) -> T:
        body = urlencode({name: str(value) for name, value in form.items()}).encode()
        return believed(
            lambda: self._client.ask(
                {}, lambda answer: read(_data(path, answer)), path=path, body=body, content=FORM
            )
        )

    def close(self) -> None:
        """Close the client."""
        self._client.close()


def _data(path: str, answer: bytes) -> Any:
    try:
        found = DECODER.decode(mend(answer))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Transient(f"{path}: the answer is cut, or no JSON ({error})") from None
    if not isinstance(found, dict) or "data" not in found:
        raise SchemaDrift(f"{path}: an object with data is wanted, found {_shape(found)}")
    if found.get("result", "success") != "success":
        raise Transient(f"{path}: the site answers {found['result']!r}")
    return found["data"]


def _shape(found: object) -> str:
    return f"an object with {', '.join(map(str, found))}" if isinstance(found, dict) else type(found).__name__


def _list(path: str, data: Any) -> list[Any]:
    if data is None:
        return []
    if not isinstance(data, list):
        raise SchemaDrift(f"{path}: data is not a list but {_shape(data)}")
    return data


def _part(path: str, data: list[Any], names: Mapping[str, str], lo: int) -> Part:
    totals = {str(row[TOTAL]) for row in data if isinstance(row, dict) and TOTAL in row}
    if data and not totals:
        raise SchemaDrift(f"{path}: no record has {TOTAL}, without which nobody knows where the list ends")
    if len(totals) > 1 or not all(total.isdecimal() for total in totals):
        raise Transient(f"{path}: the records of one page tell different totals: {', '.join(sorted(totals))}")
    return Part(lo, records(path, data, names), int(totals.pop()) if totals else 0)


def records(path: str, data: list[Any], names: Mapping[str, str]) -> tuple[Record | Rejected, ...]:
    """Raw records under our names.

    Raises:
        SchemaDrift: none of them has a field that all must have.
    """
    found = [_record(row, names) for row in data]
    if found and all(isinstance(one, Rejected) for one in found):
        raise SchemaDrift(f"{path}: no record of {len(found)} can be read; the first: {found[0].reason}")  # type: ignore[union-attr]
    return tuple(found)


def _record(row: Any, names: Mapping[str, str]) -> Record | Rejected:
    payload = ENCODER.encode(row)
    if not isinstance(row, dict):
        return Rejected(payload, f"a record is an object, not {type(row).__name__}")
    fields, lacking = named(row, names)
    if lacking:
        return Rejected(payload, f"it has no field {lacking[0]}")
    return Record(payload, fields)


def named(row: Raw, names: Mapping[str, str]) -> tuple[dict[str, object], list[str]]:
    """The values under our names, and the names at the source of needed fields that are not there."""
    fields: dict[str, object] = {}
    lacking: list[str] = []
    for ours, theirs in names.items():
        value: Any = row
        for step in theirs.split("."):
            if not isinstance(value, dict) or step not in value:
                if ours in NEEDED:
                    lacking.append(theirs)
                break
            value = value[step]
        else:
            fields[ours] = value
    return fields, lacking


def _no_such(entity: Entity) -> Whole:
    return Whole(missing=f"the site has nothing under {entity.subject} of {entity.id}")


def _stats(entity: Entity, data: Any) -> Whole:
    if not data:
        return _no_such(entity)
    return Whole(records("stats/get", [data], YEAR))


def _games(entity: Entity, data: Any) -> Whole:
    if not data:
        return _no_such(entity)
    if not isinstance(data, dict) or "games" not in data:
        raise SchemaDrift(f"tournament/get: an object with games is wanted, found {_shape(data)}")
    return Whole(games=games_of("tournament/get", data["games"]))


def games_of(where: str, rounds: Any) -> tuple[Game, ...]:
    """The games of a tournament, as the API and the pages' own data have them.

    Raises:
        SchemaDrift: it is another shape.
    """
    found: list[Game] = []
    for each in rounds or ():
        if not isinstance(each, dict) or "gameNum" not in each or not isinstance(each.get("game"), list):
            raise SchemaDrift(f"{where}: games[] with gameNum and game[] are wanted, found {_shape(each)}")
        for game in each["game"]:
            fields, lacking = named(game, GAME) if isinstance(game, dict) else ({}, ["tableNum"])
            seats = game.get("table") if isinstance(game, dict) else None
            if lacking or not isinstance(seats, list):
                raise SchemaDrift(
                    f"{where}: games[].game[] lacks {(*lacking, 'table')[0]}; it is {_shape(game)}"
                )
            payload = ENCODER.encode({"gameNum": each["gameNum"], **game})
            record = Record(payload, {"round_number": each["gameNum"], **fields})
            found.append(Game(record, tuple(_seat(where, seat) for seat in seats)))
    return tuple(found)


def _seat(where: str, seat: Any) -> Seat:
    fields, lacking = named(seat, SEAT) if isinstance(seat, dict) else ({}, ["id"])
    if lacking:
        raise SchemaDrift(f"{where}: games[].game[].table[] lacks {lacking[0]}; it is {_shape(seat)}")
    return Seat(fields)
