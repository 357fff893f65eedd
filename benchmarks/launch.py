"""What launching a run over many partitions costs, with Dagster's storage on Postgres.

Launching writes one planned event for each asset and partition, before the run is queued; the person in the
UI, and the backfill daemon, wait for that. `orchestration.ingest.MAX_PARTITIONS_PER_RUN` is the largest round
number of partitions that keeps it under two seconds for the three EVM assets together.

    python benchmarks/launch.py
"""

import atexit
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from ingestion_assets.engine import database
from ingestion_assets.settings import PROJECT

LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}"""
ASSETS = ("transactions", "internal_transactions", "token_transfers")
SOURCES = """
chains:
  bench:
    chain_id: 1
    start: 2015-07-30
    providers: [{kind: etherscan, url: "http://127.0.0.1:9/v2/api"}]
"""


def launch(url: str, partitions: int) -> float:
    """Seconds until a run over so many days is queued."""
    first = datetime(2016, 1, 1, tzinfo=UTC).date()
    last = first + timedelta(days=partitions - 1)
    params = {
        "selector": {
            "repositoryLocationName": "ingestion_assets",
            "repositoryName": "__repository__",
            "jobName": "__ASSET_JOB",
            "assetSelection": [{"path": ["evm", name]} for name in ASSETS],
            "assetCheckSelection": [],
        },
        "executionMetadata": {
            "tags": [
                {"key": "dagster/asset_partition_range_start", "value": f"bench|{first}"},
                {"key": "dagster/asset_partition_range_end", "value": f"bench|{last}"},
            ]
        },
        "runConfigData": {},
        "mode": "default",
    }
    started = time.perf_counter()
    answer = httpx.post(
        f"{url}/graphql", json={"query": LAUNCH, "variables": {"params": params}}, timeout=300
    ).json()
    seconds = time.perf_counter() - started
    assert answer["data"]["launchRun"]["__typename"] == "LaunchRunSuccess", answer
    return seconds


def main() -> None:
    """Measure and print medians of three."""
    folder = tempfile.mkdtemp()
    atexit.register(
        shutil.rmtree, folder, ignore_errors=True
    )  # registered first, so it runs after the server's end
    home = Path(folder)
    shutil.copy(PROJECT / "dagster_home" / "dagster.yaml", home)
    (home / "sources.yaml").write_text(SOURCES)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "DAGSTER_HOME": folder,
        "INGESTION_DATABASE_URL": database.embedded(home / "postgres"),
        "INGESTION_SOURCES": "",
    }
    command = [
        sys.executable,
        "-m",
        "dagster_webserver",
        "-p",
        str(port),
        "-w",
        str(PROJECT / "workspace.yaml"),
    ]
    webserver = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                httpx.get(f"{url}/server_info", timeout=5).raise_for_status()
                break
            except httpx.TransportError:
                time.sleep(0.2)
        launch(url, 1)
        for partitions in (1, 50, 100, 200, 250, 300, 400, 800):
            seconds = [launch(url, partitions) for _ in range(3)]
            print(
                f"{partitions:5} days × {len(ASSETS)} assets: {statistics.median(seconds):6.2f} s  ({min(seconds):.2f} … {max(seconds):.2f})"
            )
    finally:
        webserver.terminate()
        webserver.wait()


if __name__ == "__main__":
    main()
