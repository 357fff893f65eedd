"""Text files, read without trust: bounded memory, UTF-8 and nothing else, and no cell that a spreadsheet would run."""

import csv
import re
from collections.abc import Generator, Iterator
from itertools import chain, islice

from ingestion_assets.sources.statements.line import Source, Unreadable

MOST_BYTES = 1 << 20  # of one line, and of one record that spans several
BLOCK = 1 << 17  # that are read at once
BOM = "\ufeff"

# Cheap, and true of every line that holds a formula: only then are its cells looked at one by one.
_SUSPECT = re.compile(r'(?:^|,)[\s"]*(?:[=@]|[+\-][^,]*[(|!])')
_FORMULA = re.compile(r"\s*(?:[=@]|[+\-][^,]*[(|!])")


def physical_lines(source: Source) -> Iterator[str]:
    """The lines of a text file without the newlines that end them, and without the byte order mark.

    Raises:
        Unreadable: a line is too long, or is no UTF-8 text.
    """
    lines = chain.from_iterable(_blocks(source))
    first = (line.removeprefix(BOM) for line in islice(lines, 1))
    return chain(first, lines)


def _blocks(source: Source) -> Iterator[list[str]]:
    """Many lines at once: what is true of all of them is seen once."""
    number = 0  # of lines before the block
    rest = b""
    while found := source.read(BLOCK):
        whole, newline, rest = (rest + found).rpartition(b"\n")
        if newline:
            lines = yield from _decoded(whole, number)
            number += lines
        if len(rest) > MOST_BYTES:
            raise _too_long(number + 1)
    if rest:
        yield from _decoded(rest, number)


def _decoded(block: bytes, before: int) -> Generator[list[str], None, int]:
    """The lines of a block, of which so many come before it; returns how many they are."""
    if len(block) <= MOST_BYTES and b"\0" not in block:
        try:
            lines = block.decode().split("\n")
        except UnicodeDecodeError:
            pass  # the line that it is in will say so
        else:
            yield lines
            return len(lines)
    each = block.split(b"\n")
    for number, raw in enumerate(each, before + 1):
        yield [_text_of(number, raw)]
    return len(each)


def _text_of(number: int, raw: bytes) -> str:
    if len(raw) > MOST_BYTES:
        raise _too_long(number)
    if b"\0" in raw:
        utf16 = "; it seems to be UTF-16: save it as UTF-8" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise Unreadable(f"line {number:,} holds NUL bytes, so this is no text in UTF-8{utf16}")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Unreadable(
            f"line {number:,} is no UTF-8 ({error.reason} at byte {error.start:,}): save it as UTF-8"
        ) from error


def _too_long(number: int) -> Unreadable:
    return Unreadable(f"line {number:,} is longer than {MOST_BYTES:,} bytes")


def records(source: Source) -> Iterator[tuple[int, str, list[str]]]:
    """The records of a CSV: the line each begins at, its text verbatim, and its cells. Empty lines are left out.

    Raises:
        Unreadable: it is no such file, or it holds a formula.
    """
    lines = physical_lines(source)
    longest = csv.field_size_limit()
    position = 1
    for line in lines:
        taken = 1
        raw = line.rstrip("\r")
        if '"' in raw or "\r" in raw or len(raw) > longest:
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
    """A record that begins with this line, by the rules of quotes: all its lines with their ends, and its cells."""
    taken: list[str] = []

    def lines() -> Iterator[str]:
        size = 0
        for one in chain((line,), following):
            size += len(one) + 1
            if size > MOST_BYTES:
                raise Unreadable(
                    f"a quote is opened at line {position:,} and not closed within {MOST_BYTES:,} bytes"
                )
            taken.append(one + "\n")
            yield taken[-1]

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
