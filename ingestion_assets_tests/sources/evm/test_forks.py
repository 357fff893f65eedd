"""Reorganisations: whatever their depth, the tables are those of the chain as it is now, and what is not touched is not read again."""

import itertools
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.errors import Misconfigured, Transient
from ingestion_assets.sources.evm.config import Depth, Tag
from ingestion_assets.sources.evm.forks import KEPT
from ingestion_assets.sources.evm.records import TOKEN_TRANSFERS, TRANSACTIONS
from ingestion_assets.sources.evm.streams import History
from ingestion_assets_tests.effort import examples
from ingestion_assets_tests.sources.evm.reading import ALL_DAYS, chain_of
from ingestion_assets_tests.sources.evm.tiny import ALICE, BOB, CAROL, Ledger, Record, Tiny, stored_ids

NAMES = itertools.count()
TOP = 300
DEPTH = 20  # of finality
WATCHED = (ALICE, BOB)


def busy(lo, hi, value=1):
    """A transfer in each block, in turns of one watched account, the other, both, and none."""
    parties = [(ALICE, CAROL), (CAROL, BOB), (ALICE, BOB), (CAROL, CAROL)]
    return [Record(block, *parties[block % 4], value) for block in range(lo, hi + 1)]


def busy_ledger(top=TOP):
    """A chain of its own for each example."""
    return Ledger.of(top, *busy(0, top), chain=f"chain{next(NAMES)}")


def history(providers, store, *, follow_head=False, finality=None, subjects=WATCHED):
    """A run's idea of the chain: what is final is looked up anew."""
    chain = chain_of(
        providers,
        store,
        name=providers[0].ledger.chain,
        finality=finality or Depth(depth=DEPTH),
        follow_head=follow_head,
    )
    return History(chain, TOKEN_TRANSFERS, subjects, ALL_DAYS)


def run(providers, store, **options):
    """Read all that is wanted, and name the stream."""
    stream = history(providers, store, **options)
    assert not drain([stream], store, read_ahead=0).unproved
    return stream


def reorgs(connection, ledger):
    """What is remembered of reorganisations."""
    query = "SELECT fork, head, old_hash, new_hash, streams FROM ops.reorgs WHERE chain = %s ORDER BY id"
    return connection.execute(query, [ledger.chain]).fetchall()


def notes(connection, ledger):
    """The blocks that are noted."""
    query = "SELECT number FROM ops.headers WHERE chain = %s ORDER BY 1"
    return [number for (number,) in connection.execute(query, [ledger.chain])]


def shows(connection, ledger, last):
    """Whether the table is that of the chain up to a block."""
    return stored_ids(connection, TOKEN_TRANSFERS, ledger.chain) == ledger.ids(
        TOKEN_TRANSFERS, WATCHED, 0, last
    )


@pytest.mark.parametrize("at_once", [1, None])
@pytest.mark.parametrize("depth", [1, 2, 5, 19, 20])
def test_a_reorganisation_above_the_final_blocks_touches_nothing_final(store, connection, depth, at_once):
    """Where only final blocks are read it goes unnoticed."""
    provider = Tiny("one", busy_ledger(), at_once)
    run([provider], store)
    provider.ledger = provider.ledger.reorganised(TOP - depth, TOP, *busy(TOP - depth + 1, TOP, 2))
    provider.questions.clear()
    run([provider], store)
    assert provider.questions == []
    assert reorgs(connection, provider.ledger) == []
    assert shows(connection, provider.ledger, TOP - DEPTH)


@pytest.mark.parametrize("at_once", [1, None])
@pytest.mark.parametrize("depth", [21, 22, 40, 84, 85, 150, 299])
def test_a_reorganisation_deeper_than_the_rule_is_found_and_repaired(store, connection, depth, at_once):
    """The rows of the old branch are gone, the new ones are there, the event is told, and what was before it stays."""
    provider = Tiny("one", busy_ledger(), at_once)
    old = provider.ledger
    stream = run([provider], store)
    fork = TOP - depth
    provider.ledger = old.reorganised(fork, TOP + 5, *busy(fork + 1, TOP + 5, 2))
    provider.questions.clear()
    run([provider], store)
    last = TOP + 5 - DEPTH
    assert shows(connection, provider.ledger, last)
    assert set(store.covered(stream.keys).values()) == {((0, last),)}
    ((found, head, was, now, streams),) = reorgs(connection, provider.ledger)
    assert found <= fork, "never above the fork"
    assert found >= (fork if fork in {TOP - DEPTH, TOP - DEPTH - 64} else 0 if fork >= 216 else -1)
    assert (head, streams) == (TOP - DEPTH, 2)
    assert (was, now) == (old.header(head).hash, provider.ledger.header(head).hash)
    assert min(question.lo for question in provider.questions) == found + 1
    provider.questions.clear()
    run([provider], store)
    assert provider.questions == []
    assert len(reorgs(connection, provider.ledger)) == 1


