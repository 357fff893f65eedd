"""Every ERC-20 transfer of a whole chain, from logs to where each program keeps them, beside ethereum-etl and cryo.

All of them read the same provider, one after the other, and again in another order. We write to an empty
database with identity, coverage and evidence; ethereum-etl writes CSV, cryo Parquet. What is compared is the time
from the first question to the last row kept, without the start of an interpreter; ratios only, for times are the
machine's. Every run must end with the same transfers: block, transaction, log index, token, both ends and value.

The peers need environments of their own, with Python 3.11. ethereum-etl imports pkg_resources, which setuptools no
longer has since 81, and asks for a parser that Python 3.11 cannot import; the newer one has to be forced on it.

    python3.11 -m venv etl && etl/bin/pip install ethereum-etl==2.4.2 "setuptools<81"
    etl/bin/pip install parsimonious==0.10.0      # pip warns that eth-abi wants an older one
    python3.11 -m venv cryo && cryo/bin/pip install cryo==0.3.2
    python benchmarks/logs.py --provider http://127.0.0.1:8545 --etl etl --cryo cryo --repeats 5

Any node or provider will do that answers eth_getLogs, eth_getBlockByNumber and eth_getTransactionReceipt, has all its
history and keeps still. One that serves a recording from memory measures the programs rather than the node. Requests
are counted where the provider gives `/_control/stats`; ethereum-etl's `export_token_transfers` is left out where neither
eth_newFilter nor `/_control/faults` is to be had. logs.md has a table, what is compared, and what was tried.
"""

import argparse
import atexit
import json
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
from peers import (
    FILTERS,
    NO_FILTERS,
    RECEIPTS,
    Chain,
    Measured,
    check_cryo,
    cryo,
    digest,
    etl,
    has_filters,
    look,
    run,
)

ROWS = """
    SELECT concat_ws('|', block_number, tx_hash, log_index, token_address, from_address, to_address, value)
    FROM raw.evm_erc20_transfers"""
WHOLE = "SELECT min(lo), max(hi), sum(hi - lo + 1), array_agg(DISTINCT evidence) FROM ops.coverage"


def cpu_of(process: psutil.Process) -> float:
    """CPU seconds of a process and of its children, those that have ended included."""
    times = process.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in process.children(recursive=True):
        try:
            spent = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += spent.user + spent.system
    return total


class Databases:
    """A server of our own; an empty, migrated database for each run."""

    def __init__(self, folder: Path) -> None:
        from ingestion_assets import migrations
        from ingestion_assets.engine import database

        self._url = database.embedded(folder)
        self._made = 0
        self.postmaster = psutil.Process(int((folder / "postmaster.pid").read_text().split()[0]))
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE model")
        database.migrate(self._named("model"), migrations.SCRIPTS)

    def _named(self, name: str) -> str:
        return str(httpx.URL(self._url).copy_with(path=f"/{name}"))

    @contextmanager
    def empty(self) -> Iterator[str]:
        """The url of one."""
        self._made += 1
        name = f"run_{self._made}"
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE model")
            connection.execute("CHECKPOINT")
            yield self._named(name)
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def ours(chain: Chain, databases: Databases, evidence: str) -> Measured:
    """We, in a process of our own, as a run of the asset would read all its days."""
    with databases.empty() as url:
        before = cpu_of(databases.postmaster)
        task = json.dumps(
            {
                "provider": {"kind": "rpc", "url": chain.provider, "evidence": evidence},
                "chain_id": chain.chain_id,
                "start": str(chain.start),
                "database": url,
                "above": chain.above,
            }
        )
        (wall, cpu, peak), _ = run(sys.executable, __file__, "--ours", task)
        cpu += cpu_of(databases.postmaster) - before
        with psycopg.connect(url) as connection:
            found, hashed = digest(row[0] for row in connection.execute(ROWS))
            whole = connection.execute(WHOLE).fetchone()
    assert hashed == chain.digest, f"we found {found} transfers, not the {chain.transfers} there are"
    assert whole is not None
    assert whole[1:3] == (chain.head, chain.head + 1 - whole[0]), f"not covered from end to end: {whole}"
    return Measured(wall, cpu, peak, rows=found)


def drain_ours(task: dict[str, Any]) -> None:
    """The timed part of `ours`: everything from sources.yaml's words on."""
    from ingestion_assets.engine.drain import drain
    from ingestion_assets.engine.store import Store, connection_pool
    from ingestion_assets.sources.evm.chains import Chains
    from ingestion_assets.sources.evm.config import ChainConfig
    from ingestion_assets.sources.evm.records import ERC20_TRANSFERS

    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    began, cpu = time.perf_counter(), spent()
    config = ChainConfig.model_validate(
        {
            "chain_id": task["chain_id"],
            "start": date.fromisoformat(task["start"]),
            "finality": {"depth": task["above"]},
            "providers": [task["provider"]],
            "tokens": ["*"],
        }
    )
    pool = connection_pool(task["database"])
    store = Store(pool)
    chains = Chains({"bench": config}, {}, store)
    days = ((config.start, datetime.now(UTC).date() + timedelta(days=1)),)
    streams = chains.streams(ERC20_TRANSFERS, "bench", days)
    drain(streams, store, read_ahead=chains.read_ahead(["bench"]), writers=2)  # as the asset has it
    chains.close()
    pool.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([time.perf_counter() - began, spent() - cpu, peak]))


