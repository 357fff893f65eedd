"""Stored rows in the words of an explorer: every value text, numbers decimal, what is not known the empty text.

The fields are those of https://docs.etherscan.io/api-reference/endpoint/tokentx and its neighbours. Columns are ours, checked when
they were stored. The rest is taken from the record as it was received, whichever provider gave it: an explorer's, a node's log or
transaction (whose numbers are hexadecimal), or one of Blockscout's REST API.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import msgspec

T = TypeVar("T")
decode = msgspec.json.Decoder(dict[str, Any]).decode


class Stored(NamedTuple):
    """A row of `core.transfers`, as pages read it."""

    chain: str
    block_number: int
    block_time: datetime
    tx_hash: str
    log_index: int | None
    token_address: str
    from_address: str
    to_address: str | None
    value: str  # in the token's smallest unit
    ordinal: int
    token_symbol: str | None
    token_decimals: int | None
    provider: str
    place: int
    id: uuid.UUID
    payload: str  # the record as it was received; last, for it is the widest


class _Said(msgspec.Struct, rename="camel", gc=False, kw_only=True):
    """What answers take from the record of a transfer as it was received. All else is passed over while it is decoded."""

    nonce: Any = None
    block_hash: Any = None
    block_hash_there: Any = msgspec.field(name="block_hash", default=None)  # in Blockscout's REST API
    token: Any = None  # there
    token_name: Any = None
    transaction_index: Any = None
    gas: Any = None
    gas_price: Any = None
    gas_used: Any = None
    cumulative_gas_used: Any = None
    input: Any = None
    method_id: Any = None
    function_name: Any = None


_said = msgspec.json.Decoder(_Said).decode


class TokenTransfer(msgspec.Struct, rename="camel", gc=False):
    """A record of tokentx."""

    block_number: str
    time_stamp: str
    hash: str
    nonce: str
    block_hash: str
    from_: str = msgspec.field(name="from")
    contract_address: str
    to: str
    value: str
    token_name: str
    token_symbol: str
    token_decimal: str
    transaction_index: str
    gas: str
    gas_price: str
    gas_used: str
    cumulative_gas_used: str
    input: str
    method_id: str
    function_name: str
    confirmations: str


class Transfer(TokenTransfer):
    """A transfer of /api/transfers: the same, and where it is stored."""

    chain_id: int
    chain_name: str
    log_index: str | None
    ordinal: int | None  # among equals; None: an upstream does not tell
    id: str | None


class Transaction(msgspec.Struct, rename="camel", gc=False, kw_only=True):
    """A record of txlist."""

    block_number: str
    block_hash: str
    time_stamp: str
    hash: str
    nonce: str
    transaction_index: str
    from_: str = msgspec.field(name="from")
    to: str
    value: str
    gas: str
    gas_price: str
    input: str
    method_id: str
    function_name: str
    contract_address: str
    cumulative_gas_used: str
    txreceipt_status: str = msgspec.field(name="txreceipt_status")
    gas_used: str
    confirmations: str
    is_error: str


class InternalTransaction(msgspec.Struct, rename="camel", gc=False, kw_only=True):
    """A record of txlistinternal."""

    block_number: str
    time_stamp: str
    hash: str
    from_: str = msgspec.field(name="from")
    to: str
    value: str
    contract_address: str
    input: str
    type: str
    gas: str
    gas_used: str
    trace_id: str
    is_error: str
    err_code: str


class Log(msgspec.Struct, rename="camel", gc=False, kw_only=True):
    """A record of getLogs. Its numbers are hexadecimal."""

    address: str
    topics: Sequence[str]
    data: str
    block_number: str
    block_hash: str
    time_stamp: str
    gas_price: str
    gas_used: str
    log_index: str
    transaction_hash: str
    transaction_index: str


def text(value: object) -> str:
    """A field as explorers write it."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, dict | list):
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value)


