"""How the records of an explorer's list become rows: checked, given their identity, written as COPY text.

Belongs here: the records that explorers of the Etherscan family give, which are JSON objects whose values are all
strings, with the fields of https://docs.etherscan.io/api-reference/endpoint/txlist, …/txlistinternal and …/tokentx; and
what is the same for every dialect. A dialect brings its own `Listing`s. A record that does not pass is rejected with
the reason and does not stop the page.

This is the path that every record takes, so it works on bytes and looks at each field once: a natural key is
right when, with every hexadecimal digit replaced by 0, it equals the shape of its kind.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec

from ingestion_assets.engine import rows as copy_text
from ingestion_assets.engine.errors import SchemaDrift, Transient
from ingestion_assets.engine.stream import Rejected
from ingestion_assets.sources.evm.fields import (
    ADDRESS,
    HASH,
    INDEX,
    MOVING,
    NULL,
    UNLISTED,
    Unreadable,
    address_or_null,
    block_and_time,
    call_type,
    fits_uint256,
    flag,
    integer,
    matching,
    position,
    token,
    uint256,
    word,
)
from ingestion_assets.sources.evm.records import (
    INTERNAL_TRANSACTIONS,
    TOKEN_TRANSFERS,
    TRANSACTIONS,
    Kind,
    Page,
    Row,
)

HEX_TO_0 = bytes.maketrans(b"0123456789abcdef", b"0" * 16)
UNKNOWN = NULL.encode() + b"\t"  # how the attributes of a token transfer without a log index begin
DRIFT = 3  # a page of so many records, none of which can be read, is not a run of bad records


class Listed(Protocol):
    """What every record of a list can say of itself, in whatever dialect."""

    @property
    def block_number(self) -> str:
        """Decimal."""
        ...

    @property
    def time_stamp(self) -> str:
        """Seconds since 1970, decimal."""
        ...

    @property
    def is_listed(self) -> bool:
        """Whether it is a row of ours; asked where its `Listing` is `selective`."""
        ...

    def key(self) -> str:
        """The columns of the natural key."""
        ...

    def attributes(self) -> str:
        """The columns after the ordinal, up to provider."""
        ...

    def mended_key(self) -> str:
        """The key of a record that is not of the usual shape: the legal exceptions, or `Unreadable`."""
        ...


class Record(msgspec.Struct, rename="camel", gc=False):
    """What all kinds share in the Etherscan family."""

    block_number: str
    time_stamp: str
    hash: str
    from_: str = msgspec.field(name="from")
    to: str
    value: str
    contract_address: str

    @property
    def is_listed(self) -> bool:
        """See `Listed`."""
        return True

    def key(self) -> str:
        """See `Listed`."""
        return f"{self.hash}\t{self.from_}\t{self.to}\t{self.value}"

    def mended_key(self) -> str:
        """See `Listed`."""
        return natural_key(self.hash, self.from_, self.to, self.value)


class Transaction(Record):
    """A record of txlist."""

    transaction_index: str
    nonce: str
    gas_used: str
    gas_price: str
    is_error: str
    status: str = msgspec.field(name="txreceipt_status")

    def succeeded(self) -> str:
        """As a column. Before Byzantium there was no receipt status, only isError."""
        status = flag(self.status, "txreceipt_status") if self.status else "t"
        return "t" if flag(self.is_error, "isError") == "f" and status == "t" else "f"

    def attributes(self) -> str:
        """See `Listed`."""
        succeeded = self.succeeded()
        return (
            f"{integer(self.transaction_index, 'transactionIndex', INDEX)}\t{address_or_null(self.contract_address)}\t"
            f"{integer(self.nonce, 'nonce') if self.nonce else NULL}\t{integer(self.gas_used, 'gasUsed')}\t"
            f"{uint256(self.gas_price, 'gasPrice')}\t{succeeded}"
        )


class InternalTransaction(Record):
    """A record of txlistinternal, asked by address."""

    type: str
    is_error: str
    trace_id: str = ""

    @property
    def is_listed(self) -> bool:
        """See `Listed`."""
        return moves(call_type(self.type), self.value)

    def attributes(self) -> str:
        """See `Listed`."""
        return (
            f"{call_type(self.type)}\t{address_or_null(self.contract_address)}\t{flag(self.is_error, 'isError')}\t"
            f"{word(self.trace_id, 'traceId') if self.trace_id else NULL}"
        )


class TokenTransfer(Record):
    """A record of tokentx. It has no log index; `contract_address` is the token."""

    token_symbol: str | None = None
    token_decimal: str | None = None

    def key(self) -> str:
        """See `Listed`."""
        return f"{self.hash}\t{self.from_}\t{self.to}\t{self.contract_address}\t{self.value}"

    def mended_key(self) -> str:
        """See `Listed`."""
        return natural_key(self.hash, self.from_, self.to, self.value, self.contract_address)

    def attributes(self) -> str:
        """See `Listed`."""
        return f"{NULL}\t{token(self.token_symbol, self.token_decimal)}"


def moves(kind: str, value: str) -> bool:
    """Whether an internal transaction is listed: value calls, creations, self-destructs, but no code run in another's name."""
    is_zero = value != "" and not value.strip("0")
    return kind not in UNLISTED and not (kind in MOVING and is_zero)


