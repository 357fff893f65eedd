"""Proofs: every row that was left out or invented is found, mended where somebody shows it, and taken back where nobody does."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion_assets.engine.coverage import intersection, union
from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.errors import DatabaseUnavailable, Transient, Unsupported
from ingestion_assets.engine.stream import Batch, Covered, Evidence, Unproved
from ingestion_assets.orchestration.proving import prove
from ingestion_assets.sources.evm.proofs import proofs
from ingestion_assets.sources.evm.provider import ALL, Question, Reading, State
from ingestion_assets.sources.evm.records import (
    ERC20_TRANSFERS,
    INTERNAL_TRANSACTIONS,
    TOKEN_TRANSFERS,
    TRANSACTIONS,
    Page,
)
from ingestion_assets.sources.evm.streams import History
from ingestion_assets_tests.effort import examples
from ingestion_assets_tests.sources.evm.reading import ALL_DAYS, chain_of
from ingestion_assets_tests.sources.evm.tiny import (
    ALICE,
    BOB,
    CAROL,
    EUR,
    USD,
    Ledger,
    Record,
    Tiny,
    TinyNode,
    stored_ids,
)

NAMES = itertools.count()
TOP = 39
WATCHED = (ALICE, BOB)


def records_of(kind, *tokens):
    """A few of a kind: in and out, between both, to oneself, equal ones, the first and the last block."""
    moves = [
        (1, ALICE, CAROL, 5), (3, ALICE, BOB, 7), (4, CAROL, BOB, 1), (9, BOB, CAROL, 2), (17, CAROL, ALICE, 3),
        (29, BOB, ALICE, 9), (30, ALICE, BOB, 9), (39, ALICE, ALICE, 1), (39, BOB, CAROL, 4),
    ]  # fmt: skip
    return [
        Record(block, sender, to, value, kind, token, number)
        for number, (block, sender, to, value) in enumerate(moves)
        for token in (tokens or (USD,))
    ]


def ledger_of(*kinds, tokens=(USD,)):
    """A chain of its own for each example."""
    found = [
        record for kind in kinds for record in records_of(kind, *(tokens if kind is TOKEN_TRANSFERS else ()))
    ]
    return Ledger.of(TOP, *found, chain=f"chain{next(NAMES)}")


def history(providers, store, kind=TOKEN_TRANSFERS, subjects=WATCHED):
    """What is watched."""
    return History(chain_of(providers, store, name=providers[0].ledger.chain), kind, subjects, ALL_DAYS)


def read(provider, store, *kinds, subjects=WATCHED):
    """Read all of it from one provider."""
    for kind in kinds:
        assert not drain([history([provider], store, kind, subjects)], store).unproved


def proving(names, providers, store, kind=TOKEN_TRANSFERS, subjects=WATCHED):
    """Make these proofs of what is stored."""
    wanted = proofs(history(providers, store, kind, subjects), names, store)
    return prove(wanted, store, sleep=lambda _seconds: None)


def levels(store, kind, ledger, subjects=WATCHED):
    """The evidence of each subject's blocks."""
    keys = [f"evm/{kind.name}/{ledger.chain}/{subject}" for subject in subjects]
    found = {}
    for key, lo, hi, level, _ in store.covered_by(keys):
        found.setdefault(key.rsplit("/", 1)[1], {}).setdefault(level, []).append((lo, hi))
    return {subject: {level: union(ranges) for level, ranges in by.items()} for subject, by in found.items()}


def lies(store, ledger):
    """How often each provider was found wrong, and what was said of it."""
    query = "SELECT provider, lies, last_lie FROM ops.providers WHERE scope = %s AND lies > 0"
    found = store.transaction(lambda c: c.execute(query, [ledger.chain]).fetchall())
    return {provider: (count, said) for provider, count, said in found}


def holds(connection, kind, ledger, subjects=WATCHED):
    """Whether the table is the ledger's."""
    return stored_ids(connection, kind, ledger.chain) == ledger.ids(kind, subjects)


ALL_OF_IT = ((0, TOP),)


# counted


