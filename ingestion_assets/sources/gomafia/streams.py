"""What is drained of the site: listings, and what belongs to each entity. The statistics are in `counting`.

* A **listing** is read in sweeps. Its positions are 1 to the total that the site tells; position 0 stands for the proof that the sweep has met
  as many different entities as the site says it lists, which a shift between two pages would spoil. Only then has it ended.
* What belongs to an **entity** is read one by one. The positions are the entities' own numbers, so the marks of a stream are the set of
  what is done, kept as ranges that grow. A listing that ends reopens the entities that it has found changed.
  A tournament that is read reopens the statistics of its players.

All of a kind hold the lock of their stream while they are read, and one page or entity is on its way at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from ingestion_assets.engine.coverage import Range, Ranges, difference, intersection, union
from ingestion_assets.engine.errors import Misconfigured
from ingestion_assets.engine.exclusive import exclusive
from ingestion_assets.engine.schema import coverage
from ingestion_assets.engine.stream import (
    Batch,
    Covered,
    Done,
    Evidence,
    Rejected,
    Reopens,
    Rows,
    Unproved,
)
from ingestion_assets.sources.gomafia import records as kinds
from ingestion_assets.sources.gomafia import tables
from ingestion_assets.sources.gomafia.knowledge import Sweep, changed_in, noted, replaced
from ingestion_assets.sources.gomafia.phases import (
    CLUB_MEMBERS,
    CLUBS,
    GAMES,
    HISTORIES,
    NAMED,
    PLAYERS,
    STATISTICS,
    YEAR_STATS,
    Phase,
)
from ingestion_assets.sources.gomafia.provider import Entity, Part, Place, Record, Whole
from ingestion_assets.sources.gomafia.records import Kind, Values
from ingestion_assets.sources.gomafia.site import SCOPE, PassedOver, Site
from ingestion_assets.sources.gomafia.words import Unreadable

PASSES = 3  # over a listing that moves while it is read
PROOF = 0  # the position of a listing that stands for its end

LISTED: Mapping[str, tuple[Kind, ...]] = {
    "clubs": (kinds.CLUBS,),
    "players": (kinds.PLAYERS, kinds.RATINGS),
    "tournaments": (kinds.TOURNAMENTS,),
}
BELONGS = {
    "club_members": kinds.CLUB_MEMBERS,
    "player_year_stats": kinds.YEAR_STATS,
    "player_tournament_histories": kinds.HISTORIES,
}


@dataclass
class Validation:
    """How many records a run has looked at, and how many of them were refused."""

    checked: int = 0
    refused: int = 0

    def add(self, good: int, bad: int) -> None:
        """Count the records of one answer."""
        self.checked += good + bad
        self.refused += bad

    @property
    def rate(self) -> float | None:
        """The share that was good, as it is: 0.9799 is not 0.98."""
        return (self.checked - self.refused) / self.checked if self.checked else None


@dataclass(frozen=True)
class ListingSweep:
    """The sweep of a listing: the one that is under way, or a new one when the last is old enough.

    Args:
        phase: one that has a listing.
        site: who is asked.
        year: of a rating of players.
        validation: counts the records.
    """

    phase: Phase
    site: Site
    year: int | None = None
    validation: Validation = field(default_factory=Validation, compare=False)

    @property
    def key(self) -> str:
        """Under which its marks are kept."""
        return self.phase.key(self.year)

    @property
    def keys(self) -> tuple[str, ...]:
        """It has one."""
        return (self.key,)

    def wanted(self) -> Ranges:
        """All positions of the sweep, and its proof; before the first sweep only that."""
        sweep = self.site.knowledge.sweep(self.key)
        return ((PROOF, 0 if sweep is None else sweep.total),)

    def read(self, done: Mapping[str, Done]) -> Iterator[Batch]:  # noqa: ARG002 - see `covered_now`
        """The pages that are missing, from the top; then the proof."""
        with exclusive(self.site.store, self.key, self.site.owner) as still_held:
            sweep, covered = self.site.knowledge.sweep(self.key), covered_now(self.site, self.key)
            is_proved = bool(intersection(covered, [(PROOF, PROOF)]))
            if sweep is None or (is_proved and self.site.is_stale(sweep.began_at)):
                part, by = self._first()
                sweep = Sweep(self.site.clock(), part.total or 0)
                yield self._begin(sweep, part, by)
                covered, is_proved = ((1, part.hi),) if part.records else (), False
            if is_proved:  # replayed dead letters, if anything
                covered = union([*covered, (PROOF, PROOF)])
                yield from self._pages(sweep, covered)
                return
            for _ in range(PASSES):
                still_held()
                moved, passed_over = False, False
                for batch in self._pages(sweep, covered):
                    yield batch
                    passed_over |= isinstance(batch.mark, Unproved)
                    found = self.site.knowledge.sweep(self.key)
                    moved |= found is not None and found.total != sweep.total
                    sweep = found or sweep
                if passed_over:
                    return  # a later run asks for what is missing, and then for the proof
                if not moved and self._met(sweep) >= sweep.total:
                    yield self._end(sweep)
                    return
                covered = ()
            reason = f"the listing moved whenever it was read: {sweep.total} entities are said to be there, and not so many were met"
            yield _gap(1, max(1, sweep.total), reason)

    def _met(self, sweep: Sweep) -> int:
        """How many different entities the sweep has named, those among them that were refused."""
        refused = self.site.store.count_open_letters(self.key).get(self.key, 0)
        return self.site.knowledge.seen(self.phase, self.year, sweep.began_at) + refused

    def _first(self) -> tuple[Part, str]:
        """The beginning of a new sweep. An empty one is believed when it comes twice."""
        part, by = self._ask(1, counted=True)
        if not part.records:
            part, by = self._ask(1, counted=True)
        return part, by

    def _ask(self, lo: int, *, counted: bool = False) -> tuple[Part, str]:
        assert self.phase.listing is not None  # noqa: S101 - for the type checker
        return self.site.listed(Place(self.phase.listing, lo, self.year, counted))

    def _pages(self, sweep: Sweep, covered: Ranges) -> Iterator[Batch]:
        for lo, hi in difference([(1, sweep.total)], covered):
            at = lo
            while at <= hi:
                try:
                    part, by = self._ask(at)
                    if part.hi < at:  # it has become shorter, or leaves something out
                        part, by = self._ask(1, counted=True)
                        yield self._batch(sweep, part, by)
                        if part.total == sweep.total:
                            yield _gap(
                                at,
                                hi,
                                f"the site says that it lists {sweep.total}, but shows nothing at {at}",
                            )
                        return
                except PassedOver as error:
                    end = min(hi, at + self.site.config.page_size - 1)
                    yield _gap(at, end, str(error))
                else:
                    yield self._batch(sweep, part, by)
                    end = part.hi
                at = end + 1

    def _batch(self, sweep: Sweep, part: Part, by: str) -> Batch:
        rows, rejected = self._rows(sweep, part, by)
        removes: tuple[sa.Delete, ...] = ()
        if part.total is not None and part.total != sweep.total:
            removes, note = _note(Sweep(sweep.began_at, part.total), self.key)
            rows = (*rows, note)
        mark: Covered | Unproved = Covered(part.lo, part.hi, Evidence("stated", by)) if part.records else Unproved(PROOF, PROOF, "it is empty now")  # fmt: skip
        return Batch(mark, rows, rejected, removes=removes)

    def _begin(self, sweep: Sweep, part: Part, by: str) -> Batch:
        """The first page. All marks of the sweep before go with its commit."""
        rows, rejected = self._rows(sweep, part, by)
        removes, note = _note(sweep, self.key)
        anew = sa.delete(coverage).where(coverage.c.stream == self.key)
        evidence = Evidence("stated", by)
        mark: Covered | Unproved = (
            Covered(1, part.hi, evidence) if part.records else Unproved(PROOF, PROOF, "it has just begun")
        )
        return Batch(mark, (*rows, note), rejected, removes=(anew, *removes))

    def _end(self, sweep: Sweep) -> Batch:
        """The proof; and what it says has changed is to be read again."""
        return Batch(Covered(PROOF, PROOF, Evidence("stated", SCOPE)), reopens=tuple(self._changed(sweep)))

    def _changed(self, sweep: Sweep) -> Iterator[Reopens]:
        if self.phase is CLUBS:  # members come and go without a trace in the list
            yield Reopens(CLUB_MEMBERS.asset, sa.select(tables.clubs.c.id))
        elif self.phase is PLAYERS:
            changed = changed_in(tables.ratings, "player_id", sweep.began_at, year=self.year)
            yield Reopens(YEAR_STATS.key(self.year), changed)
            yield Reopens(HISTORIES.asset, changed)
        else:
            yield Reopens(GAMES.asset, changed_in(tables.tournaments, "id", sweep.began_at))

    def _rows(self, sweep: Sweep, part: Part, by: str) -> tuple[tuple[Rows, ...], tuple[Rejected, ...]]:
        """A record is a row of each of the listing's tables, or of none."""
        more = {"provider": by, "as_of": sweep.began_at, "seen_at": sweep.began_at, "year": self.year}
        # Who is named twice was met once: that the listing has moved, or leaves somebody out, is for the proof to see.
        once = {
            str(record.fields.get("id")) if isinstance(record, Record) else position: (position, record)
            for position, record in reversed(list(enumerate(part.records, part.lo)))
        }
        left: list[tuple[int, Record | Rejected]] = sorted(once.values(), key=lambda placed: placed[0])
        rejected: list[Rejected] = []
        for kind in LISTED[self.phase.name]:
            bad = kinds.rows_of(kind, left, more)[1]
            rejected += bad
            at = {letter.position for letter in bad}
            left = [(position, record) for position, record in left if position not in at]
        self.validation.add(len(left), len(rejected))
        good = [(kind, kinds.rows_of(kind, left, more)[0]) for kind in LISTED[self.phase.name]]
        return tuple(kind.block(values) for kind, values in good if values), tuple(rejected)


