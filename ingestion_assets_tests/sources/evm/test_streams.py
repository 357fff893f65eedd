"""Paging: whatever an explorer's limits are, all rows come once, or the gap is named."""

from collections import Counter
from contextlib import ExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion_assets.engine.coverage import difference, intersection, size, union
from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.errors import TooMuch, Transient
from ingestion_assets.engine.stream import Unproved
from ingestion_assets.sandbox import explorer
from ingestion_assets.sources.evm.paging import walk
from ingestion_assets.sources.evm.records import KINDS
from ingestion_assets.sources.evm.streams import History
from ingestion_assets_tests.sources.evm.reading import (
    ACTIONS,
    ALL_DAYS,
    TOKENTX,
    TXLIST,
    TXLISTINTERNAL,
    chain_at,
    covered_by,
    explorer_at,
    kept,
    nothing_done,
    stored,
    stretch,
    truth,
)
from ingestion_assets_tests.upstream import Head, Upstream, small_chain

CHAIN = small_chain()
TOP = CHAIN.height
HUB = CHAIN.addresses[0]
ACCOUNT = {"module": "account"}
BUSY = 200  # this block holds dozens of the hub's rows


@pytest.fixture(scope="module")
def serve():
    """Servers of the same chain with other limits, one for each kind of limits."""
    servers = {}
    with ExitStack() as stack:

        def get(max_records=1_000, window=10_000):
            if (max_records, window) not in servers:
                app = explorer({1: CHAIN}, Head(TOP), max_records=max_records, window=window)
                servers[max_records, window] = stack.enter_context(Upstream(app))
            return servers[max_records, window]

        yield get


@pytest.fixture
def upstream():
    """A server whose every fault must have happened when the test ends."""
    with Upstream(explorer({1: CHAIN}, Head(TOP))) as server:
        yield server
        assert server.faults_left == 0


@pytest.fixture
def history(store):
    """The stream of an account, by default the hub's transactions, as one provider shows it."""

    def make(provider, *, kind=TXLIST, address=HUB, wanted=((0, TOP),)):
        return stretch([provider], kind, [address], wanted, store)

    return make


def collect(batches, stream):
    """Read a stream to its end, or up to its error."""
    for batch in stream.read(nothing_done(stream)):
        batches.append(batch)


def read(stream, covered=()):
    """All batches of a stream of which these blocks are covered."""
    return list(stream.read(nothing_done(stream, covered)))


SIZES = st.one_of(st.integers(2, 40), st.sampled_from([50, 99, 100, 333, 1_000]))


@settings(max_examples=40)
@given(
    kind=st.sampled_from(KINDS),
    who=st.sampled_from(CHAIN.addresses[:3]),
    page_size=SIZES,
    cap=st.sampled_from([10, 50, 100, 1_000]),
    wanted=st.tuples(st.one_of(st.just(BUSY - 5), st.integers(0, TOP)), st.integers(1, 120)),
)
def test_all_rows_come_once_whatever_the_size_of_a_page(history, serve, kind, who, page_size, cap, wanted):  # noqa: PLR0917
    """Pages from two records up, caps that nobody told us of, blocks that fill several pages."""
    lo, hi = wanted[0], min(TOP, sum(wanted))
    provider = explorer_at(serve(cap), page_size=page_size)
    batches = read(history(provider, kind=kind, address=who, wanted=((lo, hi),)))
    assert covered_by(batches) == ((lo, hi),)
    assert kept(kind, batches) == truth(CHAIN, kind, who, lo=lo, hi=hi)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("cap", [10, 50, 100, 1_000])
def test_a_cap_below_what_we_ask_loses_nothing(history, serve, kind, cap):
    """The whole history, asked for a thousand at a time, of a plan that gives fewer and says OK."""
    batches = read(history(explorer_at(serve(cap)), kind=kind))
    assert covered_by(batches) == ((0, TOP),)
    assert kept(kind, batches) == truth(CHAIN, kind, HUB)