@pytest.mark.parametrize("kinds", list(itertools.product([1, None], repeat=2)), ids=str)
def test_what_two_show_alike_is_counted_and_not_asked_again(store, kinds):
    """Evidence of both; a second proof asks nobody about records."""
    ledger = ledger_of(TOKEN_TRANSFERS)
    one, two = Tiny("one", ledger, kinds[0]), Tiny("two", ledger, kinds[1], width=7)
    read(one, store, TOKEN_TRANSFERS)
    found = proving(["counted"], [one, two], store)
    assert (found.contradictions, found.failed, found.mended_rows) == ([], [], 0)
    assert levels(store, TOKEN_TRANSFERS, ledger) == {who: {"counted": ALL_OF_IT} for who in WATCHED}
    assert {by for *_, by in store.covered_by(history([one], store).keys)} == {"one+two"}
    one.questions.clear()
    two.questions.clear()
    proving(["counted"], [one, two], store)
    assert (one.questions, two.questions) == ([], [])
    assert lies(store, ledger) == {}


@pytest.mark.parametrize(
    "kind", [TRANSACTIONS, INTERNAL_TRANSACTIONS, TOKEN_TRANSFERS], ids=lambda kind: kind.name
)
@pytest.mark.parametrize("number", range(9))
@pytest.mark.parametrize("lie", ["left out", "invented"])
def test_every_row_that_one_leaves_out_or_invents_is_found_and_mended(store, connection, kind, number, lie):
    """By two that agree, once the liar shows the truth or a third one is there; and the liar is named."""
    ledger = ledger_of(kind)
    record = ledger.records[number]
    wrong = (
        ledger.without(record)
        if lie == "left out"
        else ledger.showing(Record(20, CAROL, BOB, 666, kind, number=77))
    )
    liar, one, two = Tiny("liar", wrong), Tiny("one", ledger), Tiny("two", ledger, 1)
    read(liar, store, kind)
    assert not holds(connection, kind, ledger)
    liar.ledger = ledger
    found = proving(["counted"], [liar, one, two], store, kind)
    assert (found.contradictions, found.failed) == ([], [])
    assert holds(connection, kind, ledger)
    assert levels(store, kind, ledger) == {who: {"counted": ALL_OF_IT} for who in WATCHED}
    ((name, (count, said)),) = lies(store, ledger).items()
    assert (name, count) == ("liar", 1)
    how = "1 {} left out and 0 invented" if lie == "left out" else "0 {} left out and 1 invented"
    assert how.format(kind.name) in said


def test_a_liar_that_goes_on_lying_loses_against_two(store, connection):
    """They show more than it."""
    ledger = ledger_of(TOKEN_TRANSFERS)
    liar = Tiny("liar", ledger.without(ledger.records[3]))
    read(liar, store, TOKEN_TRANSFERS)
    found = proving(["counted"], [liar, Tiny("one", ledger), Tiny("two", ledger)], store)
    assert not found.contradictions
    assert holds(connection, TOKEN_TRANSFERS, ledger)
    assert set(lies(store, ledger)) == {"liar"}


def test_a_node_with_proof_is_believed_against_all(store, connection):
    """Its header says so; two lists may lack the same line."""
    ledger = ledger_of(TOKEN_TRANSFERS)
    wrong = ledger.without(ledger.records[3])
    lists = [Tiny("one", wrong, 1), Tiny("two", wrong, 1)]
    read(lists[0], store, TOKEN_TRANSFERS)
    proving(["counted"], [*lists, Tiny("node", ledger, level="header")], store)
    assert holds(connection, TOKEN_TRANSFERS, ledger)
    assert levels(store, TOKEN_TRANSFERS, ledger) == {who: {"header": ALL_OF_IT} for who in WATCHED}
    assert set(lies(store, ledger)) == {"one"}