def decimal(value: object) -> str:
    """A number as explorers write it, from theirs or a node's."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return text(value)
    if not value.startswith("0x"):
        return value
    try:
        return str(int(value, 16)) if len(value) > len("0x") else "0"
    except ValueError:
        return ""


def seconds(moment: datetime) -> str:
    """A time as explorers write it."""
    return str(int(moment.timestamp()))


def confirmations(head: int | None, block: int) -> str:
    """How many blocks there are from this one up to the newest that was seen."""
    return "" if head is None else str(max(0, head - block + 1))


def transfer_as(made: Callable[..., T], row: Stored, head: int | None, *more: object) -> T:
    """A row as a `TokenTransfer`, or as what begins like one. By place: to name so many fields costs as much as to find them.

    Args:
        made: of the fields.
        row: of the store.
        head: the newest block that was seen of its chain.
        more: fields, after the others.
    """
    said = _said(row.payload)
    name = said.token_name
    if name is None and isinstance(said.token, dict):
        name = said.token.get("name")
    block = row.block_number
    return made(
        str(block),
        seconds(row.block_time),
        row.tx_hash,
        decimal(said.nonce),
        text(said.block_hash or said.block_hash_there),
        row.from_address,
        row.token_address,
        row.to_address or "",
        row.value,
        text(name),
        row.token_symbol or "",
        text(row.token_decimals),
        decimal(said.transaction_index),
        decimal(said.gas),
        decimal(said.gas_price),
        decimal(said.gas_used),
        decimal(said.cumulative_gas_used),
        text(said.input),
        text(said.method_id),
        text(said.function_name),
        confirmations(head, block),
        *more,
    )


def transaction(row: Mapping[str, Any], head: int | None) -> Transaction:
    """A row of `raw.evm_transactions`."""
    get = decode(row["payload"]).get
    succeeded = row["succeeded"]
    return Transaction(
        block_number=str(row["block_number"]),
        block_hash=text(get("blockHash")),
        time_stamp=seconds(row["block_time"]),
        hash=row["tx_hash"],
        nonce=text(row["nonce"]),
        transaction_index=str(row["tx_index"]),
        from_=row["from_address"],
        to=row["to_address"] or "",
        value=str(row["value"]),
        gas=decimal(get("gas")),
        gas_price=str(row["gas_price"]),
        input=text(get("input")),
        method_id=text(get("methodId")),
        function_name=text(get("functionName")),
        contract_address=row["contract_address"] or "",
        cumulative_gas_used=decimal(get("cumulativeGasUsed")),
        txreceipt_status=text(get("txreceipt_status", "1" if succeeded else "0")),
        gas_used=str(row["gas_used"]),
        confirmations=confirmations(head, row["block_number"]),
        is_error="0" if succeeded else "1",
    )


def internal_transaction(row: Mapping[str, Any], _head: int | None) -> InternalTransaction:
    """A row of `raw.evm_internal_transactions`."""
    get = decode(row["payload"]).get
    return InternalTransaction(
        block_number=str(row["block_number"]),
        time_stamp=seconds(row["block_time"]),
        hash=row["tx_hash"],
        from_=row["from_address"],
        to=row["to_address"] or "",
        value=str(row["value"]),
        contract_address=row["contract_address"] or "",
        input=text(get("input")),
        type=row["type"],
        gas=decimal(get("gas")),
        gas_used=decimal(get("gasUsed")),
        trace_id=row["trace_id"] or "",
        is_error="1" if row["failed"] else "0",
        err_code=text(get("errCode")),
    )


TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"


def log(row: Stored, _head: int | None) -> Log:
    """A row whose log index is known: an event of the topic `TRANSFER`.

    What a log does not tell, the price and use of gas, is `0x`, as explorers write a number that they do not have.
    """
    said = _said(row.payload)
    index = decimal(said.transaction_index)
    return Log(
        address=row.token_address,
        topics=[TRANSFER, topic_of(row.from_address), topic_of(row.to_address or "")],
        data=f"0x{int(row.value):064x}",
        block_number=hex(row.block_number),
        block_hash=text(said.block_hash or said.block_hash_there),
        time_stamp=hex(int(row.block_time.timestamp())),
        gas_price="0x",
        gas_used="0x",
        log_index=hex(row.log_index or 0),
        transaction_hash=row.tx_hash,
        transaction_index=hex(int(index)) if index.isdecimal() else "0x",
    )


def topic_of(address: str) -> str:
    """An address as an indexed field of an event."""
    return "0x" + address.removeprefix("0x").rjust(64, "0")


def address_of(topic: str) -> str | None:
    """The address that an indexed field holds; None: no address is written like that."""
    digits = topic.lower().removeprefix("0x").rjust(64, "0")
    return "0x" + digits[24:] if len(digits) == 64 and not digits[:24].strip("0") else None  # noqa: PLR2004


def token_transfer(row: Stored, head: int | None) -> TokenTransfer:
    """A row of `core.transfers`."""
    return transfer_as(TokenTransfer, row, head)
