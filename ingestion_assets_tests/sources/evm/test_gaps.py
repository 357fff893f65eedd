"""What is left to read, and who reads it: many providers, any failure, the same rows."""

import itertools
import time
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion_assets.engine.coverage import intersection, union
from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.errors import (
    DatabaseUnavailable,
    IngestionError,
    Misconfigured,
    QuotaExhausted,
    RateLimited,
    SchemaDrift,
    TooMuch,
    Transient,
    Unauthorized,
    Unsupported,
)
from ingestion_assets.engine.stream import Covered, Evidence, Rejected
from ingestion_assets.sources.evm.config import Tag
from ingestion_assets.sources.evm.provider import ALL, Reading
from ingestion_assets.sources.evm.records import ERC20_TRANSFERS, TOKEN_TRANSFERS, Page
from ingestion_assets.sources.evm.streams import MOST_ASKED, STRIDE, Gaps, History
from ingestion_assets_tests.effort import examples
from ingestion_assets_tests.sources.evm.reading import ALL_DAYS, chain_of, nothing_done
from ingestion_assets_tests.sources.evm.tiny import (
    ALICE,
    BOB,
    CAROL,
    EUR,
    USD,
    Ledger,
    Record,
    Tiny,
    stored_ids,
)

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=5).map(
    lambda found: union((lo, lo + more) for lo, more in found)
)


# What is left


@settings(max_examples=200)
@given(
    missing=st.dictionaries(st.sampled_from("abcdef"), RANGES, max_size=6),
    at_once=st.sampled_from([1, 2, 3, None]),
    reaches=st.lists(st.integers(0, 30), max_size=40),
)
def test_from_any_state_exactly_the_rest_is_asked(missing, at_once, reaches):
    """However far each answer reaches: nothing twice, nothing beside, nothing left; `next` names gaps of all it names."""
    gaps = Gaps(missing)
    asked = {subject: [] for subject in missing}
    for number in itertools.count():
        if not gaps:
            break
        assert number < 2_000
        subjects, (lo, hi) = gaps.next(at_once)
        assert 1 <= len(subjects) <= (at_once or 6)
        assert len(set(subjects)) == len(subjects)
        assert lo <= hi
        for subject in subjects:
            assert intersection([(lo, hi)], gaps.all()[subject]) == ((lo, hi),)
        reached = min(hi, lo + reaches[number]) if number < len(reaches) else hi
        gaps.close(subjects, (lo, reached))
        for subject in subjects:
            asked[subject].append((lo, reached))
    for subject, ranges in asked.items():
        assert union(ranges) == missing[subject]
        assert sum(hi - lo + 1 for lo, hi in ranges) == sum(hi - lo + 1 for lo, hi in missing[subject])


@given(missing=st.dictionaries(st.sampled_from("abcdef"), RANGES, min_size=1))
def test_a_node_is_asked_for_each_block_once(missing):
    """Whoever lacks it: all of them share the answer."""
    gaps = Gaps(missing)
    asked = []
    while gaps:
        subjects, blocks = gaps.next(None)
        lacking = {name for name, ranges in gaps.all().items() if intersection(ranges, [blocks])}
        assert set(subjects) == lacking
        asked.append(blocks)
        gaps.close(subjects, blocks)
    assert union(asked) == union(one for ranges in missing.values() for one in ranges)
    assert sum(hi - lo + 1 for lo, hi in asked) == sum(hi - lo + 1 for lo, hi in union(asked))


@pytest.mark.parametrize("at_once", [1, None])
@pytest.mark.parametrize("ragged", [False, True], ids=["alike", "each its own"])
def test_five_thousand_subjects_stay_fast(at_once, ragged):
    """Two hundred answers for all of them in seconds of CPU; also where each was watched from another block on."""
    gaps = Gaps({f"0x{n:040x}": ((n % 50 if ragged else 0, 1_000),) for n in range(5_000)})
    started = time.process_time()
    for _ in range(200):
        if not gaps:
            break
        subjects, (lo, _) = gaps.next(at_once)
        gaps.close(subjects, (lo, lo))
    assert time.process_time() - started < 10


# Who reads it

NAMES = itertools.count()  # a new chain for each example, so that all can use one database
WATCHED = (ALICE, BOB)
SOME = [
    Record(block, sender, to, value)
    for block, sender, to, value in [
        (0, ALICE, CAROL, 5), (3, ALICE, BOB, 7), (3, ALICE, BOB, 7), (4, CAROL, BOB, 1), (9, BOB, CAROL, 2),
        (17, CAROL, ALICE, 3), (18, CAROL, CAROL, 4), (29, BOB, ALICE, 9), (30, ALICE, BOB, 9), (39, ALICE, ALICE, 1),
    ]
]  # fmt: skip


