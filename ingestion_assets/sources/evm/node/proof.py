"""Whether what a node says of a block agrees with the block's header.

The bloom of a header has no false negatives, so logs that are held back leave bits that nothing explains; log
indices run through a block without a hole; the receipts root commits to every byte of every log. Each check names
the block and what disagrees. https://ethereum.github.io/yellowpaper/paper.pdf §4.3, §4.4.1; EIP-658, EIP-2718.

Polygon shows one transaction more than some of its blocks hold: the deposits from Ethereum, which it calls state sync.
Neither bloom nor root nor gas of the header know of it, so nothing here proves its logs but their indices.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Protocol

import msgspec

from ingestion_assets.sources.evm.fields import Unreadable
from ingestion_assets.sources.evm.node import merkle
from ingestion_assets.sources.evm.node.keccak import keccak256
from ingestion_assets.sources.evm.node.shapes import Block, Log, Receipt, octets, quantity

BLOOM = 256  # bytes
LAST_TYPE = 0x7F  # https://eips.ethereum.org/EIPS/eip-2718
STATE_SYNC = b"matic-bor-receipt-"  # https://github.com/0xPolygon/bor, core/types/bor_receipt.go


class Contradiction(ValueError):
    """A node's answer and the header of the block do not agree. The text names the block."""


class Event(Protocol):
    """What of a log goes into a bloom: hex strings."""

    @property
    def address(self) -> str:
        """The contract."""
        ...

    @property
    def topics(self) -> Sequence[str]:
        """What the contract made searchable."""
        ...


def _bits(item: bytes) -> int:
    """The three bits that an address or a topic sets, as a number of 2048 bits."""
    found = keccak256(item)
    return (
        1 << (int.from_bytes(found[0:2], "big") & 2047)
        | 1 << (int.from_bytes(found[2:4], "big") & 2047)
        | 1 << (int.from_bytes(found[4:6], "big") & 2047)
    )


@lru_cache(maxsize=16_384)  # contracts and their events repeat themselves; about 8 MB when full
def _bits_of(item: str) -> int:
    return _bits(octets(item, "an address or topic"))


@lru_cache(maxsize=256)
def _wanted(items: tuple[bytes, ...]) -> int:
    bits = 0
    for item in items:
        bits |= _bits(item)
    return bits


def bloom_may_hold(bloom: bytes, *items: bytes) -> bool:
    """Whether all these addresses (20 bytes) and topics (32 bytes) may be in it. False is certain."""
    bits = _wanted(items)
    return int.from_bytes(bloom, "big") & bits == bits


def logs_bloom(logs: Iterable[Event]) -> bytes:
    """The 256 bytes of bloom that these logs make.

    Raises:
        Unreadable: an address or topic is no run of bytes.
    """
    return _union(logs).to_bytes(BLOOM, "big")


def _union(logs: Iterable[Event]) -> int:
    bits = 0
    for log in logs:
        bits |= _bits_of(log.address)
        for topic in log.topics:
            bits |= _bits_of(topic)
    return bits


def receipts_root(receipts: Sequence[Receipt]) -> bytes:
    """The 32 bytes by which a header commits to these receipts, which stand in the order of the block.

    Raises:
        Unreadable: a field is no number, or no run of bytes.
    """
    return merkle.root([_envelope(receipt, receipt.events()) for receipt in receipts])


def _envelope(receipt: Receipt, logs: Sequence[Log]) -> bytes:
    """A receipt as it is hashed: its type, if it has one, and the RLP of what was agreed upon."""
    if receipt.root is not None and receipt.status is None:
        outcome = merkle.string(octets(receipt.root, "root"))
    else:
        outcome = merkle.integer(quantity(receipt.status or "", "status"))
    fields = [
        outcome,
        merkle.integer(quantity(receipt.cumulative_gas_used, "cumulativeGasUsed")),
        merkle.string(octets(receipt.logs_bloom, "logsBloom")),
        merkle.sequence(map(_log, logs)),
    ]
    if receipt.deposit_receipt_version is not None:  # OP chains since Canyon
        fields.append(merkle.integer(quantity(receipt.deposit_nonce or "", "depositNonce")))
        fields.append(merkle.integer(quantity(receipt.deposit_receipt_version, "depositReceiptVersion")))
    number = quantity(receipt.type, "type")
    if number > LAST_TYPE:
        raise Unreadable(f"type is no byte: {receipt.type[:80]!r}")
    return (bytes((number,)) if number else b"") + merkle.sequence(fields)


def _log(log: Log) -> bytes:
    topics = merkle.sequence([merkle.string(octets(topic, "a topic")) for topic in log.topics])
    return merkle.sequence(
        (merkle.string(octets(log.address, "address")), topics, merkle.string(octets(log.data)))
    )


