"""Partitions: chain × day. Belongs here: partition definitions and what their keys mean; nothing that runs.

https://docs.dagster.io/guides/build/partitions-and-backfills/partitioning-assets
"""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta

import dagster as dg
import sqlalchemy as sa

CHAIN, DAY = "chain", "day"  # Dagster orders the dimensions of a key by name: `base|2024-01-02`

Span = tuple[date, date]  # first and last day, inclusive


def chain_days(chains: Sequence[str], start: date) -> dg.MultiPartitionsDefinition:
    """One partition for each chain and UTC day since `start`, today included."""
    days = dg.DailyPartitionsDefinition(start_date=start.isoformat(), timezone="UTC", end_offset=1)
    return dg.MultiPartitionsDefinition({CHAIN: dg.StaticPartitionsDefinition(list(chains)), DAY: days})


def key(chain: str, day: date) -> str:
    """The partition key of a chain's day."""
    return f"{chain}|{day.isoformat()}"


def keys(chain: str, span: Span) -> list[str]:
    """The partition keys of a chain's days, first and last included."""
    first, last = span
    return [key(chain, first + timedelta(days=n)) for n in range((last - first).days + 1)]


def parse(partition_key: str) -> tuple[str, date]:
    """The chain and day of a partition key."""
    chain, _, day = partition_key.partition("|")
    return chain, date.fromisoformat(day)


def spans(keys: Iterable[str]) -> dict[str, tuple[Span, ...]]:
    """The days of each chain as spans without holes, oldest first: what one scan can read."""
    days: dict[str, list[date]] = {}
    for chain, day in map(parse, keys):
        days.setdefault(chain, []).append(day)
    return {chain: _spans(sorted(set(found))) for chain, found in days.items()}


def _spans(days: list[date]) -> tuple[Span, ...]:
    joined: list[Span] = []
    for day in days:
        if joined and joined[-1][1] + timedelta(days=1) == day:
            joined[-1] = (joined[-1][0], day)
        else:
            joined.append((day, day))
    return tuple(joined)


def in_span(table: sa.Table, time_column: str, chain: str, span: Span) -> sa.ColumnElement[bool]:
    """The rows of a chain's days, as SQL."""
    first, last = span
    column = table.c[time_column]
    return sa.and_(
        table.c[CHAIN] == chain, column >= _midnight(first), column < _midnight(last + timedelta(days=1))
    )


def _midnight(day: date) -> sa.ColumnElement[object]:
    return sa.literal_column(f"timestamptz '{day.isoformat()} 00:00:00+00'")


def rows_by_partition(
    engine: sa.Engine, table: sa.Table, time_column: str, keys: Iterable[str]
) -> dict[str, int]:
    """How many rows each of these partitions holds; partitions without any are left out."""
    day = sa.func.to_char(sa.func.timezone("UTC", table.c[time_column]), "YYYY-MM-DD")
    counts: dict[str, int] = {}
    with engine.connect() as connection:
        for chain, chain_spans in spans(keys).items():
            for span in chain_spans:
                query = (
                    sa.select(day, sa.func.count())
                    .where(in_span(table, time_column, chain, span))
                    .group_by(day)
                )
                for name, count in connection.execute(query):
                    counts[f"{chain}|{name}"] = count
    return counts
