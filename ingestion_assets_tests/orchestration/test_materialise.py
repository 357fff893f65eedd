"""Runs of the real assets, in this process, against the explorer."""

import dagster as dg
import pytest

from ingestion_assets.sources.evm.records import KINDS
from ingestion_assets_tests.orchestration.tiny import failure, materialised
from ingestion_assets_tests.orchestration.world import ACCOUNTS, CHAINS, EVM, NEWEST, in_table, truth
from ingestion_assets_tests.sources.evm.reading import ACTIONS


def pages(kind) -> int:
    """The records of all days that the explorer shows of each account, summed."""
    return sum(len(CHAINS["one"].rows(ACTIONS[kind], account, 0, NEWEST)) for account in ACCOUNTS)


TRANSACTIONS = KINDS[0]
FIRST, LAST = "one|2024-01-01", "one|2024-01-10"


def test_one_partition_holds_the_rows_of_its_day_and_no_other(world, instance, connection):
    """And the event says so."""
    result = world.run(instance, partition_key="one|2024-01-03")
    assert result.success
    for kind, key in zip(KINDS, EVM, strict=True):
        expected = truth(kind, "one")["one|2024-01-03"]
        assert in_table(connection, kind) == {"one|2024-01-03": expected}
        (event,) = materialised(instance, result, key).items()
        assert event[0] == "one|2024-01-03"
        assert event[1]["dagster/partition_row_count"] == expected


def test_a_range_of_days_is_one_run_with_an_event_for_each_day(world, instance, connection):
    """Counts are those of the day, a day without blocks included; the other numbers are the run's."""
    result = world.run(instance, first=FIRST, last=LAST)
    assert result.success
    for kind, key in zip(KINDS, EVM, strict=True):
        days, events = truth(kind, "one"), materialised(instance, result, key)
        assert in_table(connection, kind) == days
        assert {day: said["dagster/partition_row_count"] for day, said in events.items()} == {
            f"one|2024-01-{day:02}": days[f"one|2024-01-{day:02}"] for day in range(1, 11)
        }
        said = events["one|2024-01-05"]
        assert said["inserted"] == days.total()
        assert said["fetched"] == said["inserted"] + said["duplicate"] + said["rejected"]
        assert said["duplicate"] == pages(kind) - days.total(), "records that both accounts show"
        assert said["rejected"] == 0
        assert said["seconds"] > 0
        assert said["dagster/row_count"] == days.total()
        assert said["coverage"]["missing"] == 0
        assert said["coverage"]["evidence"] == {"stated": said["coverage"]["streams"]}
    checks = result.get_asset_check_evaluations()
    assert {check.asset_key for check in checks} == set(EVM)
    assert all(check.passed for check in checks)


def test_the_requests_in_the_metadata_are_those_the_explorer_saw(world, instance):
    """Summed over the assets; the drain is what asks."""
    result = world.run(instance, partition_key="one|2024-01-03")
    said = sum(materialised(instance, result, key)["one|2024-01-03"]["requests"] for key in EVM)
    assert said == len(world.upstream.requests)


def test_the_second_run_asks_for_no_records_and_changes_nothing(world, instance, connection):
    """Two chains, each in its own run; then all of it again."""
    for chain in ("one", "two"):
        assert world.run(instance, first=f"{chain}|2024-01-01", last=f"{chain}|2024-01-10").success
    before, asked = [in_table(connection, kind) for kind in KINDS], world.account_pages()
    assert before == [truth(kind, "one") + truth(kind, "two") for kind in KINDS]
    for chain in ("one", "two"):
        result = world.run(instance, first=f"{chain}|2024-01-01", last=f"{chain}|2024-01-10")
        assert result.success
        said = materialised(instance, result, EVM[0])[f"{chain}|2024-01-10"]
        assert (said["fetched"], said["inserted"], said["batches"]) == (0, 0, 0)
        assert said["dagster/partition_row_count"] == truth(TRANSACTIONS, chain)[f"{chain}|2024-01-10"]
    assert world.account_pages() == asked
    assert [in_table(connection, kind) for kind in KINDS] == before


def test_two_chains_in_one_range_are_both_read(world, instance, connection):
    """Dagster's range over two dimensions is the product of both."""
    result = world.run(instance, first="one|2024-01-02", last="two|2024-01-03", assets=EVM[:1])
    assert result.success
    both = truth(TRANSACTIONS, "one") + truth(TRANSACTIONS, "two")
    wanted = [f"{chain}|2024-01-{day:02}" for chain in ("one", "two") for day in (2, 3)]
    assert in_table(connection, TRANSACTIONS) == {day: both[day] for day in wanted}
    assert sorted(materialised(instance, result, EVM[0])) == wanted


def verdict(result, name="clean"):
    """What a check of the only asset of a run says."""
    return next(check for check in result.get_asset_check_evaluations() if check.check_name == name)


def test_a_bad_record_is_counted_and_its_partition_is_not_clean(world, instance, connection):
    """The others of its page are stored; a warning, for nothing else is missing."""
    world.upstream.fail("drop_field", match={"action": "txlist"}, field="value", rows=[0])
    result = world.run(instance, partition_key="one|2024-01-03", assets=EVM[:1])
    assert result.success
    said = materialised(instance, result, EVM[0])["one|2024-01-03"]
    assert said["rejected"] == 1
    assert said["fetched"] == said["inserted"] + said["duplicate"] + 1
    check = verdict(result)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "0 gaps, 1 open dead letters" in check.description
    assert connection.execute("SELECT count(*) FROM ops.dead_letters").fetchone() == (1,)
    elsewhere = world.run(instance, partition_key="one|2024-01-04", assets=EVM[:1])
    assert verdict(elsewhere).passed, "the letter lies on another day"


def test_a_key_that_is_refused_fails_the_run_at_once(world, instance):
    """A person must act, so no attempt is wasted, and the text is the explorer's."""
    world.upstream.fail("body", times=99, body=b'{"status":"0","message":"NOTOK","result":"Invalid API Key"}')
    result = world.run(instance, partition_key="one|2024-01-03", assets=EVM[:1])
    assert not result.success
    assert "Unauthorized" in failure(result)
    assert "Invalid API Key" in failure(result)
    assert len(world.upstream.requests) == 1
    assert not [event for event in result.all_events if event.is_step_up_for_retry]


def test_a_passing_failure_is_retried_and_goes_on_where_it_was(world, instance, connection):
    """The second attempt asks for what the first one could not store, and for nothing else."""
    first, second = ACCOUNTS
    world.upstream.fail("status", match={"address": second}, status=503)
    result = world.run(instance, partition_key="one|2024-01-03", assets=EVM[:1])
    assert result.success
    assert len([event for event in result.all_events if event.is_step_up_for_retry]) == 1
    assert in_table(connection, TRANSACTIONS) == {
        "one|2024-01-03": truth(TRANSACTIONS, "one")["one|2024-01-03"]
    }
    accounts = [seen.query.get("address") for seen in world.upstream.requests]
    statuses = [seen.status for seen in world.upstream.requests]
    assert first not in accounts[statuses.index(503) :]


@pytest.mark.parametrize("chain", ["one", "two"])
def test_today_has_no_block_yet_and_is_whole_as_far_as_it_exists(world, instance, chain):
    """A day beyond the head: nothing is wanted, nothing is missing, nothing is marked."""
    result = world.run(instance, partition_key=f"{chain}|2024-01-15", assets=EVM[:1])
    assert result.success
    assert materialised(instance, result, EVM[0])[f"{chain}|2024-01-15"]["dagster/partition_row_count"] == 0
    assert world.account_pages() == 0
