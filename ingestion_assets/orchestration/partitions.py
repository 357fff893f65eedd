"""Partitions: chain × day, feed × day, feed. Belongs here: partition definitions and what their keys mean; nothing that runs.

A key names a subject (the chain or the feed) and, mostly, a day: `base|2024-01-02`, or only `datasync`.

https://docs.dagster.io/guides/build/partitions-and-backfills/partitioning-assets
"""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta

import dagster as dg
import sqlalchemy as sa

CHAIN, DAY = "chain", "day"  # Dagster orders the dimensions of a key by name: `base|2024-01-02`
FEED, UTC_DAY = "feed", "utc_day"  # same: the feed has to come first
SUBJECTS = (CHAIN, FEED)  # the columns of our tables that hold the subject of a partition

Span = tuple[date, date]  # first and last day, inclusive


def chain_days(chains: Sequence[str], start: date) -> dg.MultiPartitionsDefinition:
    """One partition for each chain and UTC day since `start`, today included."""
    days = dg.DailyPartitionsDefinition(start_date=start.isoformat(), timezone="UTC", end_offset=1)
    return dg.MultiPartitionsDefinition({CHAIN: dg.StaticPartitionsDefinition(list(chains)), DAY: days})


def feeds(names: Sequence[str]) -> dg.StaticPartitionsDefinition:
    """One partition for each feed that is read as a whole."""
    return dg.StaticPartitionsDefinition(list(names))


def feed_days(names: Sequence[str], start: date) -> dg.MultiPartitionsDefinition:
    """One partition for each feed and UTC day since `start`, today included."""
    days = dg.DailyPartitionsDefinition(start_date=start.isoformat(), timezone="UTC", end_offset=1)
    return dg.MultiPartitionsDefinition({FEED: dg.StaticPartitionsDefinition(list(names)), UTC_DAY: days})


def key(chain: str, day: date) -> str:
    """The partition key of a chain's, or a feed's, day."""
    return f"{chain}|{day.isoformat()}"


def keys(chain: str, span: Span) -> list[str]:
    """The partition keys of a chain's days, first and last included."""
    first, last = span
    return [key(chain, first + timedelta(days=n)) for n in range((last - first).days + 1)]


def parse(partition_key: str) -> tuple[str, date]:
    """The subject and the day of a partition key.

    Raises:
        ValueError: it names no day.
    """
    chain, _, day = partition_key.partition("|")
    return chain, date.fromisoformat(day)


def spans(keys: Iterable[str]) -> dict[str, tuple[Span, ...]]:
    """The days of each subject as spans without holes, oldest first: what one scan can read."""
    days: dict[str, list[date]] = {}
    for chain, day in (parse(key) for key in keys if "|" in key):
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


def subject(table: sa.Table) -> "sa.Column[str]":
    """The column that holds the chain, or the feed."""
    return next(table.c[name] for name in SUBJECTS if name in table.c)


def whole(keys: Iterable[str]) -> list[str]:
    """The subjects of those keys that name no day."""
    return [key for key in keys if "|" not in key]


def in_partitions(table: sa.Table, time_column: str, keys: Sequence[str]) -> sa.ColumnElement[bool]:
    """The rows of these partitions, as SQL."""
    return sa.or_(
        sa.false(),
        subject(table).in_(whole(keys)),
        *(
            in_span(table, time_column, name, span)
            for name, own_spans in spans(keys).items()
            for span in own_spans
        ),
    )


def in_span(table: sa.Table, time_column: str, chain: str, span: Span) -> sa.ColumnElement[bool]:
    """The rows of a subject's days, as SQL."""
    first, last = span
    column = table.c[time_column]
    return sa.and_(
        subject(table) == chain, column >= _midnight(first), column < _midnight(last + timedelta(days=1))
    )


def _midnight(day: date) -> sa.ColumnElement[object]:
    return sa.literal_column(f"timestamptz '{day.isoformat()} 00:00:00+00'")


def rows_by_partition(
    engine: sa.Engine, table: sa.Table, time_column: str, keys: Sequence[str]
) -> dict[str, int]:
    """How many rows each of these partitions holds; partitions without any are left out."""
    day = sa.func.to_char(sa.func.timezone("UTC", table.c[time_column]), "YYYY-MM-DD")
    counts: dict[str, int] = {}
    with engine.connect() as connection:
        for name in whole(keys):
            of_name = sa.select(sa.func.count()).where(subject(table) == name)
            counts[name] = connection.scalar(of_name) or 0
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
