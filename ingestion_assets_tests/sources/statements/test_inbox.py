"""What lies in the inbox: found, left alone, rejected. A hostile file is refused with a sentence and harms nobody."""

import errno
import io
import os
import random
import struct
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from ingestion_assets.engine.errors import Misconfigured
from ingestion_assets.sources.statements import files
from ingestion_assets.sources.statements.config import StatementsConfig
from ingestion_assets.sources.statements.line import Unreadable
from ingestion_assets_tests.sources.statements.tiny import HEADER, Dropped, fill, history, raws, same

FILES = Path(__file__).parent / "files"
GOOD = history(fill(9), fill(8))
BILLION_LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<FlexQueryResponse><FlexStatements><FlexStatement accountId='&b;'/></FlexStatements></FlexQueryResponse>"
)
EXTERNAL = BILLION_LAUGHS.replace('<!ENTITY a "ha">', '<!ENTITY a SYSTEM "file:///etc/passwd">')


def zipped(members, compression=zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP of these names and contents."""
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return into.getvalue()


def rejected(inbox: Dropped) -> dict[str, str]:
    """Path below `rejected` -> the reason beside it."""
    folder = inbox.folder / "rejected"
    return {
        str(path.relative_to(folder)): path.with_name(path.name + ".reason.txt").read_text().strip()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and not path.name.endswith(".reason.txt")
    }


def test_a_file_is_left_alone_until_it_has_not_changed_for_a_while(inbox):
    """By its time; the next look takes it."""
    inbox.put("one.csv", GOOD, age=3)
    found = inbox.look()
    assert (found.waiting, found.new) == (1, [])
    inbox.now += 20
    assert len(inbox.look().new) == 1


def test_a_file_of_the_future_has_to_agree_with_itself(inbox):
    """A clock that is ahead must not keep it waiting for ever."""
    inbox.put("one.csv", GOOD, age=-7200)
    assert inbox.look().waiting == 1
    assert len(inbox.look().new) == 1


@pytest.mark.parametrize(
    "name", [".hidden.csv", "one.csv.part", "one.csv.crdownload", "one.csv.tmp", ".sync/one.csv"]
)
def test_what_other_programs_are_still_writing_is_not_looked_at(inbox, name):
    """By the names that they use for it."""
    inbox.put(name, GOOD)
    found = inbox.look()
    assert (found.new, found.rejected, found.waiting) == ([], [], 0)


def test_a_name_says_nothing_about_the_format(inbox):
    """Neither does its ending."""
    inbox.put("ibkr_kraken.xml", GOOD)
    (file,) = inbox.look().new
    assert file.dialect == "tastytrade"


def test_what_nobody_knows_is_moved_aside_with_the_reason(inbox):
    """Where it is in no look's way; a second one of that name is kept too."""
    for content in ("who,knows\n1,2\n", "something,else\n"):
        inbox.put("savings/odd.csv", content)
        inbox.look()
    assert rejected(inbox) == {
        "savings/odd.csv": "its format is not known; it begins with 'who,knows'",
        "savings/odd-2.csv": "its format is not known; it begins with 'something,else'",
    }
    assert not (inbox.folder / "savings/odd.csv").exists()
    assert inbox.look().rejected == []


HOSTILE = {
    "empty": (b"", "it is empty"),
    "nul": (GOOD.encode().replace(b"ABC", b"A\0C", 1), "line 2 holds NUL bytes, so this is no text in UTF-8"),
    "utf16": (GOOD.encode("utf-16"), "its format is not known"),
    "latin1": (GOOD.replace("ABC", "ÄBC").encode("latin-1"), "line 2 is no UTF-8 (invalid"),
    "formula": (GOOD.replace("Bought 1 ABC", "=cmd|' /C calc'!A0"), "line 2 holds a formula, which no broker writes: \"=cmd|'"),
    "at": (GOOD.replace("Bought 1 ABC", "@SUM(1+1)*cmd|x!A0"), "line 2 holds a formula"),
    "minus": (GOOD.replace("Bought 1 ABC", "-2+3+cmd|x!A0"), "line 2 holds a formula"),
    "quoted": (GOOD.replace("Bought 1 ABC", '" =HYPERLINK(""http://x"")"'), "line 2 holds a formula"),
    "quote": (GOOD.replace("Bought 1 ABC", '"Bought 1 ABC', 1), "a quote is opened at line 2 and never closed"),
    "laughs": (BILLION_LAUGHS, "it declares a document type or entities, which no broker writes"),
    "external": (EXTERNAL, "it declares a document type or entities, which no broker writes"),
    "broken": ("<FlexQueryResponse><FlexStatements>", "this is no XML: no element found"),
    "deep": ("<FlexQueryResponse>" + "<a>" * 60 + "</a>" * 60 + "</FlexQueryResponse>", "its elements are nested more than 50"),
    "nozip": (b"PK\x03\x04 and nothing more", "the ZIP is damaged"),
    "old": (history(fill(1).replace("2025-", "1980-")), "none of its 1 records lies between 1999-12-27 and today"),
    "traversal": (zipped([("../../x", GOOD)]), "the ZIP holds '../../x', a name that leads out of it"),
    "absolute": (zipped([("/etc/x", GOOD)]), "the ZIP holds '/etc/x', a name that leads out of it"),
    "windows": (zipped([("..\\..\\x", GOOD)]), "a name that leads out of it"),
    "nested": (zipped([("a.zip", zipped([("a.csv", GOOD)]))]), "'a.zip' in the ZIP: its format is not known"),
    "many": (zipped([(f"{n}.csv", "") for n in range(1001)]), "the ZIP holds 1,001 files; 1,000 are the most"),
    "none": (zipped([("__MACOSX/x", "x")]), "the ZIP holds no file"),
    "bomb": (zipped([("a.csv", b"0" * (40 << 20))]), "'a.csv' in the ZIP unpacks from"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_and_nothing_else_is_affected(inbox, connection, content, reason):
    """Moved aside with a sentence; the file beside it is read, and nothing is written anywhere else."""
    inbox.put("a/hostile", content)
    inbox.put("b/good.csv", GOOD)
    inbox.imported()
    ((name, said),) = rejected(inbox).items()
    assert name == "a/hostile"
    assert reason in said
    assert raws(connection) == same([fill(9), fill(8)])
    assert [path.name for path in inbox.folder.parent.iterdir()] == ["inbox"]


def test_a_zip_that_lies_about_its_sizes_is_damaged(inbox):
    """It says that little is inside, and holds much."""
    packed = bytearray(zipped([("a.csv", history(*[fill(9)] * 5000))]))
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        begin = packed.index(signature) + at
        packed[begin : begin + 4] = struct.pack("<I", 500)
    inbox.put("a.zip", bytes(packed))
    inbox.look()
    assert "the ZIP is damaged" in rejected(inbox)["a.zip"]


def test_an_encrypted_zip_is_refused(inbox):
    """Nobody is asked for a password."""
    packed = bytearray(zipped([("a.csv", GOOD)]))
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        packed[packed.index(signature) + at] |= 1
    inbox.put("a.zip", bytes(packed))
    inbox.look()
    assert rejected(inbox) == {"a.zip": "'a.csv' in the ZIP is encrypted"}


def test_the_files_in_a_zip_are_read_where_they_are(inbox, connection):
    """Each for itself, with the folder of the ZIP as account; an import goes on in them as in others."""
    inbox.put("savings/all.zip", zipped([("2024/a.csv", GOOD), ("2025/a.csv", history(fill(8), fill(7)))]))
    assert [file.path for file in inbox.look().new] == [
        "savings/all.zip!2024/a.csv",
        "savings/all.zip!2025/a.csv",
    ]
    inbox.imported(1)
    assert raws(connection) == same([fill(9), fill(8), fill(7)])


def test_a_zip_is_taken_whole_or_not_at_all(inbox):
    """Else nobody would notice what was left out."""
    inbox.put("all.zip", zipped([("a.csv", GOOD), ("readme.txt", "Dear customer")]))
    assert inbox.look().new == []
    assert rejected(inbox) == {
        "all.zip": "'readme.txt' in the ZIP: its format is not known; it begins with 'Dear customer'"
    }


def test_links_and_pipes_are_no_files(inbox, tmp_path):
    """Nothing outside of the inbox is read, and nobody waits for a pipe."""
    (tmp_path / "secret").write_text(GOOD)
    os.utime(tmp_path / "secret", (inbox.now - 60, inbox.now - 60))
    (inbox.folder / "link.csv").symlink_to(tmp_path / "secret")
    os.mkfifo(inbox.folder / "pipe.csv")
    os.utime(inbox.folder / "pipe.csv", (inbox.now - 60, inbox.now - 60))
    inbox.now += 10**9
    found = inbox.look()
    assert found.new == []
    assert [said.split(":")[0] for said in found.rejected] == ["link.csv", "pipe.csv"]
    assert (tmp_path / "secret").exists()


def test_a_folder_has_to_be_an_account(inbox):
    """Its name becomes a partition key."""
    inbox.put("my|account/a.csv", GOOD)
    (said,) = inbox.look().rejected
    assert "names no account" in said


def test_a_name_that_is_no_text_is_refused(inbox):
    """It could not be told to anybody."""
    (inbox.folder / os.fsdecode(b"\xff\xfe.csv")).write_text(GOOD)
    (said,) = inbox.look().rejected
    assert "its name is no UTF-8" in said


def test_an_inbox_that_is_not_there_is_empty(inbox, tmp_path):
    """But a file is no inbox."""
    inbox.folder = tmp_path / "none"
    assert inbox.look().new == []
    inbox.folder.write_text("")
    with pytest.raises(Misconfigured, match="is no folder"):
        inbox.look()


def test_a_look_ends_in_time_and_the_next_one_goes_on(inbox):
    """A sensor's tick has a minute."""
    for number in range(3):
        inbox.put(f"{number}.csv", history(fill(number)))
    found = inbox.inbox.look(seconds=-1)
    assert (len(found.new), found.waiting) == (0, 3)
    assert len(inbox.look().new) == 3


def test_the_first_week_begins_on_a_monday():
    """Whatever day is configured."""
    assert StatementsConfig(inbox="x", start="2024-02-29").first_week.isoformat() == "2024-02-26"


LONG_LINE = """
import resource, sys
from pathlib import Path
from ingestion_assets.sources.statements import files
from ingestion_assets.sources.statements.line import Unreadable
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    files.survey(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
except Unreadable as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def looked_through(path, *member) -> tuple[str, int]:
    """What a process says of a file, and the KiB that it took to say it."""
    done = subprocess.run(
        [sys.executable, "-c", LONG_LINE, str(path), *member], capture_output=True, text=True, check=True
    )
    said, grown = done.stdout.splitlines()
    return said, int(grown)


@pytest.mark.parametrize("begin", [HEADER + "\n", "", "<FlexQueryResponse><FlexStatement accountId='"])
def test_a_line_of_a_gigabyte_takes_no_memory(tmp_path, begin):
    """A hole in the file, so that the disk holds nothing of it; NUL bytes are refused first only where lines are short."""
    path = tmp_path / "long"
    with path.open("wb") as opened:
        opened.write(begin.encode())
        opened.write(b"x" * (8 << 20))
        opened.truncate(1 << 30)
    said, grown = looked_through(path)
    assert (
        "longer than 1,048,576 bytes" in said or "of more than 1,048,576 bytes" in said or "not known" in said
    )
    assert grown < 32_000


def test_a_large_file_in_a_zip_takes_no_memory(tmp_path):
    """It is read as it is unpacked, to its bad last line."""
    path = tmp_path / "large.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive, archive.open("a.csv", "w") as inside:
        inside.write(HEADER.encode() + b"\n")
        for minute in range(50_000):
            inside.write((fill(minute % 60, order=minute) + "\n").encode())
        inside.write(b"\0")
    said, grown = looked_through(path, "a.csv")
    assert "holds NUL bytes" in said
    assert grown < 64_000


DAMAGE = [
    b'"', b",", b"\n", b"\r", b"\0", b"<", b">", b"&", b"&#0;", b"=", b"--", b"1e99", b"9" * 120, b"\xff", b"Header", b"Data",
    b"Period", b"2025-13-45", b"9999-12-31T23:59:59-2359", b"<!-- x -->", b"<![CDATA[x]]>", b"<?p?>",
]  # fmt: skip


@pytest.mark.parametrize(
    "name", [*sorted(path.name for path in FILES.iterdir() if path.suffix != ".json"), "zip"]
)
def test_a_damaged_file_is_refused_and_never_more_than_that(tmp_path, name):
    """Whatever is done to a good file, the answer is its records or a sentence."""
    good = zipped([("a.csv", GOOD)]) if name == "zip" else (FILES / name).read_bytes()
    path = tmp_path / "damaged"
    chance = random.Random(name)
    for _ in range(60):
        content = bytearray(good)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(content))
            content[at : at + chance.randint(0, 4)] = chance.choice(
                [*DAMAGE, b"", bytes([chance.randrange(256)])]
            )
        path.write_bytes(content)
        with suppress(Unreadable):
            for member in files.members(path) if files.is_archive(path) else [None]:
                files.survey(path, member)


def test_a_disk_that_fails_keeps_nobody_else_waiting(inbox, monkeypatch):
    """The file stays where it is, and is looked at again."""
    inbox.put("a.csv", GOOD)
    inbox.put("b.csv", history(fill(1)))
    survey = files.survey

    def failing(path, member=None):
        if path.name == "a.csv":
            raise OSError(errno.EIO, "Input/output error")
        return survey(path, member)

    monkeypatch.setattr(files, "survey", failing)
    found = inbox.look()
    assert found.refused == ["a.csv: Input/output error; the next look tries again"]
    assert [file.path for file in found.new] == ["b.csv"]
    monkeypatch.undo()
    assert [file.path for file in inbox.look().new] == ["a.csv"]
