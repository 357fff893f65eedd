"""The fields of explorer records, one check each: all are strings, and a wrong one names itself in the reason.

What passes comes back as the text of its COPY column. Records repeat themselves, so answers are remembered.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from ingestion_assets.engine import rows as copy_text

NULL = copy_text.NULL.decode()

HASH = re.compile(r"0x[0-9a-f]{64}|genesis_0x[0-9a-f]{40}")  # the second: an allocation of the genesis block
ADDRESS = re.compile(r"0x[0-9a-f]{40}|genesis")
INTEGER = re.compile(r"0|[1-9][0-9]{0,17}")  # fits a bigint
INDEX = re.compile(r"0|[1-9][0-9]{0,8}")  # fits an integer
UINT256_MAX = str(2**256 - 1)
UINT256_DIGITS = len(UINT256_MAX)
UINT8 = 255


class Unreadable(ValueError):
    """This record cannot become a row."""


def matching(pattern: "re.Pattern[str]", value: str, name: str) -> str:
    """A hash or an address, in lower case."""
    value = value.lower()
    if not pattern.fullmatch(value):
        raise Unreadable(f"{name} is no {'hash' if pattern is HASH else 'address'}: {value[:80]!r}")
    return value


@lru_cache(maxsize=4096)
def address_or_null(value: str, name: str = "contractAddress") -> str:
    """An address; NULL where the field is empty."""
    return matching(ADDRESS, value, name) if value else NULL


def integer(value: str, name: str, pattern: "re.Pattern[str]" = INTEGER) -> str:
    """A whole number without leading zeros that fits its column."""
    if not pattern.fullmatch(value):
        raise Unreadable(f"{name} is no whole number: {value[:40]!r}")
    return value


def fits_uint256(digits: bytes) -> bool:
    """Whether these digits, which begin with none that is 0, are a number below 2^256."""
    size = len(digits)  # without leading zeros, so that equally long numbers compare like texts
    return size < UINT256_DIGITS or (size == UINT256_DIGITS and digits <= UINT256_MAX.encode())


def uint256(value: str, name: str) -> str:
    """A whole number below 2^256, without leading zeros."""
    number = value.lstrip("0") or "0"
    if not (value.isascii() and value.isdigit() and fits_uint256(number.encode())):
        raise Unreadable(f"{name} is no whole number below 2^256: {value[:90]!r}")
    return number


def flag(value: str, name: str) -> str:
    """A boolean of the two digits 0 and 1."""
    if value not in ("0", "1"):
        raise Unreadable(f"{name} is neither 0 nor 1: {value[:40]!r}")
    return "t" if value == "1" else "f"


@lru_cache(maxsize=4096)
def word(value: str, name: str) -> str:
    """A plain word, in lower case."""
    if not value.replace("_", "").isalnum() or not value.isascii():
        raise Unreadable(f"{name} is no plain word: {value[:40]!r}")
    return value.lower()


@lru_cache(maxsize=4096)
def token(symbol: str | None, decimals: str | None) -> str:
    """token_symbol, token_decimals. Anybody can make a token that says odd things of itself."""
    is_sane = decimals and INTEGER.fullmatch(decimals) and int(decimals) <= UINT8
    return f"{copy_text.text(symbol).decode()}\t{decimals if is_sane else NULL}"


# What explorers do not list as an internal transaction: code that runs in the caller's own name moves nothing, though
# some repeat the value of the call around it, and rewards are of no transaction.
UNLISTED = frozenset({"delegatecall", "callcode", "staticcall", "reward"})
MOVING = frozenset({"call"})  # listed where they carry value


@lru_cache(maxsize=4096)
def call_type(kind: str, call: str | None = None) -> str:
    """The type of an internal transaction in our words, from a trace's type and, for calls, its callType."""
    name = word(call or kind, "type") if word(kind, "type") == "call" else word(kind, "type")
    return "selfdestruct" if name == "suicide" else name


@lru_cache(maxsize=4096)
def when(chain: str, block: int, seconds: int) -> bytes:
    """The columns chain, block_number and block_time. Many records share a block."""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise Unreadable(f"timeStamp is no time: {seconds}") from error
    return f"{chain}\t{block}\t{moment.isoformat()}\t".encode()


@lru_cache(maxsize=4096)
def block_and_time(chain: str, block: str, timestamp: str) -> tuple[bytes, int]:
    """The columns chain, block_number and block_time, and the block."""
    number = int(integer(block, "blockNumber"))
    return when(chain, number, int(integer(timestamp, "timeStamp"))), number


class _Position(msgspec.Struct):
    text: str = msgspec.field(name="blockNumber", default="")
    number: int = msgspec.field(name="block_number", default=-1)


_position = msgspec.json.Decoder(_Position)


def position(raw: msgspec.Raw) -> int | None:
    """The block of a record that could not be read, if at least that can be."""
    try:
        found = _position.decode(raw)
        block = int(integer(found.text, "blockNumber")) if found.text else found.number
    except (msgspec.DecodeError, UnicodeError, Unreadable):
        return None
    return block if block >= 0 else None
