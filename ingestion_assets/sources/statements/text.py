"""Text files, read without trust: bounded memory, UTF-8 and nothing else, and no cell that a spreadsheet would run."""

import csv
import re
from collections.abc import Iterator
from itertools import chain

from ingestion_assets.sources.statements.line import Source, Unreadable

MOST_BYTES = 1 << 20  # of one line, and of one record that spans several
BOM = "\ufeff"

# Cheap, and true of every line that holds a formula: only then are its cells looked at one by one.
_SUSPECT = re.compile(r'(?:^|,)[\s"]*(?:[=@]|[+\-][^,]*[(|!])')
_FORMULA = re.compile(r"\s*(?:[=@]|[+\-][^,]*[(|!])")


def physical_lines(source: Source) -> Iterator[str]:
    """The lines of a text file with their line ends, without the byte order mark.

    Raises:
        Unreadable: a line is too long, or is no UTF-8 text.
    """
    number = 0
    while raw := source.readline(MOST_BYTES + 1):
        number += 1
        if len(raw) > MOST_BYTES:
            raise Unreadable(f"line {number:,} is longer than {MOST_BYTES:,} bytes")
        if b"\0" in raw:
            utf16 = (
                "; it seems to be UTF-16: save it as UTF-8" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
            )
            raise Unreadable(f"line {number:,} holds NUL bytes, so this is no text in UTF-8{utf16}")
        try:
            line = raw.decode()
        except UnicodeDecodeError as error:
            raise Unreadable(
                f"line {number:,} is no UTF-8 ({error.reason} at byte {error.start:,}): save it as UTF-8"
            ) from error
        yield line.removeprefix(BOM) if number == 1 else line


def records(source: Source) -> Iterator[tuple[int, str, list[str]]]:
    """The records of a CSV: the line each begins at, its text verbatim, and its cells. Empty lines are left out.

    Raises:
        Unreadable: it is no such file, or it holds a formula.
    """
    lines = physical_lines(source)
    position = 1
    for line in lines:
        taken = 1
        raw = line.rstrip("\r\n")
        if '"' in raw or "\r" in raw or len(raw) > csv.field_size_limit():
            written, cells = _decided(position, line, lines)
            taken, raw = len(written), "".join(written).rstrip("\r\n")
        else:  # then a comma is a comma
            cells = raw.split(",") if raw else []
        if cells:
            if _may_hold_a_formula(raw):
                _refuse_formulas(position, cells)
            yield position, raw, cells
        position += taken


def _decided(position: int, line: str, following: Iterator[str]) -> tuple[list[str], list[str]]:
    """A record that begins with this line, by the rules of quotes: all its lines, and its cells."""
    taken: list[str] = []

    def lines() -> Iterator[str]:
        size = 0
        for one in chain((line,), following):
            size += len(one)
            if size > MOST_BYTES:
                raise Unreadable(
                    f"a quote is opened at line {position:,} and not closed within {MOST_BYTES:,} bytes"
                )
            taken.append(one)
            yield one

    try:
        cells = next(csv.reader(lines()))
    except csv.Error as error:
        raise Unreadable(f"line {position:,} is no CSV: {error}") from error
    if len(taken) > 1 and "".join(taken).count('"') % 2:
        raise Unreadable(f"a quote is opened at line {position:,} and never closed")
    return taken, cells


def _may_hold_a_formula(raw: str) -> bool:
    """Whether the cells of a line have to be looked at. Nearly all lines are done with before the pattern is tried."""
    if "=" in raw or "(" in raw or "|" in raw or "!" in raw:
        return _SUSPECT.search(raw) is not None
    at = raw.find("@")
    while at >= 0:
        if raw[:at].rstrip()[-1:] in ("", ",", '"'):
            return True
        at = raw.find("@", at + 1)
    return False


def _refuse_formulas(position: int, cells: list[str]) -> None:
    for cell in cells:
        if _FORMULA.match(cell):
            raise Unreadable(f"line {position:,} holds a formula, which no broker writes: {cell[:40]!r}")
