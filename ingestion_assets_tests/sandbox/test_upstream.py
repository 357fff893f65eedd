"""What the test upstream does: it logs what arrives and goes wrong exactly as told."""

import threading
import time

import httpx
import pytest

from ingestion_assets.sandbox import explorer
from ingestion_assets_tests.upstream import Head, Upstream, small_chain

CHAIN = small_chain()
HUB = CHAIN.addresses[0]
ROWS = CHAIN.rows("txlist", HUB, 0, 50, head=50)


def wait_until(true):
    """Return as soon as `true()` is, and fail after half a minute."""
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture(scope="module")
def server():
    """One server for all these tests."""
    with Upstream(explorer({1: CHAIN}, Head(50))) as upstream:
        yield upstream


@pytest.fixture
def upstream(server):
    """The server, with a proof that each test used up the faults it planned."""
    yield server
    assert server.faults_left == 0


@pytest.fixture
def ask(upstream):
    """A question for the hub's transactions up to block 50."""
    with httpx.Client(base_url=upstream.url, timeout=5) as client:
        yield lambda **query: client.get(
            "/v2/api", params={"chainid": 1, "module": "account", "action": "txlist", "address": HUB} | query
        )


def test_requests_are_logged_and_counted(upstream, ask):
    """Path, query, status and time of arrival, and how many came at once."""
    before = len(upstream.requests)
    for tag in ("a", "b", "b"):
        ask(apikey=tag)
    log = upstream.requests[before:]
    assert [(seen.path, seen.query["apikey"], seen.status) for seen in log] == [
        ("/v2/api", tag, 200) for tag in ("a", "b", "b")
    ]
    assert upstream.count(apikey="b", action="txlist") == 2
    assert log[0].arrived <= log[1].arrived <= log[2].arrived
    assert upstream.peak(60) == len(upstream.requests)
    assert upstream.peak(0) >= 1


def test_a_status_can_have_headers_and_a_body(upstream, ask):
    """As a gateway would answer."""
    upstream.fail("status", status=429, headers={"Retry-After": "7"}, body="slow down")
    answer = ask()
    assert (answer.status_code, answer.headers["retry-after"], answer.text) == (429, "7", "slow down")
    assert upstream.requests[-1].status == 429
    assert ask().json()["result"] == ROWS


def test_a_fault_takes_only_requests_that_match_and_lets_the_first_ones_pass(upstream, ask):
    """The order: two pass, two fail, and requests that do not match never do."""
    upstream.fail("status", times=2, after=2, match={"page": "1"}, status=503)
    codes = [ask(page=page, offset=10).status_code for page in (1, 2, 1, 2, 1, 1, 1)]
    assert codes == [200, 200, 200, 200, 503, 503, 200]


def test_faults_are_taken_one_at_a_time_in_their_order(upstream, ask):
    """Two plans for the same request: the second waits for the next one."""
    upstream.fail("status", status=500)
    upstream.fail("status", status=502)
    assert [ask().status_code for _ in range(3)] == [500, 502, 200]


def test_a_page_for_people_comes_instead_of_json(upstream, ask):
    """With HTTP 200, unless told."""
    upstream.fail("html")
    assert "text/html" in ask().headers["content-type"]


def test_a_body_can_be_any_bytes(upstream, ask):
    """Exactly those."""
    upstream.fail("body", body=b'{"status":"1"}')
    assert ask().content == b'{"status":"1"}'


def test_a_truncated_answer_has_a_right_length_and_wrong_json(upstream, ask):
    """HTTP sees nothing wrong."""
    upstream.fail("truncate")
    with pytest.raises(ValueError, match=r"delimiter|Unterminated|Expecting"):
        ask().json()


def test_a_reset_gives_no_answer(upstream, ask):
    """The connection ends, and the log has no status."""
    upstream.fail("reset")
    with pytest.raises(httpx.TransportError):
        ask()
    assert upstream.requests[-1].status is None
    assert ask().status_code == 200


def test_a_hanging_request_is_answered_when_released(upstream, ask):
    """Not before, and then rightly."""
    upstream.fail("hang")
    answers = []
    thread = threading.Thread(target=lambda: answers.append(ask(apikey="hanging").json()["result"]))
    thread.start()
    wait_until(lambda: upstream.count(apikey="hanging"))
    assert not answers
    upstream.release()
    thread.join(timeout=5)
    assert answers == [ROWS]


def test_a_client_that_gives_up_leaves_nothing_behind(upstream, ask):
    """The next request is answered as usual."""
    upstream.fail("hang")
    with pytest.raises(httpx.ReadTimeout), httpx.Client(timeout=0.05) as impatient:
        impatient.get(upstream.url)
    assert ask().status_code == 200


def test_closing_does_not_wait_for_what_hangs():
    """Neither for requests nor for open connections."""
    with Upstream(explorer({1: CHAIN}, Head(50))) as upstream, httpx.Client() as client:
        upstream.fail("hang")
        thread = threading.Thread(target=lambda: client.get(upstream.url))
        thread.start()
        wait_until(lambda: upstream.requests)
        started = time.monotonic()
        upstream.close()
        thread.join(timeout=5)
        assert time.monotonic() - started < 2


def test_a_slow_answer_takes_its_time(upstream, ask):
    """And is right."""
    upstream.fail("slow", seconds=0.1)
    started = time.monotonic()
    assert ask().json()["result"] == ROWS
    assert time.monotonic() - started >= 0.1


@pytest.mark.parametrize("chosen", ["all", [0, -1]])
@pytest.mark.parametrize("fault", [
    ("rename_field", {"field": "hash", "to": "txHash"}, lambda row: "hash" not in row and "txHash" in row),
    ("drop_field", {"field": "value"}, lambda row: "value" not in row),
    ("null_field", {"field": "value"}, lambda row: row["value"] is None),
])  # fmt: skip
def test_a_field_can_go_wrong_in_some_rows_or_in_all(upstream, ask, fault, chosen):
    """Indexes may count from the end; other rows stay as they are."""
    kind, options, is_spoiled = fault
    upstream.fail(kind, **options, rows=chosen)
    spoiled = [index for index, row in enumerate(ask().json()["result"]) if is_spoiled(row)]
    assert spoiled == (list(range(len(ROWS))) if chosen == "all" else [0, len(ROWS) - 1])


def test_a_field_of_a_single_block_can_go_wrong(upstream, ask):
    """An answer that is one object counts as one row."""
    upstream.fail("null_field", field="timestamp", match={"module": "proxy"})
    answer = ask(module="proxy", action="eth_getBlockByNumber", tag="latest").json()
    assert answer["result"]["timestamp"] is None


def test_rows_can_be_lost_doubled_and_mixed(upstream, ask):
    """The envelope still says that all is well."""
    upstream.fail("drop_rows", rows=[1])
    upstream.fail("duplicate_rows", rows=[0])
    upstream.fail("shuffle_rows")
    lost, doubled, mixed = (ask().json()["result"] for _ in range(3))
    assert lost == [ROWS[0], *ROWS[2:]]
    assert doubled == [ROWS[0], *ROWS]
    assert mixed != ROWS
    assert sorted(map(str, mixed)) == sorted(map(str, ROWS))
