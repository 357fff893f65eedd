"""How a record of an explorer becomes a row: checked, given its identity, written as COPY text.

Records are JSON objects whose values are all strings; the fields are those of
https://docs.etherscan.io/api-reference/endpoint/txlist, …/txlistinternal and …/tokentx. A record that does
not pass is rejected with the reason and does not stop the page.

This is the path that every record takes, so it works on bytes and looks at each field once: a natural key is
right when, with every hexadecimal digit replaced by 0, it equals the shape of its kind.
"""

import hashlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import sqlalchemy as sa

from ingestion_assets.engine import rows as copy_text
from ingestion_assets.engine.errors import SchemaDrift, Transient
from ingestion_assets.engine.stream import Rejected, Rows
from ingestion_assets.sources.evm import tables
from ingestion_assets.sources.evm.fields import (
    ADDRESS,
    HASH,
    INDEX,
    NULL,
    Unreadable,
    address_or_null,
    block_and_time,
    fits_uint256,
    flag,
    integer,
    matching,
    position,
    token,
    uint256,
    word,
)

HEX_TO_0 = bytes.maketrans(b"0123456789abcdef", b"0" * 16)
HASH_SHAPE = b"0x" + b"0" * 64
ADDRESS_SHAPE = b"0x" + b"0" * 40
# A short page whose size is a round number may have been cut at a cap we do not know of, so it is not taken as the last.
ROUND = 10
DRIFT = 3  # a page of so many records, none of which can be read, is not a run of bad records


class Record(msgspec.Struct, rename="camel", gc=False):
    """What all kinds share."""

    block_number: str
    time_stamp: str
    hash: str
    from_: str = msgspec.field(name="from")
    to: str
    value: str
    contract_address: str

    def key(self) -> str:
        """The columns of the natural key."""
        return f"{self.hash}\t{self.from_}\t{self.to}\t{self.value}"

    def attributes(self) -> str:
        """The columns after the ordinal, up to provider."""
        raise NotImplementedError


class Transaction(Record):
    """A record of txlist."""

    transaction_index: str
    nonce: str
    gas_used: str
    gas_price: str
    is_error: str
    status: str = msgspec.field(name="txreceipt_status")

    def attributes(self) -> str:
        """The columns after the ordinal. Before Byzantium there was no receipt status, only isError."""
        status = flag(self.status, "txreceipt_status") if self.status else "t"
        succeeded = flag(self.is_error, "isError") == "f" and status == "t"
        return (
            f"{integer(self.transaction_index, 'transactionIndex', INDEX)}\t{address_or_null(self.contract_address)}\t"
            f"{integer(self.nonce, 'nonce') if self.nonce else NULL}\t{integer(self.gas_used, 'gasUsed')}\t"
            f"{uint256(self.gas_price, 'gasPrice')}\t{'t' if succeeded else 'f'}"
        )


class InternalTransaction(Record):
    """A record of txlistinternal, asked by address."""

    type: str
    is_error: str
    trace_id: str = ""

    def attributes(self) -> str:
        """The columns after the ordinal."""
        return (
            f"{word(self.type, 'type')}\t{address_or_null(self.contract_address)}\t{flag(self.is_error, 'isError')}\t"
            f"{word(self.trace_id, 'traceId') if self.trace_id else NULL}"
        )


class TokenTransfer(Record):
    """A record of tokentx. It has no log index; `contract_address` is the token."""

    token_symbol: str | None = None
    token_decimal: str | None = None

    def key(self) -> str:
        """The columns of the natural key."""
        return f"{self.hash}\t{self.from_}\t{self.to}\t{self.contract_address}\t{self.value}"

    def attributes(self) -> str:
        """The columns after the ordinal."""
        return token(self.token_symbol, self.token_decimal)


