"""A node of a hand-made chain: whole in every hash that is checked, and spoiled on demand."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from ingestion_assets.engine.http import Client
from ingestion_assets.sources.evm.node.keccak import keccak256
from ingestion_assets.sources.evm.node.proof import logs_bloom, receipts_root
from ingestion_assets.sources.evm.node.shapes import read_log, read_receipts

TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
START = 1_704_067_200  # 2024-01-01


def name(text: str) -> str:
    """A hash, made of a text."""
    return f"0x{keccak256(text.encode()).hex()}"


def account(number: int) -> str:
    """An address."""
    return f"0x{number:040x}"


def topic(address: str) -> str:
    """An address as a topic."""
    return f"0x{address[2:]:0>64}"


def word(number: int) -> str:
    """A number as 32 bytes."""
    return f"0x{number:064x}"


ALICE, BOB, CAROL = account(0xA11CE), account(0xB0B), account(0xCA201)
USD, OLD, CAT = account(0x05D), account(0x01D), account(0xCA7)


def transfer(sender: str, receiver: str, value: int, token: str = USD) -> dict[str, Any]:
    """An ERC-20 log."""
    return {"address": token, "topics": [TRANSFER, topic(sender), topic(receiver)], "data": word(value)}


@dataclass
class Tx:
    """A transaction and all that it does."""

    sender: str = ALICE
    to: str | None = BOB
    value: int = 0
    logs: list[dict[str, Any]] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)  # as callTracer writes them
    error: str | None = None
    created: str | None = None
    gas: int = 60_000
    gas_used: int = 50_000
    outcome: dict[str, str] | None = None  # instead of a status


def call(kind: str, sender: str, to: str | None, value: int = 0, **more: Any) -> dict[str, Any]:
    """A frame of the callTracer."""
    frame = {"type": kind, "from": sender, "gas": "0x1", "gasUsed": "0x1", "input": "0x", "value": hex(value)}
    return {**frame, **({"to": to} if to else {}), **more}


class Node:
    """Blocks of transactions, and the methods that are asked for.

    `spoil(method, params, result)` may change a result; raise `Fault` there for an error.
    """

    def __init__(self, blocks: list[list[Tx]], *, seconds: int = 12) -> None:
        self.asked: Counter[str] = Counter()
        self.requests: list[int] = []  # calls in each
        self.spoil: Callable[[str, list[Any], Any], Any] = lambda _method, _params, result: result
        self.replaced: dict[bytes, bytes] = {}  # in the text of every answer
        self.denied: set[str] = set()
        self.largest_batch = 1_000
        self.contracts: dict[str, str] = {}
        self.blocks: list[dict[str, Any]] = []
        self.receipts: list[list[dict[str, Any]]] = []
        self.trees: list[list[dict[str, Any]]] = []
        for number, transactions in enumerate(blocks):
            self._add(number, transactions, START + number * seconds)

    def _add(self, number: int, transactions: list[Tx], time: int) -> None:
        block_hash = name(f"block {number}")
        place = {"blockNumber": hex(number), "blockHash": block_hash}
        index, gas, whole, receipts, trees = 0, 0, [], [], []
        for position, tx in enumerate(transactions):
            where = {
                **place,
                "transactionHash": name(f"tx {number} {position}"),
                "transactionIndex": hex(position),
            }
            logs = []
            for log in tx.logs:
                logs.append(
                    {**log, **where, "logIndex": hex(index), "removed": False, "blockTimestamp": hex(time)}
                )
                index += 1
            gas += tx.gas_used
            receipts.append({
                **where, "from": tx.sender, "to": tx.to, "contractAddress": tx.created, "cumulativeGasUsed": hex(gas),
                "gasUsed": hex(tx.gas_used), "effectiveGasPrice": "0x7", "logs": logs, "logsBloom": _bloom(logs), "type": "0x0",
                **(tx.outcome or {"status": "0x0" if tx.error else "0x1"}),
            })  # fmt: skip
            whole.append({
                **place, "hash": where["transactionHash"], "transactionIndex": hex(position), "from": tx.sender, "to": tx.to,
                "value": hex(tx.value), "nonce": hex(position), "gas": hex(tx.gas), "gasPrice": "0x9", "input": "0x",
            })  # fmt: skip
            root = call(
                "CALL" if tx.to else "CREATE", tx.sender, tx.to or tx.created, tx.value, calls=tx.calls
            )
            trees.append(
                {
                    "txHash": where["transactionHash"],
                    "result": {**root, **({"error": tx.error} if tx.error else {})},
                }
            )
        logs = [log for receipt in receipts for log in receipt["logs"]]
        self.blocks.append({
            "number": hex(number), "hash": block_hash, "parentHash": name(f"block {number - 1}"), "timestamp": hex(time),
            "logsBloom": _bloom(logs), "gasUsed": hex(gas), "transactions": whole,
            "receiptsRoot": f"0x{receipts_root(read_receipts(json.dumps(receipts).encode())).hex()}",
        })  # fmt: skip
        self.receipts.append(receipts)
        self.trees.append(trees)

    @property
    def head(self) -> int:
        """Its newest block."""
        return len(self.blocks) - 1

    def client(self, **options: Any) -> Client:
        """Asks it."""
        return Client(
            "http://node.test/rpc", transport=httpx.MockTransport(self.answer), errors_in_body=True,
            sleep=lambda _seconds: None, **options,
        )  # fmt: skip

    def answer(self, request: httpx.Request) -> httpx.Response:
        """A request."""
        asked = json.loads(request.content)
        calls = asked if isinstance(asked, list) else [asked]
        self.requests.append(len(calls))
        if len(calls) > self.largest_batch:
            refusal = {
                "code": -32600,
                "message": f"batch item count exceeded limit: maximum is {self.largest_batch}",
            }
            return httpx.Response(200, json={"jsonrpc": "2.0", "id": None, "error": refusal})
        answers = [self._one(one) for one in calls]
        text = json.dumps(answers if isinstance(asked, list) else answers[0]).encode()
        for old, new in self.replaced.items():
            text = text.replace(old, new)
        return httpx.Response(200, content=text)

    def _one(self, asked: dict[str, Any]) -> dict[str, Any]:
        method, params = asked["method"], asked["params"]
        self.asked[method] += 1
        head = {"jsonrpc": "2.0", "id": asked["id"]}
        try:
            if method in self.denied:
                raise Fault(-32601, f"the method {method} does not exist/is not available")
            return {**head, "result": self.spoil(method, params, self._result(method, params))}
        except Fault as fault:
            return {**head, "error": {"code": fault.code, "message": fault.message}}

    def _result(self, method: str, params: list[Any]) -> Any:  # noqa: C901, PLR0911, PLR0912 - one for each method
        match method, params:
            case "eth_blockNumber", _:
                return hex(self.head)
            case "eth_chainId", _:
                return "0x1"
            case "eth_getBlockByNumber", [tag, whole]:
                number = {"finalized": self.head - 1, "latest": self.head}.get(tag)
                block = self._at(self.blocks, hex(number) if number is not None else tag)
                if block and not whole:
                    block = {**block, "transactions": [tx["hash"] for tx in block["transactions"]]}
                return block
            case "eth_getBlockReceipts", [tag]:
                return self._at(self.receipts, tag)
            case "eth_getTransactionReceipt", [wanted]:
                found = [one for block in self.receipts for one in block if one["transactionHash"] == wanted]
                return found[0] if found else None
            case "trace_block", [tag]:
                trees = self._at(self.trees, tag)
                return trees and [one for position, tree in enumerate(trees) for one in _flat(tree, position)]
            case "debug_traceBlockByNumber", [tag, {"tracer": "callTracer"}]:
                return self._at(self.trees, tag)
            case "eth_getLogs", [wanted]:
                return self._logs(wanted)
            case "eth_call", [{"to": to, "data": data}, _]:
                if to + data[:10] not in self.contracts:
                    raise Fault(3, "execution reverted")
                return self.contracts[to + data[:10]]
            case "eth_getBalance" | "eth_getTransactionCount", _:
                return "0x2a"
            case "eth_getCode", [address, _]:
                return "0x6001" if address == USD else "0x"
        raise Fault(-32601, f"the method {method} does not exist/is not available")

    def _at(self, of_blocks: list[Any], tag: str) -> Any:
        number = int(tag, 16)
        return of_blocks[number] if number < len(of_blocks) else None

    def _logs(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        lo, hi = int(wanted["fromBlock"], 16), int(wanted["toBlock"], 16)
        logs = [log for block in self.receipts[lo : hi + 1] for receipt in block for log in receipt["logs"]]
        addresses, topics = wanted.get("address"), wanted.get("topics", [])
        return [
            log
            for log in logs
            if (addresses is None or log["address"] in addresses)
            and len(log["topics"]) >= len(topics)
            and all(
                some is None or log["topics"][at] in ([some] if isinstance(some, str) else some)
                for at, some in enumerate(topics)
            )
        ]


class Fault(Exception):
    """An error object."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def _bloom(logs: list[dict[str, Any]]) -> str:
    return f"0x{logs_bloom([read_log(msgspec.json.encode(log)) for log in logs]).hex()}"


