"""Replay: exactly what is bad is wanted again, and the next reading settles it."""

import pytest

from ingestion_assets.engine import dead_letters
from ingestion_assets.engine.coverage import difference
from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.stream import Batch, Covered, Rejected
from ingestion_assets_tests.engine.things import STATED, Blocks, Feed, Thing, coverage, snapshot

pytestmark = pytest.mark.usefixtures("shelf")

BAD = (Thing(1, "a", "rejected"), Thing(7, "b", "null"))


def blocks(*kinds, key="blocks"):
    """Positions 0..9 in threes; the second and the eighth record are of these kinds."""
    things = [
        Thing(n, "b" if n == 7 else "a", dict(zip((1, 7), kinds, strict=True)).get(n, "good"))
        for n in range(10)
    ]
    return Blocks(key, tuple(things), 9)


def test_open_letters_tell_what_where_and_why(store):
    """The newest first."""
    drain([blocks("rejected", "null")], store)
    null, rejected = dead_letters.open_letters(store)
    assert (rejected.stream, rejected.lo, rejected.hi, rejected.reason) == ("blocks", 0, 2, "it is bad")
    assert rejected.raw == BAD[0].payload
    assert (null.lo, null.hi, null.raw) == (6, 8, BAD[1].payload)
    assert dead_letters.open_letters(store, limit=1) == [null]
    assert dead_letters.open_letters(store, "feed%") == []


def test_a_replay_reopens_exactly_the_ranges_of_open_letters(store, connection):
    """The rest stays covered, and rows stay stored."""
    drain([blocks("rejected", "null"), blocks("good", "good", key="other")], store)
    rows = snapshot(connection)["rows"]
    assert dead_letters.replay(store) == {"blocks": ((0, 2), (6, 8))}
    assert coverage(connection) == {"blocks": ((3, 5), (9, 9)), "other": ((0, 9),)}
    assert snapshot(connection)["rows"] == rows
    assert len(dead_letters.open_letters(store)) == 2


def test_the_next_drain_settles_what_is_mended(store, connection):
    """It reads the reopened ranges only; what it has stored are duplicates."""
    drain([blocks("rejected", "null")], store)
    dead_letters.replay(store)
    again = drain([blocks("good", "good")], store)
    assert (again.tally.fetched, again.tally.inserted, again.tally.rejected) == (6, 2, 0)
    assert dead_letters.open_letters(store) == []
    assert coverage(connection) == {"blocks": ((0, 9),)}
    assert len(snapshot(connection)["rows"]) == 10
    assert connection.execute("SELECT count(*) FROM ops.dead_letters").fetchone() == (2,)  # kept, settled


@pytest.mark.parametrize("width", [1, 2, 3, 7])
def test_a_record_that_is_still_bad_is_one_open_letter(store, width):
    """However often it is replayed, and wherever the pages are cut."""
    drain([blocks("rejected", "null")], store)
    for _ in range(2):
        dead_letters.replay(store)
        mended = blocks("good", "null")
        drain([Blocks(mended.key, mended.things, mended.last, width)], store)
        [letter] = dead_letters.open_letters(store)
        assert letter.raw == BAD[1].payload
        assert letter.lo <= 7 <= letter.hi


def test_a_letter_with_a_position_reopens_that_position_only(store, connection):
    """A source that knows which block is bad has that one read again."""
    writer = store.open(blocks("good", "good"))
    writer.commit(
        Batch(Covered(0, 9, STATED), rejected=(Rejected(b"{}", "bad", 4), Rejected(b"{}", "bad", 4)))
    )
    assert dead_letters.replay(store) == {"blocks": ((4, 4),)}
    assert coverage(connection) == {"blocks": ((0, 3), (5, 9))}
    assert connection.execute("SELECT sum(records) FROM ops.coverage").fetchone() == (2,)


def test_a_replay_can_be_for_some_streams_and_replaying_twice_changes_nothing(store, connection):
    """The pattern is that of LIKE."""
    drain([blocks("rejected", "null", key=key) for key in ("evm/a", "evm/b", "feed/c")], store)
    assert set(dead_letters.replay(store, "evm/%")) == {"evm/a", "evm/b"}
    once = coverage(connection)
    assert dead_letters.replay(store, "evm/%") == {"evm/a": ((0, 2), (6, 8)), "evm/b": ((0, 2), (6, 8))}
    assert coverage(connection) == once
    assert difference([(0, 9)], once["feed/c"]) == ()


def test_letters_of_a_feed_stay_open(store):
    """Its pages cannot be asked for again: nothing is reopened, and nothing is hidden."""
    drain([Feed("feed", (BAD,))], store)
    assert dead_letters.replay(store) == {}
    assert len(dead_letters.open_letters(store)) == 2