@pytest.mark.parametrize("at_once", [1, None])
@pytest.mark.parametrize("depth", [1, 2, 5, 19, 20, 25])
def test_where_the_head_is_followed_exactly_what_was_taken_back_is_replaced(
    store, connection, depth, at_once
):
    """Every unfinal block is noted, so the fork is found to the block."""
    provider = Tiny("one", busy_ledger(), at_once)
    stream = run([provider], store, follow_head=True)
    assert shows(connection, provider.ledger, TOP)
    fork = TOP - depth
    provider.ledger = provider.ledger.reorganised(fork, TOP + 1, *busy(fork + 1, TOP + 1, 2))
    provider.questions.clear()
    run([provider], store, follow_head=True)
    assert shows(connection, provider.ledger, TOP + 1)
    assert set(store.covered(stream.keys).values()) == {((0, TOP + 1),)}
    ((found, head, *_),) = reorgs(connection, provider.ledger)
    assert head == TOP
    assert found == fork if depth < DEPTH else found < fork
    assert min(question.lo for question in provider.questions) == found + 1


def test_what_is_not_in_the_reorganised_branch_keeps_its_rows_of_others(store, connection):
    """Rows of accounts that are not watched any more, of other kinds and chains: only those read again are replaced."""
    provider, other = Tiny("one", busy_ledger()), Tiny("other", busy_ledger())
    run([provider], store, follow_head=True)
    run([other], store, follow_head=True)
    provider.ledger = provider.ledger.reorganised(TOP - 3, TOP, *busy(TOP - 2, TOP, 2))
    run([provider], store, follow_head=True)
    assert shows(connection, provider.ledger, TOP)
    assert shows(connection, other.ledger, TOP)
    assert reorgs(connection, other.ledger) == []
    other.questions.clear()
    run([other], store, follow_head=True)
    assert other.questions == []


@examples(15)
@given(
    steps=st.lists(st.tuples(st.integers(0, 45), st.integers(0, 6)), min_size=1, max_size=5),
    at_once=st.sampled_from([1, None]),
    width=st.sampled_from([5, 1_000]),
    depth=st.sampled_from([0, 5, 20]),
    follow_head=st.booleans(),
)
def test_after_any_series_of_reorganisations_the_tables_are_those_of_the_chain(  # noqa: PLR0917
    store, connection, steps, at_once, width, depth, follow_head
):
    """Deep and shallow, one after another, the chain growing meanwhile: after each run, exactly the chain as it is."""
    provider = Tiny("one", busy_ledger(60), at_once, width)
    options = {"finality": Depth(depth=depth), "follow_head": follow_head}
    run([provider], store, **options)
    for number, (back, more) in enumerate(steps, 2):
        head = provider.ledger.head
        new = head + max(more, 1)
        provider.ledger = provider.ledger.reorganised(head - back, new, *busy(head - back + 1, new, number))
        stream = run([provider], store, **options)
        last = new if follow_head else new - depth
        assert shows(connection, provider.ledger, last)
        assert set(store.covered(stream.keys).values()) == {((0, last),)}


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("follow_head", [False, True])
def test_a_kill_between_any_two_statements_leaves_what_the_next_run_completes(
    store, connection, follow_head, monkeypatch
):
    """Whatever was committed: the tables of the next run are those of a run that nobody killed."""
    for point in itertools.count():
        provider = Tiny("one", busy_ledger(80), width=30)
        options = {"finality": Depth(depth=5), "follow_head": follow_head}
        run([provider], store, **options)
        provider.ledger = provider.ledger.reorganised(60, 85, *busy(61, 85, 2))
        budget = itertools.count()
        ended = _killed_at(store, budget, point, lambda: run([provider], store, **options), monkeypatch)  # noqa: B023
        stream = run([provider], store, **options)
        last = 85 if follow_head else 80
        assert shows(connection, provider.ledger, last), f"killed at {point}"
        assert set(store.covered(stream.keys).values()) == {((0, last),)}
        assert len(reorgs(connection, provider.ledger)) == 1
        if ended:
            break
    assert point > 10


def _killed_at(store, budget, point, work, monkeypatch):
    """Do the work, and die before the n-th transaction, or inside of it before it commits; True: it ended before that."""
    whole = store.transaction

    def transaction(do):
        number = next(budget)
        if number == point // 2 and point % 2 == 0:
            raise Killed

        def and_die(connection):
            found = do(connection)
            if number == point // 2:
                raise Killed
            return found

        return whole(and_die)

    with monkeypatch.context() as patched:
        patched.setattr(store, "transaction", transaction)
        try:
            work()
        except Killed:
            return False
    return True