@pytest.mark.parametrize("lie", ["left out", "invented"])
def test_what_nobody_settles_is_taken_out_of_the_coverage_and_named(store, lie):
    """One says this, one says that: exactly the block is a gap, for exactly those whom it concerns."""
    ledger = ledger_of(TOKEN_TRANSFERS)
    record = Record(4, CAROL, BOB, 1, TOKEN_TRANSFERS, USD, 2)
    assert record in ledger.records
    wrong = (
        ledger.without(record) if lie == "left out" else ledger.showing(Record(4, CAROL, BOB, 666, number=77))
    )
    one, two = Tiny("one", wrong), Tiny("two", ledger)
    read(one, store, TOKEN_TRANSFERS)
    found = proving(["counted"], [one, two], store)
    (reason,) = found.contradictions
    assert "block 4: one gave" in reason
    assert reason.startswith(f"evm/token_transfers/{ledger.chain}/{BOB}: ")
    assert levels(store, TOKEN_TRANSFERS, ledger) == {
        ALICE: {"counted": ALL_OF_IT},
        BOB: {"counted": ((0, 3), (5, TOP))},
    }
    assert store.unproved(history([one], store).keys) == {
        f"evm/token_transfers/{ledger.chain}/{BOB}": ((4, 4),)
    }
    assert lies(store, ledger) == {}


@examples(15)
@given(
    left_out=st.sets(st.integers(0, 8)),
    invented=st.sets(st.integers(0, TOP), max_size=3),
    kinds=st.tuples(*[st.sampled_from([1, None])] * 3),
    width=st.sampled_from([5, 1_000]),
)
def test_any_lies_are_mended_by_two_others_or_taken_back(store, connection, left_out, invented, kinds, width):  # noqa: PLR0917
    """After the proof, what is covered is the truth; what is not, is a gap with a reason."""
    ledger = ledger_of(TOKEN_TRANSFERS)
    wrong = ledger.without(*(ledger.records[number] for number in left_out)).showing(
        *(Record(block, CAROL, ALICE, 666, number=77) for block in invented)
    )
    liar, one, two = (
        Tiny(name, shown, at_once, width)
        for name, shown, at_once in zip(("liar", "one", "two"), (wrong, ledger, ledger), kinds, strict=True)
    )
    read(liar, store, TOKEN_TRANSFERS)
    found = proving(["counted"], [liar, one, two], store)
    assert not found.failed
    keys = history([one], store).keys
    for key, ranges in store.covered(keys).items():
        subject = key.rsplit("/", 1)[1]
        shown = stored_ids(connection, TOKEN_TRANSFERS, ledger.chain)
        truth = ledger.ids(TOKEN_TRANSFERS, (subject,))
        lie = wrong.ids(TOKEN_TRANSFERS, (subject,))
        for lo, hi in ranges:
            for block in range(lo, hi + 1):
                assert truth.get(block, set()) <= shown.get(block, set())
                assert not (lie.get(block, set()) - truth.get(block, set())) & shown.get(block, set())
        gaps = store.unproved([key]).get(key, ())
        assert union([*ranges, *gaps]) == ALL_OF_IT
        assert not intersection(ranges, gaps)
    if not invented:
        assert holds(connection, TOKEN_TRANSFERS, ledger)
        assert not found.contradictions


def test_a_witness_that_is_behind_or_unsure_or_away_proves_nothing(store):
    """What is stored keeps the evidence that it has."""
    ledger = ledger_of(TOKEN_TRANSFERS)
    one = Tiny("one", ledger)
    read(one, store, TOKEN_TRANSFERS)

    def unsure(tiny, question):
        for reading in tiny.right(question):
            yield Reading(reading.lo, reading.hi, Page.empty(), doubt="not indexed")

    def away(_tiny, _question):
        raise Transient("away")

    found = proving(["counted"], [one, Tiny("two", ledger, spoils=[unsure])], store)
    assert (found.contradictions, found.failed) == ([], [])
    assert found.findings == ["two cannot tell about 0–39: not indexed"]
    found = proving(["counted"], [one, Tiny("two", ledger, spoils=[away] * 9)], store)
    (said,) = found.failed
    assert "away" in said
    assert levels(store, TOKEN_TRANSFERS, ledger) == {who: {"stated": ALL_OF_IT} for who in WATCHED}


