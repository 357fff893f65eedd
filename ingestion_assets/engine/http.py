"""Manners towards HTTP sources: budgets, retries with full jitter, secrets that cannot leak, errors by what to do.

A request passes, from the outside in: `Client.ask` (retries, reads the answer) → `Budgeted` (waits for its
turn) → `Signed` (adds the secret) → the wire. Secrets are added below everything that logs or
raises, so no url that we print can hold one; `redact` is for sources that echo them.
"""

import email.utils
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import quote, quote_plus

import httpx
import tenacity

from ingestion_assets.engine.budget import Budget, Unlimited
from ingestion_assets.engine.errors import Misconfigured, QuotaExhausted, RateLimited, Transient, Unauthorized

log = logging.getLogger(__name__)

T = TypeVar("T")

MASK = "***"

# At DEBUG httpcore writes down the headers of every answer, and a redirect's Location repeats the key.
logging.getLogger("httpcore.http11").addFilter(
    lambda record: "receive_response_headers" not in record.getMessage()
)


class Sent:
    """How many requests this process has sent, by host; retries count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_host: Counter[str] = Counter()

    def add(self, host: str) -> None:
        """Count one request."""
        with self._lock:
            self._by_host[host] += 1

    def total(self) -> int:
        """All requests since the process started."""
        with self._lock:
            return self._by_host.total()


sent = Sent()


class Signed(httpx.BaseTransport):
    """Adds secret query parameters to the copy of the request that goes on the wire."""

    def __init__(self, transport: httpx.BaseTransport, secrets: Mapping[str, str]) -> None:
        self._transport = transport
        self._secrets = dict(secrets)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a signed copy; the caller's request, which ends in logs and errors, stays without the secret."""
        signed = httpx.Request(
            request.method,
            request.url.copy_merge_params(self._secrets),
            headers=request.headers,
            stream=request.stream,
            extensions=request.extensions,
        )
        return self._transport.handle_request(signed)

    def close(self) -> None:
        """Close the transport below."""
        self._transport.close()


