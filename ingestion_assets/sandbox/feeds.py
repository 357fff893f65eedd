"""Two made-up feeds of events that grow with the clock, as different as real ones are.

`/events` is newest first, has cursors that expire after two minutes, and writes its times in two ways on one page. `/audit`
is oldest first, has offsets, numbers for ids, and answers with a bare array. Event n happens n steps after `EPOCH`, wherever
and whenever the sandbox runs; only those of the history that is kept are shown.
"""

import base64
import json
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from ingestion_assets.sandbox.draw import digest
from ingestion_assets.sandbox.world import EPOCH, SEED

STEP = timedelta(minutes=2)  # between two events of a feed
LIFE = 120  # seconds that a cursor lives
MOST = 1_000  # records on one page, whatever is asked for

_TYPES = (
    "page_view",
    "page_view",
    "page_view",
    "click",
    "click",
    "api_call",
    "form_submit",
    "purchase",
    "error",
)
_ACTIONS = ("login", "logout", "read", "write", "delete")


def feeds(
    since: datetime, clock: Callable[[], datetime], *, step: timedelta = STEP, life: int = LIFE
) -> Starlette:
    """Build the app that serves both feeds.

    Args:
        since: the first moment whose events are kept.
        clock: the time; nothing newer is shown.
        step: between two events.
        life: seconds after which a cursor is refused.

    """
    first = -((EPOCH - since) // step)

    def newest() -> int:
        return (clock() - EPOCH) // step

    async def events(request: Request) -> JSONResponse:
        query = request.query_params
        try:
            limit = max(1, min(MOST, int(query.get("limit", "100"))))
            at = _bounded(query, newest(), step)
            if "cursor" in query:
                at, expires = _cursor(query["cursor"])
                if clock().timestamp() > expires:
                    return _refused("Cursor expired. Please restart pagination.", "CURSOR_EXPIRED")
        except ValueError:
            return _refused("Not a number, or not a cursor", "INVALID_CURSOR")
        page = [_event(n, step) for n in range(at, max(first - 1, at - limit), -1)]
        rest = at - len(page)
        more = rest >= first
        token = _token(rest, clock().timestamp() + life) if more else None
        return JSONResponse(
            {
                "data": page,
                "pagination": {"limit": limit, "hasMore": more, "nextCursor": token, "cursorExpiresIn": life},
                "meta": {"total": newest() - first + 1, "returned": len(page)},
            }
        )

    async def audit(request: Request) -> JSONResponse:
        query = request.query_params
        try:
            limit = max(1, min(MOST, int(query.get("limit", "100"))))
            start = first + max(0, int(query.get("offset", "0")))
        except ValueError:
            return _refused("limit and offset are numbers", "BAD_REQUEST")
        return JSONResponse([_entry(n, step) for n in range(start, min(newest() + 1, start + limit))])

    return Starlette(routes=[Route("/events", events), Route("/audit", audit)])


def _bounded(query: Mapping[str, str], newest: int, step: timedelta) -> int:
    """The newest event before `until`, milliseconds since 1970."""
    if "until" not in query:
        return newest
    until = int(query["until"]) - int(EPOCH.timestamp() * 1_000)
    return min(newest, (until - 1) // (step // timedelta(milliseconds=1)))


def _refused(message: str, code: str) -> JSONResponse:
    return JSONResponse({"error": "Bad Request", "message": message, "code": code}, status_code=400)


def _token(at: int, expires: float) -> str:
    return base64.urlsafe_b64encode(json.dumps([at, expires]).encode()).decode()


def _cursor(token: str) -> tuple[int, float]:
    at, expires = json.loads(base64.urlsafe_b64decode(token))
    return int(at), float(expires)


def _event(n: int, step: timedelta) -> dict[str, object]:
    moment = EPOCH + n * step
    drawn = int(digest(f"{SEED}/feed", "event", n, size=8), 16)
    written = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "id": str(uuid.UUID(digest(f"{SEED}/feed", "id", n, size=16)[2:])),
        "sessionId": f"sess_{drawn % 997:03d}",
        "userId": f"user_{drawn % 211:03d}",
        "type": _TYPES[drawn % len(_TYPES)],
        "timestamp": int(moment.timestamp() * 1_000) if n % 3 == 0 else written,
        "properties": {"value": drawn % 10_000 / 100, "page": f"/p/{drawn % 50}"},
    }


def _entry(n: int, step: timedelta) -> dict[str, object]:
    drawn = int(digest(f"{SEED}/audit", "entry", n, size=8), 16)
    return {
        "number": n,
        "action": _ACTIONS[drawn % len(_ACTIONS)],
        "at": int((EPOCH + n * step).timestamp()),
        "who": f"user_{drawn % 211:03d}",
    }
