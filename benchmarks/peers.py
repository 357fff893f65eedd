"""The programs that `logs.py` measures us beside, the chain that all of them read, and how their results are read back."""

import csv
import hashlib
import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import httpx

TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
# The only error after which ethereum-etl asks eth_getLogs instead of eth_newFilter: jobs/export_token_transfers_job.py
NO_FILTERS = {"code": -32000, "message": "the method is currently not implemented: eth_newFilter"}

# Each peer runs in a process of its own. Its last line says what the work took, imports left out.
MEASURED = """
import json, os, resource, sys, time
def spent():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
def measured(work):
    began, cpu = time.perf_counter(), spent()
    work()
    print(json.dumps([time.perf_counter() - began, spent() - cpu, peak()]))
def peak():  # not ru_maxrss, which a program has from the one that started it
    try:
        return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
    except OSError:
        return float("nan")
"""
ETL = """
from ethereumetl.cli import cli
def work():
    for command in json.loads(sys.argv[1]):
        cli.main(command, standalone_mode=False)
measured(work)
"""
CRYO = """
import cryo
options = json.loads(sys.argv[1])
measured(lambda: cryo.freeze("erc20_transfers", **options))
sys.stdout.flush()
os._exit(0)  # its threads outlive the interpreter now and then, and bring it down
"""


@dataclass(frozen=True)
class Chain:
    """What is read: blocks 0..`head` of a provider."""

    provider: str
    head: int
    above: int  # blocks that the provider shows above the head, and nobody is to read
    chain_id: int
    start: date
    nfts: frozenset[
        tuple[str, int]
    ]  # ERC-721 transfers, which share their topic with ERC-20: transaction, log index
    transfers: int
    digest: str


@dataclass(frozen=True)
class Measured:
    """One run: seconds, CPU seconds (Postgres included where it is ours), MB at most, requests, calls in them, rows."""

    wall: float
    cpu: float
    peak: float
    rows: int
    requests: float = float("nan")
    calls: float = float("nan")


def call(provider: str, method: str, *params: object) -> object:
    """A JSON-RPC call."""
    question = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = httpx.post(provider, json=question, timeout=120).json()
    if "error" in answer:
        raise SystemExit(f"{provider}: {method}: {answer['error']}")
    return answer["result"]


def digest(lines: Iterable[str]) -> tuple[int, str]:
    """How many, and the hash of all in order. A line: block|transaction|log index|token|from|to|value, lower case."""
    ordered = sorted(lines)
    return len(ordered), hashlib.sha256("\n".join(ordered).encode()).hexdigest()


def look(provider: str, blocks: int | None) -> Chain:
    """The chain, and what every program should find on it: asked a few blocks at a time, for any provider's sake."""
    newest = int(str(call(provider, "eth_blockNumber")), 16)
    head = newest if blocks is None else min(newest, blocks - 1)
    first = call(provider, "eth_getBlockByNumber", "0x1", False)
    assert isinstance(first, dict)
    lines: list[str] = []
    nfts: set[tuple[str, int]] = set()
    for lo in range(0, head + 1, 100):
        asked = {"fromBlock": hex(lo), "toBlock": hex(min(head, lo + 99)), "topics": [TRANSFER]}
        logs = call(provider, "eth_getLogs", asked)
        assert isinstance(logs, list)
        for log in logs:
            topics, index = log["topics"], int(log["logIndex"], 16)
            if len(topics) != 3:
                nfts.add((log["transactionHash"], index))
                continue
            place = f"{int(log['blockNumber'], 16)}|{log['transactionHash']}|{index}|{log['address']}"
            lines.append(f"{place}|0x{topics[1][-40:]}|0x{topics[2][-40:]}|{int(log['data'], 16)}")
    return Chain(
        provider,
        head,
        newest - head,
        int(str(call(provider, "eth_chainId")), 16),
        datetime.fromtimestamp(int(first["timestamp"], 16), UTC).date(),
        frozenset(nfts),
        *digest(lines),
    )


