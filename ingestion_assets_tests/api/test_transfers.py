"""/api/transfers: one order over all chains, pages that lose nothing, and what an answer says of itself."""

import random
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion_assets.api import store
from ingestion_assets_tests.api.world import (
    ACCOUNTS,
    ALPHA,
    BETA,
    CHAINS,
    START,
    STRANGER,
    TOKENS,
    add_rows,
    config,
    connect,
    fill,
    served,
    stored,
    walk,
)
from ingestion_assets_tests.effort import examples


def ids(found):
    """Of rows, whoever tells them."""
    return [row["id"] if isinstance(row["id"], str) else row["id"].hex for row in found]


def test_the_order_is_total(rows):
    """No two rows stand at one place, and no column of the key is null."""
    keys = rows.execute("SELECT block_time, chain, place, id FROM core.transfers").fetchall()
    assert len(set(keys)) == len(keys) == 480
    assert all(None not in key for key in keys)


FILTERS = st.fixed_dictionaries(
    {"pageSize": st.integers(9, 100), "sort": st.sampled_from(["asc", "desc"])},
    optional={
        "chainId": st.sampled_from(["0", "1", "beta-2"]),
        "address": st.sampled_from([*ACCOUNTS, ACCOUNTS[0].upper().replace("X", "x"), STRANGER]),
        "token": st.sampled_from(TOKENS),
        "startBlock": st.integers(0, 60),
        "endBlock": st.integers(60, 150),
        "from": st.integers(0, 40_000).map(lambda n: int(START.timestamp()) + n),
        "to": st.integers(40_001, 90_000).map(lambda n: int(START.timestamp()) + n),
        "hash": st.integers(0, 80).map(lambda n: f"0x{n:064x}"),
    },
)


def is_wanted(row, question):
    """What the filter means, in plain words."""
    at = row["block_time"].timestamp()
    chain = next(chain for chain in CHAINS if chain.name == row["chain"])
    address = question.get("address", "").lower()
    return (
        question.get("chainId", "0") in ("0", str(chain.chain_id), chain.name)
        and (not address or address in (row["from_address"], row["to_address"]))
        and question.get("token", row["token_address"]) == row["token_address"]
        and question.get("startBlock", 0) <= row["block_number"] <= question.get("endBlock", 10**9)
        and question.get("from", 0) <= at < question.get("to", 10**12)
        and question.get("hash", row["tx_hash"]) == row["tx_hash"]
    )


@examples(20)
@given(question=FILTERS)
def test_walking_all_pages_gives_what_the_filter_wants_in_the_total_order(api, rows, question):
    """Whatever is asked for, in either direction, in pages of any size; and the total says how many there are."""
    wanted = [row for row in stored(rows) if is_wanted(row, question)]
    if question["sort"] == "desc":
        wanted.reverse()
    assert ids(walk(api, **question)) == ids(wanted)
    assert api.get("/api/transfers", params=question).json()["meta"]["total"] == len(wanted)


@pytest.mark.parametrize("sort", ["asc", "desc"])
@pytest.mark.parametrize("hours", [0.1, 0.9])
def test_a_page_reaches_as_far_as_it_has_to(api, rows, monkeypatch, sort, hours):
    """However far from its beginning its rows lie: less than a page of them lies near, or more, or none at all."""
    monkeypatch.setattr(store, "NEAR", timedelta(hours=hours))
    wanted = ids(stored(rows))
    for size in (5, 25):
        found = ids(walk(api, sort=sort, pageSize=size, includeTotals="false"))
        assert found == (wanted if sort == "asc" else wanted[::-1])


@pytest.mark.parametrize("sort", ["asc", "desc"])
@pytest.mark.parametrize("by", ["cursor", "page"])
def test_what_is_inserted_during_a_walk_moves_nothing(database_url, sort, by):
    """All that was there at the beginning comes once, and nothing comes twice, wherever rows are added meanwhile."""
    with connect(database_url) as connection:
        fill(connection, 300)
        before = set(ids(stored(connection)))
        places = random.Random(7).sample([*range(300, 400)], 40)

        def insert(_found=0):
            add_rows(connection, random.Random(len(places)).choice(CHAINS), place := places.pop(), place)

        with served(config(database_url)) as client:
            if by == "cursor":
                found = ids(walk(client, insert, sort=sort, pageSize=25))
            else:
                found = []
                for page in range(1, 100):
                    told = client.get(
                        "/api/transfers", params={"sort": sort, "page": page, "force": "1"}
                    ).json()
                    found += ids(told["data"])
                    if not told["meta"]["hasMore"]:
                        break
                    insert()
    assert len(found) == len(set(found))
    assert before <= set(found)
    if sort == "asc":  # what is added ahead of the walk is met
        assert len(found) > len(before)


def test_a_page_far_away_is_that_of_the_whole_list(api, rows):
    """Also for who jumps there."""
    wanted = ids(stored(rows))[::-1]
    for page in (15, 2, 20, 30):
        told = api.get(
            "/api/transfers", params={"page": page, "pageSize": 25, "includeTotals": "false"}
        ).json()
        assert ids(told["data"]) == wanted[(page - 1) * 25 : page * 25]
        assert told["totals"] is None


def test_a_row_is_told_in_the_words_of_an_explorer(api):
    """Text, decimal, and whole, however large; with what only the record knew."""
    [row] = api.get("/api/transfers", params={"chainId": 1, "block": 2, "hash": f"0x{1:064x}"}).json()[
        "data"
    ][-1:]
    assert row["value"] == str(2**256 - 1)
    assert (row["chainId"], row["chainName"], row["nonce"], row["gas"]) == (1, "alpha", "4", "21000")
    assert row["confirmations"] == str(130 - 2 + 1)
    assert row["timeStamp"] == str(int(START.timestamp()) + 1200)
    assert row["tokenSymbol"] == "TKN"
    assert row["logIndex"] == "0"


