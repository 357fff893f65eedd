"""Rows per second from an explorer to committed rows, and what share of the work goes where.

An explorer in a process of its own serves the token transfers of one account, made on the fly; the real
stream reads them over HTTP and the real store commits them to the embedded Postgres. All three share
the machine. CPU is what the operating system charged to each, in microseconds a row; memory is ours alone.

    python benchmarks/rows.py --rows 1000000 --page-size 1000 --repeat 3
"""

import argparse
import atexit
import multiprocessing
import resource
import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import psutil
import psycopg
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingestion_assets import migrations
from ingestion_assets.engine import database
from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.store import Store, connection_pool
from ingestion_assets.sources.evm.chains import Chains
from ingestion_assets.sources.evm.config import ChainConfig
from ingestion_assets.sources.evm.records import TOKEN_TRANSFERS

ACCOUNT = "0x" + "ac" * 20
PER_BLOCK = 10
GENESIS = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())

RECORD = (
    b'{"blockNumber":"%d","timeStamp":"%d","hash":"0x%064x","nonce":"%d","blockHash":"0x%064x",'
    b'"from":"0x%040x","contractAddress":"0x7fc66500c84a76ad7e9c93437bfc5ac33e2ddae9","to":"'
    + ACCOUNT.encode()
    + b'",'
    b'"value":"%d","tokenName":"Aave Token","tokenSymbol":"AAVE","tokenDecimal":"18","transactionIndex":"%d",'
    b'"gas":"1940000","gasPrice":"13600000000","gasUsed":"1206370","cumulativeGasUsed":"12063700",'
    b'"input":"deprecated","methodId":"0xa9059cbb","functionName":"transfer(address _to, uint256 _value)",'
    b'"confirmations":"8205100"}'
)


def record(number: int) -> bytes:
    """The number-th transfer of the account."""
    block = number // PER_BLOCK
    mixed = number * 0x9E3779B97F4A7C15 % 2**64
    return RECORD % (
        block,
        GENESIS + block * 12,
        mixed << 190,
        number % 997,
        block * 7919 << 180,
        mixed << 90,
        mixed,
        number % 200,
    )


def explorer(rows: int, port: int) -> None:
    """Serve the account's history, as Etherscan does, until killed."""

    async def api(request: Request) -> Response:
        asked = request.query_params
        if asked["module"] == "proxy":
            result: object = hex(rows // PER_BLOCK - 1)
            if asked["action"] == "eth_getBlockByNumber":
                number = int(asked["tag"], 16)
                result = {
                    "number": asked["tag"],
                    "hash": f"0x{number:064x}",
                    "parentHash": f"0x{max(0, number - 1):064x}",
                    "timestamp": hex(GENESIS + number * 12),
                }
            return JSONResponse({"jsonrpc": "2.0", "id": 1, "result": result})
        if asked["module"] == "block":
            return Response('{"status":"0","message":"NOTOK","result":"Error! No closest block found"}')
        first = int(asked["startblock"]) * PER_BLOCK
        last = min(rows, (int(asked["endblock"]) + 1) * PER_BLOCK, first + int(asked["offset"]))
        page = b",".join(map(record, range(first, last)))
        return Response(
            b'{"status":"1","message":"OK","result":[' + page + b"]}", media_type="application/json"
        )

    uvicorn.run(
        Starlette(routes=[Route("/v2/api", api)]),
        host="127.0.0.1",
        port=port,
        log_level="error",
        access_log=False,
    )


@contextmanager
def served(rows: int) -> Iterator[tuple[str, psutil.Process]]:
    """The explorer's url and process."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(target=explorer, args=(rows, port), daemon=True)
    process.start()
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.05)
    yield f"http://127.0.0.1:{port}/v2/api", psutil.Process(process.pid)
    process.kill()
    process.join()


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


def measure(
    url: str,
    postgres: psutil.Process,
    source: tuple[str, psutil.Process],
    rows: int,
    options: argparse.Namespace,
) -> dict[str, float]:
    """Drain the whole history into empty tables once."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("TRUNCATE raw.evm_token_transfers, ops.coverage, ops.block_times, ops.headers")
        connection.execute("CHECKPOINT")
    pool = connection_pool(url)
    store = Store(pool)
    config = ChainConfig.model_validate(
        {
            "chain_id": 1,
            "start": "2024-01-01",
            "finality": {"depth": 0},
            "providers": [
                {
                    "kind": "etherscan",
                    "url": source[0],
                    "page_size": options.page_size,
                    "result_window": options.page_size,
                }
            ],
            "addresses": [ACCOUNT],
        }
    )
    chains = Chains({"bench": config}, {}, store)
    streams = chains.streams(TOKEN_TRANSFERS, "bench", ((date(2024, 1, 1), date(2030, 1, 1)),))
    me = psutil.Process()
    resident: list[int] = []
    before = (time.process_time(), cpu_of(postgres), cpu_of(source[1]))
    started = time.perf_counter()
    drained = drain(
        streams,
        store,
        read_ahead=options.read_ahead,
        on_commit=_every(10, lambda: resident.append(me.memory_info().rss)),
    )
    wall = time.perf_counter() - started
    after = (time.process_time(), cpu_of(postgres), cpu_of(source[1]))
    chains.close()
    pool.close()
    assert drained.tally.inserted == rows, drained.tally
    ours, theirs, upstream = ((b - a) / rows * 1e6 for a, b in zip(before, after, strict=True))
    return {
        "rows/s": rows / wall,
        "wall s": wall,
        "our CPU µs/row": ours,
        "Postgres CPU µs/row": theirs,
        "explorer CPU µs/row": upstream,
        "our MB after a quarter": resident[len(resident) // 4] / 2**20,
        "our MB at the end": resident[-1] / 2**20,
        "our peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
    }


def _every(n: int, act: Callable[[], None]) -> Callable[..., None]:
    seen = 0

    def count(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen % n == 1:
            act()

    return count


def main() -> None:
    """Measure and print medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--page-size", type=int, default=1_000)
    parser.add_argument("--read-ahead", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    folder = tempfile.mkdtemp()
    atexit.register(
        shutil.rmtree, folder, ignore_errors=True
    )  # registered first, so it runs after the server's end
    with served(options.rows) as source:
        url = database.embedded(Path(folder) / "postgres")
        database.migrate(url, migrations.SCRIPTS)
        postmaster = psutil.Process(
            int((Path(folder) / "postgres" / "postmaster.pid").read_text().split()[0])
        )
        runs = [measure(url, postmaster, source, options.rows, options) for _ in range(options.repeat)]
    print(
        f"{options.rows} rows, pages of {options.page_size}, read ahead {options.read_ahead}; median of {options.repeat}"
    )
    for name in runs[0]:
        values = [run[name] for run in runs]
        print(f"  {name:24} {statistics.median(values):12,.1f}   ({min(values):,.1f} … {max(values):,.1f})")


if __name__ == "__main__":
    main()
