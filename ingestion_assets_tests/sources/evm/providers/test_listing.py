"""How a record becomes a row: what is read, what is refused with which words, and that identity never moves."""

import json
from collections import Counter
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion_assets.engine.copying import insert
from ingestion_assets.engine.errors import SchemaDrift, Transient
from ingestion_assets.engine.stream import Rejected
from ingestion_assets.sources.evm.providers.blockscout import DIALECT as BLOCKSCOUT
from ingestion_assets.sources.evm.providers.listing import ETHERSCAN_FAMILY, INTERNAL_THAT_MOVE
from ingestion_assets.sources.evm.records import Page
from ingestion_assets_tests.upstream import small_chain

ME, OTHER, TOKEN = "0x" + "a1" * 20, "0x" + "b2" * 20, "0x" + "c3" * 20
HASH = "0x" + "0f" * 32
UINT256 = str(2**256 - 1)

LISTINGS = TXLIST, TXLISTINTERNAL, TOKENTX = ETHERSCAN_FAMILY
GOLDEN = {
    "txlist": {
        "blockNumber": "1234567", "timeStamp": "1704067200", "hash": HASH, "blockHash": "0x" + "ab" * 32,
        "nonce": "7", "transactionIndex": "3", "from": ME, "to": OTHER, "value": UINT256, "gas": "21000",
        "gasPrice": "25000000000", "gasUsed": "21000", "cumulativeGasUsed": "99999", "isError": "0",
        "txreceipt_status": "1", "input": "0x", "contractAddress": "", "confirmations": "5",
        "methodId": "0x", "functionName": "",
    },
    "txlistinternal": {
        "blockNumber": "1234567", "timeStamp": "1704067200", "hash": HASH, "from": OTHER, "to": ME,
        "value": "1", "contractAddress": "", "input": "", "type": "call", "gas": "2300", "gasUsed": "0",
        "traceId": "0_1", "isError": "0", "errCode": "",
    },
    "tokentx": {
        "blockNumber": "1234567", "timeStamp": "1704067200", "hash": HASH, "nonce": "7",
        "blockHash": "0x" + "ab" * 32, "from": ME, "contractAddress": TOKEN, "to": OTHER, "value": "5000000",
        "tokenName": "Dollar", "tokenSymbol": "USD", "tokenDecimal": "6", "transactionIndex": "3",
        "gas": "90000", "gasPrice": "1", "gasUsed": "50000", "cumulativeGasUsed": "99999",
        "input": "deprecated", "confirmations": "5",
    },
}  # fmt: skip
NEEDED = {
    "txlist": [
        "blockNumber", "timeStamp", "hash", "from", "to", "value", "transactionIndex", "contractAddress",
        "nonce", "gasUsed", "gasPrice", "isError", "txreceipt_status",
    ],
    "txlistinternal": [
        "blockNumber", "timeStamp", "hash", "from", "to", "value", "contractAddress", "type", "isError",
    ],
    "tokentx": ["blockNumber", "timeStamp", "hash", "from", "to", "contractAddress", "value"],
}  # fmt: skip
CHAIN = small_chain()
HUB = CHAIN.addresses[0]


def read(
    kind, *records, address=ME, blocks=(0, 10**18), is_last=True, newest_first=False, provider="etherscan"
):
    """The page that these records make; bytes are taken as they are."""
    raw = [msgspec.Raw(one if isinstance(one, bytes) else json.dumps(one).encode()) for one in records]
    return kind.page(
        raw,
        chain="base",
        provider=provider,
        address=address,
        blocks=blocks,
        is_last=is_last,
        newest_first=newest_first,
    )


def columns(kind, page):
    """The rows as dictionaries of COPY text."""
    names = [column.name for column in kind.kind.table.columns]
    lines = page.rows(kind.kind).lines.decode().removesuffix("\n").split("\n") if page.good else []
    return [dict(zip(names, line.split("\t"), strict=True)) for line in lines]


