"""What an HTTP answer says beside its body: its status, and the headers about rates. Pure functions.

How a number in a reset header is read, for sources mean four things by it:

* 1e9 and more is a moment: seconds since 1970, or milli-, micro-, nanoseconds, which are a thousand times more each.
* Less is a time to go, in the unit that the caller knows of this source, or that the answer tells: `RateLimit-…`
  without an X are seconds (draft-ietf-httpapi-ratelimit-headers), a name that ends in `-ms`, or Blockscout's
  `bypass-429-option` beside it, means milliseconds.
* A window named in the header (`rpm`, `rpd`, `minute`, …) never ends later than it lasts, and none lasts longer than
  a day: a larger number of seconds must be milliseconds.
* What is left is open. After a refusal we take seconds, the longer reading, so a wrong guess is never too fast. Beside an
  answer that we were given we take a number above 60 for milliseconds: that pause is a courtesy, and if it was
  too short, a refusal says so.

Nothing is believed beyond a day, and beside a given answer nothing beyond an hour.
"""

import email.utils
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import httpx

from ingestion_assets.engine.budget import next_midnight
from ingestion_assets.engine.errors import (
    IngestionError,
    Misconfigured,
    NotFound,
    QuotaExhausted,
    RateLimited,
    Transient,
    Unauthorized,
)

Unit = Literal["seconds", "milliseconds"]

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0
WINDOWS = {
    "second": 1.0, "rps": 1.0, "minute": MINUTE, "rpm": MINUTE,
    "hour": HOUR, "rph": HOUR, "day": DAY, "rpd": DAY,
}  # fmt: skip
EPOCH = 1e9  # as a number of seconds, 2001; as a time to go, longer than any source means

_NAME = re.compile(r"(x-)?rate-?limit-(.+)")
_PART = re.compile(r"(\w+)\s*=\s*(\d+)")
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)s)?(?:(\d+)ms)?")
_INTEGER = re.compile(r"\s*(-?\d+)")


def error_for_status(
    response: httpx.Response, host: str, *, unit: Unit | None = None
) -> IngestionError | None:
    """The error that a status means, sorted by what to do about it; None for 2xx.

    RateLimited: 429, with the wait that the source asks for. QuotaExhausted: 402 or 429, with a header that says that
    no credits are left. Transient: 5xx and the like, and 403 with a page of HTML, which is a gateway's mood and
    not about our key. Unauthorized: 401, 402 and 403. NotFound: 404 and 410. Misconfigured: any other status, for the url is wrong.

    Args:
        response: its status and headers; the body is not looked at.
        host: who answered.
        unit: of the times to go in its reset headers.
    """
    status = response.status_code
    if response.is_success:
        return None
    said = f"{host} answered HTTP {status}"
    is_page = "html" in response.headers.get("content-type", "")
    wait = retry_after(response.headers, unit=unit)
    if status in (402, 429) and _integer(response.headers.get("x-credits-remaining")) == 0:
        return QuotaExhausted(f"{said}: no credits are left", until=next_midnight())
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return RateLimited(said, retry_after=wait, allowed=allowed(response.headers))
    is_mood = status in (408, 418, 425) or (status == httpx.codes.FORBIDDEN and is_page)
    if response.is_server_error or is_mood:
        return Transient(said, retry_after=wait)
    if status in (401, 402, 403):
        return Unauthorized(f"{said}: check the key and its plan")
    kind = NotFound if status in (404, 410) else Misconfigured
    return kind(f"{said}: check the provider's url")


def retry_after(
    headers: Mapping[str, str], *, unit: Unit | None = None, now: datetime | None = None
) -> float | None:
    """The seconds that a refusal asks us to wait, at most a day; None where it does not say.

    Retry-After comes first, as a number or a date (RFC 9110 §10.2.3); else the budgets that are used up, the longest
    one; else any budget, the shortest one.

    Args:
        headers: of the answer, names in lower case.
        unit: of the times to go in its reset headers, where it is known.
        now: default: the clock.
    """
    now = now or datetime.now(UTC)
    for name, factor in (("retry-after", 1.0), ("retry-after-ms", 1e-3)):
        wait = _to_go(headers.get(name, ""), now, factor=factor)
        if wait is not None:
            return wait
    budgets = [
        (budget.remaining == 0, wait)
        for budget in _budgets(headers, unit)
        if (wait := budget.wait(now, longest=DAY))
    ]
    spent = [wait for is_spent, wait in budgets if is_spent]
    return max(spent) if spent else min((wait for _, wait in budgets), default=None)