class Row(NamedTuple):
    """A record on its way to becoming a row: all but its ordinal and the id that follows from that.

    A tuple, because a million of them are made in the time that a dataclass takes for a third.
    """

    block: int
    identity: bytes
    when: bytes  # chain, block_number, block_time
    key: bytes  # the natural key
    attributes: bytes  # the columns after the ordinal, up to provider
    payload: bytes | msgspec.Raw  # the record as received; a view of the answer unless it had to be mended


@dataclass(frozen=True, slots=True)
class Page:
    """The records of one answer, in block order; newest first if they were asked for like that.

    `bad` holds each rejected record with the number of good ones before it. `is_last` says that the range
    has nothing more after this page.
    """

    good: Sequence[Row]
    bad: Sequence[tuple[int, Rejected]]
    is_last: bool

    @property
    def size(self) -> int:
        """Records, good and bad."""
        return len(self.good) + len(self.bad)

    @property
    def last_block(self) -> int:
        """The block in which the page ends."""
        return self.good[-1].block

    def before(self, block: int) -> "Page":
        """The part of the page that lies before a block."""
        cut = bisect_left(self.good, block, key=lambda row: row.block)
        return Page(
            self.good[:cut], [bad for bad in self.bad if _lies_before(block, cut, *bad)], is_last=False
        )

    @staticmethod
    def join(pages: Sequence["Page"]) -> "Page":
        """The pages of one question as one."""
        good: list[Row] = []
        bad: list[tuple[int, Rejected]] = []
        for page in pages:
            bad += [(len(good) + at, letter) for at, letter in page.bad]
            good += page.good
        return Page(good, bad, pages[-1].is_last)

    def shared(self, other: "Page") -> "Page":
        """The rows that both readings of one question show, each as often as the reading that shows it less."""
        left = Counter(row.identity for row in other.good)
        good: list[Row] = []
        for row in self.good:
            if left[row.identity] > 0:
                left[row.identity] -= 1
                good.append(row)
        return Page(good, self.bad, is_last=False)

    def rejected(self) -> tuple[Rejected, ...]:
        """The records that cannot become rows."""
        return tuple(letter for _, letter in self.bad)

    def rows(self, kind: "Kind") -> Rows:
        """COPY text. The page must hold whole blocks only: ordinals count the equals of a transaction."""
        seen: dict[bytes, int] = {}
        parts: list[bytes | msgspec.Raw] = []
        for row in self.good:
            ordinal = seen.get(row.identity, 0)
            if kind.has_twins:
                seen[row.identity] = ordinal + 1
            number = b"\t%d\t" % ordinal
            identity = hashlib.blake2b(row.identity + number, digest_size=16).hexdigest().encode()
            parts += (row.when, row.key, number, row.attributes, row.payload, b"\t", identity, b"\n")
        return Rows(kind.table, b"".join(parts), len(self.good))