def row(kind, **changes):
    """The one row of the golden record with these changes."""
    (only,) = columns(
        kind, read(kind, GOLDEN[kind.action] | {name.rstrip("_"): v for name, v in changes.items()})
    )
    return only


def refusal(kind, record):
    """The one rejected record of a page."""
    page = read(kind, record)
    assert not page.good
    ((_, letter),) = page.bad
    assert isinstance(letter, Rejected)
    return letter


def identities(kind, page):
    """What must never move: the id, which holds the ordinal, and the ordinal itself."""
    return Counter((line["id"], line["ordinal"]) for line in columns(kind, page))


@pytest.mark.parametrize(("kind", "expected"), [
    (TXLIST, {
        "from_address": ME, "to_address": OTHER, "value": UINT256, "tx_index": "3", "contract_address": r"\N",
        "nonce": "7", "gas_used": "21000", "gas_price": "25000000000", "succeeded": "t",
        "id": "53a236b1a19b99c0072fe48713689db3",
    }),
    (TXLISTINTERNAL, {
        "from_address": OTHER, "to_address": ME, "value": "1", "type": "call", "contract_address": r"\N",
        "failed": "f", "trace_id": "0_1", "id": "3cf30f9392a437bb833a9335d6dafd8f",
    }),
    (TOKENTX, {
        "from_address": ME, "to_address": OTHER, "token_address": TOKEN, "value": "5000000",
        "log_index": r"\N", "token_symbol": "USD", "token_decimals": "6", "id": "f0c73f71b703089026eea0d2ac40af8c",
    }),
], ids=lambda case: getattr(case, "action", ""))  # fmt: skip
def test_a_record_becomes_a_row(kind, expected):
    """Every column, and an id that may never change: stored rows would come a second time."""
    line = row(kind)
    assert json.loads(line.pop("payload")) == GOLDEN[kind.action]
    assert line == expected | {
        "chain": "base", "block_number": "1234567", "block_time": "2024-01-01T00:00:00+00:00",
        "tx_hash": HASH, "ordinal": "0", "provider": "etherscan",
    }  # fmt: skip


@pytest.mark.parametrize("kind", LISTINGS, ids=lambda kind: kind.action)
def test_a_row_of_each_kind_is_what_postgres_stores(kind, connection):
    """COPY takes the text, and every value arrives as it was."""
    assert insert(connection, read(kind, GOLDEN[kind.action]).rows(kind.kind)) == (1, [])
    found = connection.execute(
        f"SELECT chain, block_number, extract(epoch FROM block_time), value::text, payload FROM {kind.kind.table.fullname}"
    ).fetchone()
    assert found == ("base", 1234567, 1704067200, GOLDEN[kind.action]["value"], GOLDEN[kind.action])


BROKEN = [
    None,
    5,
    5.5,
    True,
    [],
    {},
    "nonsense",
    "0xzz",
    "-1",
    "1.5",
    "1e5",
    " 1",
    "٣",
    "1" * 79,
    "x" * 10_000,
    "\0",
    "'",
    "\\",
    "\t",
    "a\tb",
    "\n",
]


@pytest.mark.parametrize(
    ("kind", "field"),
    [(kind, field) for kind in LISTINGS for field in NEEDED[kind.action]],
    ids=lambda part: getattr(part, "action", part),
)
def test_a_field_that_is_missing_or_broken_is_a_dead_letter_that_names_it(kind, field):
    """Never an exception, never a row; the record is kept byte for byte."""
    record = GOLDEN[kind.action]
    missing = {name: value for name, value in record.items() if name != field}
    assert f"`{field}`" in refusal(kind, missing).reason
    for value in BROKEN:
        if field == "type" and isinstance(value, str) and value.isalnum() and value.isascii():
            continue  # any plain word may be a type that we do not know yet
        letter = refusal(kind, record | {field: value})
        assert field in letter.reason, (value, letter.reason)
        assert letter.raw == json.dumps(record | {field: value}).encode()
        assert len(letter.reason) < 200
        assert letter.position == (None if field == "blockNumber" else 1234567)


