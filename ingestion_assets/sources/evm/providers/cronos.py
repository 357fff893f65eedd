"""The Cronos Explorer: the Etherscan API with the question in the path. https://explorer-api-doc.cronos.org/mainnet

From documentation and not checked against the service itself: that `…/api/v1/account/txlist`, `txlistinternal` and
`tokentx` take Etherscan's parameters and give its records, and that `ethproxy` has `getBlockNumber` and
`getBlockByNumber`; that no records may be an OK with an empty list. Its address `…/api/v2` takes the questions as Etherscan does (`api: v2`). An older form of the
explorer (cronos.org/explorer/api) was a Blockscout: its sentences and its names of fields are understood as well.
"""

from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

import msgspec
from pydantic import Field, HttpUrl

from ingestion_assets.engine.errors import TooMuch
from ingestion_assets.engine.http import Client, Secrets
from ingestion_assets.engine.store import Store
from ingestion_assets.sources.evm.providers import blockscout, listing
from ingestion_assets.sources.evm.providers.base import ProviderConfig
from ingestion_assets.sources.evm.providers.explorer import BLOCK, Block, Dialect, Explorer, Params, Rpc
from ingestion_assets.sources.evm.providers.listing import Listing
from ingestion_assets.sources.evm.records import INTERNAL_TRANSACTIONS, TOKEN_TRANSFERS, TRANSACTIONS
from ingestion_assets.sources.section import Whole

T = TypeVar("T")

# What is asked of a node -> how the path calls it.
NODE = {"eth_blockNumber": "getBlockNumber", "eth_getBlockByNumber": "getBlockByNumber"}


class CronosProvider(ProviderConfig):
    """The Cronos Explorer API."""

    kind: Literal["cronos"]
    url: HttpUrl = HttpUrl("https://explorer-api.cronos.org/mainnet/api/v1")
    api: Literal["v1", "v2"] = "v1"  # v1: {url}/{module}/{action}; v2: {url}?module=…&action=…
    page_size: Annotated[Whole, Field(ge=2, le=10_000)] = 1_000
    result_window: Annotated[Whole, Field(ge=2)] = 10_000

    def secrets(self, key: str | None) -> Secrets:
        """A query parameter."""
        return Secrets(query={"apikey": key} if key else {})

    def open(self, client: Client, *, name: str, chain: str, chain_id: int, store: Store) -> Explorer:  # noqa: ARG002 - of all kinds
        """See `ProviderConfig`."""
        kind = Cronos if self.api == "v1" else CronosByQuery
        return kind(
            client, name=name, chain=chain, page_size=self.page_size, result_window=self.result_window
        )


_enveloped = msgspec.json.Decoder(Rpc)
_of_blockscout = msgspec.json.Decoder(blockscout.InternalTransaction).decode
_of_etherscan = msgspec.json.Decoder(listing.InternalTransaction).decode


def _internal_transaction(raw: msgspec.Raw) -> listing.Listed:
    return _of_blockscout(raw) if b'"transactionHash"' in bytes(raw) else _of_etherscan(raw)


class CronosByQuery(Explorer):
    """The Cronos Explorer where it is asked as Etherscan is."""

    dialect = Dialect(
        listings=(
            Listing(TRANSACTIONS, "txlist", msgspec.json.Decoder(blockscout.Transaction).decode),
            Listing(INTERNAL_TRANSACTIONS, "txlistinternal", _internal_transaction, selective=True),
            Listing(
                TOKEN_TRANSFERS,
                "tokentx",
                msgspec.json.Decoder(blockscout.TokenTransfer).decode,
                selective=True,
            ),
        ),
        errors={
            **blockscout.DIALECT.errors,
            "maximum [from, to] blocks distance": TooMuch,
            "block range": TooMuch,
        },
        ok_may_be_empty=True,
        may_be_pending=True,
    )


class Cronos(CronosByQuery):
    """The Cronos Explorer, asked by path."""

    def _ask(self, module: str, action: str, params: Params, read: Callable[[bytes], T]) -> T:
        return self._client.ask(params, read, path=f"{module}/{action}")

    def _proxy(self, method: str, params: Params, take: Callable[[Block | str | None], T]) -> T:
        return self._ask("ethproxy", NODE[method], params, lambda body: take(self._result(body)))

    def _result(self, body: bytes) -> Block | str | None:
        """What a node would answer, in the explorer's envelope or in the node's own."""
        answer = self._decode(_enveloped, body)
        return answer.result if answer.status == "1" else super()._result(body)

    def _quantity(self, number: Block | str) -> int:
        is_decimal = isinstance(number, str) and BLOCK.fullmatch(number)
        return int(str(number)) if is_decimal else super()._quantity(number)
