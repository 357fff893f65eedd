"""What people type about a provider, whatever its kind. Each kind adds its own and knows how to open itself."""

from abc import abstractmethod
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, HttpUrl

from ingestion_assets.engine.answers import Unit
from ingestion_assets.engine.http import Client, Secrets
from ingestion_assets.engine.store import Store
from ingestion_assets.sources.evm.provider import Provider
from ingestion_assets.sources.section import Section, Variable, Whole


def _listed(names: object) -> object:
    return (names,) if isinstance(names, str) else () if names is None else names


class ProviderConfig(Section):
    """One provider of a chain, as sources.yaml names it."""

    is_node: ClassVar[bool] = False  # it gives logs, and knows the state of past blocks
    errors_in_body: ClassVar[bool] = False  # an error's JSON says more than its HTTP status
    reset_unit: ClassVar[Unit | None] = (
        None  # of the times to go in its rate-limit headers, where it is known
    )

    kind: str
    url: HttpUrl
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")] | None = None  # default: its kind
    # Environment variables that hold API keys. Several: each is a provider of its own, asked when the one before fails.
    key_env: Annotated[tuple[Variable, ...], BeforeValidator(_listed)] = ()
    requests_per_second: Annotated[float, Field(gt=0, le=1000)] | None = None
    requests_per_day: Annotated[Whole, Field(gt=0)] | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    read_ahead: Annotated[Whole, Field(ge=0, le=100)] = 1  # pages; so many a crash makes us fetch again
    attempts: Annotated[Whole, Field(ge=1, le=20)] | None = (
        None  # of one question; default: 5 if alone, else 2
    )

    @property
    def system(self) -> str:
        """What is asked, with whatever key: the same system tells the same lies."""
        return str(self.url)

    @abstractmethod
    def secrets(self, key: str | None) -> Secrets:
        """Where the key goes: query parameters, headers, or the `{key}` of the url."""

    @abstractmethod
    def open(self, client: Client, *, name: str, chain: str, chain_id: int, store: Store) -> Provider:
        """The provider, ready to be asked.

        Args:
            client: asks `url`, with the key, within the budget.
            name: how rows, evidence and `ops.providers` call it.
            chain: the chain's name here.
            chain_id: its number.
            store: for what it learns and others may use.
        """
