"""How fast the API answers over a filled store: paging, filters by account, and sums, from 10 and from 100 clients at once.

    python benchmarks/transfers_fill.py --rows 5000000 --database-url URL
    python benchmarks/api/load.py --database-url URL

Needs wrk (Debian's package). The API is a process of its own, as `ingestion api` runs it but without a client's limit, for here all
clients are one. It shares the machine with Postgres and wrk. Every question is one of some thousands that are drawn beforehand, with a seed:
accounts as popular as their transfers, and cursors at random places of the whole history. Answers are read whole, not packed.
"""

import argparse
import json
import multiprocessing
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import uvicorn
from fastapi import FastAPI

from ingestion_assets.api import pages
from ingestion_assets.api.app import create_app
from ingestion_assets.api.config import ApiConfig, Limits, ServedChain
from ingestion_assets.api.ordering import cursor, fingerprint
from ingestion_assets.api.pages import Wanted
from ingestion_assets.processes import share

SCRIPT = Path(__file__).with_name("replay.lua")
NUMBERS = {"ethereum": 1, "base": 8453, "polygon": 137}
DRAWN = 3_000


def told(url: str, connections: int) -> ApiConfig:
    """The chains of the store, with everything watched that it has coverage of."""
    with psycopg.connect(url) as connection:
        watched = connection.execute(
            "SELECT split_part(stream, '/', 2), split_part(stream, '/', 3), split_part(stream, '/', 4) FROM ops.coverage"
            " WHERE stream LIKE 'evm/%'"
        ).fetchall()
    return ApiConfig(
        url,
        chains=tuple(
            ServedChain(
                name,
                number,
                date(2025, 5, 10),
                frozenset(who for kind, chain, who in watched if (kind, chain) == ("token_transfers", name)),
                frozenset(who for kind, chain, who in watched if (kind, chain) == ("erc20_transfers", name)),
            )
            for name, number in NUMBERS.items()
        ),
        limits=Limits(requests_per_second=0, connections=connections),
        stale_seconds=1e9,
    )


@dataclass(frozen=True)
class Application:
    """Makes the app in the process that serves it."""

    config: ApiConfig

    def __call__(self) -> FastAPI:
        """The app."""
        return create_app(self.config)


def serve(config: ApiConfig, port: int, processes: int) -> None:
    """The API, until it is ended, as `serving.serve` does it."""
    told = uvicorn.Config(Application(config), factory=True, port=port, log_level="warning", access_log=False)
    if processes == 1:
        uvicorn.Server(told).run()
    else:
        share(told, processes)


def draw(url: str) -> dict[str, list[str]]:
    """The questions of each kind."""
    rng = random.Random(1)
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT block_time, chain, place, id, from_address, to_address, token_address FROM core.transfers"
            " TABLESAMPLE SYSTEM (1) REPEATABLE (1) ORDER BY random() LIMIT %s",
            [DRAWN],
        ).fetchall()
    one, every = [], []
    for row in rows:
        at = (row[0], row[1], row[2], row[3])
        alone, all_of_them = Wanted((row[1],)), Wanted(tuple(NUMBERS))
        one.append(f"/api/transfers?chainId={row[1]}&cursor={cursor(at, fingerprint(alone.fingerprint()))}")
        every.append(f"/api/transfers?cursor={cursor(at, fingerprint(all_of_them.fingerprint()))}")
    first = [
        f"/api/transfers?chainId={chain}&page={page}" for chain in ("all", *NUMBERS) for page in (1, 2, 3)
    ]
    address = [f"/api/transfers?chainId={row[1]}&address={rng.choice(row[4:6])}" for row in rows]
    token = [f"/api/transfers?chainId={row[1]}&token={row[6]}&sort=asc" for row in rows]
    sums = [f"/api/totals?chainId={row[1]}&token={row[6]}" for row in rows[:100]]
    sums += [
        f"/api/totals?chainId={chain}&groupBy={by}"
        for chain in ("all", *NUMBERS)
        for by in ("token", "chain")
    ]
    mixed = [*one, *every, *address, *token, *sums * 10, *first * 100]
    rng.shuffle(mixed)
    return {
        "first pages": first, "pages anywhere, one chain": one, "pages anywhere, all chains": every,
        "pages of an account": address, "pages of a token": token, "sums by day, token, chain": sums, "all of these": mixed,
    }  # fmt: skip


