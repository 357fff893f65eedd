"""What a sync finds to do, and how politely a provider is asked."""

from contextlib import closing
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion_assets.engine.budget import SharedBudget, Unlimited
from ingestion_assets.engine.dead_letters import replay
from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.errors import Misconfigured
from ingestion_assets.engine.stream import Batch, Covered, Evidence, Unproved
from ingestion_assets.sandbox import explorer
from ingestion_assets.sources.evm.chains import Chains
from ingestion_assets.sources.evm.config import ChainConfig
from ingestion_assets.sources.evm.providers.etherscan import EtherscanProvider
from ingestion_assets.sources.evm.records import KINDS
from ingestion_assets.sources.evm.streams import stream_key
from ingestion_assets_tests.sources.evm.reading import stored, truth
from ingestion_assets_tests.upstream import Head, Upstream, small_chain

CHAIN = small_chain()
HUB, OTHER = CHAIN.addresses[:2]
TOP = CHAIN.height


@pytest.fixture
def head():
    """The newest block, which tests move."""
    return Head(100)


@pytest.fixture
def upstream(head):
    """An explorer of one chain."""
    with Upstream(explorer({1: CHAIN}, head)) as server:
        yield server


@pytest.fixture
def looking(upstream, store):
    """What a sensor tick opens: chains that know nothing yet of the head."""
    opened = []

    def open_chains(*, addresses=(HUB,), **provider):
        opened.append(Chains({"base": config(upstream.url, addresses, **provider)}, {}, store, attempts=1))
        return opened[-1]

    yield open_chains
    for chains in opened:
        chains.close()


def config(url, addresses, **provider):
    """A chain whose every shown block is final."""
    return ChainConfig.model_validate(
        {
            "chain_id": 1,
            "start": "2024-01-01",
            "finality": {"depth": 0},
            "providers": [{"kind": "etherscan", "url": f"{url}/v2/api", **provider}],
            "addresses": addresses,
        }
    )


def read(chains, store, first, last):
    """Drain all kinds of all accounts on some days of January 2024."""
    days = ((date(2024, 1, first), date(2024, 1, last)),)
    streams = [stream for kind in KINDS for stream in chains.streams(kind, "base", days)]
    return drain(streams, store)


def days(*numbers):
    """Partition keys."""
    return {f"base|2024-01-{number:02d}" for number in numbers}


def commit(store, key, mark):
    """A mark without rows, as another worker might have left it."""

    class Marked:
        pass

    Marked.keys = (key,)
    store.open(Marked).commit(Batch(mark))


def test_accounts_of_which_nothing_is_covered_begin_today(looking):
    """Their history is a backfill's business. Block 100 is of the third day."""
    assert looking().pending("base") == days(3)


def test_nothing_new_is_nothing_to_do_and_two_requests_at_most(looking, store, upstream):
    """However many accounts and kinds are watched."""
    read(looking(addresses=CHAIN.addresses), store, 1, 10)
    before = len(upstream.requests)
    assert looking(addresses=CHAIN.addresses).pending("base") == set()
    assert len(upstream.requests) - before <= 2


def test_new_blocks_are_todays(looking, store, head):
    """The partition grows while its day lasts."""
    read(looking(), store, 1, 10)
    head.block = 105
    assert looking().pending("base") == days(3)


def test_after_a_pause_all_days_since_are_pending(looking, store, head, connection):
    """From the last covered day on, quiet days between them included; then they are read, and nothing is left."""
    read(looking(), store, 1, 10)
    head.block = TOP
    assert looking().pending("base") == days(3, 4, 5, 6, 7, 8, 9, 10)
    read(looking(), store, 3, 10)
    assert looking().pending("base") == set()
    for kind in KINDS:
        assert stored(connection, kind) == truth(CHAIN, kind, HUB)


def test_a_hole_is_its_days(looking, store, head):
    """Whatever made it: here, two backfills that do not meet."""
    head.block = TOP
    read(looking(), store, 2, 3)
    read(looking(), store, 7, 10)
    assert looking().pending("base") == days(4, 5, 6)


def test_what_lies_before_the_first_covered_block_is_left_to_a_backfill(looking, store, head):
    """A sync begins where somebody began."""
    head.block = TOP
    read(looking(), store, 8, 10)
    assert looking().pending("base") == set()


