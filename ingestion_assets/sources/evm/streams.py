"""What is read of a watched account, and how a range of blocks is paged until it is whole.

A range is walked by block, never by page number: each question begins at the last block of the answer
before it, so pages may shift or be cut anywhere and no record falls between two of them. Only when one
block alone fills a page is it read by page number, once from each end, and the two readings must agree.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ingestion_assets.engine.coverage import Ranges, difference, union
from ingestion_assets.engine.errors import TooMuch
from ingestion_assets.engine.stream import Batch, Covered, Done, Evidence, Unproved
from ingestion_assets.sources.evm.chain import Chain, Days
from ingestion_assets.sources.evm.records import KINDS, Kind, Page


@dataclass(frozen=True, slots=True)
class AccountHistory:
    """The records of one kind that name one account, on some days of one chain. Positions are blocks."""

    chain: Chain
    kind: Kind
    address: str
    days: tuple[Days, ...]

    @property
    def key(self) -> str:
        """`evm/token_transfers/base/0xabc…`"""
        return stream_key(self.kind, self.chain.name, self.address)

    def wanted(self) -> Ranges:
        """The final blocks of the days."""
        return union(blocks for days in self.days for blocks in self.chain.blocks(days))

    def read(self, done: Done) -> Iterator[Batch]:
        """What is wanted and not covered, oldest block first."""
        for lo, hi in difference(self.wanted(), done.covered):
            yield from self._scan(lo, hi)

    def _scan(self, lo: int, hi: int) -> Iterator[Batch]:
        top = hi  # of the next question; lower than hi once the provider has refused a range for its size
        while lo <= hi:
            try:
                batch = self._next(lo, top)
            except TooMuch as error:
                if lo < top:
                    top = (lo + top) // 2
                    continue
                batch = Batch(Unproved(lo, lo, str(error)))
            reached = _end(batch)
            yield batch
            if reached == top:
                top = min(hi, top + 2 * (top - lo + 1))
            lo = reached + 1
            top = max(lo, top)

    def _next(self, lo: int, top: int) -> Batch:
        """The rows from `lo` up to where one answer reaches, which is `top` at most."""
        page = self._page(lo, top)
        if page.is_last:
            return self._covered(page, lo, top)
        if page.last_block > lo:
            # The answer may end in the middle of its last block: that block is read again, whole.
            return self._covered(page.before(page.last_block), lo, page.last_block - 1)
        return self._crowded_block(lo)

    def _crowded_block(self, block: int) -> Batch:
        """One block that fills a page by itself."""
        pages = self._pages(block, newest_first=False)
        whole = Page.join(pages)
        if not pages[-1].is_last:
            window = sum(page.size for page in pages)
            # Only the first page is sure: a later one may have moved, and shown a row twice.
            return self._unproved(
                pages[0],
                block,
                f"block {block} fills the {window} records that the provider shows of one question, and may hold more",
            )
        again = Page.join(self._pages(block, newest_first=True))
        if Counter(row.identity for row in whole.good) != Counter(row.identity for row in again.good):
            # Pages that moved may have shown a row twice, or hidden one: sure is what both readings show.
            return self._unproved(
                whole.shared(again),
                block,
                f"two readings of block {block} differ: its pages moved while they were read",
            )
        return self._covered(whole, block, block)

    def _pages(self, block: int, *, newest_first: bool) -> list[Page]:
        pages: list[Page] = []
        for number in range(1, self.chain.provider.pages_per_window + 1):
            try:
                pages.append(self._page(block, block, page=number, newest_first=newest_first))
            except TooMuch:  # the provider's window is smaller than we were told
                if not pages:
                    raise
                break
            if pages[-1].is_last:
                break
        return pages

    def _page(self, lo: int, hi: int, *, page: int = 1, newest_first: bool = False) -> Page:
        return self.chain.provider.page(self.kind, self.address, lo, hi, page=page, newest_first=newest_first)

    def _covered(self, page: Page, lo: int, hi: int) -> Batch:
        evidence = Evidence("stated", self.chain.provider.name)
        return Batch(Covered(lo, hi, evidence), (page.rows(self.kind),), page.rejected())

    def _unproved(self, page: Page, block: int, reason: str) -> Batch:
        return Batch(Unproved(block, block, reason), (page.rows(self.kind),), page.rejected())


def _end(batch: Batch) -> int:
    """The last block that a batch speaks of."""
    assert isinstance(batch.mark, Covered | Unproved)  # noqa: S101 - for the type checker: this stream has no cursor
    return batch.mark.hi


def stream_key(kind: Kind, chain: str, address: str) -> str:
    """The name under which the marks of an account's history are kept."""
    return f"evm/{kind.name}/{chain}/{address}"


def stream_keys(chain: str, addresses: Iterable[str]) -> list[str]:
    """The names of all streams of these accounts."""
    return [stream_key(kind, chain, address) for kind in KINDS for address in addresses]