@pytest.mark.parametrize(("kind", "field", "value"), [
    (TXLIST, "value", str(2**256)), (TXLIST, "value", "9" * 78), (TXLIST, "gasPrice", str(2**256)),
    (TXLIST, "value", ""), (TXLIST, "hash", ""), (TXLIST, "from", ""), (TXLIST, "gasUsed", ""),
    (TXLIST, "blockNumber", "007"), (TXLIST, "blockNumber", "1" * 19), (TXLIST, "timeStamp", "9" * 18),
    (TXLIST, "transactionIndex", "2147483648"), (TXLIST, "isError", "2"), (TXLIST, "txreceipt_status", "2"),
    (TXLIST, "hash", HASH[:-1]), (TXLIST, "hash", HASH + "0"), (TXLIST, "hash", HASH[2:] + "00"),
    (TXLIST, "to", OTHER[:-1]), (TXLIST, "to", OTHER + "0"), (TXLIST, "to", "0x" + "g" * 40),
    (TXLIST, "to", OTHER + "\t1"), (TXLIST, "hash", HASH + "\t" + ME), (TXLIST, "hash", HASH + "\n"),
    (TXLISTINTERNAL, "type", ""), (TXLISTINTERNAL, "type", "a b"), (TXLISTINTERNAL, "type", "créate"),
    (TXLISTINTERNAL, "traceId", "0 1"), (TXLISTINTERNAL, "traceId", None), (TXLISTINTERNAL, "traceId", 5),
    (TOKENTX, "contractAddress", ""), (TOKENTX, "tokenDecimal", 6), (TOKENTX, "tokenSymbol", 5),
    (TOKENTX, "value", str(2**256)), (TOKENTX, "value", "-5"), (TOKENTX, "value", "0x5"),
], ids=lambda part: getattr(part, "action", repr(part)[:40]))  # fmt: skip
def test_a_value_beyond_its_limits_is_a_dead_letter_that_names_the_field(kind, field, value):
    """One past what the field can mean; tabs cannot smuggle a column in."""
    assert field in refusal(kind, GOLDEN[kind.action] | {field: value}).reason


@pytest.mark.parametrize("raw", [
    b"null", b"5", b'"text"', b"[]", b"{}", b"[1,2]", b'{"blockNumber":"5"', b"", b"\xff",
    b'{"blockNumber":"5","hash":"\xff\xfe"}', b'{"blockNumber":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
], ids=lambda raw: raw[:24])  # fmt: skip
def test_what_is_no_record_at_all_is_a_dead_letter(raw):
    """Never an exception, whatever stands in the list."""
    for kind in LISTINGS:
        letter = refusal(kind, raw)
        assert letter.raw == raw
        assert letter.reason


def test_a_record_of_somebody_else_is_a_dead_letter():
    """An explorer, or a cache before it, that mixes up its questions."""
    page = read(TXLIST, GOLDEN["txlist"], address="0x" + "99" * 20)
    assert [letter.reason for letter in page.rejected()] == [
        "it names another account than the one that was asked for"
    ]