def _flat(tree: dict[str, Any], position: int) -> list[dict[str, Any]]:
    """A tree of the callTracer as trace_block tells it."""
    found: list[dict[str, Any]] = []

    def walk(frame: dict[str, Any], path: list[int]) -> None:
        kind, calls = frame["type"].lower(), frame.get("calls", [])
        trace = {
            "traceAddress": path, "subtraces": len(calls), "transactionHash": tree["txHash"], "transactionPosition": position,
            **({"error": frame["error"]} if "error" in frame else {}),
        }  # fmt: skip
        if kind.startswith("create"):
            action = {"from": frame["from"], "value": frame["value"], "init": "0x", "creationMethod": kind}
            trace |= {
                "type": "create",
                "action": action,
                "result": {"address": frame["to"]} if "to" in frame else None,
            }
        elif kind == "selfdestruct":
            action = {"address": frame["from"], "refundAddress": frame["to"], "balance": frame["value"]}
            trace |= {"type": "suicide", "action": action, "result": None}
        else:
            action = {"from": frame["from"], "to": frame["to"], "value": frame["value"], "callType": kind}
            trace |= {"type": "call", "action": action, "result": {"output": "0x"}}
        found.append(trace)
        for at, inner in enumerate(calls):
            walk(inner, [*path, at])

    walk(tree["result"], [])
    return found
