"""What the CLI tells about statement files: how far those of each account are, and what of them is missing."""

from dataclasses import dataclass

from ingestion_assets.engine.coverage import size
from ingestion_assets.engine.store import Store
from ingestion_assets.report import Gap
from ingestion_assets.sources.statements.registry import STREAM, Registry


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


def statements(store: Store) -> list[StatementStatus]:
    """One line for each account that has files; reads no file."""
    registry = Registry(store)
    files = registry.files()
    missing = registry.missing(files)
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
                unfinished=sum(file.key in missing for file in own),
                records=sum(file.records for file in own),
                lines=stored.get(account, 0),
                missing=sum(size(missing.get(file.key, ())) for file in own),
                dead_letters=sum(store.count_open_letters(f"{STREAM}/{account}/").values()),
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
