"""The total order of transfers over all chains, and cursors: positions in it that are handed out.

Every transfer has its own place, for the key ends with what is unique; see `sources/transfers/tables`. A page begins right after
the last row of the page before. So what is inserted meanwhile moves no border: what was there when the walk began is
shown once, and what comes is shown if it comes ahead of the walk.
"""

import base64
import hashlib
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec

from ingestion_assets.api.errors import BadQuestion, Wrong
from ingestion_assets.api.records import Stored

Position = tuple[datetime, str, int, uuid.UUID]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class _Cursor(msgspec.Struct, array_like=True, frozen=True):
    question: bytes  # hash of what it belongs to
    microseconds: int
    chain: Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9_-]{0,99}$")]
    place: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    id: uuid.UUID


_encode = msgspec.msgpack.Encoder(uuid_format="hex").encode
_decode = msgspec.msgpack.Decoder(_Cursor).decode


def position(row: Stored) -> Position:
    """Where a row stands."""
    return row.block_time, row.chain, row.place, row.id


def fingerprint(question: Sequence[object]) -> bytes:
    """What a cursor is bound to: filter and direction."""
    return hashlib.blake2b(repr(question).encode(), digest_size=6).digest()


def cursor(at: Position, question: bytes) -> str:
    """A position, to be handed out."""
    time, chain, place, number = at
    packed = _encode(_Cursor(question, (time - _EPOCH) // _MICROSECOND, chain, place, number))
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def read_cursor(text: str, question: bytes) -> Position:
    """The position of a cursor.

    Raises:
        BadQuestion: it is none of ours, or belongs to another filter or direction.
    """
    try:
        found = _decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        time = _EPOCH + found.microseconds * _MICROSECOND
    except (ValueError, msgspec.DecodeError, OverflowError) as error:
        raise BadQuestion(Wrong("cursor", text, "meta.nextCursor of the page before is wanted")) from error
    if found.question != question:
        raise BadQuestion(
            Wrong("cursor", text, "it belongs to another filter or sort: repeat those of the page before")
        )
    return time, found.chain, found.place, found.id
