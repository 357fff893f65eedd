"""`ingestion up`: everything comes up, what dies comes back, and Ctrl-C leaves nothing behind."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import httpx
import psutil
import psycopg
import pytest
import yaml

from ingestion_assets.sandbox import watched_addresses
from ingestion_assets_tests.upstream import free_port

PATIENCE = 60  # seconds


@pytest.fixture
def ports():
    """Of the UI, the code server, the sandbox and the API."""
    return [free_port() for _ in range(4)]


@pytest.fixture
def environment(tmp_path, database_url, project, ports):
    """An installation whose only chain is read from the sandbox."""
    shutil.copy(project / "dagster_home" / "dagster.yaml", tmp_path)
    provider = {"kind": "etherscan", "url": f"http://127.0.0.1:{ports[2]}/v2/api"}
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date()
    chain = {
        "chain_id": 31337,
        "start": yesterday,
        "providers": [provider],
        "addresses": list(watched_addresses()),
        "sync_seconds": 5,
    }
    (tmp_path / "sources.yaml").write_text(yaml.safe_dump({"chains": {"sandbox": chain}}))
    return {
        **os.environ,
        "DAGSTER_HOME": str(tmp_path),
        "INGESTION_DATABASE_URL": database_url,
        "INGESTION_SOURCES": "",
    }


def until(happens, what: str):
    """Wait for something to be true, and give it back."""
    deadline = time.monotonic() + PATIENCE
    while not (found := happens()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)
    return found


def start(environment, ports) -> "subprocess.Popen[str]":
    """Start it as make does."""
    options = [
        text
        for name, port in zip(("", "code-", "sandbox-", "api-"), ports, strict=True)
        for text in (f"--{name}port", str(port))
    ]
    command = [sys.executable, "-m", "ingestion_assets", "up", *options]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_all_of_it_comes_up_recovers_and_goes(environment, ports, database_url):
    """The sandbox's rows arrive by themselves; a killed sandbox comes back; Ctrl-C ends every process."""
    up = start(environment, ports)
    try:
        for line in up.stdout:
            if "Ctrl-C" in line:
                break
        assert httpx.get(f"http://127.0.0.1:{ports[0]}/server_info").json()["dagster_version"]
        assert (
            httpx.get(f"http://127.0.0.1:{ports[3]}/api/health").json()["chains"][0]["chainName"] == "sandbox"
        )
        services = psutil.Process(up.pid).children()
        with psycopg.connect(database_url, autocommit=True) as connection:
            until(
                lambda: connection.execute("SELECT count(*) FROM raw.evm_transactions").fetchone()[0],
                "the first sync",
            )
        [sandbox] = [service for service in services if "ingestion_assets.sandbox" in service.cmdline()]
        sandbox.kill()
        until(lambda: answers(f"http://127.0.0.1:{ports[2]}/v2/chainlist"), "the sandbox's return")
        everything = psutil.Process(up.pid).children(recursive=True)
    finally:
        up.send_signal(signal.SIGINT)
        said, _ = up.communicate(timeout=PATIENCE)
    assert up.returncode == 0, said
    left = [
        process for process in everything if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    ]
    assert not left


def test_a_port_that_is_taken_is_named(environment, ports):
    """Nothing is started then."""
    with socket.create_server(("127.0.0.1", ports[0])):
        said, _ = start(environment, ports).communicate(timeout=PATIENCE)
    assert f"port {ports[0]} of the UI is taken" in said
    assert "Traceback" not in said


def answers(url: str) -> bool:
    """Whether somebody answers there."""
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.TransportError:
        return False
