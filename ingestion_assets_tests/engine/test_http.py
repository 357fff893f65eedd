"""Manners: whom to ask again and when, what an answer means, and secrets that never leave."""

import base64
import gzip
import html
import json
import logging
import socket
import threading
import time
import traceback
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, quote_plus

import httpx
import pytest
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse

from ingestion_assets.engine.errors import (
    IngestionError,
    Misconfigured,
    NotFound,
    Permanent,
    QuotaExhausted,
    RateLimited,
    SchemaDrift,
    TooMuch,
    Transient,
    Unauthorized,
    Unsupported,
)
from ingestion_assets.engine.http import Client, Secrets, sent
from ingestion_assets_tests.upstream import Upstream

URL = "http://source.test/api"
HUSH = "hush/42+ä"


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
    assert (
        wire.client(secrets=Secrets(query={"apikey": HUSH})).ask({"page": 1, "of": "a b"}, bytes.decode)
        == "fine"
    )
    assert dict(wire.requests[0].url.params) == {"page": "1", "of": "a b", "apikey": HUSH}
    assert wire.slept == []


@pytest.mark.parametrize(
    ("url", "path", "params", "expected"),
    [
        ("http://s.test", "", {}, "http://s.test"),
        ("http://s.test", "a", {}, "http://s.test/a"),
        ("http://s.test/api/v1", "/account/tokentx", {"page": 2}, "http://s.test/api/v1/account/tokentx?page=2"),
        ("http://s.test/api/v1/", "account/tokentx", {}, "http://s.test/api/v1/account/tokentx"),
        ("http://s.test/api", "a b/ä?x=1#y", {}, "http://s.test/api/a%20b/%C3%A4%3Fx%3D1%23y"),
        ("http://s.test/a%2Fb?chain=1", "c", {"page": 2}, "http://s.test/a%2Fb/c?chain=1&page=2"),
        ("http://s.test/a?chain=1", "", {"chain": 5}, "http://s.test/a?chain=5"),
        ("http://s.test/v2/{key}", "logs", {}, "http://s.test/v2/hush%2F42%2B%C3%A4/logs"),
        ("http://s.test/v2/%7Bkey%7D/x/", "", {"page": 1}, "http://s.test/v2/hush%2F42%2B%C3%A4/x/?page=1"),
        ("http://s.test/v2?token={key}", "", {}, "http://s.test/v2?token=hush%2F42%2B%C3%A4"),
    ],
)  # fmt: skip
def test_where_a_question_goes(url, path, params, expected):
    """The path is appended with one slash, what the url holds already stays, and the key fills its place."""
    wire = Answers(answer())
    secrets = Secrets(path=HUSH) if "key" in url else None
    Client(url, secrets=secrets, transport=httpx.MockTransport(wire)).ask(params, read, path=path)
    assert str(wire.requests[0].url) == expected
    assert wire.requests[0].method == "GET"


def test_a_body_is_posted_as_json_again_and_again():
    """Every attempt sends it whole."""
    wire = Answers(answer(500), answer())
    wire.client().ask({}, read, path="rpc", body=b'{"id":1}')
    for request in wire.requests:
        assert (request.method, request.url.path, request.content) == ("POST", "/api/rpc", b'{"id":1}')
        assert request.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("url", "secrets", "message"),
    [
        ("http://s.test/{key}", None, "holds {key}, but there is no key"),
        ("http://s.test/{key}", Secrets(path=""), "holds {key}, but there is no key"),
        ("http://s.test/v2", Secrets(path=HUSH), "no {key} says where it goes"),
    ],
)
def test_a_key_without_a_place_or_a_place_without_a_key_is_noticed_before_anything_is_asked(
    url, secrets, message
):
    """Else it would be sent as it stands, or not at all."""
    with pytest.raises(Misconfigured, match=message) as caught:
        Client(url, secrets=secrets)
    assert not leaks(str(caught.value))


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

    most = None

    @contextmanager
    def request(self, permits=1):
        """One turn."""
        self.told.append("request" if permits == 1 else f"{permits} requests")
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


