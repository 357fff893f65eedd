"""The proof of a file: what it states against what its movements add up to. It reads stored rows only.

A file states sums in many ways: the money of each line, balances, a cash report, totals of sections, positions, the value
of the account before and after. `stated` has a reader for each dialect; a `Sum` is what came of it.

Lines that give way to a richer file (see `precedence`) have no movements. They count by what they would be, so that a file
still proves itself, and the proof tells how many they are.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, localcontext
from itertools import pairwise

import msgspec

from ingestion_assets.engine.store import Connection, Store
from ingestion_assets.sources.statements.movement_stream import booked
from ingestion_assets.sources.statements.movements.ibkr import option
from ingestion_assets.sources.statements.movements.movement import EXACT, ZERO, Movement, Stored
from ingestion_assets.sources.statements.precedence import Precedence, noted
from ingestion_assets.sources.statements.registry import File, Registry
from ingestion_assets.sources.statements.stated import CENT, Statement, reader_of

_PAYLOAD = msgspec.json.Decoder(dict[str, str | None])


@dataclass(frozen=True, slots=True)
class Sum:
    """One number, as the file states it and as it was computed.

    Args:
        section: of the statement.
        currency: or the symbol of a position.
        stated: by the file.
        computed: from movements, or from other numbers of the file.
        within: by so much they may differ.
    """

    section: str
    currency: str
    stated: Decimal
    computed: Decimal
    within: Decimal = ZERO

    @property
    def agrees(self) -> bool:
        """Whether they are the same."""
        return abs(self.stated - self.computed) <= self.within


@dataclass(slots=True)
class Proof:
    """All sums of one file.

    Args:
        file: where it lies in the inbox.
        account: whose it is.
        dialect: that it is written in.
        lines: that it holds.
        sums: that it states.
        note: what else is to be said of it.
        superseded: how many of its lines give way, by the path of the file that tells the same.
    """

    file: str
    account: str
    dialect: str
    lines: int
    sums: list[Sum] = field(default_factory=list[Sum])
    note: str | None = None
    superseded: Counter[str] = field(default_factory=Counter[str])

    def mismatches(self) -> Iterator[str]:
        """A sentence for each sum that does not agree."""
        for one in self.sums:
            if not one.agrees:
                yield f"{one.section}, {one.currency}: stated {one.stated:f}, computed {one.computed:f}"

    def told(self) -> dict[str, object]:
        """For people to read."""
        return {
            "file": self.file,
            "account": self.account,
            "dialect": self.dialect,
            "lines": self.lines,
            **({"note": self.note} if self.note else {}),
            **({"superseded": dict(sorted(self.superseded.items()))} if self.superseded else {}),
            "sums": [
                {
                    "section": one.section,
                    "currency": one.currency,
                    "stated": f"{one.stated:f}",
                    "computed": f"{one.computed:f}",
                    "agrees": one.agrees,
                }
                for one in self.sums
            ],
        }


def proofs(store: Store, files: Sequence[File]) -> list[Proof]:
    """The proofs of files that are read to their end, those of statements held against one another too."""
    found: list[Proof] = []
    statements: dict[str, list[tuple[Proof, Statement]]] = defaultdict(list)
    for file in files:
        proof, statement = proof_of(store, file)
        found.append(proof)
        if statement.last is not None:
            statements[file.account].append((proof, statement))
    for own in statements.values():
        _chain(own)
    return found


def proof_of(store: Store, file: File) -> tuple[Proof, Statement]:
    """The proof of one file, and what it states of the account as a whole."""
    reader = reader_of(file.dialect)
    moved: defaultdict[str, Decimal] = defaultdict(Decimal)
    proof = Proof(file.path, file.account, file.dialect, 0)
    with localcontext(EXACT):
        files = noted(store, file.account)
        for lines, sums in _chunks(store, file):
            proof.lines += len(lines)
            for line in lines:
                reader.add(line)
            for currency, amount in sums:
                moved[currency] += amount
            if files.covers:
                giving_way = _giving_way(store, file.account, lines, files)
                proof.superseded.update(giving_way.values())
                for currency, amount in _told([line for line in lines if line.id in giving_way]):
                    moved[currency] += amount
        _say(store, proof)
        statement = reader.statement()
        if not proof.lines and file.records:
            proof.note = "it was read before it was noted which lines a file holds; nothing is proved of it"
            return proof, Statement()
        for section, currency, stated, computed, within in reader.sums():
            proof.sums.append(
                Sum(section, currency, stated, moved[currency] if computed is None else computed, within)
            )
        if statement.positions and statement.last is not None:
            proof.sums += _positions(store, file.account, statement)
    return proof, statement


def _chunks(store: Store, file: File) -> Iterator[tuple[list[Stored], list[tuple[str, Decimal]]]]:
    """The lines of a file in its order, and what their movements add up to, by currency or coin."""
    asked: dict[str, object] = {"account": file.account, "file": file.hash}
    seen: set[tuple[int, int]] = set()
    for lo, hi in store.transaction(lambda c: c.execute(_CHUNKS, asked).fetchall()):
        if any(first <= lo and hi <= last for first, last in seen):
            continue
        seen.add((lo, hi))
        yield store.transaction(lambda c, lo=lo, hi=hi: _chunk(c, asked | {"lo": lo, "hi": hi}))  # type: ignore[misc]


def _chunk(
    connection: Connection, asked: dict[str, object]
) -> tuple[list[Stored], list[tuple[str, Decimal]]]:
    lines = [
        Stored(at, name, dialect, section, _PAYLOAD.decode(payload))
        for at, name, dialect, section, payload in connection.execute(_LINES, asked).fetchall()
    ]
    return lines, connection.execute(_MOVED, asked).fetchall()


def _giving_way(store: Store, account: str, lines: Sequence[Stored], files: Precedence) -> dict[str, str]:
    """Those of these lines that are not booked, and the file that tells the same; empty: a line of another period."""
    found = {line.id: by for line in lines if (by := files.superseding(line)) is not None}
    might = [line for line in lines if line.id not in found and files.might_be_repeated(line)]
    if might:
        asked = {
            "account": account,
            "first": min(line.at for line in might),
            "last": max(line.at for line in might),
            "ids": [line.id for line in might],
        }
        has = {line for (line,) in store.transaction(lambda c: c.execute(_BOOKED, asked).fetchall())}
        found |= {line.id: "" for line in might if line.id not in has}
    return found


def _told(lines: Sequence[Stored]) -> Iterator[tuple[str, Decimal]]:
    """What these lines change, by currency or coin, if they are booked."""
    for one in booked(lines):
        if isinstance(one, Movement):
            changed = one.asset.symbol if one.currency is None and one.asset else one.currency
            yield changed or "", one.quantity if one.currency is None else one.cash


def _say(store: Store, proof: Proof) -> None:
    """Of lines that give way, to which files."""
    if not proof.superseded:
        return
    paths = {file.hash: file.path for file in Registry(store).files(proof.account)}
    proof.superseded = Counter(
        {
            paths.get(by, by) or "lines of the same day and amount": count
            for by, count in proof.superseded.items()
        }
    )
    by_file = ", ".join(f"{count:,} to {by}" for by, count in sorted(proof.superseded.items()))
    proof.note = (
        f"{proof.superseded.total():,} lines give way: {by_file}; they count here by what they would be"
    )


def _positions(store: Store, account: str, statement: Statement) -> Iterator[Sum]:
    """What the account held at the end of the statement's last day, by all movements that are known."""
    held: defaultdict[object, Decimal] = defaultdict(Decimal)
    for symbol, quantity in store.transaction(
        lambda c: c.execute(_HELD, [account, _end_of(statement.last)]).fetchall()
    ):
        held[_position(symbol)] += quantity
    for symbol, stated in sorted(statement.positions.items()):
        yield Sum("Open Positions", symbol, stated, held[_position(symbol)])


