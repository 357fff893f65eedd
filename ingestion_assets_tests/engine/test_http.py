"""Manners: whom to ask again and when, what an answer means, and secrets that never leave."""

import logging
import socket
import threading
import traceback
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse

from ingestion_assets.engine.errors import (
    IngestionError,
    Misconfigured,
    Permanent,
    QuotaExhausted,
    RateLimited,
    Transient,
    Unauthorized,
)
from ingestion_assets.engine.http import Client, raise_for_status, retry_after, sent
from ingestion_assets_tests.upstream import Upstream

URL = "http://source.test/api"
HUSH = "hush/42+ä"
NOW = datetime(2024, 1, 1, 12, tzinfo=UTC)


class Answers:
    """A wire that gives these answers one after another, the last one again and again. Errors are raised."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.requests = []
        self.slept = []

    def __call__(self, request):
        """One answer."""
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, **options):
        """A client on this wire, whose waits are only written down."""
        return Client(URL, transport=httpx.MockTransport(self), sleep=self.slept.append, **options)


def answer(status=200, body=b"fine", **headers):
    """An answer whose header names are written with underscores."""
    return httpx.Response(
        status, content=body, headers={name.replace("_", "-"): v for name, v in headers.items()}
    )


def read(body):
    """A source that takes everything."""
    return body


def test_an_answer_is_read():
    """The question's parameters and the secret arrive; the answer is what the reader makes of it."""
    wire = Answers(answer())
    assert wire.client(secrets={"apikey": HUSH}).ask({"page": 1, "of": "a b"}, bytes.decode) == "fine"
    assert dict(wire.requests[0].url.params) == {"page": "1", "of": "a b", "apikey": HUSH}
    assert wire.slept == []


@pytest.mark.parametrize(
    "failure",
    [answer(500), answer(503), answer(429), httpx.ConnectError("refused"), httpx.ReadTimeout("slow"),
     httpx.RemoteProtocolError("gone"), httpx.DecodingError("no gzip")],
    ids=["500", "503", "429", "connect", "timeout", "protocol", "decoding"],
)  # fmt: skip
def test_what_may_pass_is_asked_again(failure):
    """Until it has passed."""
    wire = Answers(failure, failure, answer())
    assert wire.client().ask({}, read) == b"fine"
    assert len(wire.slept) == 2


def test_waits_have_full_jitter_and_grow():
    """Anywhere between nothing and a bound that doubles up to half a minute: clients do not come back in step."""
    waits = []
    for _ in range(40):
        wire = Answers(answer(500))
        with pytest.raises(Transient):
            wire.client(attempts=9).ask({}, read)
        waits.append(wire.slept)
    for number, column in enumerate(zip(*waits, strict=True)):
        bound = min(30, 0.5 * 2**number)
        assert all(0 <= wait <= bound for wait in column)
        assert min(column) < bound / 3
        assert max(column) > bound / 2


def test_after_the_last_attempt_the_error_is_passed_on():
    """With the host, and without a further wait."""
    wire = Answers(answer(502))
    with pytest.raises(Transient, match=r"source\.test answered HTTP 502"):
        wire.client(attempts=3).ask({}, read)
    assert (len(wire.requests), len(wire.slept)) == (3, 2)


def test_a_reader_may_have_the_question_asked_again():
    """An answer may say 200 and be none: only the source knows."""
    wire = Answers(answer(body=b"busy"), answer())

    def choosy(body):
        if body == b"busy":
            raise Transient("busy")
        return body

    assert wire.client().ask({}, choosy) == b"fine"


@pytest.mark.parametrize("error", [Permanent("no"), Unauthorized("no"), ValueError("a bug")])
def test_what_will_not_pass_is_not_asked_again(error):
    """Neither errors that are permanent nor those that are ours."""
    wire = Answers(answer())

    def refuse(_body):
        raise error

    with pytest.raises(type(error)):
        wire.client().ask({}, refuse)
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (301, "", Misconfigured), (400, "", Misconfigured), (401, "", Unauthorized), (402, "", Unauthorized),
        (403, "application/json", Unauthorized), (403, "text/html", Transient), (404, "", Misconfigured),
        (405, "", Misconfigured), (408, "", Transient), (410, "", Misconfigured), (418, "", Transient),
        (425, "", Transient), (429, "text/html", RateLimited), (500, "", Transient), (502, "text/html", Transient),
        (503, "", Transient), (504, "", Transient), (520, "", Transient), (529, "", Transient),
    ],
)  # fmt: skip
def test_a_status_is_sorted_by_what_to_do(status, kind, error):
    """Ask again, wait, look at the key, or look at the url."""
    with pytest.raises(error) as caught:
        raise_for_status(answer(status, content_type=kind), "source.test")
    assert type(caught.value) is error
    assert f"source.test answered HTTP {status}" in str(caught.value)