def _lies_before(block: int, cut: int, at: int, letter: Rejected) -> bool:
    # A record whose block cannot be read is kept where it might be lost otherwise.
    return at <= cut if letter.position is None else letter.position < block


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of record: how it is asked for, and how it is read."""

    name: str
    action: str
    table: sa.Table
    decoder: "msgspec.json.Decoder[Record]"
    shape: bytes  # of the hexadecimal columns of a natural key, with every digit replaced by 0
    identity: Callable[[bytes, bytes], bytes]  # of natural key and attributes
    has_twins: bool = (
        True  # several equal ones may be real; if not, a repeated one was listed twice by mistake
    )

    def page(
        self,
        records: Sequence[msgspec.Raw],
        *,
        chain: str,
        provider: str,
        address: str,
        blocks: tuple[int, int],
        asked: int,
        newest_first: bool = False,
    ) -> Page:
        """Read the records of one answer.

        Args:
            records: as received.
            chain: its name, for the column.
            provider: its name, for the column.
            address: the watched account; a record that does not name it is rejected.
            blocks: the range that was asked for.
            asked: how many records were asked for.
            newest_first: the order that was asked for.

        Raises:
            Transient: the records are out of order, or lie outside of the range.
            SchemaDrift: not one of them can be read.
        """
        good: list[Row] = []
        bad: list[tuple[int, Rejected]] = []
        owner = address.encode()
        after = f"\t{provider}\t"
        misshapen = 0
        for raw in records:
            try:
                record = self.decoder.decode(raw)
                key = record.key().encode().lower()
                attributes = (record.attributes() + after).encode()
                if not self._is_sound(key):
                    key = _mended_key(record)
                if owner not in key and owner not in attributes.lower():
                    raise Unreadable("it names another account than the one that was asked for")
                when, block = block_and_time(chain, record.block_number, record.time_stamp)
                received = bytes(raw)
                payload = copy_text.payload(received)
            except (Unreadable, msgspec.DecodeError, UnicodeError, RecursionError) as error:
                bad.append((len(good), Rejected(bytes(raw), str(error), position(raw))))
                misshapen += not isinstance(error, Unreadable)
                continue
            view = raw if payload is received else payload  # a view costs no memory of its own
            good.append(Row(block, self.identity(key, attributes), when, key, attributes, view))
        is_last = len(records) < asked and (not records or len(records) % ROUND != 0)
        # A page that is not the last one must name a block from which to go on, so it cannot be all bad either.
        if bad and not good and (misshapen >= DRIFT or not is_last):
            raise SchemaDrift(
                f"none of {len(bad)} {self.action} records can be read; the first: {bad[0][1].reason}"
            )
        _check_order([row.block for row in good], blocks, newest_first=newest_first)
        return Page(good, bad, is_last)

    def _is_sound(self, key: bytes) -> bool:
        value = key[len(self.shape) :]
        return (
            key.translate(HEX_TO_0).startswith(self.shape)
            and key.count(b"0x") == self.shape.count(b"0x")
            and value.isdigit()
            and fits_uint256(value)
            and (value[0] != ord("0") or len(value) == 1)
        )


def _shape(addresses: int) -> bytes:
    return HASH_SHAPE + b"\t" + (ADDRESS_SHAPE + b"\t") * addresses


KINDS = (
    Kind(
        "transactions",
        "txlist",
        tables.transactions,
        msgspec.json.Decoder(Transaction),
        _shape(2),
        lambda key, _attributes: key.partition(b"\t")[0],  # a transaction is its hash
        has_twins=False,
    ),
    Kind(
        "internal_transactions",
        "txlistinternal",
        tables.internal_transactions,
        msgspec.json.Decoder(InternalTransaction),
        _shape(2),
        lambda key, attributes: (
            key + b"\t" + b"\t".join(attributes.split(b"\t", 2)[:2]).lower()
        ),  # type, contract
    ),
    Kind(
        "token_transfers",
        "tokentx",
        tables.token_transfers,
        msgspec.json.Decoder(TokenTransfer),
        _shape(3),
        lambda key, _attributes: key,
    ),
)


def _check_order(found: list[int], asked: tuple[int, int], *, newest_first: bool) -> None:
    if not found:
        return
    ordered = sorted(found, reverse=newest_first)
    if found != ordered:
        raise Transient("the records are not in the order that was asked for")
    lo, hi = min(found[0], found[-1]), max(found[0], found[-1])
    if lo < asked[0] or hi > asked[1]:
        raise Transient(f"the records are of the blocks {lo}..{hi}, asked for were {asked[0]}..{asked[1]}")


def _mended_key(record: Record) -> bytes:
    """The key of a record that is not of the usual shape: the legal exceptions, or the reason against it."""
    columns = [matching(HASH, record.hash, "hash"), matching(ADDRESS, record.from_, "from")]
    columns.append(address_or_null(record.to, "to"))
    if isinstance(record, TokenTransfer):
        columns.append(matching(ADDRESS, record.contract_address, "contractAddress"))
    columns.append(uint256(record.value, "value"))
    return "\t".join(columns).encode()