def test_every_attempt_takes_as_many_permits_as_the_source_counts():
    """What fails is counted again, for the source may have counted it."""
    budget = Told()
    wire = Answers(answer(503), answer())
    assert wire.client(budget=budget).ask({}, read, body=b"[]", permits=7) == b"fine"
    assert budget.told == ["7 requests", "answer"] * 2


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


def test_the_last_answer_of_a_window_pauses_all():
    """Its reader gets it all the same."""
    budget = Told()
    last = answer(x_ratelimit_remaining="0", x_ratelimit_reset="28")
    assert Answers(last).client(budget=budget).ask({}, read) == b"fine"
    assert budget.told == ["request", "answer", ("pause", 28.0)]


def test_the_unit_of_times_to_go_is_the_clients_to_know():
    """Blockscout has milliseconds."""
    budget = Told()
    wire = Answers(
        answer(429, x_ratelimit_remaining="0", x_ratelimit_reset="2500", x_ratelimit_limit="5"), answer()
    )
    wire.client(budget=budget, unit="milliseconds").ask({}, read)
    assert wire.slept == [2.5]
    assert budget.told[2:4] == [("pause", 2.5), ("shrink", 5)]


def test_a_limit_beside_a_good_answer_shrinks_nothing():
    """It may be that of another window."""
    budget = Told()
    Answers(answer(x_ratelimit_remaining="4", x_ratelimit_limit="1")).client(budget=budget).ask({}, read)
    assert budget.told == ["request", "answer"]


def test_a_refusal_in_the_body_of_a_good_answer_takes_its_wait_from_the_headers():
    """Where the body does not say."""
    wire = Answers(answer(body=b"slow down", retry_after="9"), answer())

    def source(body):
        if body != b"fine":
            raise RateLimited("too fast")
        return body

    assert wire.client().ask({}, source) == b"fine"
    assert wire.slept == [9.0]


def rpc(body):
    """A reader of JSON-RPC: errors by their text."""
    document = json.loads(body)
    error = document.get("error") if isinstance(document, dict) else None
    if not isinstance(error, dict):
        if isinstance(document, dict) and "result" in document:
            return document["result"]
        raise SchemaDrift("neither result nor error")
    kinds = {
        "range": TooMuch,
        "plan": Unsupported,
        "fast": RateLimited,
        "credits": QuotaExhausted,
        "head": Transient,
    }
    kind = kinds[error["message"]]
    options = {"until": datetime.now(UTC) + timedelta(hours=1)} if kind is QuotaExhausted else {}
    raise kind(f"the node says {error['message']}", **options)


def said(text):
    """A JSON-RPC error."""
    return json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": text}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "error", "text"),
    [
        (413, said("range"), TooMuch, "the node says"),  # QuickNode
        (400, said("range"), TooMuch, "the node says"),
        (403, said("plan"), Unsupported, "the node says"),
        (400, said("head"), Transient, "the node says"),
        (404, b" " + said("head"), Transient, "the node says"),
        (401, said("head"), Unauthorized, "HTTP 401"),  # the status says more
        (429, said("head"), RateLimited, "HTTP 429"),
        (429, said("fast"), RateLimited, "the node says"),
        (429, said("credits"), QuotaExhausted, "the node says"),
        (429, said("range"), TooMuch, "the node says"),
        (400, b'{"message":"no route"}', Misconfigured, "HTTP 400"),
        (401, b"[1]", Unauthorized, "HTTP 401"),
        (404, b'{"result":"0x1"}', NotFound, "HTTP 404"),  # an error is no answer
        (404, b"<html>", NotFound, "HTTP 404"),
        (404, b"", NotFound, "HTTP 404"),
        (502, said("range"), Transient, "HTTP 502"),
    ],
)  # fmt: skip
def test_an_error_in_json_is_judged_by_the_reader(status, body, error, text):
    """Where it says more than the status."""
    wire = Answers(answer(status, body=body, retry_after="77"))
    with pytest.raises(error, match=text) as caught:
        wire.client(errors_in_body=True, attempts=1).ask({}, rpc)
    assert type(caught.value) is error
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after == 77


