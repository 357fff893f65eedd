"""A run that is told to stop: in a process of its own, in the middle of a question that is not answered."""

import signal
import subprocess
import sys
from contextlib import contextmanager

import dagster as dg
import pytest

from ingestion_assets.orchestration.io_manager import Stopped
from ingestion_assets.sources.evm.records import KINDS
from ingestion_assets_tests.orchestration.world import in_table, truth, wait_until
from ingestion_assets_tests.sources.evm.reading import ACTIONS

SCRIPT = """
import dagster as dg
from ingestion_assets.definitions import build
from ingestion_assets.settings import Settings
repository = build(Settings.from_environment()).get_repository_def()
keys = [dg.AssetKey(["evm", name]) for name in ("transactions", "internal_transactions", "token_transfers")]
tags = {"dagster/asset_partition_range_start": "one|2024-01-01", "dagster/asset_partition_range_end": "one|2024-01-10"}
with dg.DagsterInstance.get() as instance:
    job = repository.get_implicit_job_def_for_assets(keys)
    job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)
"""


@contextmanager
def worker():
    """The script in a process of its own, which is gone at the end."""
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def stuck(world, home, connection):
    """A worker whose fourth question for records hangs, with all before it committed; its instance; its run."""
    assert home
    world.upstream.fail("hang", match={"module": "account"}, after=3)
    with worker() as process, dg.DagsterInstance.get() as instance:
        wait_until(lambda: world.upstream.faults_left == 0)
        wait_until(lambda: connection.execute("SELECT count(*) FROM ops.coverage").fetchone()[0] >= 1)
        (run,) = instance.get_runs()
        yield process, instance, run
        world.upstream.close()


def stop(process, number) -> None:
    """Send the signal, and see the process end soon although its question is never answered."""
    process.send_signal(number)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 0, said.decode()[-2000:]


def begun(instance, run) -> list[str]:
    """The steps that began."""
    return [
        record.event_log_entry.step_key
        for record in instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_START).records
    ]


def kept(connection) -> int:
    """How many rows are stored."""
    return sum(in_table(connection, kind).total() for kind in KINDS)


def test_a_signal_stops_the_run_between_two_batches_and_leaves_it_to_the_run_retries(stuck, connection):
    """A deploy, or Ctrl-C: what is committed stays, no further asset begins, and Dagster will retry by itself."""
    process, instance, run = stuck
    steps = begun(instance, run)
    stop(process, signal.SIGINT)
    ended = instance.get_run_by_id(run.run_id)
    assert ended.status == dg.DagsterRunStatus.FAILURE
    assert ended.tags["dagster/failure_reason"] == "UNEXPECTED_TERMINATION"
    assert ended.tags["dagster/will_retry"] == "true"
    assert begun(instance, run) == steps
    assert kept(connection)


def test_a_person_terminates_the_run_and_it_is_not_retried(stuck, connection):
    """The UI marks the run as canceling before the signal comes: it ends canceled, once and for all."""
    process, instance, run = stuck
    steps = begun(instance, run)
    instance.report_run_canceling(run)
    stop(process, signal.SIGINT)
    ended = instance.get_run_by_id(run.run_id)
    assert ended.status == dg.DagsterRunStatus.CANCELED
    assert ended.tags.get("dagster/will_retry") in (None, "false")
    assert begun(instance, run) == steps
    assert kept(connection)


def test_the_run_after_a_stopped_one_reads_only_the_rest(world, home, connection, instance):
    """SIGTERM, this time. The tables are then those of one clean run, and no question that was committed is asked again."""
    assert home
    world.upstream.fail("hang", match={"module": "account"}, after=3)
    with worker() as process:
        wait_until(lambda: world.upstream.faults_left == 0)
        wait_until(lambda: connection.execute("SELECT count(*) FROM ops.coverage").fetchone()[0] >= 1)
        stop(process, signal.SIGTERM)
    covered = connection.execute("SELECT stream, lo, hi FROM ops.coverage").fetchall()
    asked = len(world.upstream.requests)
    assert world.run(instance, first="one|2024-01-01", last="one|2024-01-10").success
    assert [in_table(connection, kind) for kind in KINDS] == [truth(kind, "one") for kind in KINDS]
    for stream, lo, hi in covered:
        _, kind, _, address = stream.split("/")
        action = next(ACTIONS[one] for one in KINDS if one.name == kind)
        for seen in world.upstream.requests[asked:]:
            if seen.query.get("action") == action and seen.query.get("address") == address:
                assert not lo <= int(seen.query["startblock"]) <= hi


def test_a_stop_passes_the_retry_policy():
    """Dagster's retry policies let DagsterErrors through, and treat interruptions as the end of the run."""
    assert issubclass(Stopped, dg.DagsterError)
    assert issubclass(Stopped, dg.DagsterExecutionInterruptedError)