@pytest.mark.parametrize("status", [200, 201, 204, 206])
def test_a_good_status_passes(status):
    """Nothing is raised."""
    raise_for_status(answer(status), "source.test")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0), ("0", 0.0), (" 1.5 ", 1.5), ("-3", 0.0), ("", None), ("soon", None), ("inf", None),
        ("nan", None), ("1e999", None),
        ("Mon, 01 Jan 2024 12:00:09 GMT", 9.0), ("Mon, 01 Jan 2024 12:00:09 -0000", 9.0),
        ("Mon, 01 Jan 2024 13:00:09 +0100", 9.0), ("Mon, 01 Jan 2024 11:00:00 GMT", 0.0),
        ("Mon, 01 Jan 99999 11:00:00 GMT", None), ("Mon, 31 Feb 2024 11:00:00 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(value, seconds):
    """And whatever else it is, it is nothing."""
    assert retry_after({"retry-after": value}, now=lambda: NOW) == seconds


@given(
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.from_regex(r"\w{3}, \d+ \w{3} \d+ \d+:\d+:\d+ [-+\w]+")
)
def test_no_retry_after_breaks_us(value):
    """Sources write what they like."""
    seconds = retry_after({"retry-after": value}, now=lambda: NOW)
    assert seconds is None or 0 <= seconds < float("inf")


@pytest.mark.parametrize("status", [429, 503])
def test_the_wait_that_a_source_asks_for_is_kept(status):
    """Exactly so long."""
    wire = Answers(answer(status, retry_after="7"), answer())
    wire.client().ask({}, read)
    assert wire.slept == [7.0]


def test_a_wait_that_is_too_long_is_passed_on():
    """Somebody else may be asked meanwhile; the error says for how long."""
    wire = Answers(answer(429, retry_after="61"))
    with pytest.raises(RateLimited) as caught:
        wire.client(longest_wait=60).ask({}, read)
    assert caught.value.retry_after == 61
    assert wire.slept == []


class Told:
    """A budget that writes down what it is told."""

    def __init__(self) -> None:
        self.told = []

    @contextmanager
    def request(self):
        """One turn."""
        self.told.append("request")
        yield
        self.told.append("answer")

    def pause(self, seconds):
        """All wait."""
        self.told.append(("pause", seconds))

    def shrink(self, requests):
        """Fewer are allowed."""
        self.told.append(("shrink", requests))


def test_every_attempt_takes_its_turn_and_a_rate_limit_is_told_to_all():
    """How long to pause, and how much is allowed where the source says so."""
    budget = Told()
    wire = Answers(answer(429, retry_after="7"), answer(429), answer(body=b"3 a second"), answer())

    def source(body):
        if body != b"fine":
            raise RateLimited("too fast", allowed=3)
        return body

    wire.client(budget=budget).ask({}, source)
    turn = ["request", "answer"]
    assert budget.told == [
        *turn,
        ("pause", 7.0),
        *turn,
        ("pause", 1.0),
        *turn,
        ("pause", 1.0),
        ("shrink", 3),
        *turn,
    ]


def test_a_quota_that_a_source_says_is_used_up_parks_the_budget():
    """Until it is back: nobody asks in vain meanwhile."""
    budget = Told()

    def source(_body):
        raise QuotaExhausted("enough for today", until=datetime.now(UTC) + timedelta(hours=1))

    with pytest.raises(QuotaExhausted):
        Answers(answer()).client(budget=budget).ask({}, source)
    name, seconds = budget.told[-1]
    assert name == "pause"
    assert 3590 < seconds <= 3600


def test_requests_are_counted_retries_included():
    """Also those that got no answer."""
    before = sent.total()
    Answers(answer(500), httpx.ReadTimeout("slow"), answer()).client().ask({}, read)
    assert sent.total() == before + 3


# A real wire


def echo_app(scope, receive, send):
    """A source that repeats everything it was asked, everywhere."""
    query = scope["query_string"].decode()
    answers = {
        "/moved": RedirectResponse(f"http://elsewhere.test/?{query}", 301, headers={"X-Asked": query}),
        "/broken": PlainTextResponse(query, 500, headers={"X-Asked": query}),
        "/denied": PlainTextResponse(query, 403, headers={"X-Asked": query}),
        "/fine": JSONResponse({"asked": query}, headers={"X-Asked": query}),
    }
    return answers[scope["path"]](scope, receive, send)


@pytest.fixture
def echo():
    """A real server of `echo_app`."""
    with Upstream(echo_app) as upstream:
        yield upstream


def leaks(text):
    """Whether a text holds the secret, plainly or as it stands in urls."""
    return any(form in text for form in (HUSH, "hush/42", "hush%2F42", "42+%C3%A4", "42%2B"))


@pytest.fixture
def everything_logged(caplog):
    """All that any logger says, at its most talkative."""
    for name in (None, "httpx", "httpcore", "httpcore.http11", "httpcore.connection", "ingestion_assets"):
        caplog.set_level(logging.DEBUG, logger=name)
    yield caplog
    records = caplog.get_records("call")
    assert records
    for record in records:
        assert not leaks(record.getMessage() + str(record.args) + str(record.exc_info))


@pytest.mark.parametrize("path", ["/moved", "/broken", "/denied", "/fine"])
def test_a_source_that_echoes_the_secret_does_not_make_us_tell_it(echo, everything_logged, path):
    """In no log record, error, traceback or repr, though status, headers and body are full of it."""
    client = Client(echo.url + path, secrets={"apikey": HUSH}, attempts=2, sleep=lambda _: None)

    def repeat(body):
        raise Transient(client.redact(body.decode()))

    with pytest.raises(IngestionError) as caught:
        client.ask({"page": 1}, repeat)
    client.close()
    assert echo.count(apikey=HUSH) == len(echo.requests) > 0  # it did arrive
    assert not leaks("".join(traceback.format_exception(caught.value)))
    assert not leaks(repr(caught.value) + repr(client))
    assert everything_logged.records


def test_a_source_that_answers_in_tongues_does_not_make_us_tell_it(everything_logged):
    """A status line that repeats the question is quoted by the library's error; ours leaves it out."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            client, _ = listener.accept()
            with client:
                client.sendall(client.recv(10_000).split(b" ")[1] + b" hush/42+ is no status\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        client = Client(url, secrets={"apikey": HUSH, "other": "hush/42+"}, attempts=1)
        with pytest.raises(Transient, match="cannot be reached") as caught:
            client.ask({}, read)
        thread.join(5)
        client.close()
    assert not leaks("".join(traceback.format_exception(caught.value)))
    assert everything_logged.records


def test_a_source_that_is_not_there_does_not_make_us_tell_it(everything_logged):
    """The message names the host, and why."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = Client(f"http://127.0.0.1:{port}/", secrets={"apikey": HUSH}, attempts=2, sleep=lambda _: None)
    with pytest.raises(Transient, match=r"127\.0\.0\.1 cannot be reached") as caught:
        client.ask({}, read)
    client.close()
    assert not leaks("".join(traceback.format_exception(caught.value)))
    assert everything_logged.records


def test_a_request_that_ends_in_an_error_is_one_without_the_secret():
    """Also what httpx attaches to its own errors and answers."""
    wire = Answers(httpx.ReadTimeout("slow"), answer())
    client = wire.client(secrets={"apikey": HUSH})
    with pytest.raises(httpx.ReadTimeout) as caught:
        client._http.get(URL, params={"page": 1})
    assert str(caught.value.request.url) == f"{URL}?page=1"
    assert str(client._http.get(URL).request.url) == URL


def test_secrets_are_redacted_in_every_form_and_an_empty_one_is_none():
    """Plain, or as it stands in a url."""
    client = Answers(answer()).client(secrets={"apikey": HUSH, "unset": ""})
    assert client.redact(f"no {HUSH}, hush%2F42%2B%C3%A4!") == "no ***, ***!"
    assert client.redact("nothing") == "nothing"


def test_a_source_that_hangs_is_given_up(echo):
    """Another question gets its answer."""
    echo.fail("hang")
    client = Client(echo.url + "/fine", timeout=0.1, attempts=1)
    with pytest.raises(Transient, match="did not answer in time"):
        client.ask({}, read)
    assert client.ask({"page": 2}, read) == b'{"asked":"page=2"}'
    client.close()


def test_a_connection_that_breaks_is_tried_again(echo):
    """A reset, and a body that is no gzip."""
    echo.fail("reset")
    echo.fail("status", status=200, headers={"Content-Encoding": "gzip"}, body="no gzip")
    client = Client(echo.url + "/fine", sleep=lambda _: None)
    assert client.ask({}, read) == b'{"asked":""}'
    assert len(echo.requests) == 3
    client.close()
