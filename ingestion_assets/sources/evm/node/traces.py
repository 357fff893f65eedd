"""Internal transactions of watched accounts from a node's traces: rows as explorers list them.

Listed are calls that carry value, creations and self-destructs; failed are those with an error of their own or
inside of a call that failed. No hash commits to traces, so the node is taken at its word; but a list of traces from which
something is missing contradicts itself, and is noticed.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from ingestion_assets.engine import rows as copy_text
from ingestion_assets.engine.errors import TooMuch, Unsupported
from ingestion_assets.engine.stream import Rejected
from ingestion_assets.sources.evm.fields import ADDRESS, HASH, NULL, Unreadable, matching, uint256, word
from ingestion_assets.sources.evm.node.blocks import Blocks, split, when
from ingestion_assets.sources.evm.node.frames import Frame, of_traces, of_trees
from ingestion_assets.sources.evm.node.proof import Contradiction
from ingestion_assets.sources.evm.node.shapes import Block, quantity
from ingestion_assets.sources.evm.node.windows import Doubt, Found, Verdict, twice
from ingestion_assets.sources.evm.node.wire import Answer, Call, Refused
from ingestion_assets.sources.evm.records import INTERNAL_TRANSACTIONS, Row

TRACES = 10  # blocks in one request of trace_block
ENOUGH = 4_000_000  # bytes in one answer
TREES = 4  # blocks in one request of debug_traceBlockByNumber, which executes them again

Frames = Callable[[Block, msgspec.Raw], Iterator[Frame]]

CALL_TRACER = {"tracer": "callTracer"}


class Traces:
    """Traces of one node. It remembers which method the node has.

    Args:
        blocks: gives the headers.
        chain: its name, for the column.
        provider: its name, for the column.
    """

    def __init__(self, blocks: Blocks, chain: str, provider: str) -> None:
        self._blocks = blocks
        self._chain = chain
        self._provider = provider
        self._gives_flat_traces = True
        self._at_once = 1  # blocks in one request; as many as their size allows, once it is known

    def read(self, accounts: frozenset[str], lo: int, hi: int) -> dict[int, Verdict]:
        """What is found in each block of the accounts, which are in lower case.

        Raises:
            Unsupported: the node has neither method.
        """
        verdicts: dict[int, Verdict] = {}
        while lo <= hi:
            some = range(lo, min(hi, lo + self._at_once - 1) + 1)
            verdicts.update(twice(some, lambda numbers: self._read(accounts, numbers)))
            lo = some[-1] + 1
        return verdicts

    def _read(self, accounts: frozenset[str], numbers: Sequence[int]) -> dict[int, Verdict]:
        headers, doubts = split(self._blocks.headers(numbers))
        verdicts: dict[int, Verdict] = {**doubts}
        filled = {number: header for number, header in headers.items() if header.transactions}
        frames, answers = self._ask(list(filled))
        if size := sum(len(memoryview(answer)) for answer in answers if not isinstance(answer, Refused)):
            self._at_once = min(TRACES, max(1, ENOUGH * len(answers) // size))
        for number, answer in zip(filled, answers, strict=True):
            verdicts[number] = self._judged(accounts, filled[number], answer, frames)
        return {number: verdicts.get(number, Found()) for number in numbers}

    def _ask(self, numbers: Sequence[int]) -> tuple[Frames, Sequence[Answer]]:
        if self._gives_flat_traces:
            calls = [Call("trace_block", (hex(number),)) for number in numbers]
            answers = self._blocks.wire.ask(calls, most=TRACES)
            if _unsupported(answers) is None:
                return of_traces, answers
            self._gives_flat_traces = False
        calls = [Call("debug_traceBlockByNumber", (hex(number), CALL_TRACER)) for number in numbers]
        answers = self._blocks.wire.ask(calls, most=TREES)
        if (error := _unsupported(answers)) is not None:
            raise Unsupported(
                f"{self._provider} on {self._chain} answers neither trace_block nor debug_traceBlockByNumber: "
                f"internal transactions need a node that does, or an explorer ({error})"
            )
        return of_trees, answers

    def _judged(self, accounts: frozenset[str], header: Block, answer: Answer, frames: Frames) -> Verdict:
        number = quantity(header.number)
        if isinstance(answer, Refused):
            if isinstance(answer.error, TooMuch):
                return Doubt(f"block {number}: its traces are too large to be given: {answer.error}")
            raise answer.error
        try:
            return self._found(
                number, when(self._chain, number, header.timestamp), accounts, frames(header, answer)
            )
        except Contradiction as error:
            return Doubt(str(error))
        except (msgspec.DecodeError, UnicodeError, Unreadable) as error:
            return Doubt(f"block {number}: its traces cannot be read: {error}", unreadable=True)
        except RecursionError:
            return Doubt(f"block {number}: its calls are nested too deeply to be read")

    def _found(self, number: int, time: bytes, accounts: frozenset[str], frames: Iterable[Frame]) -> Found:
        found = Found()
        for frame in frames:
            parties = (frame.sender.lower(), (frame.receiver or "").lower(), (frame.created or "").lower())
            if accounts.isdisjoint(parties) or not frame.counts:
                continue
            received = bytes(frame.raw)
            try:
                key = _key(frame, *parties[:2])
                attributes = f"{_attributes(frame, parties[2])}\t{self._provider}\t".encode()
                payload = copy_text.payload(received)
            except (Unreadable, UnicodeError) as error:
                found.bad.append(Rejected(received, str(error), number))
                continue
            identity = INTERNAL_TRANSACTIONS.identity(key, attributes)
            found.rows.append(Row(number, identity, time, key, attributes, payload))
        return found


def _unsupported(answers: Iterable[Answer]) -> Unsupported | None:
    errors = (answer.error for answer in answers if isinstance(answer, Refused))
    return next((error for error in errors if isinstance(error, Unsupported)), None)


def _key(frame: Frame, sender: str, receiver: str) -> bytes:
    name, sender = matching(HASH, frame.transaction, "hash"), matching(ADDRESS, sender, "from")
    receiver = matching(ADDRESS, receiver, "to") if receiver else NULL
    return f"{name}\t{sender}\t{receiver}\t{uint256(str(quantity(frame.value)), 'value')}".encode()


def _attributes(frame: Frame, created: str) -> str:
    """The columns after the ordinal, without provider."""
    contract = matching(ADDRESS, created, "contractAddress") if created else NULL
    path = "_".join(map(str, frame.path))
    return f"{word(frame.kind, 'type')}\t{contract}\t{'t' if frame.failed else 'f'}\t{path}"
