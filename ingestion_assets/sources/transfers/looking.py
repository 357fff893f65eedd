"""What the store says of itself: what is left to do, and whether it is what it should be. Reads, and changes nothing."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime

from ingestion_assets.engine.store import Connection, Store
from ingestion_assets.orchestration import partitions
from ingestion_assets.sources.transfers import inheriting
from ingestion_assets.sources.transfers.merging import floor
from ingestion_assets.sources.transfers.retention import first_day
from ingestion_assets.sources.transfers.totals import Cell, wrong

SAMPLE = 200  # cells that are added up again by a check


def pending(store: Store, chain: str, start: date) -> set[str]:
    """The partitions, since a first day, with raw transfers that are not merged, or with totals that are not added up.

    Coverage that has become better without any new transfer is brought up to date by a run of the newest day.
    """

    def look(connection: Connection) -> tuple[set[date], bool]:
        days = {day for (day,) in connection.execute(_PENDING, {"chain": chain})}
        return days, not days and inheriting.is_outdated(connection, chain)

    days, is_outdated = store.transaction(look)
    if is_outdated:
        days = {datetime.now(UTC).date()}
    return {partitions.key(chain, day) for day in days if day >= start}


def left_to_do(store: Store, days: Mapping[str, tuple[partitions.Span, ...]]) -> list[str]:
    """The days of these that have something left to do, a sentence each."""
    return [
        f"{chain}|{day}: {notes} notes of changed raw transfers are not merged"
        for chain, spans in days.items()
        for first, last in spans
        for day, notes in store.transaction(
            lambda c, v={"chain": chain, "first": first, "last": last}: c.execute(_NOTES, v).fetchall()  # type: ignore[misc]
        )
    ]


def differing_days(store: Store, days: Mapping[str, tuple[partitions.Span, ...]]) -> list[str]:
    """The days on which the store does not have as many transfers as the raw tables together, a sentence each.

    What changes while this looks is left out: such days are noted, and will be merged.
    """
    found: list[str] = []
    for chain, spans in days.items():
        for first, last in spans:
            values = {"chain": chain, "first": first, "last": last}
            counts = store.transaction(lambda c, v=values: c.execute(_COUNTS, v).fetchall())  # type: ignore[misc]
            found += [
                f"{chain}|{day}: {stored} stored, {raw} in the raw tables" for day, stored, raw in counts
            ]
    return found


def wrong_totals(
    store: Store, days: Mapping[str, tuple[partitions.Span, ...]], *, sample: int | None = SAMPLE
) -> tuple[int, list[str]]:
    """How many totals were added up again, and those that are not what they should be, a sentence each.

    Args:
        store: where both are.
        days: whose totals.
        sample: so many of them for each span, taken at random; None: all.
    """
    looked, found = 0, list[str]()
    for chain, spans in days.items():
        for first, last in spans:
            values = {"chain": chain, "first": first, "last": last, "sample": sample}

            def look(
                connection: Connection, chain: str = chain, values: dict[str, object] = values
            ) -> tuple[list[Cell], list[Cell]]:
                cells = connection.execute(_CELLS, values).fetchall()
                return cells, wrong(connection, chain, cells)

            cells, bad = store.transaction(look)
            looked += len(cells)
            found += [f"{chain}|{day}: the total of {token} is wrong" for day, token in bad]
    return looked, found


def outdated_cells(store: Store, days: Mapping[str, tuple[partitions.Span, ...]]) -> int:
    """How many totals wait to be added up."""
    return sum(
        (store.transaction(lambda c, v=[chain, first, last]: c.execute(_WAITING, v).fetchone()) or (0,))[0]  # type: ignore[misc]
        for chain, spans in days.items()
        for first, last in spans
    )


def days_kept(
    store: Store, days: Mapping[str, tuple[partitions.Span, ...]], retention: Mapping[str, int | None]
) -> dict[str, tuple[partitions.Span, ...]]:
    """Those of these days that the store keeps, by its floor and by what sources.yaml wants."""
    today = datetime.now(UTC).date()
    kept: dict[str, tuple[partitions.Span, ...]] = {}
    for chain, spans in days.items():
        floors: Iterable[date | None] = (
            store.transaction(lambda c, chain=chain: floor(c, chain)),  # type: ignore[misc]
            first_day(today, retention.get(chain)),
        )
        begin = max((day for day in floors if day is not None), default=date.min)
        kept[chain] = tuple((max(first, begin), last) for first, last in spans if last >= begin)
    return kept


_PENDING = """
    SELECT day FROM (
        SELECT day FROM ops.transfer_changes WHERE chain = %(chain)s
        UNION SELECT day FROM ops.transfer_cells WHERE chain = %(chain)s) AS days
    WHERE day >= coalesce((SELECT day FROM ops.transfer_floors WHERE chain = %(chain)s), '-infinity')"""
_NOTES = """
    SELECT day, count(*) FROM ops.transfer_changes
    WHERE chain = %(chain)s AND day BETWEEN %(first)s AND %(last)s GROUP BY day ORDER BY day"""
_WAITING = "SELECT count(*) FROM ops.transfer_cells WHERE chain = %s AND day BETWEEN %s AND %s"
_BETWEEN = (
    "chain = %(chain)s AND block_time >= timezone('UTC', %(first)s::timestamp)"
    " AND block_time < timezone('UTC', %(last)s::timestamp + interval '1 day')"
)
_DAY = "timezone('UTC', block_time)::date AS day"
# Of the transfers that both raw tables have, one is taken off again. One statement, so it sees one moment.
_COUNTS = f"""
    WITH counted AS (
        SELECT {_DAY}, count(*) AS stored, 0 AS raw FROM core.transfers WHERE {_BETWEEN} GROUP BY 1
        UNION ALL
        SELECT {_DAY}, 0, count(*) FROM raw.evm_erc20_transfers WHERE {_BETWEEN} GROUP BY 1
        UNION ALL
        SELECT {_DAY}, 0, count(*) FROM raw.evm_token_transfers AS t WHERE {_BETWEEN} AND NOT EXISTS (
            SELECT FROM raw.evm_erc20_transfers AS e
            WHERE (e.chain, e.block_number, e.id) = (t.chain, t.block_number, t.id)) GROUP BY 1)
    SELECT day, sum(stored), sum(raw) FROM counted
    WHERE day NOT IN (SELECT day FROM ops.transfer_changes WHERE chain = %(chain)s)
    GROUP BY day HAVING sum(stored) <> sum(raw) ORDER BY day"""
_CELLS = """
    SELECT day, token_address FROM core.transfer_daily_totals
    WHERE chain = %(chain)s AND day BETWEEN %(first)s AND %(last)s
    ORDER BY CASE WHEN %(sample)s::int IS NULL THEN 0 ELSE random() END, day, token_address LIMIT %(sample)s"""
