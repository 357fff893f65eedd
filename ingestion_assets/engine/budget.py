"""Rate budgets: how many requests a key may still make, shared by all processes and machines through Postgres.

A budget of n requests per window has n slots. A request occupies a slot from before it is sent until the
answer is there, and the slot rests for one window after that. So between the arrival of a request and
the arrival of the n-th after it lies at least one window, whatever the network and the scheduler do:
the provider can never count n + 1 requests in any window. The price is that a slot also waits out the latency.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from ingestion_assets.engine.errors import QuotaExhausted
from ingestion_assets.engine.store import Connection, Store

DAY = 86_400.0  # seconds; a header may ask for more than Postgres' calendar holds
PATIENCE = 300.0  # seconds that a run sits out; a budget that pauses for longer is parked, and the run ends

Held = tuple[int, datetime]  # a slot, and until when it is ours


class Budget(Protocol):
    """Permission to ask."""

    def request(self) -> AbstractContextManager[None]:
        """Wait until one more request is allowed; hold the context while it is under way."""
        ...

    def pause(self, seconds: float) -> None:
        """Nobody asks for so long."""
        ...

    def shrink(self, requests: int) -> None:
        """Fewer requests per window are allowed than was thought."""
        ...


def next_midnight() -> datetime:
    """When the UTC day ends, and with it what was used of the day's budget."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def budget_name(host: str, key: str | None) -> str:
    """A name for the budget of this key at this host that does not give the key away."""
    return host if key is None else f"{host}/{hashlib.sha256(key.encode()).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True)
class SharedBudget:
    """A budget kept in `ops.rate_slots` and `ops.rate_days`; waiting holds no connection.

    Args:
        store: where the slots are.
        name: see `budget_name`.
        requests: how many are allowed in each window.
        window: seconds.
        per_day: how many are allowed in a UTC day; None: as many as the windows allow.
        lease: seconds after which a slot is taken back from a process that died with it.
        sleep: seconds to wait.
    """

    store: Store
    name: str
    requests: int
    window: float
    per_day: int | None = None
    lease: float = 60.0
    sleep: Callable[[float], None] = time.sleep

    @contextmanager
    def request(self) -> Iterator[None]:
        """Hold a slot for one request.

        Raises:
            QuotaExhausted: the day's budget is used up, or the provider has parked it.
        """
        slot, until = self._occupy()
        try:
            yield
        finally:
            self.store.transaction(lambda c: c.execute(_RELEASE, [self.window, self.name, slot, until]))

    def pause(self, seconds: float) -> None:
        """No process uses this budget for so long: the provider asked us to wait. After a day we ask again anyway."""
        self.store.transaction(lambda c: c.execute(_PAUSE, [self.name, min(seconds, DAY)]))

    def shrink(self, requests: int) -> None:
        """The provider says that it allows fewer requests per window: take that for a day, in every process.

        One request always stays: a budget of none would silence us for the day, and us alone.
        """
        self.store.transaction(lambda c: c.execute(_SHRINK, [self.name, max(1, requests)]))

    def _occupy(self) -> Held:
        while True:
            held, wait = self.store.transaction(self._try)
            if held is not None:
                return held
            if wait > max(PATIENCE, 2 * self.window):
                until = datetime.now(UTC) + timedelta(seconds=wait)
                raise QuotaExhausted(
                    f"{self.name} is parked: its provider wants no request before {until:%Y-%m-%d %H:%M} UTC",
                    until=until,
                )
            self.sleep(max(wait, 0.005))

    def _try(self, connection: Connection) -> tuple[Held | None, float]:
        free = {"lease": self.lease + self.window, "name": self.name, "requests": self.requests}
        taken = connection.execute(_OCCUPY, free).fetchone()
        if taken is not None:
            self._count(connection)
            return (taken[0], taken[1]), 0.0
        missing = connection.execute(_CREATE, [self.name, self.requests]).rowcount
        if missing:
            return None, 0.0
        wait = connection.execute(_WAIT, [self.window, self.name, self.requests]).fetchone()
        return None, float(wait[0]) if wait else 0.0

    def _count(self, connection: Connection) -> None:
        """Count one request of the day. Raising gives the slot back with the transaction."""
        used = connection.execute(_COUNT, [self.name]).fetchone()
        if self.per_day is not None and used is not None and used[0] > self.per_day:
            midnight = next_midnight()
            raise QuotaExhausted(
                f"the {self.per_day} requests a day of {self.name} are used up; the budget is full again at {midnight:%Y-%m-%d %H:%M} UTC",
                until=midnight,
            )


# clock_timestamp(), not now(): the moment itself, not that of the transaction's beginning.
# Slot -1 is never occupied: it says until when the whole budget pauses.
_OCCUPY = """
    UPDATE ops.rate_slots SET free_at = clock_timestamp() + make_interval(secs => %(lease)s)
    WHERE (budget, slot) = (
        SELECT budget, slot FROM ops.rate_slots
        WHERE budget = %(name)s AND slot BETWEEN 0 AND %(requests)s - 1 AND free_at <= clock_timestamp()
          AND NOT EXISTS (SELECT FROM ops.rate_slots AS pause
                          WHERE pause.budget = %(name)s AND pause.slot = -1 AND pause.free_at > clock_timestamp())
        ORDER BY free_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING slot, free_at"""
# Only while it is still ours: the lease may have run out, and `shrink` takes slots away from their holders.
_RELEASE = """
    UPDATE ops.rate_slots SET free_at = clock_timestamp() + make_interval(secs => %s)
    WHERE budget = %s AND slot = %s AND free_at = %s"""
_PAUSE = """
    INSERT INTO ops.rate_slots (budget, slot, free_at) VALUES (%s, -1, clock_timestamp() + make_interval(secs => %s))
    ON CONFLICT (budget, slot) DO UPDATE SET free_at = greatest(rate_slots.free_at, excluded.free_at)"""
_SHRINK = """
    UPDATE ops.rate_slots SET free_at = clock_timestamp() + interval '1 day' WHERE budget = %s AND slot >= %s"""
_CREATE = """
    INSERT INTO ops.rate_slots (budget, slot) SELECT %s, generate_series(0, %s - 1) ON CONFLICT DO NOTHING"""
# A slot that is held is free one window after its answer, which may come at any moment: so nobody waits out its
# lease, but asks again after a window.
_WAIT = """
    SELECT extract(epoch FROM greatest(
        least(min(free_at) FILTER (WHERE slot >= 0), clock_timestamp() + make_interval(secs => %s)),
        max(free_at) FILTER (WHERE slot < 0)) - clock_timestamp())
    FROM ops.rate_slots WHERE budget = %s AND slot < %s"""
_COUNT = """
    INSERT INTO ops.rate_days (budget, day, used) VALUES (%s, (clock_timestamp() AT TIME ZONE 'UTC')::date, 1)
    ON CONFLICT (budget, day) DO UPDATE SET used = rate_days.used + 1 RETURNING used"""


class Unlimited:
    """No budget: the source sets no limit."""

    @contextmanager
    def request(self) -> Iterator[None]:
        """Never waits."""
        yield

    def pause(self, seconds: float) -> None:
        """There is nobody to tell."""

    def shrink(self, requests: int) -> None:
        """There is nothing to shrink."""
