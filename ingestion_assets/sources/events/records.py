"""How records become rows: three fields are checked, and the record itself is the payload, byte by byte as it came.

A page is decoded as a whole, in C, twice: once for the fields that are checked, once to know where each record begins
and ends. Only a page that holds something odd is looked at record by record.
"""

import hashlib
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec

from ingestion_assets.engine import rows as copy_text
from ingestion_assets.engine.errors import SchemaDrift
from ingestion_assets.engine.stream import Rejected, Rows
from ingestion_assets.sources.events.config import FeedConfig
from ingestion_assets.sources.events.tables import events

NULL = copy_text.NULL.decode()
MOST_FIELDS = 200  # a feed with more has keys that are data, and no field of it is ever new
ALL_BAD = 3  # so many unreadable records, and no readable one, are a changed format

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_UUIDS = "00000000-0000-0000-0000-000000000000\n"
_HEX_TO_ZERO = str.maketrans("123456789abcdef", "0" * 15)
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?) ?(Z|z|[+-]\d\d(?::?\d\d)?)?")
_ISO_UTC = re.compile(  # of 29 February each is looked at by itself
    r"(?:\d{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
    r"T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?Z\n)*"
)
_EPOCH = re.compile(r"-?\d{1,19}(?:\.\d{1,9})?")
_UNKNOWN = re.compile(r"unknown field `(.*?)`(?: - at `[^`]*`)?$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(.*?)`")
_EXPECTED = re.compile(r"Expected `(.*?)`, got `(.*?)`")
_AT = re.compile(r" - at `\$(.*)`$", re.DOTALL)

# What a number means as a moment: one unit is a thousand times the next, and so are the numbers of our century.
_UNITS = ((1e11, 1), (1e14, 1_000), (1e17, 1_000_000), (1e20, 1_000_000_000))
_EPOCH_BEGIN = datetime(1970, 1, 1, tzinfo=UTC)


