"""What goes wrong at real sites, around any app: silence, server errors, half pages, pages of another release, and pages of somebody else.

Which answers are spoiled depends on the seed and on how many there were before, so a run with one client repeats. What was asked for is noted.
"""

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Kind = Literal["silence", "status", "half", "markup", "html"]
KINDS: tuple[Kind, ...] = ("silence", "status", "half", "markup", "html")

# Another release of the site: classes, fields and ids have new names.
RENAMED = (
    (b"Pagination_pagination__page", b"Pager_page"), (b' href="/', b' data-to="/'),
    (b"__NEXT_DATA__", b"__DATA__"), (b"total_rows", b"rows_total"), (b'"title"', b'"caption"'), (b'"login"', b'"nick"'),
    (b"profile-user-circle__num", b"circle-number"), (b'"games"', b'"rounds"'), (b'"primary"', b'"main"'),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its path, and its query and form together."""

    path: str
    values: tuple[tuple[str, str], ...]
    fault: Kind | None


class Faults:
    """An app whose answers are spoiled now and then.

    Args:
        app: whose answers they are.
        share: of the requests that go wrong, 0 to 1.
        kinds: of faults.
        seed: of the chance.
        silence: seconds that a request is left without an answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        share: float = 0.0,
        kinds: Iterable[Kind] = KINDS,
        seed: int = 1,
        silence: float = 60.0,
    ) -> None:
        self._app = app
        self.share = share
        self.kinds = tuple(kinds)
        self.silence = silence
        self.asked: list[Asked] = []
        self._chance = random.Random(seed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or not."""
        body = await _body(receive)
        values = (*parse_qsl(scope["query_string"].decode()), *parse_qsl(body.decode(errors="replace")))
        fault = self._chance.choice(self.kinds) if self._chance.random() < self.share else None
        self.asked.append(Asked(scope["path"], tuple(values), fault))
        if fault == "silence":
            await asyncio.sleep(self.silence)
        elif fault == "status":
            answer = Response("Bad Gateway", 502)
            await answer(scope, receive, send)
            return
        elif fault == "html":
            answer = Response("<html><title>Just a moment...</title></html>", media_type="text/html")
            await answer(scope, receive, send)
            return
        sent: list[Message] = []

        async def collect(message: Message) -> None:
            sent.append(message)

        async def again() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, collect)
        start, content = sent[0], b"".join(message.get("body", b"") for message in sent[1:])
        if fault == "half":
            content = content[: len(content) // 2]
        elif fault == "markup":
            for old, new in RENAMED:
                content = content.replace(old, new)
        headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
        await send({**start, "headers": [*headers, (b"content-length", str(len(content)).encode())]})
        await send({"type": "http.response.body", "body": content})


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
