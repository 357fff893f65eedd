"""Files of a whole filter: what is stored, in order, in constant memory."""

import csv
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from ingestion_assets_tests.api.world import ACCOUNTS, GENEROUS, TOKENS, config, connect, fill, served, stored


def expected(rows, where):
    """Row ids as files have them: chain by chain, oldest first."""
    return [str(row["id"]) for row in sorted(stored(rows, where), key=lambda row: row["chain"])]


FILTERS = [
    ({}, "true"),
    ({"chainId": "beta-2", "token": TOKENS[1]}, f"chain = 'beta-2' AND token_address = '{TOKENS[1]}'"),
    ({"address": ACCOUNTS[3]}, f"'{ACCOUNTS[3]}' IN (from_address, to_address)"),
    ({"startBlock": 20, "endBlock": 30}, "block_number BETWEEN 20 AND 30"),
    ({"hash": "0x" + "f" * 64}, "false"),
]


@pytest.mark.parametrize(("question", "where"), FILTERS)
def test_a_file_holds_every_row_of_its_filter_once(api, rows, question, where):
    """As CSV and as Parquet, with the same values."""
    lines = api.get("/api/transfers/export", params={**question, "format": "csv"})
    assert lines.headers["content-type"].startswith("text/csv")
    from_csv = list(csv.DictReader(io.StringIO(lines.text)))
    packed = api.get("/api/transfers/export", params={**question, "format": "parquet"})
    from_parquet = pq.read_table(io.BytesIO(packed.content)).to_pylist()
    assert [row["id"] for row in from_csv] == [row["id"] for row in from_parquet] == expected(rows, where)
    for text, typed in zip(from_csv, from_parquet, strict=True):
        assert text["value"] == typed["value"]
        assert text["block_time"] == f"{typed['block_time']:%Y-%m-%dT%H:%M:%SZ}"
        assert text["log_index"] == ("" if typed["log_index"] is None else str(typed["log_index"]))


def test_the_largest_value_survives(api):
    """All 78 digits."""
    lines = api.get("/api/transfers/export", params={"chainId": 1, "block": 2})
    assert str(2**256 - 1) in lines.text


def test_no_more_files_are_made_at_once_than_may_be(database_url):
    """The others are told so, and when to come again."""
    limits = replace(GENEROUS, exports=1, wait_seconds=0.5)
    with connect(database_url) as connection:
        fill(connection, 60)
        with served(config(database_url, limits=limits)) as client, ThreadPoolExecutor(1) as others:
            connection.execute("BEGIN")
            connection.execute(
                "LOCK TABLE core.transfers IN ACCESS EXCLUSIVE MODE"
            )  # the first file cannot end
            try:
                first = others.submit(client.get, "/api/transfers/export")
                while not connection.execute(_WAITING).fetchone():
                    pass
                second = client.get("/api/transfers/export")
            finally:
                connection.execute("ROLLBACK")
            assert (second.status_code, second.json()["error"]) == (503, "TOO_MANY_EXPORTS")
            assert int(second.headers["retry-after"]) > 0
            assert first.result().status_code == 200


_WAITING = """
    SELECT 1 FROM pg_locks WHERE NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


def test_bad_parameters_are_refused_before_a_file_begins(api):
    """As everywhere."""
    assert api.get("/api/transfers/export", params={"format": "xlsx"}).status_code == 400
    assert api.get("/api/transfers/export", params={"chainId": 9}).status_code == 400
