"""/api/totals, /api/coverage, /api/gaps and /api/dead-letters: what is added up, whole, missing and broken."""

from collections import Counter

import pytest

from ingestion_assets_tests.api.world import ACCOUNTS, TOKENS, config, connect, fill, served, stored


def read(client, path, **question):
    """An answer of the API."""
    answer = client.get(f"/api/{path}", params=question)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("by", ["day", "token", "chain"])
@pytest.mark.parametrize("chain", ["all", "beta-2"])
def test_totals_are_the_sums_of_what_is_stored(api, rows, by, chain):
    """By day, by token, by chain; and of all together."""
    wanted = [row for row in stored(rows) if chain in ("all", row["chain"])]
    part = {
        "day": lambda row: f"{row['block_time']:%Y-%m-%d}",
        "token": lambda row: row["token_address"],
        "chain": lambda _row: None,
    }[by]
    told = read(api, "totals", chainId=chain, groupBy=by)
    field = {"day": "day", "token": "token", "chain": "none"}[by]
    found = {(line["chainName"], line.get(field)): line["transfers"] for line in told["data"]}
    assert found == Counter((row["chain"], part(row)) for row in wanted)
    assert told["transfers"] == len(wanted)
    assert told["exact"]


def test_a_token_has_a_volume_and_tokens_together_have_none(api, rows):
    """Smallest units of two tokens cannot be added."""
    [volume] = rows.execute(
        "SELECT sum(value)::text FROM core.transfers WHERE chain = 'alpha' AND token_address = %s",
        [TOKENS[1]],
    ).fetchone()
    [line] = read(api, "totals", chainId=1, token=TOKENS[1], groupBy="chain")["data"]
    assert line["volume"] == volume
    assert {line["volume"] for line in read(api, "totals", groupBy="day")["data"]} == {None}
    assert len(volume) > 70, "the largest number that there is among them"


def test_totals_end_at_their_days(api):
    """Both inclusive; and a wrong order is refused."""
    told = read(api, "totals", **{"from": "2024-01-30", "to": "2024-01-30"})
    assert {line["day"] for line in told["data"]} == {"2024-01-30"}
    assert read(api, "totals", **{"from": "2024-02-01"})["transfers"] == 0
    assert api.get("/api/totals?from=2024-02-02&to=2024-02-01").status_code == 400
    assert api.get("/api/totals?from=February").status_code == 400


def test_coverage_lists_every_range_with_its_evidence(api):
    """Of all streams, of a chain, of a stream."""
    [one, other] = read(api, "coverage", stream=f"evm/token_transfers/alpha/{ACCOUNTS[1]}")["data"]
    assert [(line["lo"], line["hi"], line["evidence"]) for line in (one, other)] == [
        (0, 39, "stated"),
        (50, 120, "stated"),
    ]
    assert {line["stream"].split("/")[2] for line in read(api, "coverage", chainId=2)["data"]} == {"beta-2"}
    cut = read(api, "coverage", limit=1)
    assert (len(cut["data"]), cut["truncated"]) == (1, True)


def test_gaps_are_what_is_wanted_and_not_covered(api):
    """With why, and how many blocks."""
    told = read(api, "gaps", chainId=1, stream="evm/token_transfers/")
    [gap] = told["data"]
    assert (gap["lo"], gap["hi"], gap["blocks"], gap["reason"]) == (40, 49, 10, "not read yet")
    never = read(api, "gaps", chainId=1, stream="evm/transactions/")
    assert {(gap["lo"], gap["hi"]) for gap in never["data"]} == {(0, 120)}


def test_a_gap_tells_why_it_could_not_be_proved_and_a_dead_letter_what_it_was(database_url):
    """Newest first, with the raw text."""
    with connect(database_url) as connection:
        fill(connection)
        connection.execute(
            "INSERT INTO ops.unproved VALUES ('evm/token_transfers/alpha/' || %s, 45, 46, 'two explorers differ')",
            [ACCOUNTS[1]],
        )
        for number, chain in enumerate(("alpha", "alpha", "beta-2")):
            connection.execute(
                "INSERT INTO ops.dead_letters (stream, lo, hi, reason, raw) VALUES (%s, 1, 2, 'odd', %s)",
                [f"evm/transactions/{chain}/0x1", b"\xff\x00record %d" % number],
            )
        with served(config(database_url)) as client:
            [gap] = read(client, "gaps", chainId=1, stream="evm/token_transfers/")["data"]
            letters = read(client, "dead-letters", chainId="alpha", limit=1)
            every = read(client, "dead-letters")
            assert client.get("/api/dead-letters?stream=%00").status_code == 400
    assert gap["reason"] == "two explorers differ"
    assert (letters["total"], letters["truncated"]) == (2, True)
    assert letters["data"][0]["raw"] == "\ufffd\x00record 1"
    assert every["total"] == 3


def test_the_documentation_describes_what_is_answered(api):
    """The fields of an answer are those of its schema."""
    document = api.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    for path, name in {
        "transfers": "Transfers", "totals": "DailyTotals", "coverage": "Coverage", "gaps": "Gaps", "dead-letters": "DeadLetters",
        "health": "Health", "cache-health": "CacheHealth",
    }.items():  # fmt: skip
        described = document["paths"][f"/api/{path}"]["get"]["responses"]["200"]["content"][
            "application/json"
        ]["schema"]
        assert described == {"$ref": f"#/components/schemas/{name}"}
        assert set(read(api, path)) == set(schemas[name]["properties"])
    assert set(read(api, "transfers")["data"][0]) == set(schemas["Transfer"]["properties"])
