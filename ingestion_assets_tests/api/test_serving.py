"""`ingestion api` as processes: what several that share a port do when one of them dies, or the one above them."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

import httpx
import psutil
import pytest
import uvicorn
import yaml

from ingestion_assets.processes import _Handed
from ingestion_assets_tests.upstream import free_port

PATIENCE = 60.0  # seconds; it is over long before, unless something is broken


def until(true: Callable[[], bool], process: psutil.Process) -> None:
    """Wait for it."""
    ends = time.monotonic() + PATIENCE
    while not true():
        assert process.is_running()
        assert time.monotonic() < ends
        time.sleep(0.05)


def answers(url: str) -> bool:
    """Whether somebody answers there."""
    try:
        return httpx.get(f"{url}/api/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def servers(parent: psutil.Process) -> list[psutil.Process]:
    """Its processes that serve, and not those that Python or an embedded Postgres has besides."""
    found: list[psutil.Process] = []
    for one in parent.children():
        with suppress(psutil.NoSuchProcess):  # or a zombie, which has no command any more
            if "spawn_main" in " ".join(one.cmdline()):
                found.append(one)
    return found


def held(server: psutil.Process) -> int:
    """How many clients are connected to a process."""
    return sum(one.status == psutil.CONN_ESTABLISHED for one in server.net_connections("tcp"))


@pytest.fixture
def api(tmp_path, database_url):
    """Two processes, and the one above them."""
    (tmp_path / "sources.yaml").write_text(yaml.safe_dump({"chains": {}}))
    port = free_port()
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path), "INGESTION_DATABASE_URL": database_url}
    command = [sys.executable, "-m", "ingestion_assets", "api", "--processes", "2", "--port", str(port)]
    running = subprocess.Popen(command, env=environment)
    process, url = psutil.Process(running.pid), f"http://127.0.0.1:{port}"
    try:
        until(lambda: answers(url), process)
        yield running, process, url
    finally:
        for one in [process, *process.children(recursive=True)] if process.is_running() else []:
            one.kill()
        running.wait()


async def application(_scope, _receive, _send):
    """Says nothing."""


async def _greeted(above: socket.socket, its: socket.socket) -> int:
    """How many of five clients are there when the first one is."""
    config = uvicorn.Config(application, lifespan="off", log_config=None)
    config.load()
    server = _Handed(config, its)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    with socket.create_server(("127.0.0.1", 0)) as listening, ExitStack() as clients:
        for _ in range(5):
            clients.enter_context(socket.create_connection(listening.getsockname()))
            with listening.accept()[0] as accepted:
                socket.send_fds(above, [b"+"], [accepted.fileno()])
        while not server.server_state.connections:  # noqa: ASYNC110 - it is the turns of the loop that count
            await asyncio.sleep(0)
        found = len(server.server_state.connections)
    await server.shutdown()
    return found


def test_a_busy_process_takes_all_clients_that_wait_at_once():
    """One in each turn of its loop would leave the last of a hundred waiting for seconds."""
    above, its = socket.socketpair()
    with above:
        assert asyncio.run(_greeted(above, its)) == 5


def test_processes_that_share_a_port(api):
    """Each has its part of the clients; one that is killed is started again; the port goes with the one above, however it ends."""
    running, process, url = api
    until(lambda: len(servers(process)) == 2, process)
    before = servers(process)
    with ExitStack() as clients:
        for _ in range(10):
            client = clients.enter_context(httpx.Client(base_url=url))
            assert client.get("/api/health").status_code == 200
        assert [held(one) for one in before] == [5, 5]
    before[0].kill()
    until(lambda: len(servers(process)) == 2 and before[0] not in servers(process), process)
    until(lambda: answers(url), process)
    left = servers(process)
    os.kill(process.pid, signal.SIGKILL)
    running.wait()
    _, alive = psutil.wait_procs(left, PATIENCE)
    assert not alive
    assert not answers(url)
