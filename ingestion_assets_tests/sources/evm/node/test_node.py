"""A node that is asked for everything, tells it in several ways, and sometimes does not tell the truth."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from ingestion_assets.engine.budget import Unlimited
from ingestion_assets.engine.errors import Misconfigured, SchemaDrift, Transient, Unsupported
from ingestion_assets.engine.rows import NULL, column
from ingestion_assets.sources.evm.provider import ALL, Question
from ingestion_assets.sources.evm.providers.rpc import Rpc, RpcProvider
from ingestion_assets.sources.evm.records import (
    ERC20_TRANSFERS,
    INTERNAL_TRANSACTIONS,
    TOKEN_TRANSFERS,
    TRANSACTIONS,
)
from ingestion_assets_tests.sources.evm.node.tiny_node import (
    ALICE,
    BOB,
    CAROL,
    CAT,
    OLD,
    START,
    TRANSFER,
    USD,
    Fault,
    Node,
    Tx,
    account,
    call,
    name,
    topic,
    transfer,
    word,
)

ZERO = account(0)
MADE = account(0x3ADE)
BLOCKS = [
    [],
    [Tx(value=5), Tx(sender=BOB, to=ALICE, value=2**255, error="reverted")],
    [Tx(to=None, created=MADE, calls=[call("CREATE", MADE, account(77), 0), call("CALL", MADE, BOB, 3)])],
    [],
    [
        Tx(to=USD, logs=[transfer(ALICE, BOB, 7), transfer(ALICE, BOB, 7), transfer(BOB, CAROL, 2**256 - 1)]),
        Tx(to=CAT, sender=CAROL, logs=[{**transfer(ALICE, CAROL, 0, CAT), "topics": [TRANSFER, topic(ALICE), topic(CAROL), word(9)], "data": "0x"}]),
        Tx(to=OLD, sender=CAROL, logs=[
            {"address": OLD, "topics": [TRANSFER], "data": topic(ALICE) + topic(BOB)[2:] + word(11)[2:]},
            {"address": OLD, "topics": [TRANSFER, topic(CAROL)], "data": topic(BOB) + word(12)[2:]},
            {"address": OLD, "topics": [TRANSFER, topic(CAROL)], "data": word(12)},
            {"address": OLD, "topics": [], "data": "0x"},
        ]),
    ],
    [Tx(to=USD, sender=CAROL, logs=[transfer(CAROL, ZERO, 1)]), Tx(sender=CAROL, to=CAROL, logs=[transfer(CAROL, CAROL, 0, OLD)])],
    [
        Tx(calls=[
            call("CALL", BOB, CAROL, 4, calls=[call("SELFDESTRUCT", CAROL, ALICE, 9), call("CALL", CAROL, BOB, 1)], error="reverted"),
            call("DELEGATECALL", BOB, ALICE, 5), call("STATICCALL", BOB, ALICE), call("CALL", BOB, ALICE, 0), call("CALL", BOB, ALICE, 6),
        ]),
        Tx(sender=CAROL, to=BOB, error="out of gas", calls=[call("CALLCODE", BOB, ALICE, 8), call("CREATE2", BOB, None, 2, error="oog")]),
    ],
]  # fmt: skip


HEAD = len(BLOCKS) - 1


@pytest.fixture
def node():
    """A fresh one."""
    return Node(BLOCKS)


@pytest.fixture
def opened(store, node):
    """Opens it as a provider; closed when the test ends."""
    providers = []

    def opening(**options):
        provider = Rpc(node.client(), name="rpc", chain="tiny", store=store, **options)
        providers.append(provider)
        return provider

    yield opening
    for provider in providers:
        provider.close()


def ask(provider, kind, *subjects, lo=0, hi=HEAD):
    """All readings; they follow each other without a hole."""
    found = list(provider.read(Question(kind, subjects, lo, hi)))
    assert found[0].lo == lo
    assert found[-1].hi == hi
    assert all(one.hi + 1 == after.lo for one, after in pairwise(found))
    return found


def columns(readings, kind, *wanted):
    """Columns of the rows, as they will stand in the table."""
    names = [one.name for one in kind.table.columns]
    lines = [line for reading in readings for line in reading.page.rows(kind).lines.splitlines(keepends=True)]
    assert all(line.count(b"\t") == len(names) - 1 for line in lines)
    return [tuple(_value(line, names.index(one)) for one in wanted) for line in lines]


def _value(line, at):
    is_null = line.rstrip(b"\n").split(b"\t")[at] == NULL
    return r"\N" if is_null else column(line, at).decode()


# --- transactions


def test_transactions_of_an_account_are_those_it_sends_receives_or_is_made_by(opened):
    """A failed one, a creation, and one to oneself, once."""
    wanted = (
        "block_number",
        "from_address",
        "to_address",
        "value",
        "contract_address",
        "succeeded",
        "nonce",
        "tx_index",
    )
    readings = ask(opened(), TRANSACTIONS, BOB, MADE, lo=0, hi=2)
    assert columns(readings, TRANSACTIONS, *wanted) == [
        ("1", ALICE, BOB, "5", r"\N", "t", "0", "0"),
        ("1", BOB, ALICE, str(2**255), r"\N", "f", "1", "1"),
        ("2", ALICE, r"\N", "0", MADE, "t", "0", "0"),
    ]
    assert {(reading.level, reading.doubt) for reading in readings} == {("header", None)}
    own = ask(opened(), TRANSACTIONS, CAROL, lo=5, hi=5)
    assert columns(own, TRANSACTIONS, "to_address", "gas_used", "gas_price") == [
        (USD, "50000", "7"),
        (CAROL, "50000", "7"),
    ]


def test_before_byzantium_success_is_told_from_the_gas(node, opened):
    """A receipt with a state root holds no status: who failed has used everything and left no log."""
    root = {"root": name("state")}
    cases = {
        "it left gas over": (Tx(outcome=root, gas=60_000, gas_used=50_000), "t"),
        "it used everything": (Tx(to=USD, outcome=root, gas=50_000, gas_used=50_000), "f"),
        "it used everything and left a log": (
            Tx(outcome=root, gas=1, gas_used=1, logs=[transfer(ALICE, BOB, 1)]),
            "t",
        ),
        "a plain transfer": (Tx(outcome=root, gas=21_000, gas_used=21_000), "t"),
    }
    old = Node([[tx for tx, _ in cases.values()]])
    node.__dict__.update(old.__dict__)
    readings = ask(opened(evidence="receipts"), TRANSACTIONS, ALICE, hi=0)
    assert columns(readings, TRANSACTIONS, "succeeded") == [(flag,) for _, flag in cases.values()]
    assert readings[0].level == "receipts"


def test_a_node_without_receipts_of_blocks_gives_them_one_by_one(node, opened):
    """And is asked for blocks of them once."""
    whole = columns(ask(opened(), TRANSACTIONS, ALICE), TRANSACTIONS, "id", "payload")
    node.denied = {"eth_getBlockReceipts"}
    node.asked.clear()
    provider = opened(blocks_per_question=1, in_flight=1)
    assert columns(ask(provider, TRANSACTIONS, ALICE), TRANSACTIONS, "id", "payload") == whole
    assert node.asked["eth_getBlockReceipts"] == 1
    assert node.asked["eth_getTransactionReceipt"] == sum(map(len, BLOCKS))


@pytest.mark.parametrize(
    "lie",
    [
        lambda receipts: receipts[:-1],
        lambda receipts: receipts[::-1],
        lambda receipts: [{**receipts[0], "gasUsed": "0x1"}, *receipts[1:]],
        lambda receipts: [{**receipts[0], "blockHash": name("a fork")}, *receipts[1:]],
        lambda receipts: [{**receipts[0], "logs": receipts[0]["logs"][1:]}, *receipts[1:]],
        lambda receipts: [{**one, "logs": []} for one in receipts],
        lambda receipts: [{"transactionHash": one["transactionHash"]} for one in receipts],
        lambda _: "nothing to see",
    ],
)
def test_receipts_that_contradict_their_block_leave_it_in_doubt(node, opened, lie):
    """It is asked for twice, named, and nothing of it is given; the blocks around it are whole."""
    node.spoil = lambda method, params, result: (
        lie(result) if (method, params[:1]) == ("eth_getBlockReceipts", ["0x4"]) else result
    )
    readings = ask(opened(), TRANSACTIONS, ALICE, CAROL)
    assert [(one.lo, one.hi) for one in readings] == [(0, 3), (4, 4), (5, 6)]
    assert [one.doubt is not None for one in readings] == [False, True, False]
    assert "block 4" in readings[1].doubt
    assert not readings[1].page.good
    assert len(columns(readings, TRANSACTIONS, "tx_hash")) == sum(map(len, BLOCKS)) - len(BLOCKS[4])


def test_a_block_that_contradicts_itself_once_is_whole(node, opened):
    """A reorganisation between two questions looks like that."""
    lies = iter([True])
    node.spoil = lambda method, _params, result: (
        result[:-1] if method == "eth_getBlockReceipts" and result and next(lies, False) else result
    )
    readings = ask(opened(), TRANSACTIONS, ALICE, BOB, CAROL)
    assert [one.doubt for one in readings] == [None]
    assert len(columns(readings, TRANSACTIONS, "tx_hash")) == sum(map(len, BLOCKS))


def test_another_block_than_was_asked_for_is_not_believed(node, opened):
    """A cache that answers with yesterday's."""
    node.spoil = lambda method, params, result: (
        node.blocks[1] if (method, params[0:1]) == ("eth_getBlockByNumber", ["0x4"]) else result
    )
    readings = ask(opened(), TRANSACTIONS, ALICE)
    assert [one.doubt for one in readings if one.doubt] == ["block 4 was asked for, and 1 came"]


