"""What runs as long as the API does: the look at the store every other second, and the pages that are kept ready."""

import asyncio
import logging
import time
from contextlib import suppress
from datetime import UTC, datetime

from ingestion_assets.api import snapshot as snapshots
from ingestion_assets.api.answers import DailyTotals
from ingestion_assets.api.config import ApiConfig, Explorer
from ingestion_assets.api.database import Database
from ingestion_assets.api.errors import CannotServe
from ingestion_assets.api.memory import Recent
from ingestion_assets.api.parameters import TotalsQuestion
from ingestion_assets.api.snapshot import Snapshot
from ingestion_assets.api.store import Transfers
from ingestion_assets.api.upstream import Upstreams
from ingestion_assets.api.warm import Warm

log = logging.getLogger(__name__)

REST = 10.0  # seconds, at least, between two times that the pages are made, however often the store changes


class Service:
    """What all answers share.

    Args:
        config: what the API is told.
        explorers: who is asked for chains that are served by their upstream, by the chain's name.
    """

    def __init__(self, config: ApiConfig, explorers: dict[str, Explorer]) -> None:
        self.config = config
        self.database = Database(config.database_url, config.limits)
        self.transfers = Transfers(self.database, config.limits)
        self.upstreams = Upstreams(explorers, config.limits.upstream_seconds)
        self.warm = Warm(config, self.transfers)
        self.sums: Recent[tuple[str, TotalsQuestion], DailyTotals] = Recent(64)
        self.started_at = datetime.now(UTC)
        self.failure: str | None = None  # of the last look
        self._snapshot: Snapshot | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def snapshot(self) -> Snapshot:
        """The last look at the store that succeeded.

        Raises:
            CannotServe: there was none yet.
        """
        if self._snapshot is None:
            raise CannotServe(
                "STORE_UNAVAILABLE", self.failure or "the store was not looked at yet", retry_after=2
            )
        return self._snapshot

    @property
    def is_away(self) -> bool:
        """Whether the last look failed."""
        return self.failure is not None

    async def start(self) -> None:
        """Open the database, take a first look, and go on looking."""
        await self.database.open()
        await self.look()
        self._task = asyncio.create_task(self._go_on())

    async def stop(self) -> None:
        """End what runs, and close everything."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self.upstreams.close()
        await self.database.close()

    async def look(self) -> None:
        """Look at the store, and make the pages anew if it has changed and they have rested."""
        try:
            await self.database.look_for()
            self._snapshot = await snapshots.take(self.database, self.config, self._snapshot)
            self.failure = None
            await self.warm.renew(self._snapshot, time.monotonic(), rest=REST)
        except CannotServe as error:
            if self.failure is None:
                log.warning("the store cannot be looked at: %s", error)
            self.failure = str(error)

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(self.config.refresh_seconds)
            try:
                await self.look()
            except Exception:
                log.exception("the look at the store failed")
                self.failure = "the look at the store failed; the log of the API says why"
