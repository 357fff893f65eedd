"""Dialects that are one table: a header, and a record on each line. A new one is declared, not programmed."""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from operator import getitem, itemgetter
from typing import TypeVar

from ingestion_assets.engine.stream import Rejected
from ingestion_assets.sources.statements import text
from ingestion_assets.sources.statements.line import Line, Source, Unreadable
from ingestion_assets.sources.statements.values import Value, in_zone, moment, offset

_ZONE = re.compile(r"(.*)\(UTC(?:([+-])(\d\d):(\d\d))?\)")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Args:
        header: as it stands in the file, without a zone.
        name: in the payload.
        value: what its cells are.
        in_key: part of what makes a line this line and no other. Not what follows from other columns, or what only some
            exports of the same line have.
        optional: there are exports without it.
        also: other headers that it goes by.
    """

    header: str
    name: str
    value: Value
    in_key: bool = True
    optional: bool = False
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """A header that is known, and what its columns are.

    Args:
        section: what its lines are called.
        at: header of the column that says when.
        columns: all others.
        time: what the cells of `at` are; None: times of the zone that the header names, UTC if it names none.
        account: name of the column that says whose line it is.
        also: other headers that `at` goes by.
    """

    section: str
    at: str
    columns: tuple[Column, ...]
    time: Callable[[str], datetime] | None = None
    account: str | None = None
    also: tuple[str, ...] = ()

    def fits(self, header: Sequence[str]) -> "Layout | None":
        """How a file with this header is read; None: it is another table, or a column of it is not known."""
        zone: tzinfo = UTC
        columns: list[Column | None] = []
        known = {name: column for column in self.columns for name in (column.header, *column.also)}
        for cell in header:
            name = cell.strip()
            found = _ZONE.fullmatch(name)
            if found:
                name = found[1]
                zone = offset(found[2], found[3], found[4]) if found[2] else UTC
            if name in (self.at, *self.also):
                columns.append(None)
            elif name in known:
                columns.append(known[name])
            else:
                return None
        missing = {column for column in self.columns if not column.optional} - set(columns)
        if missing or columns.count(None) != 1 or len(set(columns)) != len(columns):
            return None
        return Layout(self, tuple(columns), self.time or in_zone(zone))


V = TypeVar("V")


class Known(dict[str, V]):
    """What cells of one column are, each read once: most of them say again what another one said.

    Args:
        read: a cell.
    """

    MOST = 65_536  # cells that are remembered

    def __init__(self, read: Callable[[str], V]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, cell: str) -> V:
        """A cell that was not seen before, or is not remembered.

        Raises:
            ValueError: it is not what its column holds.
        """
        if len(self) >= self.MOST:
            self.clear()
        value = self[cell] = self._read(cell)
        return value


class Layout:
    """A table in the order of one file's columns.

    Args:
        table: whose header it is.
        columns: in the order of the file; None is the one that says when.
        time: what its cells are.
    """

    def __init__(
        self, table: Table, columns: tuple[Column | None, ...], time: Callable[[str], datetime]
    ) -> None:
        self._table = table
        self._at = columns.index(None)
        self._headers = [table.at if column is None else column.header for column in columns]
        self._names = ["time" if column is None else column.name for column in columns]
        self._values = [_moment_of(time) if column is None else column.value for column in columns]
        self._known = [Known(value) for value in self._values]
        self._times: Known[datetime] = Known(time)
        # In the order of the declaration, whatever that of the file: another export has to give the same key.
        keys = [one.name for one in table.columns if one.in_key]
        self._key = itemgetter(*keys)
        self._absent = dict.fromkeys(name for name in keys if name not in self._names)

    def line(self, position: int, raw: str, cells: Sequence[str]) -> Line:
        """One record.

        Raises:
            ValueError: a cell is not what its column holds.
        """
        if len(cells) != len(self._names):
            raise ValueError(f"{len(cells)} cells below a header of {len(self._names)}")
        try:
            payload = dict(zip(self._names, map(getitem, self._known, cells), strict=True))
        except ValueError:
            self._explain(cells)
            raise
        if self._absent:
            payload |= self._absent
        account = payload[self._table.account] if self._table.account else None
        return Line(
            position,
            raw,
            self._table.section,
            self._times[cells[self._at]],
            self._key(payload),
            payload,
            account,
        )

    def _explain(self, cells: Sequence[str]) -> None:
        """Say which column a bad cell stands in."""
        for header, value, cell in zip(self._headers, self._values, cells, strict=True):
            try:
                value(cell)
            except ValueError as error:
                raise ValueError(f"{header}: {error}") from error


def _moment_of(time: Callable[[str], datetime]) -> Value:
    return lambda cell: moment(time(cell))


@dataclass(frozen=True, slots=True)
class TableDialect:
    """A dialect whose files are one of these tables.

    Args:
        name: of the dialect.
        broker: who writes it.
        tables: what a file may be.
        preamble: so many records may stand before the header.
        remarks: first cells of lines that are no records, such as "No matching records found."
    """

    name: str
    broker: str
    tables: tuple[Table, ...]
    preamble: int = 0
    remarks: frozenset[str] = frozenset()

    def recognises(self, head: str) -> bool:
        """Whether one of the first records is the header of one of its tables."""
        try:
            first = [
                cells
                for _, cells in zip(
                    range(self.preamble + 1), filter(None, csv.reader(head.splitlines())), strict=False
                )
            ]
        except csv.Error:
            return False
        return any(self._layout(cells) for cells in first)

    def _layout(self, cells: Sequence[str]) -> Layout | None:
        return next((found for table in self.tables if (found := table.fits(cells))), None)

    def read(self, source: Source) -> Iterator[Line | Rejected]:
        """All records below the header."""
        layout: Layout | None = None
        before = 0
        for position, raw, cells in text.records(source):
            if layout is None:
                layout = self._layout(cells)
                if layout is None and before == self.preamble:
                    raise Unreadable(f"line {position:,} is no header of {self.name}")
                before += 1
            elif cells[0].strip() not in self.remarks:
                try:
                    line: Line | Rejected = layout.line(position, raw, cells)
                except ValueError as error:
                    line = Rejected(raw.encode(), str(error), position)
                yield line
        if layout is None:
            raise Unreadable(f"it has no header of {self.name}")
