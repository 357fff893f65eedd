"""The one loop: what it commits, what it says, and how it ends."""

import contextlib
import queue
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ingestion_assets.engine.drain import TURN, drain
from ingestion_assets.engine.errors import SchemaDrift, Transient
from ingestion_assets.engine.store import Store
from ingestion_assets.engine.stream import Batch, Covered, Done, Settled, Tally, Unproved
from ingestion_assets_tests.engine.things import (
    STATED,
    Blocks,
    Feed,
    Thing,
    Token,
    coverage,
    impatient,
    snapshot,
)

pytestmark = pytest.mark.usefixtures("shelf")

BLOCKS = Blocks(
    "blocks",
    (Thing(0), Thing(0), Thing(1, "b"), Thing(4, "x", "rejected"), Thing(4, "y", "null"), Thing(8)),
    last=9,
    unprovable=frozenset({6}),
)
FEED = Feed("feed", ((Thing(1), Thing(2, kind="rejected")), (), (Thing(3),)))


@pytest.mark.parametrize(
    ("read_ahead", "readers", "writers"),
    [(0, 1, 1), (3, 1, 1), (0, 2, 1), (2, 3, 1), (0, 1, 2), (2, 1, 3), (1, 2, 2)],
)
def test_everything_is_stored_however_far_is_read_ahead(store, connection, read_ahead, readers, writers):
    """Rows, dead letters, coverage, what is unproved, and the cursor."""
    drained = drain([BLOCKS, FEED], store, read_ahead=read_ahead, readers=readers, writers=writers)
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


@pytest.mark.parametrize("writers", [1, 3])
def test_every_commit_is_told_in_order_with_its_own_tally(store, writers):
    """Progress is what is committed, not what is read; whoever is told need not mind threads."""
    told, threads = [], set()

    def tell(stream, batch, tally):
        told.append((stream.keys, batch.mark, tally))
        threads.add(threading.get_ident())

    drain([BLOCKS], store, writers=writers, on_commit=tell)
    assert threads == {threading.get_ident()}
    assert [key for key, *_ in told] == [("blocks",)] * 4
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


@pytest.mark.parametrize("fails", [False, True])
def test_threads_take_short_turns_until_the_drain_ends(store, fails):
    """However it ends: how long they are belongs to the whole process."""
    before, seen = sys.getswitchinterval(), []

    def told(*_):
        seen.append(sys.getswitchinterval())
        if fails:
            raise RuntimeError

    with contextlib.suppress(RuntimeError):
        drain([BLOCKS], store, on_commit=told)
    assert seen[0] == pytest.approx(TURN)
    assert sys.getswitchinterval() == before > TURN


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
            seen.append(done["same"].covered)
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
    assert store.open(BLOCKS).done["blocks"].covered == ((0, 5), (7, 9))
    assert store.open(FEED).done["feed"].cursor == b'{"page": 3}'
    assert isinstance(next(iter(BLOCKS.read({"blocks": Done()}))).mark, Covered)


class Gated:
    """A sink whose commits wait to be let through, and tell when they begin."""

    def __init__(self) -> None:
        self.begun = queue.SimpleQueue()
        self.read = 0

    def open(self, stream):
        """A writer that has nothing stored."""
        self.done = {key: Done() for key in stream.keys}
        return self

    def commit(self, batch):
        """Wait for the gate of this batch, and do as it says."""
        gate = queue.SimpleQueue()
        self.begun.put((batch, gate))
        error = gate.get(timeout=10)
        if error is not None:
            raise error
        return Tally(fetched=batch.fetched, batches=1)


def beside(work):
    """Do it in another thread; what it returns or raises can be had later."""
    return ThreadPoolExecutor(1).submit(work)


class Counting(Blocks):
    """Counts the batches that it was asked for; one for each position."""

    def read(self, done):
        """As ever."""
        for one in super().read(done):
            self.asked.append(one)
            yield one


def counting(last):
    """A stream of so many batches, and the list of those that were asked for."""
    stream = Counting("blocks", (), last=last, width=1)
    asked: list = []
    object.__setattr__(stream, "asked", asked)
    return stream, asked


@pytest.mark.parametrize(("read_ahead", "writers"), [(0, 1), (0, 2), (1, 2), (2, 3)])
def test_so_many_batches_and_no_more_are_read_and_not_committed(read_ahead, writers):
    """read_ahead + readers + writers - 1: what a crash makes us read again, and what memory holds."""
    sink = Gated()
    stream, asked = counting(19)
    drained = beside(lambda: drain([stream], sink, read_ahead=read_ahead, writers=writers))
    under_way = [sink.begun.get(timeout=5) for _ in range(writers)]
    assert settled(asked, read_ahead + 1 + writers - 1)
    assert sink.begun.empty()
    for released in range(1, 18 - read_ahead - writers):
        under_way.pop(0)[1].put(None)
        under_way.append(sink.begun.get(timeout=5))
        assert settled(asked, released + read_ahead + 1 + writers - 1)
    while not drained.done():
        for _, gate in under_way:
            gate.put(None)
        under_way = [sink.begun.get() for _ in range(sink.begun.qsize())]
    assert drained.result().tally.batches == 20


