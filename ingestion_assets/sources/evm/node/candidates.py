"""Transfers from the receipts of those blocks whose bloom may hold one, so that none can be held back.

A bloom has no false negatives: a block that it rules out holds nothing that is asked for. All others are read whole, and
their receipts are held against the header. https://ethereum.github.io/yellowpaper/paper.pdf §4.3.1

Some chains, and some services in front of nodes, leave the bloom empty. So as long as none was seen that is not, a block
of each window whose transactions ran code is read by its receipts: if it has logs, no block is ruled out.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ingestion_assets.sources.evm.fields import Unreadable
from ingestion_assets.sources.evm.node.blocks import Blocks, Proved, split
from ingestion_assets.sources.evm.node.proof import logs_bloom
from ingestion_assets.sources.evm.node.shapes import Block, octets, quantity, read_log
from ingestion_assets.sources.evm.node.transfers import TRANSFER, Pair, Transfers
from ingestion_assets.sources.evm.node.windows import Doubt, Verdict, readings, twice
from ingestion_assets.sources.evm.provider import Reading

PLAIN = 21_000  # gas of a transaction that runs no code


class _Wanted(NamedTuple):
    """What a bloom must hold: to a bloom, addresses and topics are alike."""

    address: str
    topics: tuple[str, ...]


class Candidates:
    """Blocks that may hold the transfers that are asked for.

    Args:
        blocks: gives headers and receipts.
        transfers: which are asked for.
        window: blocks in one window at most.
        level: evidence of what is found.
    """

    def __init__(self, blocks: Blocks, transfers: Transfers, *, window: int, level: str) -> None:
        self._blocks = blocks
        self._transfers = transfers
        self._window = window
        self._level = level
        subjects = transfers.topics if transfers.topics is not None else transfers.contracts
        wanted = [
            _Wanted(TRANSFER, (subject,) if subjects is not None else ()) for subject in subjects or ("",)
        ]
        self._has_blooms = False  # one was seen that is not empty
        self._masks = [int.from_bytes(logs_bloom([one]), "big") for one in wanted]

    def cut(self, lo: int, hi: int) -> int:
        """The last block of a window that begins at `lo`."""
        return min(hi, lo + self._window - 1)

    def read(self, lo: int, hi: int) -> Sequence[Reading]:
        """A window."""
        headers, doubts = split(twice(range(lo, hi + 1), self._blocks.headers))
        verdicts: dict[int, Verdict] = {**doubts}
        some: list[int] = []
        silent: dict[int, int] = {}  # blocks that ran code, and have an empty bloom -> the gas of that
        for number, header in headers.items():
            try:
                bloom = int.from_bytes(octets(header.logs_bloom, "logsBloom"), "big")
                if any(bloom & mask == mask for mask in self._masks):
                    some.append(number)
                self._has_blooms = self._has_blooms or bloom > 0
                ran = quantity(header.gas_used, "gasUsed") - PLAIN * len(header.transactions)
                if not bloom and ran > 0:
                    silent[number] = ran
            except Unreadable as error:
                verdicts[number] = Doubt(f"block {number}: {error}", unreadable=True)
        verdicts.update(self.found(some, headers))
        if silent and not self._has_blooms:
            verdicts.update(self._unruled(silent, headers))
        return readings(self._blocks.wire.client.host, lo, hi, verdicts, self._level)

    def _unruled(self, silent: Mapping[int, int], headers: Mapping[int, Block]) -> dict[int, Verdict]:
        """What the busiest of these blocks holds; of all of them, if its bloom was empty and should not have been."""
        busiest = max(silent, key=silent.__getitem__)
        found = self.found([busiest], headers)
        if isinstance(found[busiest], Doubt):
            found.update(self.found([number for number in silent if number != busiest], headers))
        return found

    def found(self, numbers: Sequence[int], known: Mapping[int, Block]) -> dict[int, Verdict]:
        """What the receipts of these blocks hold. `known`: headers that need not be asked for again."""
        proved = self._blocks.proved(numbers, known=known)
        return {n: one if isinstance(one, Doubt) else self._found(n, one) for n, one in proved}

    def _found(self, number: int, proved: Proved) -> Verdict:
        picks = self._transfers.picks
        pairs: list[Pair] = []
        for receipt in proved.receipts:
            for raw in receipt.logs:
                log = read_log(raw)
                if picks(log):
                    pairs.append((log, raw))
        block = proved.block
        return self._transfers.rows(pairs, number, block.timestamp, block.hash, as_is=False)
