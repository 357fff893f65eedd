"""The site, opened: whom to ask, how often one thing is tried, and how long a site that does not answer is waited for.

Three things go wrong, and each is met otherwise. A way of asking fails: the other one is asked (`engine.failover`). One page
fails, however it is asked: after `tries` it is passed over, stays a gap with its reason, and a later run tries it again. The whole site is
away: nobody may be asked, for both breakers are open; then the run waits for them, `down_minutes` at most, and goes on where it was.
"""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from ingestion_assets.engine.budget import Budget, budget_name
from ingestion_assets.engine.budgets import shared_budget
from ingestion_assets.engine.errors import DatabaseUnavailable, TooMuch, Transient
from ingestion_assets.engine.failover import Failover
from ingestion_assets.engine.http import Client
from ingestion_assets.engine.store import Store
from ingestion_assets.sources.gomafia.api import Api
from ingestion_assets.sources.gomafia.config import GomafiaConfig, Way
from ingestion_assets.sources.gomafia.knowledge import Knowledge
from ingestion_assets.sources.gomafia.pages import Pages
from ingestion_assets.sources.gomafia.provider import Entity, Part, Place, Provider, Whole

log = logging.getLogger(__name__)

T = TypeVar("T")

SCOPE = "gomafia"  # of the breakers
SLICE = 5.0  # seconds of one sleep


class PassedOver(Exception):
    """One page or entity failed every time it was asked for; the others may be fine."""


class Site:
    """gomafia.pro. One for each run, sensor tick or command.

    Args:
        config: the section of sources.yaml.
        store: for marks, and for what processes share: budgets and breakers.
        attempts: of one question; None: as sources.yaml says.
        owner: who asks, for whoever is refused meanwhile.
        clock: the time, in UTC.
        sleep: how to wait, seconds.
    """

    def __init__(
        self,
        config: GomafiaConfig,
        store: Store,
        *,
        attempts: int | None = None,
        owner: str = "ingestion",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.config = config
        self.store = store
        self.owner = owner
        self.clock = clock
        self.knowledge = Knowledge(store)
        self._sleep = sleep
        self._waited = 0.0
        url = str(config.url).rstrip("/")
        self.budget: Budget = shared_budget(
            store,
            budget_name(config.url.host or "", None),
            per_second=config.requests_per_second,
            per_day=config.requests_per_day,
            lease=config.timeout_seconds,
        )

        def opened(way: Way) -> Provider:
            client = Client(
                f"{url}/api" if way == "api" else url,
                budget=self.budget,
                timeout=config.timeout_seconds,
                attempts=attempts or config.attempts,
                accept="application/json" if way == "api" else "text/html",
                sleep=sleep,
            )
            return Api(client, config.page_size) if way == "api" else Pages(client)

        self.providers: Failover[Provider] = Failover(
            store, SCOPE, [opened(way) for way in config.ways], clock=clock
        )

    def listed(self, place: Place) -> tuple[Part, str]:
        """The entities from a position of a listing on, and who told.

        Raises:
            PassedOver: this page fails every time.
            Transient: the site does not answer at all.
        """
        return self._ask(lambda provider: provider.listed(place), place.about)

    def whole(self, entity: Entity) -> tuple[Whole, str]:
        """All that belongs to an entity, and who told.

        Raises:
            PassedOver: it fails every time.
            Transient: the site does not answer at all.
        """
        return self._ask(lambda provider: provider.whole(entity), entity.about)

    def is_stale(self, began_at: datetime) -> bool:
        """Whether a listing that was read then is to be read anew."""
        return self.clock() - began_at >= timedelta(hours=self.config.refresh_hours)

    def _ask(self, question: Callable[[Provider], T], about: str) -> tuple[T, str]:
        tries = 0
        while True:
            try:
                answer = self.providers.ask(lambda provider: (question(provider), provider.name), about=about)
            except TooMuch as error:
                raise PassedOver(str(error)) from error
            except DatabaseUnavailable:
                raise
            except Transient as error:
                if error.retry_after is not None:  # all are left alone: nobody was asked about this
                    self._wait(error)
                    continue
                tries += 1
                if tries >= self.config.tries:
                    raise PassedOver(f"it failed {tries} times: {error}") from error
            else:
                self._waited = 0.0
                return answer

    def _wait(self, error: Transient) -> None:
        """Sit out what the breakers ask for, no longer than `down_minutes` until the site answers again."""
        seconds = max(1.0, error.retry_after or 0.0)
        left = self.config.down_minutes * 60 - self._waited
        if seconds > left:
            raise Transient(
                f"{error}; a run waits {self.config.down_minutes:g} minutes for a site that is away, and no longer: what is "
                "committed stays, and the next run goes on from there"
            ) from error
        log.warning("the site is away: %s; going on in %.0f s", error, seconds)
        self._waited += seconds
        while seconds > 0:
            self._sleep(min(SLICE, seconds))
            seconds -= SLICE

    def close(self) -> None:
        """Close all connections."""
        for provider in self.providers.providers:
            provider.close()