@pytest.mark.parametrize(("kind", "changes", "expected"), [
    (TXLIST, {"value": "0"}, {"value": "0"}),
    (TXLIST, {"value": "000123"}, {"value": "123"}),
    (TXLIST, {"value": "0" * 100}, {"value": "0"}),
    (TXLIST, {"value": UINT256}, {"value": UINT256}),
    (TXLIST, {"from_": ME.upper().replace("0X", "0x"), "hash": HASH.upper()}, {"from_address": ME, "tx_hash": HASH}),
    (TXLIST, {"to": OTHER.upper()}, {"to_address": OTHER}),
    (TXLIST, {"txreceipt_status": ""}, {"succeeded": "t"}),
    (TXLIST, {"txreceipt_status": "", "isError": "1"}, {"succeeded": "f"}),
    (TXLIST, {"txreceipt_status": "0"}, {"succeeded": "f"}),
    (TXLIST, {"to": "", "contractAddress": TOKEN}, {"to_address": r"\N", "contract_address": TOKEN}),
    (TXLIST, {"to": "", "contractAddress": TOKEN.upper()}, {"contract_address": TOKEN}),
    (TXLIST, {"nonce": ""}, {"nonce": r"\N"}),
    (TXLIST, {"timeStamp": "0", "blockNumber": "0"}, {"block_time": "1970-01-01T00:00:00+00:00"}),
    (TXLIST, {"hash": "GENESIS_" + ME, "from_": "GENESIS", "to": ME},
     {"tx_hash": "genesis_" + ME, "from_address": "genesis", "to_address": ME}),
    (TXLISTINTERNAL, {"traceId": ""}, {"trace_id": r"\N"}),
    (TXLISTINTERNAL, {"type": "create2", "to": "", "contractAddress": ME, "from_": OTHER},
     {"type": "create2", "to_address": r"\N", "contract_address": ME}),
    (TXLISTINTERNAL, {"isError": "1"}, {"failed": "t"}),
    (TOKENTX, {"tokenDecimal": ""}, {"token_decimals": r"\N"}),
    (TOKENTX, {"tokenDecimal": None, "tokenSymbol": None}, {"token_decimals": r"\N", "token_symbol": r"\N"}),
    (TOKENTX, {"tokenDecimal": "255"}, {"token_decimals": "255"}),
    (TOKENTX, {"tokenDecimal": "256"}, {"token_decimals": r"\N"}),
    (TOKENTX, {"tokenDecimal": "-1"}, {"token_decimals": r"\N"}),
    (TOKENTX, {"tokenDecimal": "six"}, {"token_decimals": r"\N"}),
    (TOKENTX, {"contractAddress": TOKEN.upper()}, {"token_address": TOKEN}),
    (TOKENTX, {"value": UINT256}, {"value": UINT256}),
])  # fmt: skip
def test_what_real_chains_hold_becomes_a_row(kind, changes, expected):
    """Creations, genesis allocations, old receipts, other capitals, and the largest number there is."""
    line = row(kind, **changes)
    assert {name: line[name] for name in expected} == expected


def test_a_record_without_trace_id_or_token_words_is_a_row():
    """Fields that only some providers give."""
    assert columns(TXLISTINTERNAL, read(TXLISTINTERNAL, _without(GOLDEN["txlistinternal"], "traceId")))
    assert columns(TOKENTX, read(TOKENTX, _without(GOLDEN["tokentx"], "tokenSymbol", "tokenDecimal")))


def _without(record, *fields):
    return {name: value for name, value in record.items() if name not in fields}