def natural_key(tx: str, sender: str, receiver: str, value: str, contract: str | None = None) -> str:
    """The columns of a natural key, each checked by itself; `contract` is the token, where the kind has one."""
    columns = [
        matching(HASH, tx, "hash"),
        matching(ADDRESS, sender, "from"),
        address_or_null(receiver, "to"),
    ]
    if contract is not None:
        columns.append(matching(ADDRESS, contract, "contractAddress"))
    return "\t".join([*columns, uint256(value, "value")])


@dataclass(frozen=True, slots=True)
class Listing:
    """One kind of record in one dialect."""

    kind: Kind
    action: str  # what the list is called in questions
    decode: Callable[[msgspec.Raw], Listed]
    selective: bool = False  # some records of the list are no rows of ours
    numbered: bool = False  # records tell their place in the block, so that no two are equal

    def page(
        self,
        records: Sequence[msgspec.Raw],
        *,
        chain: str,
        provider: str,
        address: str,
        blocks: tuple[int, int],
        is_last: bool,
        newest_first: bool = False,
        doubt: str | None = None,
    ) -> Page:
        """Read the records of one answer.

        Args:
            records: as received.
            chain: its name, for the column.
            provider: its name, for the column.
            address: the watched account; a record that does not name it is rejected.
            blocks: the range that was asked for.
            is_last: whether the range has nothing more after these.
            newest_first: the order that was asked for.
            doubt: the provider's own.

        Raises:
            Transient: the records are out of order, come twice, or lie outside of the range.
            SchemaDrift: not one of them can be read.
        """
        good: list[Row] = []
        bad: list[tuple[int, Rejected]] = []
        left_out: list[int] = []
        owner = address.encode()
        after = f"\t{provider}\t"
        misshapen = 0
        kind, decode, selective = self.kind, self.decode, self.selective
        for raw in records:
            try:
                record = decode(raw)
                if selective and not record.is_listed:
                    left_out.append(block_and_time(chain, record.block_number, record.time_stamp)[1])
                    continue
                key = record.key().encode().lower()
                attributes = (record.attributes() + after).encode()
                if not _is_sound(key, kind.shape):
                    key = record.mended_key().encode()
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
            good.append(Row(block, kind.identity(key, attributes), when, key, attributes, view))
        # A page that is not the last one must name a block from which to go on, so it cannot be all bad either.
        if bad and not good and not left_out and (misshapen >= DRIFT or not is_last):
            raise SchemaDrift(
                f"none of {len(bad)} {self.action} records can be read; the first: {bad[0][1].reason}"
            )
        _check_order([row.block for row in good], blocks, newest_first=newest_first)
        _check_order(left_out, blocks, newest_first=newest_first)
        if self.numbered:
            _check_once([(row.key, row.attributes) for row in good if not row.attributes.startswith(UNKNOWN)])
        reach = left_out[-1] if left_out and not newest_first else -1
        return Page(good, bad, is_last, len(left_out), reach, doubt)


def _is_sound(key: bytes, shape: bytes) -> bool:
    value = key[len(shape) :]
    return (
        key.translate(HEX_TO_0).startswith(shape)
        and key.count(b"0x") == shape.count(b"0x")
        and value.isdigit()
        and fits_uint256(value)
        and (value[0] != ord("0") or len(value) == 1)
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


def _check_once(numbered: list[tuple[bytes, bytes]]) -> None:
    if len(set(numbered)) < len(numbered):
        raise Transient("a record comes twice, with the same place in its block")


_INTERNAL = Listing(INTERNAL_TRANSACTIONS, "txlistinternal", msgspec.json.Decoder(InternalTransaction).decode)

ETHERSCAN_FAMILY = (
    Listing(TRANSACTIONS, "txlist", msgspec.json.Decoder(Transaction).decode),
    _INTERNAL,  # Etherscan itself lists what moves value only
    Listing(TOKEN_TRANSFERS, "tokentx", msgspec.json.Decoder(TokenTransfer).decode),
)
INTERNAL_THAT_MOVE = replace(_INTERNAL, selective=True)
