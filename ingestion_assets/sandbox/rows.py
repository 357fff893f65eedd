"""How a block reads in the explorer's dialect: the field names, and strings as every value.

Three kinds of row are known by the explorer's own names for them: `txlist` (transactions),
`txlistinternal` (value moved by contracts) and `tokentx` (token transfers). The last kind has no
field for the position of a transfer, so two equal transfers of one transaction are equal rows.
"""

from collections.abc import Callable
from typing import NamedTuple

from ingestion_assets.sandbox.draw import Draw, digest
from ingestion_assets.sandbox.events import Call, Transaction, Transfer
from ingestion_assets.sandbox.parties import TOKENS, address_of, token_contract

Row = dict[str, str]

_TRANSFER_METHOD = ("0xa9059cbb", "transfer(address _to, uint256 _value)")
_CALL_METHOD = ("0x3ccfd60b", "withdraw()")
_CREATION_CODE = "0x6080604052348015600f57600080fd5b50"


class Block(NamedTuple):
    """What the rows of one block have in common; `time` in seconds since 1970."""

    seed: int
    chain_id: int
    number: int
    time: int
    hash: str


class _Costs(NamedTuple):
    """The gas figures of one transaction, as the explorer writes them."""

    limit: str
    price: str
    used: str
    cumulative: str


def parties_of(event: Transaction | Call | Transfer) -> set[int | None]:
    """Give everybody under whose address the explorer lists an event."""
    return {event.sender, event.receiver}


def render(block: Block, transactions: list[Transaction], action: str, head: int) -> list[Row]:
    """Write down all rows of one kind in a block, in the order of the chain.

    Args:
        block: the block the transactions are in.
        transactions: all of them, in their order.
        action: "txlist", "txlistinternal" or "tokentx".
        head: the newest block, from which `confirmations` are counted (1 at the head itself).

    Raises:
        KeyError: `action` is another one.

    """
    write, rows, cumulative = _WRITERS[action], list[Row](), 0
    for index, transaction in enumerate(transactions):
        transaction_hash = digest(block.seed, block.chain_id, "tx", block.number, index)
        draw = Draw(transaction_hash)
        used = draw.between(21_000, 180_000)
        cumulative += used
        costs = _Costs(
            limit=str(used + draw.below(50_000)),
            price=str(draw.between(10**8, 4 * 10**10)),
            used=str(used),
            cumulative=str(cumulative),
        )
        shared = {
            "blockNumber": str(block.number),
            "timeStamp": str(block.time),
            "hash": transaction_hash,
            "blockHash": block.hash,
            "nonce": str((block.number << 8) + index),
            "transactionIndex": str(index),
            "confirmations": str(head - block.number + 1),
        }
        rows += write(block.seed, transaction, shared, costs)
    return rows


def _transactions(seed: int, transaction: Transaction, shared: Row, costs: _Costs) -> list[Row]:
    method, function, payload = _input(seed, transaction)
    return [
        shared
        | _sides(seed, transaction)
        | {
            "gas": costs.limit,
            "gasPrice": costs.price,
            "gasUsed": costs.used,
            "cumulativeGasUsed": costs.cumulative,
            "input": payload,
            "methodId": method,
            "functionName": function,
            "isError": "1" if transaction.failed else "0",
            "txreceipt_status": "0" if transaction.failed else "1",
        }
    ]


def _internals(seed: int, transaction: Transaction, shared: Row, costs: _Costs) -> list[Row]:
    return [
        {name: shared[name] for name in ("blockNumber", "timeStamp", "hash")}
        | _sides(seed, call)
        | {
            "input": "" if call.created is None else _CREATION_CODE,
            "type": "call" if call.created is None else "create",
            "gas": costs.limit,
            "gasUsed": "0" if call.created is None else costs.used,
            "traceId": call.trace,
            "isError": "1" if transaction.failed else "0",
            "errCode": "Reverted" if transaction.failed else "",
        }
        for call in transaction.calls
    ]


def _transfers(seed: int, transaction: Transaction, shared: Row, costs: _Costs) -> list[Row]:
    return [
        shared
        | {
            "from": address_of(seed, transfer.sender),
            "to": address_of(seed, transfer.receiver),
            "contractAddress": address_of(seed, token_contract(transfer.token)),
            "value": str(transfer.value),
            "tokenName": TOKENS[transfer.token].name,
            "tokenSymbol": TOKENS[transfer.token].symbol,
            "tokenDecimal": str(TOKENS[transfer.token].decimals),
            "gas": costs.limit,
            "gasPrice": costs.price,
            "gasUsed": costs.used,
            "cumulativeGasUsed": costs.cumulative,
            "input": "deprecated",
            "methodId": _TRANSFER_METHOD[0],
            "functionName": _TRANSFER_METHOD[1],
        }
        for transfer in transaction.transfers
    ]


_WRITERS: dict[str, Callable[[int, Transaction, Row, _Costs], list[Row]]] = {
    "txlist": _transactions,
    "txlistinternal": _internals,
    "tokentx": _transfers,
}


def _sides(seed: int, event: Transaction | Call) -> Row:
    """Write who paid whom; a creation has an empty `to` and names the new contract instead."""
    return {
        "from": address_of(seed, event.sender),
        "to": "" if event.receiver is None else address_of(seed, event.receiver),
        "contractAddress": "" if event.created is None else address_of(seed, event.created),
        "value": str(event.value),
    }


def _input(seed: int, transaction: Transaction) -> tuple[str, str, str]:
    """Give the method id, the function's name and the call data of a transaction."""
    if transaction.created is not None:
        return _CREATION_CODE[:10], "", _CREATION_CODE
    if transaction.transfers:
        first = transaction.transfers[0]
        receiver = address_of(seed, first.receiver)[2:]
        return *_TRANSFER_METHOD, f"{_TRANSFER_METHOD[0]}{receiver:0>64}{first.value:064x}"
    if transaction.calls:
        return *_CALL_METHOD, _CALL_METHOD[0]
    return "0x", "", "0x"
