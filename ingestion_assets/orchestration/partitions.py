"""Partitions: chain × day, feed × day, feed, account × week; year, range of ids. Belongs here: partition definitions and what their
keys mean; nothing that runs.

A key names a subject (the chain, the feed or the account) and, mostly, the day that the partition begins with:
`base|2024-01-02`, or only `datasync`. Others are a year, `2024`, or a range of ids, `1000-1999`.

https://docs.dagster.io/guides/build/partitions-and-backfills/partitioning-assets
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal

import dagster as dg
import sqlalchemy as sa

from ingestion_assets.orchestration.counting import SECONDS, in_time

# Dagster orders the dimensions of a key by name: the subject has to come first.
CHAIN, DAY = "chain", "day"
FEED, UTC_DAY = "feed", "utc_day"
ACCOUNT, WEEK = "account", "week"

Span = tuple[date, date]  # first and last day, inclusive


@dataclass(frozen=True, slots=True)
class Grid:
    """How the rows of a table fall into partitions: by a subject and, mostly, by time.

    Args:
        subject: name of the first dimension and of the column that holds it; of years and ids, which have no subject, empty.
        step: what a partition spans; a week begins on Monday. None: all of a subject.
    """

    subject: str
    step: Literal["day", "week", "year", "ids"] | None

    @property
    def days(self) -> int:
        """How many days a partition spans."""
        return 7 if self.step == "week" else 1


CHAIN_DAYS, FEED_DAYS, ACCOUNT_WEEKS = Grid(CHAIN, "day"), Grid(FEED, "day"), Grid(ACCOUNT, "week")
FEEDS = Grid(FEED, None)
YEARS, IDS = Grid("", "year"), Grid("", "ids")

WIDTH = 1_000  # ids of a range
RANGES = 20  # and one for all ids beyond them


def grid_of(partitions_def: dg.PartitionsDefinition[str]) -> Grid:
    """Which of them an asset is partitioned by."""
    if isinstance(partitions_def, dg.TimeWindowPartitionsDefinition):
        return YEARS
    if not isinstance(partitions_def, dg.MultiPartitionsDefinition):
        return IDS if partitions_def.has_partition_key(id_key(0)) else FEEDS
    names = {dimension.name for dimension in partitions_def.partitions_defs}
    return next(grid for grid in (CHAIN_DAYS, FEED_DAYS, ACCOUNT_WEEKS) if grid.subject in names)


def chain_days(chains: Sequence[str], start: date) -> dg.MultiPartitionsDefinition:
    """One partition for each chain and UTC day since `start`, today included."""
    return dg.MultiPartitionsDefinition(
        {CHAIN: dg.StaticPartitionsDefinition(list(chains)), DAY: _days_since(start)}
    )


def feeds(names: Sequence[str]) -> dg.StaticPartitionsDefinition:
    """One partition for each feed that is read as a whole."""
    return dg.StaticPartitionsDefinition(list(names))


def feed_days(names: Sequence[str], start: date) -> dg.MultiPartitionsDefinition:
    """One partition for each feed and UTC day since `start`, today included."""
    return dg.MultiPartitionsDefinition(
        {FEED: dg.StaticPartitionsDefinition(list(names)), UTC_DAY: _days_since(start)}
    )


def _days_since(start: date) -> dg.DailyPartitionsDefinition:
    return dg.DailyPartitionsDefinition(start_date=start.isoformat(), timezone="UTC", end_offset=1)


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


def years(first: int) -> dg.TimeWindowPartitionsDefinition:
    """One partition for each year (UTC) since the first, this one included."""
    return dg.TimeWindowPartitionsDefinition(
        cron_schedule="0 0 1 1 *", start=str(first), fmt="%Y", timezone="UTC", end_offset=1
    )


def id_ranges() -> dg.StaticPartitionsDefinition:
    """One partition for each thousand of ids, and a last one for all beyond."""
    return dg.StaticPartitionsDefinition([id_key(n * WIDTH) for n in range(RANGES + 1)])


def id_key(identity: int) -> str:
    """The partition key of an id: `1000-1999`, or `20000+`."""
    number = min(identity // WIDTH, RANGES)
    lo = number * WIDTH
    return f"{lo}+" if number == RANGES else f"{lo}-{lo + WIDTH - 1}"


def id_range(partition_key: str) -> tuple[int, int]:
    """The first and the last id of a partition.

    Raises:
        ValueError: it is no range of ids.
    """
    if partition_key.endswith("+"):
        return int(partition_key[:-1]), 2**63 - 1
    lo, _, hi = partition_key.partition("-")
    return int(lo), int(hi)


def key(subject: str, day: date) -> str:
    """The partition key of a subject's day, or of its week that begins with that day."""
    return f"{subject}|{day.isoformat()}"


def keys(subject: str, span: Span, grid: Grid = CHAIN_DAYS) -> list[str]:
    """The partition keys of a subject's days or weeks, first and last included."""
    first, last = span
    return [key(subject, first + timedelta(days=n)) for n in range(0, (last - first).days + 1, grid.days)]


