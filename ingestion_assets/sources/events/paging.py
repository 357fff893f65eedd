"""How the pages of a feed follow one another: the question for each, and what its answer says of the next. Pure.

Three dialects: the source gives a token, or whoever asks counts records, or counts pages. Of the last two only an empty page says
that there is no more: a short page may be a limit that the source has lowered without a word.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from ingestion_assets.engine.errors import Permanent, ProtocolError, SchemaDrift
from ingestion_assets.sources.events.config import CursorPages, FeedConfig, NumberedPages, OffsetPages
from ingestion_assets.sources.events.records import explain

BESIDE, ABOUT = "pagination", "meta"  # objects beside the records in which a source says more
EXPIRED = ("cursor_expired", "invalid_cursor", "cursor expired", "expired cursor", "invalid cursor")


class CursorExpired(Permanent):
    """The source does not know this token any more: a place in the feed has to be found again."""


class ErrorInBody(SchemaDrift):
    """The answer is an error, and no page."""


@dataclass(frozen=True, slots=True)
class Page:
    """One answer.

    `token` asks for the page behind it, or, at the end, for what will be there later; None: there is no such token.
    """

    data: msgspec.Raw  # the array of records, as it came
    more: bool
    token: str | None
    total: int | None = None  # events that the source says it has
    returned: int | None = None  # records that the source says are on this page
    lives: float | None = None  # seconds until the token expires


class Paging(Protocol):
    """One dialect."""

    def question(self, token: str | None, size: int) -> dict[str, str | int]:
        """The query parameters that ask for a page."""
        ...

    def answer(self, body: bytes, token: str | None) -> Page:
        """What came, with the token that was asked for.

        Raises:
            msgspec.DecodeError: it is cut, or no JSON.
            SchemaDrift: it is in a shape that we do not know.
            ProtocolError: it contradicts itself, or would never end.
            CursorExpired: the token is not known any more.
        """
        ...


def paging_of(config: FeedConfig) -> Paging:
    """The dialect that sources.yaml names."""
    match config.pages:
        case CursorPages() as pages:
            return ByCursor(pages)
        case OffsetPages() as pages:
            return Counted(pages.limit, pages.offset, pages.records, first=0, counts_records=True)
        case NumberedPages() as pages:
            return Counted(pages.limit, pages.page, pages.records, first=pages.first, counts_records=False)


_Object = dict[str, msgspec.Raw]
_object = msgspec.json.Decoder(_Object)
_anything = msgspec.json.Decoder(msgspec.Raw)
_items = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class ByCursor:
    """The source gives a token."""

    names: CursorPages

    def question(self, token: str | None, size: int) -> dict[str, str | int]:
        """No token: the beginning."""
        asked: dict[str, str | int] = {self.names.limit: size}
        return asked if token is None else asked | {self.names.cursor: token}

    def answer(self, body: bytes, token: str | None) -> Page:
        """Its words lie beside the data, or in `pagination` as the documentation never says."""
        found = _mapping(body, self.names.records)
        data = _inside(found, self.names.records)
        beside = _optional(found, BESIDE) or {}
        about = _optional(found, ABOUT) or {}
        more, following = _value(found, beside, self.names.more), _value(found, beside, self.names.next)
        if not isinstance(more, bool):
            raise SchemaDrift(f"{self.names.more}: expected bool, found {_name(more)}")
        if not isinstance(following, str | int | None):
            raise SchemaDrift(f"{self.names.next}: expected str, found {_name(following)}")
        following = None if following in (None, "") else str(following)
        if more and following is None:
            raise ProtocolError("it says that there is more, and gives no cursor for it")
        if more and following == token:
            raise ProtocolError(
                "the cursor of the next page is the one that was asked for: it would never end"
            )
        return Page(
            data,
            more=more,
            token=following,
            total=_number(about, "total"),
            returned=_number(about, "returned"),
            lives=_number(beside, "cursorExpiresIn"),
        )


@dataclass(frozen=True, slots=True)
class Counted:
    """Whoever asks counts, records from 0 or pages from `first`. The token is the number."""

    limit: str
    number: str
    records: str | None
    first: int
    counts_records: bool

    def question(self, token: str | None, size: int) -> dict[str, str | int]:
        """No token: the beginning."""
        return {self.limit: size, self.number: self.first if token is None else int(token)}

    def answer(self, body: bytes, token: str | None) -> Page:
        """The next number. At the end it is the one to look at later: of pages the last that held something, for it may grow."""
        if self.records is None:
            data = _anything.decode(body)
            if _kind(data) != "array":
                _mapping(body, "")  # an error says so
                raise SchemaDrift(f"the answer: expected array, found {_kind(data)}")
        else:
            data = _inside(_mapping(body, self.records), self.records)
        count = len(_items.decode(data))
        here = self.first if token is None else int(token)
        if count:
            return Page(data, more=True, token=str(here + (count if self.counts_records else 1)))
        return Page(data, more=False, token=str(here if self.counts_records else max(self.first, here - 1)))


def _mapping(body: bytes, records: str) -> _Object:
    """The answer's own fields, where it is no error: that has a code or an error, and no records."""
    try:
        found = _object.decode(body)
    except msgspec.ValidationError as error:
        raise SchemaDrift(explain(error, "the answer")) from None
    if ("code" in found or "error" in found) and records.partition(".")[0] not in found:
        said = b" ".join(bytes(found[name]) for name in ("code", "error", "message") if name in found)
        text = said.decode(errors="replace")
        if any(word in text.lower() for word in EXPIRED):
            raise CursorExpired("the source says that the cursor has expired")
        raise ErrorInBody(f"the source answers with an error: {text[:200]}")
    return found


def _inside(found: _Object, path: str) -> msgspec.Raw:
    """The array at a path such as `data.items`."""
    *steps, last = path.split(".")
    for depth, step in enumerate(steps):
        inner = _optional(found, step)
        if inner is None:
            raise SchemaDrift(f"{'.'.join(steps[: depth + 1])}: expected object, found nothing")
        found = inner
    if last not in found:
        raise SchemaDrift(
            f"{path}: expected array, found nothing (there are {', '.join(sorted(found))[:200]})"
        )
    data = found[last]
    kind = _kind(data)
    if kind != "array":
        raise SchemaDrift(f"{path}: expected array, found {kind}")
    return data


def _kind(value: msgspec.Raw) -> str:
    first = bytes(memoryview(value)[:1])
    kinds = {b"[": "array", b"{": "object", b'"': "str", b"n": "null", b"t": "bool", b"f": "bool"}
    return kinds.get(first, "number")


def _optional(found: _Object, name: str) -> _Object | None:
    if name not in found or _kind(found[name]) == "null":
        return None
    try:
        return _object.decode(found[name])
    except msgspec.ValidationError as error:
        raise SchemaDrift(explain(error, name)) from None


def _value(found: _Object, beside: _Object, name: str) -> object:
    place = beside if name in beside else found
    return msgspec.json.decode(place[name]) if name in place else None


def _name(value: object) -> str:
    return "nothing" if value is None else type(value).__name__


def _number(found: Mapping[str, msgspec.Raw], name: str) -> int | None:
    """A number that is good to have; in another shape it is as if it were not there."""
    try:
        return int(msgspec.json.decode(found[name], type=float)) if name in found else None
    except msgspec.DecodeError:
        return None
