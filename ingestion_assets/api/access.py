"""Who may ask, and how often: the bearer token and the limits of a client, before anything else is looked at.

Plain ASGI, because every request passes here.
"""

import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Callable

import msgspec
from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

FACADE = "/v2/"  # clients of an explorer can send a key, and no header
MOST_CLIENTS = 10_000  # that are remembered

RATE_TEXT = "Max rate limit reached"


class Token:
    """Lets through what carries the token, in `Authorization: Bearer …`; at the facade also as `apikey`."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or self._token is None or self._is_shown(scope, self._token):
            await self._app(scope, receive, send)
        elif scope["path"].startswith(FACADE):
            await envelope("Invalid API Key")(scope, receive, send)
        else:
            body = {
                "error": "UNAUTHORIZED",
                "message": "this API wants the header Authorization: Bearer <token>",
            }
            await json(body, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)

    def _is_shown(self, scope: Scope, token: bytes) -> bool:
        scheme, _, shown = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(shown.strip().encode(), token):
            return True
        if not scope["path"].startswith(FACADE):
            return False
        return hmac.compare_digest(QueryParams(scope["query_string"]).get("apikey", "").encode(), token)


class Rates:
    """How many requests each client has left: so many at once, and so many a second after that.

    A client is the address that the server sees; behind a reverse proxy, the one that the proxy names. What is kept of each is one
    number, the moment at which all of its requests are paid for (the generic cell rate algorithm).

    Args:
        per_second: requests; 0: no limit.
        burst: requests at once.
        clock: seconds, never backwards.
    """

    def __init__(self, per_second: float, burst: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_second = per_second
        self.burst = burst
        self._clock = clock
        self._paid: OrderedDict[str, float] = OrderedDict()

    def wait(self, client: str) -> float:
        """Take one request: 0, or the seconds until there is one for this client, and then nothing is taken."""
        if not self.per_second:
            return 0.0
        now, price = self._clock(), 1 / self.per_second
        paid = max(self._paid.get(client, now), now)
        ahead = paid + price - now - self.burst * price
        if ahead > 1e-9:  # what floats leave over  # noqa: PLR2004
            return ahead
        self._paid[client] = paid + price
        self._paid.move_to_end(client)
        if len(self._paid) > MOST_CLIENTS:
            self._paid.popitem(last=False)  # the one that has been away for longest
        return 0.0


class Limited:
    """Lets through what a client has left, and tells the others when to come again."""

    def __init__(self, app: ASGIApp, rates: Rates) -> None:
        self._app = app
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        seconds = self._rates.wait(client[0] if client else "")
        if not seconds:
            await self._app(scope, receive, send)
            return
        again = {"Retry-After": str(math.ceil(seconds))}
        if scope["path"].startswith(FACADE):
            await envelope(f"{RATE_TEXT} ({self._rates.per_second:g}/sec)", again)(scope, receive, send)
            return
        body = {
            "error": "TOO_MANY_REQUESTS",
            "message": f"more than {self._rates.per_second:g} requests a second, {self._rates.burst} at once; ask again later",
        }
        await json(body, 429, again)(scope, receive, send)


def json(body: object, status: int, headers: dict[str, str] | None = None) -> Response:
    """A small answer."""
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")


def envelope(text: str, headers: dict[str, str] | None = None) -> Response:
    """A refusal as an explorer writes it: HTTP 200, and the sentence where records would be."""
    return json({"status": "0", "message": "NOTOK", "result": text}, 200, headers)
