"""A chain that is served by its explorer, and what happens when the explorer dies."""

import asyncio
import threading
from dataclasses import replace
from datetime import date

import pytest
import yaml

from ingestion_assets.api.pages import Wanted
from ingestion_assets.api.upstream import REST, NotAnswered, Upstreams
from ingestion_assets.engine.errors import Transient, Unsupported
from ingestion_assets.engine.store import Store, connection_pool
from ingestion_assets.sandbox.explorer import explorer
from ingestion_assets.serving import api_config, explorers
from ingestion_assets.settings import Settings
from ingestion_assets.sources.evm.chains import Chains
from ingestion_assets.sources.transfers import months
from ingestion_assets_tests.api.world import ALPHA, GENEROUS, TOKENS, add_rows, connect, served
from ingestion_assets_tests.upstream import Upstream, small_chain

CHAIN = small_chain()
ACCOUNT = CHAIN.addresses[0]
SECRET = "a-secret-key"  # noqa: S105 - of nobody


@pytest.fixture
def upstream():
    """The explorer of a small chain."""
    with Upstream(explorer({1: CHAIN}, lambda _chain: 323)) as running:
        yield running


@pytest.fixture
def client(tmp_path, database_url, upstream):
    """The API, whose only chain is served by that explorer; its store has three rows, checked 100 seconds ago."""
    provider = {"kind": "etherscan", "url": f"{upstream.url}/v2/api", "key_env": "KEY"}
    chain = {
        "chain_id": 1, "start": date(2024, 1, 1), "providers": [provider], "addresses": [ACCOUNT], "serve": "upstream"
    }  # fmt: skip
    (tmp_path / "sources.yaml").write_text(yaml.safe_dump({"chains": {"alpha": chain}}))
    settings = Settings.from_environment(
        {"DAGSTER_HOME": str(tmp_path), "INGESTION_DATABASE_URL": database_url, "KEY": SECRET}
    )
    with connect(database_url) as connection:
        months.make(connection, "alpha", [date(2024, 1, 1)])
        add_rows(connection, ALPHA, 0, 2)
        connection.execute("INSERT INTO ops.chains VALUES ('alpha', 323, 321, now() - interval '100 s')")
    pool = connection_pool(database_url)
    chains = Chains(settings.sources().chains, settings.variables, Store(pool), attempts=1)
    try:
        told = replace(api_config(settings, database_url, GENEROUS), refresh_seconds=0.1)
        with served(told, explorers(chains)) as opened:
            yield opened
    finally:
        chains.close()
        pool.close()


def test_the_answer_is_the_explorers_in_our_shape(client, upstream):
    """Its records, its pages, its order; with our key, which nobody sees."""
    question = {"chainId": 1, "address": ACCOUNT, "pageSize": 10, "sort": "asc"}
    told = client.get("/api/transfers", params=question).json()
    assert (told["source"], told["stale"]) == ("upstream", False)
    wanted = CHAIN.rows("tokentx", ACCOUNT, 0, 323, 323)
    assert [(row["hash"], row["value"]) for row in told["data"]] == [
        (row["hash"], row["value"]) for row in wanted[:10]
    ]
    assert told["meta"]["hasMore"]
    second = client.get("/api/transfers", params={**question, "page": 2}).json()
    assert [row["hash"] for row in second["data"]] == [row["hash"] for row in wanted[10:20]]
    assert upstream.count(action="tokentx", apikey=SECRET) == 2
    assert SECRET not in str(told)


def test_when_the_explorer_is_dead_the_store_answers_and_tells_its_age(client, upstream):
    """Stale, with the seconds since its last check, and why; at once the next time."""
    upstream.close()
    question = {"chainId": 1, "address": ACCOUNT}
    for _ in range(2):
        told = client.get("/api/transfers", params=question).json()
        assert (told["source"], told["stale"]) == ("store", True)
        assert 100 <= told["ingestLagSeconds"] < 160
        [warning] = [one for one in told["warnings"] if one["code"] == "UPSTREAM_FAILED"]
        assert warning["retryable"]
        assert "cannot be reached" in warning["message"]
    assert "alpha" in client.get("/api/cache-health").json()["upstreams"]


