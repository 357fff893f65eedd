"""Days and blocks of one chain: how far it is to be read, and which blocks a day holds.

Answers that can never change (the first block of a past day) are kept in `ops.block_times`. How far the
chain is to be read is asked once in the life of a `Chain`, so that a run has one idea of what it wants.
"""

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

from ingestion_assets.engine.coverage import Ranges, union
from ingestion_assets.engine.errors import Misconfigured, Transient
from ingestion_assets.engine.failover import Failover
from ingestion_assets.engine.store import Store
from ingestion_assets.sources.evm.config import Depth, Tag
from ingestion_assets.sources.evm.forks import Forks
from ingestion_assets.sources.evm.provider import Header, Provider

log = logging.getLogger(__name__)

T = TypeVar("T")

Days = tuple[date, date]  # first and last, inclusive

EQUAL_TIMES = 100  # most blocks of one timestamp that we step over to find the first of a day

# classes of questions
HEAD, TAG, TIME, BLOCK, STATE = "head", "finality tag", "block by time", "block", "state"


class Chain:
    """One chain as its providers show it.

    Args:
        name: as in sources.yaml and in the partition keys.
        chain_id: its number; a provider that serves another one is not listened to.
        start: its first day.
        finality: when a block counts as final.
        providers: who is asked, the most preferred first.
        store: keeps what cannot change, and what was built upon.
        follow_head: blocks are wanted before they are final.
        systems: which of the providers, by name, are one system under several keys; default: none.
        now: the time of day.
    """

    def __init__(
        self,
        name: str,
        *,
        chain_id: int,
        start: date,
        finality: Tag | Depth,
        providers: Failover[Provider],
        store: Store,
        follow_head: bool = False,
        systems: Mapping[str, str] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.name = name
        self.start = start
        self.providers = providers
        self.forks = Forks(name, store, providers, self.known)
        self._chain_id = chain_id
        self._finality = finality
        self._store = store
        self._follow_head = follow_head
        self._systems = dict(systems or {})
        self._now = now
        self._final: int | None = None
        self._last = -1
        self._heads: dict[str, int] = {}
        self._known: set[str] = set()
        self._first_blocks: dict[date, int] = {}
        self._asking = threading.RLock()

    def system(self, provider: str) -> str:
        """The system behind a provider's name; two keys of one are no two witnesses."""
        return self._systems.get(provider, provider)

    def final(self) -> int:
        """The last final block, -1 while there is none; also left in `ops.chains` for those who cannot ask."""
        with self._asking:
            if self._final is None:
                self._final = self._look_around()
            return self._final

    def renew(self) -> None:
        """Look around anew if somebody has taken the chain back since: what was known of it is not true any more."""
        with self._asking:
            if self._final is not None and self.forks.is_outdated():
                self._final = None
                self._heads.clear()
                self._first_blocks.clear()

    def last(self) -> int:
        """The last block that is wanted: the last final one, or the newest one where the head is followed."""
        self.final()
        return self._last

    def _look_around(self) -> int:
        """Ask how far the chain is, and whether what we have built upon is still there."""
        head = self.ask(self._see_head, about=HEAD)
        match self._finality:
            case Depth(depth=depth):
                final = max(-1, head - depth)
            case Tag(tag=tag):
                final = self._final_by(tag, head)
        self._store.transaction(lambda c: c.execute(_SAW, [self.name, head, final]))
        self._last = head if self._follow_head else final
        # Noted before anything is read: a reorganisation from here on is one that the next run finds.
        self.forks.settle(self._last, unfinal=range(final + 1, self._last + 1))
        return final

    def _final_by(self, tag: str, head: int) -> int:
        """The last final block by the tag of a node: what was final once stays it, and nothing above a node's head is."""

        def ask(provider: Provider) -> int:
            found = provider.tagged(tag)
            # An explorer may be behind its own node; a node's chain may have grown since it was asked for its head.
            is_node = provider.at_once is None
            if is_node and found > head and found > (newest := provider.head()):
                raise Transient(
                    f"{provider.name} says that block {found} of {self.name} is {tag}, and shows none above {newest}"
                )
            return min(found, head)

        found = self.ask(ask, about=TAG)
        known = self._store.transaction(lambda c: c.execute(_FINAL, [self.name]).fetchone())
        if known is None or not found < known[0] <= head:
            return found
        log.info("%s: block %d is %s now, and %d was before", self.name, found, tag, known[0])
        return int(known[0])

    def known(self, provider: Provider) -> Provider:
        """The provider, once it has said that it serves this chain.

        Raises:
            Misconfigured: it serves another one.
        """
        with self._asking:
            if provider.name not in self._known:
                found = provider.chain_id()
                if found not in (None, self._chain_id):
                    raise Misconfigured(
                        f"chains.{self.name}: the provider {provider.name} serves chain {found}, not {self._chain_id}: "
                        "correct its url, or chain_id"
                    )
                self._known.add(provider.name)
        return provider

    def ask(self, question: Callable[[Provider], T], *, about: str, but: Collection[str] = ()) -> T:
        """Ask the providers, in order of preference and but for those named, until one answers."""
        return self.providers.ask(lambda one: question(self.known(one)), about=about, but=but)

    def _see_head(self, provider: Provider) -> int:
        self._heads[provider.name] = head = provider.head()
        return head

    def reach(self, provider: Provider, wanted: int) -> int:
        """How far a provider can answer: its own head, asked again when it was behind what is wanted."""
        with self._asking:
            if self._heads.get(provider.name, -1) < wanted:
                self._see_head(self.known(provider))
            return self._heads[provider.name]

    def blocks(self, days: Days) -> Ranges:
        """The blocks of these days as far as they are wanted: nothing for days before the chain or after its head."""
        first, last = days
        lo = self.first_block(max(first, self.start))
        hi = min(self.first_block(last + timedelta(days=1)) - 1, self.last())
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
            return self.last() + 1  # no chain runs ahead of the clock
        block = self._find_first(midnight)
        if block <= self.final():
            self._store.transaction(lambda c: c.execute(_REMEMBER, [self.name, day, block]))
        return block

    def _find_first(self, midnight: datetime) -> int:
        """The block after the last one before midnight.

        Chains may give several blocks one timestamp, and an explorer then names any of them: so the
        found block is looked at, and the search goes on while it is still too old.
        """
        moment = midnight - timedelta(seconds=1)
        before = self.ask(lambda one: one.block_before(moment), about=TIME)
        block = 0 if before is None else before + 1
        if before is not None and ((last := self.header(before)) is None or last.time >= midnight):
            raise Transient(
                f"{self.name}: block {before} is said to be the last one before {midnight:%Y-%m-%d}, and is not"
            )
        for _ in range(EQUAL_TIMES):
            header = self.header(block)
            if header is None and block <= self.last():
                raise Transient(f"{self.name}: no provider shows block {block}, which exists")
            if header is None or header.time >= midnight:
                return block
            block += 1
        raise Transient(
            f"{self.name}: no provider gives a usable first block for {midnight:%Y-%m-%d}: "
            f"block {before} is said to be the last one before, yet {EQUAL_TIMES} blocks after it are older too"
        )

    def header(self, block: int) -> Header | None:
        """What identifies a block; None where it does not exist (yet)."""
        return self.ask(lambda one: one.header(block), about=BLOCK)

    def days_of(self, ranges: Ranges) -> list[Days]:
        """The days that these blocks fall on, one span for each range. Asks for the time of both ends."""
        return [(self._day(lo), self._day(hi)) for lo, hi in ranges]

    def _day(self, block: int) -> date:
        known = self._store.transaction(lambda c: c.execute(_DAY, [self.name, block, block]).fetchone())
        if known is not None:  # the day begins at or before the block, and the next one after it
            day: date = known[0]
            return day
        header = self.header(block)
        if header is None:
            raise Transient(f"{self.name}: no provider shows block {block}")
        return header.time.date()


_SAW = """
    INSERT INTO ops.chains (chain, head, final, checked_at) VALUES (%s, %s, %s, now())
    ON CONFLICT (chain) DO UPDATE SET head = excluded.head, final = greatest(chains.final, excluded.final), checked_at = excluded.checked_at"""
_FINAL = "SELECT final FROM ops.chains WHERE chain = %s"
_DAY = """
    SELECT this.day FROM ops.block_times AS this
    JOIN ops.block_times AS next ON next.chain = this.chain AND next.day = this.day + 1
    WHERE this.chain = %s AND this.block <= %s AND next.block > %s ORDER BY this.day DESC LIMIT 1"""
_KNOWN = "SELECT block FROM ops.block_times WHERE chain = %s AND day = %s"
_REMEMBER = "INSERT INTO ops.block_times (chain, day, block) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