def test_a_provider_on_another_branch_alone_is_not_believed(store, connection):
    """As long as a second one still has our block: it is the first one that is wrong."""
    ledger = busy_ledger()
    run([Tiny("one", ledger), Tiny("two", ledger)], store, follow_head=True)
    astray = Tiny("one", ledger.reorganised(TOP - 9, TOP, *busy(TOP - 8, TOP, 2)))
    stream = run([astray, Tiny("two", ledger)], store, follow_head=True)
    assert reorgs(connection, ledger) == []
    assert shows(connection, ledger, TOP)
    (state,) = [one for one in stream.chain.providers.states() if one.provider == "one"]
    assert f"shows another block {TOP} than two and we do" in state.text


def test_two_providers_on_another_branch_are_believed(store, connection):
    """The third one is behind its time."""
    ledger = busy_ledger()
    names = ("one", "two", "three")
    run([Tiny(name, ledger) for name in names], store, follow_head=True)
    new = ledger.reorganised(TOP - 9, TOP + 1, *busy(TOP - 8, TOP + 1, 2))
    run([Tiny("one", new), Tiny("two", new), Tiny("three", ledger)], store, follow_head=True)
    assert [fork for fork, *_ in reorgs(connection, ledger)] == [TOP - 9]
    assert shows(connection, new, TOP + 1)


@pytest.mark.parametrize("back", [1, 30, 299])
@pytest.mark.parametrize("number", [1, 2])
def test_a_provider_that_is_only_behind_is_no_reorganisation(store, connection, back, number):
    """Nothing is taken back, nothing is told, nothing is asked again when it has caught up."""
    ledger = busy_ledger()
    stream = run([Tiny("one", ledger), Tiny("two", ledger)][:number], store, follow_head=True)
    behind = Ledger(ledger.records, ledger.salts[:-back], ledger.chain)
    providers = [Tiny("one", behind), Tiny("two", behind)][:number]
    run(providers, store, follow_head=True)
    for provider in providers:
        assert provider.questions == []
        provider.ledger = ledger
    run(providers, store, follow_head=True)
    assert [provider.questions for provider in providers] == [[]] * number
    assert reorgs(connection, ledger) == []
    assert set(store.covered(stream.keys).values()) == {((0, TOP),)}


def test_a_shorter_branch_is_found_as_soon_as_it_contradicts(store, connection):
    """A chain that was set back and goes on from there."""
    provider = Tiny("one", busy_ledger())
    run([provider], store, follow_head=True)
    provider.ledger = provider.ledger.reorganised(TOP - 9, TOP - 5, *busy(TOP - 8, TOP - 5, 2))
    run([provider], store, follow_head=True)
    ((fork, head, _, now, _),) = reorgs(connection, provider.ledger)
    assert (fork, head, now) == (TOP - 9, TOP, None)
    provider.ledger = provider.ledger.grown(TOP + 2, *busy(TOP - 4, TOP + 2, 3))
    stream = run([provider], store, follow_head=True)
    assert shows(connection, provider.ledger, TOP + 2)
    assert set(store.covered(stream.keys).values()) == {((0, TOP + 2),)}


@pytest.mark.parametrize("number", [1, 2])
def test_providers_that_show_none_of_our_blocks_are_another_chain(store, connection, number):
    """No reorganisation is as deep; nothing is deleted, and the message says what to change."""
    ledger = busy_ledger(1_200)
    stream = run([Tiny("one", ledger)], store)
    wrong = Ledger.of(1_400, *busy(0, 1_400, 9), chain=ledger.chain)
    wrong.salts = [7] * 1_401
    with pytest.raises(
        Misconfigured, match=rf"{ledger.chain}: its providers show none of the .* they serve another chain"
    ):
        run([Tiny(name, wrong) for name in ("one", "two")[:number]], store)
    assert shows(connection, ledger, 1_200 - DEPTH)
    assert set(store.covered(stream.keys).values()) == {((0, 1_200 - DEPTH),)}
    assert reorgs(connection, ledger) == []


def test_a_whole_short_chain_that_began_anew_is_read_anew(store, connection):
    """A few blocks of a development chain: it is cheaper to read them than to ask a person."""
    provider = Tiny("one", busy_ledger(100))
    run([provider], store)
    provider.ledger = Ledger(busy(0, 120, 2), [5] * 121, provider.ledger.chain)
    run([provider], store)
    assert [fork for fork, *_ in reorgs(connection, provider.ledger)] == [-1]
    assert shows(connection, provider.ledger, 100)


