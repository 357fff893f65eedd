"""One chain: which rows an address has in a range of blocks.

Blocks are never stored. The chain keeps one number for every row of a watched address, and works
the row out again from its block when somebody asks, which keeps months of history in a few MB.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from threading import Lock

from ingestion_assets.sandbox.clock import Clock
from ingestion_assets.sandbox.draw import digest
from ingestion_assets.sandbox.events import Call, Script, Transaction, Transfer
from ingestion_assets.sandbox.parties import address_of
from ingestion_assets.sandbox.rows import Block, Row, parties_of, render

ACTIONS = ("txlist", "txlistinternal", "tokentx")
"""The kinds of row, by the explorer's names for them."""

_BLOCK_BITS = 12
"""A row's number is its block, shifted by these bits, plus its position among the block's rows."""


class Chain:
    """A deterministic history: the same arguments give the same bytes in every process."""

    def __init__(
        self,
        chain_id: int,
        seed: int,
        genesis: datetime,
        block_seconds: int,
        accounts: int = 6,
        *,
        transactions_per_block: float = 0.7,
        first_block: int = 0,
        quiet_day: int | None = None,
    ) -> None:
        """Describe the chain; no row exists before `grow_to`.

        Args:
            chain_id: which chain this is; another id is another history.
            seed: together with the chain id decides everything. The addresses follow from the
                seed alone: chains of one seed have the same accounts.
            genesis: the time of block 0, a midnight in UTC.
            block_seconds: the mean distance of blocks; must divide 86,400.
            accounts: how many addresses are watched, at least 1.
            transactions_per_block: the mean, not counting the busy blocks.
            first_block: rows of older blocks are forgotten; their times and hashes are not.
            quiet_day: the day without any block, counted in days from genesis.

        Raises:
            ValueError: an argument is outside these limits.

        """
        if accounts < 1:
            raise ValueError(f"a chain needs at least one account, not {accounts}")
        self.chain_id = chain_id
        self.seed = seed
        self.clock = Clock(genesis, block_seconds, f"{seed}/{chain_id}", quiet_day)
        self.addresses = tuple(address_of(seed, party) for party in range(accounts))
        self.first_block = first_block
        self.height = first_block - 1
        """The newest block that has been grown."""
        self._script = Script(seed, chain_id, accounts, transactions_per_block)
        self._index = {action: [array("Q") for _ in self.addresses] for action in ACTIONS}
        self._party = {address: party for party, address in enumerate(self.addresses)}
        self._growing = Lock()

    def time_of(self, block: int) -> int:
        """Give the timestamp of a block in seconds since 1970, grown or not."""
        return self.clock.time_of(block)

    def first_block_at(self, time: datetime | int) -> int:
        """Give the first block at or after a time (a datetime or seconds since 1970)."""
        return self.clock.first_block_at(time)

    def last_block_at(self, time: datetime | int) -> int:
        """Give the last block at or before a time (a datetime or seconds); -1 before genesis."""
        return self.clock.last_block_at(time)

    def hash_of(self, block: int) -> str:
        """Give the hash of a block; the parent of block 0 has 64 zeros."""
        return digest(self.seed, self.chain_id, "block", block) if block >= 0 else "0x" + "0" * 64

    def grow_to(self, block: int) -> None:
        """Add the blocks up to and with `block`; a smaller number than before changes nothing."""
        with self._growing:
            for number in range(self.height + 1, block + 1):
                transactions = self._script.block(number)
                if transactions:
                    self._list(number, transactions)
            self.height = max(self.height, block)

    def find(self, action: str, address: str, low: int, high: int) -> "array[int]":
        """Number the rows of an address in the blocks low..high (both included) in chain order.

        The numbers are for `render`. An address nobody watches has no rows.

        Raises:
            KeyError: `action` is none of ACTIONS.

        """
        lists, party = self._index[action], self._party.get(address.lower())
        if party is None:
            return array("Q")
        start = bisect_left(lists[party], max(0, low) << _BLOCK_BITS)
        end = bisect_left(lists[party], max(0, high + 1) << _BLOCK_BITS)
        return lists[party][start:end]

    def render(self, action: str, found: Iterable[int], head: int) -> list[Row]:
        """Write the rows with these numbers, in the order of the numbers given."""
        rows: list[Row] = []
        for number, members in groupby(found, lambda row: row >> _BLOCK_BITS):
            block = Block(self.seed, self.chain_id, number, self.time_of(number), self.hash_of(number))
            whole = render(block, self._script.block(number), action, head)
            rows += [whole[row & (1 << _BLOCK_BITS) - 1] for row in members]
        return rows

    def rows(self, action: str, address: str, low: int, high: int, head: int | None = None) -> list[Row]:
        """Give the rows of an address in the blocks low..high, oldest first.

        `head` is the block confirmations are counted from: the height unless told. Blocks that
        have not been grown have no rows.
        """
        found = self.find(action, address, low, high)
        return self.render(action, found, self.height if head is None else head)

    def _list(self, number: int, transactions: list[Transaction]) -> None:
        """Note the rows of a block under each watched address that takes part, once each."""
        watched, base = len(self.addresses), number << _BLOCK_BITS
        events: dict[str, Sequence[Transaction | Call | Transfer]] = {
            "txlist": transactions,
            "txlistinternal": [call for one in transactions for call in one.calls],
            "tokentx": [transfer for one in transactions for transfer in one.transfers],
        }
        for action, happened in events.items():
            lists = self._index[action]
            for position, event in enumerate(happened):
                for party in parties_of(event):
                    if party is not None and party < watched:
                        lists[party].append(base + position)