def check_logs(header: Block, logs: Sequence[Log]) -> None:
    """Whether these are all logs of a block: no index is missing, and together they make the header's bloom.

    Raises:
        Contradiction: something is missing, twice there, or of another block.
    """
    try:
        _check_logs(_place(header), header, logs)
    except Unreadable as error:
        raise Contradiction(f"block {header.number}: {error}") from error


def _check_logs(place: str, header: Block, logs: Sequence[Log]) -> None:
    for expected, log in enumerate(logs):
        if log.block_hash.lower() != header.hash.lower():
            raise Contradiction(f"{place}: a log is of the block {log.block_hash}")
        index = quantity(log.log_index, "logIndex")
        if index != expected:
            raise Contradiction(f"{place}: where the log {expected} should stand is the log {index}")
    committed = _number(header.logs_bloom)
    if _union(logs) != committed:
        apart = _state_sync(header)
        if _union(log for log in logs if log.transaction_hash.lower() != apart) != committed:
            raise Contradiction(f"{place}: its {len(logs)} logs do not make its bloom")


def _state_sync(header: Block) -> str:
    """The hash of the transaction that Polygon shows with this block and does not commit to."""
    number = quantity(header.number).to_bytes(8, "big")
    return "0x" + keccak256(STATE_SYNC + number + octets(header.hash, "hash")).hex()


def _number(bloom: str) -> int:
    return int.from_bytes(octets(bloom, "logsBloom"), "big")


def check_block(header: Block, receipts: Sequence[Receipt], *, root: bool) -> None:
    """Whether these are all receipts of a block, in its order, with all their logs.

    Args:
        header: the block, with its transactions.
        receipts: of eth_getBlockReceipts.
        root: compute the receipts root as well, which proves every byte of every log.

    Raises:
        Contradiction: they disagree, or cannot be read.
    """
    try:
        _check_block(header, receipts, root=root)
    except (Unreadable, msgspec.DecodeError) as error:
        raise Contradiction(f"block {header.number}: {error}") from error


def _check_block(header: Block, receipts: Sequence[Receipt], *, root: bool) -> None:
    place = _place(header)
    hashes = header.hashes()
    if len(receipts) != len(hashes):
        raise Contradiction(f"{place} has {len(hashes)} transactions, and {len(receipts)} receipts came")
    apart = _state_sync(header)
    logs: list[Log] = []
    encoded: list[bytes] = []
    gas = 0
    for index, (receipt, expected) in enumerate(zip(receipts, hashes, strict=True)):
        where, events = f"{place}, receipt {index}", receipt.events()
        _check_place(where, header, receipt, events, (index, expected))
        logs += events
        if expected == apart:
            continue
        gas = _check_gas(where, receipt, gas)
        if _union(events) != _number(receipt.logs_bloom):
            raise Contradiction(f"{where}: its {len(events)} logs do not make its bloom")
        if root:
            encoded.append(_envelope(receipt, events))
    if gas != quantity(header.gas_used, "gasUsed"):
        raise Contradiction(f"{place} used {quantity(header.gas_used)} gas, its receipts {gas}")
    _check_logs(place, header, logs)
    if root and (computed := merkle.root(encoded)) != octets(header.receipts_root, "receiptsRoot"):
        raise Contradiction(
            f"{place}: its receipts root is {header.receipts_root}, its receipts make 0x{computed.hex()}"
        )


def _check_place(
    place: str, header: Block, receipt: Receipt, logs: Sequence[Log], at: tuple[int, str]
) -> None:
    """What the root does not commit to: which block and transaction a receipt and its logs are of."""
    index, expected = at
    number, hashes = quantity(header.number), (expected, header.hash.lower())
    records: list[Receipt | Log] = [receipt, *logs]
    for record in records:
        if (record.transaction_hash.lower(), record.block_hash.lower()) != hashes:
            raise Contradiction(
                f"{place} is of the transaction {record.transaction_hash} in the block {record.block_hash}, "
                f"not of {expected} in {header.hash}"
            )
        if (quantity(record.transaction_index), quantity(record.block_number)) != (index, number):
            raise Contradiction(
                f"{place} says it is number {record.transaction_index} in the block {record.block_number}"
            )


def _check_gas(place: str, receipt: Receipt, before: int) -> int:
    """The gas used so far, which rises with every receipt by what its transaction used."""
    gas = quantity(receipt.cumulative_gas_used, "cumulativeGasUsed")
    used = quantity(receipt.gas_used, "gasUsed")
    if gas != before + used:
        raise Contradiction(f"{place} used {used} gas, yet the gas used so far goes from {before} to {gas}")
    return gas


def _place(header: Block) -> str:
    return f"block {quantity(header.number)}"
