"""Counts that are only shown. A table may hold hundreds of millions of rows, and no run waits for a number that nothing depends on."""

from collections.abc import Callable
from typing import TypeVar

import psycopg
import sqlalchemy as sa

T = TypeVar("T")

SECONDS = 2.0  # that one query may take


def in_time(engine: sa.Engine, count: Callable[[sa.Connection], T], *, seconds: float = SECONDS) -> T | None:
    """What is counted; None: a query took longer.

    Args:
        engine: of the database.
        count: runs queries in the transaction that it is given.
        seconds: for each of them.
    """
    try:
        with engine.begin() as connection:
            connection.execute(sa.text(f"SET LOCAL statement_timeout = {int(seconds * 1000)}"))
            return count(connection)
    except sa.exc.OperationalError as error:
        if isinstance(error.orig, psycopg.errors.QueryCanceled):
            return None
        raise
