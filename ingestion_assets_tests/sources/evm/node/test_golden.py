"""Answers of real nodes and rows of another project, where `../shared/data/evm` holds them; else a skip.

`execution_apis`: requests and answers of a real client. `ethereum_etl_resources`: mainnet blocks and the rows that
ethereum-etl makes of them.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ingestion_assets.engine.errors import Misconfigured, Transient, Unsupported
from ingestion_assets.sources.evm.node import proof
from ingestion_assets.sources.evm.node.frames import of_traces, of_trees
from ingestion_assets.sources.evm.node.refusals import Reverted, classify
from ingestion_assets.sources.evm.node.shapes import (
    Block,
    Log,
    Receipt,
    octets,
    quantity,
    read_block,
    read_log,
    read_receipts,
)
from ingestion_assets.sources.evm.node.transactions import Transaction
from ingestion_assets.sources.evm.node.transfers import TRANSFER, is_transfer, key_of

DATA = Path(__file__).resolve().parents[5] / "shared" / "data" / "evm"
NODE, ETL = DATA / "execution_apis", DATA / "ethereum_etl_resources"
STREAM = ETL / "test_stream"

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/data/evm")

Exchange = tuple[str, dict[str, Any], dict[str, Any]]  # file, request, answer


def exchanges(*methods: str) -> Iterator[Exchange]:
    """What was asked and answered, of these methods or of all."""
    for path in sorted(NODE.glob("*/*.io")):
        if methods and path.parent.name not in methods:
            continue
        lines = path.read_text().splitlines()
        asked = [json.loads(line[3:]) for line in lines if line.startswith(">> ")]
        answered = {
            answer["id"]: answer for answer in (json.loads(x[3:]) for x in lines if x.startswith("<< "))
        }
        for request in asked:
            yield f"{path.parent.name}/{path.stem}", request, answered[request["id"]]


def results(*methods: str) -> list[tuple[str, bytes]]:
    """The results that are not null, as a node sends them."""
    return [
        (name, json.dumps(answer["result"]).encode())
        for name, _, answer in exchanges(*methods)
        if answer.get("result") is not None
    ]


BLOCKS = ("eth_getBlockByNumber", "eth_getBlockByHash")
TRANSACTIONS = (
    "eth_getTransactionByHash",
    "eth_getTransactionByBlockHashAndIndex",
    "eth_getTransactionByBlockNumberAndIndex",
)
QUANTITIES = (
    "eth_blockNumber",
    "eth_chainId",
    "eth_getBalance",
    "eth_getTransactionCount",
    "eth_getBlockTransactionCountByHash",
    "eth_getBlockTransactionCountByNumber",
)
read_transaction = msgspec.json.Decoder(Transaction).decode
read_text = msgspec.json.Decoder(str).decode


@pytest.mark.parametrize(
    ("methods", "read"),
    [
        (BLOCKS, read_block),
        (("eth_getBlockReceipts",), read_receipts),
        (("eth_getTransactionReceipt",), msgspec.json.Decoder(Receipt).decode),
        (("eth_getLogs",), msgspec.json.Decoder(list[Log]).decode),
        (TRANSACTIONS, read_transaction),
        (QUANTITIES, lambda body: quantity(read_text(body))),
        (("eth_call",), lambda body: octets(read_text(body))),
    ],
)
def test_every_answer_of_the_methods_we_use_is_read(
    methods: tuple[str, ...], read: Callable[[bytes], object]
):
    """Null answers and errors are other tests' matter."""
    answers = results(*methods)
    assert {name.partition("/")[0] for name, _ in answers} == set(methods)
    for name, body in answers:
        assert read(body) is not None, name


def test_the_numbers_of_a_real_client_are_what_they_say():
    """Chain id, head, a balance and a nonce."""
    said = {name: quantity(read_text(body)) for name, body in results(*QUANTITIES)}
    for name, request, answer in exchanges(*QUANTITIES):
        if answer.get("result") is not None:
            assert hex(said[name]) == answer["result"], request
    assert said["eth_chainId/get-chain-id"] == int(_genesis()["config"]["chainId"])


def _genesis() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((NODE / "genesis.json").read_text())
    return found


def test_what_does_not_exist_is_null_and_no_error():
    """A block of the future, an unknown hash."""
    null = {name for name, _, answer in exchanges() if "error" not in answer and answer["result"] is None}
    assert {
        "eth_getBlockByNumber/get-block-notfound",
        "eth_getBlockReceipts/get-block-receipts-future",
        "eth_getTransactionReceipt/get-notfound-tx",
    } <= null


