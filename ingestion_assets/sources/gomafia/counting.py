"""The statistics: counted from our own tables, some hundred players at a time. Nobody is asked for them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from ingestion_assets.engine.coverage import Range, Ranges, difference, intersection
from ingestion_assets.engine.exclusive import exclusive
from ingestion_assets.engine.rows import lines
from ingestion_assets.engine.stream import Batch, Covered, Done, Evidence, Rows
from ingestion_assets.sources.gomafia import tables
from ingestion_assets.sources.gomafia.phases import STATISTICS
from ingestion_assets.sources.gomafia.site import Site
from ingestion_assets.sources.gomafia.streams import covered_now

BLOCK = 500  # players of one commit
OWN = "our tables"  # by whose word they are what they are


@dataclass(frozen=True)
class Statistics:
    """Games, wins and points by role, of the players in these ranges of numbers.

    Args:
        site: whose games; nobody is asked.
        blocks: ranges of numbers.
    """

    site: Site
    blocks: tuple[Range, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """It has one."""
        return (STATISTICS.asset,)

    def wanted(self) -> Ranges:
        """All numbers up to the highest that is known."""
        return intersection(self.blocks, [(0, self.site.knowledge.last_player())])

    def read(self, done: Mapping[str, Done]) -> Iterator[Batch]:  # noqa: ARG002 - see `covered_now`
        """Some hundred players at a time."""
        with exclusive(self.site.store, STATISTICS.asset, self.site.owner) as still_held:
            for lo, hi in difference(self.wanted(), covered_now(self.site, STATISTICS.asset)):
                for begin in range(lo, hi + 1, BLOCK):
                    still_held()
                    yield self._batch((begin, min(hi, begin + BLOCK - 1)))

    def _batch(self, block: Range) -> Batch:
        found = self.site.knowledge.statistics(block)
        table = tables.role_statistics
        old = sa.delete(table).where(table.c.player_id.between(*block))
        rows = (Rows(table, lines(found), len(found)),) if found else ()
        return Batch(Covered(*block, Evidence("stated", OWN)), rows, removes=(old,))