class Budgeted(httpx.BaseTransport):
    """Lets a request through when its budget allows, and counts it."""

    def __init__(self, transport: httpx.BaseTransport, budget: Budget) -> None:
        self._transport = transport
        self._budget = budget

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Wait for a turn; the slot is held until the answer begins, so the source has surely seen the request."""
        with self._budget.request():
            sent.add(request.url.host)
            return self._transport.handle_request(request)

    def close(self) -> None:
        """Close the transport below."""
        self._transport.close()


class Client:
    """One provider over HTTP.

    Args:
        url: where to ask; query parameters are added to it.
        secrets: query parameters that must never be seen, such as `{"apikey": "…"}`.
        budget: shared permission to ask.
        timeout: seconds without a byte after which an answer is given up.
        attempts: how often a question is asked before its Transient error is passed on.
        longest_wait: seconds; a source that asks us to wait longer gets its error passed on instead.
        sleep: how to wait between attempts, seconds.
        transport: the wire; tests put a fake here.
    """

    def __init__(
        self,
        url: str,
        *,
        secrets: Mapping[str, str] | None = None,
        budget: Budget | None = None,
        timeout: float = 30.0,
        attempts: int = 5,
        longest_wait: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url
        self.host = httpx.URL(url).host
        self.budget: Budget = budget or Unlimited()
        self._secrets = dict(secrets or {})
        wire = transport or httpx.HTTPTransport(retries=0, limits=httpx.Limits(max_connections=20))
        self._http = httpx.Client(
            transport=Budgeted(Signed(wire, self._secrets), self.budget),
            timeout=timeout,
            headers={"User-Agent": "ingestion-assets", "Accept": "application/json"},
        )
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: _worth_retrying(error, longest_wait)),
            stop=tenacity.stop_after_attempt(attempts),
            wait=_wait,
            sleep=sleep,
            before_sleep=self._say_that_we_wait,
            reraise=True,
        )

    def ask(self, params: Mapping[str, str | int], read: Callable[[bytes], T]) -> T:
        """Ask until the answer can be read.

        Args:
            params: query parameters, without secrets.
            read: turns the body into the answer; raises Transient to have it asked again.

        Raises:
            Transient: every attempt failed, or the source wants a longer wait than `longest_wait`.
            Permanent: asking again is of no use.
        """
        answer: T = self._retrying(self._ask_once, params, read)
        return answer

    def _ask_once(self, params: Mapping[str, str | int], read: Callable[[bytes], T]) -> T:
        try:
            response = self._http.get(self.url, params=dict(params))
        except httpx.TimeoutException as error:
            raise Transient(f"{self.host} did not answer in time ({type(error).__name__})") from None
        except httpx.RequestError as error:
            # `from None`: such an error quotes what the source sent, and a traceback would print that unredacted
            raise Transient(
                f"{self.host} cannot be reached: {self.redact(str(error)) or type(error).__name__}"
            ) from None
        try:
            raise_for_status(response, self.host)
            return read(response.content)
        except RateLimited as error:
            self._slow_down(error)
            raise
        except QuotaExhausted as error:
            self.budget.pause(max(0.0, (error.until - datetime.now(UTC)).total_seconds()))
            raise

    def _slow_down(self, error: RateLimited) -> None:
        """All processes that share the budget wait, not only this one."""
        self.budget.pause(error.retry_after or 1.0)
        if error.allowed is not None:
            self.budget.shrink(error.allowed)
            log.warning("%s allows %d requests per window, fewer than configured", self.host, error.allowed)

    def _say_that_we_wait(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        pause = state.next_action.sleep if state.next_action else 0.0
        log.info("attempt %d failed: %s; asking again in %.1f s", state.attempt_number, error, pause)

    def redact(self, text: str) -> str:
        """`text` without our secrets: sources echo them in their error messages."""
        for secret in filter(None, self._secrets.values()):
            for form in (secret, quote(secret, safe=""), quote_plus(secret)):
                text = text.replace(form, MASK)
        return text

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


_FULL_JITTER = tenacity.wait_random_exponential(multiplier=0.5, max=30)


def _wait(state: tenacity.RetryCallState) -> float:
    """Seconds: what the source asks for, or full jitter."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, Transient) else None
    return _FULL_JITTER(state) if asked is None else asked


def _worth_retrying(error: BaseException, longest_wait: float) -> bool:
    return isinstance(error, Transient) and (error.retry_after or 0.0) <= longest_wait


def raise_for_status(response: httpx.Response, host: str) -> None:
    """Sort an HTTP status by what to do about it; 2xx passes.

    Raises:
        RateLimited: 429, with the wait the source asks for.
        Transient: 5xx and the like; 403 with a page of HTML, which is a gateway's mood and not about our key.
        Unauthorized: 401, 402 and 403.
        Misconfigured: any other status: the url is wrong.
    """
    status = response.status_code
    if response.is_success:
        return
    said = f"{host} answered HTTP {status}"
    is_page = "html" in response.headers.get("content-type", "")
    if status == httpx.codes.TOO_MANY_REQUESTS:
        raise RateLimited(said, retry_after=retry_after(response.headers))
    if (
        status >= httpx.codes.INTERNAL_SERVER_ERROR
        or status in (408, 418, 425)
        or (status == httpx.codes.FORBIDDEN and is_page)
    ):
        raise Transient(said, retry_after=retry_after(response.headers))
    if status in (401, 402, 403):
        raise Unauthorized(f"{said}: check the key and its plan")
    raise Misconfigured(f"{said}: check the provider's url")


def retry_after(
    headers: Mapping[str, str], *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> float | None:
    """The seconds that a Retry-After header asks for, as a number or a date (RFC 9110 §10.2.3); None without one."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = email.utils.parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - now()).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