def test_blocks_of_a_shape_that_nobody_knows_stop_the_reading(node, opened):
    """A run of bad blocks is one thing, another protocol another."""
    node.spoil = lambda method, _params, result: {"height": 1} if method == "eth_getBlockByNumber" else result
    with pytest.raises(SchemaDrift, match="none of 7 blocks can be read"):
        ask(opened(), TRANSACTIONS, ALICE)


def test_a_transaction_that_cannot_be_stored_is_rejected_and_no_other(node, opened):
    """Its nonce fits no column: it goes to the dead letters with all that was received."""

    def spoil(method, params, result):
        if method == "eth_getBlockByNumber" and params == ["0x1", True]:
            result = {
                **result,
                "transactions": [
                    {**result["transactions"][0], "nonce": hex(2**64)},
                    *result["transactions"][1:],
                ],
            }
        return result

    node.spoil = spoil
    [reading] = ask(opened(), TRANSACTIONS, BOB, hi=1)
    assert len(reading.page.good) == 1
    [letter] = reading.page.rejected()
    assert letter.position == 1
    assert b'"0x10000000000000000"' in letter.raw


# --- internal transactions

INTERNALS = [
    ("2", MADE, r"\N", "0", "create", account(77), "f", "0"),
    ("2", MADE, BOB, "3", "call", r"\N", "f", "1"),
    ("6", BOB, CAROL, "4", "call", r"\N", "t", "0"),
    ("6", CAROL, ALICE, "9", "selfdestruct", r"\N", "t", "0_0"),
    ("6", CAROL, BOB, "1", "call", r"\N", "t", "0_1"),
    ("6", BOB, ALICE, "6", "call", r"\N", "f", "4"),
    ("6", BOB, r"\N", "2", "create2", r"\N", "t", "1"),
]
OF_INTERNALS = (
    "block_number", "from_address", "to_address", "value", "type", "contract_address", "failed", "trace_id",
)  # fmt: skip


