"""What is left to do, as streams: notes of what has changed in the raw transfers, and totals that are out of date.

Neither has positions of its own: a note, or a cell, is gone when what it stands for is done, in the same transaction. So a run that is
killed leaves what it has not done, and two runs at once share the work.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date

from ingestion_assets.engine.coverage import Ranges
from ingestion_assets.engine.store import Store
from ingestion_assets.engine.stream import Batch, Derived, Done
from ingestion_assets.orchestration.partitions import Span
from ingestion_assets.sources.transfers.merging import STORE, Merge
from ingestion_assets.sources.transfers.months import month_of
from ingestion_assets.sources.transfers.retention import Keep
from ingestion_assets.sources.transfers.totals import Cell, Sum

TOTALS = "transfers/daily_totals"

NOTES = 1_000  # looked up at once
ROWS = 20_000  # changed raw rows that one transaction merges, if it need not be more: a note has 10,000, or one block of more
CELLS = 500  # added up by one transaction


@dataclass(frozen=True, slots=True)
class Changes:
    """The raw transfers of a chain that have changed on some days.

    Args:
        store: where all of it is.
        chain: its name.
        days: the days.
        begin: the first day that the store keeps; None: all.
    """

    store: Store
    chain: str
    days: tuple[Span, ...]
    begin: date | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """Its name; the marks are those of the raw streams."""
        return (f"{STORE}/{self.chain}",)

    def wanted(self) -> Ranges:
        """It has no positions."""
        return ()

    def read(self, _done: Mapping[str, Done]) -> Iterator[Batch]:
        """What was noted by now, in the order of days: what comes meanwhile is the next run's."""
        yield Batch(Derived(Keep(self.chain, self.begin)))
        notes: list[int] = []
        rows, month = 0, date.min
        for day, note, changed in self._notes():
            if notes and (rows + changed > ROWS or month_of(day) != month):
                yield Batch(Derived(Merge(self.chain, notes)))
                notes, rows = [], 0
            month = month_of(day)
            notes.append(note)
            rows += changed
        if notes:
            yield Batch(Derived(Merge(self.chain, notes)))

    def _notes(self) -> Iterator[tuple[date, int, int]]:
        newest = self.store.transaction(
            lambda c: c.execute("SELECT coalesce(max(id), 0) FROM ops.transfer_changes").fetchone()
        )
        for first, last in self.days:
            values = {
                "chain": self.chain, "first": first, "last": last, "newest": newest[0] if newest else 0,
                "day": first, "id": 0, "most": NOTES,
            }  # fmt: skip
            while found := self.store.transaction(lambda c, v=values: c.execute(_NOTES, v).fetchall()):  # type: ignore[misc]
                yield from found
                values |= {"day": found[-1][0], "id": found[-1][1]}


@dataclass(frozen=True, slots=True)
class OutdatedTotals:
    """The totals of a chain and some days whose transfers have changed since they were added up."""

    store: Store
    chain: str
    days: tuple[Span, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Its name; it has no marks."""
        return (f"{TOTALS}/{self.chain}",)

    def wanted(self) -> Ranges:
        """It has no positions."""
        return ()

    def read(self, _done: Mapping[str, Done]) -> Iterator[Batch]:
        """The cells, in the order of days."""
        for first, last in self.days:
            after: Cell = (first, "")
            while cells := self._cells(after, last):
                yield Batch(Derived(Sum(self.chain, cells)))
                after = cells[-1]

    def _cells(self, after: Cell, last: date) -> list[Cell]:
        values = [self.chain, *after, last, CELLS]
        return self.store.transaction(lambda c: c.execute(_CELLS, values).fetchall())


_NOTES = """
    SELECT day, id, rows FROM ops.transfer_changes
    WHERE chain = %(chain)s AND day BETWEEN %(first)s AND %(last)s AND id <= %(newest)s AND (day, id) > (%(day)s, %(id)s)
    ORDER BY day, id LIMIT %(most)s"""
_CELLS = """
    SELECT day, token_address FROM ops.transfer_cells
    WHERE chain = %s AND (day, token_address) > (%s, %s) AND day <= %s
    ORDER BY day, token_address LIMIT %s"""
