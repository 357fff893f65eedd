"""Movements and snapshots per second, from stored lines to committed rows, and the memory that they take.

A made-up Tastytrade history is stored first, which is not measured. Options are opened and closed again, one to nine contracts
a line: each contract is a movement. Both phases share the machine with the embedded Postgres.

    python benchmarks/statements/movements.py --lines 200000
"""

import argparse
import random
import resource
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lines import HEADER, Clock

from ingestion_assets import migrations
from ingestion_assets.engine import database
from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.store import Store, connection_pool
from ingestion_assets.engine.stream import Stream
from ingestion_assets.sources.statements.config import StatementsConfig
from ingestion_assets.sources.statements.inbox import Inbox
from ingestion_assets.sources.statements.movement_stream import AccountMovements
from ingestion_assets.sources.statements.registry import Registry
from ingestion_assets.sources.statements.snapshot_stream import AccountSnapshots
from ingestion_assets.sources.statements.streams import FileLines


def history(path: Path, lines: int) -> None:
    """Write an export, oldest line first: each position is opened, and closed an hour later."""
    chance = random.Random(7)
    at = datetime.now(UTC) - timedelta(seconds=400 * lines)
    with path.open("w", encoding="utf-8") as opened:
        opened.write(HEADER)
        for number in range(lines // 2):
            at += timedelta(seconds=chance.choice((3, 40, 300)))
            quantity, cents, strike = chance.randint(1, 9), chance.randint(1, 999), chance.randint(5, 40)
            for action, sign, moment in (("Open", 1, at), ("Close", -1, at + timedelta(hours=1))):
                side = ("Sell", "SELL") if sign > 0 else ("Buy", "BUY")
                opened.write(
                    f"{moment:%Y-%m-%dT%H:%M:%S%z},Trade,{side[0]} to {action},{side[1]}_TO_{action.upper()},ABC   301018C000{strike:02}500,"
                    f"Equity Option,{side[0]} {quantity} ABC @ {cents / 100:.2f},{sign * quantity * cents}.00,{quantity},{cents}.00,"
                    f"-{quantity}.00,-0.{quantity}2,100,ABC,ABC,10/18/30,{strike}.5,CALL,{number},0.00,USD\n"
                )


def main() -> None:
    """Measure once and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--lines", type=int, default=200_000)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ingestion_bench_"))
    try:
        measure(folder, arguments.lines)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(folder: Path, lines: int) -> None:
    """Store a history, then derive what follows from it."""
    inbox_folder = folder / "inbox"
    inbox_folder.mkdir()
    history(inbox_folder / "history.csv", lines)
    url = database.embedded(folder / "postgres")
    database.migrate(url, migrations.SCRIPTS)
    with connection_pool(url) as pool:
        store = Store(pool)
        inbox = Inbox(inbox_folder, StatementsConfig(inbox="inbox", settle_seconds=0), Registry(store))
        (file,) = inbox.look(seconds=float("inf")).new
        drain([FileLines(file, inbox_folder, inbox.config.first_week, inbox.last_week())], store, writers=2)
        count = store.transaction(
            lambda c: c.execute("SELECT sum((payload->>'quantity')::int) FROM raw.statement_lines").fetchone()
        )
        assert count is not None
        streams: tuple[Stream, ...] = (
            AccountMovements(file.account, store),
            AccountSnapshots(file.account, store),
        )
        idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for stream in streams:
            with Clock(stream.keys[0].split("/")[1], int(count[0])):
                drain([stream], store, read_ahead=1)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - idle
    print(f"memory: {grown / 1024:.0f} MB above the process before")


if __name__ == "__main__":
    main()
