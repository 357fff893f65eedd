"""What every request meets: parameters, refusals, the token, limits, ETags, and a database that goes away."""

from dataclasses import replace

import pytest

from ingestion_assets.api.access import Rates
from ingestion_assets_tests.api.world import ACCOUNTS, GENEROUS, config, connect, fill, served, walk

WRONG = [
    ("page=0", "page", "greater than or equal to 1"),
    ("page=1_0", "page", "whole number"),
    ("page=" + "9" * 18, "page", "less than or equal"),
    ("pageSize=101", "pageSize", "1 to 100"),
    ("pageSize=-1", "pageSize", "whole number"),
    ("sort=up", "sort", "'asc' or 'desc'"),
    ("address=0x12", "address", "40 hexadecimal digits"),
    ("address=" + "0x" + "\u0661" * 40, "address", "40 hexadecimal digits"),
    ("hash=zz", "hash", "64 hexadecimal digits"),
    ("token=%00", "token", "40 hexadecimal digits"),
    ("startBlock=9&endBlock=8", "startBlock", "at most endBlock, 8"),
    ("startBlock=99999999999999999999", "startBlock", "whole number"),
    ("block=5&endBlock=4", "block", "between startBlock and endBlock"),
    ("from=yesterday", "from", "2024-01-31"),
    ("from=2024-01-02&to=2024-01-01", "from", "before to"),
    ("chainId=3", "chainId", "1 (alpha), 2 (beta-2)"),
    ("cursor=abc", "cursor", "meta.nextCursor"),
    ("cursor=%F0%9F%98%80", "cursor", "meta.nextCursor"),
    ("adress=0x12", "adress", "allowed are chainId, startBlock"),
]


@pytest.mark.parametrize(("query", "parameter", "allowed"), WRONG)
def test_what_cannot_be_meant_is_refused_with_parameter_value_and_what_is_allowed(
    api, query, parameter, allowed
):
    """400, and the sentence says what to do."""
    answer = api.get(f"/api/transfers?{query}")
    assert answer.status_code == 400, answer.text
    told = answer.json()
    assert told["error"] == "BAD_PARAMETER"
    [wrong] = told["parameters"]
    assert wrong["parameter"] == parameter
    assert allowed in wrong["allowed"]
    assert wrong["value"]
    assert parameter in told["message"]


def test_every_mistake_is_told_at_once(api):
    """So that nobody has to ask twice."""
    told = api.get("/api/transfers?page=x&sort=y").json()
    assert [wrong["parameter"] for wrong in told["parameters"]] == ["page", "sort"]


def test_a_cursor_belongs_to_its_question(api):
    """With another filter or direction it would skip rows."""
    cursor = api.get("/api/transfers", params={"chainId": 1}).json()["meta"]["nextCursor"]
    for other in ({"chainId": 2}, {"chainId": 1, "sort": "asc"}, {"chainId": 1, "address": ACCOUNTS[0]}):
        answer = api.get("/api/transfers", params={**other, "cursor": cursor})
        assert answer.status_code == 400
        assert "another filter or sort" in answer.json()["message"]


