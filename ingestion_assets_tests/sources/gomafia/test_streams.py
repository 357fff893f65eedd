"""An import of a small league: whole, once, resumed anywhere, the same through either way, and cheap when little has changed."""

from collections import Counter

import pytest

from ingestion_assets.engine import dead_letters
from ingestion_assets.engine.coverage import size
from ingestion_assets.engine.errors import Busy, Misconfigured, SchemaDrift, Transient
from ingestion_assets.engine.exclusive import exclusive
from ingestion_assets.sandbox.league import League
from ingestion_assets.sources.gomafia.integrity import CHECKED, findings, validity
from ingestion_assets.sources.gomafia.phases import (
    CLUB_MEMBERS,
    CLUBS,
    GAMES,
    HISTORIES,
    PHASES,
    PLAYERS,
    STATISTICS,
    TOURNAMENTS,
    YEAR_STATS,
)
from ingestion_assets.sources.gomafia.work import pending
from ingestion_assets_tests.sources.gomafia.tiny import SMALL, agrees, stored


def what(asked):
    """Requests as text, to be counted."""
    return Counter(f"{path} {sorted(values.items())}" for path, values in asked)


@pytest.mark.parametrize("ways", [("api", "pages"), ("pages",)])
def test_an_import_holds_what_is_true_and_asks_for_nothing_twice(world, connection, ways):
    """Through the API with the pages for what it lacks, and through the pages alone; and again: nothing is asked."""
    world.run(ways=ways)
    agrees(connection, world.league)
    most = (
        1 if "api" in ways else 2
    )  # the last page of a listing tells how long it is, and is asked for that first
    assert max(what(world.asked()).values()) == most
    found = {one.rule.what for phase in CHECKED for one in findings(world.store, phase) if one.count}
    assert found == {"members of clubs whom no rating names"}  # they have not played in these years
    again = world.run(ways=ways)
    assert (world.asked(), {drained.tally.batches for drained in again.values()}) == ([], {0})
    with world.site(ways=ways) as site:
        assert list(pending(site)) == []


def test_both_ways_store_the_same_rows(world, connection):
    """But for what the pages do not tell: then the API's words stay, and nothing counts as changed."""
    shared = {
        "raw.gomafia_clubs": "id, name, digest, as_of", "raw.gomafia_players": "id, name, club, elo, year, region, digest, as_of",
        "raw.gomafia_ratings": "year, player_id, tournaments, score, elo, digest, as_of",
        "raw.gomafia_tournaments": "id, name, date_start, date_end, status, stars, region, is_fsm, digest, as_of",
        "raw.gomafia_participations": "*",
    }  # fmt: skip

    def rows():
        return {
            table: connection.execute(f"SELECT {names} FROM {table} ORDER BY 1, 2").fetchall()
            for table, names in shared.items()
        }

    world.run()
    before = rows()
    world.later(days=2)
    world.run(CLUBS, PLAYERS, TOURNAMENTS, ways=("pages",))
    assert rows() == before
    assert connection.execute("SELECT DISTINCT provider FROM raw.gomafia_players").fetchall() == [("pages",)]


