"""What status and headers tell: whom to ask again, and when. No dialect makes us too fast, none parks us for years."""

from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion_assets.engine.answers import allowed, error_for_status, pause_after, retry_after
from ingestion_assets.engine.errors import (
    IngestionError,
    Misconfigured,
    NotFound,
    QuotaExhausted,
    RateLimited,
    Transient,
    Unauthorized,
)

NOW = datetime(2024, 1, 1, 12, tzinfo=UTC)
EPOCH = int(NOW.timestamp())
DAY = 86_400.0


def answer(status, **headers):
    """An answer whose header names are written with underscores."""
    return httpx.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (301, "", Misconfigured), (400, "", Misconfigured), (401, "", Unauthorized), (402, "", Unauthorized),
        (403, "application/json", Unauthorized), (403, "text/html", Transient), (404, "", NotFound),
        (405, "", Misconfigured), (408, "", Transient), (410, "", NotFound), (413, "", Misconfigured),
        (418, "", Transient), (425, "", Transient), (429, "text/html", RateLimited), (500, "", Transient),
        (502, "text/html", Transient), (503, "", Transient), (504, "", Transient), (520, "", Transient),
        (529, "", Transient),
    ],
)  # fmt: skip
def test_a_status_is_sorted_by_what_to_do(status, kind, error):
    """Ask again, wait, look at the key, or look at the url."""
    found = error_for_status(answer(status, content_type=kind), "source.test")
    assert type(found) is error
    assert f"source.test answered HTTP {status}" in str(found)


@pytest.mark.parametrize("status", [200, 201, 204, 206])
def test_a_good_status_is_no_error(status):
    """Nothing to sort."""
    assert error_for_status(answer(status), "source.test") is None


