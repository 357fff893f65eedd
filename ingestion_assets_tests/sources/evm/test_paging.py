"""The walk over a range, and when a page is the last one."""

from bisect import bisect_left

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion_assets.engine.errors import TooMuch, Transient
from ingestion_assets.engine.stream import Rejected
from ingestion_assets.sources.evm.paging import LongestPages, walk
from ingestion_assets.sources.evm.provider import Question
from ingestion_assets.sources.evm.records import INTERNAL_TRANSACTIONS, TOKEN_TRANSFERS, Page
from ingestion_assets_tests.sources.evm.test_records import made

ME = "0x" + "a1" * 20


class Explorer:
    """An account's rows by block, given so many at a time, whatever was asked for."""

    def __init__(self, blocks, *, cap=1_000, asked=1_000, widest=10**9, refused=(), window=10, doubt=None):
        self.blocks, self.cap, self.asked = sorted(blocks), cap, asked
        self.widest, self.refused, self.doubt = widest, set(refused), doubt
        self.pages_per_window = window
        self.questions = []
        self.longest = LongestPages()

    def page(self, kind, _address, lo, hi, *, page=1, newest_first=False):
        """One page; a cap moves its beginning as well."""
        self.questions.append((lo, hi, page, newest_first))
        if hi - lo + 1 > self.widest or not self.refused.isdisjoint(range(lo, hi + 1)):
            raise TooMuch("Query Timeout occured")
        first, end = bisect_left(self.blocks, lo), bisect_left(self.blocks, hi + 1)
        rows = [made(self.blocks[number], number) for number in range(first, end)]
        size = min(self.cap, self.asked)
        rows = (rows[::-1] if newest_first else rows)[(page - 1) * size : page * size]
        return Page(rows, [], self.longest.is_last(kind, len(rows), self.asked), doubt=self.doubt)


def walked(explorer, lo=0, hi=1_000):
    """The readings; they follow each other without a hole, oldest first."""
    found = list(walk(explorer, Question(TOKEN_TRANSFERS, (ME,), lo, hi)))
    reached = lo - 1
    for reading in found:
        assert reading.lo == reached + 1
        reached = reading.hi
        assert all(reading.lo <= row.block <= reading.hi for row in reading.page.good)
    assert reached == hi
    return found


BLOCKS = st.lists(st.integers(0, 1_000), max_size=120)


@settings(max_examples=200)
@given(blocks=BLOCKS, cap=st.integers(2, 60), asked=st.integers(2, 60), widest=st.integers(1, 2_000))
def test_every_row_comes_once_whatever_the_cap(blocks, cap, asked, widest):
    """Odd caps that nobody told us of, pages of any size, ranges that are refused: nothing is lost or doubted."""
    explorer = Explorer(blocks, cap=cap, asked=asked, widest=widest, window=1_000)
    found = walked(explorer)
    assert [row.block for reading in found for row in reading.page.good] == sorted(blocks)
    assert not [reading.doubt for reading in found if reading.doubt]


@settings(max_examples=100)
@given(accounts=st.lists(BLOCKS, max_size=8), cap=st.integers(2, 60))
def test_what_was_seen_of_one_account_never_hides_rows_of_another(accounts, cap):
    """The longest page is remembered for all of them."""
    explorer = Explorer([], cap=cap)
    for blocks in accounts:
        explorer.blocks = sorted(blocks)
        assert [row.block for reading in walked(explorer) for row in reading.page.good] == sorted(blocks)


