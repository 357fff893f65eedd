"""The transfer store in Dagster: it follows the raw assets, says what it has, and notices what is wrong with it."""

from collections import Counter

import dagster as dg
import pytest

from ingestion_assets.sources.evm.records import TOKEN_TRANSFERS
from ingestion_assets.sources.transfers.assets import DAILY_TOTALS, RAW, TRANSFERS
from ingestion_assets_tests.orchestration.world import NEWEST, truth
from ingestion_assets_tests.sources.transfers.tiny import assert_right

DAYS = {"first": "one|2024-01-01", "last": "one|2024-01-10"}
STORE = [TRANSFERS, DAILY_TOTALS]


@pytest.fixture
def stored(world, instance):
    """Ten days of one chain, read and merged."""
    assert world.run(instance, assets=[RAW[0]], **DAYS).success
    result = world.run(instance, assets=STORE, **DAYS)
    assert result.success
    return result


def look(world, instance):
    """One tick of the sensor of chain "one": the days that it asks for."""
    repository = world.definitions().get_repository_def()
    with dg.build_sensor_context(
        instance=instance,
        repository_def=repository,
        resources={"database": repository.get_top_level_resources()["database"]},
    ) as context:
        data = repository.get_sensor_def("transfers_sync_one").evaluate_tick(context)
        return [
            (request.partition_key or request.tags["dagster/asset_partition_range_start"], request.tags)
            for request in data.run_requests or ()
        ]


def test_each_day_says_how_many_transfers_it_has(stored, instance, connection):
    """The store is right, its checks pass, and so do those of the totals."""
    assert_right(connection)
    checks = {check.check_name: check.passed for check in stored.get_asset_check_evaluations()}
    assert checks == {"union": True, "exact": True}
    counts: Counter = Counter()
    for event in instance.fetch_materializations(TRANSFERS, limit=50).records:
        counts[event.partition_key] = event.asset_materialization.metadata[
            "dagster/partition_row_count"
        ].value
    assert +counts == truth(TOKEN_TRANSFERS, "one", 0, NEWEST)
    totals = instance.fetch_materializations(DAILY_TOTALS, limit=50).records
    assert (
        sum(event.asset_materialization.metadata["dagster/partition_row_count"].value for event in totals)
        == (connection.execute("SELECT count(*) FROM core.transfer_daily_totals").fetchone()[0])
    )


def test_the_sensor_follows_the_raw_tables(world, instance, connection):
    """It asks for the days that have changed, once they are read; when they are merged it rests."""
    assert look(world, instance) == []
    assert world.run(instance, assets=[RAW[0]], **DAYS).success
    ((first, tags),) = look(world, instance)
    assert first > "one|2024-01-01"  # the newest days without a hole: on the fifth, nothing happened
    assert tags["ingestion/sync"] == "transfers/one"
    assert world.run(instance, assets=STORE, **DAYS).success
    assert look(world, instance) == []
    connection.execute("DELETE FROM raw.evm_token_transfers WHERE block_time >= '2024-01-10'")
    assert [day for day, _ in look(world, instance)] == ["one|2024-01-10"]
    assert world.run(instance, assets=STORE, partition_key="one|2024-01-10").success
    connection.execute(
        "UPDATE ops.coverage SET evidence = 'counted' WHERE stream LIKE 'evm/token_transfers/%'"
    )
    assert len(look(world, instance)) == 1  # better evidence comes without a row  # fmt: skip


@pytest.mark.usefixtures("stored")
def test_a_store_that_was_tampered_with_fails_its_checks(world, instance, connection):
    """A transfer that went behind the triggers' back, and a total that was made up."""
    connection.execute(
        "DELETE FROM core.transfers WHERE id = (SELECT id FROM core.transfers ORDER BY place LIMIT 1)"
    )
    connection.execute("UPDATE core.transfer_daily_totals SET volume = volume + 1")
    result = world.run(instance, assets=STORE, **DAYS)
    evaluations = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert not evaluations["union"].passed
    assert "1 days differ" in evaluations["union"].description
    assert not evaluations["exact"].passed
    assert evaluations["exact"].metadata["wrong"].value > 0


@pytest.mark.usefixtures("stored")
def test_the_job_drops_what_is_older_than_sources_yaml_wants(world, connection):
    """Of one chain; the shipped default keeps all."""
    job = world.definitions().get_repository_def().get_job("prune_transfers")
    assert job.execute_in_process().success
    before = connection.execute("SELECT count(*) FROM core.transfers").fetchone()
    assert before > (0,)
    text = world.settings.sources_file.read_text().replace(
        "chain_id: 1\n", "chain_id: 1\n    retention_days: 30\n"
    )
    world.settings.sources_file.write_text(text)
    assert world.definitions().get_repository_def().get_job("prune_transfers").execute_in_process().success
    assert connection.execute("SELECT count(*) FROM core.transfers").fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM raw.evm_token_transfers").fetchone() > (0,)
    assert world.definitions().get_repository_def().get_schedule_def("nightly_prune_transfers").job_name == "prune_transfers"  # fmt: skip
