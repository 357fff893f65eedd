"""What a node says of blocks, receipts and logs, as it says it. https://ethereum.github.io/execution-apis

Belongs here: the shapes and how their numbers are read; what they mean is said elsewhere. Only the fields that
somebody needs are named: every chain adds its own. Logs and transactions stay raw, because rows keep the text as
received; `Log` reads one.
"""

import re
from functools import lru_cache

import msgspec

from ingestion_assets.sources.evm.fields import Unreadable

# https://ethereum.org/developers/docs/apis/json-rpc/#quantities-encoding; explorers write a zero as 0x
QUANTITY = re.compile(r"0x[0-9a-fA-F]*", re.ASCII)


class Block(msgspec.Struct, rename="camel", gc=False):
    """A block of eth_getBlockByNumber: its transactions are hashes, or objects where whole ones were asked for."""

    number: str
    hash: str
    parent_hash: str
    timestamp: str
    logs_bloom: str
    receipts_root: str
    gas_used: str
    transactions: list[msgspec.Raw]

    def hashes(self) -> list[str]:
        """The hashes of its transactions, in order, lower case."""
        return [_hash_of(transaction) for transaction in self.transactions]


class Log(msgspec.Struct, rename="camel", gc=False):
    """An event, as eth_getLogs and receipts hold it."""

    address: str
    topics: tuple[str, ...]
    data: str
    block_number: str
    block_hash: str
    transaction_hash: str
    transaction_index: str
    log_index: str
    removed: bool = False
    block_timestamp: str | None = None  # newer nodes only


class Receipt(msgspec.Struct, rename="camel", gc=False):
    """What a transaction did. Those of eth_getBlockReceipts stand in the order of the block."""

    transaction_hash: str
    transaction_index: str
    block_hash: str
    block_number: str
    cumulative_gas_used: str
    gas_used: str
    logs_bloom: str
    logs: list[msgspec.Raw]
    type: str = "0x0"
    status: str | None = None
    root: str | None = None  # instead of a status, before the Byzantium fork
    from_: str | None = msgspec.field(name="from", default=None)
    to: str | None = None
    contract_address: str | None = None
    effective_gas_price: str | None = None
    deposit_nonce: str | None = None  # of OP chains, and the version says that the root commits to both
    deposit_receipt_version: str | None = None

    def events(self) -> list[Log]:
        """Its logs, read."""
        return [read_log(raw) for raw in self.logs]


class _Hashed(msgspec.Struct, gc=False):
    hash: str


read_block = msgspec.json.Decoder(Block).decode
read_receipts = msgspec.json.Decoder(list[Receipt]).decode
read_log = msgspec.json.Decoder(Log).decode
_read_hash = msgspec.json.Decoder(str | _Hashed).decode


def _hash_of(transaction: msgspec.Raw) -> str:
    read = _read_hash(transaction)
    return (read if isinstance(read, str) else read.hash).lower()


def quantity(text: str, name: str = "number") -> int:
    """A whole number as nodes write it: 0x1a is 26.

    Raises:
        Unreadable: it is written otherwise.
    """
    if not QUANTITY.fullmatch(text):
        raise Unreadable(f"{name} is no number as nodes write them: {text[:80]!r}")
    return int(text, 16) if len(text) > 2 else 0  # noqa: PLR2004 - the prefix alone


@lru_cache(maxsize=4_096)
def index_of(text: str) -> int:
    """The place of a log in its block; these repeat themselves from block to block.

    Raises:
        Unreadable: it is written otherwise.
    """
    return quantity(text, "logIndex")


def octets(text: str, name: str = "data") -> bytes:
    """Bytes as nodes write them.

    Raises:
        Unreadable: it is written otherwise.
    """
    try:
        if text[:2] == "0x" and not len(text) % 2:
            return bytes.fromhex(text[2:])
    except ValueError:
        pass
    raise Unreadable(f"{name} is no run of bytes as nodes write them: {text[:80]!r}")