@settings(max_examples=40)
@given(
    done=st.lists(st.tuples(st.integers(0, TOP), st.integers(0, 80)), max_size=6),
    wanted=st.lists(st.tuples(st.integers(0, TOP), st.integers(0, 120)), min_size=1, max_size=3),
    page_size=st.sampled_from([7, 20, 1_000]),
    kind=st.sampled_from(KINDS),
)
def test_from_any_state_exactly_the_rest_is_read(history, serve, done, wanted, page_size, kind):  # noqa: PLR0917
    """Whatever a crash, a backfill or another worker left: the gaps, and nothing but the gaps."""
    done = union((lo, lo + more) for lo, more in done)
    wanted = union((lo, min(TOP, lo + more)) for lo, more in wanted)
    stream = history(explorer_at(serve(), page_size=page_size), kind=kind, wanted=wanted)
    batches = read(stream, done)
    gaps = difference(wanted, done)
    assert covered_by(batches) == gaps
    assert sum(size([(batch.mark.lo, batch.mark.hi)]) for batch in batches) == size(gaps)
    whole = Counter()
    for lo, hi in gaps:
        whole += truth(CHAIN, kind, HUB, lo=lo, hi=hi)
    assert kept(kind, batches) == whole


@settings(max_examples=15)
@given(kept_batches=st.integers(0, 40), page_size=st.sampled_from([5, 11, 50]), kind=st.sampled_from(KINDS))
def test_a_reading_that_ends_early_is_taken_up_where_it_ended(history, serve, kept_batches, page_size, kind):
    """Both parts together are one clean reading, row by row."""
    stream = history(explorer_at(serve(), page_size=page_size), kind=kind)
    first = [batch for batch, _ in zip(stream.read(nothing_done(stream)), range(kept_batches), strict=False)]
    rest = read(stream, covered_by(first))
    assert not intersection(covered_by(first), covered_by(rest))
    assert kept(kind, [*first, *rest]) == truth(CHAIN, kind, HUB)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize(("page_size", "window"), [(5, 20), (5, 10), (8, 20), (2, 4)])
@pytest.mark.parametrize("is_told", [True, False], ids=["told", "not told"])
def test_a_block_that_fills_the_window_is_named_and_the_rest_is_read(  # noqa: PLR0917
    history, serve, kind, page_size, window, is_told
):
    """What the explorer shows of it is stored; our own idea of the window may be wrong."""
    server = serve(window=window)
    before = server.count(**ACCOUNT)
    provider = explorer_at(server, page_size=page_size, window=window if is_told else 10_000)
    batches = read(history(provider, kind=kind))
    shown = window // page_size * page_size
    counts = Counter(int(row["blockNumber"]) for row in CHAIN.rows(ACTIONS[kind], HUB, 0, TOP))
    crowded = [(block, block) for block, count in sorted(counts.items()) if count >= shown]
    gaps = [batch for batch in batches if isinstance(batch.mark, Unproved)]
    assert [(gap.mark.lo, gap.mark.hi) for gap in gaps] == crowded
    assert covered_by(batches) == difference([(0, TOP)], crowded)
    for gap in gaps:
        assert gap.mark.reason == (
            f"etherscan: block {gap.mark.lo} fills the {shown} records that the provider shows of one question, and may hold more"
        )
        assert 0 < kept(kind, [gap]).total() <= shown
        assert kept(kind, [gap]) <= truth(CHAIN, kind, HUB, lo=gap.mark.lo, hi=gap.mark.hi)
    whole = truth(CHAIN, kind, HUB)
    for block, _ in crowded:
        whole -= truth(CHAIN, kind, HUB, lo=block, hi=block)
    assert kept(kind, [batch for batch in batches if batch not in gaps]) == whole
    assert server.count(**ACCOUNT) - before < 3 * TOP


def test_a_page_that_moves_while_an_overfull_block_is_read_invents_no_row(history, upstream):
    """The block is not proved; only its first page, which cannot have moved, is stored."""
    upstream.fail("duplicate_rows", rows=[0], match={"page": "2"})
    provider = explorer_at(upstream, page_size=2, window=4)
    batches = read(history(provider, kind=TOKENTX, wanted=((BUSY, BUSY),)))
    (gap,) = (batch.mark for batch in batches)
    assert "may hold more" in gap.reason
    assert kept(TOKENTX, batches) <= truth(CHAIN, TOKENTX, HUB, lo=BUSY, hi=BUSY)


def test_one_block_is_big_enough_for_that():
    """The chain of these tests has a block that overflows the smaller windows in every kind."""
    assert [len(CHAIN.rows(ACTIONS[kind], HUB, BUSY, BUSY)) > 4 for kind in KINDS] == [True] * 3
    assert len(CHAIN.rows("txlist", HUB, BUSY, BUSY)) > 20


