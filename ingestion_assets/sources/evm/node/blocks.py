"""Blocks and their receipts, asked for in batches and checked against each other before anybody sees them.

Belongs here: how headers, whole blocks and receipts are asked for. What they prove is said in `proof`; what becomes of
them in `transactions`, `traces` and `logs`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial

import msgspec

from ingestion_assets.engine.errors import TooMuch, Unsupported
from ingestion_assets.sources.evm.fields import Unreadable
from ingestion_assets.sources.evm.node.proof import Contradiction, check_block
from ingestion_assets.sources.evm.node.shapes import Block, Receipt, quantity, read_block, read_receipts
from ingestion_assets.sources.evm.node.windows import Doubt, twice
from ingestion_assets.sources.evm.node.wire import Answer, Call, Refused, Wire, given

HEAVY = 20  # whole blocks, or receipts of blocks, in one request: several megabytes on a busy chain

_read_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class Proved:
    """A block whose receipts agree with its header."""

    block: Block
    receipts: list[Receipt]
    raw_receipts: list[msgspec.Raw]


class Blocks:
    """Blocks of one node.

    Args:
        wire: asks it.
        root: compute receipts roots as well.
    """

    def __init__(self, wire: Wire, *, root: bool) -> None:
        self.wire = wire
        self._root = root
        self._gives_receipts_by_block = True

    def headers(self, numbers: Sequence[int]) -> dict[int, Block | Doubt]:
        """Headers with the hashes of their transactions.

        Two neighbours that do not name each other are of different chains: both are in doubt.
        """
        calls = [Call("eth_getBlockByNumber", (hex(number), False)) for number in numbers]
        answers = self.wire.results(calls)
        found = {number: _block(answer, number) for number, answer in zip(numbers, answers, strict=True)}
        for number in numbers:
            header, child = found[number], found.get(number + 1)
            if isinstance(header, Block) and isinstance(child, Block) and child.parent_hash != header.hash:
                reason = (
                    f"block {number + 1} follows {child.parent_hash}, and block {number} is {header.hash}"
                )
                found[number] = found[number + 1] = Doubt(reason)
        return found

    def proved(
        self, numbers: Sequence[int], *, whole: bool = False, known: Mapping[int, Block] | None = None
    ) -> Iterator[tuple[int, Proved | Doubt]]:
        """Blocks with their receipts, some at a time; those that contradict themselves were asked for twice.

        Args:
            numbers: of the blocks.
            whole: with their transactions; else with the hashes of these.
            known: headers that need not be asked for, unless they are contradicted.
        """
        left = dict(known or {})
        size = HEAVY if known else max(1, HEAVY // 2)
        for at in range(0, len(numbers), size):
            some = numbers[at : at + size]
            yield from twice(some, partial(self._proved, whole=whole, known=left)).items()

    def _proved(
        self, numbers: Sequence[int], *, whole: bool, known: dict[int, Block]
    ) -> dict[int, Proved | Doubt]:
        headers: dict[int, Block | Doubt] = {n: known.pop(n) for n in numbers if n in known}  # used once
        unknown = [number for number in numbers if number not in headers]
        calls = [Call("eth_getBlockByNumber", (hex(number), whole)) for number in unknown]
        if self._gives_receipts_by_block:
            calls += [Call("eth_getBlockReceipts", (hex(number),)) for number in numbers]
        answers = self.wire.ask(calls, most=HEAVY)
        for number, answer in zip(unknown, answers, strict=False):
            headers[number] = _block(given(answer), number)
        receipts = dict(zip(numbers, answers[len(unknown) :], strict=False))
        return {number: self._checked(headers[number], receipts.get(number)) for number in numbers}

    def _checked(self, block: Block | Doubt, receipts: Answer | None) -> Proved | Doubt:
        if isinstance(block, Doubt):
            return block
        place = f"block {quantity(block.number)}"
        try:
            body = self._receipts(block, receipts)
            read = read_receipts(body)
            check_block(block, read, root=self._root)
            return Proved(block, read, _read_raws(body))
        except Contradiction as error:
            return Doubt(str(error))
        except (msgspec.DecodeError, UnicodeError, Unreadable) as error:
            return Doubt(f"{place}: its receipts cannot be read: {error}", unreadable=True)
        except TooMuch as error:
            return Doubt(f"{place}: {error}")

    def _receipts(self, block: Block, answer: Answer | None) -> msgspec.Raw | bytes:
        """All receipts of a block as one JSON list; one by one where the node has no method for blocks."""
        if isinstance(answer, Refused):
            if isinstance(answer.error, Unsupported):
                self._gives_receipts_by_block = False
            elif not isinstance(answer.error, TooMuch):
                raise answer.error
        elif answer is not None:
            return answer
        calls = [Call("eth_getTransactionReceipt", (name,)) for name in block.hashes()]
        return b"[" + b",".join(self.wire.results(calls)) + b"]"


def _block(answer: msgspec.Raw, number: int) -> Block | Doubt:
    try:
        block = read_block(answer)
        if quantity(block.number) != number:
            return Doubt(f"block {number} was asked for, and {quantity(block.number)} came")
        time_of(block)
        block.hash = block.hash.lower()
        block.parent_hash = block.parent_hash.lower()
    except (msgspec.DecodeError, UnicodeError, Unreadable) as error:
        return Doubt(f"block {number} cannot be read: {error}", unreadable=True)
    return block


def time_of(block: Block) -> datetime:
    """When it was made, UTC.

    Raises:
        Unreadable: its timestamp is no time.
    """
    return _moment(block.timestamp)


@lru_cache(maxsize=4096)
def _moment(timestamp: str) -> datetime:
    try:
        return datetime.fromtimestamp(quantity(timestamp, "timestamp"), UTC)
    except (OverflowError, OSError, ValueError) as error:
        raise Unreadable(f"timestamp is no time: {timestamp[:40]!r}") from error


def when(chain: str, number: int, timestamp: str) -> bytes:
    """The columns chain, block_number and block_time, with a tab after each."""
    return f"{chain}\t{number}\t{_moment(timestamp).isoformat()}\t".encode()


def split(verdicts: Mapping[int, Block | Doubt]) -> tuple[dict[int, Block], dict[int, Doubt]]:
    """What is believed, and what is not."""
    good = {number: block for number, block in verdicts.items() if isinstance(block, Block)}
    return good, {number: doubt for number, doubt in verdicts.items() if isinstance(doubt, Doubt)}