def some_ledger():
    """Forty blocks with ten transfers, two of them equal, one of nobody who is watched."""
    return Ledger.of(39, *SOME, chain=f"chain{next(NAMES)}")


def history(providers, store, *, kind=TOKEN_TRANSFERS, subjects=WATCHED, **options):
    """The stream of what is watched, as these providers show it."""
    chain = chain_of(providers, store, name=providers[0].ledger.chain, **options)
    return History(chain, kind, tuple(subjects), ALL_DAYS)


def is_whole(store, connection, stream, ledger):
    """The rows are those of the ledger, and all of it is covered."""
    wanted = dict.fromkeys(stream.keys, ((0, ledger.head),))
    assert store.covered(stream.keys) == wanted
    assert store.unproved(stream.keys) == {}
    assert stored_ids(connection, stream.kind, ledger.chain) == ledger.ids(stream.kind, stream.subjects)
    return True


def raising(error, after):
    """An answer that ends in an error after so many readings."""

    def spoil(tiny, question):
        for number, reading in enumerate(tiny.right(question)):
            if number == after:
                break
            yield reading
        raise error

    return spoil


def ends_early(tiny, question):
    """An answer that says nothing of its last blocks."""
    yield from list(tiny.right(question))[:-1]


def says_nothing(_tiny, _question):
    """An answer without a word."""
    yield from ()


def begins_late(tiny, question):
    """An answer with a hole at its beginning."""
    for reading in tiny.right(question):
        yield Reading(reading.lo + 1, reading.hi + 1, Page.empty())


def goes_too_far(tiny, question):
    """An answer for more than was asked."""
    for reading in tiny.right(question):
        yield Reading(reading.lo, reading.hi + 1_000, Page.empty())


def backwards(tiny, question):
    """An answer whose range is upside down."""
    for reading in tiny.right(question):
        yield Reading(reading.lo, reading.lo - 1, Page.empty())


def doubtful(tiny, question):
    """An answer that lacks its first rows, and says so."""
    for reading in tiny.right(question):
        rows = reading.page.good[1:]
        yield Reading(reading.lo, reading.hi, Page(rows, [], is_last=False), doubt="not indexed yet")


UNTIL = datetime(2099, 1, 1, tzinfo=UTC)
ERRORS = [
    Transient("away"), RateLimited("slow", retry_after=0.1), RateLimited("slow", retry_after=90), Unsupported("not here"),
    Unauthorized("no"), QuotaExhausted("used up", until=UNTIL), Misconfigured("what?"), SchemaDrift("odd"),
]  # fmt: skip
SPOILS = st.one_of(
    st.none(),
    st.builds(raising, st.sampled_from(ERRORS), st.integers(0, 3)),
    st.sampled_from([ends_early, says_nothing, begins_late, goes_too_far, backwards, doubtful]),
)
PROVIDERS = st.lists(
    st.tuples(st.sampled_from([1, None]), st.sampled_from([3, 7, 100]), st.lists(SPOILS, max_size=6)),
    min_size=2, max_size=3,
)  # fmt: skip


@examples(40)
@given(plan=PROVIDERS, runs=st.integers(1, 3))
def test_many_failing_providers_give_what_one_alone_gives(store, connection, plan, runs):
    """Kinds mixed, any error at any moment, doubts and nonsense: never a wrong row, never a block asked twice, all of it in the end."""
    ledger = some_ledger()
    providers = [
        Tiny(f"p{number}", ledger, at_once, width, spoils=list(spoils))
        for number, (at_once, width, spoils) in enumerate(plan)
    ]

    def nothing_twice(question):
        keys = [f"evm/token_transfers/{ledger.chain}/{subject}" for subject in question.subjects]
        for ranges in store.covered(keys).values():
            assert not intersection(ranges, [(question.lo, question.hi)])

    for provider in providers:
        provider.watch = nothing_twice
    whole = ledger.ids(TOKEN_TRANSFERS, WATCHED)
    for _ in range(runs):
        with suppress(IngestionError):  # and nothing else
            drain([history(providers, store)], store, read_ahead=0)
        for block, ids in stored_ids(connection, TOKEN_TRANSFERS, ledger.chain).items():
            assert ids <= whole[block]
        for key, ranges in store.covered(history(providers, store).keys).items():
            subject = key.rsplit("/", 1)[1]
            for lo, hi in ranges:
                here = stored_ids(connection, TOKEN_TRANSFERS, ledger.chain)
                for block, ids in ledger.ids(TOKEN_TRANSFERS, (subject,), lo, hi).items():
                    assert ids <= here.get(block, set()), "covered, and a row is missing"
    healthy = [Tiny("healthy", ledger, watch=nothing_twice)]
    stream = history(healthy, store)
    drain([stream], store, read_ahead=0)
    assert is_whole(store, connection, stream, ledger)
    asked = sum(len(provider.questions) for provider in healthy)
    drain([stream], store)
    assert sum(len(provider.questions) for provider in healthy) == asked


