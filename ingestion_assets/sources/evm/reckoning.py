"""The proofs `nonce` and `balance`: what is stored of an account explains its state at both ends of a range.

Where it does not, the first block that differs is found by bisection and read again from every provider, until one of
the readings explains it. A block that nothing explains is taken out of the coverage: something moved there that no
provider lists, such as a withdrawal or a fee of the layer below, or all of them are wrong.
"""

import itertools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from ingestion_assets.engine.coverage import Range, Ranges, difference, intersection
from ingestion_assets.engine.errors import Unsupported
from ingestion_assets.engine.store import Store
from ingestion_assets.engine.stream import LEVELS, Batch, Done, Evidence, Raised, Unproved
from ingestion_assets.sources.evm import ledger
from ingestion_assets.sources.evm.chain import Chain
from ingestion_assets.sources.evm.provider import Reading
from ingestion_assets.sources.evm.rereading import readings, replacing, source_of, together
from ingestion_assets.sources.evm.streams import History, subject_of
from ingestion_assets.sources.evm.witness import Witness

PROVED = LEVELS.index("header")  # a list cannot contradict it
MOST_UNEXPLAINED = 3  # blocks of one account: a miner's every block pays it something that no list shows


@dataclass(frozen=True, slots=True)
class Reckoning:
    """`nonce` or `balance`: what is stored of an account explains its state at both ends of a range."""

    proof: str
    histories: tuple[History, ...]  # of the kinds that together make the state
    store: Store
    again: bool = False  # also of what has been proved before
    findings: list[str] = field(default_factory=list[str])

    @property
    def keys(self) -> tuple[str, ...]:
        """Those of all the histories."""
        return tuple(key for history in self.histories for key in history.keys)

    def wanted(self) -> Ranges:
        """What the histories want."""
        return self.histories[0].wanted()

    def read(self, done: Mapping[str, Done]) -> Iterator[Batch]:
        """Marks for what is explained, rows for what was missing, and gaps for blocks that nothing explains.

        Raises:
            IngestionError: no provider knows the state.
        """
        chain = self.histories[0].chain
        kinds = [history.kind for history in self.histories]
        for (lo, hi), subjects in self._unexplained(done).items():
            state = _Ask(chain)
            base = max(lo, 1)  # what the genesis block gave has no record
            accounts = ledger.accounts(
                self.store, chain.name, kinds, proof=self.proof, subjects=subjects, blocks=(base, hi)
            )
            bad: dict[str, list[Range]] = {}
            for account in accounts:
                try:
                    if state.applies(account, hi):
                        unexplained = yield from self._explain(state, account, base, hi)
                        bad.setdefault(account.address, []).extend(unexplained)
                except _NoFigure as error:
                    self.findings.append(str(error))
            for subject, blocks in bad.items():
                yield from self._raised(subject, difference([(lo, hi)], blocks), state.by)

    def _unexplained(self, done: Mapping[str, Done]) -> dict[Range, list[str]]:
        """Ranges that are whole in all histories and have weaker evidence in one of them, with the accounts of each."""
        strong = LEVELS.index(self.proof)
        weak: dict[str, list[Range]] = {}
        for key, lo, hi, level, _ in self.store.covered_by(self.keys):
            if self.again or LEVELS.index(level) < strong:
                weak.setdefault(subject_of(key), []).append((lo, hi))
        wanted = self.wanted()
        found: dict[Range, list[str]] = {}
        for subject, ranges in weak.items():
            whole = intersection(wanted, ranges)
            for key in self._keys(subject):
                whole = intersection(whole, done[key].covered)
            for one in whole:
                found.setdefault(one, []).append(subject)
        return found

    def _raised(self, subject: str, good: Ranges, by: str) -> Iterator[Batch]:
        """Marks for what is explained: the evidence names who gave the records first, and then who explains them."""
        for key, lo, hi, _, source in self.store.covered_by(self._keys(subject)):
            for one in intersection(good, [(lo, hi)]):
                mark = Raised(*one, Evidence(self.proof, together(source, by)))
                yield Batch(mark, keys=(key,), requires=self._requires())

    def _explain(
        self, state: "_Ask", account: ledger.Account, lo: int, hi: int
    ) -> Generator[Batch, None, list[Range]]:
        """Mend block after block until lo..hi is explained.

        Returns:
            The blocks that nothing explains; after some of these, all that come after.
        """
        if state.change(account, lo - 1, hi) == account.sum:
            return []
        bad: list[Range] = []
        kinds = [history.kind for history in self.histories]
        start = lo  # what was mended for another account may explain this one by now: all is added up anew
        while start <= hi:

            def is_explained(block: int, start: int = start) -> bool:
                return state.change(account, start - 1, block) == account.stored(kinds, start, block)

            if is_explained(hi):
                break
            block = _first(start, hi, lambda number: not is_explained(number))
            is_mended = yield from self._mend(account, block, state.change(account, block - 1, block))
            if not is_mended:
                bad.append((block, block))
                if len(bad) == MOST_UNEXPLAINED:
                    self.findings.append(
                        f"{account.name}: its {self.proof} is not looked at beyond block {block}"
                    )
                    bad.append((block + 1, hi))
                    break
            start = block + 1
        return bad

    def _mend(self, account: ledger.Account, block: int, change: int) -> Generator[Batch, None, bool]:
        """Read the block again from every provider, and keep those readings that together make the change of the state.

        Nothing is stored before that: a reading that explains nothing may lack what other accounts have there. If none
        does, and two providers show what is stored, something else has moved: that is a finding. What only one has ever
        shown is taken back.
        """
        shown = [self._shown(history, account, block) for history in self.histories]
        choices = sorted(itertools.product(*shown), key=lambda choice: sum(one.removes for one in choice))
        for choice in (
            choices
        ):  # what takes the fewest records away comes first: they get lost, and are hardly ever invented
            if sum(one.moved for one in choice) % ledger.MODULUS == change:
                yield from self._keep(account, block, choice)
                return True
        what = f"block {block}: what is stored of {account.name} does not explain its {self.proof}"
        agreeing = set.intersection(*(set(views[0].names) for views in shown))
        weak = tuple(
            history.key_of(account.address)
            for history in self.histories
            if not self._is_proved(history, account.address, block)
        )
        if len(agreeing) > 1 or not weak:
            show = f", yet {' and '.join(sorted(agreeing))} show the same" if agreeing else ""
            self.findings.append(what + show)
        else:
            mark = Unproved(block, block, f"{what}, whoever is asked", retracts=True)
            yield Batch(mark, keys=weak, requires=self._requires())
        return False

    def _keep(self, account: ledger.Account, block: int, choice: Sequence["_Shown"]) -> Iterator[Batch]:
        """Let the readings of a choice take the place of what is stored, together."""
        replaced = [
            (history, one.reading)
            for history, one in zip(self.histories, choice, strict=True)
            if one.reading is not None
        ]
        if not replaced:
            return  # what was mended for another account explains it by now
        names = [one.names[0] for one in choice if one.reading is not None]
        level = min((reading.level for _, reading in replaced), key=LEVELS.index)
        accused = [(history, self._believed(history, account.address, block)) for history, _ in replaced]
        evidence = Evidence(level, "+".join(dict.fromkeys(names)))
        yield replacing((account.address,), replaced, evidence)
        for (history, believed), one in zip(accused, (x for x in choice if x.reading), strict=True):
            self._accuse(history, believed - set(one.names), f"{account.address} in block {block}")

    def _shown(self, history: History, account: ledger.Account, block: int) -> list["_Shown"]:
        """What is stored of a block, with the names of those who show the same now; then every other reading of it."""
        kind, subject = history.kind, account.address
        found = ledger.ids(self.store, history.chain.name, kind, (subject,), (block, block))
        stored = found.get(block, frozenset())
        shown = {stored: _Shown(account.stored([kind], block, block), None, [], 0)}
        is_proved = self._is_proved(history, subject, block)
        for provider, reading in readings(history, (subject,), block):
            ids = frozenset(reading.page.ids(kind))
            if ids not in shown:
                if is_proved and LEVELS.index(reading.level) < PROVED:
                    continue  # what its header proves does not give way to a list
                moved = account.moved(kind, reading.page.good)
                shown[ids] = _Shown(moved, reading, [], len(stored - ids))
            shown[ids].names.append(provider.name)
        return list(shown.values())

    def _is_proved(self, history: History, subject: str, block: int) -> bool:
        covered = self.store.covered_by([history.key_of(subject)])
        return any(lo <= block <= hi and LEVELS.index(level) >= PROVED for _, lo, hi, level, _ in covered)

    def _requires(self) -> tuple[sa.Select[Any], ...]:
        return self.histories[0].chain.forks.requires()

    def _believed(self, history: History, subject: str, block: int) -> set[str]:
        covered = self.store.covered_by([history.key_of(subject)])
        return {source_of(by) for _, lo, hi, _, by in covered if lo <= block <= hi}

    def _accuse(self, history: History, names: set[str], of: str) -> None:
        for provider in history.chain.providers.providers:
            if provider.name in names:
                what = f"its {history.kind.name} of {of} do not explain the {self.proof}"
                history.chain.providers.lied(provider, what)

    def _keys(self, subject: str) -> tuple[str, ...]:
        return tuple(history.key_of(subject) for history in self.histories)


