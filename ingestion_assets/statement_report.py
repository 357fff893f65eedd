"""What the CLI tells about statement files: how far those of each account are, what is missing, and what they prove."""

from dataclasses import dataclass
from datetime import date

from ingestion_assets.engine.coverage import size
from ingestion_assets.engine.store import Store
from ingestion_assets.report import Gap
from ingestion_assets.sources.statements.derived_assets import lines_behind, missing
from ingestion_assets.sources.statements.movement_stream import STREAM as MOVEMENTS
from ingestion_assets.sources.statements.movement_stream import AccountMovements, time_of
from ingestion_assets.sources.statements.precedence import superseded
from ingestion_assets.sources.statements.proof import Proof, proofs
from ingestion_assets.sources.statements.registry import STREAM, Registry
from ingestion_assets.sources.statements.snapshot_stream import AccountSnapshots, day_of


@dataclass(frozen=True, slots=True)
class StatementStatus:
    """The statement files of one account, together."""

    asset: str
    account: str
    files: int
    unfinished: int  # files
    records: int  # that its files hold, those that overlap several times
    lines: int  # that are stored
    missing: int  # lines of files that are wanted and not covered
    dead_letters: int


@dataclass(frozen=True, slots=True)
class DerivedStatus:
    """What is derived of the lines of one account."""

    asset: str
    account: str
    movements: int  # that are stored
    lines_behind: int  # that have no movements yet, or not any more
    superseded: int  # lines that a richer file of the account tells too, and that are not booked
    snapshots_to: date | None  # the last day that has any
    dead_letters: int


@dataclass(frozen=True, slots=True)
class DerivedGap:
    """Days of which something is still to be derived, or again."""

    stream: str
    since: date
    until: date
    reason: str


def statements(store: Store) -> list[StatementStatus]:
    """One line for each account that has files; reads no file."""
    registry = Registry(store)
    files = registry.files()
    unread = registry.missing(files)
    stored: dict[str, int] = dict(
        store.transaction(
            lambda c: c.execute("SELECT account, count(*) FROM raw.statement_lines GROUP BY 1").fetchall()
        )
    )
    found: list[StatementStatus] = []
    for account in sorted({file.account for file in files}):
        own = [file for file in files if file.account == account]
        found.append(
            StatementStatus(
                asset=STREAM,
                account=account,
                files=len(own),
                unfinished=sum(file.key in unread for file in own),
                records=sum(file.records for file in own),
                lines=stored.get(account, 0),
                missing=sum(size(unread.get(file.key, ())) for file in own),
                dead_letters=sum(store.count_open_letters(f"{STREAM}/{account}/").values()),
            )
        )
    return found


def derived(store: Store) -> list[DerivedStatus]:
    """One line for each account that has files."""
    stored = {
        account: (count, last)
        for account, count, last in store.transaction(lambda c: c.execute(_DERIVED).fetchall())
    }
    letters = store.count_open_letters(f"{MOVEMENTS}/")
    found: list[DerivedStatus] = []
    for account in sorted({file.account for file in Registry(store).files()}):
        count, last = stored.get(account, (0, None))
        stream = AccountMovements(account, store)
        found.append(
            DerivedStatus(
                asset=MOVEMENTS,
                account=account,
                movements=count,
                lines_behind=lines_behind(stream),
                superseded=sum(superseded(store, account).values()),
                snapshots_to=last,
                dead_letters=letters.get(stream.keys[0], 0),
            )
        )
    return found


def statement_gaps(store: Store) -> list[Gap]:
    """What of registered files is not covered; the reason names the file."""
    registry = Registry(store)
    files = {file.key: file for file in registry.files()}
    return [
        Gap(key, lo, hi, f"{files[key].path}: not read yet")
        for key, ranges in registry.missing(list(files.values())).items()
        for lo, hi in ranges
    ]


def derived_gaps(store: Store) -> list[DerivedGap]:
    """What of stored lines has no movements, and what of movements no snapshots; or had, before they changed."""
    found: list[DerivedGap] = []
    for account in sorted({file.account for file in Registry(store).files()}):
        movements, snapshots = AccountMovements(account, store), AccountSnapshots(account, store)
        for lo, hi in missing(store, movements):
            since, until = time_of(lo).date(), time_of(hi).date()
            found.append(DerivedGap(movements.keys[0], since, until, "lines without movements"))
        for lo, hi in missing(store, snapshots):
            found += [
                DerivedGap(key, day_of(lo), day_of(hi), "movements without snapshots")
                for key in snapshots.keys
            ]
    return found


def proved(store: Store, account: str | None) -> list[Proof]:
    """The proofs of all files of an account, or of all, that are read to their end."""
    registry = Registry(store)
    files = registry.files(account)
    unread = registry.missing(files)
    return proofs(store, [file for file in files if file.key not in unread])


_DERIVED = """
    SELECT account, count(*), (SELECT max(day) FROM core.broker_snapshots AS s WHERE s.account = m.account)
    FROM core.movements AS m GROUP BY 1"""
