"""The pages of gomafia.pro as a provider of the same answers: `/rating`, `/club/{id}`, `/stats/{id}`, `/tournaments`, `/tournament/{id}`.

What depends on their markup is in `selectors`. Here is what does not: which url answers which question, and how it is proved that a
list has ended. A listing ends on the page whose number is the last of its pagination; it may be one row or ten long, so only that
page tells the total. A history is whole when it has as many rows as the page's own data says.

The urls were seen in k05m0navt/mafia-insight (`rating?yearUsers&regionUsers&pageUsers`, `rating?tab=clubs&pageClubs`, `tournaments?time&page`,
`club/{id}?page`, `stats/{id}?tab=history&page`) and Luka5s5/gomafia_stats (`tournament/{id}?tab=games`).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from selectolax.lexbor import LexborHTMLParser, LexborNode

from ingestion_assets.engine.errors import NotFound, SchemaDrift, Transient, Unsupported
from ingestion_assets.engine.http import Client
from ingestion_assets.engine.rows import mend
from ingestion_assets.engine.stream import Rejected
from ingestion_assets.sources.gomafia import selectors as at
from ingestion_assets.sources.gomafia.api import DECODER, games_of
from ingestion_assets.sources.gomafia.doubts import believed
from ingestion_assets.sources.gomafia.provider import Entity, Part, Place, Record, Whole
from ingestion_assets.sources.gomafia.selectors import Selector

T = TypeVar("T")

MOST_PAGES = 10_000

_NUMBER = re.compile(r"/(\d+)(?:[/?#].*)?$")


class Pages:
    """The pages as a provider.

    Args:
        client: for the site's root.
    """

    name = "pages"

    def __init__(self, client: Client) -> None:
        self._client = client

    def listed(self, place: Place) -> Part:
        """The page that this position is on, from its first row."""
        listing = _listing(place)
        number = (place.lo - 1) // at.PER_PAGE + 1
        before = (number - 1) * at.PER_PAGE
        found, last = self._page(listing, number)
        total = before + len(found) if number == last else None
        if total is None and place.counted:
            ending, again = self._page(listing, last)
            if again != last:
                raise Transient(f"/{listing.path}: the listing has {last} pages, and {again} a moment later")
            total = (last - 1) * at.PER_PAGE + len(ending)
        return Part(before + 1, found, total)

    def whole(self, entity: Entity) -> Whole:
        """All that belongs to an entity."""
        try:
            match entity.subject:
                case "club_members":
                    return self._members(entity)
                case "player_year_stats":
                    return self._year(entity)
                case "player_tournament_histories":
                    return self._history(entity)
                case "games":
                    return self._games(entity)
        except NotFound:
            return _no_such(entity)

    def _page(self, listing: "Table", number: int) -> tuple[tuple[Record | Rejected, ...], int]:
        """The rows of a page, and the number of the last one."""

        def read(page: Document) -> tuple[tuple[Record | Rejected, ...], int | None]:
            if page.is_main():
                raise NotFound(f"{page.where} shows the main page")
            found, last = page.records(listing.read), page.last_page(number)
            if last is not None and number < last and len(found) != at.PER_PAGE:
                raise Transient(f"{page.where}: {len(found)} rows on a page that is not the last")
            return found, last

        found, last = self._ask(listing.path, listing.query(number), read)
        if last is not None:
            return found, last

        # A full page without a pagination is the last one if nothing comes after it; else the pagination looks otherwise now.
        def read_after(page: Document) -> None:
            if page.records(listing.read):
                raise page.drift(at.PAGE_NUMBER, "a page comes after this one, and no pagination tells of it")

        self._ask(listing.path, listing.query(number + 1), read_after)
        return found, number

    def _members(self, entity: Entity) -> Whole:
        members = Table(f"club/{entity.id}", _player, "page")
        found: list[Record | Rejected] = []
        for number in range(1, MOST_PAGES):
            part, last = self._page(members, number)
            found += part
            if number >= last:
                return Whole(tuple(found))
        raise Transient(f"the members of club {entity.id} do not end")

    def _year(self, entity: Entity) -> Whole:
        query = {at.YEAR_PARAMETER: str(entity.year)}

        def read(page: Document) -> Whole:
            if page.is_main():
                return _no_such(entity)
            shown = page.one(at.SELECTED_YEAR)
            if shown != str(entity.year):
                raise Unsupported(
                    f"{page.where} shows {shown!r} and not {entity.year}: the API tells a year, the page does not"
                )
            fields: dict[str, object] = {"games": page.one(at.TOTAL_GAMES), **page.roles()}
            return Whole((Record(msgspec.json.encode(fields), fields),))

        return self._ask(f"stats/{entity.id}", query, read)

    def _history(self, entity: Entity) -> Whole:
        found: list[Record | Rejected] = []

        def read(page: Document) -> tuple[tuple[Record | Rejected, ...], int] | None:
            if page.is_main():
                return None
            total = page.told(at.HISTORY_TOTAL)
            if not str(total or 0).isdecimal():
                raise SchemaDrift(f"{page.where}: {at.HISTORY_TOTAL} is not a number but {total!r}")
            part = page.records(_attended) if int(total or 0) else ()
            if len(found) + len(part) < int(total or 0) and len(part) != at.PER_PAGE:
                raise Transient(
                    f"{page.where}: {len(found) + len(part)} rows so far, of {total}, and the page is not full"
                )
            return part, int(total or 0)

        for number in range(1, MOST_PAGES):
            answer = self._ask(f"stats/{entity.id}", {"tab": "history", "page": number}, read)
            if answer is None:
                return _no_such(entity)
            found += answer[0]
            if len(found) >= answer[1]:
                return Whole(tuple(found))
        raise Transient(f"the history of player {entity.id} does not end")

    def _games(self, entity: Entity) -> Whole:
        def read(page: Document) -> Whole:
            if page.is_main():
                return _no_such(entity)
            return Whole(games=games_of(page.where, page.told(at.GAMES)))

        return self._ask(f"tournament/{entity.id}", {"tab": "games"}, read)

    def _ask(self, path: str, query: Mapping[str, str | int], read: "Callable[[Document], T]") -> T:
        return believed(lambda: self._client.ask(query, lambda body: read(Document(path, body)), path=path))

    def close(self) -> None:
        """Close the client."""
        self._client.close()


class Document:
    """One page.

    Args:
        where: its path, for messages.
        body: HTML.

    Raises:
        Transient: it is cut.
    """

    def __init__(self, where: str, body: bytes) -> None:
        self.where = f"/{where}"
        if b"</html>" not in body[-1_000:].lower():
            raise Transient(f"{self.where}: the page is cut, or no page")
        self._tree = LexborHTMLParser(body.decode(errors="replace"))

    def is_main(self) -> bool:
        """Whether the main page is shown, in place of something that does not exist."""
        return self._tree.css_first(at.MAIN_PAGE.css) is not None

    def one(self, selector: Selector) -> str:
        """The text of what has to be there."""
        node = self._tree.css_first(selector.css)
        if node is None:
            raise self.drift(selector, "nothing is there")
        return _text(node)

    def roles(self) -> dict[str, object]:
        """Games by role, by the words around the counts."""
        nodes = self._tree.css(at.ROLE_COUNT.css)
        found: dict[str, object] = {}
        for name, label in at.ROLE_LABELS.items():
            near = [
                node for node in nodes if node.parent is not None and label in _text(node.parent).casefold()
            ]
            if len(near) != 1:
                raise self.drift(at.ROLE_COUNT, f"{len(near)} counts have {label!r} beside them")
            found[name] = _text(near[0])
        return found

    def records(self, read: "Callable[[Document, LexborNode], dict[str, object]]") -> tuple[Record | Rejected, ...]:  # fmt: skip
        """The rows of the page's table.

        Raises:
            SchemaDrift: there is no table, or none of its rows can be read.
        """
        if self._tree.css_first(at.TABLE.css) is None:
            raise self.drift(at.TABLE, "the page has no table")
        found: list[Record | Rejected] = []
        drifts: list[SchemaDrift] = []
        for row in self._tree.css(at.ROW.css):
            try:
                fields = read(self, row)
            except SchemaDrift as error:
                drifts.append(error)
                found.append(Rejected((row.html or "").encode(), str(error)))
            else:
                found.append(Record(msgspec.json.encode(fields), fields))
        if drifts and len(drifts) == len(found):
            raise drifts[0]
        return tuple(found)

    def last_page(self, number: int) -> int | None:
        """The number of the last page, by the pagination. A list of one page has none; where the page is full, nobody knows."""
        numbers = [
            int(text) for node in self._tree.css(at.PAGE_NUMBER.css) if (text := _text(node)).isdecimal()
        ]
        if numbers:
            return max(number, *numbers)
        return None if number > 1 or len(self._tree.css(at.ROW.css)) >= at.PER_PAGE else 1

    def told(self, name: str) -> Any:
        """What the data that the page was made of says under this name."""
        node = self._tree.css_first(at.NEXT_DATA.css)
        if node is None:
            raise self.drift(at.NEXT_DATA, "nothing is there")
        try:
            found: Any = DECODER.decode(mend(_raw(node).encode()))
        except (msgspec.DecodeError, UnicodeError) as error:
            raise Transient(f"{self.where}: the page's data is cut ({error})") from None
        for step in (*at.SERVER_DATA, name):
            if not isinstance(found, dict) or step not in found:
                raise self.drift(at.NEXT_DATA, f"{'.'.join((*at.SERVER_DATA, name))} is not in it")
            found = found[step]
        return found

    def within(self, row: LexborNode, selector: Selector) -> LexborNode:
        """What a row has to have."""
        node = row.css_first(selector.css)
        if node is None:
            raise self.drift(selector, "a row has none")
        return node

    def cells(self, row: LexborNode, cells: Mapping[str, int]) -> Iterator[tuple[str, object]]:
        """Texts of cells, by our names."""
        found = row.css(at.CELL)
        for name, number in cells.items():
            if number >= len(found):
                raise self.drift(
                    at.ROW, f"a row has {len(found)} cells, and {name} should stand in number {number + 1}"
                )
            yield name, _text(found[number])

    def drift(self, selector: Selector, what: str) -> SchemaDrift:
        """The page is not what it was: which line of `selectors` to look at."""
        return SchemaDrift(f"{self.where}: {what}; {selector.name} = {selector.css!r} does not fit any more")


def _text(node: LexborNode) -> str:
    return re.sub(r"\s+", " ", node.text(deep=True)).strip()


def _raw(node: LexborNode) -> str:
    return node.text(deep=True)


def _number(page: Document, link: LexborNode, selector: Selector) -> str:
    match = _NUMBER.search(link.attributes.get("href") or "")
    if match is None:
        raise page.drift(selector, f"the link {link.attributes.get('href')!r} ends with no number")
    return match[1]


@dataclass(frozen=True, slots=True)
class Table:
    """A table that goes on over numbered pages.

    Args:
        path: of its first page.
        read: one row.
        parameter: of the query, for the number of the page.
        parameters: the others.
    """

    path: str
    read: "Callable[[Document, LexborNode], dict[str, object]]"
    parameter: str
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])

    def query(self, number: int) -> dict[str, str | int]:
        """What asks for a page."""
        return {**self.parameters, self.parameter: number}


def _listing(place: Place) -> Table:
    match place.listing:
        case "clubs":
            return Table("rating", _club, "pageClubs", {"tab": "clubs"})
        case "players":
            return Table("rating", _player, "pageUsers", {"yearUsers": str(place.year), "regionUsers": "all"})
        case "tournaments":
            return Table("tournaments", _tournament, "page", {"time": "all"})


def _club(page: Document, row: LexborNode) -> dict[str, object]:
    link = page.within(row, at.CLUB_LINK)
    cells = dict(page.cells(row, at.CLUB_CELLS))
    return {"id": _number(page, link, at.CLUB_LINK), "name": _text(link), **cells}


def _player(page: Document, row: LexborNode) -> dict[str, object]:
    link = page.within(row, at.PLAYER_LINK)
    number = _number(page, link, at.PLAYER_LINK)
    club = row.css_first(at.PLAYER_CLUB.css)
    cells = dict(page.cells(row, at.PLAYER_CELLS))
    return {"id": number, "player_id": number, "name": _text(link), "club": club and _text(club), **cells}


def _tournament(page: Document, row: LexborNode) -> dict[str, object]:
    link = page.within(row, at.TOURNAMENT_LINK)
    name = page.within(link, at.TOURNAMENT_NAME)
    cells = row.css(at.CELL)
    if len(cells) <= at.TOURNAMENT_STATUS:
        raise page.drift(
            at.ROW,
            f"a row has {len(cells)} cells, and the status should stand in number {at.TOURNAMENT_STATUS + 1}",
        )
    dates = [_text(node) for node in cells[at.TOURNAMENT_DATES].css(at.TOURNAMENT_DATE)] or [
        _text(cells[at.TOURNAMENT_DATES])
    ]
    dates = [one for one in dates if one]
    elo, stars = _before_the_name(link, name)
    return {
        "id": _number(page, link, at.TOURNAMENT_LINK),
        "name": _text(name),
        "date_start": dates[0] if dates else None,
        "date_end": dates[-1] if dates else None,
        "status": _text(cells[at.TOURNAMENT_STATUS]),
        "elo_average": elo,
        "stars": stars,
    }


def _before_the_name(link: LexborNode, name: LexborNode) -> tuple[str | None, str | None]:
    """The average Elo and the stars, where both stand apart. What is written together, `22114`, could be read in two ways."""
    numbers = _text(link).removesuffix(_text(name)).split()
    match numbers:
        case [elo, stars]:
            return elo, stars
        case [stars] if len(stars) == 1:
            return None, stars
        case _:
            return None, None


def _attended(page: Document, row: LexborNode) -> dict[str, object]:
    link = page.within(row, at.TOURNAMENT_LINK)
    cells = dict(page.cells(row, at.HISTORY_CELLS))
    place = re.search(r"\d+", str(cells["place"]))
    return {
        "tournament_id": _number(page, link, at.TOURNAMENT_LINK),
        "name": _text(link),
        **cells,
        "place": place and place[0],
    }


def _no_such(entity: Entity) -> Whole:
    return Whole(missing=f"the site has nothing under {entity.subject} of {entity.id}")
