"""Files as they lie in the inbox, and what is inside of ZIPs. Belongs here: opening them without trust, and looking through one.

Nothing is ever unpacked: a file in a ZIP is read where it is, and its name is a label and no path.
"""

import errno
import hashlib
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ingestion_assets.engine.stream import Rejected
from ingestion_assets.sources.statements.dialects import recognise
from ingestion_assets.sources.statements.line import Dialect, Source, Unreadable

HEAD = 1 << 16  # bytes by which a dialect is recognised
MOST_PARTS = 1_000  # files in one ZIP
MOST_UNPACKED = 2 << 30  # bytes of all of them together
MOST_RATIO, FROM_SIZE = 250, 16 << 20  # text packs to a twentieth; what is small may pack to anything
IGNORED = ("__MACOSX/", ".DS_Store", "Thumbs.db")
MEMBER = "!"  # between the path of a ZIP and the name of a file in it

# A strange version or method is NotImplementedError, a member that is encrypted after all RuntimeError.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    UnicodeError,
    OverflowError,
)


class Hashed:
    """A source that knows what has been read of it.

    Args:
        source: at its beginning.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._sha256 = hashlib.sha256()
        self.size = 0

    def read(self, size: int, /) -> bytes:
        """As the source's own."""
        found = self._source.read(size)
        self._sha256.update(found)
        self.size += len(found)
        return found

    def hash(self) -> str:
        """SHA-256 of all that was read."""
        return self._sha256.hexdigest()


@dataclass(frozen=True, slots=True)
class Survey:
    """What one look through a file has found."""

    dialect: str
    broker: str
    hash: str
    size: int
    positions: int
    records: int
    accounts: frozenset[str]  # whose lines it says it holds
    days: tuple[date, ...]  # that its records lie on
    in_order: bool

    def weeks(self, first: date, last: date) -> list[date]:
        """The Mondays of the weeks that its records lie in, of those from `first` to `last`."""
        found = {day - timedelta(days=day.weekday()) for day in self.days}
        return sorted(monday for monday in found if first <= monday <= last)


def is_archive(path: Path) -> bool:
    """Whether a file is a ZIP, by its first bytes."""
    with _regular(path) as opened:
        return opened.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def members(path: Path) -> list[str]:
    """The names of the files in a ZIP.

    Raises:
        Unreadable: it is damaged, encrypted, or a bomb, or a name leads out of it.
    """
    with _sound(), _regular(path) as opened, zipfile.ZipFile(opened) as archive:
        found = [
            info
            for info in archive.infolist()
            if not info.is_dir()
            and not info.filename.startswith(IGNORED[0])
            and not info.filename.endswith(IGNORED[1:])
        ]
    if not found:
        raise Unreadable("the ZIP holds no file")
    if len(found) > MOST_PARTS:
        raise Unreadable(f"the ZIP holds {len(found):,} files; {MOST_PARTS:,} are the most")
    for info in found:
        _refuse_member(info)
    unpacked = sum(info.file_size for info in found)
    if unpacked > MOST_UNPACKED:
        raise Unreadable(f"the ZIP unpacks to {unpacked:,} bytes; {MOST_UNPACKED:,} are the most")
    names = [info.filename for info in found]
    if len(set(names)) < len(names):
        raise Unreadable("the ZIP holds two files of one name")
    return names


def _refuse_member(info: zipfile.ZipInfo) -> None:
    name = info.filename
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if ".." in parts or not parts or parts[0] == "/" or ":" in parts[0]:
        raise Unreadable(f"the ZIP holds {name[:80]!r}, a name that leads out of it")
    if info.flag_bits & 1:
        raise Unreadable(f"{name[:80]!r} in the ZIP is encrypted")
    if info.file_size > FROM_SIZE and info.file_size > MOST_RATIO * max(1, info.compress_size):
        raise Unreadable(
            f"{name[:80]!r} in the ZIP unpacks from {info.compress_size:,} to {info.file_size:,} bytes, as no statement does"
        )


@contextmanager
def opened(path: Path, member: str | None = None) -> Iterator[Source]:
    """The content of a file, or of one in a ZIP.

    Raises:
        Unreadable: it is damaged, or no regular file.
        FileNotFoundError: it is not there.
    """
    with _regular(path) as source:
        if member is None:
            yield source
            return
        with _sound(), zipfile.ZipFile(source) as archive, archive.open(member) as inside:
            yield inside


@contextmanager
def _sound() -> Iterator[None]:
    """What a ZIP that is damaged makes Python raise, said in a sentence."""
    try:
        yield
    except _DAMAGE as error:
        raise Unreadable(f"the ZIP is damaged: {error}") from error
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise  # the disk's affair
        raise Unreadable("the ZIP is damaged: it points to a place that there is not") from error


def _regular(path: Path) -> BinaryIO:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM):
            raise  # not there any more, or the machine's affair
        raise Unreadable(f"it cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Unreadable("it is no regular file")
    return os.fdopen(descriptor, "rb")


def survey(path: Path, member: str | None = None) -> Survey:
    """Look through a whole file: what it is, what it holds, and whether all of it can be read.

    Raises:
        Unreadable: nobody knows its format, it is damaged, or it is hostile.
    """
    with opened(path, member) as source:
        dialect = recognise(source.read(HEAD).decode("utf-8", "replace").removeprefix("\ufeff"))
    with opened(path, member) as source:
        hashed = Hashed(source)
        return _look_through(dialect, hashed)


def _look_through(dialect: Dialect, hashed: Hashed) -> Survey:
    positions = records = 0
    accounts: set[str] = set()
    days: set[date] = set()
    ups = downs = 0
    before: datetime | None = None
    for record in dialect.read(hashed):
        records += 1
        if isinstance(record, Rejected):
            positions = record.position or positions
            continue
        positions = record.position
        days.add(record.at.astimezone(UTC).date())
        if record.account:
            accounts.add(record.account)
        if before is not None:
            ups += record.at > before
            downs += record.at < before
        before = record.at
    return Survey(
        dialect.name,
        dialect.broker,
        hashed.hash(),
        hashed.size,
        positions,
        records,
        frozenset(accounts),
        tuple(sorted(days)),
        not (ups and downs),
    )


def hash_of(path: Path, member: str | None = None) -> str:
    """SHA-256 of a file's content."""
    with opened(path, member) as source:
        hashed = Hashed(source)
        while hashed.read(1 << 20):
            pass
        return hashed.hash()