def run(*command: str) -> tuple[tuple[float, float, float], str]:
    """Run a program whose last line is its figures; what it printed before."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stderr[-4000:]}")
    printed, _, figures = done.stdout.rstrip().rpartition("\n")
    wall, cpu, peak = json.loads(figures)
    return (wall, cpu, peak), printed


def etl_lines(chain: Chain, path: Path) -> Iterator[str]:
    """The transfers of a CSV file of ethereum-etl, without the ERC-721 ones among them."""
    with path.open() as file:
        for row in csv.DictReader(file):
            if (row["transaction_hash"], int(row["log_index"])) not in chain.nfts:
                place = f"{row['block_number']}|{row['transaction_hash']}|{row['log_index']}|{row['token_address']}"
                yield f"{place}|{row['from_address']}|{row['to_address']}|{row['value']}"


def etl(chain: Chain, folder: Path, venv: Path, commands: list[list[str]]) -> Measured:
    """Commands of ethereum-etl, the last of which writes `transfers.csv`."""
    filled = [
        [part.format(folder=folder, provider=chain.provider, head=chain.head) for part in c] for c in commands
    ]
    figures, _ = run(str(venv / "bin/python"), "-c", MEASURED + ETL, json.dumps(filled))
    found, hashed = digest(etl_lines(chain, folder / "transfers.csv"))
    assert hashed == chain.digest, (
        f"ethereum-etl found {found} transfers, not the {chain.transfers} there are"
    )
    return Measured(*figures, rows=found)


FILTERS = [
    ["export_token_transfers", "-s", "0", "-e", "{head}", "-p", "{provider}", "-o", "{folder}/transfers.csv"]
]
RECEIPTS = [
    [
        "export_blocks_and_transactions",
        "-s",
        "0",
        "-e",
        "{head}",
        "-p",
        "{provider}",
        "--transactions-output",
        "{folder}/txs.csv",
    ],
    ["extract_csv_column", "-i", "{folder}/txs.csv", "-c", "hash", "-o", "{folder}/hashes.txt"],
    [
        "export_receipts_and_logs",
        "-t",
        "{folder}/hashes.txt",
        "-p",
        "{provider}",
        "--logs-output",
        "{folder}/logs.csv",
    ],
    ["extract_token_transfers", "-l", "{folder}/logs.csv", "-o", "{folder}/transfers.csv"],
]


def cryo(chain: Chain, folder: Path, venv: Path, **options: object) -> Measured:
    """Its `erc20_transfers`; the summary says how many rows it wrote."""
    options |= {
        "rpc": chain.provider,
        "start_block": 0,
        "end_block": chain.head + 1,
        "output_dir": str(folder),
    }
    figures, printed = run(str(venv / "bin/python"), "-c", MEASURED + CRYO, json.dumps(options))
    written = re.search(r"rows written: ([\d,]+)", printed)
    assert written, printed
    assert "chunks errored:   0" in printed, printed
    return Measured(*figures, rows=int(written[1].replace(",", "")))


def check_cryo(chain: Chain, folder: Path, venv: Path) -> None:
    """Once, untimed, as CSV, which can be read without its dependencies: does it find the right transfers?"""
    cryo(chain, folder, venv, file_format="csv", hex=True)
    lines = []
    for path in folder.glob("*.csv"):
        with path.open() as file:
            for row in csv.DictReader(file):
                place = f"{row['block_number']}|{row['transaction_hash']}|{row['log_index']}|{row['erc20']}"
                lines.append(
                    f"{place}|{row['from_address']}|{row['to_address']}|{int(row['value_binary'], 16)}"
                )
    found, hashed = digest(lines)
    assert hashed == chain.digest, f"cryo found {found} transfers, not the {chain.transfers} there are"


def has_filters(provider: str) -> bool:
    """Whether ethereum-etl's `export_token_transfers` works as it is: filters, or the one refusal that it understands."""
    question = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "eth_newFilter",
        "params": [{"fromBlock": "0x0", "toBlock": "0x0"}],
    }
    answer = httpx.post(provider, json=question, timeout=60).json()
    return "result" in answer or answer["error"] == NO_FILTERS