ERRORS = {
    "debug_traceBlockByHash/trace-block-not-found": Transient,
    "debug_traceBlockByHash/trace-genesis": Unsupported,
    "debug_traceBlockByNumber/trace-block-invalid-number": Misconfigured,
    "debug_traceBlockByNumber/trace-genesis": Unsupported,
    "debug_traceTransaction/trace-unknown-tx": Transient,
    "eth_call/call-revert-abi-error": Reverted,
    "eth_call/call-revert-abi-panic": Reverted,
    "eth_getLogs/filter-error-future-block-range": Transient,
    "eth_getLogs/filter-error-invalid-blockHash-and-range": Misconfigured,
    "eth_getLogs/filter-error-reversed-block-range": Transient,
}


def test_every_error_of_a_real_client_is_told_apart():
    """None of them is a range that is too large."""
    found = {}
    for name, _, answer in exchanges():
        if "error" in answer:
            error = answer["error"]
            found[name] = type(classify(error["code"], error["message"], error.get("data")))
    assert found == ERRORS


def test_the_receipts_roots_and_blooms_of_a_real_client_are_recomputed():
    """Wherever a block and its receipts are both there; a block without transactions has a root too."""
    blocks = [read_block(body) for _, body in results(*BLOCKS)]
    receipts = [read_receipts(body) for _, body in results("eth_getBlockReceipts")]
    by_hash = {some[0].block_hash: some for some in receipts if some}
    checked = set()
    for block in blocks:
        of_block = by_hash.get(block.hash, None if block.transactions else [])
        if of_block is not None:
            proof.check_block(block, of_block, root=True)
            assert proof.receipts_root(of_block) == octets(block.receipts_root)
            checked.add(quantity(block.number))
    assert checked == {0, 1, 54}


def test_the_bloom_of_every_receipt_is_made_by_its_logs():
    """Transactions of the types 0 to 4."""
    receipts = [msgspec.json.decode(body, type=Receipt) for _, body in results("eth_getTransactionReceipt")]
    for receipt in receipts:
        assert proof.logs_bloom(receipt.events()) == octets(receipt.logs_bloom)
    assert {quantity(receipt.type) for receipt in receipts} == {0, 1, 2, 3, 4}
    assert any(receipt.logs for receipt in receipts)


def test_logs_are_found_by_the_bloom_of_their_block_or_receipt():
    """A bloom has no false negatives."""
    blocks = {block.hash: block for block in (read_block(body) for _, body in results(*BLOCKS))}
    looked_at = 0
    for _, body in results("eth_getLogs"):
        for log in msgspec.json.decode(body, type=list[Log]):
            block = blocks.get(log.block_hash)
            if block is not None:
                items = [octets(log.address), *map(octets, log.topics)]
                assert proof.bloom_may_hold(octets(block.logs_bloom), *items)
                looked_at += 1
            assert not is_transfer(log)  # they are of another event
    assert looked_at or blocks


def test_step_by_step_traces_are_not_taken_for_trees():
    """Without a tracer geth answers with every instruction; a node that ignores the tracer does the same."""
    [block] = [
        read_block(b) for name, b in results(*BLOCKS) if name == "eth_getBlockByHash/get-block-by-hash"
    ]
    [traced] = [
        b for name, b in results("debug_traceBlockByNumber") if name.endswith("block-with-transactions")
    ]
    assert quantity(block.number) == 1
    with pytest.raises(msgspec.DecodeError):
        list(of_trees(block, msgspec.Raw(traced)))


# Mainnet, as ethereum-etl has it


def _rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    return [json.loads(line) for line in path.read_text().splitlines()]


def _log(row: dict[str, Any]) -> Log:
    topics = row["topics"].split(",") if isinstance(row["topics"], str) else row["topics"]
    return Log(
        address=row["address"],
        topics=tuple(topics),
        data=row["data"],
        block_number=hex(int(row["block_number"])),
        block_hash=row["block_hash"],
        transaction_hash=row["transaction_hash"],
        transaction_index=hex(int(row["transaction_index"])),
        log_index=hex(int(row["log_index"])),
    )


def _raw(log: Log) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(log))


Transfer = tuple[str, str, str, int, str, int, int]


def _transfers(logs: list[Log]) -> list[Transfer]:
    found: list[Transfer] = []
    for log in logs:
        if is_transfer(log):
            transaction, sender, receiver, token, value = key_of(log).decode().split("\t")
            place = quantity(log.log_index), quantity(log.block_number)
            found.append((token, sender, receiver, int(value), transaction, *place))
    return found