def test_where_one_way_fails_the_other_goes_on(world, connection):
    """The API answers with server errors throughout; nobody notices but the breaker."""

    async def down(scope, receive, send):
        if scope["path"].startswith("/api"):
            await send({"type": "http.response.start", "status": 500, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await served(scope, receive, send)

    served, world.faults._app = world.faults._app, down
    world.run(attempts=1)
    agrees(connection, world.league)


def test_only_what_has_changed_is_asked_for_again(world, connection):
    """One more tournament in each year: its players, their years and histories, and its games; and the members of all clubs."""
    world.run()
    before = {key: (own.tournaments, own.gg) for key, own in world.league.of_year.items()}
    old, world.league = set(world.league.played()), League(tournaments=4, **SMALL)
    world.later(hours=25)
    world.asked()
    world.run()
    agrees(connection, world.league)
    asked = world.asked()
    new = set(world.league.played()) - old
    assert {int(values["id"]) for path, values in asked if path == "/api/tournament/get"} == new
    changed = {
        key for key, own in world.league.of_year.items() if before.get(key) != (own.tournaments, own.gg)
    }
    years = {(int(values["period"]), int(values["id"])) for path, values in asked if path == "/api/stats/get"}
    elsewhere = {
        (year, player) for _, player in changed for year in world.league.years
    }  # the Elo is the same in each rating
    assert changed <= years <= elsewhere
    assert len(years) < len(world.league.of_year)


def test_killed_between_any_two_entities_it_goes_on_with_the_next(world, connection):
    """Stopped again and again after four batches; nothing is asked for twice."""
    for _ in range(60):
        if not any(drained.stopped for drained in world.run(most=4).values()):
            break
    agrees(connection, world.league)
    assert max(what(world.asked()).values()) <= 2  # the one that was on its way when it was stopped


def test_numbers_of_different_entities_do_not_collide(world):
    """Club, player and tournament may have one number: each phase has its own marks."""
    world.run(CLUBS, PLAYERS, TOURNAMENTS)
    assert 10 in world.league.clubs
    assert 10 in world.league.players
    world.run(CLUB_MEMBERS)
    before = len(world.faults.asked)
    world.run(HISTORIES)
    assert [one.path for one in world.faults.asked[before:]].count("/stats/10") == 1


def test_the_newest_games_come_first(world):
    """By the day of the tournament."""
    world.run(CLUBS, PLAYERS, TOURNAMENTS)
    world.asked()
    world.run(GAMES)
    order = [int(values["id"]) for _, values in world.asked()]
    assert order == sorted(world.league.played(), key=lambda t: (world.league.day(t), t), reverse=True)


def test_a_page_that_fails_every_time_is_passed_over_and_read_later(world, connection):
    """The phase is not clean meanwhile, and its other entities are stored."""
    world.run(CLUBS, PLAYERS, TOURNAMENTS)
    bad, good = sorted(world.league.played())[:2]

    async def spoiled(scope, receive, send):
        message = await receive()
        if f"id={bad}" in message["body"].decode().split("&") or scope["path"] == f"/tournament/{bad}":
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:

            async def again():
                return message

            await served(scope, again, send)

    served, world.faults._app = world.faults._app, spoiled
    drained = world.run(GAMES, attempts=1)[GAMES.name]
    ((gap,),) = drained.unproved.values()
    assert (gap.lo, gap.hi) == (bad, bad)
    assert "failed 2 times" in gap.reason
    assert (bad,) not in stored(connection, "raw.gomafia_games", "DISTINCT tournament_id")
    assert (good,) in stored(connection, "raw.gomafia_games", "DISTINCT tournament_id")
    with world.site() as site:
        assert GAMES not in [phase for phase, _ in pending(site)]  # it rests for an hour
    world.faults._app = served
    world.run(YEAR_STATS, GAMES, STATISTICS, CLUB_MEMBERS, HISTORIES)
    agrees(connection, world.league)
    assert connection.execute("SELECT count(*) FROM ops.unproved").fetchone() == (0,)


def test_a_site_that_is_away_is_waited_for_and_then_gone_on_with(world):
    """Both breakers are open; after their minute the run goes on where it was."""

    async def away(scope, receive, send):
        if sum(world.waited) > 100:
            await served(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    world.run(CLUBS, PLAYERS)
    served, world.faults._app = world.faults._app, away
    drained = world.run(YEAR_STATS, attempts=1, tries=20)[YEAR_STATS.name]
    assert not drained.unproved
    assert 100 < sum(world.waited) <= 15 * 60


def test_a_site_that_stays_away_ends_the_run_in_time(world):
    """And says how long it has waited."""
    world.run(CLUBS, PLAYERS)

    async def away(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    world.faults._app = away
    with pytest.raises(Transient, match="waits 5 minutes for a site that is away"):
        world.run(YEAR_STATS, attempts=1, tries=20, down_minutes=5)
    assert sum(world.waited) <= 5 * 60 + 30


def test_a_second_import_of_a_phase_is_refused_while_one_runs(world):
    """By name, and at once; another phase is free."""
    world.run(CLUBS, PLAYERS, TOURNAMENTS)
    with exclusive(world.store, GAMES.asset, "run 1234abcd"):
        with pytest.raises(
            Busy, match=r"gomafia/games is being imported already by run 1234abcd, since .* UTC: wait until"
        ):
            world.run(GAMES)
        world.run(CLUB_MEMBERS)
    world.run(GAMES)


def test_a_phase_whose_listing_was_never_read_says_what_to_do(world):
    """Green and empty would be a lie."""
    with pytest.raises(
        Misconfigured, match="gomafia/games needs gomafia/tournaments, which was never read: materialise"
    ):
        world.run(GAMES)


def test_a_listing_that_moves_while_it_is_read_is_read_again_until_it_stands_still(world, connection):
    """Between its pages the last one becomes the first: one is met twice and one never, until the next pass."""
    league = world.league
    rating = league.rating

    def moving(year):
        found = rating(year)
        shown = len(world.faults.asked)
        return found if shown != 2 else [found[-1], *found[:-1]]

    league.rating = moving
    drained = world.run(PLAYERS, page_size=8)[PLAYERS.name]
    league.rating = rating
    assert not drained.unproved
    assert {(y, p) for y, p in stored(connection, "raw.gomafia_ratings", "year", "player_id")} == {
        (year, player) for year in league.years for player in rating(year)
    }


def test_a_listing_that_leaves_somebody_out_is_not_proved(world, connection):
    """It tells a total and shows one less, always: the phase fails, and what was shown is stored."""
    rating = world.league.rating
    world.league.rating = lambda year: [*rating(year)[:-1], rating(year)[0]]
    drained = world.run(PLAYERS)[PLAYERS.name]
    assert {
        gap.reason
        for gaps in drained.unproved.values()
        for gap in gaps
        if "moved whenever it was read" in gap.reason
    }
    assert len(stored(connection, "raw.gomafia_ratings", "year", "player_id")) == sum(
        len(rating(y)) - 1 for y in (2025, 2026)
    )


def test_a_listing_that_has_become_shorter_ends_where_it_ends_now(world):
    """Stopped in the middle, and meanwhile somebody was removed."""
    world.run(PLAYERS, page_size=8, most=2)
    rating = world.league.rating
    world.league.rating = lambda year: rating(year)[:-9]
    drained = world.run(PLAYERS, page_size=8)[PLAYERS.name]
    assert not drained.unproved
    with world.site() as site:
        assert all(not keys for phase, keys in pending(site) if phase is PLAYERS)


def test_records_beyond_the_limits_wait_with_their_reason(world, connection):
    """The others of their page are stored, the rate is not rounded, and a replay stores what has been mended."""
    name, day = world.league.name, world.league.day
    world.league.name = lambda player: "Я" * 51 if player == 12 else name(player)
    assert not world.run()[PLAYERS.name].unproved  # who was refused was met
    reasons = {
        reason
        for (reason,) in connection.execute("SELECT reason FROM ops.dead_letters WHERE settled_at IS NULL")
    }
    assert reasons == {f"name: 1 to 50 characters are wanted, found {'Я' * 51!r}"}
    found = validity(world.store, PLAYERS)
    assert found.rate == found.stored / (found.stored + found.refused) < 1
    assert found.is_enough == (found.stored * 100 >= 98 * (found.stored + found.refused))
    world.league.name, world.league.day = name, day
    assert dead_letters.replay(world.store, "gomafia/%")
    world.run()
    agrees(connection, world.league)
    assert connection.execute(
        "SELECT count(*) FROM ops.dead_letters WHERE settled_at IS NULL"
    ).fetchone() == (0,)


def test_a_field_that_was_renamed_is_told_by_its_name(world):
    """Asked for three times, then believed; the other way has its own words for it."""
    world.faults.share, world.faults.kinds = 1.0, ("markup",)
    drained = world.run(CLUBS, attempts=1)[CLUBS.name]
    (error,) = drained.failed.values()
    assert isinstance(error, SchemaDrift)
    assert "club/getTop: no record" in str(error)
    assert "selectors.py: " in str(error)


def test_an_entity_that_is_gone_becomes_a_dead_letter(world, connection):
    """It is not asked for again until somebody replays it."""
    world.run(CLUBS, PLAYERS, TOURNAMENTS)
    gone = min(world.league.played())
    tournaments = world.league.tournaments
    world.league.tournaments = lambda: [number for number in tournaments() if number != gone]
    world.run(GAMES)
    (reason,) = connection.execute("SELECT reason FROM ops.dead_letters WHERE lo = %s", [gone]).fetchone()
    assert reason == f"the site has nothing under games of {gone}"


def test_the_marks_stay_few_whatever_the_order(world):
    """Consecutive numbers are one range, also when they were read backwards."""
    world.run()
    ranges = world.store.covered(
        [phase.asset for phase in PHASES] + ["gomafia/players/2025", "gomafia/players/2026"]
    )
    assert max(map(len, ranges.values())) <= 10
    assert size(ranges["gomafia/games"]) == len(list(world.league.played()))
