"""The answers of /api/health and /api/cache-health: how every chain is, and the pages that are kept ready."""

from collections.abc import Sequence
from datetime import UTC, datetime

from ingestion_assets.api import freshness
from ingestion_assets.api.answers import Answer, Warned
from ingestion_assets.api.config import ServedChain
from ingestion_assets.api.errors import CannotServe
from ingestion_assets.api.freshness import FAILING, whole
from ingestion_assets.api.lists import streams
from ingestion_assets.api.service import Service
from ingestion_assets.api.snapshot import Snapshot
from ingestion_assets.engine.coverage import size


class ProviderHealth(Answer):
    """A provider as all processes see it."""

    name: str
    state: str
    failures: int
    until: datetime | None
    reason: str | None
    used_today: int
    per_day: int | None
    queued: int
    lies: int


class ChainHealth(Answer):
    """A chain. Its lag is that of the last check that succeeded: a quiet chain is not stale."""

    chain_id: int
    chain_name: str
    status: str  # ok, stale, failing, empty
    ready: bool
    stale: bool
    serve: str
    head_block: int | None
    final_block: int | None
    last_success: datetime | None
    ingest_lag_seconds: int | None
    covered_to: int | None
    lag_blocks: int | None  # final blocks that are not covered by every stream
    last_ingested_at: datetime | None
    consecutive_failures: int
    last_error: str | None
    backoff_until: datetime | None
    queued_requests: int
    queued_jobs: int  # blocks that were read and are not among the transfers yet
    dead_letters: int
    total_transfers: int
    providers: Sequence[ProviderHealth]


class IngesterSummary(Answer):
    """All chains together."""

    chains_ready: int
    chains_stale: int
    chains_failing: int
    max_consecutive_failures: int
    max_backoff_until: datetime | None
    max_lag_seconds: int | None


class Ingester(Answer):
    """What brings the transfers in."""

    summary: IngesterSummary


class Services(Answer):
    """What the API depends on."""

    ingester: Ingester


class HealthMeta(Answer):
    """The most important in one line."""

    ready: bool
    stale: bool
    index_lag_sec: int | None
    total_transfers: int


class StoreHealth(Answer):
    """The database."""

    available: bool
    seen_at: datetime | None
    error: str | None


class Health(Answer):
    """How the API is: ok, degraded (something is stale, failing or away), initializing, upstream-only, unavailable."""

    status: str
    meta: HealthMeta
    store: StoreHealth
    chains: Sequence[ChainHealth]
    services: Services
    warnings: Sequence[Warned]
    timestamp: datetime


class WarmHealth(Answer):
    """The pages that are kept ready: fresh, stale or empty."""

    status: str
    age_ms: int | None
    ttl_ms: int
    expires_in_ms: int | None
    chains: Sequence[str]
    pages: int
    timestamp: datetime | None
    refresh_in_flight: bool


class StoredChain(Answer):
    """A chain in the store."""

    chain_id: int
    chain_name: str
    last_block_number: int | None
    last_success: datetime | None
    last_time: datetime | None
    lag_seconds: int | None
    ingest_lag_seconds: int | None
    queued_jobs: int
    updated_at: datetime | None


class PersistentStore(Answer):
    """The store behind the pages."""

    enabled: bool
    ready: bool
    initialized: bool
    reason: str | None
    error: str | None
    init_error: str | None
    summary: Sequence[StoredChain]
    warm: WarmHealth


class Finality(Answer):
    """The last final block of a chain, as it was last seen."""

    chain_id: int
    final_block: int | None


class Ingestion(Answer):
    """Who brings the transfers in."""

    managed_by: str
    enabled: bool
    note: str


class CacheHealth(Answer):
    """The pages that are kept ready, and the store behind them."""

    info: str
    transfers_warm: WarmHealth
    finality: Sequence[Finality]
    persistent_store: PersistentStore
    ingestion: Ingestion
    upstreams: dict[str, str]  # what those that are left alone for a while said, by chain
    server_time: datetime


def _seen(service: Service) -> Snapshot | None:
    try:
        return service.snapshot
    except CannotServe:
        return None


def health(service: Service) -> tuple[Health, int]:
    """How everything is, and the HTTP status: 503 only if nothing can be served."""
    now, snapshot = datetime.now(UTC), _seen(service)
    chains = (
        []
        if snapshot is None
        else [of_chain(service, snapshot, chain, now) for chain in service.config.chains]
    )
    total = sum(chain.total_transfers for chain in chains)
    lags = [chain.ingest_lag_seconds for chain in chains]
    lag = None if None in lags else max((one for one in lags if one is not None), default=None)
    is_stale = service.is_away or any(chain.stale for chain in chains)
    status = _status(service, chains, has_looked=snapshot is not None)
    backoffs = [chain.backoff_until for chain in chains if chain.backoff_until is not None]
    answer = Health(
        status=status,
        meta=HealthMeta(
            ready=any(chain.ready for chain in chains),
            stale=is_stale,
            index_lag_sec=lag,
            total_transfers=total,
        ),
        store=StoreHealth(
            available=not service.is_away,
            seen_at=None if snapshot is None else snapshot.taken_at,
            error=service.failure,
        ),
        chains=chains,
        services=Services(
            ingester=Ingester(
                summary=IngesterSummary(
                    chains_ready=sum(chain.ready for chain in chains),
                    chains_stale=sum(chain.stale for chain in chains),
                    chains_failing=sum(chain.status == "failing" for chain in chains),
                    max_consecutive_failures=max((chain.consecutive_failures for chain in chains), default=0),
                    max_backoff_until=max(backoffs, default=None),
                    max_lag_seconds=lag,
                )
            )
        ),
        warnings=[]
        if snapshot is None
        else freshness.warnings(
            snapshot, service.config.chains, freshness.of_chains(service.config, snapshot, now)
        ),
        timestamp=now,
    )
    return answer, 503 if status == "unavailable" else 200


