"""One feed, opened: the answer to one question, asked again as long as it may be better the next time."""

import itertools
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from ingestion_assets.engine.errors import (
    IngestionError,
    Misconfigured,
    ProtocolError,
    SchemaDrift,
    Transient,
)
from ingestion_assets.engine.http import Client
from ingestion_assets.engine.stream import Rows
from ingestion_assets.sources.events.config import FeedConfig
from ingestion_assets.sources.events.paging import CursorExpired, Page, Paging, paging_of
from ingestion_assets.sources.events.records import Anchor, Found, Records
from ingestion_assets.sources.events.tables import events

log = logging.getLogger(__name__)

DOUBTS = (
    3  # readings of one page before we believe that the source breaks its rules, or has changed its shape
)


@dataclass(frozen=True, slots=True)
class Question:
    """Which page: behind a token, or from the beginning; `since` and `until` bound the time, in milliseconds since 1970."""

    token: str | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A page and its records; `first` and `last` are those of them that can be read."""

    question: Question
    page: Page
    records: Sequence[msgspec.Raw]
    first: Anchor | None
    last: Anchor | None

    @property
    def direction(self) -> int:
        """1: the page goes forward in time, -1: back, 0: it does not tell."""
        if self.first is None or self.last is None:
            return 0
        return (self.last.time > self.first.time) - (self.last.time < self.first.time)


@dataclass
class Notes:
    """What one drain has noticed of a feed, for the metadata."""

    expired: int = 0  # cursors
    read_again: int = 0  # events, from where a cursor had expired to where it had been
    started_over: int = 0  # sweeps
    asked_again: int = 0  # pages


@dataclass
class Feed:
    """A feed that can be asked.

    Args:
        name: in sources.yaml.
        config: what is typed there.
        client: asks its url, with the key, within the budget.
        count: how many of its events are stored, counted one by one.
        clock: the time, UTC.
    """

    name: str
    config: FeedConfig
    client: Client
    count: Callable[[], int] = lambda: 0
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    notes: Notes = field(default_factory=Notes)
    records: Records = field(init=False)
    paging: Paging = field(init=False)

    def __post_init__(self) -> None:
        self.records = Records(self.name, self.config)
        self.paging = paging_of(self.config)

    def ask(self, question: Question) -> Answer:
        """The page that is asked for.

        Raises:
            CursorExpired: the token is not known any more, or never was.
            SchemaDrift: its shape is not known, however often it is asked.
            ProtocolError: it contradicts itself, however often it is asked.
            Transient: the source cannot be asked, or cuts its answers short.
        """
        params = self._params(question)
        try:
            return self._believed(lambda: self.client.ask(params, lambda body: self._read(question, body)))
        except Misconfigured as error:
            if question.token is None:
                raise
            raise CursorExpired(f"{error}, though it gave the cursor itself") from error

    def _believed(self, ask: Callable[[], Answer]) -> Answer:
        """An answer that breaks the rules is asked for again before we believe that they have changed."""
        for doubt in itertools.count(1):
            try:
                return ask()
            except (SchemaDrift, ProtocolError) as error:
                if doubt == DOUBTS:
                    raise type(error)(f"{self.name}: {error}") from error
                self.notes.asked_again += 1
                log.info("%s, asking again: %s", self.name, error)
        raise AssertionError  # itertools.count has no end

    def _params(self, question: Question) -> dict[str, str | int]:
        names = self.config.time_filter
        bounds = {names.since: question.since, names.until: question.until}
        return {
            **self.config.parameters,
            **self.paging.question(question.token, self.config.page_size),
            **{name: self._written(bound) for name, bound in bounds.items() if bound is not None},
        }

    def _written(self, moment: int) -> str | int:
        match self.config.time_filter.unit:
            case "milliseconds":
                return moment
            case "seconds":
                return moment // 1_000
            case "iso":
                return datetime.fromtimestamp(moment / 1_000, UTC).isoformat(timespec="milliseconds")

    def _read(self, question: Question, body: bytes) -> Answer:
        try:
            page = self.paging.answer(body, question.token)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Transient(f"{self.name}: the answer is cut, or no JSON ({error})") from None
        records = self.records.split(page.data)
        if page.returned is not None and page.returned != len(records):
            raise Transient(f"{self.name} says that {page.returned} records came, but {len(records)} did")
        first, last = self.records.anchor(records), self.records.anchor(records[::-1])
        if records and first is None:
            self.records.read(page.data, records)  # it knows what to say of many that are all unreadable
        return Answer(question, page, records, first, last)

    def rows(self, answer: Answer) -> Found:
        """The rows of a page. While some of its records cannot be read, it is asked for again: often they then can.

        Raises:
            SchemaDrift: none of its records can be read.
        """
        found = self.records.read(answer.page.data, answer.records)
        for _ in range(DOUBTS - 1):
            if not found.rejected:
                break
            self.notes.asked_again += 1
            try:
                found = self._better(answer, found)
            except IngestionError as error:
                log.info("%s: a page with unreadable records cannot be asked for again: %s", self.name, error)
                break
        return found

    def _better(self, answer: Answer, found: Found) -> Found:
        """Another reading of a page, if it is better. The page may have moved: then what it held before must not be lost."""
        other = self.ask(answer.question)
        again = self.records.read(other.page.data, other.records)
        missing = set(self.records.ids(answer.records)) - set(self.records.ids(other.records))
        return again if len(again.rejected) < len(found.rejected) and not missing else found

    def holds(self, answer: Answer, anchor: Anchor) -> bool:
        """Whether an event is among those of a page."""
        if self.config.ids == "uuid":
            data = bytes(answer.page.data)
            if anchor.id.encode() not in data and anchor.id.upper().encode() not in data:
                return False  # nearly always: and a search of bytes is all it takes
        return anchor.id in self.records.ids(answer.records)


def together(pages: Iterable[Found]) -> Found:
    """The rows of several pages as one block."""
    found = list(pages)
    lines = b"".join(one.rows.lines for one in found)
    count = sum(one.rows.count for one in found)
    return Found(Rows(events, lines, count), tuple(bad for one in found for bad in one.rejected))
