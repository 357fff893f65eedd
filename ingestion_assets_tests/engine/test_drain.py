"""The one loop: what it commits, what it says, and how it ends."""

import threading

import pytest

from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.errors import SchemaDrift, Transient
from ingestion_assets.engine.store import Store
from ingestion_assets.engine.stream import Covered, Tally, Unproved
from ingestion_assets_tests.engine.things import Blocks, Feed, Thing, coverage, impatient, snapshot

pytestmark = pytest.mark.usefixtures("shelf")

BLOCKS = Blocks(
    "blocks",
    (Thing(0), Thing(0), Thing(1, "b"), Thing(4, "x", "rejected"), Thing(4, "y", "null"), Thing(8)),
    last=9,
    unprovable=frozenset({6}),
)
FEED = Feed("feed", ((Thing(1), Thing(2, kind="rejected")), (), (Thing(3),)))


@pytest.mark.parametrize(("read_ahead", "readers"), [(0, 1), (3, 1), (0, 2), (2, 3)])
def test_everything_is_stored_however_far_is_read_ahead(store, connection, read_ahead, readers):
    """Rows, dead letters, coverage, what is unproved, and the cursor."""
    drained = drain([BLOCKS, FEED], store, read_ahead=read_ahead, readers=readers)
    found = snapshot(connection)
    assert [row[:4] for row in found["rows"]] == [
        ("blocks", 0, "a", 0), ("blocks", 0, "a", 1), ("blocks", 1, "b", 0), ("blocks", 8, "a", 0),
        ("feed", 1, "a", 0), ("feed", 3, "a", 0),
    ]  # fmt: skip
    assert [letter[0] for letter in found["letters"]] == ["blocks", "blocks", "feed"]
    assert found["covered"] == [("blocks", ((0, 5), (7, 9)))]
    assert found["unproved"] == [("blocks", 6, 6, "who knows")]
    assert found["cursors"] == [("feed", '{"page": 3}', 3)]
    assert drained.tally == Tally(fetched=9, inserted=6, duplicate=0, rejected=3, batches=7)
    assert drained.unproved == {"blocks": (Unproved(6, 6, "who knows"),)}
    assert not drained.stopped


def test_draining_twice_changes_nothing_and_asks_only_for_the_gap(store, connection):
    """The unproved range is read again; its rows would be duplicates."""
    drain([BLOCKS, FEED], store)
    once = snapshot(connection)
    again = drain([BLOCKS, FEED], store)
    assert snapshot(connection) == once
    assert again.tally == Tally(batches=1)


def test_every_commit_is_told_in_order_with_its_own_tally(store):
    """Progress is what is committed, not what is read."""
    told = []
    drain(
        [BLOCKS], store, on_commit=lambda stream, batch, tally: told.append((stream.key, batch.mark, tally))
    )
    assert [key for key, *_ in told] == ["blocks"] * 4
    assert [(mark.lo, mark.hi) for _, mark, _ in told] == [(0, 2), (3, 5), (6, 6), (7, 9)]
    assert told[1][2] == Tally(fetched=2, rejected=2, batches=1)


def test_a_stop_leaves_whole_batches_and_the_next_drain_goes_on(store, connection):
    """After the second commit, say."""
    commits = []
    drained = drain(
        [BLOCKS, FEED], store, read_ahead=2,
        should_stop=lambda: len(commits) == 2, on_commit=lambda *told: commits.append(told),
    )  # fmt: skip
    assert drained.stopped
    assert drained.tally.batches == 2
    assert coverage(connection) == {"blocks": ((0, 5),)}
    drain([BLOCKS, FEED], store)
    assert coverage(connection) == {"blocks": ((0, 5), (7, 9))}


def test_a_stop_before_the_first_batch_commits_nothing(store, connection):
    """Somebody was quick."""
    assert drain([BLOCKS], store, should_stop=lambda: True).stopped
    assert coverage(connection) == {}


def test_an_error_of_a_stream_comes_after_its_earlier_batches_are_committed(store, connection):
    """What was paid for is kept."""

    class Breaking(Blocks):
        def read(self, done):
            yield from list(super().read(done))[:2]
            raise Transient("gone")

    with pytest.raises(Transient, match="gone"):
        drain([Breaking("blocks", BLOCKS.things, last=9)], store, read_ahead=5)
    assert coverage(connection) == {"blocks": ((0, 5),)}


def test_a_stream_whose_source_has_drifted_stops_no_other(store, connection):
    """One broken account must not starve the thousand behind it; what it gave before that is kept."""

    class Drifting(Blocks):
        def read(self, done):
            yield from list(super().read(done))[:1]
            raise SchemaDrift("value is gone")

    drained = drain([Drifting("drifting", BLOCKS.things, last=9), BLOCKS], store)
    assert {key: str(error) for key, error in drained.failed.items()} == {"drifting": "value is gone"}
    assert coverage(connection)["drifting"] == ((0, 2),)
    assert coverage(connection)["blocks"] == ((0, 5), (7, 9))


def test_an_error_of_whoever_is_told_ends_the_drain_after_that_commit(store, connection):
    """A crash right after a commit looks like this."""

    def tell(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drain([BLOCKS], store, on_commit=tell)
    assert coverage(connection) == {"blocks": ((0, 2),)}


def test_a_stream_is_closed_at_once_when_a_commit_fails(store):
    """It may hold a connection, and nobody will read its next page; the error is still being looked at."""
    closed = threading.Event()

    class Closing(Blocks):
        def read(self, done):
            try:
                yield from super().read(done)
            finally:
                closed.set()

    class Failing(Store):
        def open(self, stream):
            writer = super().open(stream)
            writer.commit = fail
            return writer

    def fail(_batch):
        raise Transient("full")

    with pytest.raises(Transient) as caught:
        drain([Closing("blocks", (), last=1000)], Failing(store.pool), read_ahead=0)
    assert closed.wait(5)
    assert caught.value.args == ("full",)


def test_a_stream_is_told_what_is_covered_when_its_turn_comes(store):
    """Not when the drain begins: the one before it may be the same stream, of other days."""
    seen = []

    class Telling(Blocks):
        def read(self, done):
            seen.append(done.covered)
            return super().read(done)

    drain([Telling("same", (), last=5), Telling("same", (), last=8)], store, read_ahead=0)
    assert seen == [(), ((0, 5),)]


def test_a_stream_opens_nothing_until_it_is_read(store):
    """Streams after one that failed are never read."""

    class Failing(Blocks):
        def read(self, _done):
            raise Transient("first")

    class Forbidden(Blocks):
        def read(self, _done):
            raise AssertionError("read too early")

    with pytest.raises(Transient, match="first"):
        drain([Failing("a", (), 1), Forbidden("b", (), 1)], impatient(store.pool))


def test_marks_of_batches_are_what_done_says_later(store):
    """The position comes back as the stream's own type."""
    drain([BLOCKS, FEED], store)
    assert store.open(BLOCKS).done.covered == ((0, 5), (7, 9))
    assert store.open(FEED).done.cursor == b'{"page": 3}'
    assert isinstance(next(iter(BLOCKS.read(store.open(FEED).done))).mark, Covered)
