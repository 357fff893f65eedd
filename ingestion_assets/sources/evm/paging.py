"""How one account's range of blocks is paged until it is whole, at providers that give pages.

A range is walked by block, never by page number: each question begins at the last block of the answer
before it, so pages may shift or be cut anywhere and no record falls between two of them. Only when one
block alone fills a page is it read by page number, once from each end, and the two readings must agree.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from ingestion_assets.engine.errors import TooMuch, Transient
from ingestion_assets.sources.evm.provider import Question, Reading
from ingestion_assets.sources.evm.records import Kind, Page

# Caps of plans are round numbers; a page of exactly such a size is never taken as the last, even if longer ones were
# seen before: a plan may end in the middle of a run.
ROUND = 50
NEARLY = 0.95  # of the longest page
TRIES = 3  # for an answer that does not contradict the one before it


class Paged(Protocol):
    """What can be walked."""

    pages_per_window: int  # pages of one question that may be asked for by number

    def page(
        self, kind: Kind, address: str, lo: int, hi: int, *, page: int = 1, newest_first: bool = False
    ) -> Page:
        """One page of an account's records in the blocks lo..hi, in block order."""
        ...


class LongestPages:
    """Whether a page is the last one: a provider may give fewer records than asked for, and not say so.

    A page that is shorter than another one of the same kind was not cut, whatever the cap is. One that is as long
    as the longest so far may have been, and the walk asks on from its last block; so it does after one that is
    nearly as long, which may be a full page that lost records on its way. Over many accounts that happens a few
    times only, for long pages are rare.
    """

    def __init__(self) -> None:
        self._longest: dict[str, int] = {}

    def is_last(self, kind: Kind, size: int, asked: int) -> bool:
        """Whether a page of `size` records, with `asked` records asked for, was not cut. Remembers the size."""
        longest = self._longest.get(kind.name, 0)
        if size > longest:
            self._longest[kind.name] = size
        # Of a single record: a cap of one could not be walked at all.
        return size <= 1 or (size < asked and size < NEARLY * longest and size % ROUND != 0)


def walk(pages: Paged, question: Question) -> Iterator[Reading]:
    """The readings of one account, from `question.lo` to `question.hi`, oldest block first."""
    (address,) = question.subjects
    return _Walk(pages, question.kind, address).read(question.lo, question.hi)


@dataclass(frozen=True, slots=True)
class _Walk:
    """One account's records of one kind."""

    pages: Paged
    kind: Kind
    address: str

    def read(self, lo: int, hi: int) -> Iterator[Reading]:
        """All blocks lo..hi.

        Raises:
            Transient: an answer lacks records that the one before it held.
        """
        top = hi  # of the next question; lower than hi once the provider has refused a range for its size
        doubted = 1  # blocks that may be in doubt together: few at first, for the provider may lack the last ones only
        known: Page = Page.empty()  # what the answer before showed of the block `lo`
        while lo <= hi:
            try:
                reading, known = self._next(lo, top, known)
            except TooMuch as error:
                if lo < top:
                    top = (lo + top) // 2
                    continue
                reading, known = Reading(lo, lo, known, doubt=str(error)), Page.empty()
            if reading.doubt is not None and reading.hi - lo + 1 > doubted:
                top, known = (lo + reading.hi) // 2, Page.empty()
                continue
            doubted = 1 if reading.doubt is None else 2 * doubted
            yield reading
            if reading.hi == top:
                top = min(hi, top + 2 * (top - lo + 1))
            lo = reading.hi + 1
            top = max(lo, top)

    def _next(self, lo: int, top: int, known: Page) -> tuple[Reading, Page]:
        """The rows from `lo` up to where one answer reaches, which is `top` at most; and what it shows beyond that."""
        page = self._consistent(lo, top, known)
        if page.is_last:
            return _reading(page, lo, top), Page.empty()
        if page.last_block > lo:
            # The answer may end in the middle of its last block: that block is read again, whole.
            return _reading(page.before(page.last_block), lo, page.last_block - 1), page.since(
                page.last_block
            )
        return self._crowded_block(lo), Page.empty()

    def _consistent(self, lo: int, top: int, known: Page) -> Page:
        """An answer that holds what is known of its first block: that was asked for again, and cannot be gone."""
        expected = Counter(row.identity for row in known.good)
        for _ in range(TRIES):
            page = self._page(lo, top)
            found = Counter(row.identity for row in page.before(lo + 1).good)
            if expected <= found:
                return page
        if expected.keys() <= found.keys():
            return page  # only fewer equal ones, time and again: it was the answer before that showed one of them twice
        raise Transient(f"of the records of block {lo} that it showed before, it hides some when asked again")

    def _crowded_block(self, block: int) -> Reading:
        """One block that fills a page by itself."""
        pages = self._pages(block, newest_first=False)
        whole = Page.join(pages)
        if not pages[-1].is_last:
            # Only the first page is sure: a later one may have moved, and shown a row twice.
            reason = f"block {block} fills the {whole.size} records that the provider shows of one question, and may hold more"
            return Reading(block, block, pages[0], doubt=reason)
        again = Page.join(self._pages(block, newest_first=True))
        if Counter(row.identity for row in whole.good) != Counter(row.identity for row in again.good):
            # Pages that moved may have shown a row twice, or hidden one: sure is what both readings show.
            reason = f"two readings of block {block} differ: its pages moved while they were read"
            return Reading(block, block, whole.shared(again), doubt=reason)
        return _reading(whole, block, block)

    def _pages(self, block: int, *, newest_first: bool) -> list[Page]:
        pages: list[Page] = []
        for number in range(1, self.pages.pages_per_window + 1):
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
        return self.pages.page(self.kind, self.address, lo, hi, page=page, newest_first=newest_first)


def _reading(page: Page, lo: int, hi: int) -> Reading:
    return Reading(lo, hi, page, doubt=page.doubt)
