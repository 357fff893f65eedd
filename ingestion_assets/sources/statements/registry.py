"""What is known of statement files, in `ops`: which there are, where they lie, and which lines of them are wanted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from psycopg.rows import dict_row

from ingestion_assets.engine.coverage import Ranges, difference
from ingestion_assets.engine.store import Connection, Store
from ingestion_assets.sources.statements.files import MEMBER

SETTLING, REGISTERED, CHANGED = "settling", "registered", "changed"

STREAM = "statements/lines"

Stamp = tuple[int, int]  # size in bytes, and when it was modified, in nanoseconds


@dataclass(frozen=True, slots=True)
class File:
    """A statement file of one account, by its content."""

    account: str
    hash: str
    path: str  # in the inbox
    dialect: str
    size: int
    positions: int
    records: int
    weeks: tuple[date, ...]
    in_order: bool

    @property
    def key(self) -> str:
        """The name under which its marks are kept."""
        return f"{STREAM}/{self.account}/{self.hash}"

    @property
    def wanted(self) -> Ranges:
        """Its lines."""
        return ((1, self.positions),) if self.positions else ()


class Registry:
    """The files of all accounts.

    Args:
        store: where they are remembered.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def seen(self) -> dict[str, tuple[Stamp, str]]:
        """Size, time and state of what lay in the inbox, by path."""
        query = "SELECT path, size, modified_ns, state FROM ops.statement_inbox"
        found = self._store.transaction(lambda c: c.execute(query).fetchall())
        return {path: ((size, modified), state) for path, size, modified, state in found}

    def note(self, path: str, stamp: Stamp, state: str, files: Sequence[File] = ()) -> list[File]:
        """Remember what lies there, and register the files that it holds.

        Returns:
            Those of the files that were not known.
        """
        return self._store.transaction(lambda connection: _note(connection, path, stamp, state, files))

    def forget(self, paths: Iterable[str]) -> None:
        """What is not in the inbox any more. The files that it held stay known."""
        query = "DELETE FROM ops.statement_inbox WHERE path = ANY(%s)"
        self._store.transaction(lambda c: c.execute(query, [list(paths)]))

    def files(self, account: str | None = None) -> list[File]:
        """All files of an account, or of all, in the order in which they were registered."""
        query = (
            "SELECT account, hash, path, dialect, size, positions, records, weeks, in_order FROM ops.statement_files"
            " WHERE %(account)s::text IS NULL OR account = %(account)s ORDER BY registered_at, hash"
        )
        found = self._store.transaction(
            lambda c: c.cursor(row_factory=dict_row).execute(query, {"account": account}).fetchall()
        )
        return [File(**row | {"weeks": tuple(row["weeks"])}) for row in found]

    def missing(self, files: Sequence[File]) -> dict[str, Ranges]:
        """The lines that are wanted and not covered, by stream key; files that are whole are left out."""
        covered = self._store.covered([file.key for file in files])
        gaps = {file.key: difference(file.wanted, covered.get(file.key, ())) for file in files}
        return {key: found for key, found in gaps.items() if found}

    def unfinished(self, path: str) -> list[File]:
        """The files that were registered from here and whose import has begun or waits."""
        here = [file for file in self.files() if file.path.split(MEMBER)[0] == path]
        missing = self.missing(here)
        return [file for file in here if file.key in missing]


def _note(connection: Connection, path: str, stamp: Stamp, state: str, files: Sequence[File]) -> list[File]:
    connection.execute(
        "INSERT INTO ops.statement_inbox (path, size, modified_ns, state) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (path) DO UPDATE"
        " SET size = excluded.size, modified_ns = excluded.modified_ns, state = excluded.state",
        [path, *stamp, state],
    )
    new: list[File] = []
    for file in files:
        is_new = connection.execute(
            "INSERT INTO ops.statement_files"
            " (account, hash, path, dialect, size, positions, records, weeks, in_order)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (account, hash) DO UPDATE SET path = excluded.path RETURNING xmax = 0",
            [
                file.account, file.hash, file.path, file.dialect, file.size, file.positions, file.records,
                list(file.weeks), file.in_order,
            ],
        ).fetchone()  # fmt: skip
        if is_new == (True,):
            new.append(file)
    return new
