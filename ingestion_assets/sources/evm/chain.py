"""Days and blocks of one chain: how far it is final, and which blocks a day holds.

Answers that can never change (the first block of a past day) are kept in `ops.block_times`. How far the
chain is final is asked once in the life of a `Chain`, so that a run has one idea of what it wants.
"""

import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

from ingestion_assets.engine.coverage import Ranges, union
from ingestion_assets.engine.errors import Transient
from ingestion_assets.engine.store import Store
from ingestion_assets.sources.evm.config import Depth, Tag
from ingestion_assets.sources.evm.records import Kind, Page

Days = tuple[date, date]  # first and last, inclusive

EQUAL_TIMES = 100  # most blocks of one timestamp that we step over to find the first of a day


class Provider(Protocol):
    """A system that answers questions about one chain, in our terms."""

    name: str

    def page(
        self, kind: Kind, address: str, lo: int, hi: int, *, page: int = 1, newest_first: bool = False
    ) -> Page:
        """Records of `address` in the blocks lo..hi, in block order."""
        ...

    def head(self) -> int:
        """The newest block it shows."""
        ...

    def tagged(self, tag: str) -> int:
        """The block its node gives this tag (`finalized`, `safe`)."""
        ...

    def block_before(self, moment: datetime) -> int | None:
        """The last block not younger than `moment`; None where the chain begins later."""
        ...

    def time_of(self, block: int) -> datetime | None:
        """When a block was made; None where it does not exist yet."""
        ...

    @property
    def pages_per_window(self) -> int:
        """Pages of one question that may be asked for by number."""
        ...


class Chain:
    """One chain as its provider shows it.

    Args:
        name: as in sources.yaml and in the partition keys.
        start: its first day.
        finality: when a block counts as final.
        provider: who is asked.
        store: keeps what cannot change.
        now: the time of day.
    """

    def __init__(
        self,
        name: str,
        *,
        start: date,
        finality: Tag | Depth,
        provider: Provider,
        store: Store,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.name = name
        self.start = start
        self.provider = provider
        self._finality = finality
        self._store = store
        self._now = now
        self._final: int | None = None
        self._first_blocks: dict[date, int] = {}
        self._asking = threading.RLock()

    def final(self) -> int:
        """The last final block, -1 while there is none; also left in `ops.chains` for those who cannot ask."""
        with self._asking:
            if self._final is None:
                self._final = self._ask_final()
            return self._final

    def _ask_final(self) -> int:
        head = self.provider.head()
        match self._finality:
            case Depth(depth=depth):
                final = max(-1, head - depth)
            case Tag(tag=tag):
                final = min(
                    head, self.provider.tagged(tag)
                )  # a node that has just moved may know a tag above its head
        self._store.transaction(lambda c: c.execute(_SAW, [self.name, head, final]))
        return final

    def blocks(self, days: Days) -> Ranges:
        """The final blocks of these days, which is nothing for days before the chain or after its head."""
        first, last = days
        final = self.final()
        lo = self.first_block(max(first, self.start))
        hi = min(self.first_block(last + timedelta(days=1)) - 1, final)
        return union([(lo, hi)])

    def first_block(self, day: date) -> int:
        """The first block of a day (UTC); one past the head where the day has not begun on the chain."""
        with self._asking:
            if day not in self._first_blocks:
                known = self._recall(day)
                self._first_blocks[day] = self._look_up(day) if known is None else known
            return self._first_blocks[day]

    def _recall(self, day: date) -> int | None:
        known = self._store.transaction(lambda c: c.execute(_KNOWN, [self.name, day]).fetchone())
        return None if known is None else int(known[0])

    def _look_up(self, day: date) -> int:
        midnight = datetime.combine(day, datetime.min.time(), UTC)
        if midnight > self._now():
            return self.final() + 1  # no chain runs ahead of the clock
        block = self._find_first(midnight)
        if block <= self.final():
            self._store.transaction(lambda c: c.execute(_REMEMBER, [self.name, day, block]))
        return block

    def _find_first(self, midnight: datetime) -> int:
        """The block after the last one before midnight.

        Chains may give several blocks one timestamp, and an explorer then names any of them: so the
        found block is looked at, and the search goes on while it is still too old.
        """
        before = self.provider.block_before(midnight - timedelta(seconds=1))
        block = 0 if before is None else before + 1
        for _ in range(EQUAL_TIMES):
            made_at = self.provider.time_of(block)
            if made_at is None and block <= self.final():
                raise Transient(
                    f"{self.name}: {self.provider.name} does not show block {block}, which is final"
                )
            if made_at is None or made_at >= midnight:
                return block
            block += 1
        raise Transient(
            f"{self.name}: {self.provider.name} gives no usable first block for {midnight:%Y-%m-%d}: "
            f"it names block {before} as the last one before, yet {EQUAL_TIMES} blocks after it are older too"
        )

    def days_of(self, ranges: Ranges) -> list[Days]:
        """The days that these blocks fall on, one span for each range. Asks for the time of both ends."""
        return [(self._day(lo), self._day(hi)) for lo, hi in ranges]

    def _day(self, block: int) -> date:
        made_at = self.provider.time_of(block)
        if made_at is None:
            raise Transient(f"{self.name}: {self.provider.name} does not show block {block}")
        return made_at.date()


_SAW = """
    INSERT INTO ops.chains (chain, head, final, checked_at) VALUES (%s, %s, %s, now())
    ON CONFLICT (chain) DO UPDATE SET head = excluded.head, final = greatest(chains.final, excluded.final), checked_at = excluded.checked_at"""
_KNOWN = "SELECT block FROM ops.block_times WHERE chain = %s AND day = %s"
_REMEMBER = "INSERT INTO ops.block_times (chain, day, block) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