def test_a_witness_that_fails_in_the_middle_leaves_the_rest_to_another(store):
    """Nothing is counted twice."""
    ledger = ledger_of(TOKEN_TRANSFERS)
    one = Tiny("one", ledger)
    read(one, store, TOKEN_TRANSFERS)

    def half(tiny, question):
        yield next(tiny.right(question))
        raise Transient("away")

    two, three = Tiny("two", ledger, width=10, spoils=[half]), Tiny("three", ledger)
    assert not proving(["counted"], [one, two, three], store).failed
    assert levels(store, TOKEN_TRANSFERS, ledger) == {who: {"counted": ALL_OF_IT} for who in WATCHED}
    assert min(question.lo for question in three.questions) == 10


def test_a_second_provider_of_another_history_altogether_is_not_settled_block_by_block(store):
    """Hundreds of differences: all of it is in doubt at once, with one reason."""
    busy = [Record(block, ALICE, CAROL, 1) for block in range(200)]
    ledger = Ledger.of(199, *busy, chain=f"chain{next(NAMES)}")
    one, two = Tiny("one", ledger), Tiny("two", ledger.without(*busy))
    read(one, store, TOKEN_TRANSFERS)
    two.questions.clear()
    found = proving(["counted"], [one, two], store)
    assert all(
        "one and two differ in 200 blocks, the first of them 0" in reason for reason in found.contradictions
    )
    assert store.covered(history([one], store).keys) == {}
    assert len(two.questions) == 1


def test_every_token_is_counted_as_one(store, connection):
    """The subject that stands for all of them."""
    records = [
        Record(block, CAROL, BOB, 1, ERC20_TRANSFERS, token) for block in (1, 2, 30) for token in (USD, EUR)
    ]
    ledger = Ledger.of(TOP, *records, chain=f"chain{next(NAMES)}")
    liar = Tiny("liar", ledger.without(records[3]))
    read(liar, store, ERC20_TRANSFERS, subjects=(ALL,))
    proving(["counted"], [liar, Tiny("node", ledger, level="header")], store, ERC20_TRANSFERS, (ALL,))
    assert holds(connection, ERC20_TRANSFERS, ledger, (ALL,))
    assert levels(store, ERC20_TRANSFERS, ledger, (ALL,)) == {ALL: {"header": ALL_OF_IT}}


# nonce and balance

PROOF_OF = {TRANSACTIONS: "nonce", INTERNAL_TRANSACTIONS: "balance", TOKEN_TRANSFERS: "balance"}


def needed(kind):
    """The kinds that have to be read before this one's proof can be made."""
    return (TRANSACTIONS, INTERNAL_TRANSACTIONS) if kind is INTERNAL_TRANSACTIONS else (kind,)


@pytest.mark.parametrize("kind", PROOF_OF, ids=lambda kind: kind.name)
def test_what_explains_the_state_is_proved_and_not_asked_again(store, kind):
    """By the node's word on two blocks of each account; a second proof asks for nothing."""
    ledger = ledger_of(*needed(kind), tokens=(USD, EUR))
    listed, node = Tiny("listed", ledger, 1), TinyNode("node", ledger)
    assert isinstance(node, State)
    read(listed, store, *needed(kind))
    found = proving([PROOF_OF[kind]], [listed, node], store, kind)
    assert (found.contradictions, found.failed, found.findings, found.mended_rows) == ([], [], [], 0)
    for one in needed(kind):
        assert levels(store, one, ledger) == {who: {PROOF_OF[kind]: ALL_OF_IT} for who in WATCHED}
    assert len(node.state_questions) <= 2 * len(WATCHED) * (5 if kind is INTERNAL_TRANSACTIONS else 2) * 2
    assert node.questions == []
    node.state_questions.clear()
    proving([PROOF_OF[kind]], [listed, node], store, kind)
    assert node.state_questions == []


