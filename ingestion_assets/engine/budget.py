"""Rate budgets: how many requests a key may still make, shared by all processes and machines through Postgres.

A budget of n requests per window has n slots. A request occupies a slot from before it is sent until the
answer is there, and the slot rests for one window after that. So between the arrival of a request and
the arrival of the n-th after it lies at least one window, whatever the network and the scheduler do:
the provider can never count n + 1 requests in any window. The price is that a slot also waits out the latency.

A batch that the provider counts as several requests takes as many slots at once, or none. So that large ones do not
wait for ever while small ones take each slot that comes free, who must wait queues, and nobody takes slots that those
who came earlier need: one goes ahead only where enough are free for them all. A place in the queue is renewed at each look;
that of a process that died is void two seconds after it would have looked again.
"""

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol, TypeVar

from ingestion_assets.engine.errors import DatabaseUnavailable, QuotaExhausted, TooMuch
from ingestion_assets.engine.store import Connection, Store

log = logging.getLogger(__name__)

DAY = 86_400.0  # seconds; a header may ask for more than Postgres' calendar holds
PATIENCE = 300.0  # seconds that a run sits out; a budget that pauses for longer is parked, and the run ends
LATE = 2.0  # seconds by which one who waits may look later than planned and still keep the place in the queue
SHORTEST = 0.005  # seconds between two looks

Held = tuple[list[int], datetime]  # slots, and until when they are ours
T = TypeVar("T")


class Budget(Protocol):
    """Permission to ask."""

    @property
    def most(self) -> int | None:
        """How many requests one batch may count as; None: any number."""
        ...

    def request(self, permits: int = 1) -> AbstractContextManager[None]:
        """Wait until so many more requests are allowed at once; hold the context while they are under way."""
        ...

    def pause(self, seconds: float) -> None:
        """Nobody asks for so long."""
        ...

    def shrink(self, requests: int) -> None:
        """Fewer requests per window are allowed than was thought."""
        ...


def next_midnight(now: datetime | None = None) -> datetime:
    """When the UTC day ends, and with it what was used of the day's budget. `now` is in UTC; default: the clock."""
    return (now or datetime.now(UTC)).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def budget_name(host: str, key: str | None) -> str:
    """A name for the budget of this key at this host that does not give the key away."""
    return host if key is None else f"{host}/{hashlib.sha256(key.encode()).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True)