@dataclass(frozen=True, slots=True)
class _Shown:
    """One view of a block: how it moves the figure, who shows it, and how many stored records it lacks.

    `reading` is None for what is stored.
    """

    moved: int
    reading: Reading | None
    names: list[str]
    removes: int


class _NoFigure(Exception):
    """A contract that calls itself a token and gives no balance: nothing can be said of it."""


class _Ask:
    """The state of accounts, from the first provider that knows it."""

    def __init__(self, chain: Chain) -> None:
        self._witness = Witness(chain)
        if not self._witness:
            raise Unsupported(
                f"{chain.name}: none of its providers knows the state of past blocks: add one of the kind rpc"
            )
        self._known: dict[tuple[str, int], int | None] = {}

    @property
    def by(self) -> str:
        """Who gave the last answer."""
        return self._witness.by

    def change(self, account: ledger.Account, before: int, after: int) -> int:
        """How far the account's figure has moved between the ends of two blocks."""
        return (self._at(account, after) - self._at(account, before)) % ledger.MODULUS

    def applies(self, account: ledger.Account, block: int) -> bool:
        """A contract's nonce counts what it has created: no transaction says so."""
        return account.proof != "nonce" or not self._witness.ask(
            lambda one: one.has_code(account.address, block)
        )

    def _at(self, account: ledger.Account, block: int) -> int:
        known = (account.name, block)
        if known not in self._known:
            self._known[known] = self._witness.ask(lambda one: account.figure(one, block))
        figure = self._known[known]
        if figure is None:
            raise _NoFigure(
                f"token {account.token} of {account.address} gives no balance: it is not looked at"
            )
        return figure


def _first(lo: int, hi: int, is_bad: Callable[[int], bool]) -> int:
    """The first bad block of lo..hi, of which hi is bad: what is missing stays missing."""
    while lo < hi:
        middle = (lo + hi) // 2
        if is_bad(middle):
            hi = middle
        else:
            lo = middle + 1
    return lo
