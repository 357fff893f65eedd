"""Transactions of watched accounts from whole blocks and receipts: rows as explorers give them.

A transaction is an account's if the account sent it, receives it, or is the contract that it created.
"""

from dataclasses import dataclass

import msgspec

from ingestion_assets.engine import rows as copy_text
from ingestion_assets.engine.stream import Rejected
from ingestion_assets.sources.evm.fields import (
    ADDRESS,
    HASH,
    INDEX,
    NULL,
    Unreadable,
    integer,
    matching,
    uint256,
)
from ingestion_assets.sources.evm.node.blocks import Blocks, Proved, when
from ingestion_assets.sources.evm.node.shapes import Receipt, quantity
from ingestion_assets.sources.evm.node.windows import Doubt, Found, Verdict
from ingestion_assets.sources.evm.records import TRANSACTIONS, Row

PLAIN_TRANSFER = 21_000  # gas


class Transaction(msgspec.Struct, rename="camel", gc=False):
    """A transaction of eth_getBlockByNumber."""

    hash: str
    from_: str = msgspec.field(name="from")
    nonce: str
    value: str
    gas: str
    input: str
    transaction_index: str
    to: str | None = None
    gas_price: str | None = None


_read = msgspec.json.Decoder(Transaction).decode


@dataclass(frozen=True, slots=True)
class Transactions:
    """Rows of one chain.

    Args:
        blocks: where they come from.
        chain: its name, for the column.
        provider: its name, for the column.
        accounts: the watched ones, lower case.
    """

    blocks: Blocks
    chain: str
    provider: str
    accounts: frozenset[str]

    def read(self, lo: int, hi: int) -> dict[int, Verdict]:
        """What is found in each block."""
        verdicts: dict[int, Verdict] = {}
        for number, proved in self.blocks.proved(range(lo, hi + 1), whole=True):
            verdicts[number] = proved if isinstance(proved, Doubt) else self._found(number, proved)
        return verdicts

    def _found(self, number: int, proved: Proved) -> Verdict:
        found = Found()
        time = when(self.chain, number, proved.block.timestamp)
        for raw, receipt, raw_receipt in zip(
            proved.block.transactions, proved.receipts, proved.raw_receipts, strict=True
        ):
            try:
                transaction = _read(raw)
            except (msgspec.DecodeError, UnicodeError) as error:
                # Whose it is cannot be told, and a block with a transaction too few is not whole.
                return Doubt(
                    f"block {number} holds a transaction that cannot be read: {error}", unreadable=True
                )
            created = (receipt.contract_address or "").lower() if transaction.to is None else ""
            sender, receiver = transaction.from_.lower(), (transaction.to or "").lower()
            if self.accounts.isdisjoint((sender, receiver, created)):
                continue
            payload = b'{"transaction":%b,"receipt":%b}' % (bytes(raw), bytes(raw_receipt))
            try:
                key = _key(transaction, sender, receiver)
                attributes = f"{_attributes(transaction, receipt, created)}\t{self.provider}\t".encode()
                text = copy_text.payload(payload)
            except (Unreadable, UnicodeError) as error:
                found.bad.append(Rejected(payload, str(error), number))
                continue
            found.rows.append(
                Row(number, TRANSACTIONS.identity(key, attributes), time, key, attributes, text)
            )
        return found


def _key(transaction: Transaction, sender: str, receiver: str) -> bytes:
    receiver = matching(ADDRESS, receiver, "to") if receiver else NULL
    name, sender = matching(HASH, transaction.hash, "hash"), matching(ADDRESS, sender, "from")
    value = uint256(str(quantity(transaction.value, "value")), "value")
    return f"{name}\t{sender}\t{receiver}\t{value}".encode()


def _attributes(transaction: Transaction, receipt: Receipt, created: str) -> str:
    """The columns after the ordinal, without provider."""
    price = receipt.effective_gas_price or transaction.gas_price or "0x0"
    columns = (
        integer(str(quantity(transaction.transaction_index)), "transactionIndex", INDEX),
        matching(ADDRESS, created, "contractAddress") if created else NULL,
        integer(str(quantity(transaction.nonce)), "nonce"),
        integer(str(quantity(receipt.gas_used)), "gasUsed"),
        uint256(str(quantity(price)), "gasPrice"),
        "t" if succeeded(transaction, receipt) else "f",
    )
    return "\t".join(columns)


def succeeded(transaction: Transaction, receipt: Receipt) -> bool:
    """Whether it did what it was sent for.

    Before the Byzantium fork receipts held no status, and there was no REVERT either: a transaction that failed used all
    of its gas and left no log. A plain transfer uses all of its gas too, as a rule, and is told apart by its size.
    """
    if receipt.status is not None:
        return quantity(receipt.status, "status") == 1
    used = quantity(receipt.gas_used, "gasUsed")
    is_plain = used == PLAIN_TRANSFER and transaction.to is not None and transaction.input == "0x"
    return bool(receipt.logs) or is_plain or used < quantity(transaction.gas, "gas")
