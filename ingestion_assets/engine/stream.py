"""The nouns: what a source says (`Stream`, `Batch`), and what becomes true when it is stored (`Mark`).

Nothing here reads or writes. A new source is a frozen dataclass with `key`, `wanted` and `read`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import msgspec
import sqlalchemy as sa

from ingestion_assets.engine.coverage import Ranges
from ingestion_assets.engine.errors import SchemaDrift


class Cursor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Position of a feed that has no other: a page token or an id. One typed subclass for each feed."""


C = TypeVar("C", bound=Cursor)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why we believe that a range is whole.

    `level` is one of: `stated` (the source said so). `by` names who said it.
    """

    level: str
    by: str


@dataclass(frozen=True, slots=True)
class Covered:
    """The positions `lo`..`hi` (blocks, lines, days; inclusive) of the source are whole in our tables."""

    lo: int
    hi: int
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Unproved:
    """The source cannot show that `lo`..`hi` is whole. What it did show is stored; the range stays a gap."""

    lo: int
    hi: int
    reason: str


Mark = Cursor | Covered | Unproved


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that we cannot store: the bytes as received, why not, and its position where we can tell."""

    raw: bytes
    reason: str
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one table as one block of Postgres COPY text.

    `lines` ends with a newline and holds `count` lines with the table's columns in the order of its
    definition; `engine.rows` makes it. The store sends it to Postgres as it is.
    """

    table: sa.Table
    lines: bytes
    count: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What is committed together: rows, rejected records, and the mark that is true from then on."""

    mark: Mark
    rows: tuple[Rows, ...] = ()
    rejected: tuple[Rejected, ...] = ()

    @property
    def fetched(self) -> int:
        """Records that the source gave for this batch, good and bad."""
        return sum(rows.count for rows in self.rows) + len(self.rejected)


@dataclass(frozen=True, slots=True)
class Done:
    """What is committed of a stream so far."""

    covered: Ranges = ()
    cursor: bytes | None = None  # JSON of the stream's Cursor subclass

    def position(self, kind: type[C]) -> C | None:
        """The cursor as the stream's own type, or None before the first commit."""
        return None if self.cursor is None else msgspec.json.decode(self.cursor, type=kind)


class Stream(Protocol):
    """A named, typed, resumable sequence of batches. It opens nothing until it is read."""

    @property
    def key(self) -> str:
        """Name under which marks are kept, for ever: `evm/transactions/base/0xabc…`."""
        ...

    def wanted(self) -> Ranges:
        """The positions this stream is asked for, as far as they exist now. Empty for a feed with a cursor."""
        ...

    def read(self, done: Done) -> Iterator[Batch]:
        """The batches that are still missing after `done`, each complete in itself."""
        ...


@dataclass(slots=True)
class Tally:
    """Four different numbers, and how many commits they took."""

    fetched: int = 0
    inserted: int = 0
    duplicate: int = 0
    rejected: int = 0
    batches: int = 0

    def add(self, other: "Tally") -> None:
        """Add another tally to this one."""
        self.fetched += other.fetched
        self.inserted += other.inserted
        self.duplicate += other.duplicate
        self.rejected += other.rejected
        self.batches += other.batches


class Writer(Protocol):
    """The committing side of one stream, open for one drain."""

    @property
    def done(self) -> Done:
        """What was committed when the writer was opened."""
        ...

    def commit(self, batch: Batch) -> Tally:
        """Make the batch and its mark durable in one transaction, or leave no trace of it."""
        ...


class Sink(Protocol):
    """Where batches go."""

    def open(self, stream: Stream) -> Writer:
        """A writer for this stream."""
        ...


@dataclass(frozen=True, slots=True)
class Drained:
    """The outcome of a drain."""

    tally: Tally
    unproved: Mapping[str, tuple[Unproved, ...]] = field(
        default_factory=dict[str, "tuple[Unproved, ...]"]
    )  # by stream key
    failed: Mapping[str, SchemaDrift] = field(default_factory=dict[str, SchemaDrift])  # by stream key
    stopped: bool = False