@pytest.mark.parametrize("number", range(9))
@pytest.mark.parametrize("kind", PROOF_OF, ids=lambda kind: kind.name)
def test_a_row_that_was_left_out_is_found_by_its_block_and_mended_from_another(
    store, connection, kind, number
):
    """Wherever it lies, the first block and the last included; the one that left it out is named."""
    ledger = ledger_of(*needed(kind), tokens=(USD, EUR))
    record = next(one for one in records_of(kind, USD) if one.number == number)
    wrong = ledger.without(record)
    liar, node = Tiny("liar", wrong, 1), TinyNode("node", ledger)
    read(liar, store, *needed(kind))
    is_seen = {  # by whose figure: what one sends to oneself moves nothing, what comes in has no nonce
        TRANSACTIONS: record.sender in WATCHED,
        INTERNAL_TRANSACTIONS: record.sender != record.to,
        TOKEN_TRANSFERS: record.sender != record.to,
    }[kind]
    found = proving([PROOF_OF[kind]], [liar, node], store, kind)
    assert (found.contradictions, found.failed) == ([], [])
    assert found.mended_rows >= is_seen
    assert holds(connection, kind, ledger) is is_seen
    for one in needed(kind):
        assert levels(store, one, ledger) == {who: {PROOF_OF[kind]: ALL_OF_IT} for who in WATCHED}
    if is_seen:
        assert set(lies(store, ledger)) == {"liar"}
        assert (
            f"in block {record.block} do not explain the {PROOF_OF[kind]}" in lies(store, ledger)["liar"][1]
        )
        assert {question.lo for question in node.questions} == {record.block}


@pytest.mark.parametrize("at_once", [1, None])
def test_one_block_that_lacks_rows_of_two_accounts_and_two_tokens_is_mended_once(store, connection, at_once):
    """What is mended for one of them explains the others too: nothing else is suspected."""
    ledger = ledger_of(TOKEN_TRANSFERS, tokens=(USD, EUR))
    wrong = ledger.without(
        *(record for record in ledger.records if record.block in {3, 30, 39} and record.sender != record.to)
    )
    liar, node = Tiny("liar", wrong, at_once), TinyNode("node", ledger)
    read(liar, store, TOKEN_TRANSFERS)
    liar.questions.clear()
    found = proving(["balance"], [liar, node], store)
    assert (found.contradictions, found.failed, found.findings) == ([], [], [])
    assert holds(connection, TOKEN_TRANSFERS, ledger)
    assert {question.lo for question in node.questions} <= {3, 30, 39}
    assert levels(store, TOKEN_TRANSFERS, ledger) == {who: {"balance": ALL_OF_IT} for who in WATCHED}


@pytest.mark.parametrize("kind", PROOF_OF, ids=lambda kind: kind.name)
def test_what_nobody_shows_is_taken_back_by_its_block(store, kind):
    """A gap with a reason for the account that it concerns, in every kind that explains the state; the rest is proved."""
    ledger = ledger_of(*needed(kind))
    record = next(one for one in records_of(kind) if one.block == 9)  # BOB sends to CAROL
    wrong = ledger.without(record)
    listed, node = Tiny("listed", wrong, 1), TinyNode("node", wrong, truth=ledger)
    node.at_once, node.level = 1, "stated"
    node.spoils = [_unable] * 99
    read(listed, store, *needed(kind))
    found = proving([PROOF_OF[kind]], [listed, node], store, kind)
    assert len(found.contradictions) == len(needed(kind))
    assert all("block 9: what is stored of" in reason and BOB in reason for reason in found.contradictions)
    for one in needed(kind):
        assert levels(store, one, ledger) == {
            ALICE: {PROOF_OF[kind]: ALL_OF_IT},
            BOB: {PROOF_OF[kind]: ((0, 8), (10, TOP))},
        }


def _unable(_tiny, _question):
    raise Unsupported("lists nothing")


def test_what_two_show_alike_and_yet_does_not_explain_the_state_is_a_finding(store):
    """A withdrawal, or a fee of the layer below: no list has it, and no row is missing."""
    ledger = ledger_of(TRANSACTIONS, INTERNAL_TRANSACTIONS)
    one, node = Tiny("one", ledger, 1), TinyNode("node", ledger, extra={(BOB, 20): 10**9})
    read(one, store, TRANSACTIONS, INTERNAL_TRANSACTIONS)
    found = proving(["balance"], [one, node], store, INTERNAL_TRANSACTIONS)
    assert (found.contradictions, found.failed) == ([], [])
    (finding,) = found.findings
    assert finding.startswith("block 20: what is stored of")
    assert "yet node and one show the same" in finding
    assert levels(store, INTERNAL_TRANSACTIONS, ledger)[ALICE] == {"balance": ALL_OF_IT}
    assert levels(store, INTERNAL_TRANSACTIONS, ledger)[BOB] == {
        "balance": ((0, 19), (21, TOP)),
        "stated": ((20, 20),),
    }
    assert lies(store, ledger) == {}


