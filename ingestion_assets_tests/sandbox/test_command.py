"""What the command does: it serves, says so in one line, and ends when told."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from ingestion_assets.sandbox import CHAIN_IDS, watched_addresses

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_told_to_end(end):
    """One line when ready, both chains with rows, then a quiet end with status 0."""
    command = [sys.executable, "-m", "ingestion_assets.sandbox", "--port", "0", "--days", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        line = process.stdout.readline()
        query = {"module": "account", "action": "txlist", "address": watched_addresses()[0]}
        for chain_id in CHAIN_IDS:
            answer = httpx.get(line.split()[1] + "v2/api", params={"chainid": chain_id} | query)
            assert answer.json()["message"] in {"OK", "No transactions found"}
        process.send_signal(end)
        rest = process.communicate(timeout=10)
    assert (process.returncode, rest) == (0, ("", ""))


def test_a_taken_port_is_said_in_one_line():
    """Without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "ingestion_assets.sandbox", "--port", port]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"sandbox: cannot listen on 127.0.0.1:{port}")
    assert len(done.stderr.splitlines()) == 1