@pytest.mark.parametrize("denied", [set(), {"trace_block"}])
def test_internal_transactions_are_those_that_explorers_list(node, opened, denied):
    """Value, creations and self-destructs; no roots, no delegates, no static calls. From either kind of trace."""
    node.denied = denied
    readings = ask(opened(), INTERNAL_TRANSACTIONS, MADE, BOB, CAROL)
    assert columns(readings, INTERNAL_TRANSACTIONS, *OF_INTERNALS) == INTERNALS
    assert {reading.level for reading in readings} == {"stated"}


def test_both_kinds_of_traces_give_rows_with_the_same_ids(node, opened):
    """So a failover between two nodes changes nothing."""
    flat = columns(ask(opened(), INTERNAL_TRANSACTIONS, BOB), INTERNAL_TRANSACTIONS, "id")
    node.denied = {"trace_block"}
    assert columns(ask(opened(), INTERNAL_TRANSACTIONS, BOB), INTERNAL_TRANSACTIONS, "id") == flat


def test_empty_blocks_are_not_traced(node, opened):
    """The header says that there is nothing."""
    ask(opened(), INTERNAL_TRANSACTIONS, BOB)
    assert node.asked["trace_block"] == sum(1 for block in BLOCKS if block)


def test_rewards_are_no_internal_transactions(node, opened):
    """trace_block tells what a miner got."""
    reward = {
        "type": "reward",
        "action": {"author": BOB, "rewardType": "block", "value": "0x1bc16d674ec80000"},
        "traceAddress": [],
        "subtraces": 0,
        "blockNumber": 6,
    }
    node.spoil = lambda method, _params, result: [*result, reward] if method == "trace_block" else result
    assert (
        columns(ask(opened(), INTERNAL_TRANSACTIONS, MADE, BOB, CAROL), INTERNAL_TRANSACTIONS, *OF_INTERNALS)
        == INTERNALS
    )