def parse(partition_key: str) -> tuple[str, date]:
    """The subject and the day of a partition key.

    Raises:
        ValueError: it names no day.
    """
    subject, _, day = partition_key.partition("|")
    return subject, date.fromisoformat(day)


def spans(keys: Iterable[str], grid: Grid = CHAIN_DAYS) -> dict[str, tuple[Span, ...]]:
    """The days of each subject as spans without holes, oldest first: what one scan can read."""
    days: dict[str, list[date]] = {}
    for subject, day in map(parse, keys):
        days.setdefault(subject, []).append(day)
    return {subject: _spans(sorted(set(found)), grid) for subject, found in days.items()}


def _spans(begins: list[date], grid: Grid) -> tuple[Span, ...]:
    joined: list[Span] = []
    for begin in begins:
        end = begin + timedelta(days=grid.days - 1)
        if joined and joined[-1][1] + timedelta(days=1) == begin:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return tuple(joined)


def in_partitions(
    table: sa.Table, time_column: str, keys: Sequence[str], grid: Grid = CHAIN_DAYS
) -> sa.ColumnElement[bool]:
    """The rows of these partitions, as SQL."""
    if grid.step == "ids":
        return sa.or_(sa.false(), *(table.c[time_column].between(*id_range(key)) for key in keys))
    if grid.step == "year":
        return _year(table, time_column).in_([int(key) for key in keys])
    if grid.step is None:
        return table.c[grid.subject].in_(keys)
    return sa.or_(
        sa.false(),
        *(
            _in_span(table, time_column, subject, span, grid)
            for subject, own_spans in spans(keys, grid).items()
            for span in own_spans
        ),
    )


def _year(table: sa.Table, column: str) -> sa.ColumnElement[int]:
    """The year of a row, from a date or from itself."""
    value = table.c[column]
    return value if isinstance(value.type, sa.Integer) else sa.extract("year", value)


def _in_span(
    table: sa.Table, time_column: str, subject: str, span: Span, grid: Grid
) -> sa.ColumnElement[bool]:
    first, last = span
    column = _moment(table.c[time_column])
    return sa.and_(
        table.c[grid.subject] == subject,
        column >= _midnight(first),
        column < _midnight(last + timedelta(days=1)),
    )


def _moment(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """A time, or the UTC midnight that a date begins with, whatever the time zone of the session."""
    if isinstance(column.type, sa.Date):
        return sa.func.timezone("UTC", sa.cast(column, sa.DateTime))
    return column


def _midnight(day: date) -> sa.ColumnElement[object]:
    return sa.literal_column(f"timestamptz '{day.isoformat()} 00:00:00+00'")


def rows_by_partition(
    engine: sa.Engine,
    table: sa.Table,
    time_column: str,
    keys: Sequence[str],
    grid: Grid = CHAIN_DAYS,
    *,
    seconds: float = SECONDS,
) -> dict[str, int] | None:
    """How many rows each of these partitions holds; partitions without any are left out.

    Args:
        engine: where they are.
        table: whose rows.
        time_column: says which partition a row belongs to.
        keys: of the partitions.
        grid: that they are of.
        seconds: that a query may take. A partition may be a whole feed, and nothing depends on its count.

    Returns:
        None: one took longer.
    """
    return in_time(
        engine, lambda connection: _counted(connection, table, time_column, keys, grid), seconds=seconds
    )


def _counted(
    connection: sa.Connection, table: sa.Table, time_column: str, keys: Sequence[str], grid: Grid
) -> dict[str, int]:
    if grid.step in ("year", "ids"):
        return _by_number(connection, table, time_column, keys, grid)
    if grid.step is None:
        name = table.c[grid.subject]
        of_names = sa.select(name, sa.func.count()).where(name.in_(keys)).group_by(name)
        return {row[0]: row[1] for row in connection.execute(of_names)}
    begin = sa.func.date_trunc(grid.step, sa.func.timezone("UTC", _moment(table.c[time_column])))
    day = sa.func.to_char(begin, "YYYY-MM-DD")
    counts: dict[str, int] = {}
    for subject, own_spans in spans(keys, grid).items():
        for span in own_spans:
            query = (
                sa.select(day, sa.func.count())
                .where(_in_span(table, time_column, subject, span, grid))
                .group_by(day)
            )
            for begins_with, count in connection.execute(query):
                counts[f"{subject}|{begins_with}"] = count
    return counts


def _by_number(
    connection: sa.Connection, table: sa.Table, column: str, keys: Sequence[str], grid: Grid
) -> dict[str, int]:
    value = table.c[column]
    number = _year(table, column) if grid.step == "year" else sa.func.least(value // WIDTH, RANGES)
    query = (
        sa.select(number, sa.func.count()).where(in_partitions(table, column, keys, grid)).group_by(number)
    )
    found = {int(one): count for one, count in connection.execute(query)}
    return {str(n) if grid.step == "year" else id_key(n * WIDTH): count for n, count in found.items()}
