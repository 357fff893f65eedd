"""The calls inside of transactions, from the two ways in which nodes tell them, in one shape.

`trace_block` (Erigon, Nethermind, Reth, Besu, anvil) gives a flat list in which every trace names its path and how many
children it has; so what is missing shows. `debug_traceBlockByNumber` with the callTracer (geth) gives one tree for each
transaction. https://openethereum.github.io/JSONRPC-trace-module, https://geth.ethereum.org/docs/developers/evm-tracing/built-in-tracers
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from ingestion_assets.sources.evm.node.proof import Contradiction
from ingestion_assets.sources.evm.node.shapes import Block, quantity

Path = tuple[int, ...]  # which child of which child; () is the transaction itself

CREATIONS = {"create", "create2"}


class Frame(NamedTuple):
    """One call, creation or self-destruct. Addresses as the node writes them."""

    transaction: str
    path: Path
    kind: str  # call, callcode, delegatecall, staticcall, create, create2, selfdestruct
    sender: str
    receiver: str | None
    created: str | None
    value: str  # a quantity
    failed: bool  # by itself, or inside of what failed
    raw: msgspec.Raw

    @property
    def counts(self) -> bool:
        """Whether explorers list it: value that moves, creations and self-destructs, but never the transaction itself."""
        if not self.path:
            return False
        return (
            self.kind in CREATIONS
            or self.kind == "selfdestruct"
            or (self.kind == "call" and quantity(self.value) > 0)  # the others run in the caller's own name
        )


class _Action(msgspec.Struct, rename="camel", gc=False):
    from_: str = msgspec.field(name="from", default="")
    to: str | None = None
    value: str = "0x0"
    call_type: str | None = None
    creation_method: str | None = None
    address: str = ""
    refund_address: str | None = None
    balance: str = "0x0"


class _Result(msgspec.Struct, gc=False):
    address: str | None = None


class _Trace(msgspec.Struct, rename="camel", gc=False):
    type: str
    action: _Action
    trace_address: tuple[int, ...] = ()
    subtraces: int = 0
    transaction_hash: str | None = None
    block_hash: str | None = None
    error: str | None = None
    result: _Result | None = None


class _Tree(msgspec.Struct, rename="camel", gc=False):
    type: str
    from_: str = msgspec.field(name="from", default="")
    to: str | None = None
    value: str | None = None
    error: str | None = None
    calls: list[msgspec.Raw] = []


class _Traced(msgspec.Struct, rename="camel", gc=False):
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: str | None = None
    tx_hash: str | None = None


_read_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_read_trace = msgspec.json.Decoder(_Trace).decode
_read_tree = msgspec.json.Decoder(_Tree).decode
_read_traced = msgspec.json.Decoder(list[_Traced]).decode
_read_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def of_traces(block: Block, answer: msgspec.Raw) -> Iterator[Frame]:
    """The frames of a trace_block.

    Raises:
        Contradiction: traces are missing, or of another block.
        msgspec.DecodeError: it has another shape.
    """
    place = f"block {quantity(block.number)}"
    raws = _read_raws(answer)
    traces = [_read_trace(raw) for raw in raws]
    shown = [(trace, raw) for trace, raw in zip(traces, raws, strict=True) if trace.type != "reward"]
    _check_whole(place, block, [trace for trace, _ in shown])
    failed: set[tuple[str, Path]] = set()
    for trace, raw in shown:
        name, path = (trace.transaction_hash or "").lower(), trace.trace_address
        # Parents come before their children, as `_check_whole` has seen to.
        is_failed = bool(trace.error) or (bool(path) and (name, path[:-1]) in failed)
        if is_failed:
            failed.add((name, path))
        yield _frame_of_trace(name, trace, raw, is_failed=is_failed)


def _check_whole(place: str, block: Block, traces: Sequence[_Trace]) -> None:
    """Every transaction has its one root, and every trace as many children as it says, which stand behind it."""
    children: Counter[tuple[str, Path]] = Counter()
    expected: dict[tuple[str, Path], int] = {}
    roots: list[str] = []
    for trace in traces:
        name, path = (trace.transaction_hash or "").lower(), trace.trace_address
        if trace.block_hash is not None and trace.block_hash.lower() != block.hash:
            raise Contradiction(f"{place}: a trace is of the block {trace.block_hash}")
        if not path:
            roots.append(name)
        elif (name, path[:-1]) not in expected:
            raise Contradiction(
                f"{place}: of the transaction {name} the trace around {list(path)} is missing"
            )
        children[name, path[:-1]] += bool(path)
        if (name, path) in expected:
            raise Contradiction(f"{place}: of the transaction {name} the trace {list(path)} came twice")
        expected[name, path] = trace.subtraces
    hashes = block.hashes()
    if roots != hashes:
        raise Contradiction(
            f"{place} has {len(hashes)} transactions, and {len(roots)} were traced, or others"
        )
    for (name, path), count in expected.items():
        if children[name, path] != count:
            raise Contradiction(
                f"{place}: the trace {list(path)} of the transaction {name} has {count} calls, "
                f"and {children[name, path]} came"
            )


def _frame_of_trace(name: str, trace: _Trace, raw: msgspec.Raw, *, is_failed: bool) -> Frame:
    action, path = trace.action, trace.trace_address
    match trace.type:
        case "create":
            created = trace.result.address if trace.result else None
            kind = (action.creation_method or "create").lower()
            return Frame(name, path, kind, action.from_, None, created, action.value, is_failed, raw)
        case "suicide" | "selfdestruct":
            return Frame(
                name,
                path,
                "selfdestruct",
                action.address,
                action.refund_address,
                None,
                action.balance,
                is_failed,
                raw,
            )
        case _:
            kind = (action.call_type or trace.type).lower()
            return Frame(name, path, kind, action.from_, action.to, None, action.value, is_failed, raw)


def of_trees(block: Block, answer: msgspec.Raw) -> Iterator[Frame]:
    """The frames of a debug_traceBlockByNumber with the callTracer. Their payload is without what they call.

    Raises:
        Contradiction: trees are missing, or of other transactions.
        msgspec.DecodeError: it has another shape.
        RecursionError: calls are nested more deeply than we can read.
    """
    place = f"block {quantity(block.number)}"
    hashes, trees = block.hashes(), _read_traced(answer)
    if len(trees) != len(hashes):
        raise Contradiction(f"{place} has {len(hashes)} transactions, and {len(trees)} were traced")
    for name, traced in zip(hashes, trees, strict=True):
        if traced.tx_hash is not None and traced.tx_hash.lower() != name:
            raise Contradiction(f"{place}: {traced.tx_hash} is traced where {name} stands")
        if isinstance(traced.result, msgspec.UnsetType):
            raise Contradiction(f"{place}: {name} could not be traced: {traced.error}")
        yield from _walk(name, traced.result)


def _walk(name: str, root: msgspec.Raw) -> Iterator[Frame]:
    """Parents before children, without recursion: calls may be nested a thousand deep."""
    stack: list[tuple[Path, msgspec.Raw, bool]] = [((), root, False)]
    while stack:
        path, raw, in_failed = stack.pop()
        tree = _read_tree(raw)
        is_failed = in_failed or bool(tree.error)
        kind = tree.type.lower()
        is_creation = kind in CREATIONS
        frame = Frame(
            name,
            path,
            "selfdestruct" if kind == "suicide" else kind,
            tree.from_,
            None if is_creation else tree.to,
            tree.to if is_creation else None,
            tree.value or "0x0",
            is_failed,
            raw,
        )
        yield frame._replace(raw=_without_calls(raw)) if tree.calls and frame.counts else frame
        inner = [((*path, number), child, is_failed) for number, child in enumerate(tree.calls)]
        stack += reversed(inner)


def _without_calls(raw: msgspec.Raw) -> msgspec.Raw:
    fields = _read_fields(raw)
    fields.pop("calls", None)
    return msgspec.Raw(msgspec.json.encode(fields))
