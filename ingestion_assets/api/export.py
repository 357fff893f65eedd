"""Files of all transfers of a filter, sent while they are read: CSV as Postgres writes it, and Parquet. Memory stays flat.

Both are read in one snapshot of the database, chain by chain, in order.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from psycopg import sql

from ingestion_assets.api import pages
from ingestion_assets.api.database import Connection, Database
from ingestion_assets.api.pages import Wanted

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 10_000  # of a row group of Parquet

# Numbers that need 256 bits are text in Parquet, whose widest decimal has 76 digits.
COLUMNS = (
    "chain", "block_number", "block_time", "tx_hash", "log_index", "token_address", "from_address", "to_address",
    "value", "ordinal", "token_symbol", "token_decimals", "provider", "id",
)  # fmt: skip

_CSV: dict[str, sql.Composable] = {
    "block_time": sql.SQL("""to_char(block_time, 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS block_time""")
}
_PARQUET: dict[str, sql.Composable] = {
    "value": sql.SQL("value::text AS value"),
    "id": sql.SQL("id::text AS id"),
}


def _columns(written: dict[str, sql.Composable]) -> sql.Composable:
    return sql.SQL(", ").join(written.get(name, sql.Identifier(name)) for name in COLUMNS)


async def csv(database: Database, wanted: Wanted) -> AsyncGenerator[bytes, None]:
    """The lines of a CSV file with a header; what is null is empty.

    Raises:
        CannotServe: before the first line, if it cannot begin.
    """
    async with database.export() as connection, _one_snapshot(connection):
        yield ",".join(COLUMNS).encode() + b"\n"
        for number in range(len(wanted.chains)):
            query, values = pages.export(wanted, number, _columns(_CSV))
            statement = sql.SQL("COPY ({}) TO STDOUT WITH (FORMAT csv)").format(query)
            async with connection.cursor() as cursor, cursor.copy(statement, values) as copy:
                async for lines in _joined(copy):
                    yield lines


async def _joined(copy: Any) -> AsyncIterator[bytes]:
    """Postgres sends line by line; clients are sent more at once."""
    parts: list[bytes] = []
    size = 0
    async for part in copy:
        parts.append(bytes(part))
        size += len(part)
        if size > 1 << 16:
            yield b"".join(parts)
            parts.clear()
            size = 0
    if parts:
        yield b"".join(parts)


async def parquet(database: Database, wanted: Wanted) -> AsyncGenerator[bytes, None]:
    """The bytes of a Parquet file, a row group of 10,000 rows at a time.

    Raises:
        CannotServe: before the first byte, if it cannot begin.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(pa)
    sink = _Sink()
    async with database.export() as connection, _one_snapshot(connection):
        writer = pq.ParquetWriter(sink, schema, compression="zstd")
        try:
            for number in range(len(wanted.chains)):
                query, values = pages.export(wanted, number, _columns(_PARQUET))
                async with connection.cursor(f"export{number}", binary=True) as cursor:
                    cursor.itersize = ROWS
                    await cursor.execute(query, values)
                    while rows := await cursor.fetchmany(ROWS):
                        await asyncio.to_thread(writer.write_table, _table(pa, schema, rows))
                        yield sink.take()
        finally:
            writer.close()
    yield sink.take()


class _Sink:
    """What the writer writes, until it is taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self.closed = False

    def write(self, data: Any) -> int:
        """Keep a piece."""
        piece = bytes(data)
        self._parts.append(piece)
        self._size += len(piece)
        return len(piece)

    def tell(self) -> int:
        """How much was written in all."""
        return self._size

    def flush(self) -> None:
        """There is nothing behind it."""

    def close(self) -> None:
        """What was written can still be taken."""
        self.closed = True

    def writable(self) -> bool:
        """It is."""
        return True

    def readable(self) -> bool:
        """It is not."""
        return False

    def seekable(self) -> bool:
        """It is not."""
        return False

    def take(self) -> bytes:
        """What was written since the last time."""
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def _schema(pa: Any) -> "pa.Schema":
    types = {
        "block_number": pa.int64(),
        "block_time": pa.timestamp("us", tz="UTC"),
        "log_index": pa.int32(),
        "ordinal": pa.int32(),
        "token_decimals": pa.int32(),
    }
    return pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])


def _table(pa: Any, schema: "pa.Schema", rows: Sequence[Sequence[Any]]) -> "pa.Table":
    columns = list(zip(*rows, strict=True))
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


@asynccontextmanager
async def _one_snapshot(connection: Connection) -> AsyncIterator[None]:
    """A transaction that sees the database as it was when it began."""
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield
