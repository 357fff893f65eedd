"""The nouns of this family: a line of a statement, the dialect it is written in, and a file that is refused.

Nothing here reads. A new dialect is an object with a name, a broker, `recognises` and `read`; see docs/adding_a_dialect.md.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Protocol

import msgspec

from ingestion_assets.engine.errors import SchemaDrift
from ingestion_assets.engine.stream import Rejected


class Unreadable(SchemaDrift):
    """A file that is refused as a whole: unknown, damaged or hostile. The message says why and where."""


class Changed(SchemaDrift):
    """A file that is not any more what was registered, although its import is not finished."""


class Line(msgspec.Struct, frozen=True, gc=False):
    """One record of a statement. A struct, because there are millions of them, and it is made in a tenth of the time.

    Args:
        position: where it begins, from 1: the line of a CSV, the number of an XML element.
        raw: the line verbatim, without its line end.
        section: the part of the statement it stands in, by its English name.
        at: when (UTC); midnight of its day where it tells no time, of the statement's last day where it tells no day.
        key: what makes it this line and no other in its account, of `key_of`: normalised, so that another export gives the
            same.
        payload: its columns; decimals as plain text, times in UTC, None where nothing is said.
        account: whose it is, where the line or its statement says so.
    """

    position: int
    raw: str
    section: str
    at: datetime
    key: str
    payload: Mapping[str, str | None]
    account: str | None = None


KEY_SEPARATOR = "\x1f"


def key_of(parts: Iterable[str | None]) -> str:
    """A key of several parts. Absent and empty are one: exporters differ in which of them they write."""
    return KEY_SEPARATOR.join([part or "" for part in parts])


class Source(Protocol):
    """The bytes of a file, from its beginning, once."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""
        ...


class Dialect(Protocol):
    """A format of statement files."""

    @property
    def name(self) -> str:
        """As it stands in `raw.statement_lines`: for ever, because identities hold it."""
        ...

    @property
    def broker(self) -> str:
        """Who writes it: the first part of an account's name where no folder names the account."""
        ...

    def recognises(self, head: str) -> bool:
        """Whether a file that begins like this is written in it. Its name is no evidence."""
        ...

    def read(self, source: Source) -> Iterator[Line | Rejected]:
        """All records of a file, in its order, in bounded memory.

        Raises:
            Unreadable: it is no such file.
        """
        ...
