"""What the API is told when it is started: what is ingested, how it is served, and what it allows. Reads nothing itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Literal, Protocol

ALL_TOKENS = "*"  # a chain whose every token is watched

Records = Sequence[Mapping[str, object]]


class Explorer(Protocol):
    """Who is asked where a chain is served by its upstream."""

    @property
    def name(self) -> str:
        """As sources.yaml calls it."""
        ...

    def token_transfers(self, parameters: Mapping[str, str | int]) -> Records:
        """The records of its `tokentx`, as it gives them. Blocks.

        Raises:
            IngestionError: it does not answer, or not with records.
        """
        ...


@dataclass(frozen=True, slots=True)
class ServedProvider:
    """One provider of a chain: its name in `ops.providers`, and that of its budget in `ops.rate_days`."""

    name: str
    budget: str
    per_day: int | None


@dataclass(frozen=True, slots=True, eq=False)
class ServedChain:
    """One chain of sources.yaml; equal to itself only, so that what follows from it can be remembered."""

    name: str
    chain_id: int
    start: date
    addresses: frozenset[str] = frozenset()  # watched accounts, lower case
    tokens: frozenset[str] = frozenset()  # tokens that are watched whole; or `ALL_TOKENS`
    serve: Literal["store", "upstream"] = "store"
    sync_seconds: int = 30
    providers: tuple[ServedProvider, ...] = ()

    def is_token_whole(self, token: str) -> bool:
        """Whether every transfer of the token is wanted, whoever sends it."""
        return token in self.tokens or ALL_TOKENS in self.tokens


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, one question and this process may take."""

    requests_per_second: float = 50.0  # of one client, on average; 0: no limit
    burst: int = 200  # requests of one client at once
    page_size: int = 100  # most rows of a page of /api/transfers
    rows: int = 10_000  # most rows of a page of the facade
    count: int = 1_000  # rows that a filter is counted to
    connections: int = 4  # to Postgres, for questions
    query_seconds: float = 10.0  # of one query; then it is broken off
    wait_seconds: float = 5.0  # for a free connection
    exports: int = 2  # at the same time
    export_seconds: float = 600.0
    upstream_seconds: float = 10.0  # that an upstream has to answer


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """Everything the API is told."""

    database_url: str = field(repr=False)
    chains: tuple[ServedChain, ...] = ()
    feeds: tuple[str, ...] = ()
    has_statements: bool = False
    token: str | None = field(default=None, repr=False)  # INGESTION_API_TOKEN
    limits: Limits = field(default_factory=Limits)
    stale_seconds: float = 900.0  # since the last check of a chain
    refresh_seconds: float = 2.0  # between two looks at how far the store is
    warm_seconds: float = 3600.0  # pages that are kept ready are made anew at least so often

    def chain(self, key: str) -> ServedChain | None:
        """A chain by its name or its number."""
        return next((chain for chain in self.chains if key in (chain.name, str(chain.chain_id))), None)
