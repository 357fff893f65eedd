"""A bad upstream, end to end into Postgres: an error or a dead letter, nothing lost, and healed when it is over."""

import itertools
import re
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion_assets.engine.coverage import union
from ingestion_assets.engine.dead_letters import open_letters, replay
from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.errors import IngestionError, Transient
from ingestion_assets.sandbox import explorer
from ingestion_assets.sources.evm.records import KINDS
from ingestion_assets.sources.evm.streams import History, stream_key
from ingestion_assets_tests.effort import examples
from ingestion_assets_tests.sources.evm.reading import ALL_DAYS, TOKENTX, TXLIST, chain_at, stored, truth
from ingestion_assets_tests.upstream import Head, Upstream, small_chain

CHAIN = small_chain(days=6)
TOP = CHAIN.height
HUB, OTHER = CHAIN.addresses[:2]
ACCOUNT = {"module": "account"}
IMPATIENT = 0.15  # seconds until a question that hangs is given up


@pytest.fixture
def upstream():
    """An explorer that does as it is told, wrong things included."""
    with Upstream(explorer({1: CHAIN}, Head(TOP))) as server:
        yield server


def histories(upstream, store, *, name="base", kinds=KINDS, addresses=(HUB, OTHER), **options):
    """The streams of a run."""
    options = {"page_size": 40, "attempts": 2} | options
    chain = chain_at(upstream, store, name=name, **options)
    return [History(chain, kind, tuple(addresses), ALL_DAYS) for kind in kinds]


def is_whole(streams, store, connection):
    """Whether the tables hold the truth, all is covered and no letter is open."""
    kinds = {stream.kind.name: stream.kind for stream in streams}.values()
    for kind in kinds:
        addresses = [subject for stream in streams if stream.kind is kind for subject in stream.subjects]
        assert stored(connection, kind) == truth(CHAIN, kind, *addresses)
    return is_closed(streams, store, "base")


def is_closed(streams, store, name):
    """Whether all is covered and no letter is open."""
    assert set(store.covered(key for stream in streams for key in stream.keys).values()) == {((0, TOP),)}
    assert open_letters(store, f"evm/%/{name}/%") == []
    return True


PASSING = [
    ("html", {}), ("html", {"status": 403}), ("html", {"status": 502}), ("status", {"status": 500}),
    ("status", {"status": 503, "headers": {"Retry-After": "0"}}), ("status", {"status": 429}), ("truncate", {}),
    ("reset", {}), ("hang", {}), ("body", {"body": b""}), ("drop_rows", {}), ("shuffle_rows", {}),
    ("body", {"body": b'{"status":"0","message":"NOTOK","result":"Max rate limit reached"}'}),
    ("body", {"body": b'{"status":"1","message":"OK","result":""}'}),
    ("body", {"body": b'{"status":"0","message":"NOTOK","result":null}'}),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "options"), PASSING, ids=str)
def test_a_fault_that_passes_is_not_even_noticed(upstream, store, connection, fault, options):
    """The second attempt gives the right answer."""
    upstream.fail(fault, match=ACCOUNT, after=1, **options)
    streams = histories(upstream, store, kinds=[TXLIST], addresses=[HUB], timeout=IMPATIENT)
    drain(streams, store)
    assert upstream.faults_left == 0
    assert is_whole(streams, store, connection)


@pytest.mark.parametrize(("fault", "options"), PASSING, ids=str)
def test_a_fault_that_lasts_is_an_error_and_the_next_drain_goes_on(
    upstream, store, connection, fault, options
):
    """What came before it is committed, and nothing of it is asked for again."""
    upstream.fail(fault, match=ACCOUNT, after=2, times=2, **options)
    streams = histories(upstream, store, kinds=[TXLIST], addresses=[HUB], timeout=IMPATIENT)
    with pytest.raises(Transient):
        drain(streams, store)
    ((lo, done),) = store.covered(streams[0].keys)[streams[0].keys[0]]
    assert lo == 0
    assert stored(connection, TXLIST) == truth(CHAIN, TXLIST, HUB, hi=done)
    before = len(upstream.requests)
    drain(streams, store)
    assert is_whole(streams, store, connection)
    asked = [seen.query for seen in upstream.requests[before:] if seen.query["module"] == "account"]
    assert min(int(query["startblock"]) for query in asked) == done + 1