def test_an_account_that_every_block_pays_is_given_up_after_a_few(store):
    """A miner: its balance is not bisected for every block of the chain."""
    ledger = ledger_of(TRANSACTIONS, INTERNAL_TRANSACTIONS)
    gifts = {(BOB, block): 10**9 for block in range(1, TOP + 1)}
    one, node = Tiny("one", ledger, 1), TinyNode("node", ledger, extra=gifts)
    read(one, store, TRANSACTIONS, INTERNAL_TRANSACTIONS)
    found = proving(["balance"], [one, node], store, INTERNAL_TRANSACTIONS)
    assert not found.contradictions
    assert any(f"{BOB}: its balance is not looked at beyond block 3" in said for said in found.findings)
    assert len(node.questions) <= 6
    assert levels(store, INTERNAL_TRANSACTIONS, ledger)[BOB]["stated"] == ((1, TOP),)


def test_a_contracts_nonce_is_left_alone(store):
    """It counts what the contract has created."""
    ledger = ledger_of(TRANSACTIONS)
    one, node = Tiny("one", ledger, 1), TinyNode("node", ledger, contracts=(BOB,))
    read(one, store, TRANSACTIONS)
    assert not proving(["nonce"], [one, node], store, TRANSACTIONS).contradictions
    assert levels(store, TRANSACTIONS, ledger) == {ALICE: {"nonce": ALL_OF_IT}, BOB: {"stated": ALL_OF_IT}}


def test_an_invented_row_does_not_explain_the_state_either(store, connection):
    """It goes, because the other one shows the block without it."""
    ledger = ledger_of(TOKEN_TRANSFERS)
    liar = Tiny("liar", ledger.showing(Record(20, CAROL, BOB, 666, number=77)), 1)
    read(liar, store, TOKEN_TRANSFERS)
    found = proving(["balance"], [liar, TinyNode("node", ledger)], store)
    assert not found.contradictions
    assert holds(connection, TOKEN_TRANSFERS, ledger)


def test_two_errors_that_cancel_each_other_are_not_seen_by_the_sum_but_by_the_count(store, connection):
    """Why `counted` is more than `balance`."""
    ledger = ledger_of(TOKEN_TRANSFERS)
    to, back = (record for record in ledger.records if record.block in {29, 30})
    liar, node = Tiny("liar", ledger.without(to, back), 1), TinyNode("node", ledger, level="header")
    read(liar, store, TOKEN_TRANSFERS)
    assert not proving(["balance"], [liar, node], store).mended_rows
    assert proving(["counted"], [liar, node], store).mended_rows
    assert holds(connection, TOKEN_TRANSFERS, ledger)


@pytest.mark.parametrize("level", ["header", "stated"])
def test_a_single_node_mends_what_it_can_prove_when_it_is_asked_again(store, connection, level):
    """There is nobody else to ask: what has no proof of its own is at least not called counted."""
    ledger = ledger_of(TOKEN_TRANSFERS)
    node = Tiny("node", ledger, level=level)
    read(node, store, TOKEN_TRANSFERS)
    connection.execute(
        "DELETE FROM raw.evm_token_transfers WHERE chain = %s AND block_number = 9", [ledger.chain]
    )
    found = prove(proofs(history([node], store), ["counted"], store, again=True), store)
    assert (holds(connection, TOKEN_TRANSFERS, ledger), len(found.contradictions)) == (
        (True, 0) if level == "header" else (False, 1)
    )
    assert {one for by in levels(store, TOKEN_TRANSFERS, ledger).values() for one in by} == {level}


