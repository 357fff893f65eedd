"""The two ways of asking: what they make of answers, how they prove an end, and what they say when the site looks otherwise."""

import asyncio
import json
from decimal import Decimal

import httpx
import pytest

from ingestion_assets.engine.errors import SchemaDrift, Transient, Unsupported
from ingestion_assets.engine.http import Client
from ingestion_assets.engine.stream import Rejected
from ingestion_assets.sandbox.gomafia import gomafia
from ingestion_assets.sandbox.league import League
from ingestion_assets.sources.gomafia import records as kinds
from ingestion_assets.sources.gomafia import selectors
from ingestion_assets.sources.gomafia.api import Api
from ingestion_assets.sources.gomafia.pages import Pages
from ingestion_assets.sources.gomafia.provider import Entity, Place
from ingestion_assets_tests.sources.gomafia.tiny import SMALL

LEAGUE = League(tournaments=3, **SMALL)
PLAYER, YEAR = LEAGUE.rating(2026)[0], 2026
TOURNAMENT = next(LEAGUE.played())


class Wire(httpx.BaseTransport):
    """The sandbox without a socket; `edit` changes what it answers."""

    def __init__(self, edit=lambda body: body, league=LEAGUE) -> None:
        self._edit = edit
        self._site = httpx.ASGITransport(gomafia(lambda: league))

    def handle_request(self, request):
        """As the app answers, edited."""
        return asyncio.run(self._answer(request))

    async def _answer(self, request):
        content_type = {"content-type": request.headers.get("content-type", "")}
        async with httpx.AsyncClient(transport=self._site) as client:
            answer = await client.request(
                request.method, request.url, content=request.read(), headers=content_type
            )
        return httpx.Response(
            answer.status_code,
            content=self._edit(answer.content),
            headers={"content-type": answer.headers["content-type"]},
        )


def api(edit=lambda body: body, **options):
    """The API over an edited wire."""
    return Api(Client("http://site/api", transport=Wire(edit), attempts=1), options.get("page_size", 100))


def pages(edit=lambda body: body, league=LEAGUE):
    """The pages over an edited wire."""
    return Pages(Client("http://site", transport=Wire(edit, league), attempts=1))


LISTINGS = [Place("clubs", 1), Place("players", 1, YEAR, counted=True), Place("tournaments", 1)]
ENTITIES = [
    Entity("club_members", LEAGUE.clubs[0]),
    Entity("player_year_stats", PLAYER, YEAR),
    Entity("games", TOURNAMENT),
]


@pytest.mark.parametrize("place", LISTINGS, ids=lambda place: place.listing)
def test_both_ways_list_the_same_in_the_same_order(place):
    """Page by page, as far as the shorter page goes; and they agree on the total."""
    one, other = api().listed(place), pages().listed(place)
    kind = {"clubs": kinds.CLUBS, "players": kinds.RATINGS, "tournaments": kinds.TOURNAMENTS}[place.listing]
    pairs = list(zip(one.records, other.records, strict=False))
    assert len(pairs) >= 3
    for told, shown in pairs:
        assert kind.values(told.fields)["digest"] == kind.values(shown.fields)["digest"]
    assert one.total == len(one.records) == (other.total or one.total)


def test_positions_are_the_same_whatever_the_size_of_a_page():
    """The pages go back to the beginning of their ten."""
    part = pages().listed(Place("players", 14, YEAR))
    assert (part.lo, part.total) == (11, len(LEAGUE.rating(YEAR)) if len(LEAGUE.rating(YEAR)) <= 20 else None)
    every = api().listed(Place("players", 1, YEAR)).records
    assert [one.fields["id"] for one in part.records] == [one.fields["id"] for one in every[10:20]]


@pytest.mark.parametrize("entity", ENTITIES, ids=lambda entity: entity.subject)
def test_both_ways_tell_the_same_of_an_entity(entity):
    """`279 (60%)` there is 279 here; players have their numbers, never their names alone."""
    one, other = api().whole(entity), pages().whole(entity)
    if entity.subject == "games":
        assert [kinds.game_rows(1, game, {})[1] for game in one.games] == [
            kinds.game_rows(1, game, {})[1] for game in other.games
        ]
        return
    kind, names = {
        "club_members": (kinds.CLUB_MEMBERS, ("player_id", "name", "elo", "score", "tournaments")),
        "player_year_stats": (kinds.YEAR_STATS, ("games", "civilian", "mafia", "sheriff", "don")),
    }[entity.subject]

    def told(whole):
        return sorted(tuple(kind.values(record.fields)[name] for name in names) for record in whole.records)

    assert told(one) == told(other)


def test_there_is_no_endpoint_for_histories():
    """So the API says that it has no answer, and the other way is asked."""
    with pytest.raises(Unsupported, match="no endpoint"):
        api().whole(Entity("player_tournament_histories", PLAYER))


def test_a_history_goes_on_over_its_pages():
    """Until it has as many rows as the page's own data says."""
    league = League(players=20, tables=2, rounds=1, tournaments=13)
    found = pages(league=league).whole(Entity("player_tournament_histories", league.players[0]))
    assert len(found.records) == len(league.history[league.players[0]]) > 20


def test_no_number_becomes_a_float():
    """Points with decimals come as they were written."""
    (_, seats), *_ = [
        kinds.game_rows(TOURNAMENT, game, {}) for game in api().whole(Entity("games", TOURNAMENT)).games
    ]
    assert all(isinstance(seat["points"], Decimal) for seat in seats)
    payload = api().whole(Entity("games", TOURNAMENT)).games[0].record.payload
    written = json.loads(payload, parse_float=Decimal)["table"][0]["points"]
    assert written == seats[0]["points"]


