"""Manners towards HTTP sources: budgets, retries with full jitter, secrets that cannot leak, errors by what to do.

A request passes, from the outside in: `Client.ask` (retries, reads the answer) → `Budgeted` (waits for its
turn) → `Signed` (adds the secrets) → `Wire` (ends in time). Secrets are added below everything that logs or
raises, so no url that we print can hold one; `redact` is for sources that echo them.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import quote

import httpx
import tenacity

from ingestion_assets.engine.answers import Unit, error_for_status, pause_after, retry_after
from ingestion_assets.engine.budget import Budget, Unlimited
from ingestion_assets.engine.errors import (
    IngestionError,
    QuotaExhausted,
    RateLimited,
    SchemaDrift,
    TooMuch,
    Transient,
    Unauthorized,
)
from ingestion_assets.engine.signing import Redaction, Secrets, Signed
from ingestion_assets.engine.wire import Wire

__all__ = ["Client", "Secrets", "sent"]

log = logging.getLogger(__name__)

T = TypeVar("T")

PERMITS = "permits"  # the extension of a request that says as how many the source counts it
LARGEST = 512_000_000  # bytes
LONGEST = 600.0  # seconds that one answer may take, where the silence that is allowed is not longer

# At DEBUG httpcore writes down the headers of every answer, and a redirect's Location repeats the key.
logging.getLogger("httpcore.http11").addFilter(
    lambda record: "receive_response_headers" not in record.getMessage()
)


class Sent:
    """How many requests this process has sent, by host, as the sources count them; retries count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_host: Counter[str] = Counter()

    def add(self, host: str, permits: int = 1) -> None:
        """Count one request, which the source counts as so many."""
        with self._lock:
            self._by_host[host] += permits

    def total(self) -> int:
        """All requests since the process started."""
        with self._lock:
            return self._by_host.total()


sent = Sent()


