"""The kinds of providers. A new one is one module here, with its config and its provider, and its place in this list."""

from typing import Annotated

from pydantic import Field

from ingestion_assets.sources.evm.providers.blockscout import BlockscoutProvider
from ingestion_assets.sources.evm.providers.cronos import CronosProvider
from ingestion_assets.sources.evm.providers.etherscan import EtherscanProvider
from ingestion_assets.sources.evm.providers.routescan import RoutescanProvider
from ingestion_assets.sources.evm.providers.rpc import RpcProvider

KINDS_OF_PROVIDERS = ("etherscan", "blockscout", "routescan", "cronos", "rpc")

AnyProvider = Annotated[
    EtherscanProvider | BlockscoutProvider | RoutescanProvider | CronosProvider | RpcProvider,
    Field(discriminator="kind"),
]
