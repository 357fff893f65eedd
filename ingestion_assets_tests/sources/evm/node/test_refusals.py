"""Every refusal that providers were seen to give: what class it is, and what can be learnt from it."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion_assets.engine.errors import (
    IngestionError,
    Misconfigured,
    QuotaExhausted,
    RateLimited,
    TooMuch,
    Transient,
    Unauthorized,
    Unsupported,
)
from ingestion_assets.sources.evm.node.refusals import (
    BatchTooLarge,
    Refusal,
    Reverted,
    classify,
    refusal,
)

ALCHEMY = (
    "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range and no limit on the "
    "response size, or you can request any block range with a cap of 10K logs in the response. Based on your parameters "
    "and the response size limit, this block range should work: [0x0, 0xd043b8]"
)
ALCHEMY_FREE = (
    "Under the Free tier plan, you can make eth_getLogs requests with up to a 10 block range. Based on your parameters, "
    "this block range should work: [0x1, 0xa]. Upgrade to PAYG for expanded block range."
)
INFURA = "query returned more than 10000 results. Try with this block range [0xBDE5F8, 0x102DBCC]."
INFURA_DATA = {"from": "0xBDE5F8", "to": "0x102DBCC", "limit": 10000}

# code, message, data, what is learnt
SIZES = [
    (-32602, ALCHEMY, None, Refusal(hint=(0, 0xD043B8), logs=10_000)),
    (
        -32602,
        (
            "Query timeout exceeded. Consider reducing your block range. Based on your parameters and the response size "
            "limit, this block range should work: [0x10, 0x20]"
        ),
        None,
        Refusal(hint=(16, 32)),
    ),
    (-32600, ALCHEMY_FREE, None, Refusal(hint=(1, 10), blocks=10)),
    (-32005, INFURA, INFURA_DATA, Refusal(hint=(0xBDE5F8, 0x102DBCC), logs=10_000)),
    (-32005, INFURA, None, Refusal(hint=(0xBDE5F8, 0x102DBCC), logs=10_000)),
    (
        -32005,
        "query returned more than 10000 results",
        INFURA_DATA,
        Refusal((0xBDE5F8, 0x102DBCC), None, 10_000),
    ),
    (-32602, "range 1000000 exceeds limit of 10000", None, Refusal(blocks=10_000)),
    (-32614, "eth_getLogs is limited to a 10,000 range", None, Refusal(blocks=10_000)),
    (
        -32614,
        "eth_getLogs is limited to a 5 range, upgrade from discover plan at https://dashboard.example/plans/2026",
        None,
        Refusal(blocks=5),
    ),
    (-32701, "exceed maximum block range: 50000", None, Refusal(blocks=50_000)),
    (-32000, "exceed maximum block range: 5000", None, Refusal(blocks=5_000)),
    (-32005, "limit exceeded", None, Refusal()),
    (-32600, "block range is too wide (3000)", None, Refusal()),
    (-32600, "block range is too wide, max 200,000 logs", None, Refusal(logs=200_000)),
    (-32602, "query exceeds max block range 100000", None, Refusal(blocks=100_000)),
    (
        -32602,
        "query exceeds max results 20000, retry with the range 1500-2999",
        None,
        Refusal(hint=(1500, 2999), logs=20_000),
    ),
    (-32000, "eth_getLogs is limited to a 1000 blocks range", None, Refusal(blocks=1_000)),
    (-32000, "response size should not greater than 10000000 bytes", None, Refusal()),
    (
        -32602,
        (
            "eth_getLogs is limited to 1024 block range. Please check the parameter requirements at "
            "https://docs.example/limits/2048"
        ),
        None,
        Refusal(blocks=1_024),
    ),
    (0, "Max range: 800", None, Refusal(blocks=800)),
    (0, "Maximum allowed number of requested blocks is 1000", None, Refusal(blocks=1_000)),
    (0, "please limit the query to at most 1000 blocks", None, Refusal(blocks=1_000)),
    (0, "requested too many blocks from 1 to 5000, maximum is set to 2048", None, Refusal(blocks=2_048)),
    (0, "Block range limit exceeded.", None, Refusal()),
    (35, "ranges over 10000 blocks are not supported on freetier", None, Refusal(blocks=10_000)),
    (-32603, "eth_getLogs range is too large, max is 1k blocks", None, Refusal(blocks=1_000)),
    (-32603, "eth_getLogs range is too large, max is 10k blocks", None, Refusal(blocks=10_000)),
    (
        -32602,
        "Block range 18608 exceeds the maximum of 10000 blocks per logs request.",
        None,
        Refusal(blocks=10_000),
    ),
    (
        -32602,
        "invalid params",
        {"payload": "range 9009594 is bigger than range limit 2000"},
        Refusal(blocks=2_000),
    ),
    (0, "block range too large", None, Refusal()),
    (-32062, "Block range is too large", None, Refusal()),
    (-32062, "backend response too large", None, Refusal()),
    (0, "logs matched by query exceeds limit of 10000", None, Refusal(logs=10_000)),
    (0, "query exceeds max block range 50", None, Refusal(blocks=50)),
    (0, "block range too large (2000), maximum allowed is 1000 blocks", None, Refusal(blocks=1_000)),
    (
        -32602,
        "Query returned more than 10000 results. Try with this block range [0x1, 0xff].",
        None,
        Refusal(hint=(1, 255), logs=10_000),
    ),
    (0, "exceeds the range allowed for your plan (5000 > 3000)", None, Refusal(blocks=3_000)),
    (0, "GetLogs query must be smaller than size 1024", None, Refusal(blocks=1_024)),
    (0, "block range is too wide (maximum 1024)", None, Refusal(blocks=1_024)),
    (0, "You can make eth_getLogs requests with up to a 2000 block range", None, Refusal(blocks=2_000)),
    (0, "block range greater than 1000 max", None, Refusal(blocks=1_000)),
    (0, "block range exceeds 1000", None, Refusal(blocks=1_000)),
    (0, "exceed max block range: 5000", None, Refusal(blocks=5_000)),
    (-32005, "Too many logs requested. Max logs per response is 20000.", None, Refusal(logs=20_000)),
    (-32005, "Requested range exceeds maximum RPC range limit", None, Refusal()),
    (-32000, "maximum [from, to] blocks distance: 2000", None, Refusal(blocks=2_000)),
    (-32614, "no", None, Refusal()),
    (-32000, "no", {"causes": [{"message": "Max range: 800"}]}, Refusal(blocks=800)),
]

# code, message, data, class
OTHERS = [
    (-32602, "block range extends beyond current head block", None, Transient),
    (-32602, "requested block range [5-9] is beyond latest executed block", None, Transient),
    (-32602, "invalid block range params", None, Transient),
    (-32000, "header not found", None, Transient),
    (-32000, "invalid block height", None, Transient),
    (-32000, "Unknown block", None, Transient),
    (0, "no backend is currently healthy to serve traffic", None, Transient),
    (-32014, "ErrEndpointMissingData", None, Transient),
    (-32014, "no data", None, Transient),
    (-32000, "request timed out", None, Transient),
    (-32603, "Internal error", None, Transient),
    (1, "something nobody has seen", None, Transient),
    (-32602, "Archive requests require a personal token. Get one at https://example.org", None, Unsupported),
    (-32000, "missing trie node 0123 (path ) state 0x45 is not available", None, Unsupported),
    (-32002, "No state available for block 0x10", None, Unsupported),
    (
        -32801,
        "no historical RPC is available for this historical (pre-bedrock) execution request",
        None,
        Unsupported,
    ),
    (-32000, "ReceiptGen.GetReceipt: txn is a state-sync transaction", None, Unsupported),
    (-32601, "the method trace_block does not exist/is not available", None, Unsupported),
    (-32601, "nope", None, Unsupported),
    (-32004, "eth_getBlockReceipts not enabled", None, Unsupported),
    (-32000, "method debug_traceBlockByNumber is not available on freetier, upgrade", None, Unsupported),
    (-32005, "Number of requests exceeds max batch size", None, BatchTooLarge),
    (-32600, "batch too large", None, BatchTooLarge),
    (-32005, "project ID request rate exceeded: too many requests", None, RateLimited),
    (-32005, "rate limited", None, RateLimited),
    (-32005, "no", None, RateLimited),
    (429, "Your app has exceeded its compute units per second capacity", None, RateLimited),
    (
        -32007,
        "50/second request limit reached - reduce calls per second or upgrade your account",
        None,
        RateLimited,
    ),
    (-32005, "daily request count exceeded, request rate limited", None, QuotaExhausted),
    (429, "Monthly capacity limit exceeded. Visit https://example.org to upgrade", None, QuotaExhausted),
    (-32000, "invalid api key", None, Unauthorized),
    (-32000, "Unauthorized", None, Unauthorized),
    (
        -32602,
        "invalid argument 0: cannot specify both BlockHash and FromBlock/ToBlock, choose one or the other",
        None,
        Misconfigured,
    ),
    (-32602, "invalid argument 0: hex string without 0x prefix", None, Misconfigured),
    (-32602, "no", None, Misconfigured),
    (3, "execution reverted: user error", "0x08c379a0", Reverted),
    (-32000, "execution reverted", None, Reverted),
]


@pytest.mark.parametrize(("code", "message", "data", "learnt"), SIZES)
def test_a_refused_size_is_told_from_other_refusals_and_read(code, message, data, learnt):
    """Whether data comes decoded or as it was received makes no difference."""
    for given_data in (data, msgspec.Raw(msgspec.json.encode(data))):
        error = classify(code, message, given_data)
        assert type(error) is TooMuch, error
        assert refusal(message, given_data) == learnt
        assert message in str(error)


@pytest.mark.parametrize(("code", "message", "data", "expected"), OTHERS)
def test_what_is_no_question_of_size_is_never_split(code, message, data, expected):
    """The range would be refused whatever its size."""
    error = classify(code, message, data)
    assert type(error) is expected
    assert message in str(error)


def test_data_is_read_and_not_repeated():
    """Providers echo urls there, with the key."""
    error = classify(-32000, "", {"url": "https://node.example/v3/secret", "reason": "block range too large"})
    assert type(error) is TooMuch
    assert str(error) == "error -32000"


@pytest.mark.parametrize(
    ("hint", "fits"),
    [
        ((100, 149), 50),
        ((120, 130), 11),
        ((100, 199), None),  # the refused range itself, as reth gives it
        ((150, 149), None),  # nothing at all
        ((149, 100), None),
        ((99, 149), None),
        ((100, 200), None),
        ((0, 13_648_824), None),
        (None, None),
    ],
)
def test_a_hint_counts_only_inside_of_the_refused_range_and_smaller_than_it(hint, fits):
    """Providers suggest empty ranges, and the refused one again."""
    assert Refusal(hint=hint).fits(100, 199) == fits


@pytest.mark.parametrize(
    ("message", "blocks"),
    [
        ("query timeout exceeded: max execution time 30 seconds, reduce your block range", None),
        ("limit is 5000 blocks per 10 seconds", 5_000),
        ("block range limit exceeded: at most 2000 blocks within 500ms", 2_000),
    ],
)
def test_a_limit_of_time_is_no_limit_of_blocks(message, blocks):
    """It would be believed for good."""
    assert refusal(message).blocks == blocks


@given(
    st.integers(),
    st.text(),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
)
def test_whatever_a_node_says_is_an_error_of_ours(code, message, data):
    """Nothing that it can put into the error object makes us stumble."""
    assert isinstance(classify(code, message, data), IngestionError)
    assert isinstance(refusal(message, data), Refusal)
    assert isinstance(classify(code, message, msgspec.Raw(message.encode(errors="replace"))), IngestionError)
