"""A feed in a list, and a wire that shows it page by page, newest first or oldest first."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx

from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.http import Client
from ingestion_assets.sources.events.config import FeedConfig
from ingestion_assets.sources.events.feed import Feed
from ingestion_assets.sources.events.streams import History

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
Event = dict[str, Any]


def identity(number: int) -> str:
    """The id of an event."""
    return str(UUID(int=number + 1, version=4))


def event(number: int, **others: Any) -> Event:
    """An event a minute."""
    moment = BEGIN + timedelta(minutes=number)
    return {
        "id": identity(number), "type": "click", "timestamp": moment.isoformat().replace("+00:00", "Z"),
        "properties": {"n": number}, **others,
    }  # fmt: skip


@dataclass
class Tiny:
    """What the source has, oldest first, and how it answers.

    `spoils` holds, for each next answer, what is done to the whole of it; None: nothing. `dead` are the tokens that have expired.
    """

    events: list[Event] = field(default_factory=list)
    back: bool = True  # newest first
    can_filter: bool = True
    flat: bool = False
    lives: int | None = None
    keeps_token: bool = False  # gives one at the end, for what comes later
    counts: bool = True  # says how much it has
    dead: bool = False  # every token that was given so far
    given: int = 0
    spoils: list[Callable[[dict[str, Any]], object] | None] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    watch: Callable[[], object] = lambda: None  # called after each answer
    generation: int = 0

    def expire(self) -> None:
        """All tokens that were given."""
        self.generation += 1

    def answer(self, request: httpx.Request) -> httpx.Response:
        """One page."""
        query = dict(request.url.params)
        self.asked.append(query)
        spoil = self.spoils.pop(0) if self.spoils else None
        page = self.page(query)
        if isinstance(page, httpx.Response):
            return page
        made = page if spoil is None else spoil(page)
        self.watch()
        if isinstance(made, httpx.Response):
            return made
        return httpx.Response(200, content=made if isinstance(made, bytes) else json.dumps(made or page))

    def page(self, query: dict[str, str]) -> dict[str, Any] | httpx.Response:
        """The right answer. A token names the last event that was shown, as real ones do, so nothing shifts."""
        shown = [one for one in self.events if self._is_wanted(one, query)]
        shown.sort(key=lambda one: one["properties"]["n"], reverse=self.back)
        if "cursor" in query:
            generation, last = query["cursor"].split(":")
            if int(generation) != self.generation:
                refusal = {"error": "Bad Request", "code": "CURSOR_EXPIRED", "message": "start again"}
                return httpx.Response(400, json=refusal)
            sign = -1 if self.back else 1
            shown = [one for one in shown if (one["properties"]["n"] - int(last)) * sign > 0]
        page, more = shown[: int(query["limit"])], len(shown) > int(query["limit"])
        last = page[-1]["properties"]["n"] if page else query.get("cursor", ":-1").split(":")[1]
        token = f"{self.generation}:{last}" if more or self.keeps_token else None
        says: dict[str, Any] = {"hasMore": more, "nextCursor": token}
        if self.lives is not None:
            says["cursorExpiresIn"] = self.lives
        if self.flat:
            return {"data": page, **says}
        about = {"total": len(self.events), "returned": len(page)} if self.counts else {}
        return {"data": page, "pagination": says, "meta": about}

    def _is_wanted(self, one: Event, query: dict[str, str]) -> bool:
        if not self.can_filter or "cursor" in query:
            return True
        moment = (BEGIN + timedelta(minutes=one["properties"]["n"])).timestamp() * 1000
        return int(query.get("since", 0)) <= moment < int(query.get("until", 10**15))

    def feed(self, **typed: Any) -> Feed:
        """As it is opened by a process."""
        config = FeedConfig(**{"url": "http://tiny.example/events", "page_size": 3, "attempts": 1} | typed)
        client = Client(
            str(config.url),
            attempts=config.attempts,
            errors_in_body=True,
            sleep=lambda _seconds: None,
            transport=httpx.MockTransport(self.answer),
        )
        return Feed("tiny", config, client)


def read(tiny: Tiny, store: Any, *, most: int | None = None, writers: int = 2, **typed: Any) -> Any:
    """Drain it as a new process would; what was drained, and what the feed has noticed."""
    feed = tiny.feed(**typed)
    return drain([History(feed, most)], store, writers=writers), feed.notes


def stored(connection: Any) -> list[int]:
    """The numbers of the events in the table, in order."""
    query = "SELECT (payload -> 'properties' ->> 'n')::int FROM raw.events ORDER BY 1"
    return [number for (number,) in connection.execute(query)]
