"""ERC-20 transfers: which logs are one, and how they become rows. The path that every log takes.

https://eips.ethereum.org/EIPS/eip-20. A transfer holds sender, receiver and value. Two of them are topics as a rule; tokens
older than the standard have fewer topics and more data. A log with all three as topics is an ERC-721 transfer, and none of ours.
"""

import re
from collections.abc import Collection, Sequence
from functools import lru_cache

import msgspec

from ingestion_assets.engine import rows as copy_text
from ingestion_assets.engine.stream import Rejected
from ingestion_assets.sources.evm.fields import ADDRESS, HASH, INDEX, Unreadable, integer, matching
from ingestion_assets.sources.evm.node.blocks import when
from ingestion_assets.sources.evm.node.shapes import Log, quantity
from ingestion_assets.sources.evm.node.tokens import Tokens
from ingestion_assets.sources.evm.node.windows import Found
from ingestion_assets.sources.evm.records import ADDRESS_SHAPE, TOKEN_TRANSFERS, Kind, Row

# keccak-256 of Transfer(address,address,uint256)
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"

WORD = 64  # hexadecimal digits
PREFIX = 2  # 0x
WORDS = 4  # of a transfer, in topics and data: the event, sender, receiver, value

_TOPIC = re.compile(r"0x[0-9a-fA-F]{24}([0-9a-fA-F]{40})")
_PADDING = "0x" + "0" * 24  # of an address in a topic
_AT = len(_PADDING)  # where the address begins
_SHAPE = TOKEN_TRANSFERS.shape
_TOKEN_AT = len(_SHAPE) - len(ADDRESS_SHAPE) - 1  # where the token begins
_ZERO = ord("0")  # of 0x; that of sender and receiver is written here
_HEX_TO_0 = bytes.maketrans(b"123456789abcdef", b"0" * 15)

Pair = tuple[Log, msgspec.Raw]  # a log, and the same as received


def _holder(topic: str) -> str:
    """The address in a topic: its last 20 bytes."""
    match = _TOPIC.fullmatch(topic)
    if match is None:
        raise Unreadable(f"a topic is no 32 bytes: {topic[:80]!r}")
    return f"0x{match[1]}"


@lru_cache(maxsize=4_096)
def _index(number: str) -> bytes:
    return integer(str(quantity(number, "logIndex")), "logIndex", INDEX).encode()


def topic_of(account: str) -> str:
    """An account as a topic: filled up with zeros to 32 bytes."""
    return f"0x{account[2:]:0>64}"


def is_transfer(log: Log) -> bool:
    """Whether it has the name and the size of an ERC-20 transfer."""
    topics = log.topics
    if not topics or (topics[0] != TRANSFER and topics[0].lower() != TRANSFER):
        return False
    return len(topics) < WORDS and len(log.data) == PREFIX + WORD * (WORDS - len(topics))


def key_of(log: Log) -> bytes:
    """The natural key of a transfer, as rows hold it: transaction, sender, receiver, token, value.

    Most logs need no more than to be put together, so that is tried first and looked at afterwards.

    Raises:
        Unreadable: what should be a number, a hash or an address is none.
    """
    topics, data = log.topics, log.data
    if len(topics) == WORDS - 1:
        sender, receiver, value = topics[1], topics[2], data
    else:
        words = [*topics[1:], *(f"0x{data[at : at + WORD]}" for at in range(PREFIX, len(data), WORD))]
        sender, receiver, value = words
    if sender[:_AT] != _PADDING or receiver[:_AT] != _PADDING:
        sender, receiver = f"{_PADDING}{_holder(sender)[2:]}", f"{_PADDING}{_holder(receiver)[2:]}"
    if data[:PREFIX] != "0x":
        raise Unreadable(f"data is no run of bytes: {data[:80]!r}")
    try:
        text = (
            f"{log.transaction_hash}\t0x{sender[_AT:]}\t0x{receiver[_AT:]}\t{log.address}\t{int(value, 16)}"
        )
    except ValueError as error:
        raise Unreadable(f"data is no run of bytes: {data[:80]!r}") from error
    key = text.lower().encode()
    is_shaped = key.translate(_HEX_TO_0).startswith(_SHAPE) and key[0] == key[_TOKEN_AT] == _ZERO
    if is_shaped and len(log.address) == len(ADDRESS_SHAPE):
        return key
    for topic in (sender, receiver):
        _holder(topic)
    matching(HASH, log.transaction_hash, "transactionHash")
    matching(ADDRESS, log.address, "address")
    raise Unreadable(f"its parts make no key: {text[:300]!r}")


class Transfers:
    """Which transfers are asked for, and their rows.

    Args:
        kind: `TOKEN_TRANSFERS` of accounts, or `ERC20_TRANSFERS` of tokens.
        subjects: the accounts or tokens, lower case; None: every token.
        chain: its name, for the column.
        provider: its name, for the column.
        tokens: what contracts say of themselves.
    """

    def __init__(
        self, kind: Kind, subjects: Collection[str] | None, chain: str, provider: str, tokens: Tokens
    ) -> None:
        self._kind = kind
        self._chain = chain
        self._provider = provider
        self._tokens = tokens
        self.contracts: frozenset[str] | None = None
        self.topics: frozenset[str] | None = None
        """Of the accounts. Transfers of tokens without indexed parties cannot be asked for by account, and are none."""
        if subjects is not None and kind is TOKEN_TRANSFERS:
            self.topics = frozenset(map(topic_of, subjects))
        elif subjects is not None:
            self.contracts = frozenset(subjects)

    def picks(self, log: Log) -> bool:
        """Whether a log is one of them."""
        if not is_transfer(log):
            return False
        if self.topics is not None:
            topics = log.topics
            return len(topics) == WORDS - 1 and (
                topics[1].lower() in self.topics or topics[2].lower() in self.topics
            )
        return self.contracts is None or log.address.lower() in self.contracts

    def rows(
        self, logs: Sequence[Pair], block: int, timestamp: str, block_hash: str, *, as_is: bool
    ) -> Found:
        """Rows of one block.

        Args:
            logs: transfers that are picked, in the order of the block.
            block: its number.
            timestamp: as the node writes it.
            block_hash: lower case.
            as_is: payloads need no mending, and may be views of the answer they came in; else they are copied, and the
                answer can go.
        """
        same = f"\t{block_hash}\t{self._provider}\t".encode()
        after: dict[str, bytes] = {}
        if self._kind is TOKEN_TRANSFERS:
            said = self._tokens.columns({log.address.lower() for log, _ in logs})
            after = {token: f"\t{columns}\t{self._provider}\t".encode() for token, columns in said.items()}
        time = when(self._chain, block, timestamp)
        identity = self._kind.identity
        found = Found()
        add = found.rows.append
        # Every log passes here: written for speed, see benchmarks/logs.md.
        for log, raw in logs:
            try:
                key = key_of(log)
                attributes = _index(log.log_index) + (after[log.address.lower()] if after else same)
                payload = raw if as_is else copy_text.payload(bytes(raw))
            except (Unreadable, UnicodeError) as error:
                found.bad.append(Rejected(bytes(raw), str(error), block))
                continue
            add(Row(block, identity(key, attributes), time, key, attributes, payload))
        return found
