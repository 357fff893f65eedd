r"""Rows as Postgres COPY text: escaping, and nothing else. Everything here is bytes, as it will go on the wire.

https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS: columns are separated by a
tab, rows by a newline, NULL is `\N`, and a backslash escapes all of these. Postgres can hold every
character but NUL, which becomes `␀` (U+2400), its visible symbol, and lone surrogates, which become U+FFFD, in
text columns and payloads alike.
"""

import re
from collections.abc import Iterable, Sequence

NULL = rb"\N"
NUL_SYMBOL = "␀"

_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r", "\0": NUL_SYMBOL})
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # Python's own strings never hold a pair
_ESCAPED = re.compile(r"\\(.)")
_UNESCAPES = {"\\": "\\", "t": "\t", "n": "\n", "r": "\r"}

# What jsonb refuses: NUL (group 1) and lone surrogates (group 2). Escaped backslashes and whole pairs are
# stepped over, so that the six characters of a text like \\u0000 stay what they are.
_REFUSED = re.compile(rb"\\\\|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(\\u0000)|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})")
_ONE_LINE = bytes.maketrans(b"\n\r\t", b"   ")


def text(value: str | None) -> bytes:
    """One text column."""
    if value is None:
        return NULL
    value = value.translate(_ESCAPES)
    try:
        return value.encode()
    except UnicodeEncodeError:
        return _LONE_SURROGATE.sub("\ufffd", value).encode()


def verbatim(value: str) -> str:
    """One text column that is most often printable, and then stays as it is, to be encoded with others."""
    if value.isprintable() and "\\" not in value:
        return value
    return text(value).decode()


def printable(value: str) -> str:
    """A text that Postgres can hold as a parameter, as `text` is for COPY."""
    return _LONE_SURROGATE.sub("\ufffd", value.replace("\0", NUL_SYMBOL))


def mend(json: bytes) -> bytes:
    r"""JSON without the escapes that Postgres, and strict decoders, refuse: NUL -> ␀, a lone surrogate -> U+FFFD."""
    return _REFUSED.sub(lambda found: rb"\u2400" if found[1] else rb"\ufffd" if found[2] else found[0], json)


def payload(json: bytes) -> bytes:
    """One jsonb column from a JSON record as received; only what Postgres cannot hold is changed (see `mend`).

    Raises:
        UnicodeDecodeError: the bytes are no UTF-8.
    """
    if not json.isascii():
        json.decode()
    if b"\\" in json:
        if b"\\u" in json:
            json = mend(json)
        json = json.replace(b"\\", b"\\\\")
    if b"\n" in json or b"\r" in json or b"\t" in json:  # between tokens only: JSON strings cannot hold them
        json = json.translate(_ONE_LINE)
    return json


def lines(records: Iterable[Sequence[object]]) -> bytes:
    """Records of plain values (str, int, Decimal, datetime, None) as a block of COPY text."""
    return b"".join(
        b"\t".join(text(None if value is None else str(value)) for value in record) + b"\n"
        for record in records
    )


def column(line: bytes, index: int) -> bytes:
    """The value of one column of a COPY line, unescaped: how a refused line gives its payload back."""
    value = line.decode().rstrip("\n").split("\t")[index]
    return _ESCAPED.sub(lambda escape: _UNESCAPES.get(escape[1], escape[1]), value).encode()
