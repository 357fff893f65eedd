"""Kill the run's process, again and again: Dagster re-executes it, and the tables equal the ground truth."""

import random
import signal
import subprocess
import sys
import time
from collections import Counter

import httpx
import psutil
import psycopg
import pytest

from ingestion_assets_tests.acceptance.test_truth import LAST_DAY, agrees, installed, result
from ingestion_assets_tests.upstream import free_port

__all__ = ["installed"]  # a fixture

READ_AHEAD = 1
PATIENCE = 240  # seconds


def worker_of(code_server: psutil.Process, but: set[int]) -> psutil.Process:
    """The process of the run that the code server has started last."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for child in code_server.children(recursive=True):
            if child.pid not in but and "spawn_main" in " ".join(child.cmdline()):
                return child
        time.sleep(0.05)
    pytest.fail("no run is started")


@pytest.mark.drill
@pytest.mark.parametrize("read_ahead", [READ_AHEAD, 0])
def test_five_kills_at_random_moments_cost_a_page_or_two_each(harness, installed, read_ahead):
    """SIGKILL the worker five times; the retries are Dagster's own, and only what was read ahead is asked again."""
    addresses = list(harness.truth["one"]["addresses"])
    installed.watch(
        harness.explorer, {"one": (31337, addresses)}, read_ahead=read_ahead, requests_per_second=80
    )
    harness.reset()
    ui, code = free_port(), free_port()
    command = [sys.executable, "-m", "ingestion_assets", "up", "--port", str(ui), "--code-port", str(code)]
    stack = subprocess.Popen(command, env=installed.environment(), stdout=subprocess.PIPE, text=True)
    chance = random.Random(7)
    killed: set[int] = set()
    try:
        assert stack.stdout is not None
        for line in stack.stdout:
            if "Ctrl-C" in line:
                break
        [code_server] = [p for p in psutil.Process(stack.pid).children() if "grpc" in p.cmdline()]
        launched = installed.start(
            "backfill", "evm/*", "--to", LAST_DAY, "--wait", "--url", f"http://127.0.0.1:{ui}"
        )
        for _ in range(5):
            worker = worker_of(code_server, killed)
            committed = records(installed.database)
            while records(installed.database) == committed and worker.is_running():
                time.sleep(0.05)  # until this worker has committed something of its own
            time.sleep(chance.uniform(0, 3))  # the random moment
            worker.send_signal(signal.SIGKILL)
            killed.add(worker.pid)
        ended = result(launched)
        assert ended[0]["status"] == "COMPLETED_SUCCESS", ended
    finally:
        stack.send_signal(signal.SIGINT)
        stack.communicate(timeout=60)

    log = httpx.get(f"{harness.explorer}/_control/log?n=100000").json()
    asked = Counter(entry["target"] for entry in log if "module=account" in entry["target"])
    again = sum(count - 1 for count in asked.values())
    print(f"{asked.total()} account pages, {again} of them again, after {len(killed)} kills")  # noqa: T201
    assert again <= len(killed) * (1 + read_ahead)
    with psycopg.connect(installed.database) as connection:
        agrees(connection, "one", harness.truth["one"], harness.folder / "one" / "address_days.csv")


def records(database: str) -> int:
    """How many records are covered."""
    with psycopg.connect(database) as connection:
        found = connection.execute("SELECT coalesce(sum(records), 0), count(*) FROM ops.coverage").fetchone()
    assert found is not None
    return int(found[0] + found[1])