@pytest.mark.parametrize("at", range(8))
def test_a_trace_that_is_held_back_is_noticed_wherever_it_stands(node, opened, at):
    """Its parent says how many there are, and every transaction has a root."""
    node.spoil = lambda method, params, result: (
        result[:at] + result[at + 1 :] if (method, params) == ("trace_block", ["0x6"]) else result
    )
    readings = ask(opened(), INTERNAL_TRANSACTIONS, BOB)
    assert [one.lo for one in readings if one.doubt] == [6]


@pytest.mark.parametrize(
    "lie",
    [
        lambda trees: trees[:-1],
        lambda trees: trees[::-1],
        lambda trees: [{"txHash": tree["txHash"], "error": "tracing failed"} for tree in trees],
        lambda trees: [{**tree, "result": {"type": 5}} for tree in trees],
    ],
)
def test_trees_that_contradict_their_block_leave_it_in_doubt(node, opened, lie):
    """As flat traces do."""
    node.denied = {"trace_block"}
    node.spoil = lambda method, params, result: (
        lie(result) if (method, params[:1]) == ("debug_traceBlockByNumber", ["0x6"]) else result
    )
    readings = ask(opened(), INTERNAL_TRANSACTIONS, BOB)
    assert [one.lo for one in readings if one.doubt] == [6]


def test_calls_nested_too_deeply_leave_their_block_in_doubt_and_no_other(node, opened):
    """The chain allows 1,024; our JSON reader follows some hundred."""
    frame = b'{"type":"CALL","from":"%b","to":"%b","value":"0x1"' % (BOB.encode(), ALICE.encode())
    node.replaced = {b'"DEEP"': (frame + b',"calls":[') * 1_023 + frame + b"}" + b"]}" * 1_023}
    node.denied = {"trace_block"}

    def spoil(method, params, result):
        if (method, params[:1]) == ("debug_traceBlockByNumber", ["0x6"]):
            return [{**tree, "result": "DEEP"} for tree in result]
        return result

    node.spoil = spoil
    readings = ask(opened(), INTERNAL_TRANSACTIONS, BOB)
    assert [(one.lo, one.doubt is not None) for one in readings] == [(0, False), (6, True)]
    assert columns(readings, INTERNAL_TRANSACTIONS, *OF_INTERNALS) == INTERNALS[1:2]


def test_a_node_without_traces_says_what_to_do(node, opened):
    """So that another provider is asked."""
    node.denied = {"trace_block", "debug_traceBlockByNumber"}
    with pytest.raises(
        Unsupported, match="rpc on tiny answers neither trace_block nor debug_traceBlockByNumber"
    ):
        ask(opened(), INTERNAL_TRANSACTIONS, BOB)


# --- transfers

OF_TRANSFERS = "block_number", "from_address", "to_address", "token_address", "value", "log_index", "ordinal"
TRANSFERS = [
    ("4", ALICE, BOB, USD, "7", "0", "0"),
    ("4", ALICE, BOB, USD, "7", "1", "1"),
    ("4", BOB, CAROL, USD, str(2**256 - 1), "2", "0"),
    ("4", ALICE, BOB, OLD, "11", "4", "0"),
    ("4", CAROL, BOB, OLD, "12", "5", "0"),
    ("5", CAROL, ZERO, USD, "1", "0", "0"),
    ("5", CAROL, CAROL, OLD, "0", "1", "0"),
]
EVIDENCE = ["stated", "header", "receipts"]


@pytest.mark.parametrize("evidence", EVIDENCE)
def test_transfers_of_tokens_hold_old_shapes_and_twins_and_no_art(opened, evidence):
    """ERC-20 with two, one and no parties among the topics; ERC-721 and what only looks like a transfer are left out."""
    for subjects in ((ALL,), (USD, OLD)):
        readings = ask(opened(evidence=evidence), ERC20_TRANSFERS, *subjects)
        assert columns(readings, ERC20_TRANSFERS, *OF_TRANSFERS) == TRANSFERS
        assert {one.level for one in readings} == {evidence}
    readings = ask(opened(evidence=evidence), ERC20_TRANSFERS, OLD)
    assert columns(readings, ERC20_TRANSFERS, *OF_TRANSFERS) == [row for row in TRANSFERS if row[3] == OLD]
    assert set(columns(readings, ERC20_TRANSFERS, "block_hash")) == {(name("block 4"),), (name("block 5"),)}