def test_an_explorer_that_refuses_is_no_answer_either(client, upstream):
    """An error in its envelope is not an empty list."""
    body = b'{"status": "0", "message": "NOTOK", "result": "Invalid API Key a-secret-key"}'
    upstream.fail("body", body=body)
    told = client.get("/api/transfers", params={"chainId": 1, "address": ACCOUNT}).json()
    assert (told["source"], told["stale"]) == ("store", True)
    assert SECRET not in str(told)


@pytest.mark.parametrize(
    "question",
    [{}, {"address": ACCOUNT, "from": "2024-01-01"}, {"hash": "0x" + "1" * 64}, {"chainId": 0}],
)
def test_what_an_explorer_cannot_answer_the_store_does(client, upstream, question):
    """Without asking it."""
    told = client.get("/api/transfers", params={"chainId": 1, **question}).json()
    assert told["source"] in ("store", "cache")
    assert "UPSTREAM_CANNOT" in [warning["code"] for warning in told["warnings"]]
    assert upstream.count(action="tokentx") == 0


def test_a_chain_without_an_explorer_cannot_be_served_by_one(tmp_path, database_url):
    """Said at the start, with what to do."""
    chain = {
        "chain_id": 1, "start": date(2024, 1, 1), "serve": "upstream", "providers": [{"kind": "rpc", "url": "http://127.0.0.1:1"}]
    }  # fmt: skip
    (tmp_path / "sources.yaml").write_text(yaml.safe_dump({"chains": {"alpha": chain}}))
    settings = Settings.from_environment(
        {"DAGSTER_HOME": str(tmp_path), "INGESTION_DATABASE_URL": database_url}
    )
    pool = connection_pool(database_url)
    chains = Chains(settings.sources().chains, settings.variables, Store(pool))
    with pytest.raises(Unsupported, match=r"chains\.alpha\.serve: upstream needs an explorer"):
        explorers(chains)
    chains.close()
    pool.close()


class Fake:
    """An explorer that waits until it is let go, or fails."""

    name = "fake"

    def __init__(self, error=None):
        self.error = error
        self.asked = []
        self.go = threading.Event()

    def token_transfers(self, parameters):
        """One record."""
        self.asked.append(parameters)
        if self.error is None:
            self.go.wait()
            return [{"blockNumber": "5", "value": "7"}]
        raise self.error


WANTED = Wanted(("alpha",), token=TOKENS[0], lo=3)


def test_one_that_is_slow_is_given_up_and_left_alone_for_a_while():
    """The next question does not wait for it; the one after its rest does."""
    fake, now = Fake(), [0.0]

    async def run():
        upstreams = Upstreams({"alpha": fake}, 0.5, clock=lambda: now[0])
        for _ in range(2):
            with pytest.raises(NotAnswered, match=r"within 0\.5 seconds"):
                await upstreams.page(ALPHA, WANTED, 25, 1, 9)
        assert len(fake.asked) == 1
        fake.go.set()
        now[0] = REST + 1
        return await upstreams.page(ALPHA, WANTED, 25, 1, 9)

    try:
        [row] = asyncio.run(run())
    finally:
        fake.go.set()
    assert (row.value, row.confirmations, row.id) == ("7", "5", None)
    assert fake.asked[-1] == {
        "page": 1, "offset": 25, "sort": "desc", "contractaddress": TOKENS[0], "startblock": 3
    }  # fmt: skip


def test_a_failure_is_told_by_its_kind():
    """And by what was said."""
    upstreams = Upstreams({"alpha": Fake(Transient("fake is down"))}, 1.0)
    with pytest.raises(NotAnswered, match="fake is down") as refused:
        asyncio.run(upstreams.page(ALPHA, WANTED, 25, 1, None))
    assert refused.value.code == "UPSTREAM_FAILED"