def _position(symbol: str) -> object:
    """What a symbol means: the formats of one broker write that of an option in several ways."""
    found = option(symbol, None)
    return symbol if found is None else (found.ticker, found.expiration, found.strike, found.put_call)


def _end_of(day: date | None) -> datetime | None:
    return None if day is None else datetime.combine(day + timedelta(days=1), time(5), UTC)


def _chain(own: Iterable[tuple[Proof, Statement]]) -> None:
    """Each statement begins with the value that the one before it ended with."""
    ordered = sorted(
        ((proof, one) for proof, one in own if one.value_before is not None and one.first and one.last),
        key=lambda pair: (pair[1].first or date.min, pair[1].last or date.min),
    )
    for (_, before), (proof, after) in pairwise(ordered):
        assert before.last is not None  # noqa: S101 - for the type checker
        assert after.first is not None  # noqa: S101
        if 0 < (after.first - before.last).days <= 4:  # noqa: PLR2004 - no statement is made for a weekend
            proof.sums.append(
                Sum(
                    "Change in NAV, from the statement before",
                    after.base or "base",
                    after.value_before or ZERO,
                    before.value_after or ZERO,
                    CENT,
                )
            )


_CHUNKS = "SELECT lo, hi FROM ops.statement_chunks WHERE account = %(account)s AND file = %(file)s ORDER BY lo, hi DESC"
_OF_CHUNK = """
    FROM ops.statement_chunks AS k, unnest(k.ids) WITH ORDINALITY AS held (id, place)"""
_THIS = "k.account = %(account)s AND k.file = %(file)s AND k.lo = %(lo)s AND k.hi = %(hi)s"
_LINES = f"""
    SELECT l.at, l.id::text, l.dialect, l.section, l.payload::text {_OF_CHUNK}, raw.statement_lines AS l
    WHERE {_THIS} AND l.account = k.account AND l.at BETWEEN k.first_at AND k.last_at AND l.id = held.id ORDER BY held.place"""
_MOVED = f"""
    SELECT coalesce(m.currency, m.symbol), sum(CASE WHEN m.currency IS NULL THEN m.quantity ELSE m.cash END)
    {_OF_CHUNK}, core.movements AS m
    WHERE {_THIS} AND m.account = k.account AND m.line_at BETWEEN k.first_at AND k.last_at AND m.line = held.id GROUP BY 1"""
_BOOKED = """
    SELECT DISTINCT line::text FROM core.movements
    WHERE account = %(account)s AND line_at BETWEEN %(first)s AND %(last)s AND line = ANY (%(ids)s::uuid[])"""
_HELD = "SELECT symbol, sum(quantity) FROM core.movements WHERE account = %s AND at < %s AND symbol IS NOT NULL GROUP BY 1"
