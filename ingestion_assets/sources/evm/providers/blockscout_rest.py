"""Version 2 of Blockscout's API: an account's records by keyset, newest first. https://docs.blockscout.com/api-reference

It is the only explorer that tells the log index of a token transfer. It gives 50 records at a time and knows no lower
end of a range: a question begins below the block after the range, and each answer says where the next one begins,
until the range is passed. Readings come oldest first all the same, and memory stays small whatever the range: what
does not fit is read in windows of as many blocks as will, and what was read of the upper ones is kept for its turn.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import msgspec

from ingestion_assets.engine.errors import Misconfigured, Transient
from ingestion_assets.sources.evm.provider import Question, Reading
from ingestion_assets.sources.evm.providers.blockscout import Blockscout
from ingestion_assets.sources.evm.providers.explorer import Dialect
from ingestion_assets.sources.evm.providers.items import InternalTransaction, TokenTransfer, Transaction
from ingestion_assets.sources.evm.providers.listing import Listing
from ingestion_assets.sources.evm.records import (
    INTERNAL_TRANSACTIONS,
    TOKEN_TRANSFERS,
    TRANSACTIONS,
    Kind,
    Page,
)

Params = dict[str, str | int]

KEPT = 3  # parts that wait for their turn with their records
INDEXING = "api/v2/main-page/indexing-status"

# Newer instances leave out by themselves what are no rows of ours.
FILTERS: dict[str, Params] = {
    INTERNAL_TRANSACTIONS.name: {"include_zero_value": "false"},
    TOKEN_TRANSFERS.name: {"type": "ERC-20"},
}

Position = tuple[int, ...]  # block, and the place in it


class Answer(msgspec.Struct):
    """One page, and where the next one begins."""

    items: list[msgspec.Raw]
    next_page_params: dict[str, str | int | None] | None


class Place(msgspec.Struct):
    """Where an item stands. Items are listed by falling place, and no two have the same."""

    block_number: int | None = None  # none: it waits to be mined
    transaction_index: int | None = None
    position: int | None = None  # of a transaction
    index: int | None = None  # of an internal transaction
    log_index: int | None = None  # of a token transfer

    def of(self, kind: Kind) -> Position | None:
        """The place, as far as the item tells it."""
        if self.block_number is None:
            return None
        if kind is INTERNAL_TRANSACTIONS:
            inner: tuple[int | None, ...] = (self.transaction_index, self.index)
        else:
            inner = (self.position if kind is TRANSACTIONS else self.log_index,)
        known = [number for number in inner if number is not None]
        return (self.block_number, *known) if len(known) == len(inner) else None


class Indexing(msgspec.Struct):
    """How much of the chain the instance has looked at."""

    finished_indexing: bool = True
    indexed_internal_transactions_ratio: str | None = None


class Part(NamedTuple):
    """A part of what was asked for, and its records where they are known."""

    lo: int
    hi: int
    page: Page | None = None


class Step(NamedTuple):
    """What one answer brings."""

    page: Page  # newest first
    next: Params | None
    bottom: Position | None  # of its last item


_answer = msgspec.json.Decoder(Answer)
_place = msgspec.json.Decoder(Place)
_indexing = msgspec.json.Decoder(Indexing)


class BlockscoutRest(Blockscout):
    """One instance of Blockscout, asked through version 2 of its API."""

    dialect = Dialect(
        listings=(
            Listing(TRANSACTIONS, "transactions", msgspec.json.Decoder(Transaction).decode),
            Listing(
                INTERNAL_TRANSACTIONS,
                "internal-transactions",
                msgspec.json.Decoder(InternalTransaction).decode,
                selective=True,
            ),
            Listing(
                TOKEN_TRANSFERS, "token-transfers", msgspec.json.Decoder(TokenTransfer).decode, selective=True
            ),
        ),
    )
    hold = 1_000  # records that are held of one part
    _full = 0  # items of the longest page so far
    _is_indexed = False

    def read(self, question: Question) -> Iterator[Reading]:
        """The records of one account. See `Provider`."""
        (address,) = question.subjects
        listing = self._listing(question.kind)
        doubt = self._unfinished() if question.kind is INTERNAL_TRANSACTIONS else None
        parts = [Part(question.lo, question.hi)]  # the next one last
        width = question.hi - question.lo + 1
        while parts:
            lo, hi, page = parts.pop()
            if page is None:
                top = min(hi, lo + width - 1)
                if top < hi:
                    parts.append(Part(top + 1, hi))
                page, whole = self._gather(listing, address, lo, top)
                if whole > lo:
                    parts += [Part(whole, top, page), Part(lo, whole - 1)]
                    _forget(parts)
                    width = max(1, (top - whole + 1) * 3 // 4)  # so many blocks will probably fit
                    continue
                if page.size < self.hold // 2:
                    width *= 2
                hi = top
            yield Reading(lo, hi, page, doubt=doubt)

    def _gather(self, listing: Listing, address: str, lo: int, hi: int) -> tuple[Page, int]:
        """The upper part of these blocks, oldest first, and the first block of it; that is `lo` if all of it fits."""
        first: Params = {"block_number": hi + 1, "index": 0}
        if listing.kind is INTERNAL_TRANSACTIONS:
            first["transaction_index"] = 0
        start: Params | None = first
        pages: list[Page] = []
        bottom: Position | None = None
        held = 0
        while start is not None:
            page, start, bottom = self._step(listing, address, (lo, hi), start, bottom)
            pages.append(page)
            held += page.size
            # The next answer may go on in the block in which this one ends, so that block is not whole yet.
            if start is not None and bottom is not None and lo <= bottom[0] < hi and held >= self.hold:
                return Page.join(pages).reversed().since(bottom[0] + 1), bottom[0] + 1
        return Page.join(pages).reversed(), lo

    def _step(
        self,
        listing: Listing,
        address: str,
        blocks: tuple[int, int],
        start: Params,
        above: Position | None,
    ) -> Step:
        """The items from `start` on, as far as they are of these blocks; `above` is the place of the one before."""
        lo, hi = blocks

        def read(body: bytes) -> Step:
            answer = self._decode(_answer, body)
            places = [self._place(raw, listing.kind) for raw in answer.items]
            bottom = self._check(answer, places, above)
            inside = [
                raw
                for raw, place in zip(answer.items, places, strict=True)
                if place is None or place[0] >= lo
            ]
            page = listing.page(
                inside,
                chain=self._chain,
                provider=self.name,
                address=address,
                blocks=(lo, hi),
                is_last=True,
                newest_first=True,
            )
            self._full = max(self._full, len(answer.items))
            more = answer.next_page_params
            if more is None or (bottom is not None and bottom[0] < lo):
                return Step(page, None, bottom)
            return Step(page, {name: value for name, value in more.items() if value is not None}, bottom)

        return self._client.ask(
            {**FILTERS.get(listing.kind.name, {}), **start},
            read,
            path=f"api/v2/addresses/{address}/{listing.action}",
        )

    def _place(self, raw: msgspec.Raw, kind: Kind) -> Position | None:
        try:
            return _place.decode(raw).of(kind)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None  # the record will be rejected, with the reason

    def _check(
        self, answer: Answer, places: list[Position | None], above: Position | None
    ) -> Position | None:
        """The place of the last item, after a look at what a page that moved or lost items would show."""
        known = [place for place in ([above] if above else []) + places if place is not None]
        if any(one <= other for one, other in pairwise(known)):
            raise Transient(f"{self._client.host}: items come twice, or not in the order of the chain")
        more = answer.next_page_params
        if above and not places:
            raise Transient(f"{self._client.host}: nothing, though the page before said that more follow")
        if more is not None and (len(places) < self._full or not places or places[-1] is None):
            raise Transient(f"{self._client.host}: a page of {len(places)} items only, though more follow")
        bottom = known[-1] if known else None
        if more is not None and bottom is not None and str(more.get("block_number")) != str(bottom[0]):
            raise Transient(
                f"{self._client.host}: the page ends in block {bottom[0]}, and the next one begins elsewhere: {more}"
            )
        return bottom

    def _unfinished(self) -> str | None:
        """Why its internal transactions may not be all. Asked until it has them all."""
        if self._is_indexed:
            return None
        try:
            found = self._client.ask({}, lambda body: self._decode(_indexing, body), path=INDEXING)
        except Misconfigured:  # this instance does not tell
            found = Indexing()
        ratio = found.indexed_internal_transactions_ratio
        self._is_indexed = found.finished_indexing and (ratio is None or ratio.startswith("1"))
        if self._is_indexed:
            return None
        return f"{self._client.host} has looked at {ratio or 'not all'} of the internal transactions so far"


def _forget(parts: list[Part]) -> None:
    """Drop the records of the part that is furthest away, so that only a few are kept."""
    kept = [at for at, part in enumerate(parts) if part.page is not None]
    if len(kept) > KEPT:
        parts[kept[0]] = parts[kept[0]]._replace(page=None)
