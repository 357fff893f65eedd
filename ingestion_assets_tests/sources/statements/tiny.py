"""Statement files that the tests write, and an inbox to drop them into.

As a program it imports a folder, to be killed: `python -m … URL FOLDER SEED`.
"""

import os
import random
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.store import Store, connection_pool
from ingestion_assets.sources.statements.config import StatementsConfig
from ingestion_assets.sources.statements.inbox import Inbox, Look
from ingestion_assets.sources.statements.movement_stream import AccountMovements
from ingestion_assets.sources.statements.registry import Registry
from ingestion_assets.sources.statements.snapshot_stream import AccountSnapshots
from ingestion_assets.sources.statements.streams import FileLines

NOW = 1_767_000_000.0  # 2025-12-29
HEADER = (
    "Date,Type,Sub Type,Action,Symbol,Instrument Type,Description,Value,Quantity,Average Price,Commissions,Fees,"
    "Multiplier,Root Symbol,Underlying Symbol,Expiration Date,Strike Price,Call or Put,Order #,Total,Currency"
)


def fill(minute: int, *, value: str = "-100.00", order: int = 1, day: int = 3) -> str:
    """One fill of an order, in the export of 21 columns."""
    return (
        f"2025-03-{day:02}T15:{minute:02}:00+0100,Trade,Buy to Open,BUY_TO_OPEN,ABC,Equity,Bought 1 ABC,{value},1,"
        f"{value},0.00,-0.08,,,,,,,{order},-100.08,USD"
    )


def history(*fills: str) -> str:
    """A Tastytrade export."""
    return "\n".join((HEADER, *fills))


def legacy(export: str) -> str:
    """The same export as it was before it had a Total."""
    return "\n".join(",".join((*line.split(",")[:-2], line.split(",")[-1])) for line in export.splitlines())


@dataclass
class Dropped:
    """An inbox on a store, whose files do not change by themselves."""

    folder: Path
    store: Store
    config: StatementsConfig = field(default_factory=lambda: StatementsConfig(inbox="inbox"))
    now: float = NOW

    @property
    def inbox(self) -> Inbox:
        """Opened anew each time, as each process does."""
        return Inbox(self.folder, self.config, Registry(self.store), now=lambda: self.now)

    def put(self, path: str, content: str | bytes, *, age: float = 3600) -> Path:
        """Drop a file, written so many seconds ago."""
        full = self.folder / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_bytes(content.encode() if isinstance(content, str) else content)
        os.utime(full, (self.now - age, self.now - age))
        return full

    def look(self) -> Look:
        """One look of the sensor."""
        return self.inbox.look()

    def streams(self, chunk: int = 3) -> list[FileLines]:
        """One for each registered file."""
        inbox = self.inbox
        return [
            FileLines(file, self.folder, self.config.first_week, inbox.last_week(), chunk)
            for file in inbox.registry.files()
        ]

    def imported(self, chunk: int = 3):
        """Look, and drain what was found."""
        self.look()
        return drain(self.streams(chunk), self.store)

    def accounts(self) -> list[str]:
        """Those that have files."""
        return sorted({file.account for file in self.inbox.registry.files()})

    def derived(self, chunk: int = 3, accounts: Iterable[str] | None = None):
        """Movements of these accounts, or of all, and their snapshots."""
        names = list(self.accounts() if accounts is None else accounts)
        first = drain([AccountMovements(name, self.store, chunk=chunk) for name in names], self.store)
        second = drain([AccountSnapshots(name, self.store, chunk=chunk) for name in names], self.store)
        return first, second


DERIVED = {
    "movements": "core.movements", "lots": "core.lots", "closings": "core.closings", "tickers": "core.ticker_snapshots",
    "accounts": "core.broker_snapshots",
}  # fmt: skip
LETTERS = "SELECT stream, lo, hi, reason, raw FROM ops.dead_letters WHERE settled_at IS NULL"


def everything(connection) -> dict[str, list[tuple]]:
    """All that is stored of statements, whatever was done to get there."""
    tables = {
        name: connection.execute(f"SELECT * FROM {table}").fetchall() for name, table in DERIVED.items()
    }
    tables |= {"lines": stored(connection), "letters": connection.execute(LETTERS).fetchall()}
    return {name: sorted(rows, key=str) for name, rows in tables.items()}


COLUMNS = "account, at, dialect, section, ordinal, payload::text, raw, file, line, id::text"


def stored(connection, columns: str = COLUMNS) -> list[tuple]:
    """The lines in the table, in an order of their own."""
    return sorted(connection.execute(f"SELECT {columns} FROM raw.statement_lines").fetchall(), key=str)


def raws(connection) -> list[str]:
    """The lines verbatim, those that stand several times so many times."""
    return [raw for (raw,) in stored(connection, "raw")]


def same(lines: Iterable[str]) -> list[str]:
    """What `raws` should be."""
    return sorted(lines, key=str)


def main(url: str, folder: str, seed: str, phase: str = "all") -> None:
    """Import all that lies in a folder, and derive what follows, in an order and in chunks that the seed decides."""
    chance = random.Random(int(seed))
    with connection_pool(url) as pool:
        dropped = Dropped(Path(folder), Store(pool), now=time.time())
        dropped.look()
        streams = dropped.streams(chance.randint(50, 400))
        chance.shuffle(streams)
        if phase == "all" and chance.random() < 0.5:  # what is derived of a part is derived again
            drain(streams[: len(streams) // 2], dropped.store)
            dropped.derived(chance.randint(5, 200))
        if phase == "all":
            drained = drain(
                streams, dropped.store, read_ahead=chance.randint(0, 2), writers=chance.randint(1, 2)
            )
            assert not drained.failed
        dropped.derived(chance.randint(5, 400))


if __name__ == "__main__":
    main(*sys.argv[1:])
