"""What the explorer answers: the dialect, its limits and its errors."""

import asyncio
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion_assets.sandbox import ACTIONS, explorer
from ingestion_assets_tests.upstream import Head, small_chain

CHAINS = {number: small_chain(number) for number in (1, 2)}
CHAIN = CHAINS[1]
HUB, TOP = CHAIN.addresses[0], CHAIN.height
APP = explorer(CHAINS, lambda chain: chain.height)


def get(path, app=APP):
    """The answer of an app, without a server in between."""

    async def request():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://sandbox") as client:
            return await client.get(path)

    return asyncio.run(request())


def ask(app=APP, **query):
    """The JSON answer to a question, by default one for the hub's transactions on chain 1."""
    asked = {"chainid": 1, "module": "account", "action": "txlist", "address": HUB} | query
    asked = {name: value for name, value in asked.items() if value is not None}
    answer = get("/v2/api?" + urlencode(asked), app)
    assert answer.status_code == 200
    return answer.json()


@settings(max_examples=25, deadline=None)
@given(
    offset=st.integers(20, 400),
    action=st.sampled_from(ACTIONS),
    order=st.sampled_from(["asc", "desc"]),
    low=st.integers(0, TOP),
)
def test_the_pages_together_are_the_whole(offset, action, order, low):
    """Paging gives every row once, in the order asked for, whatever the size of a page."""
    whole = CHAIN.rows(action, HUB, low, TOP)
    paged, page = [], 1
    while rows := ask(action=action, startblock=low, page=page, offset=offset, sort=order)["result"]:
        paged += rows
        page += 1
    assert paged == (whole if order == "asc" else whole[::-1])


def test_an_answer_without_page_and_offset_is_cut_in_silence():
    """Only page and offset together page; the cut answer says OK like a whole one."""
    capped = explorer(CHAINS, lambda chain: chain.height, max_records=10)
    first = CHAIN.rows("txlist", HUB, 0, TOP)[:10]
    for query in ({}, {"page": 3}, {"offset": 500}, {"page": 1, "offset": 500}):
        answer = ask(capped, **query)
        assert (answer["status"], answer["message"], answer["result"]) == ("1", "OK", first)


def test_pages_follow_each_other_when_the_offset_is_cut():
    """Page 2 goes on where a cut page 1 ended, so that nothing falls between them."""
    capped = explorer(CHAINS, lambda chain: chain.height, max_records=10)
    assert ask(capped, page=2, offset=500)["result"] == CHAIN.rows("txlist", HUB, 0, TOP)[10:20]


def test_the_window_is_a_product():
    """Ten thousand rows deep is allowed, one page more is not."""
    assert ask(page=10, offset=1000)["message"] == "No transactions found"
    assert ask(page=11, offset=1000) == {
        "status": "0",
        "message": "Result window is too large, PageNo x Offset size must be less than or equal to 10000",
        "result": None,
    }


def test_nothing_is_shown_above_the_head():
    """The head bounds rows, blocks and confirmations."""
    head = Head(100)
    app = explorer(CHAINS, head)
    assert ask(app, endblock=999_999)["result"] == CHAIN.rows("txlist", HUB, 0, 100, head=100)
    assert ask(app, module="proxy", action="eth_getBlockByNumber", tag=hex(101))["result"] is None
    head.block = 101
    assert ask(app, module="proxy", action="eth_getBlockByNumber", tag=hex(101))["result"]["number"] == "0x65"


def test_nothing_found_is_an_empty_list():
    """A range without rows and an address that nobody watches look the same."""
    empty = {"status": "0", "message": "No transactions found", "result": []}
    assert ask(startblock=TOP + 1) == ask(address="0x" + "1" * 40) == empty


def test_addresses_are_read_in_any_case():
    """A checksummed address is the same address."""
    assert ask(address="0x" + HUB[2:].upper()) == ask()


@pytest.mark.parametrize(("query", "result"), [
    ({"chainid": None}, "Missing or unsupported chainid parameter"),
    ({"chainid": 3}, "Missing or unsupported chainid parameter"),
    ({"chainid": "mainnet"}, "Missing or unsupported chainid parameter"),
    ({"module": "acount"}, "Error! Missing Or invalid Module name"),
    ({"action": None}, "Error! Missing Or invalid Action name"),
    ({"action": "txlists"}, "Error! Missing Or invalid Action name"),
    ({"address": "0x12"}, "Error! Invalid address format"),
    ({"address": None}, "Error! Invalid address format"),
    ({"startblock": "first"}, "Error! Invalid block number"),
    ({"contractaddress": HUB}, "Error! The sandbox does not filter by contractaddress"),
])  # fmt: skip
def test_a_refusal_is_a_200_with_status_0(query, result):
    """The reason is in `result`, as a text."""
    answer = ask(**query)
    assert (answer["status"], answer["message"]) == ("0", "NOTOK")
    assert answer["result"].startswith(result)


def test_a_time_leads_to_the_block_before_or_after_it():
    """Both include the second itself; outside the chain there is no block."""

    def closest(time, side):
        return ask(module="block", action="getblocknobytime", timestamp=time, closest=side)["result"]

    time = CHAIN.time_of(50)
    assert closest(time, "before") == closest(time, "after") == "50"
    assert (closest(time + 1, "before"), closest(time + 1, "after")) == ("50", "51")
    assert closest(CHAIN.time_of(TOP) + 10**6, "before") == str(TOP)
    for outside, side in ((CHAIN.time_of(0) - 1, "before"), (CHAIN.time_of(TOP) + 1, "after")):
        assert closest(outside, side) == "Error! No closest block found"
    assert closest("soon", "after") == "Error! Invalid timestamp"
    assert closest(time, "near") == "Error! Missing Or invalid closest parameter"


def test_blocks_come_by_number_and_by_name():
    """JSON-RPC in hex; the finalized block is two behind; parents link up."""

    def block(tag):
        return ask(module="proxy", action="eth_getBlockByNumber", tag=tag, boolean="false")["result"]

    assert ask(module="proxy", action="eth_blockNumber")["result"] == hex(TOP) == block("latest")["number"]
    assert block("finalized") == block("safe") == block(hex(TOP - 2))
    assert block("latest")["parentHash"] == block(hex(TOP - 1))["hash"]
    assert int(block("earliest")["timestamp"], 16) == CHAIN.time_of(0)
    assert block("earliest")["parentHash"] == "0x" + "0" * 64
    answer = ask(module="proxy", action="eth_getBlockByNumber", tag="12")
    assert answer["error"]["code"] == -32602


def test_the_other_chain_has_other_rows():
    """The chain id chooses the history."""
    assert ask(chainid=2)["result"] == CHAINS[2].rows("txlist", HUB, 0, TOP)[:1000] != ask()["result"]


def test_the_chain_list_names_both_chains():
    """Without an envelope, as strings."""
    listed = get("/v2/chainlist").json()
    assert listed["totalcount"] == 2
    assert [chain["chainid"] for chain in listed["result"]] == ["1", "2"]


def test_the_page_for_people_has_links_that_work():
    """It lists the addresses and offers two questions."""
    text = get("/").text
    assert all(address in text for address in CHAIN.addresses)
    links = [part.split('"')[0].replace("&amp;", "&") for part in text.split('href="')[1:]]
    assert len(links) == 2
    assert all("result" in get(link).json() for link in links)