def test_without_being_told_no_reader_sees_an_error_answer():
    """An explorer's error page is no records."""
    with pytest.raises(Misconfigured, match="HTTP 413"):
        Answers(answer(413, body=said("range"))).client().ask({}, rpc)


@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_that_is_too_large_is_refused(packed):
    """Also one that grows when it is unpacked. Asking for less may help."""
    body = b"x" * 100_001
    wire = Answers(answer(body=gzip.compress(body), content_encoding="gzip") if packed else answer(body=body))
    with pytest.raises(TooMuch, match=r"source\.test answered with more than 100,000 bytes"):
        wire.client(largest=100_000).ask({}, read)
    assert wire.client(largest=100_001).ask({}, read) == body


def test_requests_are_counted_retries_included():
    """Also those that got no answer."""
    before = sent.total()
    Answers(answer(500), httpx.ReadTimeout("slow"), answer()).client().ask({}, read)
    assert sent.total() == before + 3
    Answers(answer()).client().ask({}, read, body=b"[]", permits=50)
    assert sent.total() == before + 53, "a batch is as many as the source counts"


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


def test_a_key_in_the_path_or_a_header_arrives_and_is_never_told(everything_logged):
    """Neither by us, nor by the libraries below us, nor when the source repeats it."""
    arrived = []

    def app(scope, receive, send):
        headers = dict(scope["headers"])
        arrived.append((scope["raw_path"], headers[b"x-token"]))
        said = scope["raw_path"].decode() + headers[b"x-token"].decode()
        return PlainTextResponse(said, 400, headers={"Location": said})(scope, receive, send)

    secrets = Secrets(path=HUSH, headers={"X-Token": "hush/42+"})
    with Upstream(app) as upstream:
        client = Client(f"{upstream.url}/v2/{{key}}", secrets=secrets, attempts=1)
        with pytest.raises(Misconfigured) as caught:
            client.ask({}, read, path="logs", body=b"{}")
        client.close()
    assert arrived == [(b"/v2/hush%2F42%2B%C3%A4/logs", b"hush/42+")]
    assert not leaks("".join(traceback.format_exception(caught.value)) + repr(client) + repr(secrets))
    assert everything_logged.records


@pytest.mark.parametrize("path", ["/moved", "/broken", "/denied", "/fine"])
def test_a_source_that_echoes_the_secret_does_not_make_us_tell_it(echo, everything_logged, path):
    """In no log record, error, traceback or repr, though status, headers and body are full of it."""
    client = Client(
        echo.url + path, secrets=Secrets(query={"apikey": HUSH}), attempts=2, sleep=lambda _: None
    )

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
        client = Client(url, secrets=Secrets(query={"apikey": HUSH, "other": "hush/42+"}), attempts=1)
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
    client = Client(
        f"http://127.0.0.1:{port}/", secrets=Secrets(query={"apikey": HUSH}), attempts=2, sleep=lambda _: None
    )
    with pytest.raises(Transient, match=r"127\.0\.0\.1 cannot be reached") as caught:
        client.ask({}, read)
    client.close()
    assert not leaks("".join(traceback.format_exception(caught.value)))
    assert everything_logged.records


def test_a_request_that_ends_in_an_error_is_one_without_the_secret():
    """Also what httpx attaches to its own errors and answers."""
    wire = Answers(httpx.ReadTimeout("slow"), answer())
    client = wire.client(secrets=Secrets(query={"apikey": HUSH}))
    with pytest.raises(httpx.ReadTimeout) as caught:
        client._http.get(URL, params={"page": 1})
    assert str(caught.value.request.url) == f"{URL}?page=1"
    assert str(client._http.get(URL).request.url) == URL


