"""A real Ethereum node with an explorer in front of it, where `../shared/upstreams` holds them; else a skip.

The node signs, mines and traces every transaction; its ground truth is computed apart from the explorer and
checked against the node's state.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fasteners
import httpx
import pytest

from ingestion_assets_tests.conftest import FOLDER
from ingestion_assets_tests.upstream import free_port

UPSTREAMS = Path(__file__).resolve().parents[3] / "shared" / "upstreams"
SEEDS = {
    "one": (31337, 1),
    "two": (10, 3),
}  # name -> chain id, seed of the generator; the accounts are the same
BLOCKS = int(os.environ.get("ACCEPTANCE_BLOCKS", "60"))  # of each chain; `make drills` takes more


@dataclass
class Harness:
    """The node, the explorer, and what is true of the chains.

    Args:
        installed: where its programs are; all workers of a session share them.
        folder: of this one's chains.
    """

    installed: Path
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    nodes: list[int] = field(default_factory=list)
    explorer: str = ""
    proxy: str = ""  # the node of chain one, behind a provider's limits and faults
    truth: dict[str, Any] = field(default_factory=dict)

    def python(self, module: str, *arguments: str) -> None:
        """Run one of the harness's commands to its end."""
        command = [str(self.installed / ".venv/bin/python"), "-m", f"evm_harness.{module}", *arguments]
        done = subprocess.run(command, cwd=self.installed, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def grow(self, name: str) -> None:
        """A node of its own for one chain, its history, and its ground truth."""
        chain_id, seed = SEEDS[name]
        port, out = free_port(), self.folder / name
        rundir = str(self.folder / "run")
        self.python("node", "start", "--port", str(port), "--chain-id", str(chain_id), "--rundir", rundir)
        self.nodes.append(port)
        url = f"http://127.0.0.1:{port}"
        size = ("--blocks", str(BLOCKS), "--txs", "25", "--days", "30", "--seed", str(seed))
        self.python("gen", "--url", url, *size, "--out", str(out))
        self.python("truth", "--url", url, "--out", str(out))
        self.truth[name] = json.loads((out / "truth.json").read_text())

    def serve(self) -> None:
        """One explorer over all nodes, and a provider in front of the first one."""
        nodes = [option for node in self.nodes for option in ("--rpc", f"http://127.0.0.1:{node}")]
        self.explorer = self._start("explorer", *nodes)
        self.proxy = self._start(
            "rpcproxy", "--rpc", f"http://127.0.0.1:{self.nodes[0]}", "--max-batch", "100"
        )

    def _start(self, module: str, *options: str) -> str:
        port = free_port()
        command = [str(self.installed / ".venv/bin/python"), "-m", f"evm_harness.{module}", *options]
        self.processes.append(
            subprocess.Popen([*command, "--port", str(port)], cwd=self.installed, stdout=subprocess.DEVNULL)
        )
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{url}/_control/stats").raise_for_status()
            except httpx.TransportError:
                assert time.monotonic() < deadline, f"the {module} does not come up"
                time.sleep(0.2)
            else:
                return url

    def fail(self, explorer: list[dict[str, Any]], proxy: list[dict[str, Any]], *, seed: int) -> None:
        """Switch faults on, for good or until the next call."""
        for url, rules in ((self.explorer, explorer), (self.proxy, proxy)):
            httpx.post(f"{url}/_control/faults", json={"seed": seed, "rules": rules}).raise_for_status()

    @contextmanager
    def branch(self) -> Iterator["Branch"]:
        """A small node of its own, whose chain may be reorganised."""
        port, out = free_port(), self.folder / "branch"
        rundir = str(self.folder / "run")
        self.python("node", "start", "--port", str(port), "--rundir", rundir)
        try:
            url = f"http://127.0.0.1:{port}"
            size = ("--blocks", "120", "--txs", "10", "--days", "30", "--seed", "5")
            self.python("gen", "--url", url, *size, "--out", str(out))
            self.python("truth", "--url", url, "--out", str(out))
            yield Branch(self, url, out)
        finally:
            self.python("node", "stop", "--port", str(port), "--rundir", rundir)

    def stats(self) -> dict[str, Any]:
        """What the explorer has counted since `reset`."""
        found: dict[str, Any] = httpx.get(f"{self.explorer}/_control/stats").json()
        return found

    def reset(self) -> None:
        """Count from zero."""
        httpx.post(f"{self.explorer}/_control/reset").raise_for_status()

    def close(self) -> None:
        """End the explorer and the nodes."""
        for process in self.processes:
            process.kill()
            process.wait()
        for port in self.nodes:
            self.python("node", "stop", "--port", str(port), "--rundir", str(self.folder / "run"))


@dataclass
class Branch:
    """A chain that is taken back and goes on in another way."""

    harness: Harness
    url: str
    folder: Path
    fork: int = -1

    def reorganise(self, depth: int) -> None:
        """Take so many blocks back, and mine others."""
        head = httpx.post(
            self.url, json={"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []}
        )
        self.fork = int(head.json()["result"], 16) - depth
        options = ("--url", self.url, "--chain", str(self.folder), "--depth", str(depth), "--keep", "0.5")
        self.harness.python("live", "reorg", *options)

    def truth(self) -> dict[str, Any]:
        """The ground truth of the chain as it is now."""
        self.harness.python("truth", "--url", self.url, "--out", str(self.folder))
        found: dict[str, Any] = json.loads((self.folder / "truth.json").read_text())
        return found


@pytest.fixture(scope="session")
def upstreams() -> Path:
    """A copy of `../shared/upstreams` with all that it needs, made by the first worker of a session that asks."""
    if not UPSTREAMS.exists() or shutil.which("npm") is None:
        pytest.skip("needs ../shared/upstreams and npm")
    folder = Path(os.environ[FOLDER]) / "upstreams"
    with fasteners.InterProcessLock(f"{folder}.lock"):
        if not (folder / "ready").exists():
            shutil.copytree(UPSTREAMS, folder)
            subprocess.run(["chmod", "-R", "u+w", str(folder)], check=True)
            subprocess.run(["npm", "ci", "--silent"], cwd=folder / "node", check=True, capture_output=True)
            subprocess.run([sys.executable, "-m", "venv", str(folder / ".venv")], check=True)
            python = str(folder / ".venv/bin/python")
            install = [python, "-m", "pip", "install", "--quiet", "-r", "requirements.txt"]
            subprocess.run(install, cwd=folder, check=True, capture_output=True)
            (folder / "ready").touch()
    return folder


@pytest.fixture(scope="session")
def harness(upstreams: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """Two chains with the same accounts, from two seeds, behind one explorer."""
    running = Harness(upstreams, tmp_path_factory.mktemp("chains"))
    try:
        for name in SEEDS:
            running.grow(name)
        running.serve()
        yield running
    finally:
        running.close()
