"""The dialect of an explorer: its envelope and sentences, and pages beyond its window, asked by a client that others wrote."""

import asyncio
from contextlib import nullcontext
from datetime import date

import pytest
from aioetherscan import Client

from ingestion_assets.sources.transfers import months
from ingestion_assets_tests.api.world import (
    ACCOUNTS,
    ALPHA,
    STRANGER,
    TOKENS,
    add_rows,
    config,
    connect,
    fill,
    served,
    stored,
)

TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"

_TRANSACTIONS = """
    INSERT INTO raw.evm_transactions (chain, block_number, block_time, tx_hash, from_address, to_address, value, ordinal, tx_index,
                                      contract_address, nonce, gas_used, gas_price, succeeded, provider, payload, id)
    SELECT 'alpha', n / 3, '2024-01-30Z'::timestamptz + (n / 3) * interval '10 min', '0x' || lpad(to_hex(n), 64, '0'),
           (%(accounts)s::text[])[1 + n %% 2], CASE WHEN n %% 5 > 0 THEN (%(accounts)s::text[])[2 - n %% 2] END, n, 0, 2 - n %% 3,
           CASE WHEN n %% 5 = 0 THEN '0x' || repeat('7', 40) END, n, 21000, 7, n %% 4 > 0, 'etherscan',
           jsonb_build_object('gas', '30000', 'input', '0x', 'methodId', '0x', 'txreceipt_status', ''), md5(n::text)::uuid
    FROM generate_series(0, 89) AS n"""
_INTERNALS = """
    INSERT INTO raw.evm_internal_transactions (chain, block_number, block_time, tx_hash, from_address, to_address, value, ordinal, type,
                                               contract_address, failed, trace_id, provider, payload, id)
    SELECT 'alpha', n / 3, '2024-01-30Z'::timestamptz + (n / 3) * interval '10 min', '0x' || lpad(to_hex(n), 64, '0'),
           (%(accounts)s::text[])[1], (%(accounts)s::text[])[2], n, 0, 'call', NULL, false, '0_1', 'etherscan', '{"gas": "9"}',
           md5(n::text)::uuid
    FROM generate_series(0, 29) AS n"""


@pytest.fixture(scope="module")
def facade(postgres):
    """The API over transactions, internal transactions, and 10,500 transfers of an account."""
    from ingestion_assets_tests.conftest import TEMPLATE, fresh

    for url in fresh(postgres, TEMPLATE):
        with connect(url) as connection:
            fill(connection)
            connection.execute(_TRANSACTIONS, {"accounts": ACCOUNTS})
            connection.execute(_INTERNALS, {"accounts": ACCOUNTS})
            connection.execute(
                "INSERT INTO ops.coverage (stream, lo, hi, evidence, provider, records)"
                " VALUES ('evm/transactions/alpha/' || %s, 0, 99, 'nonce', 'etherscan', 1)",
                [ACCOUNTS[0]],
            )
        with served(config(url)) as client:
            client.rows = url
            yield client


def ask(client, **question):
    """A question about the first chain, answered."""
    answer = client.get("/v2/api", params={"chainid": 1, **question})
    assert answer.status_code == 200
    return answer.json()


def account(client, action, **question):
    """Records of the account module."""
    return ask(client, module="account", action=action, **question)


REFUSED = [
    ({}, "Error! Missing Or invalid Module name"),
    ({"module": "account", "action": "balance"}, "Error! Missing Or invalid Action name"),
    ({"chainid": "7"}, "Missing or unsupported chainid parameter (required for v2 api), please see"),
    ({"chainid": ""}, "Missing or unsupported chainid parameter"),
    ({"address": "0x12"}, "Error! Invalid address format"),
    ({"address": STRANGER}, "Error! Not stored here: address"),
    ({"address": ""}, "Error! Missing address"),
    ({"startblock": "ten"}, "Error! Invalid parameter startblock"),
    ({"page": "1", "offset": "10001"}, "Error! Invalid parameter offset: at most 10000"),
]