@pytest.mark.parametrize(
    "path",
    ["/api/transfers", "/api/totals", "/api/coverage", "/api/gaps", "/api/dead-letters", "/v2/api?chainid=1"],
)
def test_what_the_client_has_is_not_sent_again(api, path):
    """An ETag says what the answer says, not when it was given."""
    first = api.get(path)
    assert first.status_code == 200
    again = api.get(path, headers={"If-None-Match": f'"other", {first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert api.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_the_token_opens_and_nothing_else_does(filled_url):
    """As a bearer everywhere; as a key where clients of an explorer ask."""
    with served(config(filled_url, token="s3cret")) as client:  # noqa: S106
        for path in ("/", "/api/transfers", "/api/health", "/docs", "/openapi.json", "/nowhere"):
            shut = client.get(path)
            assert (shut.status_code, shut.headers["www-authenticate"]) == (401, "Bearer")
            assert client.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
            assert client.get(f"{path}?apikey=s3cret").status_code == 401
        assert client.get("/api/transfers", headers={"Authorization": "bearer s3cret"}).status_code == 200
        assert (
            client.get("/api/transfers", headers={"Authorization": "Bearer s3crét".encode()}).status_code
            == 401
        )
        question = {
            "chainid": 1,
            "module": "block",
            "action": "getblocknobytime",
            "timestamp": 1706572800,
            "closest": "after",
        }
        assert client.get("/v2/api", params=question).json() == {
            "status": "0", "message": "NOTOK", "result": "Invalid API Key"
        }  # fmt: skip
        assert client.get("/v2/api", params={**question, "apikey": "s3cret"}).json()["status"] == "1"


def test_a_client_that_asks_too_often_is_told_when_to_come_again(filled_url):
    """429, and Retry-After; at the facade in the explorer's own words."""
    limits = replace(GENEROUS, requests_per_second=0.01, burst=3)
    with served(config(filled_url, limits=limits)) as client:
        assert [client.get("/api/health").status_code for _ in range(5)] == [200, 200, 200, 429, 429]
        refused = client.get("/api/transfers")
        assert 90 <= int(refused.headers["retry-after"]) <= 100
        assert refused.json()["error"] == "TOO_MANY_REQUESTS"
        assert client.get("/v2/api").json()["result"].startswith("Max rate limit reached")


def test_limits_are_those_of_each_client_and_fill_up_again():
    """A burst, then so many a second; a refusal costs nothing."""
    now = [0.0]
    rates = Rates(2.0, 3, clock=lambda: now[0])
    assert [rates.wait("a") for _ in range(3)] == [0.0] * 3
    assert rates.wait("a") == pytest.approx(0.5)
    assert rates.wait("b") == 0.0
    now[0] = 0.5
    assert rates.wait("a") == 0.0
    assert rates.wait("a") == pytest.approx(0.5)
    now[0] = 100.0
    assert [rates.wait("a") for _ in range(3)] == [0.0] * 3
    assert rates.wait("a") > 0


def test_large_answers_are_packed_for_who_can_unpack_them(api):
    """Small ones are not."""
    assert api.get("/api/transfers").headers["content-encoding"] == "gzip"
    assert "content-encoding" not in api.get("/api/transfers?page=x").headers
    plain = api.get("/api/transfers", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers


def test_while_the_database_is_away_first_pages_are_still_served(database_url):
    """They say how old they are; what is not kept ready is 503; and nothing has to be restarted afterwards."""
    with connect(database_url) as connection:
        fill(connection, 120)
        [name] = connection.execute("SELECT current_database()").fetchone()
    server = database_url
    with served(config(database_url)) as client:
        fresh = client.get("/api/transfers").json()
        with connect(server.replace(name, "postgres")) as admin:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            while client.get("/api/health").json()["store"]["available"]:
                pass
            kept = client.get("/api/transfers").json()
            assert (kept["source"], kept["stale"]) == ("stale-cache", True)
            assert kept["data"] == fresh["data"]
            assert {"STORE_PAGE_READ_FAILED", "STORE_SNAPSHOT_FAILED"} <= {
                warning["code"] for warning in kept["warnings"]
            }
            away = client.get("/api/transfers", params={"address": ACCOUNTS[0]})
            assert (away.status_code, away.json()["error"]) == (503, "STORE_UNAVAILABLE")
            assert int(away.headers["retry-after"]) > 0
            health = client.get("/api/health")
            assert (health.status_code, health.json()["status"]) == (200, "degraded"), "it can still serve"
            assert "The store is away" in client.get("/").text
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        while not client.get("/api/health").json()["store"]["available"]:
            pass
        assert len(walk(client, address=ACCOUNTS[0])) > 0


def test_without_a_database_it_starts_and_says_that_it_cannot_serve():
    """503, until there is one."""
    nowhere = "postgresql://nobody@127.0.0.1:1/none?connect_timeout=1"
    limits = replace(GENEROUS, wait_seconds=0.2)
    with served(config(nowhere, limits=limits, refresh_seconds=60)) as client:
        health = client.get("/api/health")
        assert (health.status_code, health.json()["status"]) == (503, "unavailable")
        assert client.get("/api/transfers").json()["error"] == "STORE_UNAVAILABLE"
        assert client.get("/").status_code == 503
        assert client.get("/api/cache-health").json()["persistentStore"]["initialized"] is False


def test_a_query_that_takes_too_long_is_broken_off(database_url):
    """The client is told what to do instead; so are clients of an explorer, in its words."""
    with connect(database_url) as connection:
        fill(connection, 60)
        limits = replace(GENEROUS, query_seconds=0.5)
        with served(config(database_url, limits=limits)) as client, connection.transaction():
            connection.execute("LOCK TABLE core.transfers IN ACCESS EXCLUSIVE MODE")
            late = client.get("/api/transfers", params={"address": ACCOUNTS[0]})
            question = {"chainid": 1, "module": "account", "action": "tokentx", "address": ACCOUNTS[0]}
            told = client.get("/v2/api", params=question).json()
    assert (late.status_code, late.json()["error"]) == (503, "QUERY_TIMEOUT")
    assert told["message"].startswith("Query Timeout occured")
    assert told["result"] is None


@pytest.mark.parametrize(
    "path",
    ["/", "/api/transfers", "/api/transfers?page=7", "/api/transfers/export", "/api/totals", "/api/coverage", "/api/gaps",
     "/api/dead-letters", "/api/health", "/api/cache-health"],
)  # fmt: skip
def test_who_ingests_no_chain_has_an_api_all_the_same(database_url, path):
    """Its lists are empty, and no server error."""
    with served(config(database_url, chains=())) as client:
        assert client.get(path).status_code == 200
