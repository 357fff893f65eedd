"""The partitions of `core.transfers`: one table for each chain, and below it one for each UTC month.

They are made beside the table and attached to it, which whoever reads the table does not notice; to make them in their place would
make everybody wait. Whoever calls anything here holds the chain's lock.
"""

import hashlib
from collections.abc import Iterable
from datetime import date, timedelta

from psycopg import sql

from ingestion_assets.engine.store import Connection

LONGEST = 40  # characters of a chain's name that fit into the name of a table, with what stands before it

_LIKE = "LIKE core.transfers INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING COMMENTS"
_PARENT = sql.Identifier("core", "transfers")


def month_of(day: date) -> date:
    """The first day of a day's month."""
    return day.replace(day=1)


def make(connection: Connection, chain: str, months: Iterable[date]) -> None:
    """Make those of these months' partitions that are not there yet."""
    missing = sorted(set(months) - set(kept(connection, chain)))
    if not missing:
        return
    of_chain = _of_chain(chain)
    # Of two chains that are new at the same time one waits here for the other; nobody else does.
    if not _is_there(connection, of_chain):
        connection.execute(
            sql.SQL("CREATE TABLE {} ({}) PARTITION BY RANGE (block_time)").format(of_chain, sql.SQL(_LIKE))
        )
        _attach(connection, _PARENT, of_chain, sql.SQL("IN ({})").format(chain))
    for month in missing:
        table = leaf(chain, month)
        connection.execute(sql.SQL("CREATE TABLE {} ({})").format(table, sql.SQL(_LIKE)))
        bounds = sql.SQL("FROM ({}) TO ({})").format(_midnight(month), _midnight(_next(month)))
        _attach(connection, of_chain, table, bounds)


def kept(connection: Connection, chain: str) -> list[date]:
    """The months that have a partition, the oldest first."""
    found = connection.execute(
        "SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = to_regclass(%s) ORDER BY 1",
        [_of_chain(chain).as_string(None)],
    ).fetchall()
    return [_month(name) for (name,) in found]


def drop(connection: Connection, chain: str, month: date) -> None:
    """Drop one month, with all its rows."""
    connection.execute(sql.SQL("DROP TABLE {}").format(leaf(chain, month)))


def _attach(
    connection: Connection, parent: sql.Identifier, partition: sql.Identifier, bounds: sql.Composed
) -> None:
    connection.execute(
        sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES {}").format(parent, partition, bounds)
    )


def of_chain(connection: Connection, chain: str) -> sql.Identifier:
    """The table of a chain with all its months; while it has none, that of all chains, where there is nothing of it either."""
    table = _of_chain(chain)
    return table if _is_there(connection, table) else _PARENT


def _is_there(connection: Connection, table: sql.Identifier) -> bool:
    return connection.execute("SELECT to_regclass(%s)", [table.as_string(None)]).fetchone() != (None,)


def _of_chain(chain: str) -> sql.Identifier:
    return sql.Identifier("core", f"transfers_of_{_short(chain)}")


def leaf(chain: str, month: date) -> sql.Identifier:
    """The table of a month, `core.transfers_2024_01_base`. The month comes first, so that no chain's name can be taken for another one's month."""
    return sql.Identifier("core", f"transfers_{month:%Y_%m}_{_short(chain)}")


def _month(name: str) -> date:
    year, month = name.removeprefix("transfers_").split("_")[:2]
    return date(int(year), int(month), 1)


def _short(chain: str) -> str:
    """Postgres cuts names after 63 bytes, and would take two long ones for the same."""
    if len(chain) <= LONGEST:
        return chain
    return f"{chain[: LONGEST - 9]}_{hashlib.sha256(chain.encode()).hexdigest()[:8]}"


def _next(month: date) -> date:
    return month_of(month + timedelta(days=31))


def _midnight(day: date) -> sql.Literal:
    return sql.Literal(f"{day.isoformat()} 00:00:00+00")
