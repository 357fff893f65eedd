"""Days and blocks: which blocks a day holds, how far a chain is final, and what is asked to know it."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.errors import Transient
from ingestion_assets.sandbox import explorer
from ingestion_assets.sources.evm.config import Depth, Tag
from ingestion_assets.sources.evm.provider import Header
from ingestion_assets.sources.evm.records import KINDS
from ingestion_assets.sources.evm.streams import History
from ingestion_assets_tests.sources.evm.reading import ALL_DAYS, NOON, chain_at, chain_of, stored, truth
from ingestion_assets_tests.upstream import Head, Upstream, small_chain

CHAIN = small_chain()
TOP = CHAIN.height
QUIET = date(2024, 1, 5)


class Node:
    """A provider whose blocks have these times, in hours since 2024-01-01; it names the first of equal ones."""

    name = "node"

    def __init__(self, *hours, head=None, tag=None, at_once=None):
        self.at_once = at_once
        self.times = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in hours]
        self._head = len(hours) - 1 if head is None else head
        self._tag = tag
        self.hidden = -1  # a block that is not shown
        self.asked = []

    def head(self):
        """The newest block."""
        self.asked.append("head")
        return self._head

    def tagged(self, tag):
        """The block of a tag."""
        self.asked.append(tag)
        return self._tag

    def block_before(self, moment):
        """As explorers do it: any block of the latest time that is not younger; here the first."""
        self.asked.append(moment)
        older = [time for time in self.times if time <= moment]
        return self.times.index(older[-1]) if older else None

    def header(self, block):
        """A block of the only branch there is."""
        self.asked.append(block)
        if block >= max(len(self.times), self._head + 1) or block == self.hidden:
            return None
        made_at = (
            self.times[min(block, len(self.times) - 1)] if self.times else datetime(2024, 1, 1, tzinfo=UTC)
        )
        return Header(block, f"0x{block:064x}", f"0x{block - 1:064x}", made_at)

    def chain_id(self):
        """Of every chain here."""
        return 1


def chain(node, store, **options):
    """A chain as this node shows it."""
    return chain_of([node], store, **options)


def day(number):
    """A day of January 2024."""
    return date(2024, 1, number)


def one(number):
    """The span of that day alone."""
    return day(number), day(number)


def remembered(connection):
    """What is kept about days for ever."""
    return connection.execute("SELECT chain, day, block FROM ops.block_times ORDER BY 1, 2").fetchall()


def test_the_first_block_of_a_day_is_found_among_equal_times(store):
    """Many blocks share a second: the named one may be the first of them, the day begins after the last."""
    node = Node(0, 23, 23, 23, 23, 24, 24, 25)
    assert chain(node, store).first_block(day(2)) == 5
    assert chain(Node(0, 24, 24), store, name="other").first_block(day(2)) == 1


def test_too_many_equal_times_are_an_error(store):
    """Rather than a search over the whole chain, or a wrong day."""
    node = Node(0, *[23] * 150, 25)
    with pytest.raises(
        Transient, match=r"no provider gives a usable first block for 2024-01-02: block 1 .* 100 blocks"
    ):
        chain(node, store).first_block(day(2))


@settings(max_examples=60)
@given(
    steps=st.lists(st.sampled_from([0, 0, 1, 5, 12, 24, 48]), min_size=1, max_size=30),
    begin=st.integers(0, 60),
    number=st.integers(1, 12),
)
def test_a_day_holds_exactly_its_blocks(store, steps, begin, number):
    """Equal times, days without blocks, days before the chain and after its head."""
    hours = [begin + sum(steps[:count]) for count in range(len(steps) + 1)]
    node = Node(*hours)
    # the same database for all examples: each has a chain of its own
    base = chain(node, store, name=f"c{steps}{begin}", now=datetime(2025, 1, 1, tzinfo=UTC))
    expected = [block for block, time in enumerate(node.times) if time.date() == day(number)]
    found = base.blocks(one(number))
    assert found == (((expected[0], expected[-1]),) if expected else ())


def test_a_day_without_blocks_is_nothing(store):
    """And its neighbours meet."""
    with Upstream(explorer({1: CHAIN}, Head(TOP))) as upstream:
        base = chain_at(upstream, store)
        assert base.blocks((QUIET, QUIET)) == ()
        assert base.blocks(one(4))[0][1] + 1 == base.blocks(one(6))[0][0]
        assert base.blocks(one(1)) == ((0, 35),)
        assert base.blocks(ALL_DAYS[0]) == ((0, TOP),)


def test_days_before_the_chain_are_nothing(store):
    """Before its first block, and before the start that is configured."""
    node = Node(30, 40, 60)
    base = chain(node, store)
    assert base.blocks(one(1)) == ()
    assert base.blocks(one(2)) == ((0, 1),)
    later = chain(node, store, name="later", start=day(3))
    assert later.blocks(one(2)) == ()
    assert later.blocks((day(1), day(3))) == ((2, 2),)


def test_days_after_the_head_are_nothing_and_are_not_kept(store, connection):
    """The chain may yet come to them, or has stopped."""
    base = chain(Node(0, 30, 40), store)
    assert base.blocks(one(3)) == ()
    assert base.blocks(one(9)) == ()
    assert base.blocks(one(20)) == ()
    assert remembered(connection) == []


def test_a_chain_without_blocks_has_nothing(store):
    """No head, no days."""
    base = chain(Node(head=-1), store)
    assert base.final() == -1
    assert base.blocks(one(1)) == ()


def test_today_ends_at_the_final_block_and_tomorrow_is_not_asked_for(store):
    """No chain runs ahead of the clock."""
    node = Node(0, 30, 40, 220, 225, 227)
    assert chain(node, store, finality=Depth(depth=1)).blocks(one(10)) == ((3, 4),)
    assert max(asked for asked in node.asked if isinstance(asked, datetime)) < NOON


def test_what_is_final_is_asked_once_and_kept(store, connection):
    """A past day's first block is asked for once, by whatever process."""
    node = Node(0, 30, 40, 60)
    assert chain(node, store).blocks(one(2)) == ((1, 2),)
    assert remembered(connection) == [("base", day(2), 1), ("base", day(3), 3)]
    node.asked.clear()
    assert chain(node, store).blocks(one(2)) == ((1, 2),)
    assert node.asked == ["head", 3]  # is block 3, the last one that was wanted, still there?