class Unreadable(ValueError):
    """This record cannot become a row."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """An event by which a place in the feed is found again: its id as stored, and its time in milliseconds since 1970."""

    id: str
    time: int


@dataclass(frozen=True, slots=True)
class Found:
    """What is in one page: rows, and what could not become one."""

    rows: Rows
    rejected: tuple[Rejected, ...]


@dataclass
class Records:
    """The records of one feed. Used by one thread.

    `fields` are the names that its records have had so far.
    """

    feed: str
    config: FeedConfig
    fields: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._feed = copy_text.text(self.feed).decode()
        self._raws = msgspec.json.Decoder(list[msgspec.Raw])
        self._checked = self._build(frozenset())
        self._one = msgspec.json.Decoder(self._struct(frozenset(), closed=False))
        self._is_open = False

    def _struct(self, others: frozenset[str], *, closed: bool) -> type[Any]:
        names = self.config.fields
        known: list[Any] = [("id", str | int)]
        renamed = {"id": names.id, "time": names.time}
        if names.type is not None:
            known.append(("type", str))
            renamed["type"] = names.type
        known.append(("time", str | int | float))
        for number, other in enumerate(sorted(others - set(renamed.values()))):
            known.append((f"f{number}", msgspec.Raw, msgspec.Raw(b"")))
            renamed[f"f{number}"] = other
        return msgspec.defstruct("Event", known, rename=renamed, forbid_unknown_fields=closed, gc=False)

    def _build(self, others: frozenset[str], *, closed: bool = True) -> "msgspec.json.Decoder[list[Any]]":
        kind: Any = list[self._struct(others, closed=closed)]  # type: ignore[misc]
        return msgspec.json.Decoder(kind)

    def split(self, data: msgspec.Raw | bytes) -> list[msgspec.Raw]:
        """The records of a page, each as it came.

        Raises:
            msgspec.ValidationError: it is no array.
        """
        return self._raws.decode(data)

    def anchor(self, records: Sequence[msgspec.Raw]) -> Anchor | None:
        """The first of these records that can be read; None where none can."""
        for raw in records:
            try:
                event = self._one.decode(raw)
                return Anchor(self._id(event.id), milliseconds(moment(event.time)))
            except (msgspec.DecodeError, UnicodeError, Unreadable):
                continue
        return None

    def ids(self, records: Sequence[msgspec.Raw]) -> list[str]:
        """The ids as they are stored, of those that can be read."""
        return [found.id for raw in records if (found := self.anchor([raw])) is not None]

    def read(self, data: msgspec.Raw | bytes, records: Sequence[msgspec.Raw]) -> Found:
        """Make rows of a page.

        Args:
            data: the array as it came.
            records: its items.

        Raises:
            SchemaDrift: none of its records can be read.
        """
        try:
            lines = self._lines(self._decode(data), data, records)
        except (msgspec.DecodeError, UnicodeError, Unreadable):
            return self._one_by_one(records)
        return Found(Rows(events, lines, len(records)), ())

    def _decode(self, data: msgspec.Raw | bytes) -> list[Any]:
        """The checked fields of all records; on the way, names are learnt that were not there before."""
        while True:
            try:
                return self._checked.decode(data)
            except msgspec.ValidationError as error:
                unknown = None if self._is_open else _UNKNOWN.search(str(error))
                if unknown is None or unknown[1] in self.fields:
                    raise
                self.fields.add(unknown[1])
                self._is_open = len(self.fields) > MOST_FIELDS
                self._checked = self._build(frozenset(self.fields), closed=not self._is_open)

    def _lines(self, found: list[Any], data: msgspec.Raw | bytes, records: Sequence[msgspec.Raw]) -> bytes:
        """The COPY block of a page whose every record is good, checked in a few calls for all of them.

        Raises:
            Unreadable: it is not.
        """
        ids = [event.id for event in found]
        if self.config.ids == "text" or not _are_uuids(ids):
            ids = [self._id(value) for value in ids]
        times = [event.time for event in found]
        if not _are(_ISO_UTC, times):
            times = [iso(value) for value in times]
        feed = self._feed
        if self.config.fields.type is None:
            heads = [f"{i}\t{feed}\t{NULL}\t{t}\t" for i, t in zip(ids, times, strict=True)]
        else:
            types = [type_text(event.type) for event in found]
            heads = [f"{i}\t{feed}\t{k}\t{t}\t" for i, k, t in zip(ids, types, times, strict=True)]
        if not heads:
            return b""
        parts: list[Any] = [b"\n"] * (3 * len(heads))
        parts[0::3] = "\n".join(heads).encode().split(b"\n")
        parts[1::3] = (
            records if _is_plain(bytes(data)) else [copy_text.payload(bytes(raw)) for raw in records]
        )
        return b"".join(parts)

    def _one_by_one(self, records: Sequence[msgspec.Raw]) -> Found:
        lines: list[bytes] = []
        rejected: list[Rejected] = []
        first: msgspec.DecodeError | UnicodeError | Unreadable | None = None
        for raw in records:
            received = bytes(raw)
            try:
                lines.append(self.line(received))
            except (msgspec.DecodeError, UnicodeError, Unreadable) as error:
                first = first or error
                rejected.append(Rejected(received, f"{explain(error, '$')}"))
        if first is not None and not lines and len(records) >= ALL_BAD:
            raise SchemaDrift(
                f"none of {len(records)} records of {self.feed} can be read: {explain(first, 'records[0]')}"
            )
        return Found(Rows(events, b"".join(lines), len(lines)), tuple(rejected))

    def line(self, received: bytes) -> bytes:
        """The COPY line of one record.

        Raises:
            msgspec.DecodeError: a field is missing or of another type.
            Unreadable: a field holds what it may not.
            UnicodeError: the bytes are no UTF-8.
        """
        event = self._one.decode(copy_text.mend(received))
        kind = NULL if self.config.fields.type is None else type_text(event.type)
        head = f"{self._id(event.id)}\t{self._feed}\t{kind}\t{iso(event.time)}\t"
        return head.encode() + copy_text.payload(received) + b"\n"

    def _id(self, value: str | int) -> str:
        if self.config.ids == "text":
            if value == "":
                raise Unreadable("the id is empty")
            return hashed(self.feed, str(value))
        found = value.lower() if isinstance(value, str) else ""
        if not _UUID.fullmatch(found):
            raise Unreadable(f"the id is no UUID: {str(value)[:80]!r}; `ids: text` allows others")
        return found


def hashed(feed: str, value: str) -> str:
    """A UUID for an id that is none; other feeds give the same id another one."""
    digest = hashlib.blake2b(f"{feed}\0{value}".encode(errors="surrogatepass"), digest_size=16).digest()
    return str(uuid.UUID(bytes=digest))


def _are_uuids(values: list[Any]) -> bool:
    """Whether all values are UUIDs in small letters; a comparison of all is ten times as fast as a pattern."""
    try:
        lines = "\n".join(values) + "\n"
    except TypeError:  # a number is among them
        return False
    return lines.isascii() and lines.translate(_HEX_TO_ZERO) == _UUIDS * len(values)


def _are(pattern: "re.Pattern[str]", values: list[Any]) -> bool:
    """Whether all values are texts of this form: one match for all is twenty times as fast as one for each."""
    try:
        lines = "\n".join(values) + "\n"
    except TypeError:  # a number is among them
        return False
    return lines.count("\n") == len(values) and pattern.fullmatch(lines) is not None


def _is_plain(data: bytes) -> bool:
    """Whether every record of the page is its own COPY column as it stands."""
    return data.isascii() and b"\\" not in data and not (b"\n" in data or b"\r" in data or b"\t" in data)


@lru_cache(maxsize=4096)
def type_text(value: str) -> str:
    """The column `type`: a word that a person could have typed."""
    if not value or not value.isprintable() or "\ufffd" in value or len(value) > 200:  # noqa: PLR2004
        raise Unreadable(f"the type is no word: {value[:80]!r}")
    return copy_text.text(value).decode()


@lru_cache(maxsize=8192)
def moment(value: str | float) -> datetime:
    """A moment, whichever way it is written: ISO 8601, or seconds, milli-, micro- or nanoseconds since 1970.

    Text without a zone is UTC. Digits beyond microseconds are cut.
    """
    if isinstance(value, str):
        value = value.strip()
        if match := _ISO.fullmatch(value):
            day, clock, zone = match.groups()
            try:
                found = datetime.fromisoformat(f"{day}T{clock.replace(',', '.')}{(zone or 'Z').upper()}")
            except ValueError as error:
                raise Unreadable(f"the time is none: {value!r} ({error})") from error
            return found.astimezone(UTC)
        if not _EPOCH.fullmatch(value):
            raise Unreadable(f"the time is none: {value[:80]!r}")
        value = float(value) if "." in value else int(value)
    for most, parts in _UNITS:
        if 0 < value < most:
            whole, rest = divmod(value, parts)
            return _EPOCH_BEGIN + timedelta(seconds=whole, microseconds=int(rest * 1_000_000 // parts))
    raise Unreadable(f"the time is none: {value!r}")


@lru_cache(maxsize=8192)
def iso(value: str | float) -> str:
    """The column `event_time`."""
    return moment(value).isoformat()


def milliseconds(when: datetime) -> int:
    """Since 1970, rounded down."""
    return (when - _EPOCH_BEGIN) // timedelta(milliseconds=1)


def explain(error: Exception, where: str) -> str:
    """Path, expected and found type of what is wrong with a record, in one sentence."""
    said = str(error)
    at = _AT.search(said)
    path = where + (at[1] if at else "")
    if missing := _MISSING.search(said):
        return f"{path}.{missing[1]}: expected a value, found nothing"
    if types := _EXPECTED.search(said):
        return f"{path}: expected {types[1]}, found {types[2]}"
    return f"{path}: {said}"
