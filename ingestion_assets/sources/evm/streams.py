"""What is read of a chain's watched accounts and tokens, and who is asked for it.

All that is remembered is what is missing: for each subject the blocks that no committed reading has covered. Any
provider that is able goes on from there, so no position is ever carried from one to another, and it does not matter
in which order, or by whom, a range is read.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ingestion_assets.engine.coverage import Range, Ranges, difference, union
from ingestion_assets.engine.errors import IngestionError, SchemaDrift, TooMuch, Transient
from ingestion_assets.engine.stream import Batch, Covered, Done, Evidence, Rejected, Unproved
from ingestion_assets.sources.evm.chain import Chain, Days
from ingestion_assets.sources.evm.provider import Provider, Question, Reading
from ingestion_assets.sources.evm.records import ERC20_TRANSFERS, KINDS, Kind, Page

DRIFTS = 3  # addresses that cannot be read before it is the provider that has changed
MOST_ASKED = (
    200  # accounts that an explorer is asked about, one after another, for a block that a node cannot prove
)
STRIDE = 2_000  # blocks asked of a node that only stands in, before the preferred provider has its turn again


class Gaps:
    """The blocks that are left to read, by subject."""

    def __init__(self, missing: Mapping[str, Ranges]) -> None:
        self._missing = {subject: ranges for subject, ranges in missing.items() if ranges}

    def __bool__(self) -> bool:
        return bool(self._missing)

    def next(self, at_once: int | None) -> tuple[tuple[str, ...], Range]:
        """A gap, and so many subjects as share it: as far as it is missing for all of them and for no others beside."""
        if at_once == 1:
            subject, ranges = next(iter(self._missing.items()))
            return (subject,), ranges[0]
        first = [(subject, ranges[0]) for subject, ranges in self._missing.items()]
        lo = min(gap[0] for _, gap in first)
        subjects = [subject for subject, gap in first if gap[0] == lo][:at_once]
        hi = min(self._missing[subject][0][1] for subject in subjects)
        if at_once is None:  # one reading for all: stop where more of them join
            hi = min([hi, *(gap[0] - 1 for _, gap in first if gap[0] > lo)])
        return tuple(subjects), (lo, hi)

    def close(self, subjects: Iterable[str], read: Range) -> None:
        """These subjects are read there."""
        for subject in subjects:
            left = difference(self._missing.get(subject, ()), [read])
            if left:
                self._missing[subject] = left
            else:
                self._missing.pop(subject, None)

    def drop(self, subject: str) -> None:
        """Nothing of this subject will be read."""
        self._missing.pop(subject, None)

    def all(self) -> Mapping[str, Ranges]:
        """What is left."""
        return self._missing


@dataclass(frozen=True, slots=True)
class History:
    """The records of one kind that name one of the subjects, on some days of one chain. Positions are blocks.

    Subjects are watched accounts; for ERC-20 transfers they are tokens, or `ALL`.
    """

    chain: Chain
    kind: Kind
    subjects: tuple[str, ...]
    days: tuple[Days, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """One for each subject: `evm/token_transfers/base/0xabc…`"""
        return tuple(map(self.key_of, self.subjects))

    def wanted(self) -> Ranges:
        """The blocks of the days, as far as the chain is to be read."""
        return union(blocks for days in self.days for blocks in self.chain.blocks(days))

    def read(self, done: Mapping[str, Done]) -> Iterator[Batch]:
        """What is wanted and not covered.

        Raises:
            SchemaDrift: of some subjects no provider's answer can be read; the others are read to their end.
            IngestionError: no provider is able to go on; what was given before stays true.
        """
        wanted = self.wanted()
        missing = {
            subject: difference(wanted, done[key].covered)
            for subject, key in zip(self.subjects, self.keys, strict=True)
        }
        return _Scan(self, Gaps(missing)).batches()

    def ask(self, provider: Provider, question: Question) -> Iterator[Reading]:
        """The answer, as far as the provider's head and no further, and from the branch that we build upon.

        Raises:
            Transient: it is behind, or on another branch, or says nothing.
        """
        hi = min(question.hi, self.chain.reach(provider, question.hi))
        if hi < question.lo:
            raise Transient(
                f"{provider.name} is behind: it does not show block {question.lo} of {self.chain.name} yet"
            )
        self.chain.forks.check(provider, hi)
        reached = question.lo - 1
        for reading in provider.read(Question(question.kind, question.subjects, question.lo, hi)):
            if reading.lo != reached + 1 or not reading.lo <= reading.hi <= hi:
                raise Transient(
                    f"{provider.name} answers for {reading.lo}–{reading.hi} where {reached + 1} was next"
                )
            reached = reading.hi
            if reached < hi:
                yield reading
                continue
            self.chain.forks.check(provider, hi)
            yield reading
            return  # it was asked for no more, so nothing that it may add to this is an error
        raise Transient(f"{provider.name} ends its answer at {reached}, asked for was {hi}")

    def key_of(self, subject: str) -> str:
        """The name under which this subject's marks are kept."""
        return stream_key(self.kind, self.chain.name, subject)


