"""Which days of an account have changed, and who has taken note of it. What is derived from rows follows them by this.

A trigger writes each change into `ops.statement_changes` in the transaction that makes it (see the migration), so no
program can change rows and forget to say so. A derived stream takes back what it had covered of the days that changed since
it last looked; and each of its commits requires that the days it was read of have not changed again meanwhile.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import sqlalchemy as sa

from ingestion_assets.engine import marks
from ingestion_assets.engine.store import Connection, Store
from ingestion_assets.sources.statements.derived_tables import changes, counters

TakeBack = Callable[[Connection, Sequence[date]], None]


@dataclass(frozen=True, slots=True)
class Followed:
    """The rows that something is derived from.

    Args:
        store: where they are.
        source: the asset that stores them, `statements/lines`.
        account: whose they are.
    """

    store: Store
    source: str
    account: str

    def number(self) -> int:
        """Of the last change. Whatever is read after this is at least as new."""
        query = "SELECT change FROM ops.statement_counters WHERE source = %s AND account = %s"
        found = self.store.transaction(lambda c: c.execute(query, [self.source, self.account]).fetchone())
        return int(found[0]) if found else 0

    def days(self) -> tuple[date, date] | None:
        """The first and the last day that hold rows; None: no day does."""
        query = "SELECT min(day), max(day) FROM ops.statement_changes WHERE source = %s AND account = %s"
        found = self.store.transaction(lambda c: c.execute(query, [self.source, self.account]).fetchone())
        return None if found is None or found[0] is None else (found[0], found[1])

    def note(self, keys: Sequence[str], take_back: TakeBack) -> None:
        """Take back what these streams had covered of the days that changed since they last did this.

        Args:
            keys: of one derived stream; the first stands for all.
            take_back: uncovers the days, in the transaction that notes them.
        """
        self.store.transaction(lambda connection: self._note(connection, keys, take_back))

    def _note(self, connection: Connection, keys: Sequence[str], take_back: TakeBack) -> None:
        last = connection.execute(
            "SELECT change FROM ops.statement_counters WHERE source = %s AND account = %s",
            [self.source, self.account],
        ).fetchone()
        if last is None or _noted(connection, keys[0]) >= last[0]:
            return
        marks.lock(connection, keys)
        changed = connection.execute(
            "SELECT day FROM ops.statement_changes WHERE source = %s AND account = %s AND change > %s ORDER BY day",
            [self.source, self.account, _noted(connection, keys[0])],
        ).fetchall()
        take_back(connection, [day for (day,) in changed])
        connection.execute(
            "INSERT INTO ops.statement_followers AS f (stream, change) VALUES (%s, %s)"
            " ON CONFLICT (stream) DO UPDATE SET change = greatest(f.change, excluded.change)",
            [keys[0], last[0]],
        )

    def unchanged(self, first: date, last: date, since: int) -> tuple[sa.Select[Any], sa.Select[Any]]:
        """What a commit requires: that these days have not changed since a change.

        The first query waits for whoever is changing rows of the account, and keeps others from it; the second one sees
        what they have committed.
        """
        mine = sa.select(counters.c.change).where(
            counters.c.source == self.source, counters.c.account == self.account
        )
        newer = sa.select(changes.c.day).where(
            changes.c.source == self.source,
            changes.c.account == self.account,
            changes.c.day.between(first, last),
            changes.c.change > since,
        )
        return mine, mine.where(~newer.exists())


def _noted(connection: Connection, key: str) -> int:
    found = connection.execute(
        "SELECT change FROM ops.statement_followers WHERE stream = %s", [key]
    ).fetchone()
    return int(found[0]) if found else 0
