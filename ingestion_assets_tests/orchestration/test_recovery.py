"""Dagster's own processes, for real: sensor, queue, launcher, a run that dies, and what Dagster does about it."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime

import dagster as dg
import psutil
import pytest
import yaml
from dagster._core.launcher.base import WorkerStatus

from ingestion_assets.orchestration import jobs
from ingestion_assets.orchestration.sensors import SYNC
from ingestion_assets.sources.evm.records import KINDS
from ingestion_assets.sources.evm.streams import stream_key
from ingestion_assets_tests.orchestration.test_launcher import GRPC
from ingestion_assets_tests.orchestration.world import (
    ACCOUNTS,
    CHAINS,
    NEWEST,
    in_table,
    truth,
    wait_until,
)

BEGINNING = CHAINS["one"].first_block_at(datetime(2024, 1, 8, tzinfo=UTC))  # what is before it is covered


class Services:
    """A code server on a port of its own, and the daemon."""

    def __init__(self, home) -> None:
        self._home = home
        self._open = ExitStack()
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.port = found.getsockname()[1]
        self._workspace = home / "workspace.yaml"
        location = {"host": "127.0.0.1", "port": self.port, "location_name": "ingestion_assets"}
        self._workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": location}]}))

    def start_server(self) -> None:
        """Start the code server, and wait until it listens."""
        self.server = self._start(
            "dagster", "api", "grpc", "-m", "ingestion_assets.definitions", "-h", "127.0.0.1", "-p", str(self.port)
        )  # fmt: skip
        wait_until(self._listens)

    def start_daemon(self) -> None:
        """Start the daemon."""
        self._start("dagster._daemon", "run", "-w", str(self._workspace))

    def workers(self) -> list[psutil.Process]:
        """The processes of runs."""
        children = psutil.Process(self.server.pid).children()
        return [child for child in children if any("spawn_main" in word for word in child.cmdline())]

    def close(self) -> None:
        """Kill everything."""
        self._open.close()

    def _start(self, *command):
        with (self._home / f"{command[0]}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env={**os.environ, "INGESTION_AUTOMATE": "1"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._open.callback(_kill, process)
        return process

    def _listens(self) -> bool:
        with socket.socket() as knock:
            return knock.connect_ex(("127.0.0.1", self.port)) == 0


def _kill(process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # runs too: they are in their server's group
    process.wait()


@pytest.fixture
def services(world, home, connection):
    """One chain, covered up to the eighth day, whose sensor looks once; nothing runs yet."""
    tree = yaml.safe_load(world.settings.sources_file.read_text())
    del tree["chains"]["two"]
    tree["chains"]["one"]["sync_seconds"] = 3600
    world.settings.sources_file.write_text(yaml.safe_dump(tree))
    for kind in KINDS:
        for account in ACCOUNTS:
            connection.execute(
                "INSERT INTO ops.coverage (stream, lo, hi, evidence, provider, records) VALUES (%s, 0, %s, 'stated', 'a test', 0)",
                [stream_key(kind, "one", account), BEGINNING - 1],
            )
    opened = Services(home)
    yield opened
    world.upstream.close()
    opened.close()


@contextmanager
def stuck_run(services, world, connection):
    """The run that the sensor asked for, with something committed, in the middle of a question that hangs."""
    world.upstream.fail("hang", match={"module": "account"}, after=3)
    services.start_server()
    services.start_daemon()
    with dg.DagsterInstance.get() as instance:
        wait_until(lambda: world.upstream.faults_left == 0, seconds=40)
        wait_until(
            lambda: connection.execute("SELECT count(*) FROM raw.evm_internal_transactions").fetchone()[0]
        )
        (run,) = instance.get_runs(dg.RunsFilter(tags={SYNC: "evm/one"}))  # others may follow it
        assert run.tags["dagster/asset_partition_range_start"] == "one|2024-01-08"
        assert run.tags["dagster/asset_partition_range_end"] == "one|2024-01-10"
        yield instance, run


def ended(instance, run_id, status):
    """The run, as soon as it has ended like this."""
    return wait_until(
        lambda: next((run for run in instance.get_runs(dg.RunsFilter([run_id], statuses=[status]))), None),
        seconds=60,
    )


def assert_retried_and_whole(instance, run, connection) -> None:
    """Dagster runs it again by itself, with the same partitions, and the tables equal those of one clean run."""
    ended(instance, run.run_id, dg.DagsterRunStatus.FAILURE)
    retry = wait_until(
        lambda: [one for one in instance.get_runs() if one.parent_run_id == run.run_id], seconds=60
    )[0]
    retry = ended(instance, retry.run_id, dg.DagsterRunStatus.SUCCESS)
    for tag in ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end"):
        assert retry.tags[tag] == run.tags[tag]
    assert_whole(connection)


def assert_whole(connection) -> None:
    """The tables equal those of one clean run."""
    assert [in_table(connection, kind) for kind in KINDS] == [
        truth(kind, "one", BEGINNING, NEWEST) for kind in KINDS
    ]


def test_a_run_that_is_killed_is_run_again_and_nothing_is_lost_or_doubled(services, world, connection):
    """SIGKILL of its process, which the sensor's request, the queue and the launcher had started."""
    with stuck_run(services, world, connection) as (instance, run):
        launcher = instance.run_launcher
        assert launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING
        stranger = instance.create_run_for_job(
            jobs.tidy, tags={GRPC: json.dumps({"host": "127.0.0.1", "port": services.port})}
        )
        assert launcher.check_run_worker_health(stranger).status == WorkerStatus.NOT_FOUND
        instance.delete_run(stranger.run_id)
        (worker,) = services.workers()
        worker.kill()
        assert_retried_and_whole(instance, run, connection)


@pytest.mark.drill
def test_a_run_that_dies_with_its_code_server_is_found_and_run_again(services, world, connection):
    """A reboot of the container: nobody is left to tell, so run monitoring has to notice."""
    with stuck_run(services, world, connection) as (instance, run):
        _kill(services.server)
        services.start_server()
        assert_retried_and_whole(instance, run, connection)


@pytest.mark.drill
def test_a_deploy_stops_the_run_and_it_goes_on_afterwards(services, world, connection):
    """The code server is told to end, and its run with it. Dagster's retry finds no server and is lost; ours does not."""
    with stuck_run(services, world, connection) as (instance, run):
        os.killpg(services.server.pid, signal.SIGTERM)
        services.server.wait(timeout=60)
        ended(instance, run.run_id, dg.DagsterRunStatus.FAILURE)
        wait_until(
            lambda: [one for one in instance.get_runs() if one.tags.get("dagster/will_retry") == "false"],
            seconds=90,
        )
        services.start_server()
        wait_until(
            lambda: instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS])), seconds=90
        )
        assert_whole(connection)


@pytest.mark.drill
def test_a_person_terminates_a_run_and_it_stays_terminated(services, world, connection):
    """Through the launcher, as the UI does."""
    with stuck_run(services, world, connection) as (instance, run):
        assert instance.run_launcher.terminate(run.run_id)
        canceled = ended(instance, run.run_id, dg.DagsterRunStatus.CANCELED)
        assert canceled.tags.get("dagster/will_retry") in (None, "false")