def test_what_is_not_final_is_not_kept(store, connection):
    """A reorganisation may still move it."""
    node = Node(0, 30, 40, 60)
    base = chain(node, store, finality=Depth(depth=2))
    assert base.blocks((day(1), day(3))) == ((0, 1),)
    assert base.first_block(day(3)) == 3
    assert remembered(connection) == [("base", day(1), 0)]


def test_a_final_block_that_is_not_shown_is_asked_again(store, connection):
    """The node behind the explorer lags: nothing is concluded from that, and nothing kept."""
    node = Node(0, 30, head=9)
    node.hidden = 2
    with pytest.raises(Transient, match="no provider shows block 2, which exists"):
        chain(node, store).first_block(day(4))
    assert remembered(connection) == []


@pytest.mark.parametrize(("finality", "node", "final"), [
    (Depth(depth=0), Node(head=100), 100), (Depth(depth=64), Node(head=100), 36),
    (Depth(depth=64), Node(head=10), -1), (Tag(tag="finalized"), Node(head=100, tag=40), 40),
    (Tag(tag="safe"), Node(head=100, tag=90), 90),
    (Tag(tag="finalized"), Node(head=30, tag=40, at_once=1), 30),
])  # fmt: skip
def test_final_is_by_tag_or_depth_and_never_beyond_what_is_shown(store, connection, finality, node, final):
    """An explorer may be behind its own node; what it does not show yet cannot be covered."""
    assert chain(node, store, finality=finality).final() == final
    kept = connection.execute("SELECT chain, head, final FROM ops.chains").fetchall()
    assert kept == [("base", node.head(), final)]


def test_a_tag_that_moves_back_takes_nothing_back(store, connection):
    """What was final stays it, as long as the chain is that long."""
    for tag, head, final in ((90, 100, 90), (50, 101, 90), (95, 102, 95), (40, 80, 40)):
        assert chain(Node(head=head, tag=tag), store, finality=Tag(tag="finalized")).final() == final
    assert connection.execute("SELECT final FROM ops.chains").fetchall() == [(95,)]


