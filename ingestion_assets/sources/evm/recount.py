"""The proof `counted`: what one provider gave, a second one shows as well, record for record.

Where they differ, the block is read again from every provider. Two that agree now, or one with proof of its own, are
believed; who had shown something else is noted as a liar. What nobody settles is taken out of the coverage.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ingestion_assets.engine.coverage import Ranges, intersection, size, union
from ingestion_assets.engine.errors import IngestionError, TooMuch, Transient, Unsupported
from ingestion_assets.engine.store import Store
from ingestion_assets.engine.stream import LEVELS, Batch, Done, Evidence, Raised, Unproved
from ingestion_assets.sources.evm import ledger
from ingestion_assets.sources.evm.provider import ALL, Provider, Question, Reading
from ingestion_assets.sources.evm.records import Kind
from ingestion_assets.sources.evm.rereading import readings, replacing, source_of, together
from ingestion_assets.sources.evm.streams import Gaps, History, subject_of

COUNTED = LEVELS.index("counted")
PROVED = LEVELS.index("header")  # from here on a reading needs no second one
WORTH = 500  # blocks that a node may read for each account, before a list of the account's own is the cheaper witness
MOST_DIFFERENCES = 50  # blocks of one reading that are settled one by one; beyond, all of it is in doubt


@dataclass(frozen=True, slots=True)
class Recount:
    """`counted`: what one provider gave, another one shows as well, record for record."""

    history: History
    store: Store
    again: bool = False  # also of what has been proved before
    findings: list[str] = field(default_factory=list[str])

    @property
    def keys(self) -> tuple[str, ...]:
        """Those of the history."""
        return self.history.keys

    def wanted(self) -> Ranges:
        """What the history wants."""
        return self.history.wanted()

    def read(self, _done: Mapping[str, Done]) -> Iterator[Batch]:
        """Marks for what agrees, rows for what was missing, and gaps for what stays contradictory.

        Raises:
            IngestionError: no second provider is able.
        """
        for by, missing in self._uncounted().items():
            gaps = Gaps(missing)
            while gaps:
                yield from self._go_on(by, gaps)

    def _uncounted(self) -> dict[str, dict[str, Ranges]]:
        """By the word of whom, of which subject, which wanted blocks are covered with less than a second opinion."""
        wanted = self.wanted()
        found: dict[str, dict[str, Ranges]] = {}
        for key, lo, hi, level, by in self.store.covered_by(self.keys):
            if self.again or LEVELS.index(level) < COUNTED:
                ranges = intersection([(lo, hi)], wanted)
                of_provider = found.setdefault(source_of(by), {})
                of_provider[subject_of(key)] = union([*of_provider.get(subject_of(key), ()), *ranges])
        return found

    def _go_on(self, by: str, gaps: Gaps) -> Iterator[Batch]:
        chain, kind = self.history.chain, self.history.kind
        but = self._no_witnesses(by, gaps)
        for witness in chain.providers.able(kind.name, but=but):
            subjects, (lo, hi) = gaps.next(witness.at_once)
            try:
                for reading in self.history.ask(witness, Question(kind, subjects, lo, hi)):
                    chain.providers.succeeded(witness)
                    yield from self._compare(by, witness, subjects, reading)
                    gaps.close(subjects, (reading.lo, reading.hi))
            except TooMuch as error:
                raise Transient(f"{witness.name} cannot count blocks from {lo} on: {error}") from error
            except IngestionError as error:
                chain.providers.failed(witness, kind.name, error)
                continue
            return
        if all(one.name in but for one in chain.providers.providers):
            raise Unsupported(
                f"{chain.name}: there is no second system to count {kind.name} with, beside {by}"
            )
        raise chain.providers.exhausted(kind.name, but=but)

    def _no_witnesses(self, by: str, gaps: Gaps) -> set[str]:
        """Who gave the records, under whatever key; and explorers or nodes where the others make the better witnesses.

        A node is the better one: two lists may lack the same line by chance. But it reads every block for it, so of few
        accounts and many blocks an explorer is asked where there is a second one.
        """
        chain, kind = self.history.chain, self.history.kind
        same = {one.name for one in chain.providers.providers if chain.system(one.name) == chain.system(by)}
        if self.again and len(same) == len(chain.providers.providers):
            return set()  # nobody else is there: what is asked for again is at least read again
        unable = {state.provider for state in chain.providers.states() if kind.name in state.unsupported}
        others = [one for one in chain.providers.providers if one.name not in same | {by} | unable]
        nodes = {one.name for one in others if one.at_once is None}
        lists = {one.name for one in others} - nodes
        missing = gaps.all()
        blocks = size(one for ranges in missing.values() for one in ranges)
        if nodes and (not lists or blocks <= WORTH * len(missing)):
            return same | {by} | lists
        return same | {by} | (nodes if lists else set())

    def _compare(
        self, by: str, witness: Provider, subjects: tuple[str, ...], reading: Reading
    ) -> Iterator[Batch]:
        if reading.doubt is not None:
            # what is stored keeps the evidence that it has
            self.findings.append(
                f"{witness.name} cannot tell about {reading.lo}–{reading.hi}: {reading.doubt}"
            )
            return
        kind = self.history.kind
        stored = ledger.ids(self.store, self.history.chain.name, kind, subjects, (reading.lo, reading.hi))
        shown = _by_block(kind, reading)
        differ = sorted(
            block for block in stored.keys() | shown.keys() if stored.get(block) != shown.get(block)
        )
        if len(differ) > MOST_DIFFERENCES:
            said = f"{by} and {witness.name} differ in {len(differ)} blocks, the first of them {differ[0]}"
            yield self._batch(subjects, Unproved(reading.lo, reading.hi, said, retracts=True))
            return
        is_second = self._is_second(by, witness)
        level = max("counted", reading.level, key=LEVELS.index) if is_second else reading.level
        believed = Evidence(level, together(by, witness.name))
        lo = reading.lo
        for block in differ:  # in order: what waits for a whole page is settled from its beginning on
            if lo < block:
                yield self._batch(subjects, Raised(lo, block - 1, believed))
            concerned = self._concerned(subjects, reading, block)
            others = tuple(subject for subject in subjects if subject not in concerned)
            if others:
                yield self._batch(others, Raised(block, block, believed))
            if not concerned:
                continue  # a row of nobody who is asked about: it has moved between the two looks
            was = stored.get(block, frozenset()), shown.get(block, frozenset())
            yield from self._settle((by, witness), concerned, block, *was)
            lo = block + 1
        if lo <= reading.hi:
            yield self._batch(subjects, Raised(lo, reading.hi, believed))

    def _is_second(self, by: str, witness: Provider) -> bool:
        return self.history.chain.system(witness.name) != self.history.chain.system(by)

    def _concerned(self, subjects: tuple[str, ...], reading: Reading, block: int) -> tuple[str, ...]:
        """Those of the subjects that a record of the block names, as it is stored or as it was read now."""
        kind, chain = self.history.kind, self.history.chain.name
        if ALL in subjects:
            return subjects
        names = ledger.names(self.store, chain, kind, block)
        text = b"".join(row.key + row.attributes for row in reading.page.good if row.block == block).lower()
        return tuple(subject for subject in subjects if subject in names or subject.encode() in text)

    def _settle(
        self,
        sides: tuple[str, Provider],
        subjects: tuple[str, ...],
        block: int,
        stored: frozenset[str],
        shown: frozenset[str],
    ) -> Iterator[Batch]:
        """Of a block in which two providers differ: which reading of it is believed, if any.

        One with proof of its own. Else one that two give, if it has all that anybody has shown: records get lost on the way,
        and are hardly ever invented. Else one that three give.
        """
        chain, kind = self.history.chain, self.history.kind
        by, witness = sides
        votes: dict[frozenset[str], list[str]] = {}
        seen = stored | shown
        for provider, reading in readings(self.history, subjects, block):
            found = frozenset(reading.page.ids(kind))
            if chain.system(provider.name) not in {chain.system(name) for name in votes.get(found, ())}:
                votes.setdefault(found, []).append(provider.name)
            seen |= found
            is_proved = LEVELS.index(reading.level) >= PROVED
            if is_proved or len(votes[found]) > (1 if found == seen else 2):
                level = max("counted", reading.level, key=LEVELS.index)
                names = [provider.name] if is_proved else votes[found]
                yield replacing(subjects, [(self.history, reading)], Evidence(level, "+".join(names)))
                for liar, was in ((self._named(by), stored), (witness, shown)):
                    if liar is not None and was != found:
                        said = f"{_lie(kind, was, found)} in block {block}, say {' and '.join(names)}"
                        chain.providers.lied(liar, said)
                return
        said = (
            "; ".join(f"{len(found)} by {' and '.join(names)}" for found, names in votes.items())
            or "no answer"
        )
        reason = f"block {block}: {by} gave {len(stored)} {kind.name}, {witness.name} shows {len(shown)}; asked again: {said}"
        yield self._batch(subjects, Unproved(block, block, reason, retracts=True))

    def _named(self, name: str) -> Provider | None:
        return next((one for one in self.history.chain.providers.providers if one.name == name), None)

    def _batch(self, subjects: Iterable[str], mark: Raised | Unproved) -> Batch:
        keys = tuple(map(self.history.key_of, subjects))
        return Batch(mark, keys=keys, requires=self.history.chain.forks.requires())


def _by_block(kind: Kind, reading: Reading) -> dict[int, frozenset[str]]:
    found: dict[int, set[str]] = {}
    for row, identity in zip(reading.page.good, reading.page.ids(kind), strict=True):
        found.setdefault(row.block, set()).add(identity)
    return {block: frozenset(ids) for block, ids in found.items()}


def _lie(kind: Kind, was: frozenset[str], truth: frozenset[str]) -> str:
    return f"{len(truth - was)} {kind.name} left out and {len(was - truth)} invented"