@pytest.mark.parametrize("evidence", EVIDENCE)
@pytest.mark.parametrize("with_time", [True, False])
def test_transfers_of_accounts_are_found_by_their_topics(node, opened, evidence, with_time):
    """Once each, also to oneself; with their time, whether logs tell it or not."""
    if not with_time:
        node.receipts = [
            [
                {
                    **one,
                    "logs": [{k: v for k, v in log.items() if k != "blockTimestamp"} for log in one["logs"]],
                }
                for one in block
            ]
            for block in node.receipts
        ]
    readings = ask(opened(evidence=evidence), TOKEN_TRANSFERS, CAROL)
    assert columns(readings, TOKEN_TRANSFERS, *OF_TRANSFERS) == [TRANSFERS[2], *TRANSFERS[5:]]
    times = [datetime.fromtimestamp(START + number * 12, UTC).isoformat() for number in (4, 5, 5)]
    assert columns(readings, TOKEN_TRANSFERS, "block_time") == [(time,) for time in times]


@pytest.mark.parametrize("at", range(8))
@pytest.mark.parametrize("subject", [ALL, USD])
def test_a_log_that_is_held_back_is_found_in_the_receipts(node, opened, at, subject):
    """Wherever it stands; the node's eth_getLogs leaves it out every time."""
    node.spoil = lambda method, _params, result: (
        result[:at] + result[at + 1 :] if method == "eth_getLogs" else result
    )
    readings = ask(opened(), ERC20_TRANSFERS, subject)
    assert columns(readings, ERC20_TRANSFERS, *OF_TRANSFERS) == [
        row for row in TRANSFERS if subject in (ALL, row[3])
    ]
    assert {(one.level, one.doubt) for one in readings} == {("header", None)}


def test_the_last_logs_of_an_answer_are_missed_even_if_the_bloom_does_not_miss_them(opened, node):
    """Twins at the end of a block: index and bloom are those of a block without the last one."""
    twins = Node([[], [Tx(logs=[transfer(ALICE, BOB, 7)] * 3)], [Tx(logs=[transfer(ALICE, BOB, 7)] * 2)], []])
    node.__dict__.update(twins.__dict__)
    for cut in (1, 2, 3, 4, 5):
        node.spoil = lambda method, _params, result, cut=cut: (
            result[:-cut] if method == "eth_getLogs" else result
        )
        assert len(columns(ask(opened(), ERC20_TRANSFERS, ALL, hi=3), ERC20_TRANSFERS, "id")) == 5


def test_a_lie_that_the_receipts_repeat_is_doubt(node, opened):
    """Nothing of the block is given."""

    def spoil(method, params, result):
        if method == "eth_getLogs":
            return result[1:]
        if (method, params) == ("eth_getBlockReceipts", ["0x4"]):
            return [{**result[0], "logs": result[0]["logs"][1:]}, *result[1:]]
        return result

    node.spoil = spoil
    for subject in (ALL, USD):
        readings = ask(opened(), ERC20_TRANSFERS, subject)
        assert [one.lo for one in readings if one.doubt] == [4]
        assert {row[0] for row in columns(readings, ERC20_TRANSFERS, "block_number")} == {"5"}


def test_an_empty_answer_is_believed_by_nobody_who_asks_for_evidence(node, opened):
    """Old ranges may silently be empty."""
    node.spoil = lambda method, _params, result: [] if method == "eth_getLogs" else result
    assert len(columns(ask(opened(), ERC20_TRANSFERS, ALL), ERC20_TRANSFERS, "id")) == len(TRANSFERS)


def test_headers_that_do_not_follow_each_other_are_in_doubt(node, opened):
    """Two backends on two forks."""
    other = {**node.blocks[3], "hash": name("a fork")}
    node.spoil = lambda method, params, result: (
        {**other, "transactions": []}
        if (method, params[0:1]) == ("eth_getBlockByNumber", ["0x3"])
        else result
    )
    readings = ask(opened(), ERC20_TRANSFERS, USD)
    assert [one.lo for one in readings if one.doubt] == [3, 4]


def test_a_range_that_is_too_large_is_asked_in_parts_and_one_block_by_its_receipts(node, opened):
    """What is refused is learnt; a block whose logs are too many has receipts."""

    def spoil(method, params, result):
        if method == "eth_getLogs":
            lo, hi = int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)
            if hi - lo + 1 > 3 or len(result) > 4:
                raise Fault(
                    -32602,
                    "query exceeds max block range 3" if hi - lo + 1 > 3 else "query exceeds max results 4",
                )
        return result

    node.spoil = spoil
    for evidence in ("stated", "header"):
        readings = ask(opened(evidence=evidence), ERC20_TRANSFERS, ALL)
        assert columns(readings, ERC20_TRANSFERS, *OF_TRANSFERS) == TRANSFERS
        assert len(readings) >= 3


