"""`ingestion api`: puts settings, sources and the API together, and serves it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI

from ingestion_assets import migrations
from ingestion_assets.api.app import create_app
from ingestion_assets.api.config import ApiConfig, Limits, ServedChain, ServedProvider
from ingestion_assets.engine import database
from ingestion_assets.engine.budget import budget_name
from ingestion_assets.engine.errors import SchemaDrift, Unsupported
from ingestion_assets.engine.store import Store, connection_pool
from ingestion_assets.processes import share
from ingestion_assets.settings import Settings
from ingestion_assets.sources.evm.chains import Chains
from ingestion_assets.sources.evm.config import ChainConfig
from ingestion_assets.sources.evm.providers.explorer import Explorer

_records = msgspec.json.Decoder(dict[str, Any]).decode


class ServedExplorer:
    """The most preferred explorer of a chain, asked for token transfers as they are. See `api.config.Explorer`."""

    def __init__(self, explorer: Explorer) -> None:
        self._explorer = explorer
        self.name = explorer.name

    def token_transfers(self, parameters: Mapping[str, str | int]) -> Sequence[Mapping[str, object]]:
        """See `api.config.Explorer`."""
        try:
            return [_records(record) for record in self._explorer.listed("tokentx", parameters)]
        except msgspec.DecodeError as error:
            raise SchemaDrift(f"{self.name}: a record is no JSON object: {error}") from error


def api_config(settings: Settings, url: str, limits: Limits) -> ApiConfig:
    """What the API is told of sources.yaml and of the environment."""
    sources = settings.sources()
    return ApiConfig(
        database_url=url,
        chains=tuple(_served(settings, name, chain) for name, chain in sources.chains.items()),
        token=settings.api_token,
        limits=limits,
    )


def _served(settings: Settings, name: str, chain: ChainConfig) -> ServedChain:
    return ServedChain(
        name=name,
        chain_id=chain.chain_id,
        start=chain.start,
        addresses=frozenset(chain.addresses),
        tokens=frozenset(chain.tokens),
        serve=chain.serve,
        sync_seconds=chain.sync_seconds,
        providers=tuple(
            ServedProvider(
                called,
                budget_name(provider.url.host or "", settings.variables.get(variable) if variable else None),
                provider.requests_per_day,
            )
            for called, provider, variable in chain.named()
        ),
    )


def explorers(chains: Chains) -> dict[str, ServedExplorer]:
    """Who is asked for the chains that are served by their upstream.

    Raises:
        Unsupported: such a chain has no explorer among its providers.
    """
    found: dict[str, ServedExplorer] = {}
    for name, config in chains.configs.items():
        if config.serve != "upstream":
            continue
        explorer = next((one for one in chains.providers(name) if isinstance(one, Explorer)), None)
        if explorer is None:
            raise Unsupported(
                f"chains.{name}.serve: upstream needs an explorer among its providers; add one, or remove it"
            )
        found[name] = ServedExplorer(explorer)
    return found


@contextmanager
def _opened(settings: Settings, url: str) -> Iterator[Mapping[str, ServedExplorer]]:
    """The explorers, ready to be asked."""
    with connection_pool(url, max_size=2) as pool:
        chains = Chains(settings.sources().chains, settings.variables, Store(pool), attempts=1)
        with closing(chains):
            yield explorers(chains)


@dataclass(frozen=True, slots=True)
class Application:
    """Makes the app in the process that serves it; of several processes each makes its own.

    Args:
        settings: the environment.
        url: of the database.
        limits: of this process.
    """

    settings: Settings
    url: str
    limits: Limits

    def __call__(self) -> FastAPI:
        """The app; when it stops, it closes what was opened for it."""
        with ExitStack() as opened:
            asked = opened.enter_context(_opened(self.settings, self.url))
            return create_app(api_config(self.settings, self.url, self.limits), asked, opened.pop_all())


def serve(settings: Settings, *, host: str, port: int, limits: Limits, processes: int = 1) -> None:
    """Serve the API until SIGINT or SIGTERM.

    Args:
        settings: the environment, and what sources.yaml says.
        host: where it listens.
        port: where it listens.
        limits: of each process.
        processes: that share the port; one that dies is started again.

    Raises:
        Misconfigured: sources.yaml is wrong.
        DatabaseUnavailable: there is no Postgres where INGESTION_DATABASE_URL points.
    """
    url = settings.database_url()
    database.migrate(url, migrations.SCRIPTS)
    with _opened(settings, url):  # what is wrong with sources.yaml is said here, and once
        pass
    options: dict[str, Any] = {
        "factory": True,
        "host": host,
        "port": port,
        "log_level": "warning",
        "access_log": False,  # it would hold the keys that clients of an explorer send in the url
        "server_header": False,
        "timeout_graceful_shutdown": 5,
    }
    app = Application(settings, url, limits)
    if processes == 1:
        uvicorn.run(app, **options)
    else:
        share(uvicorn.Config(app, **options), processes)