def test_a_page_of_another_year_is_not_taken_for_this_one():
    """The page says itself which year it shows."""
    other = pages(lambda body: body.replace(b'__QTMy5">2026<', b'__QTMy5">2025<'))
    with pytest.raises(Unsupported, match="shows '2025' and not 2026"):
        other.whole(Entity("player_year_stats", PLAYER, YEAR))


@pytest.mark.parametrize("entity", [Entity("club_members", 999), Entity("player_year_stats", 9999, YEAR), Entity("games", 9999), Entity("player_tournament_histories", 9999)], ids=lambda entity: entity.subject)  # fmt: skip
def test_what_does_not_exist_is_said_to_be_missing(entity):
    """The pages show the main page instead."""
    assert "has nothing under" in pages().whole(entity).missing


# selector -> what the page has instead, and a question that needs it
CHANGES = {
    "TABLE": (b"<table", b"<div", LISTINGS[0]),
    "PAGE_NUMBER": (b"Pagination_pagination__page", b"Pager_number", LISTINGS[1]),
    "PLAYER_LINK": (b'href="/stats/', b'href="/player/', LISTINGS[1]),
    "CLUB_LINK": (b'href="/club/', b'href="/team/', LISTINGS[0]),
    "TOURNAMENT_LINK": (b'href="/tournament/', b'href="/cup/', LISTINGS[2]),
    "TOURNAMENT_NAME": (b"<b>", b"<strong>", LISTINGS[2]),
    "SELECTED_YEAR": (b"Select_select__selected-span", b"Choice", ENTITIES[1]),
    "ROLE_COUNT": (b"profile-user-circle__num", b"circle", ENTITIES[1]),
    "TOTAL_GAMES": (b"left-content-amount", b"left-content-sum", ENTITIES[1]),
    "NEXT_DATA": (b"__NEXT_DATA__", b"__DATA__", ENTITIES[2]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_the_markup_names_the_line_to_mend(name):
    """Asked three times, for a half page may look the same."""
    old, new, question = CHANGES[name]
    provider = pages(lambda body: body.replace(old, new))
    with pytest.raises(SchemaDrift, match=rf"selectors.py: {name} = "):
        provider.listed(question) if isinstance(question, Place) else provider.whole(question)


def test_every_selector_has_such_a_test():
    """But for the ones whose absence means something, and the rows, which a table may have none of."""
    names = {
        one.name.removeprefix("selectors.py: ")
        for one in vars(selectors).values()
        if isinstance(one, selectors.Selector)
    }
    assert names - set(CHANGES) == {"MAIN_PAGE", "ROW", "PLAYER_CLUB"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [(b'"total_rows"', b'"rows"', "no record has total_rows"), (b'"title"', b'"caption"', "no record of 3 can be read; the first: it has no field title"),
     (b'"data"', b'"answer"', "an object with data is wanted, found an object with result, answer")],
)  # fmt: skip
def test_a_field_of_the_api_that_was_renamed_is_told_by_name(old, new, said):
    """When no record has it."""
    with pytest.raises(SchemaDrift, match=said):
        api(lambda body: body.replace(old, new)).listed(Place("clubs", 1))


def test_one_record_without_a_field_is_refused_and_the_others_are_not():
    """It is a bad record, and no drift."""
    part = api(lambda body: body.replace(b'"title"', b'"caption"', 1)).listed(Place("clubs", 1))
    assert [isinstance(one, Rejected) for one in part.records] == [True, False, False]


@pytest.mark.parametrize("provider", [api, pages])
def test_half_an_answer_is_asked_for_again(provider):
    """It says nothing about the shape of a whole one."""
    with pytest.raises(Transient, match="cut"):
        provider(lambda body: body[: len(body) // 2]).listed(LISTINGS[1])


def test_a_full_page_without_a_pagination_is_the_last_if_nothing_follows():
    """Ten clubs: one page, no pagination. Eleven with a pagination that looks otherwise: nobody knows."""
    for clubs in (10, 9):
        league = League(tournaments=1, **(SMALL | {"clubs": clubs}))
        assert pages(league=league).listed(Place("clubs", 1)).total == clubs


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [(kinds.PLAYERS, {"name": "Я" * 51}), (kinds.PLAYERS, {"name": " "}), (kinds.PLAYERS, {"elo": "5000.01"}), (kinds.PLAYERS, {"elo": "-1"}),
     (kinds.CLUBS, {"name": "Я"}), (kinds.CLUBS, {"name": "Я" * 101}), (kinds.TOURNAMENTS, {"stars": "6"}), (kinds.TOURNAMENTS, {"name": "К"}),
     (kinds.TOURNAMENTS, {"date_start": "скоро"}), (kinds.TOURNAMENTS, {"date_start": None}), (kinds.TOURNAMENTS, {"status": "странный"}),
     (kinds.HISTORIES, {"prize": "-5 ₽"}), (kinds.HISTORIES, {"place": "0"}), (kinds.YEAR_STATS, {"mafia": "-1"}), (kinds.YEAR_STATS, {"games": None})],
)  # fmt: skip
def test_limits(kind, wrong):
    """A good record is read; with one field beyond the limits it is refused, and the field is named."""
    good = {
        "id": "7", "player_id": "7", "tournament_id": "7", "name": "Кот", "elo": "5000", "date_start": "07.06.2025", "status": "Завершён",
        "stars": "5", "place": "1", "prize": "60 000 ₽", "games": "9 (60%)", "civilian": "4", "mafia": "3", "sheriff": "1", "don": "1",
    }  # fmt: skip
    assert kind.values(good)
    ((field, _),) = wrong.items()
    with pytest.raises(kinds.Unreadable, match=rf"^{field}: "):
        kind.values(good | wrong)
