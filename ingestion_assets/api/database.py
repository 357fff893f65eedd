"""How the API reads Postgres: a bounded pool, a limit of time on every query, and read-only, whatever is asked."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from ingestion_assets.api.config import Limits
from ingestion_assets.api.errors import CannotServe

Connection = psycopg.AsyncConnection[TupleRow]
Query = sql.Composed | sql.SQL | bytes
Values = Mapping[str, Any] | Sequence[Any]

# jit costs more than it saves on questions of milliseconds. Plans are made once and kept: over many months of many chains, making
# one takes several times as long as following it.
_SESSION = {
    "application_name": "ingestion_api",
    "default_transaction_read_only": "on",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "timezone": "UTC",
}
_TROUBLE = (psycopg.OperationalError, psycopg.InterfaceError)
_PLAN_ANEW = b"SET LOCAL plan_cache_mode = force_custom_plan"

# Set in the context of a request: an answer that needs a second query goes ahead with it, and does not wait as long again.
_HAS_WAITED = ContextVar("has_waited", default=False)


class Database:
    """The stored rows and marks, to be read.

    Args:
        url: postgresql://…
        limits: connections, and seconds.
    """

    def __init__(self, url: str, limits: Limits) -> None:
        self._limits = limits
        self._is_away = False
        self._turns = asyncio.Semaphore(limits.connections)
        self._questions = self._pool(url, limits.connections, limits.query_seconds)
        self._exports = self._pool(url, limits.exports, limits.export_seconds)

    @staticmethod
    def _pool(url: str, size: int, seconds: float) -> AsyncConnectionPool[Connection]:
        settings = _SESSION | {
            "statement_timeout": f"{int(seconds * 1000)}ms",
            "idle_in_transaction_session_timeout": f"{int(seconds * 1000)}ms",
        }

        async def configure(connection: Connection) -> None:
            await connection.set_autocommit(True)
            await connection.execute(
                "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS s (name, value)",
                [list(settings), list(settings.values())],
            )

        return AsyncConnectionPool(
            url,
            min_size=0,
            max_size=size,
            open=False,
            configure=configure,
            reconnect_timeout=1,  # whoever asks next tries again; pauses that grow would only delay the return
            kwargs={"connect_timeout": 5},
        )

    async def look_for(self) -> None:
        """See whether Postgres answers. Until it is found again, nobody else asks it.

        Raises:
            CannotServe: it does not.
        """
        try:
            await self._rows(b"SELECT 1", ())
        except CannotServe as error:
            is_connected = self._questions.get_stats().get("pool_size")
            if is_connected and isinstance(error.__cause__, PoolTimeout | TimeoutError):
                return  # it does, but is busy
            await self._questions.check()
            self._is_away = True
            raise
        self._is_away = False

    async def open(self) -> None:
        """Get ready. A database that is away is tried again when it is asked."""
        await self._questions.open(wait=False)
        await self._exports.open(wait=False)

    async def close(self) -> None:
        """Close all connections."""
        await self._questions.close()
        await self._exports.close()

    async def rows(self, query: Query, values: Values = (), *, plan_anew: bool = False) -> list[TupleRow]:
        """All rows of a query.

        Args:
            query: with placeholders.
            values: for them.
            plan_anew: by these values, where the best plan depends on them.

        Raises:
            CannotServe: Postgres is away, or all connections are taken, or the query took too long.
        """
        if self._is_away:
            raise _away()  # whoever looks for it will find it; nobody else need wait
        try:
            return await self._rows(query, values, plan_anew=plan_anew)
        except CannotServe as error:
            if not isinstance(error.__cause__, psycopg.Error) or error.code != "STORE_UNAVAILABLE":
                raise
            # the server was restarted: what is left of the old connections goes
            await self._questions.check()
            return await self._rows(query, values, plan_anew=plan_anew)

    async def _rows(self, query: Query, values: Values, *, plan_anew: bool = False) -> list[TupleRow]:
        has_waited = _HAS_WAITED.get()
        if not has_waited:
            await self._turn()
            _HAS_WAITED.set(True)
        try:
            connection = await self._questions.getconn(self._limits.wait_seconds)
            try:  # it commits by itself: nothing is open at the end that the pool would have to see to
                return await _asked(connection, query, values, plan_anew=plan_anew)
            finally:
                await self._questions.putconn(connection)
        except _TROUBLE as error:
            raise _refused(error) from error
        finally:
            if not has_waited:
                self._turns.release()

    async def _turn(self) -> None:
        """Wait until there is a connection. Not in the pool: there each who waits costs as much as a query."""
        if not self._turns.locked():
            await self._turns.acquire()
            return
        try:
            async with asyncio.timeout(self._limits.wait_seconds):
                await self._turns.acquire()
        except TimeoutError as error:
            raise _busy() from error

    async def row(self, query: Query, values: Values = ()) -> TupleRow:
        """The only row of a query that always has one."""
        [found] = await self.rows(query, values)
        return found

    @asynccontextmanager
    async def export(self) -> AsyncIterator[Connection]:
        """A connection for a long answer.

        Raises:
            CannotServe: as `rows`; as many are under way as may be.
        """
        try:
            wait = 0.1 + self._limits.wait_seconds / 10
            async with self._exports.connection(timeout=wait) as connection:
                yield connection
        except _TROUBLE as error:
            is_full = self._exports.get_stats().get("pool_size", 0) == self._limits.exports
            if not isinstance(error, PoolTimeout) or not is_full:
                raise _refused(error) from error
            raise CannotServe(
                "TOO_MANY_EXPORTS",
                f"{self._limits.exports} exports are under way, and no more are made at once",
                retry_after=30,
            ) from error


async def _asked(connection: Connection, query: Query, values: Values, *, plan_anew: bool) -> list[TupleRow]:
    if not plan_anew:
        cursor = await connection.execute(query, values)
        return await cursor.fetchall()
    async with connection.transaction():
        await connection.execute(_PLAN_ANEW)
        cursor = await connection.execute(query, values)
        return await cursor.fetchall()


def _refused(error: psycopg.Error) -> CannotServe:
    """What Postgres, or the way to it, says."""
    if isinstance(error, PoolTimeout):
        return _busy()
    if isinstance(error, psycopg.errors.QueryCanceled):
        return CannotServe(
            "QUERY_TIMEOUT",
            "the answer takes longer than a query may: ask for fewer blocks, or go on by cursor instead of page",
        )
    return _away()


def _busy() -> CannotServe:
    return CannotServe("STORE_UNAVAILABLE", "Postgres does not answer, or every connection to it is busy")


def _away() -> CannotServe:
    return CannotServe("STORE_UNAVAILABLE", "Postgres does not answer")