def ask(base: str, paths: list[str], clients: int, seconds: int) -> dict[str, Any]:
    """Let so many clients ask for so long."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(paths) + "\n")
        file.flush()
        options = [
            "-t2",
            f"-c{clients}",
            f"-d{seconds}s",
            "--timeout",
            "30s",
            "-s",
            str(SCRIPT),
            base,
            "--",
            file.name,
        ]
        done = subprocess.run(["wrk", *options], capture_output=True, text=True, check=True)  # noqa: S607
    [line] = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    return dict(json.loads(line.removeprefix("RESULT ")))


def far(url: str, base: str, page: int, size: int = 25, times: int = 300) -> tuple[float, float]:
    """Milliseconds, the median, of page 1 and of a page far away, by cursor."""
    wanted = Wanted(tuple(NUMBERS))
    with psycopg.connect(url) as connection:
        query, values = pages.position_before(wanted, (page - 1) * size)
        [at] = connection.execute(query, values).fetchall()
    there = f"/api/transfers?includeTotals=false&cursor={cursor(at, fingerprint(wanted.fingerprint()))}"
    found: list[float] = []
    with httpx.Client(base_url=base) as client:
        for path in ("/api/transfers?includeTotals=false&force=1", there):
            taken: list[float] = []
            for _ in range(times):
                began = time.perf_counter()
                assert client.get(path).status_code == 200
                taken.append((time.perf_counter() - began) * 1e3)
            found.append(statistics.median(taken))
    return found[0], found[1]


@dataclass(frozen=True)
class Running:
    """The API that is measured."""

    process: psutil.Process

    def _all(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def megabytes(self) -> int:
        """Of the largest of its processes."""
        return max(one.memory_info().rss for one in self._all()) >> 20

    def cpu(self) -> float:
        """Seconds, of all of them, so far."""
        return sum(sum(one.cpu_times()[:2]) for one in self._all())


@contextmanager
def running(config: ApiConfig, port: int, processes: int = 1) -> Iterator["Running"]:
    """The API as a process, or as several."""
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(config, port, processes))
    process.start()
    try:
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/api/health", timeout=5).is_success:
                    break
            except httpx.TransportError:
                assert process.is_alive()
                time.sleep(0.1)
        yield Running(psutil.Process(process.pid))
    finally:
        process.terminate()
        process.join()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--seconds", type=int, default=20, help="for each line")
    parser.add_argument("--connections", type=int, default=8, help="of each process to Postgres")
    parser.add_argument("--processes", type=int, default=1, help="of the API, that share the port")
    parser.add_argument("--port", type=int, default=8123)
    options = parser.parse_args()
    url, base = options.database_url, f"http://127.0.0.1:{options.port}"
    questions = draw(url)
    with running(told(url, options.connections), options.port, options.processes) as api:
        before = api.megabytes()
        print(
            f"{'':28}{'clients':>8}{'requests/s':>12}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'CPU ms':>9}{'bad':>6}{'MB':>6}"
        )
        for kind, paths in questions.items():
            for clients in (10, 100):
                began = api.cpu()
                seen = ask(base, paths, clients, options.seconds)
                cpu = (api.cpu() - began) * 1e3 / max(1, seen["requests"])
                print(
                    f"{kind:28}{clients:>8}{seen['requests_per_second']:>12,.0f}{seen['p50_ms']:>9.1f}{seen['p95_ms']:>9.1f}"
                    f"{seen['p99_ms']:>9.1f}{cpu:>9.2f}{seen['bad']:>6}{api.megabytes():>6}",
                    flush=True,
                )
        near, away = far(url, base, 10_000)
        print(f"page 1: {near:.2f} ms, page 10,000: {away:.2f} ms")
        began, size = time.monotonic(), 0
        with httpx.stream("GET", f"{base}/api/transfers/export", timeout=600) as answer:
            for part in answer.iter_raw():
                size += len(part)
        seconds = time.monotonic() - began
        now = api.megabytes()
        print(
            f"all rows as CSV: {size / 1e6:,.0f} MB in {seconds:.0f} s; the process had {before} MB at first, {now} MB at the end"
        )


if __name__ == "__main__":
    main()
