"""Raw transfers in a line each, and what the store should be when all of them are merged: written in Python, as the store is not."""

import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from psycopg.types.json import Jsonb

from ingestion_assets.engine import marks
from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.stream import Covered, Drained, Evidence
from ingestion_assets.sources.transfers.streams import Changes, OutdatedTotals

CHAIN = "base"
LOGS, LISTS = "raw.evm_erc20_transfers", "raw.evm_token_transfers"
GENESIS = datetime(2024, 1, 28, tzinfo=UTC)
EVER = ((date(2009, 1, 3), date(2100, 1, 1)),)


def address(number: int) -> str:
    """An address."""
    return f"0x{number:040x}"


@dataclass(frozen=True)
class Transfer:
    """One transfer: four blocks are a day, the fifth day is the first of the next month."""

    block: int
    tx: int = 0
    sender: int = 1
    receiver: int = 2
    token: int = 9
    value: int = 5
    ordinal: int = 0
    log_index: int | None = None
    provider: str = "rpc"
    hours: int = 0  # that its provider is wrong by

    @property
    def time(self) -> datetime:
        """Of its block."""
        return GENESIS + timedelta(hours=6 * self.block + self.hours)

    def columns(self, chain: str) -> dict[str, object]:
        """As both raw tables have them."""
        key = (
            f"0x{self.block * 100 + self.tx:064x}",
            address(self.sender),
            address(self.receiver),
            address(self.token),
        )
        return {
            "chain": chain, "block_number": self.block, "block_time": self.time, "tx_hash": key[0], "from_address": key[1],
            "to_address": key[2], "token_address": key[3], "value": self.value, "ordinal": self.ordinal,
            "log_index": self.log_index, "provider": self.provider, "payload": Jsonb({"by": self.provider}),
            "id": uuid.uuid5(uuid.NAMESPACE_OID, repr((*key, self.value, self.ordinal))),
        }  # fmt: skip


def from_logs(connection, *transfers: Transfer, chain: str = CHAIN) -> None:
    """Store these as read from logs, where each has its index."""
    for transfer in transfers:
        columns = transfer.columns(chain) | {"block_hash": "0x"}
        columns["log_index"] = transfer.tx * 10 + transfer.ordinal
        _insert(connection, LOGS, columns)


def from_lists(connection, *transfers: Transfer, chain: str = CHAIN) -> None:
    """Store these as an explorer lists them, with what it knows of their token."""
    for transfer in transfers:
        known = {"token_symbol": f"T{transfer.token}", "token_decimals": 6, "provider": "list"}
        _insert(connection, LISTS, transfer.columns(chain) | known)


def _insert(connection, table, columns) -> None:
    names = ", ".join(columns)
    values = ", ".join(f"%({name})s" for name in columns)
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({values}) ON CONFLICT DO NOTHING", columns)


def remove(connection, table: str, lo: int, hi: int, chain: str = CHAIN) -> None:
    """As a reorganisation does."""
    connection.execute(
        f"DELETE FROM {table} WHERE chain = %s AND block_number BETWEEN %s AND %s", [chain, lo, hi]
    )


def cover(connection, stream: str, lo: int, hi: int, level: str = "stated") -> None:
    """Say of a raw stream that blocks are whole."""
    with connection.transaction():
        marks.cover(connection, [stream], Covered(lo, hi, Evidence(level, "rpc")))


def normalise(store, *, days=EVER, chain: str = CHAIN, begin: date | None = None) -> Drained:
    """What a run of both assets does; the outcome of the first."""
    drained = drain([Changes(store, chain, days, begin)], store)
    drain([OutdatedTotals(store, chain, days)], store)
    return drained


COLUMNS = "chain, block_number, block_time, tx_hash, from_address, to_address, token_address, value, ordinal, log_index"
TOLD = "token_symbol, token_decimals, provider, payload"


def stored(connection) -> dict[tuple[object, ...], tuple[object, ...]]:
    """The store: what it says of each transfer."""
    query = f"SELECT chain, block_number, id, {COLUMNS}, {TOLD} FROM core.transfers"
    rows = connection.execute(query).fetchall()
    found = {row[:3]: _plain(row[3:]) for row in rows}
    assert len(found) == len(rows)
    return found


def merged(connection, since: date = date.min) -> dict[tuple[object, ...], tuple[object, ...]]:
    """What the store should say, from the raw tables."""
    logs = _read(
        connection, LOGS, "NULL::text AS token_symbol, NULL::int AS token_decimals, provider, payload"
    )
    lists = _read(connection, LISTS, TOLD)
    found = {}
    for key in logs.keys() | lists.keys():
        log, listed = logs.get(key), lists.get(key)
        best = log or listed
        row = (*best[:9], best[9] if best[9] is not None else listed and listed[9], *(listed or log)[10:])
        if row[2].date() >= since:
            found[key] = row
    return found


def _read(connection, table, told):
    rows = connection.execute(f"SELECT chain, block_number, id, {COLUMNS}, {told} FROM {table}").fetchall()
    return {row[:3]: _plain(row[3:]) for row in rows}


def _plain(row):
    return tuple(value.astimezone(UTC) if isinstance(value, datetime) else str(value) if isinstance(value, dict) else value for value in row)  # fmt: skip


def totals(connection) -> dict[tuple[object, ...], tuple[object, ...]]:
    """The stored totals, by chain, day and token."""
    return {row[:3]: row[3:] for row in connection.execute("SELECT * FROM core.transfer_daily_totals")}


def added_up(rows) -> dict[tuple[object, ...], tuple[object, ...]]:
    """What the totals of these transfers are."""
    count: Counter = Counter()
    volume: defaultdict = defaultdict(Decimal)
    parties: defaultdict = defaultdict(set)
    for chain, _, time, _, sender, receiver, token, value, *_ in rows:
        cell = (chain, time.date(), token)
        count[cell] += 1
        volume[cell] += value
        parties[cell] |= {sender, receiver}
    return {cell: (count[cell], volume[cell], len(parties[cell])) for cell in count}


def coverage(connection, family: str) -> list[tuple[object, ...]]:
    """The covered ranges of the streams of `evm` or `transfers`, without the family's name."""
    query = """
        SELECT substr(stream, strpos(stream, '/') + 1), lo, hi, evidence, provider FROM ops.coverage
        WHERE split_part(stream, '/', 1) = %s ORDER BY 1, 2"""
    return connection.execute(query, [family]).fetchall()


def assert_right(connection, since: date = date.min) -> None:
    """The store, its totals and its coverage are what the raw tables make them, and nothing is left to do."""
    expected = merged(connection, since)
    assert stored(connection) == expected
    assert totals(connection) == added_up(expected.values())
    for table in ("ops.transfer_changes", "ops.transfer_cells"):
        assert connection.execute(f"SELECT * FROM {table}").fetchall() == []
    if since == date.min:
        assert coverage(connection, "transfers") == coverage(connection, "evm")


def snapshot(connection) -> dict[str, object]:
    """All of it."""
    return {
        "transfers": stored(connection),
        "totals": totals(connection),
        "coverage": coverage(connection, "transfers"),
        "floors": connection.execute("SELECT chain, day, block FROM ops.transfer_floors").fetchall(),
        "left": connection.execute("SELECT count(*) FROM ops.transfer_changes").fetchall(),
    }