FORMS = {
    "plain": str,
    "url": lambda text: quote(text, safe=""),
    "path": quote,
    "form": quote_plus,
    "twice": lambda text: quote(quote(text, safe=""), safe=""),
    "lower": lambda text: quote(text, safe="").lower(),
    "upper": str.upper,
    "json": lambda text: json.dumps(text)[1:-1],
    "json, slashes": lambda text: json.dumps(text)[1:-1].replace("/", r"\/"),
    "html": html.escape,
    "html, numbers": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "mixed": lambda text: quote(text[:9], safe="") + text[9:],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("where", ["query", "headers", "path"])
def test_a_secret_is_masked_in_every_encoding(form, where):
    """Wherever it was sent."""
    key = """k"ey<&>'/ 42+ä😀\\x"""
    secrets = Secrets(path=key) if where == "path" else Secrets(**{where: {"x": key}})
    url = "http://s.test/{key}" if where == "path" else URL
    client = Client(url, secrets=secrets)
    assert client.redact(f"before {FORMS[form](key)} after {FORMS[form](key)}") == "before *** after ***"
    assert client.redact("nothing") == "nothing"
    assert key not in repr(secrets)


def test_of_a_bearer_token_the_token_is_masked_too():
    """A source repeats it without its scheme."""
    token = base64.b64encode(b"user:password").decode()
    client = Answers(answer()).client(secrets=Secrets(headers={"Authorization": f"Basic {token}"}))
    assert client.redact(f"Basic {token}, {token}") == "***, ***"


def test_of_secrets_that_begin_alike_nothing_stays():
    """The longer one first."""
    client = Answers(answer()).client(secrets=Secrets(query={"a": "key", "b": "key2"}))
    assert client.redact("key2 key") == "*** ***"


def test_secrets_are_redacted_in_every_form_and_an_empty_one_is_none():
    """Plain, or as it stands in a url."""
    client = Answers(answer()).client(secrets=Secrets(query={"apikey": HUSH, "unset": ""}))
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


class Dripping:
    """A server that gives each connection one byte at a time, for ever, after a beginning."""

    def __init__(self, beginning) -> None:
        self._beginning = beginning
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"

    def __enter__(self):
        """Begin."""
        self._threads[0].start()
        return self

    def __exit__(self, *_):
        """End, with every connection."""
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self):
        try:
            while True:
                connection, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._drip, args=[connection]))
                self._threads[-1].start()
        except OSError:
            return

    def _drip(self, connection):
        with connection:
            connection.recv(10_000)
            try:
                connection.sendall(self._beginning)
                while not self._ended.wait(0.02):
                    connection.sendall(b"x")
            except OSError:
                return


@pytest.mark.parametrize(
    "beginning",
    [b"", b"HTTP/1.1 200 OK\r\nX-Endless: ", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
     b"HTTP/1.1 500 Oh\r\n\r\n"],
    ids=["status", "headers", "body", "body of an error"],
)  # fmt: skip
def test_an_answer_that_drips_for_ever_is_given_up(beginning):
    """Wherever it drips: no byte is ever late, but the whole is."""
    with Dripping(beginning) as server:
        client = Client(server.url, timeout=5, deadline=0.4, attempts=1)
        for _ in range(2):  # and the next question has all its time again
            started = time.monotonic()
            with pytest.raises(Transient, match="did not answer in time"):
                client.ask({}, read)
            assert 0.3 < time.monotonic() - started < 4
        client.close()


def test_the_time_of_an_answer_runs_from_its_request_and_not_while_it_waits_for_its_turn(echo):
    """Nor does time that passed since the last answer count."""

    class Slow(Told):
        @contextmanager
        def request(self, permits=1):
            assert permits
            time.sleep(0.5)
            yield

    client = Client(echo.url + "/fine", deadline=0.4, attempts=1, budget=Slow())
    for _ in range(2):
        assert client.ask({}, read) == b'{"asked":""}'
    client.close()
    assert len({seen.path for seen in echo.requests}) == 1
