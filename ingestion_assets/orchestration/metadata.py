"""Metadata. Belongs here: what a materialisation says about itself, under the names that the UI plots.

https://docs.dagster.io/guides/build/assets/metadata-and-tags/table-metadata
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg
import sqlalchemy as sa

from ingestion_assets.engine.coverage import Ranges, difference, size, union
from ingestion_assets.engine.store import Store
from ingestion_assets.engine.stream import Stream, Tally
from ingestion_assets.orchestration.counting import SECONDS, in_time

COUNTED = 1_000_000  # rows up to which a table is counted; beyond, Postgres's own estimate has to do


def numbers(tally: Tally) -> dict[str, int]:
    """What was read and stored: four different numbers, and how many commits they took."""
    return {
        "fetched": tally.fetched,
        "inserted": tally.inserted,
        "duplicate": tally.duplicate,
        "rejected": tally.rejected,
        "batches": tally.batches,
    }


def wanted_by_key(streams: Sequence[Stream]) -> dict[str, Ranges]:
    """What each key of these streams is asked for."""
    return {key: wanted for stream in streams for wanted in [stream.wanted()] for key in stream.keys}


def missing(store: Store, streams: Sequence[Stream]) -> int:
    """How many positions are wanted and not covered, summed over keys."""
    wanted = wanted_by_key(streams)
    covered = store.covered(wanted)
    return sum(size(difference(ranges, covered.get(key, ()))) for key, ranges in wanted.items())


def coverage(store: Store, streams: Sequence[Stream]) -> dict[str, Any]:
    """How much of what the streams want is covered, and by which evidence. Positions are summed over streams."""
    wanted = wanted_by_key(streams)
    whole = union(one for ranges in wanted.values() for one in ranges)
    if not whole:
        return {}
    return {
        "coverage": dg.MetadataValue.json(
            {
                "from": whole[0][0],
                "to": whole[-1][1],
                "streams": len(wanted),
                "missing": missing(store, streams),
                "evidence": store.evidence(wanted, whole[0][0], whole[-1][1]),
            }
        )
    }


def row_count(engine: sa.Engine, table: sa.Table, *, seconds: float = SECONDS) -> int | None:
    """The rows of a table: exact while that is cheap, then what Postgres estimates; None: it does not yet, and counting takes too long."""

    def count(connection: sa.Connection) -> int:
        estimate = connection.scalar(
            sa.text(  # of a table with partitions, Postgres estimates only these
                "SELECT sum(greatest(reltuples, 0)) FROM pg_partition_tree(to_regclass(:name)) AS part"
                " JOIN pg_class ON pg_class.oid = part.relid WHERE part.isleaf"
            ),
            {"name": table.fullname},
        )
        if estimate is not None and estimate > COUNTED:
            return int(estimate)
        return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0

    return in_time(engine, count, seconds=seconds)
