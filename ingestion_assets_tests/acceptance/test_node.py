"""A real Ethereum node, read without an explorer, against ground truth that shares no code with us."""

import psycopg
import pytest

from ingestion_assets.engine.http import Client
from ingestion_assets.sources.evm.provider import ALL, Question
from ingestion_assets.sources.evm.providers.etherscan import Etherscan
from ingestion_assets.sources.evm.providers.rpc import Rpc
from ingestion_assets.sources.evm.records import (
    ERC20_TRANSFERS,
    INTERNAL_TRANSACTIONS,
    KINDS,
    TOKEN_TRANSFERS,
    TRANSACTIONS,
)
from ingestion_assets_tests.acceptance.conftest import BLOCKS
from ingestion_assets_tests.acceptance.test_truth import INTERNALS, digest
from ingestion_assets_tests.acceptance.test_truth import TRANSACTIONS as OF_TRANSACTIONS

OF_TRANSFERS = "concat_ws('|', tx_hash, log_index, token_address, from_address, to_address, value)"
LINES = {
    TRANSACTIONS: ("tx", OF_TRANSACTIONS),
    INTERNAL_TRANSACTIONS: ("internal", INTERNALS),
    TOKEN_TRANSFERS: ("erc20", OF_TRANSFERS),
    ERC20_TRANSFERS: ("erc20", OF_TRANSFERS),
}


@pytest.fixture
def opened(harness, store):
    """Opens the first chain's node as a provider."""
    providers = []

    def opening(**options):
        client = Client(f"http://127.0.0.1:{harness.nodes[0]}", errors_in_body=True, timeout=120)
        providers.append(Rpc(client, name="rpc", chain="one", store=store, **options))
        return providers[-1]

    yield opening
    for provider in providers:
        provider.close()


def stored(database_url, provider, kind, subjects, head):
    """The digest of all rows, and the evidence for them, as they arrive in Postgres."""
    levels = set()
    with psycopg.connect(database_url) as connection:
        connection.execute(f"CREATE TEMP TABLE t (LIKE raw.{kind.table.name})")
        with connection.cursor().copy("COPY t FROM STDIN") as copy:
            for reading in provider.read(Question(kind, tuple(subjects), 0, head)):
                assert (reading.doubt, reading.page.rejected()) == (None, ())
                levels.add(reading.level)
                copy.write(reading.page.rows(kind).lines)
        lines = connection.execute(f"SELECT {LINES[kind][1]} FROM t").fetchall()  # type: ignore[arg-type]
    return digest([line for [line] in lines]), levels


@pytest.mark.parametrize("evidence", ["stated", "header", "receipts"])
def test_every_kind_equals_the_ground_truth_with_every_evidence(harness, opened, database_url, evidence):
    """Trace ids and log indices included."""
    truth = harness.truth["one"]
    provider = opened(evidence=evidence)
    asked = [(kind, truth["addresses"]) for kind in KINDS] + [
        (ERC20_TRANSFERS, truth["erc20"]),
        (ERC20_TRANSFERS, [ALL]),
    ]
    for kind, subjects in asked:
        found, levels = stored(database_url, provider, kind, subjects, truth["head"])
        assert found == truth["digests"][LINES[kind][0]], (kind.name, len(subjects))
        assert kind is INTERNAL_TRANSACTIONS or levels <= {evidence, "header", "receipts"}


def test_the_call_tracer_tells_the_same_as_trace_block(harness, opened):
    """For some blocks: anvil executes them again, a hundred times slower."""
    truth = harness.truth["one"]
    question = Question(INTERNAL_TRANSACTIONS, tuple(truth["addresses"]), BLOCKS // 2, BLOCKS // 2 + 30)
    flat, trees = opened(), opened()
    trees._traces._gives_flat_traces = False
    told = [
        [
            (row.when, row.key, row.attributes)
            for reading in provider.read(question)
            for row in reading.page.good
        ]
        for provider in (flat, trees)
    ]
    assert told[0]
    assert told[0] == told[1]


def test_an_explorer_gives_rows_with_the_same_ids_and_columns(harness, opened):
    """All that both can know; so a failover in the middle of a range changes nothing."""
    truth = harness.truth["one"]
    hub = max(truth["addresses"], key=lambda address: sum(truth["addresses"][address].values()))
    explorer = Etherscan(Client(f"{harness.explorer}/v2/api"), name="etherscan", chain="one", chain_id=31337)
    node = opened()
    for kind in KINDS:
        question = Question(kind, (hub,), 0, truth["head"])
        by_id = [
            {
                name: (row.when, row.key, _shared(kind, row.attributes))
                for reading in provider.read(question)
                for name, row in zip(reading.page.ids(kind), reading.page.good, strict=True)
            }
            for provider in (explorer, node)
        ]
        assert by_id[0]
        assert by_id[0] == by_id[1]
    explorer.close()


def _shared(kind, attributes):
    """Without provider, and without what only one of both knows."""
    columns = attributes.split(b"\t")[:-2]
    return columns[1:] if kind is TOKEN_TRANSFERS else columns