@pytest.mark.parametrize(
    "spoil",
    [
        ends_early,
        says_nothing,
        begins_late,
        goes_too_far,
        backwards,
        *[raising(error, 1) for error in ERRORS],
    ],
)
@pytest.mark.parametrize("kinds", [(1, None), (None, 1), (1, 1), (None, None)], ids=str)
def test_what_one_provider_cannot_the_next_one_does_in_the_same_run(store, connection, spoil, kinds):
    """In the middle of a range, between kinds; what was read before stays read."""
    ledger = some_ledger()
    first, second = kinds
    providers = [
        Tiny("one", ledger, first, width=9, spoils=[spoil] * 9),
        Tiny("two", ledger, second, width=7),
    ]
    stream = history(providers, store)
    assert not drain([stream], store).unproved
    assert is_whole(store, connection, stream, ledger)
    assert providers[1].questions


def test_a_provider_that_is_behind_answers_as_far_as_it_shows(store, connection):
    """The rest is the next one's; a run with it alone leaves a gap and an error, not a covered range."""
    ledger = some_ledger()
    short = Ledger([one for one in ledger.records if one.block <= 20], ledger.salts[:21], ledger.chain)
    behind, whole = Tiny("behind", short), Tiny("whole", ledger)
    stream = history([whole, behind], store)
    assert stream.wanted() == ((0, 39),)  # the preferred one said how far it is, then went away
    whole.spoils = [raising(Transient("away"), 0)] * 9
    with pytest.raises(Transient, match="behind: it does not show block 21 of"):
        drain([stream], store)
    assert set(store.covered(stream.keys).values()) == {((0, 20),)}
    whole.spoils = []
    drain([history([Tiny("other", ledger)], store)], store)
    assert is_whole(store, connection, stream, ledger)


@pytest.mark.parametrize("at_once", [1, None])
def test_a_provider_on_another_branch_is_not_believed(store, connection, at_once):
    """It shows another last block than the one that was noted before anything was read."""
    ledger = some_ledger()
    elsewhere = ledger.reorganised(20, 39, Record(25, ALICE, BOB, 666))
    providers = [
        Tiny("one", ledger, at_once),
        Tiny("astray", elsewhere, at_once),
        Tiny("two", ledger, at_once),
    ]
    providers[0].spoils = [raising(Transient("away"), 0)] * 9
    stream = history(providers, store)
    drain([stream], store)
    assert is_whole(store, connection, stream, ledger)
    assert providers[1].questions == [], "it was not even asked"
    (state,) = [one for one in stream.chain.providers.states() if one.provider == "astray"]
    assert "shows another block 39" in state.text


def test_a_provider_that_changes_branch_while_it_answers_is_not_believed(store, connection):
    """It was where we are when it was asked: above the final blocks that is looked at before and after."""
    ledger = some_ledger()
    astray = Tiny("astray", ledger)

    def strays(tiny, question):
        tiny.ledger = ledger.reorganised(20, 39, Record(25, ALICE, BOB, 666))
        return tiny.right(question)

    astray.spoils = [strays]
    providers = [astray, Tiny("two", ledger)]
    stream = history(providers, store, finality=Tag(tag="finalized"), follow_head=True)
    drain([stream], store)
    assert is_whole(store, connection, stream, ledger)


@pytest.mark.parametrize("kinds", list(itertools.product([1, None], repeat=2)), ids=str)
def test_a_doubt_is_healed_by_another_provider(store, connection, kinds):
    """Its own rows are not even stored then."""
    ledger = some_ledger()
    providers = [
        Tiny("unsure", ledger, kinds[0], spoils=[doubtful] * 9),
        Tiny("sure", ledger, kinds[1], width=6),
    ]
    stream = history(providers, store)
    assert not drain([stream], store).unproved
    assert is_whole(store, connection, stream, ledger)
    assert {by for *_, by in store.covered_by(stream.keys)} == {"sure"}