class Budgeted(httpx.BaseTransport):
    """Lets a request through when its budget allows, and counts it."""

    def __init__(self, transport: httpx.BaseTransport, budget: Budget) -> None:
        self._transport = transport
        self._budget = budget

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Wait for a turn; the slots are held until the answer begins, so the source has surely seen the request."""
        permits = request.extensions.get(PERMITS, 1)
        with self._budget.request(permits):
            sent.add(request.url.host, permits)
            return self._transport.handle_request(request)

    def close(self) -> None:
        """Close the transport below."""
        self._transport.close()


class Client:
    """One provider over HTTP.

    Args:
        url: where to ask; query parameters are added to it, and `{key}` in it is filled in on the wire.
        secrets: what must never be seen.
        budget: shared permission to ask.
        timeout: seconds without a byte after which an answer is given up.
        deadline: seconds after which it is given up though bytes still come; default: 10 × timeout, at most 600.
        largest: bytes that an answer may hold when unpacked.
        attempts: how often a question is asked before its Transient error is passed on.
        longest_wait: seconds; a source that asks us to wait longer gets its error passed on instead.
        errors_in_body: whether JSON that comes with an error status is for `read` to judge, as JSON-RPC has it;
            it may say more than the status.
        unit: of the times to go in the source's reset headers; None: not known, see `answers`.
        sleep: how to wait between attempts, seconds.
        accept: kind of content that is asked for.
        transport: the wire; tests put a fake here. It then sees to the deadline.

    Raises:
        Misconfigured: a `{key}` in the url, and no key for it, or the other way round.
    """

    def __init__(
        self,
        url: str,
        *,
        secrets: Secrets | None = None,
        budget: Budget | None = None,
        timeout: float = 30.0,
        deadline: float | None = None,
        largest: int = LARGEST,
        attempts: int = 5,
        longest_wait: float = 60.0,
        errors_in_body: bool = False,
        unit: Unit | None = None,
        sleep: Callable[[float], None] = time.sleep,
        accept: str = "application/json",
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = httpx.URL(url)
        self.host = self._url.host
        self.budget: Budget = budget or Unlimited()
        secrets = secrets or Secrets()
        secrets.check(self._url)
        self._redaction = Redaction(secrets.values())
        self._largest = largest
        self._errors_in_body = errors_in_body
        self._unit = unit
        wire = transport or Wire(deadline or max(timeout, min(10 * timeout, LONGEST)))
        self._http = httpx.Client(
            transport=Budgeted(Signed(wire, secrets), self.budget),
            timeout=timeout,
            headers={"User-Agent": "ingestion-assets", "Accept": accept},
        )
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: _worth_retrying(error, longest_wait)),
            stop=tenacity.stop_after_attempt(attempts),
            wait=_wait,
            sleep=sleep,
            before_sleep=self._say_that_we_wait,
            reraise=True,
        )

    def ask(
        self,
        params: Mapping[str, str | int],
        read: Callable[[bytes], T],
        *,
        path: str = "",
        body: bytes | None = None,
        content: str = "application/json",
        permits: int = 1,
    ) -> T:
        """Ask until the answer can be read: GET, or POST where there is a body.

        Args:
            params: query parameters, without secrets.
            read: turns the body into the answer; raises Transient to have it asked again.
            path: appended to the path of the url, as plain text.
            body: what to post.
            content: its kind.
            permits: as how many requests the source counts it, each time it is asked.

        Raises:
            Transient: every attempt failed, or the source wants a longer wait than `longest_wait`.
            TooMuch: the answer is larger than `largest`, or the budget never allows so many requests at once.
            Permanent: asking again is of no use.
        """
        request = self._http.build_request(
            "GET" if body is None else "POST",
            _address(self._url, path, params),
            content=body,
            headers=None if body is None else {"Content-Type": content},
            extensions={PERMITS: permits},
        )
        answer: T = self._retrying(self._ask_once, request, read)
        return answer

    def _ask_once(self, request: httpx.Request, read: Callable[[bytes], T]) -> T:
        response, body = self._send(request)
        try:
            refusal = error_for_status(response, self.host, unit=self._unit)
            if refusal is None:
                return self._read(response, body, read)
            raise self._clearest(refusal, response, body, read)
        except RateLimited as error:
            self._slow_down(error)
            raise
        except QuotaExhausted as error:
            self.budget.pause(max(0.0, (error.until - datetime.now(UTC)).total_seconds()))
            raise

    def _send(self, request: httpx.Request) -> tuple[httpx.Response, bytes]:
        parts: list[bytes] = []
        size = 0
        try:
            response = self._http.send(request, stream=True)
            try:
                for part in response.iter_bytes():
                    parts.append(part)
                    size += len(part)
                    if size > self._largest:
                        raise TooMuch(f"{self.host} answered with more than {self._largest:,} bytes")
            finally:
                response.close()
        except httpx.TimeoutException as error:
            raise Transient(f"{self.host} did not answer in time ({type(error).__name__})") from None
        except httpx.RequestError as error:
            # `from None`: such an error quotes what the source sent, and a traceback would print that unredacted
            raise Transient(
                f"{self.host} cannot be reached: {self.redact(str(error)) or type(error).__name__}"
            ) from None
        return response, b"".join(parts)

    def _read(self, response: httpx.Response, body: bytes, read: Callable[[bytes], T]) -> T:
        """Read a good answer. It may tell that it was the last one for a while, or be a refusal in its body."""
        pause = pause_after(response.headers, unit=self._unit)
        if pause:
            self.budget.pause(pause)
        try:
            return read(body)
        except RateLimited as error:
            if error.retry_after is None:
                error.retry_after = retry_after(response.headers, unit=self._unit)
            raise

    def _clearest(
        self, refusal: IngestionError, response: httpx.Response, body: bytes, read: Callable[[bytes], object]
    ) -> IngestionError:
        """What the status means, or what the body says of it where that is more."""
        is_json = body.lstrip()[:1] in (b"{", b"[")
        if self._errors_in_body and is_json and not response.is_server_error:
            try:
                read(body)
            except SchemaDrift:
                pass  # no error that `read` knows
            except IngestionError as said:
                return _the_clearer(said, refusal)
        return refusal

    def _slow_down(self, error: RateLimited) -> None:
        """All processes that share the budget wait, not only this one."""
        self.budget.pause(error.retry_after or 1.0)
        if error.allowed is not None:
            self.budget.shrink(error.allowed)

    def _say_that_we_wait(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        pause = state.next_action.sleep if state.next_action else 0.0
        log.info("attempt %d failed: %s; asking again in %.1f s", state.attempt_number, error, pause)

    def redact(self, text: str) -> str:
        """`text` without our secrets, however they are encoded: sources echo them in their error messages."""
        return self._redaction(text)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def _address(url: httpx.URL, path: str, params: Mapping[str, str | int]) -> httpx.URL:
    if path:
        before, mark, query = url.raw_path.partition(b"?")
        after = quote(path.lstrip("/"), safe="/").encode()
        url = url.copy_with(raw_path=before.rstrip(b"/") + b"/" + after + mark + query)
    return url.copy_merge_params(dict(params)) if params else url


def _the_clearer(said: IngestionError, by_status: IngestionError) -> IngestionError:
    """Of two errors for one answer, the one to raise. What a body says in general terms is less than a clear status."""
    if type(said) is Transient and isinstance(by_status, RateLimited | QuotaExhausted | Unauthorized):
        return by_status
    if isinstance(said, RateLimited) and isinstance(by_status, Transient) and said.retry_after is None:
        said.retry_after = by_status.retry_after
    return said


_FULL_JITTER = tenacity.wait_random_exponential(multiplier=0.5, max=30)


def _wait(state: tenacity.RetryCallState) -> float:
    """Seconds: what the source asks for, or full jitter."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, Transient) else None
    return _FULL_JITTER(state) if asked is None else asked


def _worth_retrying(error: BaseException, longest_wait: float) -> bool:
    return isinstance(error, Transient) and (error.retry_after or 0.0) <= longest_wait
