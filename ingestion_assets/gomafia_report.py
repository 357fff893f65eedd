"""What the CLI tells about the rating: how far each phase is, and what of it is missing. From the marks alone; the site is not asked."""

from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from ingestion_assets.engine.budget import SharedBudget
from ingestion_assets.engine.coverage import difference, size
from ingestion_assets.engine.store import Store
from ingestion_assets.report import Gap, ProviderLine, provider_line
from ingestion_assets.settings import Settings
from ingestion_assets.sources.gomafia.phases import PHASES, Phase
from ingestion_assets.sources.gomafia.site import SCOPE, Site
from ingestion_assets.sources.gomafia.streams import PROOF
from ingestion_assets.sources.gomafia.work import keys_of, streams_of


@dataclass(frozen=True, slots=True)
class PhaseStatus:
    """One phase. `total` counts entities; of listings also their proof. `passed_over` are those that failed when they were last asked for."""

    asset: str
    rows: int
    done: int
    total: int
    passed_over: int
    dead_letters: int
    read_at: datetime | None


def phases(settings: Settings, store: Store) -> list[PhaseStatus]:
    """One line for each phase, in the order of an import."""
    config = settings.sources().gomafia
    if config is None:
        return []
    site = Site(config, store)
    try:
        return [_status(site, phase) for phase in PHASES]
    finally:
        site.close()


def _status(site: Site, phase: Phase) -> PhaseStatus:
    wanted = {s.keys[0]: s.wanted() for s in streams_of(phase, site, keys_of(phase, site))}
    covered = site.store.covered(wanted)
    total = sum(map(size, wanted.values()))
    missing = sum(size(difference(ranges, covered.get(key, ()))) for key, ranges in wanted.items())
    rows, read_at = site.store.transaction(
        lambda c: c.execute(
            f"SELECT (SELECT count(*) FROM {phase.table.fullname}), max(updated_at) FROM ops.coverage WHERE stream = ANY(%s)",
            [list(wanted)],
        ).fetchone()
    ) or (0, None)
    return PhaseStatus(
        asset=phase.asset,
        rows=rows,
        done=total - missing,
        total=total,
        passed_over=sum(map(size, site.store.unproved(wanted).values())),
        dead_letters=sum(n for key in wanted for n in site.store.count_open_letters(key).values()),
        read_at=read_at,
    )


def providers(settings: Settings, store: Store, *, reset: bool = False) -> list[ProviderLine]:
    """The ways of asking the site, the preferred one first; asks nobody.

    Args:
        settings: which say whether there is a rating.
        store: where the breakers are.
        reset: close them first, and forget what is not supported.
    """
    config = settings.sources().gomafia
    if config is None:
        return []
    with closing(Site(config, store)) as site:
        if reset:
            site.providers.reset()
        budget = site.budget if isinstance(site.budget, SharedBudget) else None
        used, per_day = (0, None) if budget is None else (budget.used_today(), budget.per_day)
        return [provider_line(SCOPE, state, used, per_day) for state in site.providers.states()]


def phase_gaps(settings: Settings, store: Store) -> list[Gap]:
    """Entities, and positions of listings, that are wanted and not covered, each with the reason if it was passed over."""
    config = settings.sources().gomafia
    if config is None:
        return []
    site = Site(config, store)
    found: list[Gap] = []
    try:
        for phase in PHASES:
            for stream in streams_of(phase, site, keys_of(phase, site)):
                (key,) = stream.keys
                known = store.unproved_reasons([key]).get(key, ())
                for lo, hi in difference(stream.wanted(), store.covered([key]).get(key, ())):
                    reasons = [reason for low, high, reason in known if low <= hi and lo <= high]
                    ending = phase.listing is not None and (lo, hi) == (PROOF, PROOF)
                    usual = "its end is not proved yet" if ending else "not read yet"
                    found.append(Gap(key, lo, hi, "; ".join(reasons) or usual))
    finally:
        site.close()
    return found