def test_unfinal_blocks_are_read_and_the_rest_when_they_are_there(store, connection):
    """By tag, and with every look only what is new."""
    provider = Tiny("one", busy_ledger())
    options = {"finality": Tag(tag="finalized"), "follow_head": True}
    run([provider], store, **options)
    assert shows(connection, provider.ledger, TOP)
    assert set(range(TOP - 9, TOP + 1)) <= set(notes(connection, provider.ledger))
    provider.questions.clear()
    provider.ledger = provider.ledger.grown(TOP + 4, *busy(TOP + 1, TOP + 4))
    run([provider], store, **options)
    assert [(question.lo, question.hi) for question in provider.questions] == [(TOP + 1, TOP + 4)]
    assert shows(connection, provider.ledger, TOP + 4)


def test_what_is_noted_stays_little_however_often_is_looked(store, connection):
    """One note for each run, thinned out when it is old; with an unfinal range of thousands, the newest of it."""
    provider = Tiny("one", Ledger.of(5_000, chain=f"chain{next(NAMES)}"))
    options = {"finality": Depth(depth=3_000), "follow_head": True}
    run([provider], store, **options)
    assert len(notes(connection, provider.ledger)) <= KEPT + 5
    provider.headers.clear()
    run([provider], store, **options)
    assert len(provider.headers) <= 5, "nothing new: is the newest still there?"
    for _ in range(30):
        provider.ledger = provider.ledger.grown(provider.ledger.head + 40)
        provider.headers.clear()
        run([provider], store, **options)
        assert len(provider.headers) <= 40 + 5
    assert len(notes(connection, provider.ledger)) <= 2 * KEPT


def test_a_look_at_a_chain_in_which_nothing_is_new_asks_for_one_header(store):
    """The newest noted block."""
    provider = Tiny("one", busy_ledger())
    run([provider], store)
    provider.headers.clear()
    run([provider], store)
    assert provider.headers == [TOP - DEPTH]


def test_a_reorganisation_between_two_headers_is_asked_again(store, connection):
    """While the unfinal blocks are noted, the chain changes under our feet: nothing is built upon a mixture."""
    provider = Tiny("one", busy_ledger())
    new = provider.ledger.reorganised(TOP - 9, TOP, *busy(TOP - 8, TOP, 2))
    old_header = provider.header

    def header(block):
        if block == TOP - 4:
            provider.ledger = new
        return old_header(block)

    provider.header = header
    with pytest.raises(Transient, match="was reorganised while block"):
        run([provider], store, follow_head=True)
    provider.header = old_header
    run([provider], store, follow_head=True)
    assert shows(connection, new, TOP)


def test_dead_letters_and_doubts_of_the_old_branch_are_gone(store, connection):
    """They were about blocks that are no more."""
    provider = Tiny("one", busy_ledger())
    stream = run([provider], store, follow_head=True)
    key = stream.keys[0]
    for lo, hi in ((10, 12), (TOP - 20, TOP), (TOP - 2, TOP)):
        connection.execute(
            "INSERT INTO ops.unproved (stream, lo, hi, reason) VALUES (%s, %s, %s, '')", [key, lo, hi]
        )
        connection.execute(
            "INSERT INTO ops.dead_letters (stream, lo, hi, reason, raw) VALUES (%s, %s, %s, '', '')",
            [key, lo, hi],
        )
    provider.ledger = provider.ledger.reorganised(TOP - 9, TOP, *busy(TOP - 8, TOP, 2))
    with suppress(Transient):
        history([provider], store, follow_head=True).wanted()
    left = connection.execute(
        "SELECT lo, hi FROM ops.unproved WHERE stream = %s ORDER BY 1", [key]
    ).fetchall()
    assert left == [(10, 12), (TOP - 20, TOP - 9)]
    query = "SELECT lo FROM ops.dead_letters WHERE stream = %s AND settled_at IS NULL ORDER BY 1"
    assert connection.execute(query, [key]).fetchall() == [(10,), (TOP - 20,)]


def test_every_kind_and_stream_of_the_chain_is_read_again(store, connection):
    """The keys are found in the coverage, so those that this run does not read are wanted again as well."""
    provider = Tiny("one", busy_ledger())
    run([provider], store, follow_head=True)
    key = f"evm/{TRANSACTIONS.name}/{provider.ledger.chain}/{CAROL}"
    connection.execute(
        "INSERT INTO ops.coverage (stream, lo, hi, evidence, provider, records) VALUES (%s, 0, %s, 'stated', 'one', 0)",
        [key, TOP],
    )
    provider.ledger = provider.ledger.reorganised(TOP - 9, TOP, *busy(TOP - 8, TOP, 2))
    run([provider], store, follow_head=True)
    assert store.covered([key]) == {key: ((0, TOP - 9),)}
    assert [streams for *_, streams in reorgs(connection, provider.ledger)] == [3]
