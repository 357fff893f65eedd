"""What makes two lines the same line. Belongs here: the hash that is a row's `id`, and the ordinal among equals.

Two exports of one account that overlap hold the same lines, and equal lines in each. The n-th of them in one file is the
n-th of them in the other: so the union of both holds as many as the one that has more.
"""

from datetime import datetime
from hashlib import blake2b

from ingestion_assets.sources.statements.line import KEY_SEPARATOR, Line


class Ordinals:
    """Counts the equal lines of one file, in its order.

    Args:
        dialect: that the file is written in.
        in_order: its lines stand in order of time. Then the lines of one moment are all that is kept in memory, else 16 bytes
            for each different line, and what Python needs to keep them.
    """

    def __init__(self, dialect: str, *, in_order: bool) -> None:
        self._hash = blake2b(digest_size=16, key=dialect.encode())
        self._in_order = in_order
        self._at: datetime | None = None
        self._moment = ""
        self._seen: dict[bytes, int] = {}

    def next(self, line: Line) -> tuple[int, str]:
        """The ordinal of a line, and its id as hexadecimal digits."""
        if line.at != self._at:
            if self._in_order:
                self._seen.clear()
            self._at, self._moment = line.at, line.at.isoformat()
        hashed = self._hash.copy()
        text = KEY_SEPARATOR.join((line.section, self._moment, line.key))
        hashed.update(text.encode("utf-8", "surrogatepass"))
        found = hashed.digest()
        ordinal = self._seen.get(found, 0)
        self._seen[found] = ordinal + 1
        if ordinal:
            hashed.update(b"\x1f%d" % ordinal)
            found = hashed.digest()
        return ordinal, found.hex()
