"""The records of version 2 of Blockscout's API, as `listing.Listed` wants them. https://docs.blockscout.com/api-reference"""

from datetime import datetime
from typing import Annotated

import msgspec

from ingestion_assets.sources.evm.fields import (
    INDEX,
    NULL,
    address_or_null,
    call_type,
    integer,
    token,
    uint256,
)
from ingestion_assets.sources.evm.providers.listing import moves, natural_key


class Party(msgspec.Struct, gc=False):
    """An address, with whatever the instance knows about it."""

    hash: str


class Amount(msgspec.Struct, gc=False):
    """Of a token, in its smallest unit. Tokens that are counted by id have none."""

    value: str = ""


class Token(msgspec.Struct, gc=False):
    """A token contract; older instances call its address `address`."""

    address_hash: str = ""
    address: str = ""
    symbol: str | None = None
    decimals: str | None = None


class Item(msgspec.Struct, gc=False):
    """What all kinds share."""

    height: int = msgspec.field(name="block_number")
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]
    sender: Party = msgspec.field(name="from")
    receiver: Party | None = msgspec.field(name="to")

    @property
    def block_number(self) -> str:
        """See `Listed`."""
        return str(self.height)

    @property
    def time_stamp(self) -> str:
        """See `Listed`."""
        return str(int(self.timestamp.timestamp()))

    @property
    def is_listed(self) -> bool:
        """See `Listed`."""
        return True

    @property
    def to(self) -> str:
        """Empty where a contract is created."""
        return self.receiver.hash if self.receiver else ""


class Transaction(Item):
    """An item of …/transactions. It is `error` when it failed; before Byzantium the chain itself does not tell."""

    hash: str
    value: str
    gas_used: str
    gas_price: str
    nonce: int
    position: int
    status: str | None
    created_contract: Party | None = None

    def key(self) -> str:
        """See `Listed`."""
        return f"{self.hash}\t{self.sender.hash}\t{self.to}\t{self.value}"

    def mended_key(self) -> str:
        """See `Listed`."""
        return natural_key(self.hash, self.sender.hash, self.to, self.value)

    def attributes(self) -> str:
        """See `Listed`."""
        return (
            f"{integer(str(self.position), 'position', INDEX)}\t{_created(self.created_contract)}\t"
            f"{integer(str(self.nonce), 'nonce')}\t{integer(self.gas_used, 'gas_used')}\t"
            f"{uint256(self.gas_price, 'gas_price')}\t{'f' if self.status == 'error' else 't'}"
        )


class InternalTransaction(Item):
    """An item of …/internal-transactions. `index` counts the calls of a transaction; 0 is itself."""

    transaction_hash: str
    value: str
    type: str
    success: bool
    index: int
    created_contract: Party | None = None

    @property
    def is_listed(self) -> bool:
        """See `Listed`."""
        return self.index != 0 and moves(call_type(self.type), self.value)

    def key(self) -> str:
        """See `Listed`."""
        return f"{self.transaction_hash}\t{self.sender.hash}\t{self.to}\t{self.value}"

    def mended_key(self) -> str:
        """See `Listed`."""
        return natural_key(self.transaction_hash, self.sender.hash, self.to, self.value)

    def attributes(self) -> str:
        """See `Listed`."""
        return (
            f"{call_type(self.type)}\t{_created(self.created_contract)}\t{'f' if self.success else 't'}\t"
            f"{integer(str(self.index), 'index', INDEX)}"
        )


class TokenTransfer(Item):
    """An item of …/token-transfers."""

    transaction_hash: str
    log_index: int
    token: Token
    total: Amount
    token_type: str = "ERC-20"  # noqa: S105 - a standard

    @property
    def is_listed(self) -> bool:
        """See `Listed`."""
        return self.token_type == "ERC-20"  # noqa: S105 - a standard

    @property
    def contract(self) -> str:
        """The token's address."""
        return self.token.address_hash or self.token.address

    def key(self) -> str:
        """See `Listed`."""
        return f"{self.transaction_hash}\t{self.sender.hash}\t{self.to}\t{self.contract}\t{self.total.value}"

    def mended_key(self) -> str:
        """See `Listed`."""
        return natural_key(self.transaction_hash, self.sender.hash, self.to, self.total.value, self.contract)

    def attributes(self) -> str:
        """See `Listed`."""
        log_index = integer(str(self.log_index), "log_index", INDEX)
        return f"{log_index}\t{token(self.token.symbol, self.token.decimals)}"


def _created(contract: Party | None) -> str:
    return address_or_null(contract.hash) if contract else NULL
