"""How fresh a chain is, and what whoever reads an answer should know. Pure: a snapshot and a moment.

A chain is as fresh as its last check that succeeded, not as its last transfer: a quiet chain is not stale.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache

import msgspec

from ingestion_assets.api.answers import ChainFreshness, Warned
from ingestion_assets.api.config import ApiConfig, ServedChain
from ingestion_assets.api.coverage import covered, watched
from ingestion_assets.api.snapshot import Snapshot

MISSED = 3  # looks of its sensor after which a chain that is looked at seldom is stale
FAILING = 3  # failures in a row after which nobody is asked for a while


class Freshness(msgspec.Struct, frozen=True):
    """How fresh a chain is."""

    lag: timedelta | None  # since its last check; None: never
    is_stale: bool
    is_ready: bool
    covered_to: int | None
    ingested_at: datetime | None


def stale_after(config: ApiConfig, chain: ServedChain) -> timedelta:
    """When a chain that is not checked becomes stale."""
    return timedelta(seconds=max(config.stale_seconds, MISSED * chain.sync_seconds))


def of_chain(config: ApiConfig, snapshot: Snapshot, chain: ServedChain, now: datetime) -> Freshness:
    """How fresh a chain is at a moment."""
    checked = snapshot.of(chain).checked_at
    lag = None if checked is None else max(now - checked, timedelta())
    is_ready, covered_to = _reach(snapshot, chain)
    return Freshness(
        lag=lag,
        is_stale=lag is None or lag > stale_after(config, chain),
        is_ready=is_ready,
        covered_to=covered_to,
        ingested_at=snapshot.ingested.get(chain.name),
    )


@lru_cache(maxsize=64)
def _reach(snapshot: Snapshot, chain: ServedChain) -> tuple[bool, int | None]:
    """Whether anything of a chain is stored, and up to where every stream of it was read."""
    ends = [covered(snapshot, stream) for stream in watched(chain)]
    to = min((ranges[-1][1] for ranges in ends), default=None) if all(ends) else None
    return bool(snapshot.counts.get(chain.name)) or any(ends), to


def of_chains(config: ApiConfig, snapshot: Snapshot, now: datetime) -> Mapping[str, Freshness]:
    """How fresh every chain is at a moment, by name."""
    return {chain.name: of_chain(config, snapshot, chain, now) for chain in config.chains}


def described(snapshot: Snapshot, chain: ServedChain, fresh: Freshness) -> ChainFreshness:
    """The same, as answers tell it."""
    state = snapshot.of(chain)
    return ChainFreshness(
        chain_id=chain.chain_id,
        chain_name=chain.name,
        ready=fresh.is_ready,
        stale=fresh.is_stale,
        serve=chain.serve,
        head_block=state.head,
        final_block=state.final,
        covered_to=fresh.covered_to,
        last_check=state.checked_at,
        last_ingested_at=fresh.ingested_at,
        index_lag_seconds=whole(fresh.lag),
        total_transfers=snapshot.counts.get(chain.name, 0),
    )


def whole(lag: timedelta | None) -> int | None:
    """Whole seconds."""
    return None if lag is None else int(lag.total_seconds())


def warnings(
    snapshot: Snapshot, chains: Sequence[ServedChain], freshness: Mapping[str, Freshness]
) -> list[Warned]:
    """What is not as it should be with the store of these chains."""
    found: list[Warned] = []
    for chain in chains:
        fresh, state = freshness[chain.name], snapshot.of(chain)
        if not fresh.is_ready:
            found.append(_warned(chain, "STORE_DATA_NOT_READY", "nothing of it is stored yet"))
        elif fresh.lag is None:
            found.append(_warned(chain, "STORE_DATA_STALE", "it was never checked for anything new"))
        elif fresh.is_stale:
            ago = whole(fresh.lag)
            found.append(
                _warned(chain, "STORE_DATA_STALE", f"its last check that succeeded was {ago} seconds ago")
            )
        if state.failures >= FAILING or state.backoff_until is not None:
            until = (
                f"; asked again after {state.backoff_until:%Y-%m-%d %H:%M:%S} UTC"
                if state.backoff_until
                else ""
            )
            found.append(
                _warned(
                    chain, "INGESTER_FAILURES", f"its providers failed {state.failures} times in a row{until}"
                )
            )
        if chain.name in snapshot.pending:
            found.append(
                _warned(chain, "STORE_BEHIND", "some blocks that were read are not among the transfers yet")
            )
        if chain.name in snapshot.uncounted:
            found.append(
                _warned(chain, "STORE_TOTALS_BEHIND", "some days have changed since they were counted")
            )
    return found


def _warned(chain: ServedChain, code: str, message: str) -> Warned:
    return Warned(scope=chain.name, code=code, message=f"{chain.name}: {message}", retryable=True)
