"""Reading ahead: exactly so far, in order, and never past an error or the end."""

import threading
import time
from contextlib import closing

import pytest

from ingestion_assets.engine.prefetch import ahead, gathered


class Source:
    """Counts what is asked of it, and tells when it was closed."""

    def __init__(self, items, error=None) -> None:
        self.items = list(items)
        self.error = error
        self.asked = 0
        self.closed = threading.Event()
        self._counting = threading.Lock()

    def __call__(self):
        """The items, each counted when it is asked for."""
        try:
            for item in self.items:
                with self._counting:
                    self.asked += 1
                yield item
            if self.error:
                raise self.error
        finally:
            self.closed.set()


def settled(*sources, asked):
    """Whether exactly so many items are asked for in the end: reached, and a moment later not passed."""
    deadline = time.monotonic() + 5
    while sum(source.asked for source in sources) < asked:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(0.03)  # time for a reader to go too far, were it so inclined
    return sum(source.asked for source in sources) == asked


@pytest.mark.parametrize("depth", [0, 1, 2, 5])
def test_one_reader_is_exactly_depth_items_ahead_of_the_one_in_work(depth):
    """So many pages a crash makes us fetch again, and not one more."""
    source = Source(range(20))
    with closing(ahead([source], depth=depth)) as items:
        for number in range(4):
            assert next(items) == number
            assert settled(source, asked=number + 1 + depth)


@pytest.mark.parametrize(("depth", "readers"), [(0, 2), (1, 2), (2, 3)])
def test_several_readers_share_the_depth(depth, readers):
    """Each has one item in work, and together they lie `depth` ahead."""
    sources = [Source([(number, n) for n in range(20)]) for number in range(readers)]
    with closing(ahead(sources, depth=depth, readers=readers)) as items:
        for taken in range(5):
            next(items)
            assert settled(*sources, asked=taken + depth + readers)


@pytest.mark.parametrize("readers", [1, 2, 5])
@pytest.mark.parametrize("depth", [0, 3])
def test_every_item_arrives_once_and_in_the_order_of_its_source(depth, readers):
    """Whoever reads it."""
    sources = [Source([(number, n) for n in range(number * 3)]) for number in range(7)]
    found = list(ahead(sources, depth=depth, readers=readers))
    assert sorted(found) == [(number, n) for number in range(7) for n in range(number * 3)]
    for number in range(7):
        assert [n for source, n in found if source == number] == list(range(number * 3))
    assert all(source.closed.is_set() for source in sources)


def test_with_one_reader_sources_come_one_after_another():
    """The second is opened when the first has ended."""
    first, second = Source("ab"), Source("cd")
    assert list(ahead([first, second], depth=1)) == list("abcd")


def test_nothing_to_read_is_no_reason_to_wait():
    """No source, or only empty ones."""
    assert list(ahead([], depth=1, readers=3)) == []
    assert list(ahead([Source([]), Source([])], depth=0)) == []


@pytest.mark.parametrize("depth", [0, 2])
def test_an_error_arrives_after_the_items_before_it(depth):
    """It is the source's own, and later sources are not read."""
    error = ValueError("broken")
    later = Source("z")
    items = ahead([Source("abc", error), later], depth=depth)
    assert [next(items), next(items), next(items)] == list("abc")
    with pytest.raises(ValueError, match="broken") as caught:
        next(items)
    assert caught.value is error
    assert later.asked == 0


def test_an_error_of_opening_is_the_consumers_too():
    """A source need not get as far as its first item."""

    def unopenable():
        raise OSError("cannot")

    with pytest.raises(OSError, match="cannot"):
        list(ahead([unopenable], depth=1))


def test_closing_early_stops_and_closes_the_readers():
    """Also those that wait for their turn."""
    sources = [Source(range(1000)) for _ in range(3)]
    items = ahead(sources, depth=1, readers=3)
    next(items)
    assert settled(*sources, asked=4)
    items.close()
    begun = [source for source in sources if source.asked]
    assert all(source.closed.wait(5) for source in begun)
    assert sum(source.asked for source in sources) <= 3 + 1 + 3


def test_a_stop_ends_the_iteration_between_two_items():
    """What was read ahead is dropped: it is not committed, and will be read again."""
    stop = threading.Event()
    source = Source(range(1000))
    found = []
    for item in ahead([source], depth=3, should_stop=stop.is_set):
        found.append(item)
        if item == 4:
            stop.set()
    assert found == [0, 1, 2, 3, 4]
    assert source.closed.wait(5)


def test_a_stop_is_noticed_while_a_source_hangs():
    """Nobody waits for a page that does not come."""
    hanging, stop = threading.Event(), threading.Event()

    def source():
        yield 1
        stop.set()
        hanging.wait(10)

    assert list(ahead([source], depth=1, should_stop=stop.is_set, poll=0.01)) in (
        [1],
        [],
    )  # whichever is first
    hanging.set()


def test_a_group_is_what_has_arrived_and_waits_for_nothing_more():
    """A fast source fills groups up to their bound; a slow one gives groups of one."""
    groups = gathered(lambda: iter(range(7)), depth=6, is_full=lambda group: len(group) == 3)
    first = next(groups)
    rest = list(groups)
    assert [number for group in (first, *rest) for number in group] == list(range(7))
    assert max(map(len, (first, *rest))) <= 3


def test_so_many_items_and_no_more_are_read_beyond_a_group():
    """That is what memory holds."""
    source = Source(range(20))
    with closing(gathered(source, depth=2, is_full=lambda group: len(group) == 2)) as groups:
        next(groups)
        assert settled(source, asked=3)


def test_what_a_source_raises_comes_after_its_items():
    """They were paid for."""

    def source():
        yield 1
        raise ValueError("gone")

    groups = gathered(source, depth=3, is_full=lambda _group: False)
    found = []
    with pytest.raises(ValueError, match="gone"):
        found.extend(number for group in groups for number in group)
    assert found == [1]
