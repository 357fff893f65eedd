"""Whatever a provider allows and whatever it says of it: everything is read, and hardly anything refused."""

import math
import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingestion_assets.engine.errors import TooMuch
from ingestion_assets.sources.evm.node.ranges import FIRST, LogRanges

Said = tuple[int, str, object]


@dataclass(frozen=True)
class Asked:
    """What a text may name."""

    lo: int
    hi: int
    blocks: int  # the provider's limit
    logs: int
    good: int  # last block that it would answer, from lo

    def hex(self, first: int, last: int) -> str:
        """A range as providers hint at it."""
        return f"[{first:#x}, {last:#x}]"


# What providers say when there are too many blocks, and too many logs. Some of it is not true.
OF_BLOCKS: list[Callable[[Asked], Said]] = [
    lambda a: (-32602, f"range {a.hi - a.lo + 1} exceeds limit of {a.blocks}", None),
    lambda a: (-32614, f"eth_getLogs is limited to a {a.blocks:,} range", None),
    lambda a: (-32701, f"exceed maximum block range: {a.blocks}", None),
    lambda a: (-32000, f"maximum [from, to] blocks distance: {a.blocks}", None),
    lambda a: (0, f"requested too many blocks from {a.lo} to {a.hi}, maximum is set to {a.blocks}", None),
    lambda a: (0, f"block range too large ({a.hi - a.lo + 1}), maximum allowed is {a.blocks} blocks", None),
    lambda a: (0, f"exceeds the range allowed for your plan ({a.hi - a.lo + 1} > {a.blocks})", None),
    lambda a: (-32602, "invalid params", {"payload": f"range 9 is bigger than range limit {a.blocks}"}),
    lambda _: (0, "Block range limit exceeded.", None),
    lambda a: (-32600, f"block range is too wide ({a.hi - a.lo + 1})", None),
    lambda a: (0, f"max is {a.blocks + 1} blocks", None),  # one too many
    lambda a: (0, f"max is {a.blocks * 7} blocks", None),
    lambda a: (0, f"retry with the range {a.lo}-{a.hi}; block range too large", None),
]
OF_LOGS: list[Callable[[Asked], Said]] = [
    lambda a: (-32005, f"query returned more than {a.logs} results. Try with {a.hex(a.lo, a.good)}", None),
    lambda a: (-32005, f"query returned more than {a.logs} results. Try with {a.hex(a.lo, a.lo - 1)}", None),
    lambda a: (-32602, f"query exceeds max results {a.logs}, retry with the range {a.lo}-{a.good}", None),
    lambda a: (-32602, f"query exceeds max results {a.logs}, retry with the range {a.lo}-{a.hi}", None),
    lambda a: (0, f"logs matched by query exceeds limit of {a.logs}", None),
    lambda a: (-32005, f"Too many logs requested. Max logs per response is {a.logs}.", None),
    lambda _: (-32000, "response size should not greater than 10000000 bytes", None),
    lambda _: (-32062, "backend response too large", None),
    lambda _: (-32602, "Query timeout exceeded. Consider reducing your block range.", None),
    lambda a: (-32602, f"Log response size exceeded. this block range should work: {a.hex(0, a.hi)}", None),
]