@pytest.mark.parametrize(("question", "sentence"), REFUSED)
def test_refusals_come_in_the_explorers_envelope(facade, question, sentence):
    """Status 0, NOTOK, and a sentence; never an empty list."""
    usual = {"module": "account", "action": "txlist", "address": ACCOUNTS[0]} if question else {}
    told = ask(facade, **{**usual, **question})
    assert (told["status"], told["message"]) == ("0", "NOTOK")
    assert told["result"].startswith(sentence)


def test_transactions_have_all_fields_as_text_in_block_order(facade):
    """Oldest first unless told otherwise; within a block by their place in it."""
    told = account(facade, "txlist", address=ACCOUNTS[0], startblock=0, endblock=99999999)
    assert (told["status"], told["message"]) == ("1", "OK")
    places = [(int(row["blockNumber"]), int(row["transactionIndex"])) for row in told["result"]]
    assert places == sorted(places)
    assert len(places) == 81  # every fifth of the other account creates a contract
    first = told["result"][0]
    assert set(first) == {
        "blockNumber", "blockHash", "timeStamp", "hash", "nonce", "transactionIndex", "from", "to", "value", "gas", "gasPrice",
        "input", "methodId", "functionName", "contractAddress", "cumulativeGasUsed", "txreceipt_status", "gasUsed",
        "confirmations", "isError",
    }  # fmt: skip
    assert all(isinstance(value, str) for row in told["result"] for value in row.values())
    created = next(row for row in told["result"] if row["contractAddress"])
    assert created["to"] == ""
    newest = account(facade, "txlist", address=ACCOUNTS[0], sort="desc", page=1, offset=5)["result"]
    assert newest == told["result"][::-1][:5]


