"""What there is to read, phase by phase, from the marks alone: no question is asked for it."""

from collections.abc import Iterator
from datetime import timedelta

from ingestion_assets.engine.coverage import Ranges, difference, intersection
from ingestion_assets.orchestration import partitions
from ingestion_assets.sources.gomafia.phases import PHASES, STATISTICS, Phase
from ingestion_assets.sources.gomafia.site import Site
from ingestion_assets.sources.gomafia.streams import Belongings, ListingSweep, Statistics

RESTS = timedelta(hours=1)  # so long what was passed over is left alone by the sensor


def pending(site: Site) -> Iterator[tuple[Phase, list[str]]]:
    """The phases that have something to read, in the order of an import, each with its partitions."""
    for phase in PHASES:
        keys = _pending(site, phase)
        if keys:
            yield phase, keys


def _pending(site: Site, phase: Phase) -> list[str]:
    this_year = site.clock().year
    years = range(site.config.start_year, this_year + 1)
    everything = tuple(map(partitions.id_range, partitions.id_ranges().get_partition_keys()))
    if phase.listing is not None:
        if phase.keyed_by_year:
            return [
                str(year)
                for year in years
                if _is_due(site, ListingSweep(phase, site, year), is_current=year == this_year)
            ]
        if not _is_due(site, ListingSweep(phase, site)):
            return []
        return [partitions.id_key(0)] if phase.by == "ids" else [str(this_year)]
    if phase is STATISTICS:
        stream = Statistics(site, everything)
        return _blocks(_missing(site, stream.keys[0], stream.wanted()))
    if phase.keyed_by_year:
        return [
            str(year)
            for year in years
            if _missing(site, phase.key(year), Belongings(phase, site, year=year).wanted())
        ]
    if phase.by == "ids":
        return _blocks(_missing(site, phase.asset, Belongings(phase, site, blocks=everything).wanted()))
    return [
        str(year)
        for year in years
        if _missing(site, phase.asset, Belongings(phase, site, years=(year,)).wanted())
    ]


def _is_due(site: Site, stream: ListingSweep, *, is_current: bool = True) -> bool:
    """Whether a listing was never read to its end, or not lately. The rating of a year that is over changes no more."""
    sweep = site.knowledge.sweep(stream.key)
    if sweep is None:
        return True
    covered = site.store.covered(stream.keys).get(stream.key, ())
    if difference(stream.wanted(), covered):
        return not site.store.unproved(stream.keys, within=RESTS)
    return is_current and site.is_stale(sweep.began_at)


def _missing(site: Site, key: str, wanted: Ranges) -> Ranges:
    """What is wanted, not covered, and was not passed over just now."""
    covered = site.store.covered([key]).get(key, ())
    resting = site.store.unproved([key], within=RESTS).get(key, ())
    gaps = difference(wanted, covered)
    return difference(gaps, resting)


def _blocks(gaps: Ranges) -> list[str]:
    """The ranges of ids that these lie in, in order."""
    keys = partitions.id_ranges().get_partition_keys()
    return [key for key in keys if intersection(gaps, [partitions.id_range(key)])]