class SharedBudget:
    """A budget kept in `ops.rate_slots` and `ops.rate_days`; waiting holds no connection.

    Args:
        store: where the slots are.
        name: see `budget_name`.
        requests: how many are allowed in each window, calls of a batch counted one by one.
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

    @property
    def most(self) -> int:
        """The slots of one window, or the requests of a day where those are fewer. After `shrink` it may be less."""
        return self.requests if self.per_day is None else max(1, min(self.requests, self.per_day))

    @contextmanager
    def request(self, permits: int = 1) -> Iterator[None]:
        """Hold as many slots as the provider counts requests.

        Raises:
            QuotaExhausted: the day's budget is used up, or has not so many left, or the provider has parked it.
            TooMuch: so many are never free at once, because there are fewer slots, or the budget was made smaller.
        """
        if permits > self.most:
            raise TooMuch(f"{self.name} allows {self.most} requests at once, not {permits}")
        slots, until = self._occupy(permits)
        try:
            yield
        finally:
            self._locked(lambda c: c.execute(_RELEASE, [self.window, self.name, slots, until]))

    def pause(self, seconds: float) -> None:
        """No process uses this budget for so long: the provider asked us to wait. After a day we ask again anyway."""
        self.store.transaction(lambda c: c.execute(_PAUSE, [self.name, min(seconds, DAY)]))

    def shrink(self, requests: int) -> None:
        """The provider says that it allows fewer requests per window: take that for a day, in every process.

        One request always stays: a budget of none would silence us for the day, and us alone.
        """
        if requests >= self.requests:
            return
        log.warning("%s allows %d requests per window, fewer than configured", self.name, requests)
        self._locked(lambda c: c.execute(_SHRINK, [self.name, max(1, requests)]))

    def used_today(self) -> int:
        """How many requests of this UTC day all processes have made so far, retries included."""
        used = self.store.transaction(lambda c: c.execute(_USED, [self.name]).fetchone())
        return used[0] if used else 0

    def _occupy(self, permits: int) -> Held:
        place: int | None = None
        held: Held | None = None
        try:
            while True:
                held, wait, place = self._locked(partial(self._try, permits, place))
                if held is not None:
                    return held
                if wait > max(PATIENCE, 2 * self.window):
                    until = datetime.now(UTC) + timedelta(seconds=wait)
                    raise QuotaExhausted(
                        f"{self.name} is parked: its provider wants no request before {until:%Y-%m-%d %H:%M} UTC",
                        until=until,
                    )
                self.sleep(wait)
        finally:
            if held is None and place is not None:
                with suppress(DatabaseUnavailable):  # the place is void soon anyway
                    self._locked(lambda c: c.execute(_LEAVE, [self.name, place]))

    def _try(
        self, permits: int, place: int | None, connection: Connection
    ) -> tuple[Held | None, float, int | None]:
        """Slots, or how long to wait before the next look, and our place in the queue."""
        wanted = {
            "name": self.name, "requests": self.requests, "window": self.window, "lease": self.lease + self.window,
            "permits": permits, "place": place,
        }  # fmt: skip
        taken = connection.execute(_OCCUPY, wanted).fetchall()
        if taken:
            self._count(connection, permits)
            if place is not None:
                connection.execute(_LEAVE, [self.name, place])
            return ([slot for slot, _ in taken], taken[0][1]), 0.0, place
        known, within_reach, wait = connection.execute(_LOOK, wanted).fetchone() or (0, 0, 0.0)
        if known < self.requests:
            connection.execute(_CREATE, [self.name, self.requests])
            return None, 0.0, place
        if within_reach < permits > 1:  # a single request waits: one slot is never taken away
            raise TooMuch(f"{self.name} allows {within_reach} requests at once at the moment, not {permits}")
        wait = max(float(wait), SHORTEST)
        queued = connection.execute(_QUEUE, wanted | {"until": wait + LATE}).fetchone()
        return None, wait, queued[0] if queued else place

    def _count(self, connection: Connection, permits: int) -> None:
        """Count requests of the day. Raising gives the slots back with the transaction."""
        used = connection.execute(_COUNT, [self.name, permits]).fetchone()
        if self.per_day is not None and used is not None and used[0] > self.per_day:
            midnight = next_midnight()
            raise QuotaExhausted(
                f"the {self.per_day} requests a day of {self.name} are used up; the budget is full again at {midnight:%Y-%m-%d %H:%M} UTC",
                until=midnight,
            )

    def _locked(self, work: Callable[[Connection], T]) -> T:
        """One transaction after the other: what it sees of the slots and the queue stays so until it ends."""

        def one_by_one(connection: Connection) -> T:
            connection.execute(_LOCK, [self.name])
            return work(connection)

        return self.store.transaction(one_by_one)


# The next statement sees what those who had the lock before have committed. 8 is the number of these locks among ours.
_LOCK = "SELECT pg_advisory_xact_lock(8, hashtext(%s))"
# Requests that came earlier and wait; of those that have no place yet, all that wait did.
_AHEAD = """
    (SELECT coalesce(sum(permits), 0) FROM ops.rate_queue
     WHERE budget = %(name)s AND until > clock_timestamp() AND place < coalesce(%(place)s, 9223372036854775807))"""
# clock_timestamp(), not now(): the moment itself, not that of the transaction's beginning. In a subquery it is the
# same for all rows. Slot -1 is never occupied: it says until when the whole budget pauses.
_OCCUPY = f"""
    WITH free AS MATERIALIZED (
        SELECT slot FROM ops.rate_slots
        WHERE budget = %(name)s AND slot BETWEEN 0 AND %(requests)s - 1 AND free_at <= clock_timestamp()
          AND NOT EXISTS (SELECT FROM ops.rate_slots AS pause
                          WHERE pause.budget = %(name)s AND pause.slot = -1 AND pause.free_at > clock_timestamp())
        ORDER BY free_at)
    UPDATE ops.rate_slots SET free_at = (SELECT clock_timestamp() + make_interval(secs => %(lease)s))
    WHERE budget = %(name)s AND slot IN (SELECT slot FROM free LIMIT %(permits)s)
      AND (SELECT count(*) FROM free) >= %(permits)s + {_AHEAD}
    RETURNING slot, free_at"""
# Only while they are still ours: the lease may have run out, and `shrink` takes slots away from their holders.
_RELEASE = """
    UPDATE ops.rate_slots SET free_at = clock_timestamp() + make_interval(secs => %s)
    WHERE budget = %s AND slot = ANY(%s) AND free_at = %s"""
_PAUSE = """
    INSERT INTO ops.rate_slots (budget, slot, free_at) VALUES (%s, -1, clock_timestamp() + make_interval(secs => %s))
    ON CONFLICT (budget, slot) DO UPDATE SET free_at = greatest(rate_slots.free_at, excluded.free_at)"""
_SHRINK = """
    UPDATE ops.rate_slots SET free_at = clock_timestamp() + interval '1 day' WHERE budget = %s AND slot >= %s"""
_CREATE = """
    INSERT INTO ops.rate_slots (budget, slot) SELECT %s, generate_series(0, %s - 1) ON CONFLICT DO NOTHING"""
# How many slots there are, how many are free before a lease could have run out (the others are shrunk away), and when
# there may be enough for us and those ahead. A slot that is held is free one window after its answer, which may come
# at any moment: so nobody waits out its lease, but asks again after a window.
_LOOK = f"""
    SELECT count(*) FILTER (WHERE slot >= 0),
           count(*) FILTER (WHERE slot >= 0 AND free_at <= clock_timestamp() + make_interval(secs => %(lease)s)),
           extract(epoch FROM greatest(
               (array_agg(least(free_at, clock_timestamp() + make_interval(secs => %(window)s)) ORDER BY free_at)
                FILTER (WHERE slot >= 0))[least(%(permits)s + {_AHEAD}, %(requests)s)],
               max(free_at) FILTER (WHERE slot < 0)) - clock_timestamp())
    FROM ops.rate_slots WHERE budget = %(name)s AND slot < %(requests)s"""
_QUEUE = """
    INSERT INTO ops.rate_queue (place, budget, permits, until)
    VALUES (coalesce(%(place)s, nextval('ops.rate_queue_place_seq')), %(name)s, %(permits)s,
            clock_timestamp() + make_interval(secs => %(until)s))
    ON CONFLICT (place) DO UPDATE SET until = excluded.until RETURNING place"""
_LEAVE = """
    DELETE FROM ops.rate_queue WHERE budget = %s AND (place = %s OR until <= clock_timestamp())"""
_COUNT = """
    INSERT INTO ops.rate_days (budget, day, used) VALUES (%s, (clock_timestamp() AT TIME ZONE 'UTC')::date, %s)
    ON CONFLICT (budget, day) DO UPDATE SET used = rate_days.used + excluded.used RETURNING used"""
_USED = """
    SELECT used FROM ops.rate_days WHERE budget = %s AND day = (clock_timestamp() AT TIME ZONE 'UTC')::date"""


def finish_estimate(
    *, requests_left: int, per_second: float | None, per_day: int | None, used_today: int, now: datetime
) -> datetime:
    """When that many requests can be through, if we ask as fast as is allowed.

    Args:
        requests_left: how many.
        per_second: how many are allowed; None: any.
        per_day: how many are allowed in a UTC day, full again at midnight; None: any.
        used_today: how many of them are used.
        now: with its zone.

    Returns:
        A moment in UTC; the end of the calendar where it is never.
    """
    now = now.astimezone(UTC)
    left = max(0, requests_left)
    try:
        if per_day is None:
            return now + _lasting(left, per_second)
        midnight = next_midnight(now)
        today = max(0, per_day - used_today)
        if per_second is not None:
            today = min(today, math.floor((midnight - now).total_seconds() * per_second))
        if left <= today:
            return now + _lasting(left, per_second)
        if per_second is not None and per_second * DAY <= per_day:
            return midnight + _lasting(left - today, per_second)
        days = (left - today - 1) // per_day  # full ones, before the one in which it ends
        return midnight + timedelta(days=days) + _lasting(left - today - days * per_day, per_second)
    except (OverflowError, ZeroDivisionError):
        return datetime.max.replace(tzinfo=UTC)


def _lasting(requests: int, per_second: float | None) -> timedelta:
    return timedelta(seconds=requests / per_second) if per_second is not None else timedelta()


class Unlimited:
    """No budget: the source sets no limit."""

    @property
    def most(self) -> None:
        """Any number."""
        return

    @contextmanager
    def request(self, permits: int = 1) -> Iterator[None]:  # noqa: ARG002 - nobody counts them
        """Never waits."""
        yield

    def pause(self, seconds: float) -> None:
        """There is nobody to tell."""

    def shrink(self, requests: int) -> None:
        """There is nothing to shrink."""