@pytest.mark.parametrize(("accounts", "asks_explorer"), [(MOST_ASKED, True), (MOST_ASKED + 1, False)])
def test_a_doubtful_block_is_asked_of_nodes_first_and_of_explorers_for_some_accounts_only(
    store, accounts, asks_explorer
):
    """An explorer wants a question for each account, and nodes may doubt many blocks."""
    ledger = some_ledger()
    subjects = tuple(f"0x{number:040x}" for number in range(1, accounts + 1))
    explorer = Tiny("explorer", ledger, 1)
    other = Tiny("other", ledger, spoils=[doubtful])
    stream = history([Tiny("node", ledger, spoils=[doubtful]), explorer, other], store, subjects=subjects)
    unproved = drain([stream], store).unproved
    assert len(other.questions) == 1
    assert (len(explorer.questions), bool(unproved)) == (accounts if asks_explorer else 0, not asks_explorer)


def test_a_doubt_that_nobody_heals_stays_a_gap_with_its_reason(store, connection):
    """What was shown is stored; every run asks again, until somebody is sure."""
    ledger = some_ledger()
    providers = [Tiny("one", ledger, 1, spoils=[doubtful] * 99), Tiny("two", ledger, spoils=[doubtful] * 99)]
    stream = history(providers, store)
    for _ in range(2):
        found = drain([stream], store).unproved
        assert {gap.reason for gaps in found.values() for gap in gaps} == {"one: not indexed yet"}
        assert set(store.unproved(stream.keys).values()) == {((0, 39),)}
        assert store.covered(stream.keys) == {}
    shown, whole = stored_ids(connection, TOKEN_TRANSFERS, ledger.chain), ledger.ids(TOKEN_TRANSFERS, WATCHED)
    assert shown
    assert all(ids <= whole[block] for block, ids in shown.items())
    providers[1].spoils = []
    drain([stream], store)
    assert is_whole(store, connection, stream, ledger)


def test_of_a_doubtful_range_only_what_nobody_proves_is_in_doubt(store, connection):
    """And the doubter's rows are not mixed with those that another one has proved."""
    ledger = some_ledger()
    lies = ledger.showing(Record(4, CAROL, ALICE, 666), Record(30, CAROL, ALICE, 666))

    def half(tiny, question):
        yield from (reading for reading in tiny.right(question) if reading.hi < 20)
        raise Transient("away")

    unsure = Tiny("unsure", lies, spoils=[lambda tiny, question: _doubted(tiny.right(question))])
    stream = history([unsure, Tiny("half", ledger, width=10, spoils=[half])], store)
    drain([stream], store)
    assert set(store.covered(stream.keys).values()) == {((0, 19),)}
    assert set(store.unproved(stream.keys).values()) == {((20, 39),)}
    shown = stored_ids(connection, TOKEN_TRANSFERS, ledger.chain)
    assert {b: ids for b, ids in shown.items() if b < 20} == ledger.ids(TOKEN_TRANSFERS, WATCHED, 0, 19)


def _doubted(readings):
    return (Reading(one.lo, one.hi, one.page, doubt="who knows") for one in readings)


def test_a_block_that_is_too_much_for_one_provider_is_asked_of_another(store):
    """Asked in smaller pieces first; nobody is blamed, and what nobody can give is a gap with a reason."""
    ledger = some_ledger()
    heavy = 7

    def too_heavy(tiny, question):
        if question.lo <= heavy <= question.hi:
            raise TooMuch("too large")
        yield from tiny.right(question)

    one = Tiny("one", ledger, spoils=[too_heavy] * 999)
    alone = drain([history([one], store)], store, read_ahead=0)
    assert {(gap.lo, gap.hi) for gaps in alone.unproved.values() for gap in gaps} == {(heavy, heavy)}
    assert not drain([history([one, Tiny("two", ledger)], store)], store, read_ahead=0).unproved


@pytest.mark.parametrize("error", [DatabaseUnavailable("gone"), ZeroDivisionError()])
def test_what_is_not_about_the_provider_is_passed_on(store, error):
    """Nobody else is asked, and nobody is blamed."""
    ledger = some_ledger()
    providers = [Tiny("one", ledger, spoils=[raising(error, 0)]), Tiny("two", ledger)]
    stream = history(providers, store)
    with pytest.raises(type(error)):
        drain([stream], store)
    assert providers[1].questions == []
    assert {state.state for state in stream.chain.providers.states()} == {"closed"}


