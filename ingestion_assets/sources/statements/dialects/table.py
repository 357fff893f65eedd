"""Dialects that are one table: a header, and a record on each line. A new one is declared, not programmed."""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import cast

from ingestion_assets.engine.stream import Rejected
from ingestion_assets.sources.statements import text
from ingestion_assets.sources.statements.line import KEY_SEPARATOR, Line, Source, Unreadable
from ingestion_assets.sources.statements.values import Value, in_zone, moment, offset
from ingestion_assets.sources.statements.values import text as as_text

MOST_TIMES = 4_096  # that are remembered: those of one moment stand together

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
        self._headers = [table.at if column is None else column.header for column in columns]
        self._values: list[Callable[[str], object]] = [
            time if column is None else column.value for column in columns
        ]
        self.line = _written_out(table, columns, time)

    def reason(self, cells: Sequence[str]) -> str:
        """Why a record has no line: which column a bad cell stands in."""
        if len(cells) != len(self._headers):
            return f"{len(cells)} cells below a header of {len(self._headers)}"
        for header, value, cell in zip(self._headers, self._values, cells, strict=True):
            try:
                value(cell)
            except ValueError as error:
                return f"{header}: {error}"
        raise AssertionError(f"every cell can be read: {cells}")


def _written_out(
    table: Table, columns: Sequence[Column | None], time: Callable[[str], datetime]
) -> Callable[[int, str, Sequence[str]], Line]:
    """The function that makes the line of a record, from its position, its text and its cells; ValueError: it has none.

    It is written out column by column, as dataclasses write theirs, and takes half the time of a loop over the columns.
    Nothing of a file goes into it: what is named there was declared.
    """
    known: dict[str, object] = {"Line": Line, "join": KEY_SEPARATOR.join}
    body = [", ".join(f"cell_{n}" for n in range(len(columns))) + ", = cells"]
    variables: dict[str, str] = {}
    for n, column in enumerate(columns):
        if column is None:
            known["stamp"] = lru_cache(MOST_TIMES)(_stamp(time))
            body.append(f"at, written = stamp(cell_{n})")
            variables["time"] = "written"
            continue
        variables[column.name] = f"value_{n}"
        if column.value is as_text:  # of most cells of most tables: worth a call less
            body.append(f"value_{n} = cell_{n}.strip() or None")
        else:
            known[f"read_{n}"] = column.value
            body.append(f"value_{n} = read_{n}(cell_{n})")
    # In the order of the declaration, whatever that of the file: another export has to give the same key.
    key = [variables.get(one.name) for one in table.columns if one.in_key]
    parts = ", ".join("''" if name is None else f"{name} or ''" for name in key)
    absent = {one.name: "None" for one in table.columns if one.in_key and one.name not in variables}
    payload = ", ".join(f"{name!r}: {variable}" for name, variable in (variables | absent).items())
    account = variables[table.account] if table.account else None
    body.append(
        f"return Line(position, raw, {table.section!r}, at, join(({parts},)), {{{payload}}}, {account})"
    )
    exec("\n    ".join(["def line(position, raw, cells):", *body]), known)  # noqa: S102
    return cast("Callable[[int, str, Sequence[str]], Line]", known["line"])


def _stamp(time: Callable[[str], datetime]) -> Callable[[str], tuple[datetime, str]]:
    """A time, and as payloads hold it."""

    def stamp(cell: str) -> tuple[datetime, str]:
        at = time(cell)
        return at, moment(at)

    return stamp


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
                except ValueError:
                    line = Rejected(raw.encode(), layout.reason(cells), position)
                yield line
        if layout is None:
            raise Unreadable(f"it has no header of {self.name}")