def _status(service: Service, chains: Sequence[ChainHealth], *, has_looked: bool) -> str:
    if not has_looked or (service.is_away and service.warm.kept is None):
        return "unavailable"
    if service.is_away:
        return "degraded"
    if chains and all(chain.serve == "upstream" and not chain.ready for chain in chains):
        return "upstream-only"
    if chains and not any(chain.ready for chain in chains):
        return "initializing"
    return "ok" if all(chain.status == "ok" for chain in chains) else "degraded"


def of_chain(service: Service, snapshot: Snapshot, chain: ServedChain, now: datetime) -> ChainHealth:
    """How a chain is at a moment."""
    fresh, state = freshness.of_chain(service.config, snapshot, chain, now), snapshot.of(chain)
    is_failing = state.failures >= FAILING or state.backoff_until is not None
    status = (
        "empty" if not fresh.is_ready else "failing" if is_failing else "stale" if fresh.is_stale else "ok"
    )
    failed = [one for one in state.providers if one.failures and one.reason]
    lag = None
    if fresh.covered_to is not None and state.final is not None:
        lag = max(0, state.final - fresh.covered_to)
    return ChainHealth(
        chain_id=chain.chain_id,
        chain_name=chain.name,
        status=status,
        ready=fresh.is_ready,
        stale=fresh.is_stale,
        serve=chain.serve,
        head_block=state.head,
        final_block=state.final,
        last_success=state.checked_at,
        ingest_lag_seconds=whole(fresh.lag),
        covered_to=fresh.covered_to,
        lag_blocks=lag,
        last_ingested_at=fresh.ingested_at,
        consecutive_failures=state.failures,
        last_error=failed[0].reason if failed else None,
        backoff_until=state.backoff_until,
        queued_requests=state.queued,
        queued_jobs=size(snapshot.pending.get(chain.name, ())),
        dead_letters=sum(snapshot.letters.get(stream, 0) for stream in streams(chain)),
        total_transfers=snapshot.counts.get(chain.name, 0),
        providers=[
            ProviderHealth(
                name=one.name,
                state=one.state,
                failures=one.failures,
                until=one.until,
                reason=one.reason,
                used_today=one.used_today,
                per_day=one.per_day,
                queued=one.queued,
                lies=one.lies,
            )
            for one in state.providers
        ],
    )


def cache_health(service: Service) -> CacheHealth:
    """The pages that are kept ready, and the store behind them."""
    now, snapshot = datetime.now(UTC), _seen(service)
    chains = (
        []
        if snapshot is None
        else [of_chain(service, snapshot, chain, now) for chain in service.config.chains]
    )
    warm = _warm(service, snapshot, now)
    return CacheHealth(
        info="The first pages of each chain and of all, newest first, are made after each change and kept while nothing changes.",
        transfers_warm=warm,
        finality=[Finality(chain_id=chain.chain_id, final_block=chain.final_block) for chain in chains],
        persistent_store=PersistentStore(
            enabled=True,
            ready=any(chain.ready for chain in chains),
            initialized=snapshot is not None,
            reason=None if any(chain.ready for chain in chains) else "nothing is stored yet",
            error=service.failure,
            init_error=service.failure if snapshot is None else None,
            summary=[
                StoredChain(
                    chain_id=chain.chain_id,
                    chain_name=chain.chain_name,
                    last_block_number=chain.covered_to,
                    last_success=chain.last_success,
                    last_time=chain.last_ingested_at,
                    lag_seconds=chain.ingest_lag_seconds,
                    ingest_lag_seconds=chain.ingest_lag_seconds,
                    queued_jobs=chain.queued_jobs,
                    updated_at=chain.last_ingested_at,
                )
                for chain in chains
            ],
            warm=warm,
        ),
        ingestion=Ingestion(
            managed_by="Dagster", enabled=True, note="the API reads what its runs commit, and starts none"
        ),
        upstreams=service.upstreams.failures(),
        server_time=now,
    )


def _warm(service: Service, snapshot: Snapshot | None, now: datetime) -> WarmHealth:
    kept, ttl = service.warm.kept, int(service.config.warm_seconds * 1000)
    if kept is None:
        return WarmHealth(
            status="empty", age_ms=None, ttl_ms=ttl, expires_in_ms=None, chains=[], pages=0, timestamp=None,
            refresh_in_flight=service.warm.is_renewing,
        )  # fmt: skip
    age = int((now - kept.made_at).total_seconds() * 1000)
    is_fresh = not service.is_away and snapshot is not None and kept.version == snapshot.version
    return WarmHealth(
        status="fresh" if is_fresh else "stale",
        age_ms=age,
        ttl_ms=ttl,
        expires_in_ms=max(0, ttl - age),
        chains=[chain.name for chain in service.config.chains],
        pages=len(kept.pages),
        timestamp=kept.made_at,
        refresh_in_flight=service.warm.is_renewing,
    )