def test_a_log_that_cannot_be_stored_is_rejected_and_no_other(node, opened):
    """Its token is no address."""
    node.spoil = lambda method, _params, result: (
        [{**result[0], "address": "0x12"}, *result[1:]] if method == "eth_getLogs" else result
    )
    [reading] = ask(opened(evidence="stated"), ERC20_TRANSFERS, ALL)
    assert columns([reading], ERC20_TRANSFERS, "log_index") == [(row[5],) for row in TRANSFERS[1:]]
    [letter] = reading.page.rejected()
    assert (letter.position, "0x12" in letter.reason) == (4, True)


def test_a_log_that_cannot_be_read_is_rejected_where_nobody_asks_for_evidence(node, opened):
    """Where evidence is asked for, the receipts have it."""
    node.spoil = lambda method, _params, result: (
        [{"address": USD}, *result[1:]] if method == "eth_getLogs" else result
    )
    [reading] = ask(opened(evidence="stated"), ERC20_TRANSFERS, ALL)
    assert len(reading.page.rejected()) == 1
    assert columns(ask(opened(), ERC20_TRANSFERS, ALL), ERC20_TRANSFERS, *OF_TRANSFERS) == TRANSFERS
    node.spoil = lambda method, _params, result: [{"address": USD}] * 3 if method == "eth_getLogs" else result
    with pytest.raises(SchemaDrift, match="none of 3 logs can be read"):
        ask(opened(evidence="stated"), ERC20_TRANSFERS, ALL)


def test_logs_of_other_blocks_are_a_failure_in_passing(node, opened):
    """Somebody else's answer."""
    node.spoil = lambda method, _params, result: (
        [{**log, "blockNumber": "0x63"} for log in result] if method == "eth_getLogs" else result
    )
    for evidence in ("stated", "header"):
        with pytest.raises(Transient, match="gives logs of block 99"):
            ask(opened(evidence=evidence), ERC20_TRANSFERS, ALL)


def test_token_facts_are_asked_once_and_kept(node, opened):
    """Strings, old 32 bytes, and contracts that say nothing or nonsense."""
    text = "0x" + word(32)[2:] + word(5)[2:] + "U\0S\t\xff".encode("latin-1").hex().ljust(64, "0")
    old = "0x" + b"MKR".hex().ljust(64, "0")
    node.contracts = {
        USD + "0x95d89b41": text,
        USD + "0x313ce567": word(6),
        OLD + "0x95d89b41": old,
        OLD + "0x313ce567": word(256),
    }
    wanted = "token_address", "token_symbol", "token_decimals"
    said = [(USD, "U␀S\t�", "6"), (USD, "U␀S\t�", "6"), (OLD, "MKR", r"\N")]
    for _ in range(2):
        assert columns(ask(opened(), TOKEN_TRANSFERS, CAROL), TOKEN_TRANSFERS, *wanted) == said
    assert node.asked["eth_call"] == 4


def test_a_token_that_says_nothing_is_null_and_a_node_that_executes_nothing_is_not_remembered(
    node, opened, connection
):
    """The first is the contract's word, the second another provider may make good."""
    [row, *_] = columns(
        ask(opened(), TOKEN_TRANSFERS, CAROL), TOKEN_TRANSFERS, "token_symbol", "token_decimals"
    )
    assert row == (r"\N", r"\N")
    assert connection.execute("SELECT count(*) FROM ops.tokens").fetchone() == (2,)
    connection.execute("DELETE FROM ops.tokens")
    node.denied = {"eth_call"}
    ask(opened(), TOKEN_TRANSFERS, CAROL)
    assert connection.execute("SELECT count(*) FROM ops.tokens").fetchone() == (0,)


# --- the rest of a provider


def test_readings_come_in_order_whatever_the_size_of_windows(opened):
    """One block each, eight at a time."""
    provider = opened(blocks_per_question=1, in_flight=8, max_batch=1)
    for kind, subjects in (
        (TRANSACTIONS, [BOB]),
        (INTERNAL_TRANSACTIONS, [BOB]),
        (TOKEN_TRANSFERS, [BOB]),
        (ERC20_TRANSFERS, [USD]),
    ):
        assert [one.lo for one in ask(provider, kind, *subjects)] == list(range(len(BLOCKS)))


