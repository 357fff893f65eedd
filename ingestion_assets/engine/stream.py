"""The nouns: what a source says (`Stream`, `Batch`), and what becomes true when it is stored (`Mark`).

Nothing here reads or writes. A new source is a frozen dataclass with `keys`, `wanted` and `read`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import msgspec
import psycopg
import sqlalchemy as sa
from psycopg.rows import TupleRow

from ingestion_assets.engine.coverage import Ranges
from ingestion_assets.engine.errors import SchemaDrift


class Cursor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Position of a feed that has no other: a page token or an id. One typed subclass for each feed."""


C = TypeVar("C", bound=Cursor)


# Why we may believe that a range is whole, the weakest first; see docs/evidence.md.
LEVELS = (
    "stated",  # the source said so
    "nonce",  # an account's outgoing transactions have no hole
    "balance",  # what went in and out equals the balance at both ends
    "counted",  # a second provider shows the same records
    "header",  # the block's own header agrees: bloom, gas, contiguous log index
    "receipts",  # the receipts root was computed again
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why we believe that a range is whole: one of `LEVELS`, and by whose word."""

    level: str
    by: str

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"{self.level!r} is no level of evidence: {', '.join(LEVELS)}")


@dataclass(frozen=True, slots=True)
class Covered:
    """The positions `lo`..`hi` (blocks, lines, days; inclusive) of the source are whole in our tables.

    `anew`: what is stored of them was replaced, so that evidence from before says nothing any more.
    """

    lo: int
    hi: int
    evidence: Evidence
    anew: bool = False


@dataclass(frozen=True, slots=True)
class Raised:
    """What is covered of `lo`..`hi` deserves this evidence as well. What is not covered stays a gap."""

    lo: int
    hi: int
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Unproved:
    """The source cannot show that `lo`..`hi` is whole. What it did show is stored; the range stays a gap.

    `retracts`: it was covered, and that was contradicted since. Else what is covered already stays covered.
    """

    lo: int
    hi: int
    reason: str
    retracts: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """The dead letter with this id in `ops.dead_letters` is a row now. If the row is refused again, it stays open."""

    letter: int


@dataclass(frozen=True, slots=True)
class Derived:
    """Rows that Postgres makes of other rows of ours. `work` makes them in the commit's transaction, with the marks that they need.

    What is done already it has to find out there: another worker may have done it since the batch was read.
    """

    work: Callable[[psycopg.Connection[TupleRow]], "Tally"]


Mark = Cursor | Covered | Raised | Unproved | Settled | Derived


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that we cannot store: the bytes as received, why not, and its position where we can tell.

    `keys` are those of the batch's keys that it may belong to; none named: all of them.
    """

    raw: bytes
    reason: str
    position: int | None = None
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one table as one block of Postgres COPY text.

    `lines` ends with a newline and holds `count` lines with the table's columns in the order of its
    definition; `engine.rows` makes it. The store sends it to Postgres as it is.

    Of two rows with one primary key the one that is stored first stays; with `least`, the name of a column, the one that
    has less there, so that the order of reading leaves no trace. A block holds each key once.
    """

    table: sa.Table
    lines: bytes
    count: int
    least: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """What is committed together: rows, rejected records, and the mark that is true from then on.

    `keys` are those of the stream's keys that the mark is true of; none named: all of them. `removes` deletes
    rows that are no longer true, before the new ones go in. Each query of `requires` must find a row, or the batch
    was read of something that is not true any more, and is not committed.
    """

    mark: Mark
    rows: tuple[Rows, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    keys: tuple[str, ...] = ()
    removes: tuple[sa.Delete, ...] = ()
    requires: tuple[sa.Select[Any], ...] = ()

    @property
    def fetched(self) -> int:
        """Records that the source gave for this batch, good and bad."""
        return sum(rows.count for rows in self.rows) + len(self.rejected)


@dataclass(frozen=True, slots=True)
class Done:
    """What is committed of a stream so far."""

    covered: Ranges = ()
    cursor: bytes | None = None  # JSON of the stream's Cursor subclass
    records: int = 0  # of a stream with a cursor: rows that it has stored
    letters: int = 0  # of a stream with a cursor: dead letters that are open

    def position(self, kind: type[C]) -> C | None:
        """The cursor as the stream's own type, or None before the first commit."""
        return None if self.cursor is None else msgspec.json.decode(self.cursor, type=kind)


class Stream(Protocol):
    """A named, typed, resumable sequence of batches. It opens nothing until it is read."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Names under which marks are kept, for ever: `evm/transactions/base/0xabc…`.

        Mostly one. Several where one answer of the source tells about all of them, as a block does of every account.
        """
        ...

    def wanted(self) -> Ranges:
        """The positions each key is asked for, as far as they exist now. Empty for a feed with a cursor."""
        ...

    def read(self, done: Mapping[str, Done]) -> Iterator[Batch]:
        """The batches that are still missing after `done`, which says for each key what is committed."""
        ...


def name_of(stream: Stream) -> str:
    """How to call a stream in a sentence."""
    first, *others = stream.keys
    return f"{first} and {len(others)} more" if others else first


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


class Turn(Protocol):
    """The turn of a batch that has to be committed after another one."""

    def __call__(self, seconds: float | None = None) -> bool:
        """Wait until the batch before is committed: whether it is, after so many seconds (None: whenever it is).

        Raises:
            BaseException: it is not, and never will be: what its commit raised.
        """
        ...


class Writer(Protocol):
    """The committing side of one stream, open for one drain."""

    @property
    def done(self) -> Mapping[str, Done]:
        """What was committed when the writer was opened, for each key of the stream."""
        ...

    def commit(self, batch: Batch, turn: Turn | None = None) -> Tally:
        """Make the batch and its mark durable in one transaction, or leave no trace of it.

        Args:
            batch: what to store.
            turn: of this batch, where another one has to be committed before it. Rows may be stored before it comes.
        """
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
