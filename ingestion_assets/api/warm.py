"""The pages that are asked for most, kept ready: the first ones of each chain and of all together, newest first, without a filter.

They are made by the API itself, after each change that it sees and at least once an hour. A page is used only as long as
nothing has changed since it was made, so it says what the store would; while the store is away it is better than nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ingestion_assets.api.config import ApiConfig
from ingestion_assets.api.pages import Wanted
from ingestion_assets.api.snapshot import Snapshot
from ingestion_assets.api.store import Page, Transfers

PAGES = 3
SIZE = 25


@dataclass(frozen=True, slots=True)
class WarmPages:
    """Pages of one state of the store."""

    version: str
    made_at: datetime
    pages: Mapping[tuple[Wanted, int], Page] = field(default_factory=dict[tuple[Wanted, int], Page])


class Warm:
    """The pages, and when they were made.

    Args:
        config: whose chains, and how long pages are kept.
        transfers: where they come from.
    """

    def __init__(self, config: ApiConfig, transfers: Transfers) -> None:
        self._config = config
        self._transfers = transfers
        self._made: float | None = None  # seconds of a clock that never runs backwards
        self.kept: WarmPages | None = None
        self.is_renewing = False

    def wanted(self) -> list[Wanted]:
        """All chains together, and each alone."""
        names = tuple(chain.name for chain in self._config.chains)
        return list(dict.fromkeys([Wanted(names), *(Wanted((name,)) for name in names)]))

    async def renew(self, snapshot: Snapshot, now: float, *, rest: float) -> None:
        """Make the pages anew if the store has changed and `rest` seconds have passed, or if they are too old.

        Args:
            snapshot: of the store.
            now: seconds.
            rest: seconds.
        """
        if self.kept is not None and self._made is not None:
            age = now - self._made
            if age < rest or (self.kept.version == snapshot.version and age < self._config.warm_seconds):
                return
        self.is_renewing = True
        try:
            made: dict[tuple[Wanted, int], Page] = {}
            began = datetime.now(UTC)
            for wanted in self.wanted():
                page: Page | None = None
                for number in range(1, PAGES + 1):
                    page = await self._transfers.after(wanted, SIZE, None if page is None else page.ends)
                    made[wanted, number] = page
                    if not page.has_more:
                        break
                await self._transfers.count(wanted, snapshot)
            self.kept, self._made = WarmPages(snapshot.version, began, made), now
        finally:
            self.is_renewing = False

    def page(self, wanted: Wanted, size: int, number: int, version: str | None) -> Page | None:
        """A page that is ready; of any state of the store if no version is named."""
        if self.kept is None or size != SIZE or (version is not None and self.kept.version != version):
            return None
        return self.kept.pages.get((wanted, number))