class _Scan:
    """One reading of a history: which gaps are left, and what could not be read."""

    def __init__(self, history: History, gaps: Gaps) -> None:
        self._history = history
        self._chain = history.chain
        self._kind = history.kind
        self._key_of = history.key_of
        self._gaps = gaps
        self._most: int | None = None  # blocks of one question, while a provider finds it too much
        self._asked = 0
        self._unreadable: dict[str, dict[str, SchemaDrift]] = {}  # by subject and provider

    def batches(self) -> Iterator[Batch]:
        drifted: dict[str, str] = {}
        while self._gaps:
            try:
                yield from self._go_on()
            except SchemaDrift as error:
                (subject,), _ = self._gaps.next(1)
                if subject not in self._unreadable:
                    raise  # it is not about this one alone
                drifted[subject] = str(error)
                self._gaps.drop(subject)
        if drifted:
            said = "; ".join(f"{subject}: {reason}" for subject, reason in list(drifted.items())[:5])
            raise SchemaDrift(f"{len(drifted)} of the watched addresses cannot be read: {said}")

    def _go_on(self) -> Iterator[Batch]:
        """Ask one question, of the first provider that is able; what it does not answer stays in the gaps."""
        providers = self._chain.providers
        for rank, provider in enumerate(providers.able(self._kind.name)):
            question = self._question(provider, stands_in=bool(rank))
            subjects = question.subjects
            if provider.at_once == 1 and provider.name in self._unreadable.get(subjects[0], ()):
                continue
            try:
                for reading in self._history.ask(provider, question):
                    providers.succeeded(provider)
                    if reading.doubt is None:
                        yield self._covered(provider, subjects, reading)
                    else:
                        yield from self._asked_elsewhere(provider, subjects, reading)
                    self._gaps.close(subjects, (reading.lo, reading.hi))
            except TooMuch as error:
                yield from self._in_smaller_pieces(provider, error)
            except IngestionError as error:
                self._failed(provider, subjects, error)
                continue
            else:
                self._most = None
            return
        (subject,), _ = self._gaps.next(1)
        for drift in self._unreadable.get(subject, {}).values():
            raise drift
        raise providers.exhausted(self._kind.name)

    def _question(self, provider: Provider, *, stands_in: bool) -> Question:
        """What to ask a provider next: of a node that only stands in less, and of one that found the last too much."""
        subjects, (lo, hi) = self._gaps.next(provider.at_once)
        if stands_in and provider.at_once is None:
            hi = min(hi, lo + STRIDE - 1)
        if self._most is not None:
            hi = min(hi, lo + self._most - 1)
        self._asked = hi - lo + 1
        return Question(self._kind, subjects, lo, hi)

    def _in_smaller_pieces(self, provider: Provider, error: TooMuch) -> Iterator[Batch]:
        """Ask for half as much; of a block that is too much by itself another provider may know more."""
        self._chain.providers.succeeded(provider)  # it has answered, if only that
        self._most = self._asked // 2
        if self._most == 0:
            subjects, (lo, _) = self._gaps.next(provider.at_once)
            yield from self._asked_elsewhere(
                provider, subjects, Reading(lo, lo, Page.empty(), doubt=str(error))
            )
            self._gaps.close(subjects, (lo, lo))
            self._most = None

    def _failed(self, provider: Provider, subjects: tuple[str, ...], error: IngestionError) -> None:
        """One address that cannot be read must not stop the thousand behind it; all else is the provider's failure."""
        if isinstance(error, SchemaDrift) and provider.at_once == 1:
            self._unreadable.setdefault(subjects[0], {})[provider.name] = error
            if sum(provider.name in drifts for drifts in self._unreadable.values()) < DRIFTS:
                return
        self._chain.providers.failed(
            provider, self._kind.name, error
        )  # raises what is not about the provider

    def _asked_elsewhere(
        self, doubter: Provider, subjects: tuple[str, ...], doubtful: Reading
    ) -> Iterator[Batch]:
        """What one provider cannot prove, another one may; what none can is stored as far as it was shown, and stays a gap."""
        left = Gaps(dict.fromkeys(subjects, ((doubtful.lo, doubtful.hi),)))
        providers = self._chain.providers
        for other in providers.able(self._kind.name, but=[doubter.name], rank=lambda one: one.at_once == 1):
            if other.at_once == 1 and len(left.all()) > MOST_ASKED:
                continue  # a question for each of them: what a node doubts of every block would use up any quota
            yield from self._second_opinion(other, left)
            if not left:
                return
        while left:  # what somebody else has proved meanwhile is not mixed with what is in doubt
            open_subjects, (lo, hi) = left.next(None)
            page = (
                doubtful.page
            )  # as it is, if nothing of it was proved: a record without a place stays in it
            if (lo, hi) != (doubtful.lo, doubtful.hi):
                page = page.since(lo).before(hi + 1)
            part = Reading(lo, hi, page)
            yield self._batch(open_subjects, Unproved(lo, hi, f"{doubter.name}: {doubtful.doubt}"), part)
            left.close(open_subjects, (lo, hi))

    def _second_opinion(self, other: Provider, left: Gaps) -> Iterator[Batch]:
        asked = Gaps(dict(left.all()))
        try:
            while asked:
                subjects, (lo, hi) = asked.next(other.at_once)
                for reading in self._history.ask(other, Question(self._kind, subjects, lo, hi)):
                    asked.close(subjects, (reading.lo, reading.hi))
                    if reading.doubt is None:
                        yield self._covered(other, subjects, reading)
                        left.close(subjects, (reading.lo, reading.hi))
                self._chain.providers.succeeded(other)
        except TooMuch:
            return  # it has no opinion
        except IngestionError as error:
            self._chain.providers.failed(other, self._kind.name, error)

    def _covered(self, provider: Provider, subjects: tuple[str, ...], reading: Reading) -> Batch:
        mark = Covered(reading.lo, reading.hi, Evidence(reading.level, provider.name))
        return self._batch(subjects, mark, reading)

    def _batch(self, subjects: tuple[str, ...], mark: Covered | Unproved, reading: Reading) -> Batch:
        return Batch(
            mark,
            (reading.page.rows(self._kind),),
            tuple(self._letter(letter, subjects) for letter in reading.page.rejected()),
            self._keys(subjects),
            requires=self._chain.forks.requires(),
        )

    def _letter(self, letter: Rejected, subjects: tuple[str, ...]) -> Rejected:
        """A record of a whole block belongs to those whom its text names; if to nobody, perhaps to everybody."""
        if len(subjects) == 1:
            return letter
        text = letter.raw.lower()
        named = self._keys(subject for subject in subjects if subject[2:].encode() in text)
        return Rejected(letter.raw, letter.reason, letter.position, named)

    def _keys(self, subjects: Iterable[str]) -> tuple[str, ...]:
        return tuple(map(self._key_of, subjects))


def stream_key(kind: Kind, chain: str, subject: str) -> str:
    """The name under which the marks of one subject's history are kept."""
    return f"evm/{kind.name}/{chain}/{subject}"


def stream_keys(chain: str, addresses: Iterable[str], tokens: Iterable[str] = ()) -> list[str]:
    """The names of all streams of these accounts and tokens."""
    accounts = [stream_key(kind, chain, address) for kind in KINDS for address in addresses]
    return accounts + [stream_key(ERC20_TRANSFERS, chain, token) for token in tokens]


def kind_of(key: str) -> str:
    """The kind of records of a stream's name."""
    return key.split("/")[1]


def subject_of(key: str) -> str:
    """The account or token of a stream's name; `ALL` for every token."""
    return key.rsplit("/", 1)[1]
