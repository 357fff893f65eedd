"""Files of Interactive Brokers that hold many tables: `Section,Header|Data|SubTotal|Total|Notes,…`.

A section may have several headers, each for the lines that follow it; columns may have no name. What a line is keyed on
depends on what it is: an event has the same key in every statement that holds it, all else belongs to its statement.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from itertools import chain

from ingestion_assets.engine.stream import Rejected
from ingestion_assets.sources.statements import text
from ingestion_assets.sources.statements.dialects.ibkr_languages import (
    ACCOUNT,
    ASSETS,
    COLUMNS,
    MONTHS,
    PERIOD,
    SECTIONS,
)
from ingestion_assets.sources.statements.line import Line, Source, Unreadable, key_of
from ingestion_assets.sources.statements.values import NOTHING, Value, ibkr, ibkr_time, number
from ingestion_assets.sources.statements.values import text as as_text

HEADER = "Header"
PERIOD_WITHIN = 50  # records from the beginning
Record = tuple[int, str, list[str]]

BASE = ("Base Currency", "Basiswährung", "Базовая валюта")
RATES = "Mark-to-Market Performance Summary"  # of those sections that tell rates, the one above the trades
KINDS = frozenset({HEADER, "Data", "SubTotal", "Total", "Notes"})

_TO = r" [-–—] "
_YEAR = re.compile(r"\d{4}")
_DAY = re.compile(r"\b\d{1,2}\b")
_WORD = re.compile(r"[^\W\d_]{3,}")


def last_day(period: str) -> date:
    """The last day of a statement's period: March 15, 2023 · January 1, 2024 - December 31, 2025 · 15. März 2026.

    Raises:
        ValueError: there is no date in it.
    """
    return _day_in(re.split(_TO, period.strip())[-1])


def first_day(period: str) -> date:
    """The first day of a statement's period.

    Raises:
        ValueError: there is no date in it.
    """
    return _day_in(re.split(_TO, period.strip())[0])


def _day_in(end: str) -> date:
    month = next(
        (MONTHS[word[:3].lower()] for word in _WORD.findall(end) if word[:3].lower() in MONTHS), None
    )
    year, day = _YEAR.search(end), _DAY.search(end)
    if month and year and day:
        return date(int(year[0]), month, int(day[0]))
    return ibkr(end)[1]


@dataclass(frozen=True, slots=True)
class Event:
    """A section whose dated lines are events.

    Args:
        when: columns that may tell when, the surest first.
        key: the columns that make it this event, whatever the statement and its language.
    """

    when: tuple[str, ...]
    key: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SectionDialect:
    """A dialect of this shape.

    Args:
        name: of the dialect.
        title: section that only this dialect has; None: whatever is left.
        events: by section; the lines of others belong to their statement.
        values: what columns hold, wherever they stand; others are text.
    """

    name: str
    title: str | None
    events: Mapping[str, Event]
    values: Mapping[str, Value]
    broker: str = "ibkr"

    def recognises(self, head: str) -> bool:
        """Whether it begins with a section and its header, and holds the section that tells it from others."""
        try:
            first = next(filter(None, csv.reader(head.removeprefix(text.BOM).splitlines())), ())
        except csv.Error:
            return False
        if len(first) < 3 or first[1] != HEADER or len(first[0]) > 80:  # noqa: PLR2004 - section, header, a column
            return False
        return self.title is None or f"\n{self.title},{HEADER}," in head

    def read(self, source: Source) -> Iterator[Line | Rejected]:
        """All lines but headers."""
        records = text.records(source)
        held: list[Record] = []
        for record in records:  # the period belongs to the lines above it too
            held.append(record)
            if len(record[2]) > 3 and record[2][1] == "Data" and record[2][2].strip() in PERIOD:  # noqa: PLR2004
                break
            if len(held) > PERIOD_WITHIN:
                break
        statement = _Statement(self, *_period(held[-1:]))
        for position, raw, cells in chain(held, records):
            if len(cells) < 2 or cells[1].strip() not in KINDS:  # noqa: PLR2004 - section and kind
                yield Rejected(raw.encode(), "neither header nor data of a section", position)
                continue
            try:
                line = statement.line(position, raw, cells)
            except ValueError as error:
                yield Rejected(raw.encode(), str(error), position)
            else:
                if line is not None:
                    yield line


def _period(last: Sequence[Record]) -> tuple[str, datetime]:
    for position, _, cells in last:
        if len(cells) > 3 and cells[2].strip() in PERIOD:  # noqa: PLR2004
            period = cells[3].strip()
            try:
                return period, datetime.combine(last_day(period), time(), UTC)
            except ValueError as error:
                raise Unreadable(
                    f"line {position:,}: the period of the statement is no date: {period!r}"
                ) from error
    raise Unreadable(f"its first {PERIOD_WITHIN} lines tell no period of the statement")


class _Statement:
    """What is known of one file while it is read: its period, its account, and the header above."""

    def __init__(self, dialect: SectionDialect, period: str, end: datetime) -> None:
        self._dialect = dialect
        self._period = period
        self._end = end
        self._headers: dict[str, tuple[str, ...]] = {}
        self._account: str | None = None
        self._base: str | None = None  # currency of the account
        self._rates: dict[str, str] = {}  # of the day, in the base currency

    def line(self, position: int, raw: str, cells: Sequence[str]) -> Line | None:
        """A line; None: it was a header."""
        written, kind = cells[0].strip(), cells[1].strip()
        section = SECTIONS.get(written, written)
        if kind == HEADER:
            self._headers[section] = tuple(_name(cell, n) for n, cell in enumerate(cells[2:], 1))
            return None
        header = self._headers.get(section, ())
        named = {
            header[n] if n < len(header) else f"column {n + 1}": cell for n, cell in enumerate(cells[2:])
        }
        self._note(section, named)
        payload: dict[str, str | None] = {"kind": kind}
        payload |= {name: self._value(section, kind, name, cell) for name, cell in named.items()}
        payload |= self._beside(section, named)
        event = self._dialect.events.get(section)
        at = self._when(event, named) if event is not None and kind == "Data" else None
        if event is not None and at is not None:
            key = key_of(payload.get(name) for name in event.key)
        else:
            key = key_of((kind, self._period, *payload.values()))
        account = named.get("Account", "").strip() if event is not None else ""
        return Line(position, raw, section, at or self._end, key, payload, account or self._account)

    def _note(self, section: str, named: Mapping[str, str]) -> None:
        field = named.get("Field Name", "").strip()
        value = named.get("Field Value", "").strip()
        if section == "Account Information":
            self._account = value if field in ACCOUNT else named.get("Account", self._account)

        if section in ("Summary", "Account Information") and field in BASE:
            self._base = value or None
        if section == RATES and named.get("Asset Category") == "Forex" and _is_of_a_day(self._period):
            self._rates[named.get("Symbol", "").strip()] = named.get("Current Price", "").strip()

    def _beside(self, section: str, named: Mapping[str, str]) -> dict[str, str | None]:
        """What only the statement tells, and the events of these sections cannot do without."""
        if section == "Transaction History" and self._base:
            return {"Base Currency": self._base}
        rate = self._rates.get(named.get("Symbol", "").partition(".")[0].strip())
        if section == "Trades" and self._base and rate not in (None, *NOTHING):
            return {f"Rate in {self._base}": rate}
        return {}

    def _value(self, section: str, kind: str, name: str, cell: str) -> str | None:
        """Cells of data are what their column holds; a total may write anything below a header."""
        if name == "Asset Category":
            bare = cell.strip()
            return ASSETS.get(bare.split(" - ")[0], bare) or None
        value = self._dialect.values.get(name)
        if value is None and name.split(" in ", maxsplit=1)[0] in ("Comm", "MTM", "Amount"):
            value = number  # Comm in USD: the account's base currency stands in the header
        if value is None or section in ("Statement", "Account Information"):
            return as_text(cell)
        try:
            return value(cell)
        except ValueError as error:
            if kind == "Data" and section in self._dialect.events and not _is_total(cell):
                raise ValueError(f"{name}: {error}") from error
            return as_text(cell)

    def _when(self, event: Event, named: Mapping[str, str]) -> datetime | None:
        """When an event was; None: its line tells no day, so it is a total."""
        for column in event.when:
            cell = named.get(column, "").strip()
            if cell not in NOTHING:
                return ibkr(cell)[0]
        return None


def _name(cell: str, number_of_column: int) -> str:
    bare = cell.strip()
    return COLUMNS.get(bare, bare) or f"column {number_of_column}"


def _is_of_a_day(period: str) -> bool:
    return len(re.split(_TO, period.strip())) == 1


def _is_total(cell: str) -> bool:
    return cell.strip() in NOTHING


IBKR_VALUES: Mapping[str, Value] = {
    **dict.fromkeys(
        (
            "Quantity", "T. Price", "C. Price", "Price", "Proceeds", "Comm/Fee", "Basis", "Realized P/L",
            "Realized P/L %", "MTM P/L", "Amount", "Gross Amount", "Commission", "Net Amount", "Value", "Cost Price",
            "Cost Basis", "Close Price", "Unrealized P/L", "Unrealized P/L %", "Mult", "Rate", "Fee", "Tax",
            "Total", "Securities", "Futures", "Commodities", "Month to Date", "Year to Date", "Prior Total",
            "Current Long", "Current Short", "Current Total", "Change",
        ),
        number,
    ),
    **dict.fromkeys(("Date/Time", "Settle Date", "Report Date", "Date", "Open"), ibkr_time),
}  # fmt: skip