def settled(asked, number):
    """Whether exactly so many are asked for in the end: reached, and a moment later not passed."""
    deadline = time.monotonic() + 5
    while len(asked) < number:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(0.02)  # time to go too far, were it so inclined
    return len(asked) == number


def test_the_first_error_in_the_order_of_reading_ends_the_drain():
    """A later commit that fails sooner does not hide it, and nobody hears of what comes after."""
    sink = Gated()
    stream, _ = counting(9)
    told = []
    drained = beside(
        lambda: drain(
            [stream],
            sink,
            read_ahead=2,
            writers=3,
            on_commit=lambda _s, batch, _t: told.append(batch.mark.lo),
        )
    )
    first, second, third = (sink.begun.get(timeout=5)[1] for _ in range(3))
    third.put(None)
    second.put(Transient("second"))
    first.put(None)
    try:
        while not drained.done():  # one more batch may have begun
            sink.begun.get(timeout=0.05)[1].put(Transient("later"))
    except queue.Empty:
        pass
    with pytest.raises(Transient, match="second"):
        drained.result(timeout=5)
    assert told == [0]


def test_commits_under_way_are_told_before_the_error_of_a_source():
    """They were read before it."""
    sink = Gated()

    class Breaking(Blocks):
        def read(self, done):
            yield next(super().read(done))
            raise Transient("gone")

    told = []
    drained = beside(
        lambda: drain([Breaking("blocks", (), 9)], sink, writers=2, on_commit=lambda *_: told.append(True))
    )
    sink.begun.get(timeout=5)[1].put(None)
    with pytest.raises(Transient, match="gone"):
        drained.result(timeout=5)
    assert told == [True]


def test_a_commit_is_told_while_the_source_is_slow():
    """Progress does not wait for a page that takes minutes."""
    told, sink = threading.Event(), Gated()

    class Slow(Blocks):
        def read(self, done):
            batches = super().read(done)
            yield next(batches)
            assert told.wait(5)
            yield next(batches)

    drained = beside(lambda: drain([Slow("blocks", (), 5)], sink, writers=2, on_commit=lambda *_: told.set()))
    for _ in range(2):
        sink.begun.get(timeout=10)[1].put(None)
    assert drained.result(timeout=5).tally.batches == 2


@pytest.mark.parametrize("marks", [(Token(1), Settled(7)), (Unproved(0, 5, "?"), Covered(5, 9, STATED))])
def test_what_depends_on_its_order_is_committed_one_by_one(marks):
    """Of two words on one range the later one holds; a replay and a cursor count the same rows."""
    sink = Gated()

    class Two(Feed):
        def read(self, _done):
            yield from (Batch(mark) for mark in marks)

    drained = beside(lambda: drain([Two("feed", ())], sink, read_ahead=3, writers=4))
    first, gate = sink.begun.get(timeout=5)
    assert first.mark == marks[0]
    with pytest.raises(queue.Empty):
        sink.begun.get(timeout=0.1)
    gate.put(None)
    sink.begun.get(timeout=5)[1].put(None)
    assert drained.result(timeout=5).tally.batches == 2


class InTurn:
    """A sink that says which commit waits for its turn, and which is done."""

    def __init__(self, fails=()):
        self.done = {"feed": Done()}
        self.log: list = []
        self.waits = threading.Event()
        self._fails = fails

    def open(self, _stream):
        """Itself."""
        return self

    def commit(self, batch, turn=None):
        """The first one ends when another one waits for it."""
        if turn is None:
            assert self.waits.wait(timeout=5)
        else:
            self.log.append(("waits", batch.mark.page))
            self.waits.set()
            turn()
        if batch.mark.page in self._fails:
            raise Transient(f"page {batch.mark.page}")
        self.log.append(("done", batch.mark.page))
        return Tally(batches=1)


class Marks(Feed):
    """A feed of two empty pages."""

    def read(self, _done):
        """Both at once."""
        yield from (Batch(Token(1)), Batch(Token(2)))


def test_the_moves_of_one_cursor_are_prepared_side_by_side_and_made_in_turn():
    """The second one begins while the first is under way, and ends after it."""
    sink = InTurn()
    assert drain([Marks("feed", ())], sink, read_ahead=2, writers=2).tally.batches == 2
    assert sink.log == [("waits", 2), ("done", 1), ("done", 2)]


def test_a_move_that_fails_takes_those_behind_it_along():
    """Nothing may be committed beyond a hole."""
    sink = InTurn(fails=(1,))
    with pytest.raises(Transient, match="page 1"):
        drain([Marks("feed", ())], sink, read_ahead=2, writers=2)
    assert sink.log == [("waits", 2)]
