"""What the CLI tells about streams: how far they are, and what is missing. Reads marks, writes nothing."""

from dataclasses import dataclass
from datetime import UTC, datetime

from ingestion_assets.engine.coverage import difference, size
from ingestion_assets.engine.store import Store
from ingestion_assets.settings import Settings
from ingestion_assets.sources.evm.assets import Chains
from ingestion_assets.sources.evm.records import KINDS
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
    """Blocks that are wanted and not covered."""

    stream: str
    lo: int
    hi: int
    reason: str


def status(settings: Settings, store: Store) -> list[Status]:
    """One line for each asset and chain, from the marks alone; asks no source."""
    return [
        _status(store, kind.name, chain, [stream_key(kind, chain, address) for address in config.addresses])
        for chain, config in settings.sources().chains.items()
        for kind in KINDS
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
            keys = stream_keys(name, config.addresses)
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