@pytest.mark.parametrize("fault", [
    ("rename_field", {"field": "value", "to": "amount"}), ("drop_field", {"field": "hash"}),
    ("null_field", {"field": "from"}), ("drop_field", {"field": "timeStamp"}),
    ("null_field", {"field": "contractAddress"}),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_some_bad_records_are_dead_letters_until_they_are_replayed(upstream, store, connection, kind, fault):
    """All others are stored; a replay reads exactly their blocks again."""
    fault, options = fault
    upstream.fail(fault, rows=[0, 3, -1], match=ACCOUNT, **options)
    streams = histories(upstream, store, kinds=[kind], addresses=[HUB])
    drained = drain(streams, store)
    letters = open_letters(store)
    assert drained.tally.rejected == len(letters) >= 2
    assert all(options["field"] in letter.reason for letter in letters)
    assert all(letter.lo == letter.hi for letter in letters)
    assert stored(connection, kind) < truth(CHAIN, kind, HUB)
    reopened = replay(store)[streams[0].keys[0]]
    assert reopened == union((letter.lo, letter.hi) for letter in letters)
    drain(streams, store)
    assert is_whole(streams, store, connection)


def test_a_bad_record_whose_block_cannot_be_read_reopens_its_batch(upstream, store, connection):
    """Better read too much again than lose it."""
    upstream.fail("drop_field", field="blockNumber", rows=[5], match=ACCOUNT)
    streams = histories(upstream, store, kinds=[TOKENTX], addresses=[HUB])
    drain(streams, store)
    (letter,) = open_letters(store)
    assert letter.lo < letter.hi
    replay(store)
    drain(streams, store)
    assert is_whole(streams, store, connection)


@pytest.mark.parametrize("fault", ["rename_field", "drop_field", "null_field"])
def test_a_field_that_all_records_lack_is_a_drift_and_covers_nothing(upstream, store, connection, fault):
    """A person must look: the source has changed. It stops no other account. After that, the next drain completes."""
    upstream.fail(
        fault, field="value", **({"to": "amount"} if fault == "rename_field" else {}), match=ACCOUNT
    )
    streams = histories(upstream, store)
    drained = drain(streams, store)
    ((name, drift),) = drained.failed.items()
    assert name == f"{stream_key(TXLIST, 'base', HUB)} and 1 more"
    assert re.search(
        rf"1 of the watched .*{HUB}: .*none of 40 txlist records can be read; .*value", str(drift)
    )
    every = {key for stream in streams for key in stream.keys}
    assert set(store.covered(every)) == every - {stream_key(TXLIST, "base", HUB)}
    assert open_letters(store) == []
    drain(streams, store)
    assert is_whole(streams, store, connection)


def test_a_head_that_is_wrong_covers_nothing(upstream, store, connection):
    """A blank or null head is no chain without blocks."""
    for body in (b'{"result":""}', b'{"result":null}', b'{"status":"1","message":"OK","result":""}'):
        upstream.fail("body", body=body, match={"action": "eth_blockNumber"}, times=2)
        with pytest.raises(Transient):
            drain(histories(upstream, store), store)
    assert connection.execute("SELECT count(*) FROM ops.coverage").fetchone() == (0,)


FAULTS = st.fixed_dictionaries({
    "fault": st.sampled_from([
        *[one for one in PASSING if one[0] != "hang" and one[1].get("status") != 429],
        ("body", {"body": b"[]"}),
        ("body", {"body": b'{"status":"0","message":"NOTOK","result":"Query Timeout occured"}'}),
        ("rename_field", {"field": "hash", "to": "txHash"}), ("drop_field", {"field": "value"}),
        ("null_field", {"field": "to"}), ("null_field", {"field": "blockNumber"}),
    ]),
    "rows": st.one_of(st.just("all"), st.lists(st.integers(0, 39), min_size=1, max_size=3)),
    "times": st.integers(1, 3),
    "after": st.integers(0, 12),
})  # fmt: skip


NUMBERS = itertools.count()  # a new chain for each example, so that all can use one database


def without_traces(rows):
    """Rows, not looking at trace ids: which of several equal calls is which is lost with a record between them."""
    return Counter(tuple(field for field in row if field[0] != "traceId") for row in rows.elements())


@pytest.fixture(scope="module")
def healthy():
    """An explorer without faults."""
    with Upstream(explorer({1: CHAIN}, Head(TOP))) as server:
        yield server


@examples(8)
@given(plan=st.lists(FAULTS, min_size=1, max_size=4), page_size=st.sampled_from([7, 40, 1_000]))
def test_after_any_faults_the_next_drain_and_a_replay_complete(store, connection, healthy, plan, page_size):
    """Whatever went wrong in whatever order: no row lost, none doubled, none invented, no letter left."""
    name = f"chain{next(NUMBERS)}"
    with Upstream(explorer({1: CHAIN}, Head(TOP))) as upstream:
        for fault in plan:
            kind, options = fault["fault"]
            rows = {"rows": fault["rows"]} if "field" in options else {}
            upstream.fail(kind, match=ACCOUNT, times=fault["times"], after=fault["after"], **options, **rows)
        streams = histories(upstream, store, name=name, page_size=page_size)
        for _ in range(3):
            with suppress(IngestionError):  # and nothing else
                drain(streams, store)
    for kind in KINDS:
        found, whole = stored(connection, kind, name), truth(CHAIN, kind, HUB, OTHER)
        assert without_traces(found) <= without_traces(whole)
    replay(store, f"evm/%/{name}/%")
    streams = histories(healthy, store, name=name)
    assert not drain(streams, store).unproved
    for kind in KINDS:
        found, whole = stored(connection, kind, name), truth(CHAIN, kind, HUB, OTHER)
        assert without_traces(found) == without_traces(whole)
    assert is_closed(streams, store, name)