def test_a_node_that_calls_final_what_it_does_not_have_is_not_believed(store):
    """Else its head would count as final."""
    with pytest.raises(
        Transient, match="says that block 1000 of base is finalized, and shows none above 100"
    ):
        chain(Node(head=100, tag=1_000), store, finality=Tag(tag="finalized")).final()


def test_a_wrong_last_block_of_a_day_is_not_believed(store, connection):
    """A day would begin too late, and would be kept like that for ever."""

    class Late(Node):
        def block_before(self, moment):
            return super().block_before(moment) + 2

    node = Late(0, 12, 23, 24, 36, 47, 48, 60)
    with pytest.raises(Transient, match="block 4 is said to be the last one before 2024-01-02, and is not"):
        chain(node, store).first_block(day(2))
    assert remembered(connection) == []


def test_where_the_day_of_a_block_is_known_nobody_is_asked(store):
    """Six hundred gaps in three days cost no six hundred questions."""
    node = Node(*(hour / 10 for hour in range(720)))
    base = chain(node, store)
    for number in (1, 2, 3):
        base.first_block(day(number))
    node.asked.clear()
    assert base.days_of([(block, block) for block in range(0, 480, 2)]) == [
        one(1 + block // 240) for block in range(0, 480, 2)
    ]
    assert node.asked == []


def test_final_is_asked_once_in_a_run(store):
    """So that all its streams want the same."""
    node = Node(head=9, tag=5)
    base = chain(node, store, finality=Tag(tag="safe"))
    assert {base.final() for _ in range(5)} == {5}
    assert node.asked == ["head", "safe", 5]  # and block 5 is noted, to know it again


def test_a_tagged_chain_wants_its_final_blocks_only(store, connection):
    """Two blocks behind the head of the sandbox, and the rest when they are final."""
    head = Head(100)
    with Upstream(explorer({1: CHAIN}, head)) as upstream:
        for expected in (98, 148):
            base = chain_at(upstream, store, finality=Tag(tag="finalized"))
            stream = History(base, KINDS[0], CHAIN.addresses[:1], ALL_DAYS)
            drain([stream], store)
            assert store.covered(stream.keys) == {stream.keys[0]: ((0, expected),)}
            assert stored(connection, KINDS[0]) == truth(CHAIN, KINDS[0], CHAIN.addresses[0], hi=expected)
            head.block = 150


def test_a_head_that_falls_back_wants_nothing_new(store, connection):
    """Another server of the explorer is behind: what is covered stays covered, and nobody speaks of a reorganisation."""
    head = Head(200)
    with Upstream(explorer({1: CHAIN}, head)) as upstream:
        stream = History(chain_at(upstream, store), KINDS[0], CHAIN.addresses[:1], ALL_DAYS)
        drain([stream], store)
        head.block = 150
        behind = History(chain_at(upstream, store), KINDS[0], CHAIN.addresses[:1], ALL_DAYS)
        assert drain([behind], store).tally.batches == 0
        assert connection.execute("SELECT count(*) FROM ops.reorgs").fetchone() == (0,)
        assert store.covered(stream.keys) == {stream.keys[0]: ((0, 200),)}


def test_two_chains_with_the_same_accounts_never_mix(store, connection):
    """Other rows, other marks, other days, although every address is the same."""
    chains = {1: small_chain(1), 2: small_chain(2, quiet_day=None)}
    names = {1: "one", 2: "two"}
    with Upstream(explorer(chains, lambda of: of.height)) as upstream:
        streams = [
            History(
                chain_at(upstream, store, name=names[number], chain_id=number),
                kind,
                CHAIN.addresses,
                ALL_DAYS,
            )
            for number in chains
            for kind in KINDS
        ]
        drain(streams, store, readers=2)
    for number, of in chains.items():
        for kind in KINDS:
            assert stored(connection, kind, names[number]) == truth(of, kind, *of.addresses)
    assert chains[1].addresses == chains[2].addresses
    assert {name for name, _, _ in remembered(connection)} == {"one", "two"}
