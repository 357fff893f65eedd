"""What is read of a statement file: its lines in chunks, each with the mark that says which lines are whole."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import msgspec
import sqlalchemy as sa

from ingestion_assets.engine import rows
from ingestion_assets.engine.coverage import Range, Ranges, difference
from ingestion_assets.engine.stream import Batch, Covered, Done, Evidence, Rejected, Rows
from ingestion_assets.sources.statements import files
from ingestion_assets.sources.statements.derived_tables import chunks
from ingestion_assets.sources.statements.dialects import named
from ingestion_assets.sources.statements.files import MEMBER
from ingestion_assets.sources.statements.identity import Ordinals
from ingestion_assets.sources.statements.inbox import changed
from ingestion_assets.sources.statements.line import Changed, Line, Source
from ingestion_assets.sources.statements.registry import File
from ingestion_assets.sources.statements.tables import lines
from ingestion_assets.sources.statements.values import moment

CHUNK = 2_000  # lines of one commit

# Chunks that are read while others commit, and commits side by side: reading takes about as long as two of them.
READ_AHEAD, WRITERS = 2, 3


@dataclass(frozen=True, slots=True)
class FileLines:
    """The lines of one file.

    Args:
        file: as registered.
        inbox: the folder that its path begins in.
        first_week: Monday of the first partition; with `last_week` the days that a line may lie on.
        last_week: Monday of the last one.
        chunk: lines of one commit.
    """

    file: File
    inbox: Path
    first_week: date
    last_week: date
    chunk: int = CHUNK

    @property
    def keys(self) -> tuple[str, ...]:
        """One for each file and account: `statements/lines/<account>/<SHA-256>`."""
        return (self.file.key,)

    def wanted(self) -> Ranges:
        """All its lines, whatever the partitions of the run: a file is read once, and whole."""
        return self.file.wanted

    def read(self, done: Mapping[str, Done]) -> Iterator[Batch]:
        """The chunks that are missing. Lines before them are read too: equal ones among them count.

        Raises:
            Changed: the file is not there, or is not what was registered.
        """
        gaps = difference(self.wanted(), done[self.file.key].covered)
        if not gaps:
            return
        dialect = named(self.file.dialect)
        ordinals = Ordinals(dialect.name, in_order=self.file.in_order)
        with self._opened() as (source, verify):
            chunk = _Chunk(self, gaps)
            for record in dialect.read(source):
                position = record.position or 0
                if chunk.is_due(position):
                    for batch in chunk.up_to(position):
                        verify()
                        yield batch
                numbered = ordinals.next(record) if isinstance(record, Line) else None
                if chunk.wants(position):
                    chunk.add(record, numbered)
            for batch in chunk.rest():
                verify()
                yield batch

    @contextmanager
    def _opened(self) -> Iterator[tuple[Source, Callable[[], None]]]:
        """The content, once its hash is seen to be right, and what to call before each commit: it must still be so."""
        path, _, member = self.file.path.partition(MEMBER)
        full = self.inbox / path
        try:
            before = _stamp(full)
            if files.hash_of(full, member or None) != self.file.hash:
                raise Changed(changed(self.file))

            def verify() -> None:
                if _stamp(full) != before:
                    raise Changed(changed(self.file))

            with files.opened(full, member or None) as source:
                verify()
                yield source, verify
        except FileNotFoundError as error:
            raise Changed(
                f"{self.file.path} is not in the inbox any more, and its import is not finished: put it back, under any name"
            ) from error


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    return found.st_ino, found.st_size, found.st_mtime_ns


class _Rows:
    """Lines of one file as COPY text, to be encoded as a whole."""

    def __init__(self, stream: FileLines) -> None:
        file = stream.file
        self._account, self._dialect = rows.verbatim(file.account), rows.verbatim(file.dialect)
        self._hash = file.hash
        self._first_week = stream.first_week
        self._begin = datetime.combine(stream.first_week, time(), UTC)
        self._end = datetime.combine(stream.last_week + timedelta(days=7), time(), UTC)

    def row(self, line: Line, ordinal: int, identity: str) -> str:
        """One line."""
        json = msgspec.json.encode(line.payload)  # UTF-8 on one line: only a backslash in it concerns COPY
        payload = (rows.payload(json) if b"\\" in json else json).decode()
        return (
            f"{self._account}\t{moment(line.at)}\t{self._dialect}\t{rows.verbatim(line.section)}\t{ordinal}\t{payload}\t"
            f"{rows.verbatim(line.raw)}\t{self._hash}\t{line.position}\t{identity}\n"
        )

    def outside(self, line: Line) -> str | None:
        """Why a line lies in no partition, if it does not."""
        if self._begin <= line.at < self._end:
            return None
        return f"dated {line.at:%Y-%m-%d}, which is not between {self._first_week} and the end of this week"


class _Chunk:
    """Lines that are committed together, cut from the gaps of a file."""

    def __init__(self, stream: FileLines, gaps: Ranges) -> None:
        self._size_wanted = stream.chunk
        self._evidence = Evidence("stated", stream.file.dialect)
        self._rows_of = _Rows(stream)
        self._gaps: list[Range] = list(gaps)
        self._file = stream.file
        self._rows: list[str] = []
        self._ids: list[str] = []
        self._times: tuple[datetime, datetime] | None = None  # of the earliest and the latest line
        self._rejected: list[Rejected] = []
        self._size = 0

    def is_due(self, position: int) -> bool:
        """Whether `up_to` has something: asked for each line, of which one in thousands ends a chunk."""
        return bool(self._gaps) and (self._size >= self._size_wanted or self._gaps[0][1] < position)

    def wants(self, position: int) -> bool:
        """Whether a line is missing."""
        return bool(self._gaps) and self._gaps[0][0] <= position

    def add(self, record: Line | Rejected, numbered: tuple[int, str] | None) -> None:
        """One record of the first gap."""
        self._size += 1
        if isinstance(record, Rejected) or numbered is None:
            assert isinstance(record, Rejected)  # noqa: S101 - for the type checker
            self._rejected.append(record)
        elif (reason := self._rows_of.outside(record)) is not None:
            self._rejected.append(Rejected(record.raw.encode(), reason, record.position))
        else:
            self._rows.append(self._rows_of.row(record, *numbered))
            self._ids.append(numbered[1])
            if self._times is None:
                self._times = record.at, record.at
            elif not self._times[0] <= record.at <= self._times[1]:
                self._times = min(self._times[0], record.at), max(self._times[1], record.at)

    def up_to(self, position: int) -> Iterator[Batch]:
        """What is whole when the next line is at this position: gaps that end before it, and full chunks."""
        while self._gaps and self._gaps[0][1] < position:
            yield self._batch(self._gaps[0][1])
        if self._gaps and self._size >= self._size_wanted:
            yield self._batch(position - 1)

    def rest(self) -> Iterator[Batch]:
        """What is left at the end of the file."""
        while self._gaps:
            yield self._batch(self._gaps[0][1])

    def _batch(self, hi: int) -> Batch:
        lo, end = self._gaps.pop(0)
        if hi < end:
            self._gaps.insert(0, (hi + 1, end))
        found = Rows(lines, "".join(self._rows).encode(), len(self._rows), least="file")
        batch = Batch(
            Covered(lo, hi, self._evidence),
            (found, self._held(lo, hi)),
            tuple(self._rejected),
            removes=(self._read_before(lo, hi),),
        )
        self._rows, self._rejected, self._size, self._ids, self._times = [], [], 0, [], None
        return batch

    def _held(self, lo: int, hi: int) -> Rows:
        """Which lines the file holds here, whichever file's row of them stays."""
        if self._times is None:
            return Rows(chunks, b"", 0, counts=False)
        first, last = self._times
        return Rows(
            chunks,
            b"%b\t%b\t%d\t%d\t%b\t%b\t{%b}\n" % (
                rows.text(self._file.account), self._file.hash.encode(), lo, hi, moment(first).encode(),
                moment(last).encode(), ",".join(self._ids).encode(),
            ),
            1,
            counts=False,
        )  # fmt: skip

    def _read_before(self, lo: int, hi: int) -> sa.Delete:
        """What an earlier reading of these lines has said of them."""
        return sa.delete(chunks).where(
            chunks.c.account == self._file.account,
            chunks.c.file == self._file.hash,
            chunks.c.lo >= lo,
            chunks.c.hi <= hi,
        )
