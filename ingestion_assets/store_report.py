"""What the CLI tells about the store of transfers: how much of each chain is in it, and what it still has to do. From small tables alone."""

from dataclasses import dataclass
from datetime import date

from ingestion_assets.engine.store import Store
from ingestion_assets.settings import Settings


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """The stored transfers of one chain."""

    asset: str
    chain: str
    transfers: int  # as they were last added up
    first: date | None
    last: date | None
    unmerged: int  # notes of changed raw transfers that the store has not followed yet
    to_add_up: int  # totals of a token and a day that are to be made anew


def transfers(settings: Settings, store: Store, only: str | None = None) -> list[StoreStatus]:
    """One line for each chain, or for one."""
    names = [name for name in settings.sources().chains if only in (None, name)]
    found = store.transaction(lambda c: c.execute(_OF_CHAINS, [names]).fetchall())
    return [StoreStatus("transfers/transfers", *line) for line in found]


_OF_CHAINS = """
    SELECT chain, coalesce(sum(t.transfer_count), 0)::bigint, min(t.day), max(t.day),
           (SELECT count(*) FROM ops.transfer_changes AS n WHERE n.chain = named.chain),
           (SELECT count(*) FROM ops.transfer_cells AS n WHERE n.chain = named.chain)
    FROM unnest(%s::text[]) WITH ORDINALITY AS named (chain, place)
    LEFT JOIN core.transfer_daily_totals AS t USING (chain)
    GROUP BY chain, place ORDER BY place"""