def test_the_next_reading_asks_for_an_unproved_block_and_nothing_else(history, serve):
    """A gap stays a gap, and costs a window of requests, no more."""
    server = serve(window=20)
    stream = history(explorer_at(server, page_size=5, window=20))
    first = read(stream)
    before = server.count(**ACCOUNT)
    again = read(stream, covered_by(first))
    assert [type(batch.mark) for batch in again] == [Unproved]
    assert kept(TXLIST, again) <= kept(TXLIST, first)
    asked = [seen for seen in server.requests if seen.query["module"] == "account"][before:]
    assert {(seen.query["startblock"], seen.query["endblock"]) for seen in asked} == {(str(BUSY), str(BUSY))}
    assert len(asked) == 1 + 20 // 5


@pytest.mark.parametrize("kind", [TXLISTINTERNAL, TOKENTX], ids=lambda kind: kind.name)
@pytest.mark.parametrize("fault", ["duplicate_rows", "drop_rows"])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_crowded_block_whose_pages_move_is_not_called_whole(history, upstream, kind, fault, order):
    """Two readings from both ends differ: no row is invented, and the next reading heals it."""
    upstream.fail(fault, rows=[0], match={"page": "2", "sort": order})
    stream = history(explorer_at(upstream, page_size=5), kind=kind)
    batches = read(stream)
    (gap,) = (batch for batch in batches if isinstance(batch.mark, Unproved))
    block = gap.mark.lo
    assert (
        gap.mark.reason
        == f"etherscan: two readings of block {block} differ: its pages moved while they were read"
    )
    whole = truth(CHAIN, kind, HUB, lo=block, hi=block)
    assert kept(kind, [gap]) <= whole
    assert kept(kind, [gap]).total() >= whole.total() - 1
    assert covered_by(batches) == difference([(0, TOP)], [(block, block)])
    healed = read(stream, covered_by(batches))
    assert covered_by(healed) == ((block, block),)
    assert kept(kind, [*batches, *healed]) == truth(CHAIN, kind, HUB)


def test_a_transaction_that_a_page_lists_twice_is_stored_once(history, upstream):
    """A hash is one transaction, whatever the explorer's cache says."""
    upstream.fail("duplicate_rows", rows="all", times=3, match=ACCOUNT)
    batches = read(history(explorer_at(upstream, page_size=100)))
    assert covered_by(batches) == ((0, TOP),)
    assert kept(TXLIST, batches) == truth(CHAIN, TXLIST, HUB)


def test_a_page_in_disorder_is_asked_again(history, upstream):
    """Pages that mix their order come from two servers that disagree."""
    upstream.fail("shuffle_rows", times=2, after=1, match=ACCOUNT)
    batches = read(history(explorer_at(upstream, page_size=100)))
    assert kept(TXLIST, batches) == truth(CHAIN, TXLIST, HUB)
    assert covered_by(batches) == ((0, TOP),)


def test_lasting_disorder_ends_the_reading_and_keeps_what_was_read(history, upstream):
    """An error after the last good batch; nothing of the bad page is in one."""
    upstream.fail("shuffle_rows", times=3, after=1, match=ACCOUNT)
    batches = []
    with pytest.raises(Transient, match="order"):
        collect(batches, history(explorer_at(upstream, page_size=100)))
    assert len(batches) == 1
    assert kept(TXLIST, batches) == truth(CHAIN, TXLIST, HUB, hi=covered_by(batches)[0][1])


def test_a_page_that_lost_all_its_records_is_asked_again(history, upstream):
    """An OK without records is no empty range."""
    upstream.fail("drop_rows", times=2, match=ACCOUNT)
    batches = read(history(explorer_at(upstream)))
    assert kept(TXLIST, batches) == truth(CHAIN, TXLIST, HUB)


class Timid:
    """A provider that refuses ranges of more than so many blocks, and some blocks altogether."""

    at_once = 1

    def __init__(self, provider, widest, refused=()):
        self._provider, self._widest, self._refused = provider, widest, set(refused)
        self.asked = 0

    def __getattr__(self, name):
        """Everything else is as the provider has it."""
        return getattr(self._provider, name)

    def read(self, question):
        """The walk, over pages that it may refuse."""
        return walk(self, question)

    def page(self, kind, address, lo, hi, **options):
        """One page, or the sentence about the result dataset."""
        self.asked += 1
        if hi - lo + 1 > self._widest or not self._refused.isdisjoint(range(lo, hi + 1)):
            raise TooMuch("Query Timeout occured. Please select a smaller result dataset")
        return self._provider.page(kind, address, lo, hi, **options)


