"""One run at a time: a lock in Postgres that lives as long as the process that holds it.

Rows and marks need none, for committing twice changes nothing. It is for people: a second import of the same thing would ask
the source for the same pages, and share its budget. The lock is on a connection of its own, never on a pooled one, whose
next user would hold it without knowing; so it ends with its process, however that dies.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from psycopg.rows import TupleRow

from ingestion_assets.engine.errors import Busy, DatabaseUnavailable
from ingestion_assets.engine.store import PASSING, Store

Connection = psycopg.Connection[TupleRow]

LONGEST = 63  # bytes that Postgres keeps of the name of an application

# A machine that vanishes says no farewell: after half a minute without an answer the server lets its connection go.
_SETTINGS = ("tcp_keepalives_idle = 10", "tcp_keepalives_interval = 5", "tcp_keepalives_count = 4")

# A run that was stopped just now may still be letting go.
PATIENCE = "2s"


@contextmanager
def exclusive(store: Store, name: str, owner: str) -> Iterator[Callable[[], None]]:
    """Hold the lock of this name. What is given sees that it is still held.

    Args:
        store: whose database the lock is in.
        name: what nobody else may work on meanwhile.
        owner: who works on it; whoever is refused is told.

    Raises:
        Busy: somebody else holds it.
        DatabaseUnavailable: Postgres does not answer, or has closed the connection that holds it.
    """
    known = store.pool.conninfo
    try:
        connection = psycopg.connect(
            known() if callable(known) else known,
            autocommit=True,
            application_name=owner.encode()[:LONGEST].decode(errors="ignore"),
        )
    except PASSING as error:
        raise DatabaseUnavailable(f"Postgres does not answer: {error}") from error

    def still_held() -> None:
        try:
            connection.execute("SELECT")
        except PASSING as error:
            raise DatabaseUnavailable(
                f"the connection that kept others from {name} is gone ({error}); what is committed stays"
            ) from error

    with connection:
        for setting in _SETTINGS:
            connection.execute(f"SET {setting}")
        try:
            with connection.transaction():
                connection.execute(f"SET LOCAL lock_timeout = '{PATIENCE}'")
                connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 8))", [name])
        except psycopg.errors.LockNotAvailable:
            raise Busy(
                f"{name} is being imported already{_by_whom(connection, name)}: wait until that run ends, or stop it first"
            ) from None
        yield still_held


def _by_whom(connection: Connection, name: str) -> str:
    found = connection.execute(_HOLDER, [name]).fetchone()
    return "" if found is None else f" by {found[0]}, since {found[1]:%Y-%m-%d %H:%M:%S} UTC"


_HOLDER = """
    SELECT a.application_name, a.backend_start AT TIME ZONE 'UTC'
    FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid), hashtextextended(%s, 8) AS key
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
      AND (l.classid::bigint << 32 | l.objid::bigint) = key"""
