"""Blockscout's Etherscan-compatible API, and what its blocks are told by. https://docs.blockscout.com/devs/apis/rpc

What differs from Etherscan: it lists newest first unless told otherwise, says errors in `message`, and has a status
"2" for a range whose internal transactions are not all indexed yet. Its list of internal transactions repeats
creations that are the transaction itself, and holds delegate calls with the value of the call around them. The
records that v2 of its API gives are read in `blockscout_rest`.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, ClassVar, Literal, TypeVar

import msgspec
from pydantic import Field

from ingestion_assets.engine.answers import Unit
from ingestion_assets.engine.errors import Misconfigured, SchemaDrift, Transient, Unsupported
from ingestion_assets.engine.http import Client, Secrets
from ingestion_assets.engine.store import Store
from ingestion_assets.sources.evm.fields import INDEX, NULL, address_or_null, call_type, flag, integer, token
from ingestion_assets.sources.evm.provider import Header
from ingestion_assets.sources.evm.providers import listing
from ingestion_assets.sources.evm.providers.base import ProviderConfig
from ingestion_assets.sources.evm.providers.explorer import Block, Dialect, Explorer, Params
from ingestion_assets.sources.evm.providers.listing import Listing, Record
from ingestion_assets.sources.evm.records import INTERNAL_TRANSACTIONS, TOKEN_TRANSFERS, TRANSACTIONS
from ingestion_assets.sources.section import Whole

T = TypeVar("T")

API, RPC, BLOCKS = "api", "api/eth-rpc", "api/v2/blocks"


class Transaction(listing.Transaction):
    """A record of txlist."""

    def succeeded(self) -> str:
        """As a column. Without a receipt status (before Byzantium) isError is 1 for every transaction, so it says nothing."""
        return listing.Transaction.succeeded(self) if self.status else "t"


class InternalTransaction(Record):
    """A record of txlistinternal, asked by address. `index` counts the calls of a transaction; 0 is itself."""

    type: str
    is_error: str
    index: str
    hash: str = msgspec.field(name="transactionHash")
    call_type: str = ""

    @property
    def is_listed(self) -> bool:
        """See `Listed`."""
        return self.index != "0" and listing.moves(call_type(self.type, self.call_type), self.value)

    def attributes(self) -> str:
        """See `Listed`."""
        return (
            f"{call_type(self.type, self.call_type)}\t{address_or_null(self.contract_address)}\t"
            f"{flag(self.is_error, 'isError')}\t{integer(self.index, 'index', INDEX)}"
        )


class TokenTransfer(listing.TokenTransfer):
    """A record of tokentx. Older instances list tokens of other standards here as well, with their id."""

    log_index: str | None = None
    token_id: str | None = msgspec.field(name="tokenID", default=None)

    @property
    def is_listed(self) -> bool:
        """See `Listed`."""
        return not self.token_id

    def attributes(self) -> str:
        """See `Listed`."""
        log_index = integer(self.log_index, "logIndex", INDEX) if self.log_index else NULL
        return f"{log_index}\t{token(self.token_symbol, self.token_decimal)}"


DIALECT = Dialect(
    listings=(
        Listing(TRANSACTIONS, "txlist", msgspec.json.Decoder(Transaction).decode),
        Listing(
            INTERNAL_TRANSACTIONS,
            "txlistinternal",
            msgspec.json.Decoder(InternalTransaction).decode,
            selective=True,
            numbered=True,
        ),
        Listing(
            TOKEN_TRANSFERS,
            "tokentx",
            msgspec.json.Decoder(TokenTransfer).decode,
            selective=True,
            numbered=True,
        ),
    ),
    errors={
        "invalid address": Misconfigured,
        "query parameter": Misconfigured,
        "unknown action": Misconfigured,
        "unknown module": Misconfigured,
    },
    may_be_pending=True,
)


class BlockscoutProvider(ProviderConfig):
    """An instance of Blockscout; `url` is its root."""

    reset_unit: ClassVar[Unit | None] = "milliseconds"

    kind: Literal["blockscout"]
    api: Literal["v1", "v2"] = "v1"  # v2 tells log indexes, and gives 50 records at a time
    page_size: Annotated[Whole, Field(ge=2, le=10_000)] = 1_000
    result_window: Annotated[Whole, Field(ge=2)] = 10_000

    def secrets(self, key: str | None) -> Secrets:
        """A query parameter."""
        return Secrets(query={"apikey": key} if key else {})

    def open(self, client: Client, *, name: str, chain: str, chain_id: int, store: Store) -> "Blockscout":  # noqa: ARG002 - of all kinds
        """See `ProviderConfig`."""
        from ingestion_assets.sources.evm.providers.blockscout_rest import BlockscoutRest

        kind = BlockscoutRest if self.api == "v2" else Blockscout
        return kind(
            client, name=name, chain=chain, page_size=self.page_size, result_window=self.result_window
        )


class _Block(msgspec.Struct):
    """A block of the REST API."""

    height: int
    hash: str
    parent_hash: str
    timestamp: datetime


_block = msgspec.json.Decoder(_Block)


class Blockscout(Explorer):
    """One instance of Blockscout, which serves one chain."""

    dialect = DIALECT

    def head(self) -> int:
        """The newest block it shows."""
        return self._ask("block", "eth_block_number", {}, lambda body: self._head(self._result(body)))

    def tagged(self, tag: str) -> int:
        """The block its node gives this tag, where the instance passes such questions on."""
        try:
            block = self._rpc("eth_getBlockByNumber", [tag, False])
        except (Misconfigured, Unsupported):
            block = None
        if not isinstance(block, Block):
            raise self._no_tag(tag)
        return self._quantity(block.number)

    def block_before(self, moment: datetime) -> int | None:
        """The last block not younger than `moment`. It says of a time after its newest block, too, that there is none."""
        block = super().block_before(moment)
        if block is None:
            head = self.head()
            newest = self.header(head)
            block = head if newest is not None and newest.time <= moment else None
        return block

    def header(self, block: int) -> Header | None:
        """What identifies a block; None where it does not exist (yet)."""
        try:
            return self._client.ask({}, lambda body: self._rest_header(body, block), path=f"{BLOCKS}/{block}")
        except Misconfigured:  # HTTP 404: is it the address that does not exist, or the block?
            if block > self.head():
                return None
            raise

    def chain_id(self) -> int | None:
        """As its node says, where the instance passes the question on."""
        try:
            found = self._rpc("eth_chainId", [])
        except (Misconfigured, Unsupported):
            return None
        return self._quantity(found) if isinstance(found, str) and found else None

    def _ask(self, module: str, action: str, params: Params, read: Callable[[bytes], T]) -> T:
        # Calls that move nothing are left out by newer instances only if they are asked to.
        fixed: Params = {"include_zero_value": "false"} if action == "txlistinternal" else {}
        return self._client.ask({"module": module, "action": action, **fixed, **params}, read, path=API)

    def _rpc(self, method: str, params: list[object]) -> Block | str | None:
        asked = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})

        def read(body: bytes) -> Block | str | None:
            try:
                return self._result(body)
            except Transient as error:
                raise Unsupported(str(error)) from error

        return self._client.ask({}, read, path=RPC, body=asked)

    def _rest_header(self, body: bytes, block: int) -> Header:
        found = self._decode(_block, body)
        if found.height != block or found.timestamp.tzinfo is None:
            raise SchemaDrift(
                f"{self._client.host}: block {block} is answered with {self._quoted(str(found))}"
            )
        return self._identified(block, found.hash, found.parent_hash, int(found.timestamp.timestamp()))
