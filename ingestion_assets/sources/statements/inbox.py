"""The inbox: a folder into which people drop statement files. Belongs here: noticing, registering and rejecting them.

    inbox/u123.csv            the account is what the file says, or the broker's name
    inbox/savings/*.zip       the folder names the account
    inbox/rejected/           what could not be read, and beside each file the reason

A file is known by its content. Its name, place and time say nothing but whether it has to be looked at again.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from ingestion_assets.engine.errors import Misconfigured
from ingestion_assets.sources.statements import files
from ingestion_assets.sources.statements.config import StatementsConfig
from ingestion_assets.sources.statements.files import MEMBER, Survey
from ingestion_assets.sources.statements.line import Unreadable
from ingestion_assets.sources.statements.registry import CHANGED, REGISTERED, SETTLING, File, Registry, Stamp

REJECTED = "rejected"
UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".tmp", "~")
ACCOUNT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.))*")
LONGEST = 64  # characters of an account's number; it becomes part of partition keys
TICK = 20.0  # seconds of reading, after which a look ends; the next one goes on


@dataclass(slots=True)
class Look:
    """What one look has found; sentences are for people."""

    new: list[File] = field(default_factory=list[File])
    rejected: list[str] = field(default_factory=list[str])
    refused: list[str] = field(default_factory=list[str])  # changed under an unfinished import
    waiting: int = 0  # still being written, or left to the next look


class Inbox:
    """The folder, and what is known of its files.

    Args:
        folder: may be missing; then it is empty.
        config: of sources.yaml.
        registry: where files are remembered.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        folder: Path,
        config: StatementsConfig,
        registry: Registry,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self.config = config
        self.registry = registry
        self._now = now

    def last_week(self) -> date:
        """The Monday of the week that is now."""
        today = datetime.fromtimestamp(self._now(), UTC).date()
        return today - timedelta(days=today.weekday())

    def look(self, *, seconds: float = TICK) -> Look:
        """Register what is new, reject what cannot be read, leave alone what is still being written.

        Args:
            seconds: after so long no further file is opened.

        Raises:
            Misconfigured: the inbox is no folder.
        """
        found = Look()
        seen = self.registry.seen()
        deadline = time.monotonic() + seconds
        gone = set(seen)
        for path, stamp in self._files(found):
            gone.discard(path)
            known = seen.get(path)
            if known == (stamp, REGISTERED):
                continue
            if not self._is_settled(stamp, known):
                self.registry.note(path, stamp, SETTLING)
                found.waiting += 1
            elif time.monotonic() > deadline:
                found.waiting += 1
            else:
                self._take(path, stamp, found)
        if gone:
            self.registry.forget(gone)
        return found

    def _files(self, found: Look) -> Iterator[tuple[str, Stamp]]:
        if not self.folder.exists():
            return
        if not self.folder.is_dir():
            raise Misconfigured(f"statements.inbox: {self.folder} is no folder")
        for folder, inside, names in os.walk(self.folder):
            at_top = Path(folder) == self.folder
            inside[:] = sorted(
                name for name in inside if not name.startswith(".") and not (at_top and name == REJECTED)
            )
            for name in sorted(names):
                if name.startswith(".") or name.lower().endswith(UNFINISHED):
                    continue
                full = Path(folder, name)
                path = str(full.relative_to(self.folder))
                try:
                    status = full.lstat()
                    path.encode()
                except FileNotFoundError:
                    continue  # moved away since
                except UnicodeEncodeError:
                    self._reject(full, "its name is no UTF-8", found)
                    continue
                yield path, (status.st_size, status.st_mtime_ns)

    def _is_settled(self, stamp: Stamp, known: tuple[Stamp, str] | None) -> bool:
        age = self._now() - stamp[1] / 1e9
        if age < 0:  # from a machine whose clock is ahead: then two looks have to agree
            return known is not None and known[0] == stamp
        return age >= self.config.settle_seconds

    def _take(self, path: str, stamp: Stamp, found: Look) -> None:
        full = self.folder / path
        try:
            inside = self._surveyed(path)
            status = full.lstat()
        except FileNotFoundError:
            return
        except Unreadable as error:
            self._reject(full, str(error), found)
            return
        except (
            OSError
        ) as error:  # a disk that fails, or too many open files: it stays, and the others are looked at
            found.refused.append(f"{path}: {error.strerror}; the next look tries again")
            return
        if (status.st_size, status.st_mtime_ns) != stamp:
            self.registry.note(path, (status.st_size, status.st_mtime_ns), SETTLING)
            found.waiting += 1
            return
        hashes = {file.hash for file in inside}
        for before in self.registry.unfinished(path):
            if before.hash not in hashes:
                self.registry.note(path, stamp, CHANGED)
                found.refused.append(changed(before))
                return
        found.new += self.registry.note(path, stamp, REGISTERED, inside)

    def _surveyed(self, path: str) -> list[File]:
        """The statement files that lie there: one, or those in a ZIP, of which each has to be readable."""
        full = self.folder / path
        if not files.is_archive(full):
            return [self._file(path, files.survey(full))]
        inside: list[File] = []
        for name in files.members(full):
            try:
                inside.append(self._file(f"{path}{MEMBER}{name}", files.survey(full, name)))
            except Unreadable as error:
                raise Unreadable(f"{name[:80]!r} in the ZIP: {error}") from error
        return inside

    def _file(self, path: str, found: Survey) -> File:
        weeks = found.weeks(self.config.first_week, self.last_week())
        if found.positions and not weeks:
            raise Unreadable(
                f"none of its {found.records:,} records lies between {self.config.first_week} and today"
            )
        return File(
            self._account(path, found),
            found.hash,
            path,
            found.dialect,
            found.size,
            found.positions,
            found.records,
            tuple(weeks),
            found.in_order,
        )

    def _account(self, path: str, found: Survey) -> str:
        folder, slash, _ = path.split(MEMBER, maxsplit=1)[0].partition("/")
        if not slash:
            if len(found.accounts) > 1:
                raise Unreadable(
                    f"it holds lines of {len(found.accounts)} accounts ({', '.join(sorted(found.accounts))[:80]}): "
                    "put it into a folder that names one"
                )
            said = "".join(re.sub(r"[^A-Za-z0-9_-]", "-", one[:LONGEST]) for one in found.accounts)
            return f"{found.broker}-{said}" if said else found.broker
        if not ACCOUNT.fullmatch(folder):
            raise Unreadable(
                f"the folder {folder[:80]!r} names no account: letters, digits, - _ and . are wanted"
            )
        return folder

    def _reject(self, full: Path, reason: str, found: Look) -> None:
        """Move a file to `rejected`, under its own name, with the reason beside it."""
        target = self.folder / REJECTED / full.relative_to(self.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        stem = target
        number = 1
        while os.path.lexists(target) or os.path.lexists(_reason(target)):
            number += 1
            target = stem.with_name(f"{stem.stem}-{number}{stem.suffix}")
        _reason(target).write_text(reason + "\n", encoding="utf-8", errors="replace")
        full.rename(target)
        name = os.fsencode(full.relative_to(self.folder)).decode("utf-8", "replace")
        found.rejected.append(f"{name}: {reason}")


def changed(file: File) -> str:
    """What to say of a file that is not any more what was registered."""
    return (
        f"{file.path} is not the file any more that was registered for {file.account} (SHA-256 {file.hash[:12]}…), and its import is "
        "not finished. Put the old file back, and the new one beside it under another name"
    )


def _reason(target: Path) -> Path:
    return target.with_name(target.name[:200] + ".reason.txt")