@settings(max_examples=20)
@given(widest=st.integers(1, TOP + 9), page_size=st.sampled_from([10, 1_000]), kind=st.sampled_from(KINDS))
def test_a_range_that_is_too_much_is_halved_until_it_is_not(history, serve, widest, page_size, kind):
    """And grows again, so that the number of questions stays in proportion to the data."""
    provider = Timid(explorer_at(serve(), page_size=page_size), widest)
    batches = read(history(provider, kind=kind))
    assert covered_by(batches) == ((0, TOP),)
    assert kept(kind, batches) == truth(CHAIN, kind, HUB)
    pages = truth(CHAIN, kind, HUB).total() // page_size
    assert provider.asked <= 12 + 4 * (TOP // widest) + 4 * pages


def test_a_single_block_that_is_too_much_stays_a_gap_and_the_rest_is_read(history, serve):
    """There is no smaller question; the reason is the provider's own."""
    provider = Timid(explorer_at(serve()), TOP + 1, refused=[BUSY])
    batches = read(history(provider))
    assert covered_by(batches) == ((0, BUSY - 1), (BUSY + 1, TOP))
    (gap,) = (batch.mark for batch in batches if isinstance(batch.mark, Unproved))
    assert (gap.lo, gap.hi) == (BUSY, BUSY)
    assert "Query Timeout" in gap.reason
    assert kept(TXLIST, batches) == truth(CHAIN, TXLIST, HUB) - truth(CHAIN, TXLIST, HUB, lo=BUSY, hi=BUSY)
    assert provider.asked < 60


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("page_size", [50, 100, 1_000])
def test_the_number_of_questions_follows_the_number_of_rows(history, serve, kind, page_size):
    """Each page costs one question, its last block is read twice; nothing costs a question a day."""
    server = serve()
    before = server.count(**ACCOUNT)
    read(history(explorer_at(server, page_size=page_size), kind=kind))
    records = len(CHAIN.rows(ACTIONS[kind], HUB, 0, TOP))
    assert server.count(**ACCOUNT) - before <= 1.2 * -(-records // page_size) + 1


@pytest.mark.parametrize("read_ahead", [0, 1, 3])
@pytest.mark.parametrize("readers", [1, 3])
def test_reading_ahead_and_side_by_side_gives_the_same_tables(
    upstream, store, connection, read_ahead, readers
):
    """All kinds, all accounts, days in two spans; and the second drain asks for no page."""
    ((first, last),) = ALL_DAYS
    chain = chain_at(upstream, store, page_size=50)
    streams = [
        History(
            chain, kind, tuple(CHAIN.addresses), ((first, first.replace(day=4)), (first.replace(day=5), last))
        )
        for kind in KINDS
    ]
    done = drain(streams, store, read_ahead=read_ahead, readers=readers)
    assert not done.unproved
    for kind in KINDS:
        assert stored(connection, kind) == truth(CHAIN, kind, *CHAIN.addresses)
        assert set(store.covered(key for stream in streams for key in stream.keys).values()) == {((0, TOP),)}
    before = upstream.count(module="account")
    again = drain(streams, store, read_ahead=read_ahead, readers=readers)
    assert (again.tally.fetched, again.tally.batches) == (0, 0)
    assert upstream.count(module="account") == before


def test_an_unproved_block_is_asked_again_by_the_next_drain_only(serve, store, connection):
    """The gap is kept in the database with its reason, and leaves it when a better window comes."""
    chain = chain_at(serve(window=20), store, page_size=5, window=20)
    stream = History(chain, TXLIST, (HUB,), ALL_DAYS)
    (key,) = stream.keys
    assert [gap.lo for gap in drain([stream], store).unproved[key]] == [BUSY]
    assert [gap.lo for gap in drain([stream], store).unproved[key]] == [BUSY]
    assert store.unproved([key]) == {key: ((BUSY, BUSY),)}
    assert stored(connection, TXLIST) < truth(CHAIN, TXLIST, HUB)
    better = History(chain_at(serve(), store), TXLIST, (HUB,), ALL_DAYS)
    assert not drain([better], store).unproved
    assert store.unproved([key]) == {}
    assert stored(connection, TXLIST) == truth(CHAIN, TXLIST, HUB)