def pause_after(
    headers: Mapping[str, str], *, unit: Unit | None = None, now: datetime | None = None
) -> float | None:
    """The seconds until a budget is full again of which this answer was the last, at most an hour; None: ask on.

    Args:
        headers: of an answer that we were given, names in lower case.
        unit: of the times to go in its reset headers, where it is known.
        now: default: the clock.
    """
    now = now or datetime.now(UTC)
    waits = [budget.wait(now, longest=MINUTE) for budget in _budgets(headers, unit) if budget.remaining == 0]
    longest = max((wait for wait in waits if wait), default=None)
    return None if longest is None else min(longest, HOUR)


def allowed(headers: Mapping[str, str]) -> int | None:
    """How many requests a window allows, from the headers of a refusal; None where it is not clear which window."""
    budgets = list(_budgets(headers, None))
    refused = [budget for budget in budgets if budget.remaining == 0] or (
        budgets if len(budgets) == 1 else []
    )
    return min((budget.limit for budget in refused if budget.limit and budget.limit > 0), default=None)


@dataclass(slots=True)
class _Budget:
    """What the headers say of one budget. `factor`: seconds in its unit of times to go, None where that is open."""

    window: float | None
    factor: float | None
    limit: int | None = None
    remaining: int | None = None
    reset: str = ""

    def note(self, what: str, value: str) -> None:
        """Take the value of one header."""
        if what == "reset":
            self.reset = value
        elif what == "remaining":
            self.remaining = _integer(value)
        else:
            self.limit = _integer(value)

    def wait(self, now: datetime, *, longest: float) -> float | None:
        """Seconds until it is full. `longest`: what may still be seconds where unit and window are not known."""
        return _to_go(self.reset, now, factor=self.factor, longest=self.window or longest)


def _budgets(headers: Mapping[str, str], unit: Unit | None) -> Iterator[_Budget]:
    if unit is None and "bypass-429-option" in headers:
        unit = "milliseconds"
    known = None if unit is None else _factor(unit)
    found: dict[str, _Budget] = {}
    for header, value in headers.items():
        if (
            header == "ratelimit"
        ):  # in one header: `"default";r=0;t=30`, before that `limit=10, remaining=0, reset=30`
            parts: dict[str, str] = dict(_PART.findall(value))
            remaining = _integer(parts.get("r") or parts.get("remaining"))
            reset = parts.get("t") or parts.get("reset") or ""
            yield _Budget(None, 1.0, _integer(parts.get("limit")), remaining, reset)
        match = _NAME.fullmatch(header)
        words = match[2].split("-") if match else []
        what = next((word for word in ("limit", "remaining", "reset") if word in words), None)
        if match and what:
            words.remove(what)
            factor = 1e-3 if "ms" in words else known if match[1] else 1.0
            name = "-".join(word for word in words if word != "ms")
            window = next((WINDOWS[word] for word in words if word in WINDOWS), None)
            budget = found.setdefault(name, _Budget(window, factor))
            budget.note(what, value)
            if what == "reset":
                budget.factor = factor
    yield from found.values()


def _factor(unit: Unit) -> float:
    return 1.0 if unit == "seconds" else 1e-3


def _integer(value: str | None) -> int | None:
    match = _INTEGER.match(value[:20]) if value else None
    return int(match[1]) if match else None


def _to_go(value: str, now: datetime, *, factor: float | None, longest: float = DAY) -> float | None:
    """Seconds until the moment that a header names, from nothing to a day; None where it names none."""
    value = value.strip()
    if not value:
        return None
    try:
        number = float(value)
    except ValueError:
        return _duration(value) or _until(value, now)
    if not math.isfinite(number):
        return None
    if number >= EPOCH:
        while number >= EPOCH * 100:
            number /= 1_000
        number -= now.timestamp()
    else:
        number *= factor or (1.0 if number <= longest else 1e-3)
    return min(max(0.0, number), DAY)


def _duration(value: str) -> float | None:
    """`1s`, `6m0s`, `120ms`."""
    match = _DURATION.fullmatch(value)
    if match is None:
        return None
    try:
        hours, minutes, seconds, milliseconds = (float(part or 0) for part in match.groups())
    except ValueError:  # such as 1.2.3s
        return None
    return min(hours * HOUR + minutes * MINUTE + seconds + milliseconds / 1_000, DAY)


def _until(value: str, now: datetime) -> float | None:
    for parse in (email.utils.parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = parse(value)
            moment = moment.replace(tzinfo=moment.tzinfo or UTC)
            return min(max(0.0, (moment - now).total_seconds()), DAY)
        except (ValueError, OverflowError):
            continue
    return None
