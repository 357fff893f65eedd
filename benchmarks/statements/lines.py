"""Lines per second from a Tastytrade history to committed rows, and the memory that it takes.

A history of made-up fills, a fifth of them equal to the one before, is registered and then drained by the real store into
the embedded Postgres. Both share the machine, so the CPU that the operating system charged to us is told beside the
time of the clock. Memory is ours alone, above the process before the file was opened.

    python benchmarks/statements/lines.py --lines 1000000
"""

import argparse
import random
import resource
import shutil
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from ingestion_assets import migrations
from ingestion_assets.engine import database
from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.store import Store, connection_pool
from ingestion_assets.sources.statements.config import StatementsConfig
from ingestion_assets.sources.statements.inbox import Inbox
from ingestion_assets.sources.statements.registry import Registry
from ingestion_assets.sources.statements.streams import READ_AHEAD, WRITERS, FileLines

HEADER = (
    "Date,Type,Sub Type,Action,Symbol,Instrument Type,Description,Value,Quantity,Average Price,Commissions,Fees,"
    "Multiplier,Root Symbol,Underlying Symbol,Expiration Date,Strike Price,Call or Put,Order #,Total,Currency\n"
)


def history(path: Path, lines: int) -> None:
    """Write an export, newest line first."""
    chance = random.Random(7)
    at = datetime.now(UTC) - timedelta(days=1)
    with path.open("w", encoding="utf-8") as opened:
        opened.write(HEADER)
        line = ""
        for number in range(lines):
            if not number or chance.random() > 0.2:
                at -= timedelta(seconds=chance.choice((0, 1, 40, 300)))
                quantity, cents = chance.randint(1, 9), chance.randint(1, 999)
                value = quantity * cents
                line = (
                    f"{at:%Y-%m-%dT%H:%M:%S%z},Trade,Sell to Open,SELL_TO_OPEN,ABC   251017C00005500,Equity Option,"
                    f"Sold {quantity} ABC 10/17/25 Call 5.50 @ {cents / 100:.2f},{value}.00,{quantity},{cents}.00,"
                    f"-{quantity}.00,-0.{quantity}2,100,ABC,ABC,10/17/25,5.5,CALL,{number // 3},{value}.00,USD\n"
                )
            opened.write(line)


def main() -> None:
    """Measure once and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--writers", type=int, default=WRITERS)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ingestion_bench_"))
    try:
        measure(folder, arguments.lines, arguments.writers)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(folder: Path, lines: int, writers: int) -> None:
    """Register and import one file."""
    inbox_folder = folder / "inbox"
    inbox_folder.mkdir()
    history(inbox_folder / "history.csv", lines)
    url = database.embedded(folder / "postgres")
    database.migrate(url, migrations.SCRIPTS)
    with connection_pool(url) as pool:
        store = Store(pool)
        inbox = Inbox(inbox_folder, StatementsConfig(inbox="inbox", settle_seconds=0), Registry(store))
        idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with Clock("registered", lines):
            (file,) = inbox.look(seconds=float("inf")).new
        stream = FileLines(file, inbox_folder, inbox.config.first_week, inbox.last_week())
        with Clock("committed", lines):
            drained = drain([stream], store, read_ahead=READ_AHEAD, writers=writers)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - idle
    assert drained.tally.inserted == lines, drained
    print(f"memory: {grown / 1024:.0f} MB above the idle process")


class Clock:
    """Prints what a part took.

    Args:
        what: was done with the lines.
        lines: how many.
    """

    def __init__(self, what: str, lines: int) -> None:
        self._what = what
        self._lines = lines

    def __enter__(self) -> None:
        """Begin."""
        self._began, self._cpu = time.perf_counter(), psutil.Process().cpu_times()

    def __exit__(self, *_: object) -> None:
        """End."""
        seconds = time.perf_counter() - self._began
        now = psutil.Process().cpu_times()
        cpu = now.user + now.system - self._cpu.user - self._cpu.system
        print(
            f"{self._what}: {self._lines / seconds:,.0f} lines/s, {cpu / self._lines * 1e6:.1f} µs of our CPU a line"
        )


if __name__ == "__main__":
    main()
