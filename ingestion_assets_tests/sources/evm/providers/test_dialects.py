"""One history in every dialect: the same ids, the same columns; and what each dialect says in its own way."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount

from ingestion_assets.engine.errors import Transient, Unsupported
from ingestion_assets.sandbox import explorer
from ingestion_assets.sources.evm.provider import ALL, Question
from ingestion_assets.sources.evm.providers.explorer import EMPTY
from ingestion_assets.sources.evm.records import (
    ERC20_TRANSFERS,
    INTERNAL_TRANSACTIONS,
    KINDS,
    TOKEN_TRANSFERS,
    TRANSACTIONS,
)
from ingestion_assets_tests.dialects import PENDING, dialects, listed_by
from ingestion_assets_tests.sources.evm.providers.reading import KINDS_OF_EXPLORER, opened, readings, table
from ingestion_assets_tests.upstream import Head, Upstream, small_chain

CHAIN = small_chain()
TOP = CHAIN.height
HUB = CHAIN.addresses[0]
STRANGER = "0x" + "9" * 40
ACTIONS = {"transactions": "txlist", "internal_transactions": "txlistinternal", "token_transfers": "tokentx"}
OWN = ("provider", "payload", "trace_id", "log_index")  # what may differ between providers
OTHERS = [name for name in KINDS_OF_EXPLORER if name != "etherscan"]
KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def app(**options):
    """All explorers of the chain."""
    return Starlette(
        routes=[
            *dialects(CHAIN, Head(TOP), **options).routes,
            Mount("/", explorer({1: CHAIN}, Head(TOP))),
        ]
    )


@pytest.fixture(scope="module")
def server():
    """All explorers, with pages of the keyset that end in the middle of blocks."""
    with Upstream(app(items=7)) as upstream:
        yield upstream


def comparable(rows):
    """Rows without what a provider may say in its own way."""
    return {
        identity: {name: value for name, value in row.items() if name not in OWN}
        for identity, row in rows.items()
    }


def etherscan_rows(server, kind, address):
    """What Etherscan gives, but for calls that move nothing: the sandbox lists them, and no real explorer does."""
    rows = table(kind, readings(opened("etherscan", server.url), kind, address, 0, TOP))
    return {
        identity: row for identity, row in rows.items() if (row.get("type"), row["value"]) != ("call", "0")
    }


def the_truth(kind, address, lo=0, hi=TOP):
    """How many rows the chain has."""
    rows = CHAIN.rows(ACTIONS[kind.name], address, lo, hi)
    return sum((row.get("type"), row["value"]) != ("call", "0") for row in rows)


@KIND
@pytest.mark.parametrize("name", OTHERS)
def test_every_dialect_gives_the_same_rows(server, name, kind):
    """Ids and columns; only the payload, the provider, trace and log numbers are its own."""
    for address in [*CHAIN.addresses, STRANGER]:
        expected = etherscan_rows(server, kind, address)
        found = readings(opened(name, server.url), kind, address, 0, TOP)
        assert not [reading.doubt for reading in found if reading.doubt]
        assert not [reading.page.bad for reading in found if reading.page.bad]
        assert comparable(table(kind, found)) == comparable(expected)
        assert len(expected) == the_truth(kind, address)


@settings(max_examples=30)
@given(
    name=st.sampled_from(OTHERS),
    kind=st.sampled_from(KINDS),
    page_size=st.sampled_from([5, 20, 1_000]),
    blocks=st.tuples(st.integers(0, TOP), st.integers(0, 120)),
)
def test_any_range_gives_its_part_of_the_rows(server, name, kind, page_size, blocks):
    """Whatever the size of a page, in every dialect."""
    lo, hi = blocks[0], min(TOP, sum(blocks))
    found = readings(opened(name, server.url, page_size=page_size), kind, HUB, lo, hi)
    assert len(table(kind, found)) == the_truth(kind, HUB, lo, hi)
    assert not [reading.doubt for reading in found if reading.doubt]


@pytest.mark.parametrize("name", ["blockscout", "blockscout-v2"])
def test_blockscout_tells_log_indexes(server, name):
    """Both of its versions, and the same ones; rising with the ordinal of equal transfers."""
    found = table(TOKEN_TRANSFERS, readings(opened(name, server.url), TOKEN_TRANSFERS, HUB, 0, TOP))
    indexes = {identity: int(row["log_index"]) for identity, row in found.items()}
    assert len({(found[identity]["block_number"], index) for identity, index in indexes.items()}) == len(
        found
    )
    twins = {}
    for identity, row in found.items():
        natural = tuple(
            row[name] for name in ("tx_hash", "from_address", "to_address", "token_address", "value")
        )
        twins.setdefault(natural, []).append((int(row["ordinal"]), indexes[identity]))
    assert any(len(group) > 1 for group in twins.values())
    assert all(
        [index for _, index in sorted(group)] == sorted(i for _, i in group) for group in twins.values()
    )


@pytest.mark.parametrize("name", KINDS_OF_EXPLORER)
def test_every_dialect_tells_blocks(server, name):
    """Its head, a header with both hashes, and the block before a time."""
    provider = opened(name, server.url)
    assert provider.head() == TOP
    header = provider.header(17)
    assert (header.number, header.hash, header.parent_hash) == (17, CHAIN.hash_of(17), CHAIN.hash_of(16))
    assert header.time == datetime.fromtimestamp(CHAIN.time_of(17), UTC)
    assert provider.header(TOP + 1) is None
    assert provider.block_before(header.time) == 17
    assert provider.block_before(header.time - timedelta(seconds=1)) == 16
    assert provider.block_before(datetime(2020, 1, 1, tzinfo=UTC)) is None
    assert provider.block_before(datetime(2044, 1, 1, tzinfo=UTC)) == TOP
    assert provider.tagged("finalized") == TOP - 2
    assert provider.chain_id() == (None if name == "cronos" else 1)


@pytest.mark.parametrize("name", ["blockscout", "blockscout-v2"])
def test_blockscout_without_a_node_knows_no_tag_and_no_number(name):
    """And says what to do about it."""
    with Upstream(app(has_node=False)) as upstream:
        provider = opened(name, upstream.url)
        assert provider.chain_id() is None
        with pytest.raises(Unsupported, match=r"give base a finality of \{depth"):
            provider.tagged("finalized")


def test_routescan_that_does_not_serve_the_chain_says_so(server):
    """So that another provider is asked."""
    provider = opened("routescan", server.url, path="/v2/network/mainnet/evm/5/etherscan/api")
    with pytest.raises(Unsupported, match="Invalid chain"):
        readings(provider, TRANSACTIONS, HUB, 0, TOP)


def test_internal_transactions_that_are_not_all_indexed_are_doubted():
    """Status 2: the rows are kept, with or without there being any, and no range is called whole."""
    with Upstream(app(pending=True, items=7)) as upstream:
        for name, reason in (("blockscout", PENDING), ("blockscout-v2", "0.87 of the internal")):
            for page_size in (10, 1_000):
                provider = opened(name, upstream.url, page_size=page_size)
                found = readings(provider, INTERNAL_TRANSACTIONS, HUB, 0, TOP)
                assert all(reason in reading.doubt for reading in found)
                assert len(table(INTERNAL_TRANSACTIONS, found)) == the_truth(INTERNAL_TRANSACTIONS, HUB)
                empty = readings(provider, INTERNAL_TRANSACTIONS, STRANGER, 0, TOP)
                assert all(reason in reading.doubt for reading in empty)
                (whole, *more) = readings(provider, TRANSACTIONS, STRANGER, 0, TOP)
                assert (whole.doubt, more) == (None, [])


@pytest.mark.parametrize("name", KINDS_OF_EXPLORER)
def test_whole_tokens_are_not_for_explorers(server, name):
    """The error names a kind that has them."""
    with pytest.raises(
        Unsupported, match=r"no list of erc20 transfers for base: add a provider of the kind rpc"
    ):
        list(opened(name, server.url).read(Question(ERC20_TRANSFERS, (ALL,), 0, 9)))


@KIND
@pytest.mark.parametrize("hold", [1_000, 100, 30, 1])
def test_the_keyset_is_read_in_proportion_to_the_rows_and_little_is_held(server, kind, hold):
    """One question a page where all of it fits, a few more where it does not; readings stay small."""
    provider = opened("blockscout-v2", server.url)
    provider.hold = hold
    before = len(server.requests)
    found = readings(provider, kind, HUB, 0, TOP)
    asked = sum(seen.path.startswith("/api/v2/addresses/") for seen in server.requests[before:])
    listed = Counter(place[0] for place, _ in listed_by(CHAIN, TOP, ACTIONS[kind.name], HUB))
    pages = listed.total() // 7 + 1
    if listed.total() < hold:
        assert asked == pages
    elif hold >= 30:
        assert asked <= 2.2 * pages
    assert max(reading.page.size for reading in found) <= hold + 7 + max(listed.values())
    assert len(table(kind, found)) == the_truth(kind, HUB)


@pytest.mark.parametrize("edit", [
    lambda items: [items[0], *items], lambda items: items[::-1], lambda items: items[1:], lambda _items: [],
], ids=["twice", "reversed", "one lost", "all lost"])  # fmt: skip
@KIND
def test_a_page_of_the_keyset_that_moved_is_asked_again(server, kind, edit):
    """Nothing of it is believed, on whichever page it happens, and the next attempt is right."""
    for number in (1, 3):
        provider = opened("blockscout-v2", server.url, attempts=2)
        decode, seen = provider._decode, []

        def spoiled(decoder, body, decode=decode, seen=seen, number=number):
            answer = decode(decoder, body)
            if hasattr(answer, "items"):
                seen.append(1)
                answer.items = edit(answer.items) if len(seen) == number else answer.items
            return answer

        provider._decode = spoiled
        if number == 1 and len(edit([1, 2])) == 1:
            provider._full = 7  # else nothing tells that the first page is short
        assert len(table(kind, readings(provider, kind, HUB, 0, TOP))) == the_truth(kind, HUB)
        assert len(seen) > number


def test_a_keyset_that_leads_back_or_nowhere_ends(server):
    """It is an error, and no loop."""
    provider = opened("blockscout-v2", server.url)
    decode = provider._decode
    for following in ({"block_number": TOP + 1, "index": 0}, {}, {"block_number": None}):

        def astray(decoder, body, following=following):
            answer = decode(decoder, body)
            answer.next_page_params = following
            return answer

        provider._decode = astray
        with pytest.raises(Transient, match="begins elsewhere"):
            list(provider.read(Question(TRANSACTIONS, (HUB,), 0, TOP)))


def test_an_ok_without_records_is_empty_only_where_that_is_the_dialect(server):
    """Elsewhere it may be a hiccup."""
    (reading,) = readings(opened("routescan", server.url), TRANSACTIONS, STRANGER, 0, TOP)
    assert reading.page.size == 0
    assert "No internal transactions found" in EMPTY
