"""Etherscan V2: one address and one key for all chains. https://docs.etherscan.io/etherscan-v2"""

from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

from pydantic import Field, HttpUrl

from ingestion_assets.engine.http import Client, Secrets
from ingestion_assets.engine.store import Store
from ingestion_assets.sources.evm.providers.base import ProviderConfig
from ingestion_assets.sources.evm.providers.explorer import NumberedExplorer, Params
from ingestion_assets.sources.section import Whole

T = TypeVar("T")


class EtherscanProvider(ProviderConfig):
    """An explorer that speaks the Etherscan V2 API."""

    kind: Literal["etherscan"]
    url: HttpUrl = HttpUrl("https://api.etherscan.io/v2/api")
    page_size: Annotated[Whole, Field(ge=2, le=10_000)] = 1_000  # the free plan gives no more
    result_window: Annotated[Whole, Field(ge=2)] = 10_000  # page × offset may not pass it

    def secrets(self, key: str | None) -> Secrets:
        """A query parameter."""
        return Secrets(query={"apikey": key} if key else {})

    def open(self, client: Client, *, name: str, chain: str, chain_id: int, store: Store) -> "Etherscan":  # noqa: ARG002 - of all kinds
        """See `ProviderConfig`."""
        return Etherscan(
            client,
            name=name,
            chain=chain,
            chain_id=chain_id,
            page_size=self.page_size,
            result_window=self.result_window,
        )


class Etherscan(NumberedExplorer):
    """One chain at an explorer that serves many: every question names its number, and one that it does not serve is refused."""

    def _ask(self, module: str, action: str, params: Params, read: Callable[[bytes], T]) -> T:
        return self._client.ask(
            {"chainid": self._chain_id, "module": module, "action": action, **params}, read
        )