def covered_now(site: Site, key: str) -> Ranges:
    """What is done of a stream, asked under its lock: whoever held it until now may have moved the marks."""
    return site.store.covered([key]).get(key, ())


def _note(sweep: Sweep, key: str) -> tuple[tuple[sa.Delete, ...], Rows]:
    old, line = noted(sweep, key)
    return (old,), Rows(tables.sweeps, line, 1)


def _gap(lo: int, hi: int, reason: str) -> Batch:
    """What is passed over stays a gap with its reason, and the next run tries it again."""
    return Batch(Unproved(lo, hi, reason))


@dataclass(frozen=True)
class Belongings:
    """What belongs to each entity of a phase, one after another, those first that people want first.

    Args:
        phase: one that has a subject.
        site: who is asked.
        year: of the statistics of a year.
        years: of tournaments, by their first day.
        blocks: ranges of ids of clubs or players.
        validation: counts the records.
    """

    phase: Phase
    site: Site
    year: int | None = None
    years: tuple[int, ...] = ()
    blocks: tuple[Range, ...] = ()
    validation: Validation = field(default_factory=Validation, compare=False)

    @property
    def key(self) -> str:
        """Under which its marks are kept."""
        return self.phase.key(self.year)

    @property
    def keys(self) -> tuple[str, ...]:
        """It has one."""
        return (self.key,)

    def wanted(self) -> Ranges:
        """The numbers of the entities that are known."""
        return union((number, number) for number, _ in self._entities())

    def read(self, done: Mapping[str, Done]) -> Iterator[Batch]:  # noqa: ARG002 - see `covered_now`
        """One batch for each entity that is missing.

        Raises:
            Misconfigured: the phases before have never been read.
        """
        self._see_that_it_can_begin()
        with exclusive(self.site.store, self.key, self.site.owner) as still_held:
            entities = self._entities()
            wanted = union((number, number) for number, _ in entities)
            missing = _Set(difference(wanted, covered_now(self.site, self.key)))
            for number, day in entities:
                if number in missing:
                    still_held()
                    yield self._batch(number, day)

    def _see_that_it_can_begin(self) -> None:
        for name in self.phase.needs:
            before = NAMED[name]
            if before.listing is not None and not self.site.knowledge.has_begun(
                before.key(self.year) if self.year else before.asset
            ):
                raise Misconfigured(
                    f"{self.key} needs {before.asset}, which was never read: materialise that first, or all of gomafia in one run"
                )

    def _entities(self) -> Sequence[tuple[int, object]]:
        knowledge = self.site.knowledge
        if self.phase is CLUB_MEMBERS:
            return [(number, None) for number in knowledge.clubs(self.blocks)]
        if self.phase is HISTORIES:
            return [(number, None) for number in knowledge.players(self.blocks)]
        if self.phase is YEAR_STATS and self.year is not None:
            return [(number, None) for number in knowledge.rated(self.year)]
        return [(one.id, one.played_on) for one in knowledge.tournaments(self.years)]

    def _batch(self, number: int, day: object) -> Batch:
        assert self.phase.subject is not None  # noqa: S101 - for the type checker
        try:
            whole, by = self.site.whole(Entity(self.phase.subject, number, self.year))
        except PassedOver as error:
            return _gap(number, number, str(error))
        more: Values = {"provider": by, "read_at": self.site.clock()}
        mark = Covered(number, number, Evidence("stated", by))
        if whole.missing is not None:
            self.validation.add(0, 1)
            return Batch(mark, rejected=(Rejected(b"", whole.missing, number),))
        if self.phase is GAMES:
            return self._games(mark, number, whole, more | {"played_on": day})
        return self._others(mark, number, whole, more)

    def _others(self, mark: Covered, number: int, whole: Whole, more: Values) -> Batch:
        kind = BELONGS[self.phase.name]
        owner = "club_id" if self.phase is CLUB_MEMBERS else "player_id"
        of = {owner: number} if self.year is None else {owner: number, "year": self.year}
        good, bad = kinds.rows_of(kind, [(number, record) for record in whole.records], {**more, **of})
        self.validation.add(len(good), len(bad))
        rows = (kind.block(good),) if good else ()
        return Batch(mark, rows, tuple(bad), removes=(replaced(kind.table, **of),))

    def _games(self, mark: Covered, number: int, whole: Whole, more: Values) -> Batch:
        games: dict[tuple[object, object], Values] = {}
        seats: list[Values] = []
        bad: list[Rejected] = []
        for game in whole.games:
            try:
                one, its = kinds.game_rows(number, game, more)
                place = (one["round_number"], one["table_number"])
                if place in games:
                    raise Unreadable(f"a second game at table {place[1]} of round {place[0]}")
            except Unreadable as error:
                bad.append(kinds.refused(game.record, error, number))
            else:
                games[place] = one
                seats += its
        self.validation.add(len(games), len(bad))
        rows = (kinds.GAMES.block(list(games.values())), kinds.SEATS.block(seats)) if games else ()
        removes = tuple(
            replaced(table, tournament_id=number) for table in (tables.games, tables.participations)
        )
        column = tables.participations.c
        players = sa.select(column.player_id).distinct().where(column.tournament_id == number)
        return Batch(mark, rows, tuple(bad), removes=removes, reopens=(Reopens(STATISTICS.asset, players),))


class _Set:
    """Ranges, asked for single numbers."""

    def __init__(self, ranges: Ranges) -> None:
        self._numbers = {number for lo, hi in ranges for number in range(lo, hi + 1)}

    def __contains__(self, number: int) -> bool:
        return number in self._numbers