def _expected(path: Path) -> list[Transfer]:
    return [
        (
            row["token_address"],
            row["from_address"],
            row["to_address"],
            int(row["value"]),
            row["transaction_hash"],
            int(row["log_index"]),
            int(row["block_number"]),
        )
        for row in _rows(path)
    ]


def test_of_681_logs_291_are_transfers_and_282_of_them_of_erc20():
    """ethereum-etl takes the token number of the other 9, which are ERC-721, for a value of 0; we leave them out."""
    folder = STREAM / "blocks_17173049_17173050"
    logs = [_log(row) for row in _rows(folder / "expected_logs.json")]
    named = [log for log in logs if log.topics and log.topics[0] == TRANSFER]
    assert (len(logs), len(named), Counter(len(log.topics) for log in named)) == (681, 291, {3: 282, 4: 9})
    found, expected = _transfers(logs), _expected(folder / "expected_token_transfers.json")
    of_tokens = {(log.transaction_hash, quantity(log.log_index)) for log in named if len(log.topics) == 4}
    assert len(found) == 282
    assert found == [row for row in expected if row[4:6] not in of_tokens]
    moved = Counter((row[4], row[0]) for row in expected)  # transaction and token
    assert sum(times > 1 for times in moved.values()) == 40


@pytest.mark.parametrize(
    ("logs", "transfers"),
    [
        ("test_stream/blocks_1755634_1755635/expected_logs.json", "expected_token_transfers.json"),
        ("test_extract_token_transfers_job/logs/logs.csv", "expected_token_transfers.csv"),
    ],
)
def test_the_transfers_in_logs_are_those_that_ethereum_etl_extracts(logs, transfers):
    """Row for row, in order."""
    path = ETL / logs
    found = _transfers([_log(row) for row in _rows(path)])
    assert found
    assert found == _expected(path.parent / transfers)


def test_the_transfers_in_a_nodes_answer_are_those_that_ethereum_etl_exports():
    """The answer of a filter, as the node gave it."""
    folder = ETL / "test_export_token_transfers_job" / "block_with_transfers"
    answer = json.loads((folder / "web3_response.eth_getFilterLogs_0x0.json").read_text())
    found = _transfers([read_log(json.dumps(log)) for log in answer["result"]])
    assert found == _expected(folder / "expected_token_transfers.csv")


def _mainnet(number: int) -> tuple[Block, list[Receipt]]:
    """A mainnet block and its receipts, put together from rows."""
    folder = STREAM / "blocks_17173049_17173050"
    [row] = [row for row in _rows(folder / "expected_blocks.json") if row["number"] == number]
    logs = [_log(log) for log in _rows(folder / "expected_logs.json") if log["block_number"] == number]
    sent = [x for x in _rows(folder / "expected_transactions.json") if x["block_number"] == number]
    block = Block(
        number=hex(number),
        hash=row["hash"],
        parent_hash=row["parent_hash"],
        timestamp=hex(row["timestamp"]),
        logs_bloom=row["logs_bloom"],
        receipts_root=row["receipts_root"],
        gas_used=hex(row["gas_used"]),
        transactions=[msgspec.Raw(msgspec.json.encode(transaction["hash"])) for transaction in sent],
    )
    receipts = []
    for transaction in sent:
        own = [log for log in logs if log.transaction_hash == transaction["hash"]]
        receipt = Receipt(
            transaction_hash=transaction["hash"],
            transaction_index=hex(transaction["transaction_index"]),
            block_hash=row["hash"],
            block_number=hex(number),
            cumulative_gas_used=hex(transaction["receipt_cumulative_gas_used"]),
            gas_used=hex(transaction["receipt_gas_used"]),
            logs_bloom="0x" + proof.logs_bloom(own).hex(),
            logs=[_raw(log) for log in own],
            type=hex(transaction["transaction_type"]),
            status=hex(transaction["receipt_status"]),
        )
        receipts.append(receipt)
    return block, receipts


@pytest.mark.parametrize(("number", "transactions"), [(17173049, 116), (17173050, 182)])
def test_mainnet_blocks_of_hundreds_of_receipts_are_proved(number, transactions):
    """Types 0 and 2, hundreds of logs; and one log less is a contradiction, whichever it is."""
    block, receipts = _mainnet(number)
    assert len(receipts) == transactions
    proof.check_block(block, receipts, root=True)
    logs = [log for receipt in receipts for log in receipt.events()]
    proof.check_logs(block, logs)
    for receipt in receipts:
        for left_out in range(len(receipt.logs)):
            kept = [raw for at, raw in enumerate(receipt.logs) if at != left_out]
            others = [msgspec.structs.replace(one, logs=kept) if one is receipt else one for one in receipts]
            with pytest.raises(proof.Contradiction, match=str(number)):
                proof.check_block(block, others, root=False)


