"""The events server of `../shared/upstreams`: its faults, its log, and what is true of it."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from ingestion_assets_tests.upstream import free_port


@dataclass
class EventsServer:
    """A running server."""

    url: str

    @property
    def feed(self) -> str:
        """Where its events are."""
        return f"{self.url}/api/v1/events"

    def fail(self, *rules: dict[str, Any], seed: int = 1) -> None:
        """Switch faults on, until the next call."""
        httpx.post(f"{self.url}/_control/faults", json={"seed": seed, "rules": rules}).raise_for_status()

    def truth(self, total: int | None = None) -> dict[str, Any]:
        """Counts by type, and the XOR of all ids."""
        found: dict[str, Any] = httpx.get(
            f"{self.url}/_control/truth", params={} if total is None else {"total": total}, timeout=60
        ).json()
        return found

    def log(self) -> list[dict[str, Any]]:
        """All requests."""
        found: list[dict[str, Any]] = httpx.get(f"{self.url}/_control/log?n=50000").json()
        return found


@contextmanager
def serving(upstreams: Path, *options: str, port: int | None = None) -> Iterator[EventsServer]:
    """A server with these options. Another one with the same seed has the same events, and knows the other's cursors."""
    port = port or free_port()
    command = [str(upstreams / ".venv/bin/python"), "-m", "evm_harness.events", "--port", str(port), *options]
    process = subprocess.Popen(command, cwd=upstreams, stdout=subprocess.DEVNULL)
    server, deadline = EventsServer(f"http://127.0.0.1:{port}"), time.monotonic() + 30
    try:
        while True:
            try:
                httpx.get(f"{server.url}/_control/health").raise_for_status()
            except httpx.TransportError:
                assert time.monotonic() < deadline, "the events server does not come up"
                time.sleep(0.1)
            else:
                break
        yield server
    finally:
        process.kill()
        process.wait()