def test_one_account_that_cannot_be_read_stops_no_other(store, connection):
    """It is named at the end with what was wrong; three of them, and it is the provider that has changed."""
    ledger = some_ledger()

    class Odd(Tiny):
        """Cannot be read about some accounts."""

        odd = (BOB,)

        def read(self, question):
            if question.subjects[0] in self.odd:
                raise SchemaDrift(f"none of 40 records can be read: {question.subjects[0][:5]}")
            return super().read(question)

    one = Odd("one", ledger, 1)
    stream = history([one], store, subjects=(BOB, ALICE, CAROL))
    failed = drain([stream], store).failed
    (drift,) = failed.values()
    assert "1 of the watched addresses cannot be read" in str(drift)
    assert BOB in str(drift)
    assert set(store.covered(stream.keys)) == {stream.key_of(ALICE), stream.key_of(CAROL)}
    other = Tiny("other", ledger)
    both = history([one, other], store, subjects=(BOB, ALICE, CAROL))
    assert not drain([both], store).failed
    assert is_whole(store, connection, both, ledger)
    assert {question.subjects for question in other.questions} == {(BOB,)}


def test_a_node_that_only_stands_in_is_asked_for_a_stretch_at_a_time(store, connection):
    """So that the preferred provider has its turn again."""
    ledger = Ledger.of(2 * STRIDE + 10, *SOME, chain=f"chain{next(NAMES)}")
    preferred, node = Tiny("preferred", ledger, 1), Tiny("node", ledger)
    preferred.spoils = [raising(RateLimited("slow", retry_after=0.1), 0)]
    stream = history([preferred, node], store)
    drain([stream], store)
    assert [(question.lo, question.hi) for question in node.questions] == [(0, STRIDE - 1)]
    assert [question.lo for question in preferred.questions] == [0, STRIDE, STRIDE]
    assert is_whole(store, connection, stream, ledger)


def test_a_new_account_makes_exactly_its_own_blocks_wanted(store, connection):
    """And what is covered of the others is not asked again, whichever kind of provider is asked."""
    ledger = some_ledger()
    for at_once in (1, None):
        ledger = some_ledger()
        provider = Tiny("one", ledger, at_once)
        drain([history([provider], store, subjects=(ALICE,))], store)
        provider.questions.clear()
        both = history([provider], store)
        drain([both], store)
        assert {question.subjects for question in provider.questions} == {(BOB,)}
        assert is_whole(store, connection, both, ledger)


def test_every_token_is_one_subject(store, connection):
    """Whole tokens: rows of all of them under one key."""
    records = [
        Record(block, ALICE, BOB, 1, ERC20_TRANSFERS, token) for block in (1, 2, 30) for token in (USD, EUR)
    ]
    ledger = Ledger.of(39, *records, chain=f"chain{next(NAMES)}")
    stream = history([Tiny("node", ledger, width=4)], store, kind=ERC20_TRANSFERS, subjects=(ALL,))
    drain([stream], store)
    assert stream.keys == (f"evm/erc20_transfers/{ledger.chain}/*",)
    assert is_whole(store, connection, stream, ledger)


def test_a_bad_record_of_a_block_is_the_letter_of_those_whom_it_names(store, connection):
    """Of nobody that is watched: perhaps of everybody."""
    ledger = some_ledger()

    class Bad(Tiny):
        """Gives two records that cannot be read."""

        def right(self, question):
            for reading in super().right(question):
                bad = [
                    (0, Rejected(f'{{"from":"{BOB}"}}'.encode(), "odd", 5)),
                    (0, Rejected(b"{}", "empty", 6)),
                ]
                yield Reading(reading.lo, reading.hi, Page(reading.page.good, bad, is_last=True))

    stream = history([Bad("node", ledger)], store)
    drain([stream], store)
    letters = connection.execute("SELECT stream, reason FROM ops.dead_letters ORDER BY 2, 1").fetchall()
    assert letters == [
        (stream.key_of(ALICE), "empty"),
        (stream.key_of(BOB), "empty"),
        (stream.key_of(BOB), "odd"),
    ]


def test_marks_are_what_a_reading_says(store):
    """Level and name of the evidence."""
    stream = history([Tiny("node", some_ledger(), level="receipts", width=20)], store)
    marks = [batch.mark for batch in stream.read(nothing_done(stream))]
    evidence = Evidence("receipts", "node")
    assert marks == [Covered(0, 19, evidence), Covered(20, 39, evidence)]