def test_a_reading_that_is_given_up_asks_no_further(node, opened):
    """The consumer takes one of many windows and goes."""
    node.__dict__.update(Node([[] for _ in range(500)]).__dict__)
    provider = opened(blocks_per_question=1, in_flight=2)
    readings = provider.read(Question(TRANSACTIONS, (BOB,), 0, 499))
    next(readings)
    readings.close()
    assert node.asked["eth_getBlockByNumber"] <= 4


def test_a_node_that_is_behind_gives_what_it_has_and_says_so(opened):
    """The next provider goes on from there."""
    seen = []
    with pytest.raises(Transient, match="shows blocks up to 6, asked for was 9"):
        seen.extend(opened().read(Question(TRANSACTIONS, (BOB,), 5, 9)))
    assert [(one.lo, one.hi) for one in seen] == [(5, 6)]


def test_the_block_before_a_moment_is_found_among_equal_times(node, opened):
    """The last of several blocks with one timestamp; nothing before the first."""
    times = [0, 0, 5, 5, 5, 5, 9, 9, 30]
    node.blocks = [
        {**Node([[]]).blocks[0], "number": hex(at), "timestamp": hex(START + time)}
        for at, time in enumerate(times)
    ]
    start = datetime.fromtimestamp(START, UTC)
    provider = opened()
    for _ in range(2):
        found = [
            provider.block_before(start + timedelta(seconds=seconds))
            for seconds in (-1, 0, 4, 5, 8, 9, 29, 30, 99)
        ]
        assert found == [None, 1, 1, 5, 5, 7, 7, 8, 8]


def test_times_far_below_the_head_are_not_asked_for_twice(node, opened):
    """They cannot change."""
    node.__dict__.update(Node([[] for _ in range(3_000)]).__dict__)
    provider = opened()
    moment = datetime.fromtimestamp(START + 500 * 12, UTC)
    assert provider.block_before(moment) == 500
    node.asked.clear()
    assert provider.block_before(moment) == 500
    assert node.asked["eth_getBlockByNumber"] == 0


