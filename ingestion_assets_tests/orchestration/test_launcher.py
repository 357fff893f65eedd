"""What the launcher tells about a run's process when it cannot ask, or need not. Live servers: test_recovery."""

import json
import socket
import time

import dagster as dg
import pytest
from dagster._core.launcher.base import WorkerStatus

from ingestion_assets.orchestration import jobs
from ingestion_assets.orchestration.launcher import SILENCE

GRPC = ".dagster/grpc_info"  # the tag in which Dagster keeps who started a run


@pytest.fixture
def dead_port():
    """A port that nobody listens on, and nobody will as long as the test runs."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


def test_a_run_whose_code_server_cannot_be_reached_counts_as_running(home, dead_port):
    """A retry launched now would fail for the same reason, and Dagster tries only once."""
    assert home
    with dg.DagsterInstance.get() as instance:
        launcher = instance.run_launcher
        assert launcher.supports_check_run_worker_health
        run = instance.create_run_for_job(
            jobs.tidy, tags={GRPC: json.dumps({"host": "127.0.0.1", "port": dead_port})}
        )
        health = launcher.check_run_worker_health(run)
        assert (health.status, health.msg) == (WorkerStatus.RUNNING, "the code server cannot be reached")
        on_socket = instance.create_run_for_job(
            jobs.tidy, tags={GRPC: json.dumps({"host": "localhost", "socket": str(home / "gone.sock")})}
        )
        assert launcher.check_run_worker_health(on_socket).status == WorkerStatus.NOT_FOUND
        instance.report_run_failed(run)
        assert launcher.check_run_worker_health(run).status == WorkerStatus.SUCCESS


def test_a_run_that_no_code_server_started_is_heard_until_it_falls_silent(home, monkeypatch):
    """`ingestion backfill --here` that was killed would otherwise count as running for ever, and keep syncs away."""
    assert home
    with dg.DagsterInstance.get() as instance:
        run = instance.create_run_for_job(jobs.tidy)
        instance.report_engine_event("so far 12 batches", run)
        check = instance.run_launcher.check_run_worker_health
        assert check(run).status == WorkerStatus.RUNNING
        monkeypatch.setattr(time, "time", lambda now=time.time: now() + 2 * SILENCE)
        assert check(run).status == WorkerStatus.NOT_FOUND
