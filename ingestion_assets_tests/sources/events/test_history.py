"""A feed as a stream: nothing lost, nothing doubled, whatever the source does between two pages."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.errors import Fenced, ProtocolError, Unauthorized
from ingestion_assets.sources.events.streams import History
from ingestion_assets_tests.engine.things import Countdown, Death, SteppingPool, die, impatient
from ingestion_assets_tests.sources.events.tiny import BEGIN, Tiny, event, read, stored
from ingestion_assets_tests.tables import empty

BOTH_WAYS = pytest.mark.parametrize("back", [True, False], ids=["newest first", "oldest first"])


def tiny(count, **others):
    """So many events."""
    return Tiny([event(n) for n in range(count)], **others)


@BOTH_WAYS
@pytest.mark.parametrize("flat", [False, True], ids=["nested", "flat"])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 10])
def test_all_of_a_feed_is_stored_and_again_nothing(store, connection, back, flat, count):
    """Four different numbers, and a second drain that only looks."""
    source = tiny(count, back=back, flat=flat)
    first, _ = read(source, store)
    assert stored(connection) == list(range(count))
    assert (first.tally.inserted, first.tally.rejected) == (count, 0)
    asked = len(source.asked)
    second, _ = read(source, store)
    assert second.tally.inserted == 0
    assert len(source.asked) == asked + 1
    assert stored(connection) == list(range(count))


@BOTH_WAYS
@pytest.mark.parametrize("keeps_token", [False, True])
def test_what_appears_later_is_read_by_the_next_drain_and_not_much_else(store, connection, back, keeps_token):
    """From the top down to what is known, or from the end on."""
    source = tiny(20, back=back, keeps_token=keeps_token)
    read(source, store)
    source.events += [event(n) for n in range(20, 24)]
    asked = len(source.asked)
    read(source, store)
    assert stored(connection) == list(range(24))
    assert len(source.asked) - asked <= 4


@BOTH_WAYS
def test_what_appears_while_it_is_read_is_not_lost(store, connection, back):
    """An event after every page, at whichever end."""
    source = tiny(12, back=back)
    source.watch = lambda: len(source.events) < 18 and source.events.append(event(len(source.events)))
    read(source, store)
    read(source, store)
    assert stored(connection) == list(range(18))


@BOTH_WAYS
@pytest.mark.parametrize("can_filter", [True, False])
def test_an_expired_cursor_costs_a_page_where_the_source_can_filter_by_time(
    store, connection, back, can_filter
):
    """Else the sweep starts over; how much was read again is told."""
    source = tiny(30, back=back, can_filter=can_filter)
    read(source, store, most=6)
    assert len(stored(connection)) == 18
    source.expire()
    asked = len(source.asked)
    _, notes = read(source, store)
    assert stored(connection) == list(range(30))
    assert notes.expired == 1
    assert notes.read_again == (1 if can_filter else 18)
    assert notes.started_over == (0 if can_filter else 1)
    assert len(source.asked) - asked <= (7 if can_filter else 15)


@BOTH_WAYS
def test_an_expired_cursor_while_the_feed_grows_loses_nothing(store, connection, back):
    """The sweep starts over above what it had read, and still goes down to where it had been."""
    source = tiny(20, back=back, can_filter=False)
    read(source, store, most=4)
    source.expire()
    source.events += [event(n) for n in range(20, 27)]
    read(source, store, most=2)
    source.expire()
    source.events += [event(n) for n in range(27, 31)]
    read(source, store)
    read(source, store)
    assert stored(connection) == list(range(31))


def test_a_catch_up_that_is_interrupted_leaves_no_hole(store, connection):
    """Newest first: the upper part of what is new is stored, the lower is not, and more appears above."""
    source = tiny(10, can_filter=False)
    read(source, store)
    source.events += [event(n) for n in range(10, 30)]
    read(source, store, most=3)
    source.expire()
    source.events += [event(n) for n in range(30, 33)]
    read(source, store, most=1)
    source.expire()
    read(source, store)
    assert stored(connection) == list(range(33))


def test_a_filter_that_leaves_out_the_event_it_should_show_is_not_believed(store, connection):
    """Seconds taken for milliseconds, say: an empty page is no end."""
    source = tiny(12, back=False)
    read(source, store, most=2)
    source.expire()
    source.spoils = [
        None,
        lambda page: page | {"data": [], "pagination": {"hasMore": False, "nextCursor": None}, "meta": {}},
    ]
    _, notes = read(source, store)
    assert notes.started_over == 1
    assert stored(connection) == list(range(12))


def test_a_cursor_whose_time_is_over_is_not_asked_for(store, connection):
    """The source has said how long it lives."""
    source = tiny(9, lives=0)
    read(source, store, most=1)
    asked = len(source.asked)
    read(source, store, most=1)
    assert "cursor" not in source.asked[asked]
    assert stored(connection) == list(range(4, 9))


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ({"hasMore": True, "nextCursor": None}, "gives no cursor"),
        ({"hasMore": True, "nextCursor": "0:7"}, "would never end"),
    ],
)
def test_pages_that_would_never_end_are_a_protocol_error(store, connection, says, why):
    """After three readings, for a hiccup looks the same. What came before is stored."""
    source = tiny(10)
    source.spoils = [None, *[lambda page: page | {"pagination": says}] * 3]
    with pytest.raises(ProtocolError, match=why):
        read(source, store)
    assert stored(connection) == [7, 8, 9]
    read(source, store)
    assert stored(connection) == list(range(10))


def test_a_page_that_is_shorter_than_it_says_is_asked_for_again(store, connection):
    """Rows that somebody dropped on the way are not lost."""
    source = tiny(5)
    source.spoils = [lambda page: page | {"data": page["data"][:1]}]
    read(source, store, attempts=2)
    assert stored(connection) == list(range(5))


def test_events_that_the_feed_says_it_has_are_looked_for(store, connection):
    """Pages that skip some in silence: the number of all gives them away, and the next drain reads all again."""
    source = tiny(10)
    source.spoils = [None, lambda page: page | {"data": page["data"][1:], "meta": {"total": 10}}]
    read(source, store)
    assert len(stored(connection)) == 9
    read(source, store)
    assert stored(connection) == list(range(10))
    asked = len(source.asked)
    read(source, store)
    assert len(source.asked) == asked + 1


def test_a_feed_that_miscounts_is_not_read_for_ever(store):
    """Three times, then it is believed to miscount."""
    source = tiny(4)
    miscount = lambda page: page | {"meta": {"total": 9}}  # noqa: E731
    source.spoils = [miscount] * 100
    for _ in range(6):
        read(source, store)
    asked = len(source.asked)
    read(source, store)
    assert len(source.asked) == asked + 1


def test_a_budget_of_pages_ends_a_drain_and_the_next_goes_on(store, connection):
    """Then the sensor asks for another run."""
    source = tiny(20)
    for pages in range(1, 4):
        read(source, store, most=2)
        assert len(stored(connection)) == 6 * pages


def test_a_wrong_key_is_told_at_once(store):
    """Nobody asks again."""
    source = tiny(3)
    source.spoils = [lambda _page: httpx.Response(401, json={"error": "no", "code": "UNAUTHORIZED"})]
    with pytest.raises(Unauthorized):
        read(source, store)
    assert len(source.asked) == 1


def test_a_502_for_a_cursor_that_died_on_the_way_is_understood(store, connection):
    """Where the source has said when that is."""
    now = [BEGIN]

    def late(_page):
        now[0] += timedelta(seconds=10)
        return httpx.Response(502)

    source = tiny(9, lives=5, spoils=[None, late])
    feed = source.feed()
    feed.clock = lambda: now[0]
    drain([History(feed)], store)
    assert feed.notes.expired == 1
    assert stored(connection) == list(range(9))


def test_the_second_of_two_drains_is_fenced(store, connection):
    """It says who was faster; the rows are those of one."""
    source = tiny(9)
    slow = History(source.feed(), most=1)
    writer = store.open(slow)
    (first,) = slow.read(writer.done)
    read(source, store)
    with pytest.raises(Fenced, match="another worker has moved the cursor of events/events/tiny"):
        writer.commit(first)
    assert stored(connection) == list(range(9))


@dataclass(frozen=True)
class Life:
    """One process after another: how many steps until it dies, and what the source does before the next one."""

    steps: int
    expires: bool
    grows: int


LIVES = st.lists(st.builds(Life, st.integers(1, 40), st.booleans(), st.integers(0, 4)), max_size=5)
SOURCES = st.builds(
    tiny, st.integers(0, 14), back=st.booleans(), can_filter=st.booleans(), keeps_token=st.booleans()
)


@settings(max_examples=30)
@given(source=SOURCES, lives=LIVES)
def test_deaths_anywhere_expiry_and_growth_leave_every_event_once(store, connection, source, lives):
    """A step is before a statement, before a COMMIT, or after one."""
    empty(connection, "raw.events", "ops.cursors", "ops.dead_letters")
    for life in lives:
        mortal = impatient(SteppingPool(store.pool, Countdown(life.steps, die)))
        with suppress(Death):
            drain([History(source.feed())], mortal, writers=2)
        if life.expires:
            source.expire()
        source.events += [event(len(source.events) + n) for n in range(life.grows)]
    for _ in range(2):
        read(source, store)
    assert stored(connection) == list(range(len(source.events)))