@given(symbol=st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_token_symbol_is_one_row_of_one_line(symbol):
    """Whoever makes a token chooses its symbol: NUL, quotes, tabs, newlines, emoji."""
    line = row(TOKENTX, tokenSymbol=symbol)
    assert json.loads(line["payload"].replace("\\\\", "\\"))["tokenSymbol"] == symbol.replace("\0", "␀")


@pytest.mark.parametrize("symbol", ["N\0", '"', "\\", "\\N", "\n\r\t", "🏖", "a" * 5_000, "\\u0000", "'; --"])
def test_a_hostile_token_symbol_reaches_postgres_as_it_is(symbol, connection):
    """Only NUL, which Postgres cannot hold, becomes its visible symbol."""
    page = read(TOKENTX, GOLDEN["tokentx"] | {"tokenSymbol": symbol})
    assert insert(connection, page.rows(TOKENTX.kind)) == (1, [])
    query = "SELECT token_symbol, payload->>'tokenSymbol' FROM raw.evm_token_transfers"
    assert connection.execute(query).fetchone() == (symbol.replace("\0", "␀"),) * 2


def test_volatile_fields_do_not_touch_the_id():
    """Confirmations grow, names of functions are found later, other providers leave fields out."""
    before = row(TXLIST)["id"]
    assert (
        row(TXLIST, confirmations="999", functionName="pay()", input="0x1234", gasPrice="1")["id"] == before
    )
    token = row(TOKENTX)["id"]
    assert row(TOKENTX, tokenSymbol="OTHER", tokenDecimal="18", nonce="8", tokenName="x")["id"] == token
    call = row(TXLISTINTERNAL)["id"]
    assert row(TXLISTINTERNAL, traceId="19", gas="1", isError="1", errCode="out of gas")["id"] == call


@pytest.mark.parametrize(("kind", "field", "value"), [
    (TXLIST, "hash", "0x" + "ee" * 32), (TXLISTINTERNAL, "value", "2"), (TXLISTINTERNAL, "type", "create"),
    (TXLISTINTERNAL, "from", ME), (TXLISTINTERNAL, "contractAddress", TOKEN), (TOKENTX, "value", "1"),
    (TOKENTX, "contractAddress", OTHER), (TOKENTX, "to", ME), (TOKENTX, "hash", "0x" + "ee" * 32),
])  # fmt: skip
def test_every_part_of_the_natural_key_is_in_the_id(kind, field, value):
    """Two rows that differ there are two rows."""
    (one, other) = columns(kind, read(kind, GOLDEN[kind.action], GOLDEN[kind.action] | {field: value}))
    assert (one["ordinal"], other["ordinal"]) == ("0", "0")
    assert one["id"] != other["id"]


@pytest.mark.parametrize("kind", [TXLISTINTERNAL, TOKENTX], ids=lambda kind: kind.action)
def test_equal_records_of_one_transaction_are_counted(kind):
    """Twins are real, and each is stored: ordinals 0, 1, 2, whatever stands between them."""
    other = GOLDEN[kind.action] | {"value": "77"}
    twin = GOLDEN[kind.action]
    lines = columns(kind, read(kind, twin, other, twin | {"traceId": "0_9"}, twin))
    assert [line["ordinal"] for line in lines] == ["0", "0", "1", "2"]
    assert len({line["id"] for line in lines}) == 4


def test_a_transaction_that_is_listed_twice_is_one():
    """There is one transaction of a hash, so a second listing is the explorer's mistake."""
    (one, other) = columns(TXLIST, read(TXLIST, GOLDEN["txlist"], GOLDEN["txlist"]))
    assert one["id"] == other["id"]


@settings(max_examples=40)
@given(
    kind=st.sampled_from(LISTINGS),
    who=st.sampled_from(CHAIN.addresses),
    cuts=st.sets(st.integers(1, CHAIN.height), max_size=8),
)
def test_pages_cut_between_blocks_give_the_same_ids(kind, who, cuts):
    """And so do pages of any size, and any provider."""
    records = CHAIN.rows(kind.action, who, 0, CHAIN.height)
    whole = identities(kind, read(kind, *records, address=who))
    assert sum(whole.values()) == len(records) == len(whole)
    parts = Counter()
    for lo, hi in pairwise([0, *sorted(cuts), CHAIN.height + 1]):
        part = [one for one in records if lo <= int(one["blockNumber"]) < hi]
        parts += identities(kind, read(kind, *part, address=who, provider="another"))
    assert parts == whole


@settings(max_examples=40)
@given(kind=st.sampled_from(LISTINGS), block=st.integers(0, CHAIN.height), size=st.integers(1, 60))
def test_a_page_and_what_was_cut_from_it_are_the_whole(kind, block, size):
    """`before` gives exactly the rows below a block, `join` puts pages together in their order."""
    records = CHAIN.rows(kind.action, HUB, 0, CHAIN.height)
    page = read(kind, *records, address=HUB)
    assert [one.block for one in page.before(block).good] == [
        one.block for one in page.good if one.block < block
    ]
    pages = [
        read(kind, *records[at : at + size], address=HUB, is_last=at + size >= len(records))
        for at in range(0, len(records), size)
    ]
    joined = Page.join(pages)
    assert joined.rows(kind.kind) == page.rows(kind.kind)
    assert joined.is_last == pages[-1].is_last


def _at(block, **changes):
    return GOLDEN["tokentx"] | {"blockNumber": str(block)} | changes


def test_dead_letters_follow_their_block_when_a_page_is_cut():
    """One whose block cannot be read stays with the part before, rather than get lost."""
    page = read(
        TOKENTX,
        _at("x"),
        _at(1),
        _at(1, value="bad"),
        _at(2, value="bad"),
        _at(2),
        _at("y"),
        _at(2),
    )
    assert [letter.position for letter in page.before(2).rejected()] == [None, 1]
    assert [letter.position for letter in page.rejected()] == [None, 1, 2, None]
    assert page.size == 7


def test_joined_pages_keep_the_places_of_their_dead_letters():
    """So that they can still be cut."""
    one, other = read(TOKENTX, _at(1), _at("x")), read(TOKENTX, _at(2), _at("y"))
    joined = Page.join([one, other])
    assert [at for at, _ in joined.bad] == [1, 2]
    assert len(joined.before(2).bad) == 1


@pytest.mark.parametrize(("bad", "is_last"), [(3, True), (10, True), (2, False), (1, False)])
def test_a_page_of_which_nothing_can_be_read_is_a_drift(bad, is_last):
    """Nothing to go on from: the source has changed, and a person must look."""
    with pytest.raises(SchemaDrift, match=r"none of \d+ tokentx records can be read; the first: .*`value`"):
        read(TOKENTX, *[_without(_at(1), "value")] * bad, is_last=is_last)


def test_two_bad_records_alone_are_dead_letters():
    """The only records of a quiet day may be bad ones."""
    page = read(TOKENTX, _at(1, value="x"), _at(2, value="y"))
    assert (len(page.bad), page.is_last) == (2, True)


@pytest.mark.parametrize(("blocks", "newest_first", "asked_for"), [
    ([1, 3, 2], False, (0, 9)), ([1, 2, 3], True, (0, 9)), ([3, 2, 1], False, (0, 9)),
])  # fmt: skip
def test_records_out_of_order_are_asked_again(blocks, newest_first, asked_for):
    """A page that mixes its order has perhaps lost some as well."""
    with pytest.raises(Transient, match="order"):
        read(TOKENTX, *map(_at, blocks), blocks=asked_for, newest_first=newest_first)


@pytest.mark.parametrize(("blocks", "asked_for"), [([1, 2], (2, 9)), ([8, 10], (2, 9)), ([1, 10], (2, 9))])
def test_records_outside_of_the_range_are_asked_again(blocks, asked_for):
    """The answer to another question: nothing can be concluded from it."""
    with pytest.raises(Transient, match=rf"blocks {blocks[0]}\.\.{blocks[1]}, asked for were 2\.\.9"):
        read(TOKENTX, *map(_at, blocks), blocks=asked_for)


def test_two_readings_share_what_both_show():
    """Each row as often as the reading that shows it less often."""
    one = read(TOKENTX, _at(1), _at(1), _at(1, value="7"))
    other = read(TOKENTX, _at(1), _at(1, value="8"), _at(1, value="7"), _at(1, value="7"))
    assert [line["value"] for line in columns(TOKENTX, one.shared(other))] == ["5000000", "7"]


INTERNAL = BLOCKSCOUT.listings[1]
BLOCKSCOUT_CALL = _without(GOLDEN["txlistinternal"], "hash", "traceId") | {
    "transactionHash": HASH, "index": "19", "callType": "call",
}  # fmt: skip


def test_an_internal_transaction_of_blockscout_is_the_one_of_etherscan():
    """The same id and columns, but for the trace's number."""
    (ours,) = columns(INTERNAL, read(INTERNAL, BLOCKSCOUT_CALL))
    theirs = row(TXLISTINTERNAL)
    assert ours.pop("trace_id") == "19"
    assert {name: value for name, value in theirs.items() if name not in {"trace_id", "payload"}} == _without(
        ours, "payload"
    )


@pytest.mark.parametrize(("changes", "type_"), [
    ({"type": "CALL", "callType": ""}, "call"),
    ({"type": "suicide", "callType": "", "value": "0"}, "selfdestruct"),
    ({"type": "selfdestruct", "callType": ""}, "selfdestruct"),
    ({"type": "create", "callType": "", "value": "0", "to": "", "contractAddress": ME}, "create"),
    ({"type": "create2", "callType": "", "to": "", "contractAddress": ME}, "create2"),
])  # fmt: skip
def test_the_types_of_calls_are_the_same_words_everywhere(changes, type_):
    """In lower case, the call's own type where there is one."""
    (line,) = columns(INTERNAL, read(INTERNAL, BLOCKSCOUT_CALL | changes))
    assert line["type"] == type_


@pytest.mark.parametrize("changes", [
    {"callType": "delegatecall"}, {"callType": "staticcall"}, {"type": "delegatecall", "callType": ""},
    {"value": "0"}, {"value": "00"}, {"callType": "callcode", "value": "0"}, {"index": "0"},
    {"index": "0", "type": "create", "callType": "", "contractAddress": ME}, {"type": "reward", "callType": ""},
])  # fmt: skip
def test_what_moves_nothing_or_is_the_transaction_itself_is_left_out(changes):
    """It is no row and no dead letter, but the walk knows that it was there."""
    page = read(INTERNAL, BLOCKSCOUT_CALL | changes)
    assert (page.good, page.bad, page.left_out, page.size) == ([], [], 1, 1)
    assert page.last_block == 1234567


def test_a_page_of_nothing_but_what_is_left_out_says_where_it_ends():
    """A thousand delegate calls in a row are passed, and never taken for the end."""
    nothing = [BLOCKSCOUT_CALL | {"blockNumber": str(block), "value": "0"} for block in range(5)]
    page = read(INTERNAL, *nothing, is_last=False)
    assert (page.last_block, page.left_out, page.is_last) == (4, 5, False)
    with pytest.raises(Transient, match="order"):
        read(INTERNAL, *nothing[::-1])


def test_etherscan_is_believed_in_what_it_lists():
    """Others list calls without value as well, and those are left out."""
    record = GOLDEN["txlistinternal"] | {"value": "0"}
    assert read(TXLISTINTERNAL, record).size == len(read(TXLISTINTERNAL, record).good) == 1
    assert read(INTERNAL_THAT_MOVE, record).left_out == 1


def test_without_a_receipt_status_blockscout_does_not_tell_a_failure():
    """Its isError is 1 for every transaction before Byzantium."""
    listing = BLOCKSCOUT.listings[0]
    for status, succeeded in (("", "t"), ("0", "f")):
        record = GOLDEN["txlist"] | {"txreceipt_status": status, "isError": "1"}
        assert columns(listing, read(listing, record))[0]["succeeded"] == succeeded


def test_a_log_index_is_kept_where_it_is_told():
    """It is an attribute: the id is that of the same transfer elsewhere."""
    listing = BLOCKSCOUT.listings[2]
    (line,) = columns(listing, read(listing, GOLDEN["tokentx"] | {"logIndex": "31"}))
    assert line["log_index"] == "31"
    assert line["id"] == row(TOKENTX)["id"]
    assert read(listing, GOLDEN["tokentx"] | {"tokenID": "7"}).left_out == 1
    assert "logIndex" in read(listing, GOLDEN["tokentx"] | {"logIndex": "x"}).rejected()[0].reason


def test_a_record_that_comes_twice_with_one_place_is_asked_again():
    """Where the place is told: elsewhere two equal records may be two."""
    token = BLOCKSCOUT.listings[2]
    for listing, record in ((INTERNAL, BLOCKSCOUT_CALL), (token, GOLDEN["tokentx"] | {"logIndex": "3"})):
        with pytest.raises(Transient, match="twice"):
            read(listing, record, record)
    assert len(read(INTERNAL, BLOCKSCOUT_CALL, BLOCKSCOUT_CALL | {"index": "20"}).good) == 2
    assert len(read(token, GOLDEN["tokentx"], GOLDEN["tokentx"]).good) == 2
    assert len(read(TOKENTX, GOLDEN["tokentx"], GOLDEN["tokentx"]).good) == 2
