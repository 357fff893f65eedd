"""Routescan: the Etherscan API, one address for each chain. https://routescan.io/documentation

What differs from Etherscan: the chain stands in the url (…/v2/network/mainnet/evm/43114/etherscan/api), no records are an
OK with an empty list, and some questions to the node are answered with HTTP 500.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ingestion_assets.engine.answers import Unit
from ingestion_assets.engine.errors import Misconfigured, Transient, Unsupported
from ingestion_assets.engine.http import Client, Secrets
from ingestion_assets.engine.store import Store
from ingestion_assets.sources.evm.providers.base import ProviderConfig
from ingestion_assets.sources.evm.providers.explorer import Dialect, NumberedExplorer
from ingestion_assets.sources.evm.providers.listing import ETHERSCAN_FAMILY, INTERNAL_THAT_MOVE
from ingestion_assets.sources.section import Whole

CHAIN = re.compile(r"/evm/(\d+)(?:_\d+)?/")


class RoutescanProvider(ProviderConfig):
    """One chain at Routescan."""

    reset_unit: ClassVar[Unit | None] = "seconds"

    kind: Literal["routescan"]
    page_size: Annotated[Whole, Field(ge=2, le=10_000)] = 1_000
    result_window: Annotated[Whole, Field(ge=2)] = 10_000

    def secrets(self, key: str | None) -> Secrets:
        """A query parameter."""
        return Secrets(query={"apikey": key} if key else {})

    def open(self, client: Client, *, name: str, chain: str, chain_id: int, store: Store) -> "Routescan":  # noqa: ARG002 - of all kinds
        """See `ProviderConfig`."""
        in_url = CHAIN.search(str(self.url))
        if in_url is None:
            raise Misconfigured(
                f"{chain}: the url of {name} names no chain: …/v2/network/mainnet/evm/{chain_id}/etherscan/api"
            )
        return Routescan(
            client,
            name=name,
            chain=chain,
            chain_id=int(in_url[1]),
            page_size=self.page_size,
            result_window=self.result_window,
        )


class Routescan(NumberedExplorer):
    """One chain at Routescan: the number is that in the url."""

    dialect = Dialect(
        listings=(ETHERSCAN_FAMILY[0], INTERNAL_THAT_MOVE, ETHERSCAN_FAMILY[2]),
        errors={
            "chain not supported": Unsupported,
            "chain is not supported": Unsupported,
            "error! chain not supported": Unsupported,
            "error! invalid chain": Unsupported,
        },
        ok_may_be_empty=True,
    )

    def head(self) -> int:
        """The newest block it shows. Where the node's own answer is refused, the last block until now."""
        try:
            return super().head()
        except Transient:
            block = self.block_before(datetime.now(UTC))
            if block is None:
                raise
            return block