def test_an_answer_tells_what_is_whole(api):
    """For a token that is watched, for an account with a hole, for one that nobody watches, and for all."""

    def coverage(**question):
        return api.get("/api/transfers", params=question).json()["coverage"]

    [token] = coverage(chainId=1, token=TOKENS[0])
    assert token["complete"]
    assert (token["evidence"], token["gaps"]) == ("header", [])
    assert token["spans"] == {"lo": 0, "hi": 120}

    [account] = coverage(chainId=1, address=ACCOUNTS[1])
    assert not account["complete"]
    assert account["gaps"] == [{"lo": 40, "hi": 49}]
    assert account["evidence"] == "stated"
    [beside] = coverage(chainId=1, address=ACCOUNTS[1], startBlock=60, endBlock=90)
    assert beside["complete"]
    [both] = coverage(chainId=1, address=ACCOUNTS[1], token=TOKENS[0])
    assert both["complete"], "the token's own stream has them"

    [stranger] = coverage(chainId=1, address=STRANGER)
    assert not stranger["complete"]
    assert STRANGER in stranger["note"]
    [every_token] = coverage(chainId=2, address=STRANGER)
    assert every_token["complete"], "all tokens are watched there"

    alpha, beta = coverage()
    assert (alpha["complete"], beta["complete"]) == (False, True)


def test_blocks_that_are_not_merged_yet_are_a_gap(database_url):
    """They were read, but are not among the transfers."""
    with connect(database_url) as connection:
        fill(connection, 100)
        connection.execute(
            "INSERT INTO ops.transfer_changes (chain, day, blocks, rows) VALUES ('beta-2', '2024-01-30', '{[7,9)}', 2)"
        )
    with served(config(database_url)) as client:
        told = client.get("/api/transfers", params={"chainId": 2}).json()
        assert told["coverage"][0]["gaps"] == [{"lo": 7, "hi": 8}]
        assert "STORE_BEHIND" in [warning["code"] for warning in told["warnings"]]
        assert client.get("/api/health").json()["chains"][1]["queuedJobs"] == 2


def test_a_quiet_chain_is_not_stale_and_one_that_is_not_checked_is(database_url):
    """What counts is the last check; the last transfer is years old."""
    with connect(database_url) as connection:
        fill(connection, 100)
        connection.execute(
            "UPDATE ops.chains SET checked_at = now() - interval '2000 s' WHERE chain = 'alpha'"
        )
    with served(config(database_url)) as client:
        stale = client.get("/api/transfers", params={"chainId": "alpha"}).json()
        fresh = client.get("/api/transfers", params={"chainId": "beta-2"}).json()
        health = client.get("/api/health")
    assert (stale["stale"], fresh["stale"]) == (True, False)
    assert 2000 <= stale["ingestLagSeconds"] < 2060
    assert fresh["ingestLagSeconds"] < 60
    assert [warning["code"] for warning in stale["warnings"]] == ["STORE_DATA_STALE"]
    assert fresh["warnings"] == []
    assert datetime.fromisoformat(fresh["lastIngestedAt"])
    assert health.status_code == 200
    assert health.json()["status"] == "degraded"
    assert [chain["status"] for chain in health.json()["chains"]] == ["stale", "ok"]


def test_a_count_stops_where_it_is_told_to(filled_url):
    """And says so."""
    from dataclasses import replace

    from ingestion_assets_tests.api.world import GENEROUS

    with served(config(filled_url, limits=replace(GENEROUS, count=50))) as client:
        told = client.get("/api/transfers", params={"address": ACCOUNTS[0]}).json()
        assert (told["totals"]["total"], told["totals"]["truncated"]) == (50, True)
        assert "TOTAL_COUNT_CAPPED" in [warning["code"] for warning in told["warnings"]]
        assert client.get("/api/transfers").json()["totals"]["total"] == 480, "days add up without counting"
    with served(config(filled_url, limits=replace(GENEROUS, count=5))) as client:
        asked = {"address": ACCOUNTS[0], "pageSize": 20}
        told = client.get("/api/transfers", params=asked).json()
        assert told["totals"]["total"] == 5
        assert (
            told["data"]
            == client.get("/api/transfers", params=asked | {"includeTotals": "false"}).json()["data"]
        )
        assert len(told["data"]) == 20, "a page is as long as it may be, however far is counted"


def test_the_first_pages_are_kept_ready_and_made_anew_after_a_change(database_url):
    """They are what the store would say."""
    with connect(database_url) as connection:
        fill(connection, 300)
        with served(config(database_url)) as client:
            first = client.get("/api/transfers").json()
            assert first["source"] == "cache"
            assert first["data"] == client.get("/api/transfers", params={"force": "true"}).json()["data"]
            warm = client.get("/api/cache-health").json()["transfersWarm"]
            assert (warm["status"], warm["pages"]) == ("fresh", 9)
            add_rows(connection, BETA, 300, 300)
            connection.execute("UPDATE ops.coverage SET updated_at = now()")
            expected = ids(stored(connection))[-1]
            while (told := client.get("/api/transfers").json())["source"] == "cache":
                assert told["data"] == first["data"], "a page that is kept says what it said"
            assert told["data"][0]["id"] == expected
            assert ALPHA.chain_id in {row["chainId"] for row in told["data"]}