def test_a_replay_of_the_first_days_is_pending_too(looking, store, head, connection):
    """Taking the beginning out of the coverage must not look like history that nobody asked for."""
    head.block = TOP
    read(looking(), store, 8, 10)
    key, lo = connection.execute("SELECT stream, min(lo) FROM ops.coverage GROUP BY 1 LIMIT 1").fetchone()
    connection.execute(
        "INSERT INTO ops.dead_letters (stream, lo, hi, position, reason, raw) VALUES (%s, %s, %s, %s, 'bad', '')",
        [key, lo, lo, lo],
    )
    replay(store)
    assert looking().pending("base") == days(8)


def test_a_new_account_begins_where_the_others_of_its_kind_do(looking, store, upstream, connection):
    """And what is covered of them is not asked for again."""
    read(looking(), store, 2, 10)
    assert looking(addresses=(HUB, OTHER)).pending("base") == days(2, 3)
    before = len(upstream.requests)
    read(looking(addresses=(HUB, OTHER)), store, 2, 3)
    asked = {seen.query.get("address") for seen in upstream.requests[before:]}
    assert asked == {None, OTHER}
    assert looking(addresses=(HUB, OTHER)).pending("base") == set()
    for kind in KINDS:
        assert stored(connection, kind) == truth(CHAIN, kind, HUB, OTHER, lo=36, hi=100)


def test_unproved_gaps_are_asked_for_by_the_sync_once_an_hour(looking, store, upstream, connection):
    """Not at every look, but an index may catch up; `ingestion gaps` lists them, a backfill asks again."""
    for kind in KINDS:
        key = stream_key(kind, "base", HUB)
        commit(store, key, Covered(0, 49, Evidence("stated", "test")))
        commit(store, key, Unproved(50, 50, "too many"))
        commit(store, key, Covered(51, 100, Evidence("stated", "test")))
    assert looking().pending("base") == set()
    connection.execute("UPDATE ops.unproved SET noticed_at = now() - interval '61 minutes'")
    assert looking().pending("base") == days(2)
    assert upstream.count(module="account") == 0


def test_no_accounts_and_no_blocks_are_nothing_to_do(looking, head, upstream):
    """Nobody watched: nothing is asked. No block yet: nothing is wanted."""
    assert looking(addresses=()).pending("base") == set()
    assert upstream.requests == []
    head.block = -1
    assert looking().pending("base") == set()
    head.block = 0
    assert looking().pending("base") == days(1)


def test_unproved_blocks_are_named_by_their_partitions(looking, head):
    """Of one stream or several, at both ends of a day."""
    head.block = TOP
    gaps = {
        stream_key(KINDS[0], "base", HUB): (Unproved(0, 0, ""), Unproved(200, 200, "")),
        stream_key(KINDS[1], "base", HUB): (Unproved(35, 36, ""),),
    }
    assert looking().partitions_of(gaps) == days(1, 2, 7)


def test_a_chain_that_is_not_configured_is_named_with_those_that_are(looking):
    """The command line passes names on."""
    with pytest.raises(Misconfigured, match=r"no chain 'bass'; it has base"):
        looking().chain("bass")


def test_a_key_travels_on_the_wire_only(upstream, store):
    """Read from the variable that is named, sent with every request."""
    configs = {"base": config(upstream.url, [HUB], key_env="SCAN_KEY")}
    with closing(Chains(configs, {"SCAN_KEY": "hush"}, store)) as chains:
        chains.chain("base").final()
        assert upstream.requests[-1].query["apikey"] == "hush"
        assert "hush" not in repr(chains.providers("base"))


def several(url, *providers, **chain):
    """A chain with these providers at one server."""
    given = [
        {"kind": "etherscan", "url": f"{url}/v2/api", "attempts": 1, **provider} for provider in providers
    ]
    whole = config(url, [HUB]).model_dump() | {"providers": given} | chain
    return ChainConfig.model_validate(whole)


def test_two_keys_are_two_providers_and_two_of_a_kind_are_told_apart(upstream, store):
    """Each with its own breaker and its own budget."""
    keys = {"ONE": "hush1", "TWO": "hush2", "MINE": "hush3"}
    configs = {
        "base": several(
            upstream.url,
            {"key_env": ["ONE", "TWO"], "requests_per_second": 500},
            {"key_env": "MINE", "name": "mine"},
            {},
        )
    }
    with closing(Chains(configs, keys, store)) as chains:
        assert [one.name for one in chains.providers("base")] == [
            "etherscan",
            "etherscan-2",
            "mine",
            "etherscan-3",
        ]
        for one in chains.providers("base"):
            one.head()
        sent = [seen.query.get("apikey") for seen in upstream.requests]
        assert sent == ["hush1", "hush2", "hush3", None]
        assert (chains.used_today("base", "etherscan"), chains.used_today("base", "mine")) == (1, 0)


