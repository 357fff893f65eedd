"""Which streams a partition means, and what of them there is to read: from the marks alone, no question is asked for it."""

from collections.abc import Iterable, Iterator
from datetime import timedelta

from ingestion_assets.engine.coverage import difference
from ingestion_assets.engine.stream import Stream
from ingestion_assets.orchestration import partitions
from ingestion_assets.sources.gomafia.counting import Statistics
from ingestion_assets.sources.gomafia.phases import PHASES, STATISTICS, Phase
from ingestion_assets.sources.gomafia.site import Site
from ingestion_assets.sources.gomafia.streams import Belongings, ListingSweep, Validation

RESTS = timedelta(hours=1)  # so long what was passed over is left alone by the sensor


def streams_of(
    phase: Phase, site: Site, keys: Iterable[str], validation: Validation | None = None
) -> list[Stream]:
    """What a run over these partitions of a phase reads."""
    counts = validation or Validation()
    if phase.by == "ids":
        blocks = tuple(partitions.id_range(key) for key in keys)
        if phase is STATISTICS:
            return [Statistics(site, blocks)]
        if phase.listing is not None:
            return [ListingSweep(phase, site, validation=counts)]
        return [Belongings(phase, site, blocks=blocks, validation=counts)]
    years = sorted(map(int, keys), reverse=True)
    if phase.listing is not None:
        each = years if phase.keyed_by_year else [None]
        return [ListingSweep(phase, site, year, counts) for year in each]
    if phase.keyed_by_year:
        return [Belongings(phase, site, year=year, validation=counts) for year in years]
    return [Belongings(phase, site, years=tuple(years), validation=counts)]


def keys_of(phase: Phase, site: Site) -> list[str]:
    """All partitions of a phase, in order."""
    if phase.by == "ids":
        return list(partitions.id_ranges().get_partition_keys())
    return [str(year) for year in range(site.config.start_year, site.clock().year + 1)]


def pending(site: Site) -> Iterator[tuple[Phase, list[str]]]:
    """The phases that have something to read, in the order of an import, each with its partitions."""
    for phase in PHASES:
        keys = _due(site, phase) if phase.listing is not None else _missing(site, phase)
        if keys:
            yield phase, keys


def _missing(site: Site, phase: Phase) -> list[str]:
    """The partitions that miss something which was not passed over just now."""
    return [
        key
        for key in keys_of(phase, site)
        for stream in streams_of(phase, site, [key])
        if difference(
            difference(stream.wanted(), site.store.covered(stream.keys).get(stream.keys[0], ())),
            site.store.unproved(stream.keys, within=RESTS).get(stream.keys[0], ()),
        )
    ]


def _due(site: Site, phase: Phase) -> list[str]:
    """The partitions of a listing that was never read to its end, or not lately. A listing of no year is read by any of them."""
    keys = keys_of(phase, site)
    if not phase.keyed_by_year:
        return keys[-1:] if _is_due(site, ListingSweep(phase, site)) else []
    # The rating of a year that is over changes no more.
    return [
        key for key in keys if _is_due(site, ListingSweep(phase, site, int(key)), is_current=key == keys[-1])
    ]


def _is_due(site: Site, stream: ListingSweep, *, is_current: bool = True) -> bool:
    sweep = site.knowledge.sweep(stream.key)
    if sweep is None:
        return True
    covered = site.store.covered(stream.keys).get(stream.key, ())
    if difference(stream.wanted(), covered):
        return not site.store.unproved(stream.keys, within=RESTS)
    return is_current and site.is_stale(sweep.began_at)
