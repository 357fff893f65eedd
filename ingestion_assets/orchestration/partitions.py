"""Partitions: chain × day, account × week. Belongs here: partition definitions and what their keys mean; nothing that runs.

https://docs.dagster.io/guides/build/partitions-and-backfills/partitioning-assets
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import dagster as dg
import sqlalchemy as sa

# Dagster orders the dimensions of a key by name: `base|2024-01-02`, `savings|2024-01-01`
CHAIN, DAY = "chain", "day"
ACCOUNT, WEEK = "account", "week"

Span = tuple[date, date]  # first and last day, inclusive


@dataclass(frozen=True, slots=True)
class Grid:
    """Partitions of two dimensions: a subject, which is also a column of the table, and time.

    Args:
        subject: name of the first dimension and of the column.
        step: what a partition spans; a week begins on Monday.
    """

    subject: str
    step: Literal["day", "week"]

    @property
    def days(self) -> int:
        """How many days a partition spans."""
        return 7 if self.step == "week" else 1


CHAIN_DAYS, ACCOUNT_WEEKS = Grid(CHAIN, "day"), Grid(ACCOUNT, "week")


def grid_of(partitions_def: dg.PartitionsDefinition[str]) -> Grid:
    """Which of them an asset is partitioned by."""
    assert isinstance(partitions_def, dg.MultiPartitionsDefinition)  # noqa: S101 - all of ours are
    names = {dimension.name for dimension in partitions_def.partitions_defs}
    return ACCOUNT_WEEKS if ACCOUNT in names else CHAIN_DAYS


def chain_days(chains: Sequence[str], start: date) -> dg.MultiPartitionsDefinition:
    """One partition for each chain and UTC day since `start`, today included."""
    days = dg.DailyPartitionsDefinition(start_date=start.isoformat(), timezone="UTC", end_offset=1)
    return dg.MultiPartitionsDefinition({CHAIN: dg.StaticPartitionsDefinition(list(chains)), DAY: days})


def account_weeks(accounts: str, first_week: date) -> dg.MultiPartitionsDefinition:
    """One partition for each account and week since a Monday, this week included.

    Args:
        accounts: name under which Dagster keeps the accounts that were found so far.
        first_week: the Monday.
    """
    weeks = dg.WeeklyPartitionsDefinition(
        start_date=first_week.isoformat(), day_offset=1, timezone="UTC", end_offset=1
    )
    return dg.MultiPartitionsDefinition({ACCOUNT: dg.DynamicPartitionsDefinition(name=accounts), WEEK: weeks})


def key(chain: str, day: date) -> str:
    """The partition key of a chain's day."""
    return f"{chain}|{day.isoformat()}"


def keys(chain: str, span: Span, grid: Grid = CHAIN_DAYS) -> list[str]:
    """The partition keys of a chain's days, or an account's weeks, first and last included."""
    first, last = span
    return [key(chain, first + timedelta(days=n)) for n in range(0, (last - first).days + 1, grid.days)]


def parse(partition_key: str) -> tuple[str, date]:
    """The chain and day of a partition key."""
    chain, _, day = partition_key.partition("|")
    return chain, date.fromisoformat(day)


def spans(keys: Iterable[str], grid: Grid = CHAIN_DAYS) -> dict[str, tuple[Span, ...]]:
    """The days of each chain, or account, as spans without holes, oldest first: what one scan can read."""
    days: dict[str, list[date]] = {}
    for chain, day in map(parse, keys):
        days.setdefault(chain, []).append(day)
    return {chain: _spans(sorted(set(found)), grid) for chain, found in days.items()}


def _spans(begins: list[date], grid: Grid) -> tuple[Span, ...]:
    joined: list[Span] = []
    for begin in begins:
        end = begin + timedelta(days=grid.days - 1)
        if joined and joined[-1][1] + timedelta(days=1) == begin:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return tuple(joined)


def in_span(
    table: sa.Table, time_column: str, chain: str, span: Span, grid: Grid = CHAIN_DAYS
) -> sa.ColumnElement[bool]:
    """The rows of a chain's days, or an account's weeks, as SQL."""
    first, last = span
    column = table.c[time_column]
    return sa.and_(
        table.c[grid.subject] == chain,
        column >= _midnight(first),
        column < _midnight(last + timedelta(days=1)),
    )


def _midnight(day: date) -> sa.ColumnElement[object]:
    return sa.literal_column(f"timestamptz '{day.isoformat()} 00:00:00+00'")


def rows_by_partition(
    engine: sa.Engine, table: sa.Table, time_column: str, keys: Iterable[str], grid: Grid = CHAIN_DAYS
) -> dict[str, int]:
    """How many rows each of these partitions holds; partitions without any are left out."""
    begin = sa.func.date_trunc(grid.step, sa.func.timezone("UTC", table.c[time_column]))
    day = sa.func.to_char(begin, "YYYY-MM-DD")
    counts: dict[str, int] = {}
    with engine.connect() as connection:
        for chain, chain_spans in spans(keys, grid).items():
            for span in chain_spans:
                query = (
                    sa.select(day, sa.func.count())
                    .where(in_span(table, time_column, chain, span, grid))
                    .group_by(day)
                )
                for name, count in connection.execute(query):
                    counts[f"{chain}|{name}"] = count
    return counts