def test_a_stale_reading_of_a_liar_adds_nothing_to_what_is_proved(store, connection):
    """Another worker had read it before; it comes after what a header has shown to be all."""
    ledger = ledger_of(TOKEN_TRANSFERS)
    liar = Tiny("liar", ledger.showing(Record(6, ALICE, CAROL, 666)), 1)
    node = Tiny("node", ledger, level="header")
    stream = history([node], store)
    stream.wanted()
    late = store.open(stream)
    (stale,) = liar.read(Question(TOKEN_TRANSFERS, (ALICE,), 0, TOP))
    drain([stream], store)
    mark = Covered(stale.lo, stale.hi, Evidence("stated", "liar"))
    batch = Batch(mark, (stale.page.rows(TOKEN_TRANSFERS),), keys=(stream.key_of(ALICE),))
    tally = late.commit(batch)
    assert (tally.inserted, tally.duplicate) == (0, tally.fetched)
    assert holds(connection, TOKEN_TRANSFERS, ledger)
    late.commit(replace(batch, keys=stream.keys))
    assert holds(connection, TOKEN_TRANSFERS, ledger)


def test_without_a_node_the_state_cannot_be_known(store):
    """It is said, and nothing is taken back."""
    ledger = ledger_of(TOKEN_TRANSFERS)
    one = Tiny("one", ledger, 1)
    read(one, store, TOKEN_TRANSFERS)
    (said,) = proving(["balance"], [one], store).failed
    assert "none of its providers knows the state of past blocks" in said
    assert levels(store, TOKEN_TRANSFERS, ledger) == {who: {"stated": ALL_OF_IT} for who in WATCHED}


def test_one_proof_that_cannot_be_made_stops_no_other(store):
    """But a database that is away stops them all."""
    ledger = ledger_of(TRANSACTIONS)
    one, two = Tiny("one", ledger, 1), Tiny("two", ledger, 1)
    read(one, store, TRANSACTIONS)
    found = proving(["nonce", "counted"], [one, two], store, TRANSACTIONS)
    assert len(found.failed) == 1
    assert levels(store, TRANSACTIONS, ledger) == {who: {"counted": ALL_OF_IT} for who in WATCHED}

    def gone(_tiny, _question):
        raise DatabaseUnavailable("gone")

    store.transaction(lambda c: c.execute("UPDATE ops.coverage SET evidence = 'stated', provider = 'one'"))
    two.spoils = [gone]
    with pytest.raises(DatabaseUnavailable):
        proving(["counted"], [one, two], store, TRANSACTIONS)


# marks


def commit(store, key, *marks):
    """Marks without rows."""

    class Marked:
        keys = (key,)

    writer = store.open(Marked)
    for mark in marks:
        writer.commit(Batch(mark))


def test_a_mark_that_retracts_takes_back_what_was_covered(store):
    """Its range and no more, whatever the evidence; the reason is kept, until it is covered again."""
    commit(store, "k", Covered(0, 9, Evidence("stated", "one")), Covered(10, 19, Evidence("receipts", "two")))
    commit(store, "k", Unproved(8, 12, "no", retracts=False))
    assert store.covered(["k"]) == {"k": ((0, 19),)}
    assert store.unproved(["k"]) == {}
    commit(store, "k", Unproved(8, 12, "contradicted", retracts=True))
    assert store.covered(["k"]) == {"k": ((0, 7), (13, 19))}
    assert store.unproved_reasons(["k"]) == {"k": [(8, 12, "contradicted")]}
    commit(store, "k", Covered(8, 10, Evidence("stated", "one")))
    assert store.unproved(["k"]) == {"k": ((11, 12),)}
    commit(store, "k", Covered(11, 12, Evidence("stated", "one")))
    assert (store.covered(["k"]), store.unproved(["k"])) == ({"k": ((0, 19),)}, {})


def test_a_mark_that_retracts_what_was_never_covered_only_says_why(store):
    """Of another stream nothing changes."""
    commit(store, "other", Covered(0, 9, Evidence("stated", "one")))
    commit(store, "k", Unproved(3, 4, "no", retracts=True))
    assert store.covered(["k", "other"]) == {"other": ((0, 9),)}
    assert store.unproved(["k", "other"]) == {"k": ((3, 4),)}
