"""Transfers from eth_getLogs, over ranges that adapt to what the node gives.

`Filtered` asks for what it wants and takes the node at its word. `Whole` asks for all logs of a range, which costs
little more, and holds them against the headers: indices without a hole and the bloom show what was held back.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import lt

import msgspec

from ingestion_assets.engine import rows as copy_text
from ingestion_assets.engine.errors import SchemaDrift, TooMuch, Transient
from ingestion_assets.engine.stream import Rejected
from ingestion_assets.sources.evm.fields import Unreadable
from ingestion_assets.sources.evm.node.blocks import Blocks, split
from ingestion_assets.sources.evm.node.candidates import Candidates
from ingestion_assets.sources.evm.node.proof import Contradiction, check_logs
from ingestion_assets.sources.evm.node.ranges import LogRanges
from ingestion_assets.sources.evm.node.shapes import Block, Log, index_of, quantity, read_log
from ingestion_assets.sources.evm.node.transfers import TRANSFER, Pair, Transfers
from ingestion_assets.sources.evm.node.windows import DRIFT, Doubt, Found, Verdict, readings, twice
from ingestion_assets.sources.evm.node.wire import Call, Refused
from ingestion_assets.sources.evm.provider import Reading

ENOUGH = 6_000  # logs in one window: some 20 MB until they are stored
FIRST = 64  # blocks of the first question for all logs; busy chains have hundreds in each
FARTHEST = 5_000  # blocks in one window, whatever it holds
SUBJECTS = 500  # addresses or topics in one question; geth allows 1,000

Filter = dict[str, object]

_read_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_read_logs = msgspec.json.Decoder(list[Log]).decode


class Asked:
    """Questions for logs of one class: how far each may reach, and what came.

    Args:
        blocks: gives headers, and the wire.
        ranges: what is known of the node's limits.
        filters: what is asked for; several are one question.
    """

    def __init__(self, blocks: Blocks, ranges: LogRanges, filters: Sequence[Filter]) -> None:
        self.host = blocks.wire.client.host
        self._wire = blocks.wire
        self._ranges = ranges
        self._filters = filters

    def cut(self, lo: int, hi: int) -> int:
        """The last block of a window that begins at `lo`."""
        return self._ranges.next(lo, min(hi, lo + FARTHEST - 1))

    def ask(self, lo: int, hi: int) -> "Logs":
        """The logs of `lo` up to the block that comes back with them, which is `hi` unless the node refuses so many.

        Raises:
            TooMuch: the node refuses the logs of one block.
            SchemaDrift: not one of several logs can be read.
        """
        while True:
            answers = self._once(lo, hi)
            if not isinstance(answers, Refused):
                logs = Logs(self.host, lo, hi, answers)
                self._ranges.accepted(lo, hi, logs.size)
                return logs
            if not isinstance(answers.error, TooMuch):
                raise answers.error
            fault = answers.fault
            self._ranges.refused(lo, hi, fault.code, fault.message, fault.data)
            hi = self._ranges.next(lo, hi)

    def _once(self, lo: int, hi: int) -> list[msgspec.Raw] | Refused:
        answers = []
        for wanted in self._filters:
            call = Call("eth_getLogs", ({**wanted, "fromBlock": hex(lo), "toBlock": hex(hi)},))
            [answer] = self._wire.ask([call])
            if isinstance(answer, Refused):
                return answer
            answers.append(answer)
        return answers


class Logs:
    """The answers to one question, read.

    Args:
        host: whose they are.
        lo: first block that was asked for.
        hi: last block that was asked for.
        answers: lists of logs.
    """

    def __init__(self, host: str, lo: int, hi: int, answers: Sequence[msgspec.Raw]) -> None:
        self.hi = hi
        self.bad: list[Rejected] = []
        self.by_block: dict[int, list[Pair]] = {}
        self.as_is = all(copy_text.payload(text) is text for text in map(bytes, answers))
        """Whether none of it has to be mended, so that payloads can be views of the answer."""
        pairs = [pair for answer in answers for pair in self._read(host, answer)]
        self.size = len(pairs) + len(self.bad)
        if len(self.bad) >= DRIFT and not pairs:
            raise SchemaDrift(
                f"{host}: none of {len(self.bad)} logs can be read; the first: {self.bad[0].reason}"
            )
        self._sort(host, lo, pairs)

    def _read(self, host: str, answer: msgspec.Raw) -> Iterable[Pair]:
        try:
            raws = _read_raws(answer)
        except msgspec.DecodeError as error:
            raise SchemaDrift(f"{host}: logs are a list: {error}") from error
        try:
            return zip(_read_logs(answer), raws, strict=True)
        except (msgspec.DecodeError, UnicodeError):
            return self._one_by_one(raws)

    def _one_by_one(self, raws: Sequence[msgspec.Raw]) -> list[Pair]:
        good: list[Pair] = []
        for raw in raws:
            try:
                good.append((read_log(raw), raw))
            except (msgspec.DecodeError, UnicodeError) as error:
                self.bad.append(Rejected(bytes(raw), str(error)))
        return good

    def _sort(self, host: str, lo: int, pairs: Iterable[Pair]) -> None:
        written: defaultdict[str, list[Pair]] = defaultdict(list)
        for pair in pairs:
            written[pair[0].block_number].append(pair)
        found: dict[int, list[Pair]] = {}
        for text, of_block in written.items():
            try:
                number = quantity(text)
            except Unreadable as error:
                raise Transient(f"{host} gives a log of no block: {error}") from error
            if not lo <= number <= self.hi:
                raise Transient(f"{host} gives logs of block {number}, asked for were {lo}..{self.hi}")
            found[number] = of_block
        self.by_block = dict(sorted(found.items()))


class Whole:
    """All logs of each block, held against its header."""

    def __init__(
        self, blocks: Blocks, ranges: LogRanges, transfers: Transfers, candidates: Candidates
    ) -> None:
        self._asked = Asked(blocks, ranges, [{}])
        self._blocks = blocks
        self._transfers = transfers
        self._candidates = candidates
        self.cut = self._asked.cut

    def read(self, lo: int, hi: int) -> Sequence[Reading]:
        """As far as one answer reaches."""
        try:
            logs = self._asked.ask(lo, hi)
        except TooMuch:
            return self._candidates.read(lo, lo)
        found = logs.by_block  # what cannot be read is missed below
        headers, unknown = split(twice(range(lo, logs.hi + 1), self._blocks.headers))
        verdicts: dict[int, Verdict] = {**unknown}
        for number, header in headers.items():
            verdicts[number] = self._judged(number, header, found.get(number, ()), as_is=logs.as_is)
        doubts = [number for number, verdict in verdicts.items() if isinstance(verdict, Doubt)]
        unsure = _ends(list(found), doubts) - set(doubts)
        known = {number: headers[number] for number in unsure}
        verdicts.update(self._candidates.found(sorted({*doubts, *unsure}), known))
        return readings(self._asked.host, lo, logs.hi, verdicts, "header")

    def _judged(self, number: int, header: Block, logs: Sequence[Pair], *, as_is: bool) -> Verdict:
        try:
            check_logs(header, [log for log, _ in logs])
        except Contradiction as error:
            return Doubt(str(error))
        picks = self._transfers.picks
        picked = [pair for pair in logs if picks(pair[0])]
        return self._transfers.rows(picked, number, header.timestamp, header.hash, as_is=as_is)


def _ends(filled: Sequence[int], doubts: Sequence[int]) -> set[int]:
    """The blocks in which an answer, or a part of it before a hole, may have been cut off.

    The last logs of a block can be missing without a trace in index or bloom, if others of the block set the same bits.
    """
    ends = {filled[-1]} if filled else set()
    for doubt in doubts:
        before = bisect_left(filled, doubt)
        if before:
            ends.add(filled[before - 1])
    return ends


class Filtered:
    """The logs that are asked for, and nothing that proves them."""

    def __init__(
        self, blocks: Blocks, ranges: LogRanges, transfers: Transfers, candidates: Candidates
    ) -> None:
        self._asked = Asked(blocks, ranges, list(filters(transfers)))
        self._blocks = blocks
        self._transfers = transfers
        self._candidates = candidates
        self.cut = self._asked.cut

    def read(self, lo: int, hi: int) -> Sequence[Reading]:
        """As far as one answer reaches."""
        try:
            logs = self._asked.ask(lo, hi)
        except TooMuch:
            return self._candidates.read(lo, lo)
        headers = self._missing_times(logs.by_block)
        verdicts: dict[int, Verdict] = {}
        for number, pairs in logs.by_block.items():
            verdicts[number] = self._found(number, pairs, headers.get(number), as_is=logs.as_is)
        if logs.bad:
            first = verdicts.setdefault(lo, Found())
            if isinstance(first, Found):
                first.bad += logs.bad
        return readings(self._asked.host, lo, logs.hi, verdicts, "stated")

    def _missing_times(self, found: Mapping[int, Sequence[Pair]]) -> Mapping[int, Block | Doubt]:
        numbers = sorted(number for number, pairs in found.items() if pairs[0][0].block_timestamp is None)
        return twice(numbers, self._blocks.headers) if numbers else {}

    def _found(
        self, number: int, pairs: Sequence[Pair], header: Block | Doubt | None, *, as_is: bool
    ) -> Verdict:
        if isinstance(header, Doubt):
            return header
        first = pairs[0][0]
        told = first.block_hash.lower() if header is None else header.hash
        for log, _ in pairs:
            if log.removed or (log.block_hash != told and log.block_hash.lower() != told):
                return Doubt(f"block {number} has the hash {told}, and logs of another one came")
        picks = self._transfers.picks
        time = (first.block_timestamp or "") if header is None else header.timestamp
        try:
            in_order = _in_order([pair for pair in pairs if picks(pair[0])])
            return self._transfers.rows(in_order, number, time, told, as_is=as_is)
        except Unreadable as error:
            return Doubt(f"block {number}: {error}", unreadable=True)


def _in_order(pairs: Sequence[Pair]) -> Sequence[Pair]:
    """Logs of one block by their index, each once."""
    indices = [index_of(log.log_index) for log, _ in pairs]
    if all(map(lt, indices, indices[1:])):
        return pairs
    return [pair for _, pair in sorted(dict(zip(indices, pairs, strict=True)).items())]


def filters(transfers: Transfers) -> Iterator[Filter]:
    """The filters of eth_getLogs that together find these transfers, and hardly anything else."""
    if transfers.topics is not None:
        for some in _some(transfers.topics):
            yield {"topics": [TRANSFER, some]}
            yield {"topics": [TRANSFER, None, some]}
    elif transfers.contracts is not None:
        for some in _some(transfers.contracts):
            yield {"address": some, "topics": [TRANSFER]}
    else:
        yield {"topics": [TRANSFER]}


def _some(subjects: frozenset[str]) -> Iterator[list[str]]:
    ordered = sorted(subjects)
    for at in range(0, len(ordered), SUBJECTS):
        yield ordered[at : at + SUBJECTS]
