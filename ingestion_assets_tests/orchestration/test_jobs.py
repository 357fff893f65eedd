"""The two jobs that materialise nothing."""

import dagster as dg
import pytest

from ingestion_assets.engine.stream import Rejected
from ingestion_assets.orchestration import jobs, sensors
from ingestion_assets_tests.orchestration.tiny import QUIET, covers, definitions, run, stored

BAD = Rejected(b"{}", "no hash", position=2)


def test_a_replay_makes_the_ranges_of_dead_letters_wanted_again(database_url, instance, connection):
    """The next run reads these and nothing else, and the letter is settled by that."""
    asked = []

    def plan(done):
        asked.append(done.covered)
        if not done.covered:
            yield covers(0, 4, rejected=(BAD,))
        elif done.covered != ((0, 4),):
            yield covers(2, 2)

    defs = definitions(database_url, plan)
    run(defs, instance, 0, 4)
    database = {"database": defs.resources["database"]}
    for streams, reopened in (("evm/%", 0), ("tiny/%", 1)):
        config = {"ops": {"reopen_ranges": {"config": {"streams": streams}}}} | QUIET
        result = jobs.replay_dead_letters.execute_in_process(run_config=config, resources=database)
        (output,) = [event for event in result.all_events if event.is_successful_output]
        assert output.step_output_data.metadata["ranges"].value == reopened
    result = run(defs, instance, 0, 4)
    assert asked == [(), ((0, 1), (3, 4))]
    assert all(check.passed for check in result.get_asset_check_evaluations())
    assert len(stored(connection)) == 5
    assert connection.execute(
        "SELECT count(*) FROM ops.dead_letters WHERE settled_at IS NULL"
    ).fetchone() == (0,)


@pytest.fixture
def ended(instance):
    """Record a run that has ended: its id."""

    def record(status=dg.DagsterRunStatus.SUCCESS, **tags) -> str:
        names = {
            "sync": sensors.SYNC,
            "day": sensors.PARTITION,
            "first": sensors.RANGE_START,
            "last": sensors.RANGE_END,
        }
        tags = {names[name]: value for name, value in tags.items()}
        return instance.create_run_for_job(jobs.tidy, tags=tags, status=status).run_id

    return record


def tidy(instance, keep_hours: int) -> set[str]:
    """Run the job: the ids of the runs that are gone."""
    before = {found.run_id for found in instance.get_runs()}
    config = {"ops": {"forget_superseded_syncs": {"config": {"keep_hours": keep_hours}}}} | QUIET
    assert jobs.tidy.execute_in_process(instance=instance, run_config=config).success
    return before - {found.run_id for found in instance.get_runs()}


def test_superseded_syncs_are_forgotten_and_the_last_of_each_partition_stays(instance, ended):
    """A day and a range that ends with it are different partitions."""
    old = [ended(sync="one", day="one|2024-01-01") for _ in range(3)]
    old_range = ended(sync="one", first="one|2024-01-01", last="one|2024-01-02")
    ended(sync="one", first="one|2024-01-01", last="one|2024-01-02")
    ended(sync="one", day="one|2024-01-02")
    ended(sync="two", day="two|2024-01-01")
    assert tidy(instance, 0) == {*old[:-1], old_range}
    assert tidy(instance, 0) == set(), "a second time changes nothing"


def test_runs_of_other_origin_stay_and_failures_that_were_made_good_go(instance, ended):
    """What a person or a backfill did is history; what failed last is evidence."""
    ended(day="one|2024-01-01")
    made_good = {ended(dg.DagsterRunStatus.FAILURE, sync="one", day="one|2024-01-01") for _ in range(2)}
    ended(sync="one", day="one|2024-01-01")
    ended(dg.DagsterRunStatus.FAILURE, sync="one", day="one|2024-01-01")
    assert tidy(instance, 0) == made_good


def test_a_failed_sync_does_not_supersede_a_good_one(instance, ended):
    """The good one holds the partition's last materialisation."""
    ended(sync="one", day="one|2024-01-01")
    ended(dg.DagsterRunStatus.FAILURE, sync="one", day="one|2024-01-01")
    assert tidy(instance, 0) == set()


def test_young_runs_stay_for_a_while(instance, ended):
    """A person may want to look at them."""
    for _ in range(3):
        ended(sync="one", day="one|2024-01-01")
    assert tidy(instance, 1) == set()