@pytest.mark.parametrize("status", [402, 429])
def test_without_credits_the_quota_is_used_up_and_not_the_key_wrong(status):
    """Blockscout's PRO API counts them in a header."""
    assert type(error_for_status(answer(status, x_credits_remaining="0"), "s")) is QuotaExhausted
    assert type(error_for_status(answer(status, x_credits_remaining="20"), "s")) is not QuotaExhausted


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0), ("0", 0.0), (" 1.5 ", 1.5), ("-3", 0.0), ("", None), ("soon", None), ("inf", None),
        ("nan", None), ("1e999", None), ("9999999", DAY), (str(EPOCH + 9), 9.0), (f"{EPOCH + 9}000", 9.0),
        ("Mon, 01 Jan 2024 12:00:09 GMT", 9.0), ("Mon, 01 Jan 2024 12:00:09 -0000", 9.0),
        ("Mon, 01 Jan 2024 13:00:09 +0100", 9.0), ("Mon, 01 Jan 2024 11:00:00 GMT", 0.0),
        ("Mon, 01 Jan 2099 11:00:00 GMT", DAY), ("2024-01-01T12:00:09Z", 9.0), ("9s", 9.0),
        ("Mon, 01 Jan 99999 11:00:00 GMT", None), ("Mon, 31 Feb 2024 11:00:00 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(value, seconds):
    """And whatever else it is, it is nothing; no more than a day of it is believed."""
    assert retry_after({"retry-after": value}, now=NOW) == seconds


LEGACY = "x-ratelimit-reset"
MS, S = "milliseconds", "seconds"


@pytest.mark.parametrize(
    ("headers", "unit", "seconds"),
    [
        ({LEGACY: "28"}, None, 28),  # an events API
        ({LEGACY: "36734"}, None, 36734),  # open: the longer reading, never too fast
        ({LEGACY: "36734"}, MS, 36.734),  # Blockscout, when its module says so
        ({LEGACY: "975", "bypass-429-option": "no_bypass"}, None, 0.975),  # or it tells itself
        ({LEGACY: "975"}, S, 975),
        ({LEGACY: "90000"}, None, 90),  # seconds cannot be more than a day
        ({LEGACY: "90000"}, S, DAY),
        ({LEGACY: str(EPOCH + 40)}, None, 40),
        ({LEGACY: str(EPOCH + 40)}, MS, 40),
        ({LEGACY: f"{EPOCH + 40}000"}, None, 40),
        ({LEGACY: f"{EPOCH + 40}000000"}, None, 40),
        ({LEGACY: f"{EPOCH + 40}000000000"}, None, 40),
        ({LEGACY: str(EPOCH + 10**9)}, None, DAY),
        ({LEGACY: "9" * 300}, None, None),  # a moment long gone, whatever it means
        ({LEGACY: str(EPOCH - 40)}, None, None),
        ({LEGACY: "0"}, None, None),
        ({LEGACY: "-1"}, None, None),
        ({LEGACY: "6m0s"}, None, 360),
        ({LEGACY: "120ms"}, None, 0.12),
        ({LEGACY: "1h2m3.5s"}, None, 3723.5),
        ({LEGACY: "1.2.3s"}, None, None),
        ({LEGACY: "Mon, 01 Jan 2024 12:00:09 GMT"}, None, 9),
        ({LEGACY: "2024-01-01T12:00:09+00:00"}, None, 9),
        ({LEGACY: "soon"}, None, None),
        ({"x-rate-limit-reset": "28"}, None, 28),
        ({"x-ratelimit-reset-ms": "2800"}, None, 2.8),
        ({"retry-after-ms": "2800"}, None, 2.8),
        ({"ratelimit-reset": "2800"}, MS, 2800),  # the standard one has seconds, whatever its neighbour
        ({"ratelimit": '"default";r=0;t=30'}, None, 30),
        ({"ratelimit": "limit=10, remaining=0, reset=30"}, MS, 30),
        ({"x-ratelimit-rpm-reset": "60", "x-ratelimit-rpd-reset": "86400"}, None, 60),  # Routescan
        ({"x-ratelimit-rpm-reset": "60", "x-ratelimit-rpm-remaining": "0",
          "x-ratelimit-rpd-reset": "86400", "x-ratelimit-rpd-remaining": "7"}, None, 60),
        ({"x-ratelimit-rpm-reset": "60", "x-ratelimit-rpm-remaining": "0",
          "x-ratelimit-rpd-reset": "50000", "x-ratelimit-rpd-remaining": "0"}, None, 50000),
        ({"x-ratelimit-rpm-reset": "45000"}, None, 45),  # a minute has no 45,000 seconds
        ({"x-ratelimit-reset-second": "1", "x-ratelimit-remaining-second": "0"}, None, 1),
        ({"retry-after": "2", LEGACY: "3600", "x-ratelimit-remaining": "0"}, None, 2),
        ({"retry-after": "soon", LEGACY: "36"}, None, 36),
        ({"x-ratelimit-remaining": "0"}, None, None),
        ({"x-ratelimit-used": "7", "x-ratelimit-resource": "core"}, None, None),
        ({}, None, None),
    ],
)  # fmt: skip
def test_every_dialect_of_reset_says_how_long_a_refusal_holds(headers, unit, seconds):
    """Seconds or milliseconds to go, moments in four units, dates, durations, pairs."""
    found = retry_after(headers, unit=unit, now=NOW)
    assert found == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "unit", "seconds"),
    [
        ({LEGACY: "28", "x-ratelimit-remaining": "0"}, None, 28),
        ({LEGACY: "28", "x-ratelimit-remaining": "1"}, None, None),
        ({LEGACY: "28", "x-ratelimit-remaining": "-1"}, None, None),  # no limit at all
        ({LEGACY: "28", "x-ratelimit-remaining": "none"}, None, None),
        ({LEGACY: "28"}, None, None),
        ({"x-ratelimit-remaining": "0"}, None, None),
        ({LEGACY: "800", "x-ratelimit-remaining": "0"}, None, 0.8),  # open: we were not refused
        ({LEGACY: "800", "x-ratelimit-remaining": "0"}, S, 800),
        ({LEGACY: "45", "x-ratelimit-remaining": "0"}, MS, 0.045),
        ({LEGACY: str(EPOCH + 40), "x-ratelimit-remaining": "0"}, None, 40),
        ({LEGACY: str(EPOCH - 40), "x-ratelimit-remaining": "0"}, None, None),
        ({LEGACY: str(EPOCH + 7200), "x-ratelimit-remaining": "0"}, None, 3600),  # an hour at most
        ({"x-ratelimit-rpd-reset": "86400", "x-ratelimit-rpd-remaining": "0"}, None, 3600),
        ({"x-ratelimit-rpm-reset": "60", "x-ratelimit-rpm-remaining": "0",
          "x-ratelimit-rpd-reset": "86400", "x-ratelimit-rpd-remaining": "500"}, None, 60),
        ({"ratelimit": '"default";r=0;t=300'}, None, 300),
        ({"ratelimit": '"default";r=5;t=300'}, None, None),
        ({}, None, None),
    ],
)  # fmt: skip
def test_the_last_answer_of_a_window_says_how_long_to_pause(headers, unit, seconds):
    """Nobody asks for a refusal."""
    found = pause_after(headers, unit=unit, now=NOW)
    assert found == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "requests"),
    [
        ({"x-ratelimit-limit": "3"}, 3),
        ({"x-ratelimit-limit": "3, 3;w=1"}, 3),
        ({"x-ratelimit-limit": "0"}, None),
        ({"x-ratelimit-limit": "-1"}, None),
        ({"x-ratelimit-limit": "many"}, None),
        ({"x-ratelimit-limit-second": "3", "x-ratelimit-remaining-second": "0",
          "x-ratelimit-limit-day": "100", "x-ratelimit-remaining-day": "7"}, 3),
        ({"x-ratelimit-limit-second": "3", "x-ratelimit-limit-day": "1"}, None),  # which one was it?
        ({}, None),
    ],
)  # fmt: skip
def test_a_refusal_says_how_many_requests_are_allowed(headers, requests):
    """Of the window that is used up."""
    assert allowed(headers) == requests


NAMES = st.sampled_from(
    ["retry-after", "retry-after-ms", "ratelimit", LEGACY, "ratelimit-reset", "x-ratelimit-rpm-reset",
     "x-ratelimit-remaining", "x-ratelimit-limit", "x-ratelimit-rpm-remaining", "x-ratelimit-reset-ms", "bypass-429-option"]
)  # fmt: skip
VALUES = (
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.integers().map(str)
    | st.floats().map(str)
    | st.from_regex(r"\w{3}, \d+ \w{3} \d+ \d+:\d+:\d+ [-+\w]+")
    | st.from_regex(r"\A(\d+[hms]{1,2})*\Z")
)


@given(st.dictionaries(NAMES, VALUES), st.sampled_from([None, "seconds", "milliseconds"]))
def test_no_headers_break_us_or_park_us_for_longer_than_a_day(headers, unit):
    """Sources write what they like."""
    wait = retry_after(headers, unit=unit, now=NOW)
    assert wait is None or 0 <= wait <= DAY
    pause = pause_after(headers, unit=unit, now=NOW)
    assert pause is None or 0 < pause <= 3600
    requests = allowed(headers)
    assert requests is None or requests > 0
    error = error_for_status(httpx.Response(429), "source.test", unit=unit)
    assert isinstance(error, IngestionError)
