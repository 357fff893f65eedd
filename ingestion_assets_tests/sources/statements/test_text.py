"""A CSV is cut as the csv module cuts it, whichever way a line takes."""

import csv
import io

import pytest

from ingestion_assets.sources.statements import text
from ingestion_assets.sources.statements.line import Unreadable


@pytest.mark.parametrize(
    "content",
    [
        "a,b\nc,d\n", "a,b\r\n\r\n\nc,,\r\n", "a\n \n,\n", "a,b", 'a,"b,c"\nd,e\n', 'a,"b\n\nc",d\ne\n', 'a "b" c,d\n', '"a""b",c\r\n"d"',
        "a,b\r\r\nc\n", "\ra,\x1c\x85\u2028,b\n"[1:], 'a,"b\r\nc"\r\n' * 3,
        'é,"a\nb",c\r\n\n' * (text.BLOCK // 10), "a," * text.BLOCK + "\nb",
    ],
)  # fmt: skip
def test_cells_are_those_of_the_csv_module(content):
    """Quoted or not, with any line end, empty lines left out."""
    found = [cells for _, _, cells in text.records(io.BytesIO(content.encode()))]
    assert found == [cells for cells in csv.reader(io.StringIO(content, newline="")) if cells]


def test_a_record_is_told_the_line_that_it_begins_at():
    """Its own lines and the empty ones count."""
    content = b'a\n\n"b\n\nc",d\r\ne\n'
    assert [(at, raw) for at, raw, _ in text.records(io.BytesIO(content))] == [
        (1, "a"),
        (3, '"b\n\nc",d'),
        (6, "e"),
    ]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"x\0", "holds NUL bytes"),
        (b"\xe9", "is no UTF-8 .invalid continuation byte at byte 0."),
        (b"b" * (text.MOST_BYTES + 1), "is longer than 1,048,576 bytes"),
    ],
)
@pytest.mark.parametrize("rest", [b"", b"\nc\n"])
def test_lines_before_a_bad_one_are_read(bad, reason, rest):
    """However many are read at once; the message tells which one it is."""
    good = text.BLOCK // 2
    found = text.records(io.BytesIO(b"a\n" * good + bad + b",b" + rest))
    assert [next(found)[0] for _ in range(good)] == list(range(1, good + 1))
    with pytest.raises(Unreadable, match=f"line {good + 1:,} {reason}"):
        next(found)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a,b\nc\rd\n", "line 2 is no CSV"),
        ("a\n" + "b" * (csv.field_size_limit() + 1), "line 2 is no CSV: field larger than field limit"),
        ('a\n\n"b\nc\n', "a quote is opened at line 3 and never closed"),
        ("a\n" + '"b\n",' * text.MOST_BYTES, "a quote is opened at line 2 and not closed within"),
    ],
)
def test_what_the_csv_module_refuses_is_refused(content, reason):
    """With the line, also where no quote stands in it."""
    with pytest.raises(Unreadable, match=reason):
        list(text.records(io.BytesIO(content.encode())))