@dataclass
class Node:
    """A provider with limits, and a chain that changes along its way."""

    most_blocks: int
    most_logs: int
    densities: Sequence[int]  # logs per 100 blocks, in stretches of equal length
    length: int
    texts: tuple[Callable[[Asked], Said], Callable[[Asked], Said]] = (OF_BLOCKS[0], OF_LOGS[0])
    refusals: list[tuple[int, int]] = field(default_factory=list)
    answers: list[tuple[int, int]] = field(default_factory=list)
    alone: list[int] = field(default_factory=list)  # blocks that are too much

    def logs(self, lo: int, hi: int) -> int:
        """How many logs these blocks hold."""
        stretch = -(-self.length // len(self.densities))
        up_to = [0]
        for density in self.densities:
            up_to.append(up_to[-1] + stretch * density)

        def before(block: int) -> int:
            at, rest = divmod(block, stretch)
            return (up_to[at] + (rest * self.densities[at] if rest else 0)) // 100

        return before(hi + 1) - before(lo)

    def ask(self, lo: int, hi: int) -> int | Said:
        """The number of logs, or a refusal."""
        logs = self.logs(lo, hi)
        if hi - lo < self.most_blocks and logs <= self.most_logs:
            return logs
        self.refusals.append((lo, hi))
        good = lo
        step = 1 << (hi - lo).bit_length()
        while step := step >> 1:
            if good + step <= hi and self.logs(lo, good + step) <= self.most_logs:
                good += step
        of_blocks, of_logs = self.texts
        text = of_blocks if hi - lo >= self.most_blocks else of_logs
        return text(Asked(lo, hi, self.most_blocks, self.most_logs, good))

    def read(self, ranges: LogRanges, *, at_once: int = 1, seed: int = 0) -> None:
        """Read the whole chain, with several questions under way that end in any order."""
        order = random.Random(seed)
        gaps, under_way = [(0, self.length - 1)], []
        while gaps or under_way:
            while gaps and len(under_way) < at_once:
                lo, hi = gaps.pop(0)
                last = ranges.next(lo, hi)
                assert lo <= last <= hi
                under_way.append((lo, last))
                if last < hi:
                    gaps.insert(0, (last + 1, hi))
            lo, hi = under_way.pop(order.randrange(len(under_way)))
            said = self.ask(lo, hi)
            if isinstance(said, int):
                ranges.accepted(lo, hi, said)
                self.answers.append((lo, hi))
                continue
            try:
                ranges.refused(lo, hi, *said)
            except TooMuch:
                assert lo == hi
                self.alone.append(lo)
                self.answers.append((lo, hi))
            else:
                gaps.insert(0, (lo, hi))

    def check(self) -> None:
        """Everything was read once, and no refused range asked again."""
        expected = 0
        for lo, hi in sorted(self.answers):
            assert lo == expected
            expected = hi + 1
        assert expected == self.length
        repeated = [asked for asked, times in Counter(self.refusals).items() if times > 1]
        assert not repeated


@pytest.fixture
def ranges(store):
    """What a new process knows of one provider of this test's own, as often as it is called."""
    names: dict[str, str] = {}

    def process(name: str = "node", **options) -> LogRanges:
        unique = names.setdefault(name, uuid.uuid4().hex)
        return LogRanges(store, "base", unique, "transfers", **options)

    process.forget = names.clear
    return process


@st.composite
def nodes(draw) -> Node:
    """Any limits, any chain, any text; not so slow that the test would take minutes."""
    most_blocks = draw(st.integers(1, 12_000))
    node = Node(
        most_blocks,
        draw(st.integers(1, 12_000)),
        draw(st.lists(st.integers(0, 20_000), min_size=1, max_size=4)),
        draw(st.integers(1, min(30_000, 400 * most_blocks))),
        (draw(st.sampled_from(OF_BLOCKS)), draw(st.sampled_from(OF_LOGS))),
    )
    node.most_logs = max(node.most_logs, node.logs(0, node.length - 1) // 1_000)
    return node


@settings(max_examples=150)
@given(nodes(), st.integers(1, 5), st.sampled_from([1, 7, FIRST, 1_000_000]), st.integers(0, 99))
def test_whatever_it_allows_and_says_all_is_read_and_refusals_are_few(ranges, node, at_once, first, seed):
    """No holes, no overlaps, no refused range twice; refusals grow with the logarithm of the chain."""
    ranges.forget()
    node.read(ranges(first=first), at_once=at_once, seed=seed)
    node.check()
    levels = math.log2(max(first, node.length)) + math.log2(len(node.answers)) + 2
    assert len(node.refusals) - len(node.alone) <= at_once * len(node.densities) * levels


@pytest.mark.parametrize("texts", [(b, logs) for b in OF_BLOCKS for logs in OF_LOGS[:1]])
def test_a_limit_on_blocks_costs_a_handful_of_refusals_on_a_chain_of_millions(ranges, texts):
    """Where the text names the limit it costs one."""
    node = Node(2_000, 10**9, [0], 3_000_000, texts)
    node.read(ranges(first=50_000))
    node.check()
    assert len(node.refusals) <= math.log2(50_000) + math.log2(len(node.answers)) + 1


def test_a_named_limit_on_blocks_is_refused_once(ranges):
    """And growing stops at it."""
    node = Node(5_000, 10**9, [0], 1_000_000)
    node.read(ranges(first=100))
    node.check()
    assert len(node.refusals) == 1
    assert max(hi - lo + 1 for lo, hi in node.answers) == 5_000


@pytest.mark.parametrize("of_logs", OF_LOGS)
def test_a_limit_on_logs_costs_the_logarithm_too(ranges, of_logs):
    """Answers of half the limit and more are not followed by larger questions."""
    node = Node(10**9, 10_000, [2_000], 3_000_000, (OF_BLOCKS[0], of_logs))
    node.read(ranges())
    node.check()
    assert len(node.refusals) <= math.log2(FIRST) + math.log2(len(node.answers)) + 1


@pytest.mark.parametrize(("limit", "window"), [(9_999, 9_999), (2_000, 2_000)])
@pytest.mark.parametrize("counts_distance", [True, False])
def test_the_windows_of_cronos_are_learnt_from_their_literal_brackets(ranges, limit, window, counts_distance):
    """`[from, to]` stands there as text; some count the distance, some the blocks."""
    node = Node(limit + counts_distance, 10**9, [1], 1_000_000, (_ethermint(limit), OF_LOGS[0]))
    node.read(ranges(first=20_000))
    node.check()
    assert len(node.refusals) == 1
    assert max(hi - lo + 1 for lo, hi in node.answers) == window


def test_a_limit_that_is_to_be_kept_below_is_found_out_at_once(ranges):
    """It says 1,024 and means 1,023."""
    node = Node(
        1_023, 10**9, [0], 200_000, (lambda _: (0, "must be smaller than size 1024", None), OF_LOGS[0])
    )
    node.read(ranges(first=4_096))
    node.check()
    assert len(node.refusals) == 2
    assert max(hi - lo + 1 for lo, hi in node.answers) == 1_023


def _ethermint(limit: int) -> Callable[[Asked], Said]:
    return lambda _: (-32000, f"maximum [from, to] blocks distance: {limit}", None)


def test_the_offer_of_alchemy_is_no_limit(ranges):
    """`up to a 2K block range and no limit on the response size` does not forbid a range of 8K."""
    offer = (
        "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range and no limit on the "
        "response size, or you can request any block range with a cap of 10K logs in the response. Based on your "
        "parameters and the response size limit, this block range should work: {}"
    )
    node = Node(
        10**9,
        10_000,
        [100_000, 10],
        60_000,
        (OF_BLOCKS[0], lambda a: (-32602, offer.format(a.hex(a.lo, a.good)), None)),
    )
    node.read(ranges())
    node.check()
    assert max(hi - lo + 1 for lo, hi in node.answers) > 2_000


def test_a_new_process_begins_with_what_is_learnt_and_is_never_refused(ranges):
    """The size, and how far it may grow."""
    learning = Node(1_500, 10**9, [0], 100_000)
    learning.read(ranges(first=100))
    assert len(learning.refusals) == 1
    knowing = Node(1_500, 10**9, [0], 100_000)
    knowing.read(ranges(first=100))
    knowing.check()
    assert not knowing.refusals
    assert knowing.answers[0] == (0, 1_499)


def test_a_process_that_is_killed_while_it_learns_leaves_what_it_learnt(ranges):
    """The size after a refusal is kept before it is tried."""
    killed = ranges(first=8_000)
    killed.refused(0, killed.next(0, 10**6), 0, "Block range limit exceeded.")
    assert ranges(first=8_000).next(0, 10**6) == 3_999


def test_a_size_is_kept_once_it_was_answered(ranges):
    """Doubling is a guess, and a process that follows does not begin with one."""
    growing = ranges(first=100)
    for lo in (0, 100, 200):
        growing.accepted(lo, growing.next(lo, 10**6), 0)
    assert growing.next(300, 10**6) == 499
    assert ranges(first=1).next(300, 10**6) == 399
    growing.accepted(300, 499, 0)
    assert ranges(first=1).next(500, 10**6) == 699


def test_what_holds_is_written_seldom(ranges, connection):
    """A row that changed with every answer would be a write for every question."""
    node = Node(10**9, 10**9, [50], 1_000_000)
    steady = ranges(first=1_000, wanted=1_000)
    node.read(steady)
    before = connection.execute("SELECT xmin::text FROM ops.log_ranges").fetchall()
    node.read(steady)
    assert connection.execute("SELECT xmin::text FROM ops.log_ranges").fetchall() == before
    assert len(node.answers) > 500


def test_classes_of_questions_and_providers_learn_apart(store):
    """One token is not all tokens, and one provider not another."""
    LogRanges(store, "base", "one", "token").refused(0, 1_999, 0, "Max range: 800")
    assert LogRanges(store, "base", "one", "token").next(0, 10**6) == 799
    for other in (("base", "two", "token"), ("base", "one", "all"), ("gnosis", "one", "token")):
        assert LogRanges(store, *other).next(0, 10**6) == FIRST - 1


def test_processes_keep_the_smaller_limit_of_what_each_has_learnt(ranges):
    """Whoever writes last does not undo what another process has learnt."""
    one, two = ranges(), ranges()
    one.next(0, 10), two.next(0, 10)
    one.refused(0, 1_999, 0, "Max range: 800")
    two.refused(0, 1_999, -32005, "Too many logs requested. Max logs per response is 500.")
    assert two.next(0, 10**6) == 799
    for lo in range(0, 80_000, 800):  # small answers, which would let a larger question follow
        two.accepted(lo, lo + 799, 1)
    assert two.next(0, 10**6) == 799


def test_refusals_of_questions_that_were_under_way_do_not_shrink_it_again(ranges):
    """Five windows of one size are refused for one reason."""
    shared = ranges(first=1_000)
    windows = [(lo, shared.next(lo, lo + 999)) for lo in range(0, 5_000, 1_000)]
    for lo, hi in windows:
        shared.refused(lo, hi, 0, "block range too large")
    assert shared.next(5_000, 10**6) == 5_499
    late = (10_000, shared.next(10_000, 10**6))
    shared.refused(5_000, 5_499, 0, "block range too large")
    shared.refused(6_000, 6_999, 0, "block range too large")
    assert shared.next(20_000, 10**6) == 20_249
    shared.accepted(*late, 0)
    assert shared.next(20_000, 10**6) == 20_249


def test_a_refused_range_is_not_asked_again_when_another_answer_made_the_size_grow(ranges):
    """Nor is one that holds it."""
    shared = ranges(first=100)
    shared.refused(1_000, 1_099, 0, "backend response too large")
    for turn in range(60):
        lo = 10_000 + turn * 100
        shared.accepted(lo, shared.next(lo, 10**6), 0)
    assert shared.next(2_000, 10**6) > 2_100
    assert shared.next(1_000, 1_099) == 1_098
    assert shared.next(990, 10**6) == 1_098


def test_an_answer_larger_than_memory_likes_makes_the_next_question_smaller(ranges):
    """No refusal is needed: a node of our own allows anything."""
    node = Node(10**9, 10**9, [10, 200_000], 40_000)
    node.read(ranges(wanted=20_000))
    node.check()
    assert not node.refusals
    sizes = [node.logs(lo, hi) for lo, hi in node.answers]
    assert sum(size > 20_000 for size in sizes) <= 2


def test_one_block_that_is_too_much_names_itself(ranges):
    """Its logs are in its receipts."""
    with pytest.raises(TooMuch, match="the logs of block 7 alone"):
        ranges().refused(7, 7, -32062, "backend response too large")


def test_threads_share_it(ranges):
    """Readers of windows of one chain ask and answer at the same time."""
    node = Node(777, 5_000, [400, 3_000, 0, 900], 400_000)
    shared, counting = ranges(), threading.Lock()

    def window(lo: int) -> list[tuple[int, int]]:
        answered, end = [], lo + 49_999
        while lo <= end:
            hi = shared.next(lo, end)
            with counting:
                said = node.ask(lo, hi)
            if isinstance(said, int):
                shared.accepted(lo, hi, said)
                answered.append((lo, hi))
                lo = hi + 1
            else:
                shared.refused(lo, hi, *said)
        return answered

    with ThreadPoolExecutor(8) as pool:
        for answered in pool.map(window, range(0, 400_000, 50_000)):
            node.answers += answered
    node.check()
    assert len(node.refusals) < 100


@example([("refused", 0, 1, "max is 1 blocks")])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["refused", "accepted"]),
            st.integers(0, 10**6),
            st.integers(0, 10**5),
            st.text() | st.sampled_from(["max is 0 blocks", "Max range: 99999999999999999999", "max logs 1"]),
        ),
        max_size=20,
    )
)
def test_no_order_of_events_makes_it_ask_for_nothing(ranges, events):
    """The next question holds a block at least, and stays inside of what is wanted."""
    ranges.forget()
    shared = ranges()
    for event, lo, size, text in events:
        if event == "accepted":
            shared.accepted(lo, lo + size, size)
        elif size:
            shared.refused(lo, lo + size, 0, text)
        assert lo <= shared.next(lo, lo + 10) <= lo + 10
