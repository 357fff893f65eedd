"""Reorganisations: blocks that were built upon and are gone.

A block's hash stands for all blocks before it. So each run notes the last block it wants, before it reads
anything, and every block above the final ones where the head is followed. The next run looks whether the newest
of these is still there. If not, it looks for the newest one that is: what lies beyond that goes, in one transaction, with
its rows and its coverage, and is wanted again by every stream. However deep a reorganisation is, it only makes that more.

Each time a chain is taken back its epoch rises. Whoever has begun to read before that cannot commit any more.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ingestion_assets.engine.errors import Misconfigured, Transient, Unsupported
from ingestion_assets.engine.failover import Failover
from ingestion_assets.engine.marks import uncover_beyond
from ingestion_assets.engine.store import Connection, Store
from ingestion_assets.sources.evm.provider import Header, Provider
from ingestion_assets.sources.evm.records import EVERY_KIND
from ingestion_assets.sources.evm.tables import branches

log = logging.getLogger(__name__)

BLOCK = "block"  # the class of our questions
LADDER = (
    64,
    1_024,
    16_384,
)  # blocks below the first one we note, so that a fork below it is not the whole chain
KEPT = 256  # newest notes; of those before, one in each so many blocks:
SPARSE = 10_000
OTHER_CHAIN = 1_000  # no reorganisation is as deep: who shows none of our blocks shows another chain


@dataclass(frozen=True, slots=True)
class Fork:
    """Two histories: `block` is the last one they share, `head` the highest of ours."""

    block: int
    head: int


class Forks:
    """What was built upon of one chain, in `ops.headers`, and its reorganisations, in `ops.reorgs`.

    Args:
        chain: its name.
        store: where both are.
        providers: who is asked.
        known: passes a provider of this chain, and raises for another chain's.
    """

    def __init__(
        self,
        chain: str,
        store: Store,
        providers: Failover[Provider],
        known: Callable[[Provider], Provider],
    ) -> None:
        self._known = known
        self._chain = chain
        self._store = store
        self._providers = providers
        self._noted: dict[int, str] = {}  # number -> hash
        self._epoch = -1
        self._checked: set[tuple[str, int]] = (
            set()
        )  # providers' names and final blocks that they show as we know them
        self._unfinal: Sequence[int] = ()
        self.found: Fork | None = None

    def settle(self, last: int, *, unfinal: Sequence[int]) -> None:
        """Make sure that all we have is on the chain as it is now, and note what will be built upon.

        Args:
            last: the last block that will be read.
            unfinal: the blocks that may still be taken back, and will be read all the same.

        Raises:
            Misconfigured: the providers show another chain than the one that was read.
        """
        if last < 0:
            return
        self._noted, self._epoch = self._store.transaction(self._load)
        self._checked.clear()
        self._mend(self._fork())
        self._note(last, unfinal)
        self._unfinal = unfinal

    def _load(self, connection: Connection) -> tuple[dict[int, str], int]:
        connection.execute(
            "INSERT INTO ops.branches (chain) VALUES (%s) ON CONFLICT DO NOTHING", [self._chain]
        )
        noted = connection.execute(
            "SELECT number, hash FROM ops.headers WHERE chain = %s", [self._chain]
        ).fetchall()
        return dict(noted), self._epoch_now(connection)

    def _epoch_now(self, connection: Connection) -> int:
        found = connection.execute(
            "SELECT epoch FROM ops.branches WHERE chain = %s", [self._chain]
        ).fetchone()
        return int(found[0]) if found else -1

    def is_outdated(self) -> bool:
        """Whether somebody has taken the chain back since this process has looked."""
        return self._epoch != self._store.transaction(self._epoch_now)

    def _fork(self) -> int | None:
        """The newest noted block that is still there, if there are newer ones that are not; -1: none is.

        Where the chain is only not shown as far as before, nothing is gone: somebody is behind.
        """
        numbers = sorted(self._noted)
        if not numbers:
            return None
        good, bad = -1, len(numbers)  # of a block that is there, all before it are
        middle, gone = bad - 1, False
        while bad - good > 1:
            match self._is_there(numbers[middle]):
                case True:
                    good = middle
                case found:
                    bad, gone = middle, found is False
            middle = (good + bad) // 2
        if bad == len(numbers):
            return None
        if good < 0 and numbers[-1] - numbers[0] >= OTHER_CHAIN:
            raise Misconfigured(
                f"{self._chain}: its providers show none of the {len(numbers)} blocks that were noted, from {numbers[0]} to "
                f"{numbers[-1]}: they serve another chain than the one that was read. Correct chain_id or the providers' urls; for a "
                "chain that began anew, give it a new name in sources.yaml"
            )
        if not gone:
            return None
        return numbers[good] if good >= 0 else -1

    def _is_there(self, number: int) -> bool | None:
        """Whether a noted block is on the chain; None: the chain is not shown so far.

        One provider's no is not enough where another can be asked.
        """
        doubters: list[tuple[Provider, Header | None]] = []
        for provider in self._providers.able(BLOCK):
            try:
                found = self._known(provider).header(number)
            except Exception as error:  # noqa: BLE001 - sorted by `failed`, which raises what is not about the provider
                self._providers.failed(provider, BLOCK, error)
                continue
            self._providers.succeeded(provider)
            if found is not None and found.hash == self._noted[number]:
                self._blame([doubter for doubter, other in doubters if other is not None], number, provider)
                return True
            doubters.append((provider, found))
            if len(doubters) == 2:  # noqa: PLR2004 - a second opinion is enough
                break
        if not doubters:
            raise self._providers.exhausted(BLOCK)
        return None if all(found is None for _, found in doubters) else False

    def _blame(self, doubters: Sequence[Provider], number: int, witness: Provider) -> None:
        for doubter in doubters:
            error = Transient(f"shows another block {number} than {witness.name} and we do")
            self._providers.failed(doubter, BLOCK, error)

    def _mend(self, fork: int | None) -> None:
        if fork is None:
            return
        self.found = Fork(fork, max(self._noted))
        now = self._header(self.found.head)
        streams = self._store.transaction(lambda c: self._take_back(c, fork, now))
        if streams is None:
            raise Transient(f"another worker has just taken {self._chain} back: look again")
        log.warning(
            "%s was reorganised: block %d is the last one that is known to be the same; %d streams read again from there",
            self._chain, fork, streams,
        )  # fmt: skip
        self._epoch += 1
        self._noted = {number: known for number, known in self._noted.items() if number <= fork}

    def _take_back(self, connection: Connection, fork: int, now: Header | None) -> int | None:
        """Take out all that was read beyond the fork.

        Returns:
            How many streams had read there; None: somebody else has done it since we looked.
        """
        head = max(self._noted)
        # Waits for commits that are under way; the rows of those are then there to be deleted.
        moved = connection.execute(
            "UPDATE ops.branches SET epoch = epoch + 1 WHERE chain = %s AND epoch = %s",
            [self._chain, self._epoch],
        ).rowcount
        if not moved:
            return None
        streams = [stream for (stream,) in connection.execute(_BEYOND, [self._chain, fork] * 2).fetchall()]
        uncover_beyond(connection, streams, fork)
        for kind in EVERY_KIND:
            connection.execute(
                f"DELETE FROM {kind.table.fullname} WHERE chain = %s AND block_number > %s",
                [self._chain, fork],
            )
        connection.execute("DELETE FROM ops.headers WHERE chain = %s AND number > %s", [self._chain, fork])
        connection.execute("DELETE FROM ops.block_times WHERE chain = %s AND block > %s", [self._chain, fork])
        connection.execute(
            "INSERT INTO ops.reorgs (chain, fork, head, old_hash, new_hash, streams) VALUES (%s, %s, %s, %s, %s, %s)",
            [self._chain, fork, head, self._noted[head], now.hash if now else None, len(streams)],
        )
        return len(streams)

    def _note(self, last: int, unfinal: Sequence[int]) -> None:
        wanted = {last, *unfinal[-KEPT:]}  # older notes would be thinned out, and asked for by every run
        if not self._noted:
            wanted |= {last - step for step in LADDER if step <= last}
        found = [header for number in sorted(wanted - self._noted.keys()) if (header := self._header(number))]
        seen = {header.number for header in found} | self._noted.keys()
        if not {last, *unfinal[-KEPT:]} <= seen:
            raise Transient(
                f"{self._chain}: its providers do not show all blocks up to {last}, which they say exist"
            )
        for header in found:
            before = self._noted.get(header.number - 1)
            if before is not None and before != header.parent_hash:
                raise Transient(f"{self._chain} was reorganised while block {header.number} was looked at")
            self._noted[header.number] = header.hash
        self._store.transaction(lambda c: self._keep(c, found, last))

    def _keep(self, connection: Connection, found: Sequence[Header], last: int) -> None:
        for header in found:
            connection.execute(_NOTE, [self._chain, header.number, header.hash, header.parent_hash])
        connection.execute(_THIN_OUT, {"chain": self._chain, "before": last - KEPT, "sparse": SPARSE})

    def _header(self, number: int) -> Header | None:
        return self._providers.ask(lambda one: self._known(one).header(number), about=BLOCK)

    def check(self, provider: Provider, block: int) -> None:
        """Make sure that a provider is on the branch that we build upon; for blocks that are not noted there is no telling.

        Raises:
            Transient: it is not, or not any more.
        """
        noted = self._noted.get(block)
        is_final = block not in self._unfinal
        if noted is None or (is_final and (provider.name, block) in self._checked):
            return  # a final block is looked at once by each provider, and not for every account
        try:
            found = provider.header(block)
        except Unsupported as error:
            if block in self._unfinal:
                raise Transient(
                    f"{provider.name} cannot show on which branch of {self._chain} it is"
                ) from error
            return
        if found is None or found.hash != noted:
            raise Transient(
                f"{provider.name} shows another block {block} of {self._chain} than we build upon"
            )
        self._checked.add((provider.name, block))

    def requires(self) -> tuple[sa.Select[Any], ...]:
        """What must still be so when a reading is committed: nobody has taken the chain back since we looked."""
        if self._epoch < 0:
            return ()
        at = branches.c
        return (sa.select(at.chain).where(at.chain == self._chain, at.epoch == self._epoch),)


_NOTE = """
    INSERT INTO ops.headers (chain, number, hash, parent_hash) VALUES (%s, %s, %s, %s)
    ON CONFLICT (chain, number) DO UPDATE SET hash = excluded.hash, parent_hash = excluded.parent_hash"""
_THIN_OUT = """
    DELETE FROM ops.headers AS h WHERE chain = %(chain)s AND number < %(before)s AND EXISTS (
        SELECT FROM ops.headers AS o
        WHERE o.chain = h.chain AND o.number < h.number AND o.number / %(sparse)s = h.number / %(sparse)s)"""
# Keys of this family are evm/kind/chain/subject.
_BEYOND = """
    SELECT stream FROM ops.coverage WHERE split_part(stream, '/', 1) = 'evm' AND split_part(stream, '/', 3) = %s AND hi > %s
    UNION
    SELECT stream FROM ops.unproved WHERE split_part(stream, '/', 1) = 'evm' AND split_part(stream, '/', 3) = %s AND hi > %s"""
