"""A feed that can filter by time, day by day: seconds are covered, and no cursor is kept."""

from datetime import date, timedelta

import pytest

from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.errors import Misconfigured
from ingestion_assets.sources.events.streams import Days
from ingestion_assets_tests.sources.events.tiny import BEGIN, Tiny, event, stored

DAY = 24 * 60  # events


def days(source, first=1, last=1, **typed):
    """Some days of January 2024, as a process opens them."""
    feed = source.feed(page_size=500, start="2024-01-01", **typed)
    feed.clock = lambda: BEGIN + timedelta(days=30)
    return Days(feed, ((date(2024, 1, first), date(2024, 1, last)),))


@pytest.mark.parametrize("back", [True, False], ids=["newest first", "oldest first"])
def test_a_day_is_read_by_itself_and_not_twice(store, connection, back):
    """In any order; what is covered is not asked for."""
    source = Tiny([event(n) for n in range(3 * DAY)], back=back)
    drain([days(source, 2, 2)], store, writers=2)
    assert set(range(DAY, 2 * DAY)) <= set(stored(connection))  # a token may lead on into the next day
    drain([days(source, 1, 3)], store, writers=2)
    assert stored(connection) == list(range(3 * DAY))
    asked = len(source.asked)
    drain([days(source, 1, 3)], store)
    assert len(source.asked) == asked


@pytest.mark.parametrize("back", [True, False], ids=["newest first", "oldest first"])
def test_a_cursor_that_expires_costs_what_is_not_covered(store, connection, back):
    """The rest of the day is asked for anew."""
    source = Tiny([event(n) for n in range(DAY)], back=back)
    source.watch = lambda: len(source.asked) == 2 and source.expire()
    drain([days(source)], store)
    assert stored(connection) == list(range(DAY))
    assert len(source.asked) <= 5


def test_a_feed_that_does_not_filter_is_told(store):
    """Else every day would hold all of it."""
    source = Tiny([event(n) for n in range(5 * DAY)], can_filter=False)
    with pytest.raises(Misconfigured, match="does not filter by since and until"):
        drain([days(source)], store)


def test_what_may_still_appear_is_not_wanted_yet():
    """The last minute, unless it is typed otherwise."""
    stream = days(Tiny(), 31, 31)
    object.__setattr__(stream.feed, "clock", lambda: BEGIN + timedelta(days=30, seconds=100))
    ((lo, hi),) = stream.wanted()
    assert (lo, hi) == (
        int((BEGIN + timedelta(days=30)).timestamp()),
        int((BEGIN + timedelta(days=30)).timestamp()) + 39,
    )
