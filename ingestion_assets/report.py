"""What the CLI tells about streams: how far they are, and what is missing. Reads marks, writes nothing."""

from dataclasses import dataclass
from datetime import UTC, date, datetime

from ingestion_assets.engine.breaker import ProviderState
from ingestion_assets.engine.coverage import difference, size
from ingestion_assets.engine.errors import Misconfigured
from ingestion_assets.engine.store import Store
from ingestion_assets.orchestration.proving import Proved, prove
from ingestion_assets.settings import Settings
from ingestion_assets.sources.evm.chains import Chains
from ingestion_assets.sources.evm.records import ERC20_TRANSFERS, EVERY_KIND, KINDS
from ingestion_assets.sources.evm.streams import stream_key, stream_keys


@dataclass(frozen=True, slots=True)
class Status:
    """The streams of one kind on one chain, together."""

    asset: str
    chain: str
    streams: int
    records: int
    covered_from: int | None
    covered_to: int | None  # up to here every stream is covered
    final: int | None
    lag_blocks: int | None
    holes: int
    unproved: int
    dead_letters: int
    checked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Gap:
    """Blocks, or lines of a file, that are wanted and not covered."""

    stream: str
    lo: int
    hi: int
    reason: str


def status(settings: Settings, store: Store) -> list[Status]:
    """One line for each asset and chain, from the marks alone; asks no source."""
    return [
        _status(store, kind.name, chain, [stream_key(kind, chain, subject) for subject in subjects])
        for chain, config in settings.sources().chains.items()
        for kind, subjects in (
            *((kind, config.addresses) for kind in KINDS),
            (ERC20_TRANSFERS, config.tokens),
        )
        if subjects or kind is not ERC20_TRANSFERS
    ]


def _status(store: Store, kind: str, chain: str, keys: list[str]) -> Status:
    covered = store.covered(keys)
    prefix = f"evm/{kind}/{chain}/"
    records, final, checked_at = store.transaction(
        lambda c: c.execute(_TOTALS, {"prefix": prefix, "chain": chain}).fetchone()
    ) or (0, None, None)
    to = min((covered[key][-1][1] if key in covered else -1 for key in keys), default=-1)
    letters = store.count_open_letters(prefix)
    return Status(
        asset=f"evm/{kind}",
        chain=chain,
        streams=len(keys),
        records=int(records or 0),
        covered_from=max((ranges[0][0] for ranges in covered.values()), default=None),
        covered_to=None if to < 0 else to,
        final=final,
        lag_blocks=None if final is None or to < 0 else max(0, final - to),
        holes=sum(map(len, store.holes(prefix).values())),
        unproved=sum(map(len, store.unproved(keys).values())),
        dead_letters=sum(letters.values()),
        checked_at=checked_at,
    )


_TOTALS = """
    SELECT (SELECT sum(records) FROM ops.coverage WHERE starts_with(stream, %(prefix)s)),
           (SELECT final FROM ops.chains WHERE chain = %(chain)s),
           (SELECT checked_at FROM ops.chains WHERE chain = %(chain)s)"""


def gaps(settings: Settings, store: Store, only: str | None = None) -> list[Gap]:
    """What is missing from the first day of each chain up to its last final block. Asks the source where these are."""
    configs = settings.sources().chains
    chains = Chains(configs, settings.variables, store)
    found: list[Gap] = []
    try:
        for name, config in configs.items():
            if only not in (None, name):
                continue
            wanted = chains.chain(name).blocks((config.start, datetime.now(UTC).date()))
            keys = stream_keys(name, config.addresses, config.tokens)
            covered, unproved = store.covered(keys), store.unproved_reasons(keys)
            for key in keys:
                for lo, hi in difference(wanted, covered.get(key, ())):
                    known = [
                        reason for low, high, reason in unproved.get(key, ()) if low <= hi and lo <= high
                    ]
                    found.append(Gap(key, lo, hi, "; ".join(known) or "not read yet"))
    finally:
        chains.close()
    return found


def blocks(found: list[Gap]) -> int:
    """How many blocks the gaps hold, summed over streams."""
    return sum(size([(gap.lo, gap.hi)]) for gap in found)


@dataclass(frozen=True, slots=True)
class ProviderLine:
    """One provider of one chain, as all processes see it."""

    chain: str
    provider: str
    state: str
    until: datetime | None
    used_today: int
    per_day: int | None
    lies: int
    refuses: str  # classes of questions
    last_failure: str | None
    last_lie: str | None


def provider_line(scope: str, state: ProviderState, used_today: int, per_day: int | None) -> ProviderLine:
    """What is told of a provider."""
    return ProviderLine(
        scope,
        state.provider,
        state.state,
        state.until,
        used_today,
        per_day,
        state.lies,
        ", ".join(sorted(state.unsupported)),
        state.reason,
        state.last_lie,
    )


def providers(settings: Settings, store: Store) -> list[ProviderLine]:
    """One line for each provider and key, in order of preference; asks nobody."""
    chains = Chains(settings.sources().chains, settings.variables, store)
    try:
        return [
            provider_line(
                name, state, chains.used_today(name, state.provider), chains.per_day(name, state.provider)
            )
            for name in chains.configs
            for state in chains.chain(name).providers.states()
        ]
    finally:
        chains.close()


def reset_providers(settings: Settings, store: Store, chain: str | None) -> None:
    """Close the breakers of a chain's providers, or of all, and forget what they do not support; asks nobody."""
    chains = Chains(settings.sources().chains, settings.variables, store)
    try:
        for name in chains.configs if chain is None else [chain]:
            chains.chain(name).providers.reset()
    finally:
        chains.close()


def verify(
    settings: Settings,
    store: Store,
    chain: str,
    span: tuple[date | None, date | None],
    wanted: list[str] | None,
) -> Proved:
    """Hold the days of a chain against the proofs, and mend what they contradict."""
    chains = Chains(settings.sources().chains, settings.variables, store)
    try:
        first, last = span
        if not (chains.configs[chain].proofs if wanted is None else wanted):
            raise Misconfigured(
                f"no proof is named: chains.{chain}.proofs of sources.yaml is empty; name some there, or here"
            )
        start, today = chains.all_days(chain)
        days = (max(first or start, start), min(last or today, today))
        return prove(
            [
                proof
                for kind in EVERY_KIND
                for proof in chains.proofs(kind, chain, (days,), wanted=wanted, again=True)
            ],
            store,
        )
    finally:
        chains.close()