def test_a_key_that_is_missing_leaves_its_provider_out_with_a_warning(upstream, store, caplog):
    """As long as there are others; the names of these stay the same when it comes back."""
    configs = {
        "base": several(upstream.url, {"key_env": ["ONE", "TWO"]}, {"key_env": "MINE", "name": "mine"})
    }
    with closing(Chains(configs, {"TWO": "hush2"}, store)) as chains:
        assert [one.name for one in chains.providers("base")] == ["etherscan-2"]
        assert read(chains, store, 1, 10).tally.inserted
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [word for line in said for word in ("ONE", "TWO", "MINE") if word in line] == ["ONE", "MINE"]
    assert all("chains.base: the variable" in line for line in said)
    with (
        closing(Chains(configs, {}, store)) as chains,
        pytest.raises(Misconfigured, match=r"ONE.*; .*TWO.*; .*MINE"),
    ):
        chains.chain("base")


def test_a_provider_of_another_chain_is_named_and_the_others_go_on(upstream, store, connection):
    """What it says of its number is held against what sources.yaml says."""
    configs = {"base": several(upstream.url, {"name": "astray"}, {"name": "right"})}
    with closing(Chains(configs, {}, store)) as chains:
        astray, _ = chains.providers("base")
        astray.chain_id = lambda: 8453
        assert not read(chains, store, 1, 10).unproved
        states = {state.provider: state for state in chains.chain("base").providers.states()}
    assert states["astray"].state == "open"
    assert states["astray"].text == (
        "chains.base: the provider astray serves chain 8453, not 1: correct its url, or chain_id"
    )
    assert states["right"].state == "closed"
    for kind in KINDS:
        assert stored(connection, kind) == truth(CHAIN, kind, HUB, hi=100)
    with closing(Chains({"base": config(upstream.url, [HUB])}, {}, store)) as chains:
        chains.providers("base")[0].chain_id = lambda: 8453
        with pytest.raises(Misconfigured, match=r"no provider of base .* serves chain 8453, not 1"):
            read(chains, store, 1, 10)


def budget(store, key=None, **provider):
    """The budget of a provider with these settings."""
    whole = EtherscanProvider.model_validate(
        {"kind": "etherscan", "url": "http://explorer.test/api", **provider}
    )
    return Chains({}, {}, store)._budget(whole, key)


@pytest.mark.parametrize(("rate", "requests", "window"), [
    (3, 3, 1.0), (2.5, 2, 1.0), (1, 1, 1.0), (0.5, 1, 2.0), (0.3, 1, 1 / 0.3), (1.99, 1, 1.0), (1000, 1000, 1.0),
])  # fmt: skip
def test_a_rate_becomes_slots_and_a_window(rate, requests, window):
    """Rounded down: a provider that allows 2.5 a second never sees three in one."""
    made = budget(None, requests_per_second=rate)
    assert (made.requests, made.window) == (requests, pytest.approx(window))


@given(rate=st.floats(0.01, 1000))
def test_a_budget_never_exceeds_its_rate(rate):
    """Not in any window of a second, nor on average."""
    made = budget(None, requests_per_second=rate)
    assert isinstance(made, SharedBudget)
    assert made.requests >= 1
    assert made.requests / made.window <= rate * (1 + 1e-12)
    assert made.requests <= max(1, rate)
    assert made.window >= 1


def test_without_limits_there_is_no_budget(store):
    """A day's limit alone is one."""
    assert isinstance(budget(store), Unlimited)
    assert budget(store, requests_per_day=5).per_day == 5


def test_chains_of_one_host_share_a_budget_and_keys_do_not(store):
    """Which is how providers count; the key is not in the name."""
    limited = {"requests_per_second": 3}
    assert budget(store, **limited).name == budget(store, **limited).name == "explorer.test"
    one, other = budget(store, "hush1", **limited), budget(store, "hush2", **limited)
    assert one.name != other.name
    assert "hush" not in one.name


def test_a_provider_never_sees_more_than_its_rate(looking, store, upstream, head):
    """Many streams side by side, one budget in the database."""
    head.block = TOP
    chains = looking(addresses=CHAIN.addresses, requests_per_second=15, page_size=100)
    wanted = ((date(2024, 1, 1), date(2024, 1, 10)),)
    drain([one for kind in KINDS for one in chains.streams(kind, "base", wanted)], store, readers=4)
    assert len(upstream.requests) > 15
    assert upstream.peak(1.0) <= 15