@pytest.mark.parametrize(
    ("header", "receipts"),
    [
        (
            "test_export_blocks_job/block_with_logs/web3_response.eth_getBlockByNumber_0x76250_true.json",
            "test_export_receipts_job/receipts_with_logs",
        ),
        (
            "test_stream/blocks_1755634_1755635/web3_response.eth_getBlockByNumber_0x1ac9f3_true.json",
            "test_stream/blocks_1755634_1755635",
        ),
    ],
)
def test_mainnet_blocks_from_before_the_byzantium_fork_are_proved(header, receipts):
    """Receipts held the root of the state then, and no status."""
    block = read_block(json.dumps(json.loads((ETL / header).read_text())["result"]))
    answers = [json.loads(path.read_text()) for path in (ETL / receipts).glob("*eth_getTransactionReceipt*")]
    found = [msgspec.json.decode(json.dumps(answer["result"]), type=Receipt) for answer in answers]
    found = [receipt for receipt in found if receipt.block_hash == block.hash]
    found.sort(key=lambda receipt: quantity(receipt.transaction_index))
    assert all(receipt.root for receipt in found)
    proof.check_block(block, found, root=True)


# Traces


def _traced(block: str, transactions: list[str]) -> Block:
    """What frames need of a header: its number, hash and transactions."""
    hashes = [msgspec.Raw(msgspec.json.encode(name)) for name in transactions]
    return Block("0x1", block, "", "0x0", "0x", "0x", "0x0", hashes)


TRACES = sorted(ETL.glob("test_*/*/web3_response.trace_block_*.json")) if DATA.exists() else []


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.parent.name)
def test_frames_of_trace_block_are_the_rows_of_ethereum_etl(path):
    """Who pays whom, by which kind of call, where in the tree, and whether it failed or is inside of what failed."""
    answer = json.loads(path.read_text())["result"]
    [expected] = path.parent.glob("expected_traces.*")
    rows = [row for row in _rows(expected) if row["trace_type"] not in ("reward", "genesis", "daofork")]
    named = [trace for trace in answer if trace["type"] != "reward"]
    hashes = [trace["transactionHash"] for trace in named if not trace["traceAddress"]]
    block = _traced(named[0]["blockHash"] if named else "", hashes)
    frames = list(of_traces(block, msgspec.Raw(json.dumps(answer).encode())))
    assert [_frame(frame) for frame in frames] == [_trace(row) for row in rows]


def _frame(frame: Any) -> tuple[object, ...]:
    kind = frame.kind
    return (
        frame.transaction,
        frame.sender,
        frame.created or frame.receiver or "",
        quantity(frame.value),
        "suicide" if kind == "selfdestruct" else kind,
        frame.path,
        frame.failed,
    )


def _trace(row: dict[str, Any]) -> tuple[object, ...]:
    path = row["trace_address"] or ()
    if isinstance(path, str):
        path = path.split(",")
    kind = row["call_type"] if row["trace_type"] == "call" else row["trace_type"]
    return (
        row["transaction_hash"],
        row["from_address"] or "",
        row["to_address"] or "",
        int(row["value"] or 0),
        kind,
        tuple(map(int, path)),
        int(row["status"]) == 0,
    )


TREES = sorted(ETL.glob("test_*/*/web3_response.debug_traceBlock*.json")) if DATA.exists() else []


@pytest.mark.parametrize("path", TREES, ids=lambda path: path.parent.name)
def test_frames_of_call_trees_are_the_rows_of_ethereum_etl(path):
    """The answers of an old geth, which gave no hashes and told nothing of self-destructs."""
    answer = json.loads(path.read_text())["result"]
    [expected] = path.parent.glob("expected_traces.csv")
    block = _traced("", [str(index) for index in range(len(answer))])
    frames = list(of_trees(block, msgspec.Raw(json.dumps(answer).encode())))
    rows = _rows(expected)
    assert [_frame(frame)[1:6] for frame in frames] == [
        _trace({**row, "status": row["status"] or 1})[1:6] for row in rows
    ]
    assert [frame.transaction for frame in frames] == [row["transaction_index"] for row in rows]