class Counter:
    """Requests that the provider has answered, where it counts them."""

    def __init__(self, provider: str) -> None:
        self._url = provider.rstrip("/") + "/_control/"
        try:
            self.counts = httpx.get(self._url + "stats").status_code == 200 and "requests" in self._stats()
        except (httpx.HTTPError, ValueError):
            self.counts = False

    def _stats(self) -> dict[str, int]:
        found = httpx.get(self._url + "stats").json()
        assert isinstance(found, dict)
        return found

    def so_far(self) -> tuple[float, float]:
        """HTTP requests, and calls in them (a batch holds several)."""
        if not self.counts:
            return float("nan"), float("nan")
        stats, methods = self._stats(), httpx.get(self._url + "methods").json()
        return stats["requests"], sum(methods.values())

    @contextmanager
    def refusing_filters(self) -> Iterator[None]:
        """Meanwhile the provider says no to eth_newFilter in the words that ethereum-etl understands."""
        rule = {"kind": "rpc_error", "match": {"rpc": "eth_newFilter"}, **NO_FILTERS}
        httpx.post(self._url + "faults", json={"seed": 1, "rules": [rule]}).raise_for_status()
        try:
            yield
        finally:
            httpx.delete(self._url + "faults")


def measure(options: argparse.Namespace, folder: Path) -> tuple[Chain, dict[str, list[Measured]]]:
    """All programs, `repeats` times, each time beginning with another one."""
    chain = look(options.provider, options.blocks)
    counter = Counter(options.provider)
    databases = Databases(folder / "postgres")

    def told(at: Path) -> Measured:
        with counter.refusing_filters():
            return etl(chain, at, options.etl, FILTERS)

    runs: dict[str, Callable[[Path], Measured]] = {
        "ours, stated": lambda _: ours(chain, databases, "stated"),
        "ours, header": lambda _: ours(chain, databases, "header"),
    }
    if options.cryo:
        check_cryo(chain, Path(tempfile.mkdtemp(dir=folder)), options.cryo)
        runs["cryo, as it comes"] = lambda at: cryo(chain, at, options.cryo)
        runs["cryo, tuned"] = lambda at: cryo(
            chain, at, options.cryo, inner_request_size=options.inner_request_size
        )
    if options.etl:
        if has_filters(options.provider):
            runs["ethereum-etl, logs"] = lambda at: etl(chain, at, options.etl, FILTERS)
        elif counter.counts:
            runs["ethereum-etl, logs"] = told
        runs["ethereum-etl, receipts"] = lambda at: etl(chain, at, options.etl, RECEIPTS)
    runs = {name: one for name, one in runs.items() if not any(name.startswith(s) for s in options.skip)}
    found: dict[str, list[Measured]] = {name: [] for name in runs}
    names = list(runs)
    for repeat in range(options.repeats):
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            at = Path(tempfile.mkdtemp(dir=folder))
            before = counter.so_far()
            one = runs[name](at)
            requests, calls = (b - a for a, b in zip(before, counter.so_far(), strict=True))
            found[name].append(replace(one, requests=requests, calls=calls))
            shutil.rmtree(at)
            print(f"{repeat + 1}/{options.repeats} {name}: {one.wall:.2f} s", file=sys.stderr)
    return chain, found


def table(chain: Chain, found: dict[str, list[Measured]], base: str) -> str:
    """Medians over the repeats; times and CPU as multiples of `base` in the same repeat."""
    lines = [
        f"| {chain.head + 1} blocks, {chain.transfers} transfers | time (least … most) | CPU | MB | requests / 1,000 blocks | calls | rows |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]
    thousands = (chain.head + 1) / 1000
    for name, runs in found.items():
        times = [run.wall / own.wall for run, own in zip(runs, found[base], strict=True)]
        cpu = [run.cpu / own.cpu for run, own in zip(runs, found[base], strict=True)]
        requests, calls = (
            statistics.median(getattr(run, what) for run in runs) / thousands
            for what in ("requests", "calls")
        )
        assert {run.rows for run in runs} == {chain.transfers}, name
        lines.append(
            f"| {name} | {statistics.median(times):.2f} × ({min(times):.2f} … {max(times):.2f}) | {statistics.median(cpu):.2f} × "
            f"| {statistics.median(run.peak for run in runs):.0f} | {requests:,.1f} | {calls:,.1f} | {runs[0].rows} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--provider", help="url of a JSON-RPC provider that holds still")
    parser.add_argument("--etl", type=Path, help="virtual environment with ethereum-etl 2.4.2")
    parser.add_argument("--cryo", type=Path, help="virtual environment with cryo 0.3.2")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--blocks", type=int, help="only so many, from the first")
    parser.add_argument(
        "--inner-request-size", type=int, default=100, help="of cryo, tuned: blocks a question"
    )
    parser.add_argument("--skip", nargs="*", default=[], help="programs whose names begin like this")
    parser.add_argument("--ours", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours:
        drain_ours(json.loads(options.ours))
        return
    if not options.provider:
        parser.error("--provider is needed")
    folder = Path(tempfile.mkdtemp())
    # Registered first, so it runs after the server's end.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    chain, found = measure(options, folder)
    print(table(chain, found, next(iter(found))))


if __name__ == "__main__":
    main()