@pytest.mark.parametrize("cap", [999, 137, 50, 1_000])
def test_most_short_pages_cost_one_question(cap):
    """Only a page as long as the longest so far is asked about again."""
    explorer = Explorer([], cap=cap)
    perfect = 0
    for account in range(400):
        size = account * 7919 % 23 if account % 50 else 1_500
        explorer.blocks = [block * 997 % 1_001 for block in range(size)]
        explorer.blocks.sort()
        perfect += max(1, -(-size // cap))
        walked(explorer)
    assert len(explorer.questions) <= 1.1 * perfect


def test_a_page_is_last_when_a_much_longer_one_was_seen():
    """A kind has a memory of its own; a round number is never believed, a single record always."""
    longest = LongestPages()
    assert longest.is_last(TOKEN_TRANSFERS, 0, 1_000)
    assert longest.is_last(TOKEN_TRANSFERS, 1, 1_000)
    assert not longest.is_last(TOKEN_TRANSFERS, 137, 1_000)
    assert not longest.is_last(TOKEN_TRANSFERS, 137, 1_000)
    assert not longest.is_last(TOKEN_TRANSFERS, 136, 1_000)
    assert longest.is_last(TOKEN_TRANSFERS, 127, 1_000)
    assert not longest.is_last(TOKEN_TRANSFERS, 100, 1_000)
    assert not longest.is_last(TOKEN_TRANSFERS, 200, 201)
    assert longest.is_last(TOKEN_TRANSFERS, 137, 1_000)
    assert not longest.is_last(TOKEN_TRANSFERS, 137, 137)
    assert not longest.is_last(INTERNAL_TRANSACTIONS, 2, 1_000)


def test_a_block_that_is_too_much_is_doubted_in_the_providers_words_and_the_rest_is_read():
    """There is no smaller question."""
    found = walked(Explorer([3, 500, 999], refused=[500]))
    (doubtful,) = (reading for reading in found if reading.doubt)
    assert (doubtful.lo, doubtful.hi, doubtful.doubt) == (500, 500, "Query Timeout occured")
    assert [row.block for reading in found for row in reading.page.good] == [3, 999]


def test_a_block_that_fills_the_window_is_doubted_and_shows_its_first_page():
    """It may hold more."""
    found = walked(Explorer([500] * 30, cap=10, window=3))
    (doubtful,) = (reading for reading in found if reading.doubt)
    assert (doubtful.lo, doubtful.hi) == (500, 500)
    assert (
        doubtful.doubt
        == "block 500 fills the 30 records that the provider shows of one question, and may hold more"
    )
    assert len(doubtful.page.good) == 10


def test_a_window_that_is_smaller_than_told_is_met_without_an_error():
    """What is shown of the block is kept."""

    class Narrow(Explorer):
        def page(self, kind, address, lo, hi, *, page=1, newest_first=False):
            if page > 2:
                raise TooMuch("Result window is too large")
            return super().page(kind, address, lo, hi, page=page, newest_first=newest_first)

    (doubtful,) = (reading for reading in walked(Narrow([500] * 30, cap=10)) if reading.doubt)
    assert "fills the 20 records" in doubtful.doubt


def test_a_provider_that_doubts_its_own_list_makes_every_reading_doubtful():
    """The rows are there, and nothing is called whole."""
    found = walked(Explorer(range(0, 900, 9), cap=20, doubt="not indexed yet"))
    assert {reading.doubt for reading in found} == {"not indexed yet"}
    assert sum(len(reading.page.good) for reading in found) == 100


def test_only_the_blocks_that_are_not_indexed_yet_are_in_doubt():
    """The last ones, found by halving, at the price of a few questions; the rest is whole."""

    class Behind(Explorer):
        def page(self, kind, address, lo, hi, *, page=1, newest_first=False):
            self.doubt = "not indexed yet" if hi > 970 else None
            return super().page(kind, address, lo, hi, page=page, newest_first=newest_first)

    explorer = Behind(range(0, 1_000, 9))
    found = walked(explorer)
    assert [reading.doubt for reading in found if reading.hi <= 970] == [None] * sum(
        r.hi <= 970 for r in found
    )
    doubtful = [reading for reading in found if reading.doubt]
    assert doubtful[0].lo == 971
    assert len(explorer.questions) < 40


def test_records_that_are_left_out_carry_the_walk_on():
    """A page of nothing but them is not the end, and bad ones stay with their block."""

    class Silent(Explorer):
        def page(self, kind, address, lo, hi, *, page=1, newest_first=False):
            whole = super().page(kind, address, lo, hi, page=page, newest_first=newest_first)
            if not whole.good or whole.last_block > 400:
                return whole
            bad = [(0, Rejected(b"{}", "why", lo))] if lo == 0 else []
            return Page([], bad, whole.is_last, len(whole.good), whole.last_block)

    found = walked(Silent(range(0, 900, 9), cap=20))
    assert min(row.block for reading in found for row in reading.page.good) <= 414
    assert sum(len(reading.page.rejected()) for reading in found) == 1


class Forgetful(Explorer):
    """It spoils some of its answers: `spoil` gets the number of the question and its rows."""

    def __init__(self, blocks, spoil, **options):
        super().__init__(blocks, **options)
        self.spoil = spoil

    def page(self, kind, address, lo, hi, *, page=1, newest_first=False):
        """One page, spoilt."""
        whole = super().page(kind, address, lo, hi, page=page, newest_first=newest_first)
        rows = self.spoil(len(self.questions), list(whole.good))
        is_last = whole.is_last if rows == whole.good else self.longest.is_last(kind, len(rows), self.asked)
        return Page(rows, [], is_last)


@pytest.mark.parametrize("spoil", [
    lambda number, rows: [] if number == 2 else rows, lambda number, rows: rows[1:] if number == 2 else rows,
    lambda number, rows: [] if number in {2, 3} else rows, lambda number, rows: rows[:-1] if number == 1 else rows,
], ids=["empty", "first lost", "twice empty", "last lost"])  # fmt: skip
def test_an_answer_that_hides_what_was_shown_before_is_asked_again(spoil):
    """The first block of a question was in the answer before it."""
    blocks = range(0, 1_000, 7)
    found = walked(Forgetful(blocks, spoil, cap=50, asked=50))
    assert [row.block for reading in found for row in reading.page.good] == list(blocks)
    assert not [reading.doubt for reading in found if reading.doubt]


def test_an_answer_that_goes_on_hiding_it_is_an_error_and_what_was_read_stays_true():
    """Nothing is taken for whole on the word of a provider that contradicts itself."""
    explorer = Forgetful(
        range(0, 1_000, 7), lambda number, rows: [] if number > 2 else rows, cap=50, asked=50
    )
    given = []
    with pytest.raises(Transient, match="hides some when asked again"):
        given.extend(reading for reading in walk(explorer, Question(TOKEN_TRANSFERS, (ME,), 0, 1_000)))
    assert len(explorer.questions) == 5


def test_a_row_that_an_answer_showed_twice_does_not_stop_the_walk():
    """The next answers agree that there is one."""

    def twice(number, rows):
        return [*rows, rows[-1]] if number == 1 else rows

    found = walked(Forgetful(range(0, 1_000, 7), twice, cap=50, asked=50))
    assert [row.block for reading in found for row in reading.page.good] == list(range(0, 1_000, 7))