@pytest.mark.parametrize("action", ["txlist", "txlistinternal", "tokentx"])
@pytest.mark.parametrize("sort", ["asc", "desc"])
def test_pages_put_together_are_the_whole_list(facade, action, sort):
    """Walked in order, and jumped to."""
    whole = account(facade, action, address=ACCOUNTS[0], sort=sort)["result"]
    assert whole
    pages = range(1, len(whole) // 7 + 2)

    def page(number):
        return account(facade, action, address=ACCOUNTS[0], sort=sort, page=number, offset=7)["result"]

    assert [row for number in pages for row in page(number)] == whole
    with served(config(facade.rows)) as other:  # remembers nothing
        jumped = account(other, action, address=ACCOUNTS[0], sort=sort, page=3, offset=7)["result"]
    assert jumped == whole[14:21]


def test_internal_transactions_of_a_transaction(facade):
    """By its hash, without an address."""
    [row] = account(facade, "txlistinternal", txhash=f"0x{7:064x}")["result"]
    assert (row["hash"], row["value"], row["traceId"], row["gas"]) == (f"0x{7:064x}", "7", "0_1", "9")


def test_nothing_found_is_a_sentence_and_an_empty_list(facade):
    """As clients know it."""
    told = account(facade, "txlist", address=ACCOUNTS[0], startblock=1000, endblock=2000)
    assert told == {"status": "0", "message": "No transactions found", "result": []}


def test_headers_tell_what_is_whole(facade):
    """The envelope has no room for it."""
    question = {"chainid": 1, "module": "account", "action": "txlist", "address": ACCOUNTS[0]}
    whole = facade.get("/v2/api", params={**question, "endblock": 99}).headers
    assert (whole["x-coverage-complete"], whole["x-coverage-evidence"]) == ("true", "nonce")
    holed = facade.get("/v2/api", params=question).headers
    assert (holed["x-coverage-complete"], holed["x-coverage-gaps"]) == ("false", "100-120")


def test_the_block_of_a_time(facade):
    """The closest block of a stored row, on either side."""

    def block(**question):
        return ask(facade, module="block", action="getblocknobytime", **question)

    start = 1_706_572_800
    assert block(timestamp=start + 601)["result"] == "1"
    assert block(timestamp=start + 601, closest="after")["result"] == "2"
    assert block(timestamp=start, closest="before")["result"] == "0"
    assert block(timestamp=start - 1) == {
        "status": "0", "message": "NOTOK", "result": "Error! No closest block found"
    }  # fmt: skip
    assert block(timestamp="soon")["result"].startswith("Error! Invalid parameter timestamp")


def logs(client, **question):
    """Logs of the first chain."""
    return ask(client, module="logs", action="getLogs", fromBlock=0, toBlock="latest", **question)


def topic(address):
    """An address as a topic."""
    return "0x" + "0" * 24 + address[2:]


def test_logs_are_transfers_in_hexadecimal(facade):
    """With their topics, and filtered by them."""
    told = logs(facade, address=TOKENS[0], topic0=TRANSFER, topic0_1_opr="and", topic1=topic(ACCOUNTS[0]))
    assert told["status"] == "1"
    with connect(facade.rows) as connection:
        wanted = stored(
            connection,
            f"chain = 'alpha' AND token_address = '{TOKENS[0]}' AND from_address = '{ACCOUNTS[0]}' AND log_index IS NOT NULL",
        )
    assert [row["transactionHash"] for row in told["result"]] == [row["tx_hash"] for row in wanted]
    for row in told["result"]:
        assert row["topics"][:2] == [TRANSFER, topic(ACCOUNTS[0])]
        assert row["address"] == TOKENS[0]
        assert int(row["data"], 16) >= 0
        assert int(row["blockNumber"], 16) == int(row["timeStamp"], 16) // 600 - 1_706_572_800 // 600


def test_topics_are_put_together_as_their_operators_say(facade):
    """And, or, and what no transfer can have."""
    one, two = topic(ACCOUNTS[0]), topic(ACCOUNTS[1])

    def count(**question):
        return len(logs(facade, address=TOKENS[0], **question)["result"])

    both = count(topic1=one, topic2=two, topic1_2_opr="and")
    either = count(topic1=one, topic2=two, topic1_2_opr="or")
    assert either == count(topic1=one) + count(topic2=two) - both
    assert count(topic0=TRANSFER, topic1=one, topic0_1_opr="or") == count()
    assert count(topic3=one) == 0
    other = logs(facade, address=TOKENS[0], topic0="0x" + "1" * 64)
    assert "only logs of the topic0" in other["result"]


def test_the_list_of_chains(facade):
    """As the explorer has it, outside of the envelope."""
    told = facade.get("/v2/chainlist").json()
    assert [chain["chainid"] for chain in told["result"]] == ["1", "2"]


MANY = 10_500


def test_a_public_client_pages_through_more_than_ten_thousand_rows(database_url):
    """aioetherscan, with another base url: every transfer once, although more arrive behind the walk."""
    with connect(database_url) as connection:
        months.make(connection, ALPHA.name, [date(2024, month, 1) for month in (1, 2, 3)])
        add_rows(connection, ALPHA, 100, MANY + 99)
        connection.execute(
            "UPDATE core.transfers SET to_address = %s WHERE from_address <> %s", [ACCOUNTS[0]] * 2
        )
        wanted = [row["tx_hash"] for row in stored(connection)]
        with served(config(database_url)) as api:
            found = asyncio.run(_read_all(str(api.base_url), connection))
    assert [row["hash"] for row in found] == wanted
    assert len(wanted) == MANY


async def _read_all(base, connection):
    client = Client("a key", throttler=nullcontext())
    client._url_builder.API_URL = f"{base}/v2/api?chainid=1"
    found = []
    try:
        for page in range(1, 13):
            rows = await client.account.token_transfers(ACCOUNTS[0], sort="asc", page=page, offset=1_000)
            found += rows
            if len(rows) < 1_000:
                break
            # It would push a row on to the next page if pages were counted from the beginning.
            await asyncio.to_thread(add_rows, connection, ALPHA, 6 * page, 6 * page)
    finally:
        await client.close()
    return found