@pytest.mark.parametrize("genesis", [START, 0], ids=["even times", "a first block without a time"])
def test_the_block_before_a_moment_takes_few_questions(node, opened, genesis):
    """Fewer than halving takes where blocks come evenly, and never twice as many; one where the chain begins later."""
    node.__dict__.update(Node([[] for _ in range(3_000)]).__dict__)
    node.blocks[0]["timestamp"] = hex(genesis)
    halving = 12  # 2^12 > 3,000
    moment = datetime.fromtimestamp(START + 777 * 12, UTC)
    assert opened().block_before(moment) == 777
    assert node.asked["eth_getBlockByNumber"] <= (halving // 2 if genesis else 2 * halving)
    node.asked.clear()
    assert opened().block_before(datetime.fromtimestamp(genesis, UTC) - timedelta(seconds=1)) is None
    assert node.asked["eth_getBlockByNumber"] <= 2


def test_a_header_names_its_block_and_what_does_not_exist_is_none(node, opened):
    """A backend that lags is asked again."""
    provider = opened()
    header = provider.header(3)
    assert header is not None
    assert (header.number, header.hash, header.parent_hash) == (3, name("block 3"), name("block 2"))
    assert header.time == datetime.fromtimestamp(START + 36, UTC)
    assert provider.header(7) is None
    lags = iter([True])
    node.spoil = lambda method, _params, result: (
        None if method == "eth_getBlockByNumber" and next(lags, False) else result
    )
    assert provider.header(3) == header
    node.spoil = lambda method, _params, result: None if method == "eth_getBlockByNumber" else result
    with pytest.raises(Transient, match="does not show block 3"):
        provider.header(3)


def test_head_tags_and_chain_are_numbers(node, opened):
    """And a tag that is not known names the way out."""
    provider = opened()
    assert (provider.head(), provider.tagged("finalized"), provider.chain_id()) == (6, 5, 1)
    node.spoil = lambda method, _params, result: None if method == "eth_getBlockByNumber" else result
    with pytest.raises(Unsupported, match=r"finality of \{depth: …\}"):
        provider.tagged("finalized")
    node.spoil = lambda method, _params, result: 12 if method == "eth_blockNumber" else result
    with pytest.raises(SchemaDrift, match="eth_blockNumber"):
        provider.head()


def test_the_past_state_of_an_account_can_be_asked_for(node, opened):
    """Balances in the smallest unit; a token that is none is called so."""
    node.contracts[USD + "0x70a08231"] = word(2**255)
    provider = opened()
    assert (provider.balance(ALICE, 3), provider.nonce(ALICE, 3)) == (42, 42)
    assert provider.token_balance(USD, ALICE, 3) == 2**255
    assert (provider.has_code(USD, 3), provider.has_code(ALICE, 3)) == (True, False)
    for said in (None, "0x", "nothing"):
        node.contracts.pop(OLD + "0x70a08231", None)
        if said is not None:
            node.contracts[OLD + "0x70a08231"] = said
        with pytest.raises(Misconfigured, match="is no ERC-20 token"):
            provider.token_balance(OLD, ALICE, 3)


def test_a_key_goes_where_the_url_has_a_place_for_it():
    """Else into a header."""
    by_path = RpcProvider(kind="rpc", url="https://node.test/v2/{key}")
    assert by_path.secrets("k3y").path == "k3y"
    by_header = RpcProvider(kind="rpc", url="https://node.test/v2")
    assert by_header.secrets("k3y").headers == {"Authorization": "Bearer k3y"}
    assert not by_header.secrets(None).values()


class Twenty(Unlimited):
    """A budget of twenty that writes down what it is asked for."""

    most = 20

    def __init__(self):
        self.permits = []

    def request(self, permits=1):
        """One turn."""
        self.permits.append(permits)
        return super().request(permits)


@pytest.mark.parametrize(
    ("options", "largest"),
    [({}, 5), ({"max_batch": 3}, 3), ({"batch_counts_once": True}, 14)],
)
def test_a_batch_takes_as_many_permits_as_it_has_calls_unless_it_counts_once(node, store, options, largest):
    """And holds no more calls than a quarter of the budget."""
    budget = Twenty()
    config = RpcProvider(kind="rpc", url="https://node.test", **options)
    provider = config.open(node.client(budget=budget), name="rpc", chain="tiny", chain_id=1, store=store)
    ask(provider, TRANSACTIONS, BOB)
    provider.close()
    assert max(node.requests) == largest
    assert budget.permits == ([1] * len(node.requests) if "batch_counts_once" in options else node.requests)


SPAM = account(0x5BA4)
WITH_SPAM = [
    [],
    [Tx(to=USD, logs=[transfer(ALICE, BOB, 7)])],
    [Tx(to=SPAM, sender=CAROL, logs=[transfer(CAROL, ALICE, 7, SPAM)])],
    [],
]


@pytest.mark.parametrize(("code", "said"), [
    (-32000, "execution aborted (timeout = 5s)"), (-32000, "return data out of bounds"), (-32000, "gas uint64 overflow"),
    (-32000, "stack limit reached 1024 (1023)"), (-32000, "write protection"), (-32000, "max code size exceeded"),
    (-32603, "execution error: OutOfOffset"), (-32015, "transaction execution error"), (-32000, "response size exceeded"),
    (-32000, "nobody has seen this text before"), (-32603, "internal error"),
])  # fmt: skip
def test_a_token_on_which_the_node_fails_stops_nothing(store, code, said):
    """Anybody can make one, and send it to whom he likes."""
    node = Node(WITH_SPAM)

    def spoil(method, params, result):
        if method == "eth_call" and params[0]["to"] == SPAM:
            raise Fault(code, said)
        return result

    node.spoil = spoil
    provider = Rpc(node.client(), name="rpc", chain="tiny", store=store)
    found = ask(provider, TOKEN_TRANSFERS, ALICE, BOB, hi=len(WITH_SPAM) - 1)
    provider.close()
    first, second = columns(
        found, TOKEN_TRANSFERS, "token_address", "value", "token_symbol", "token_decimals"
    )
    assert first[:2] == (USD, "7")
    assert second == (SPAM, "7", r"\N", r"\N")


@pytest.mark.parametrize(
    ("kind", "subject"), [(TOKEN_TRANSFERS, ALICE), (ERC20_TRANSFERS, USD), (ERC20_TRANSFERS, ALL)]
)
def test_blooms_that_are_left_empty_rule_nothing_out(store, kind, subject):
    """Some chains do not make any: no transfer may be missing there and the block called whole."""
    node = Node(WITH_SPAM)
    empty = "0x" + "00" * 256

    def spoil(method, _params, result):
        if method == "eth_getBlockByNumber" and result:
            return {**result, "logsBloom": empty}
        if method == "eth_getBlockReceipts" and result:
            return [{**receipt, "logsBloom": empty} for receipt in result]
        return result

    node.spoil = spoil
    provider = Rpc(node.client(), name="rpc", chain="tiny", store=store)
    found = list(provider.read(Question(kind, (subject,), 0, 2)))
    provider.close()
    assert {reading.lo for reading in found if reading.doubt} == {1, 2}
