"""A chain in a list, and providers of ten lines that show it, or something else. A chain may be reorganised at any time.

Every block is ten minutes after the one before it, from 2024-01-01 on, so that `ALL_DAYS` hold them all.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from ingestion_assets.engine.store import Connection
from ingestion_assets.sources.evm.provider import Header, Question, Reading
from ingestion_assets.sources.evm.records import (
    ERC20_TRANSFERS,
    INTERNAL_TRANSACTIONS,
    TOKEN_TRANSFERS,
    TRANSACTIONS,
    Kind,
    Page,
    Row,
)

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
STEP = timedelta(minutes=10)
ALICE, BOB, CAROL = ("0x" + digit * 40 for digit in "abc")
USD, EUR = ("0x" + digit * 40 for digit in "de")
FEE = 21_000


@dataclass(frozen=True)
class Record:
    """Something that happened in a block; `number` tells equal ones apart."""

    block: int
    sender: str
    to: str
    value: int = 1
    kind: Kind = TOKEN_TRANSFERS
    token: str = USD
    number: int = 0

    def row(self, chain: str, provider: str) -> Row:
        """As any provider writes it down."""
        key = f"0x{self.block:032x}{self.number:032x}\t{self.sender}\t{self.to}\t"
        if self.kind in (TOKEN_TRANSFERS, ERC20_TRANSFERS):
            key += f"{self.token}\t"
        attributes = {
            TRANSACTIONS: f"0\t\\N\t{self.number}\t{FEE}\t1\tt\t{provider}\t",
            INTERNAL_TRANSACTIONS: f"call\t\\N\tf\t\\N\t{provider}\t",
            TOKEN_TRANSFERS: f"\\N\tUSD\t6\t{provider}\t",
            ERC20_TRANSFERS: f"{self.number}\t0x{self.block:064x}\t{provider}\t",
        }[self.kind].encode()
        whole = f"{key}{self.value}".encode()
        when = f"{chain}\t{self.block}\t{(BEGIN + self.block * STEP).isoformat()}\t".encode()
        return Row(self.block, self.kind.identity(whole, attributes), when, whole, attributes, b"{}")


@dataclass
class Ledger:
    """What happened, and on which branch. `salts` holds what makes the hash of a block, from 0 to the head."""

    records: list[Record] = field(default_factory=list)
    salts: list[int] = field(default_factory=list)
    chain: str = "base"

    @classmethod
    def of(cls, head: int, *records: Record, chain: str = "base") -> "Ledger":
        """A chain up to `head`."""
        return cls(list(records), [0] * (head + 1), chain)

    @property
    def head(self) -> int:
        """The newest block."""
        return len(self.salts) - 1

    def reorganised(self, fork: int, head: int, *records: Record) -> "Ledger":
        """Another history after `fork`: none of the records that were there, and these."""
        kept = [record for record in self.records if record.block <= fork]
        salt = max(self.salts) + 1
        return Ledger([*kept, *records], self.salts[: fork + 1] + [salt] * (head - fork), self.chain)

    def grown(self, head: int, *records: Record) -> "Ledger":
        """More blocks on top."""
        return Ledger(
            [*self.records, *records], self.salts + [self.salts[-1]] * (head - self.head), self.chain
        )

    def without(self, *records: Record) -> "Ledger":
        """The same blocks, as somebody shows them who leaves these out."""
        left = Counter(self.records)
        left.subtract(records)
        return replace(self, records=list(left.elements()))

    def showing(self, *records: Record) -> "Ledger":
        """The same blocks, as somebody shows them who adds these."""
        return replace(self, records=[*self.records, *records])

    def header(self, block: int) -> Header | None:
        """Its hash stands for all blocks before it."""
        if not 0 <= block <= self.head:
            return None
        own, parent = (
            f"0x{self.salts[at]:032x}{at:032x}" if at >= 0 else "0x" + "0" * 64 for at in (block, block - 1)
        )
        return Header(block, own, parent, BEGIN + block * STEP)

    def page(self, kind: Kind, subjects: tuple[str, ...], lo: int, hi: int, provider: str) -> Page:
        """The records that name one of the subjects."""
        found = [
            record for record in self.records
            if record.kind is kind and lo <= record.block <= hi and _names(record, subjects)
        ]  # fmt: skip
        found.sort(key=lambda record: record.block)
        return Page([record.row(self.chain, provider) for record in found], [], is_last=True)

    def ids(self, kind: Kind, subjects: tuple[str, ...], lo: int = 0, hi: int = 10**9) -> dict[int, set[str]]:
        """What the table should hold: ids by block."""
        page = self.page(kind, subjects, lo, hi, "")
        found: dict[int, set[str]] = {}
        for row, identity in zip(page.good, page.ids(kind), strict=True):
            found.setdefault(row.block, set()).add(identity)
        return found


def _names(record: Record, subjects: tuple[str, ...]) -> bool:
    if record.kind is ERC20_TRANSFERS:
        return record.token in subjects or "*" in subjects
    return record.sender in subjects or record.to in subjects


Answer = Iterator[Reading]


@dataclass
class Tiny:
    """A provider that shows a ledger, in readings of `width` blocks. `spoils` holds what goes wrong with each next answer."""

    name: str
    ledger: Ledger
    at_once: int | None = None
    width: int = 10**6
    level: str = "stated"
    spoils: list[Callable[["Tiny", Question], Answer] | None] = field(default_factory=list)
    watch: Callable[[Question], None] = lambda _question: None
    questions: list[Question] = field(default_factory=list)
    headers: list[int] = field(default_factory=list)

    def read(self, question: Question) -> Answer:
        """The right answer, unless another one is planned."""
        assert self.at_once is None or len(question.subjects) <= self.at_once
        self.questions.append(question)
        self.watch(question)
        spoil = self.spoils.pop(0) if self.spoils else None
        return self.right(question) if spoil is None else spoil(self, question)

    def right(self, question: Question) -> Answer:
        """As it should be."""
        hi = min(question.hi, self.ledger.head)
        edges = [*range(question.lo, hi + 1, self.width), hi + 1]
        for lo, end in pairwise(edges):
            page = self.ledger.page(question.kind, question.subjects, lo, end - 1, self.name)
            yield Reading(lo, end - 1, page, self.level)

    def head(self) -> int:
        """The newest block."""
        return self.ledger.head

    def tagged(self, _tag: str) -> int:
        """Ten blocks below the head."""
        return max(0, self.ledger.head - 10)

    def header(self, block: int) -> Header | None:
        """What identifies a block."""
        self.headers.append(block)
        return self.ledger.header(block)

    def block_before(self, moment: datetime) -> int | None:
        """The last block not younger."""
        block = min((moment - BEGIN) // STEP, self.ledger.head)
        return None if block < 0 else block

    def chain_id(self) -> int | None:
        """Of every chain here."""
        return 1

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class TinyNode(Tiny):
    """A node: it knows the state as the `truth` has it, whatever it lists. `extra` moves ether that no record shows."""

    truth: Ledger | None = None
    contracts: tuple[str, ...] = ()
    extra: dict[tuple[str, int], int] = field(default_factory=dict)
    state_questions: list[tuple[str, int]] = field(default_factory=list)

    def _sum(self, kind: Kind, address: str, block: int, token: str | None = None) -> int:
        moved = 0
        for record in (self.truth or self.ledger).records:
            if record.kind is kind and record.block <= block and token in (None, record.token):
                moved += record.value * ((record.to == address) - (record.sender == address))
        return moved

    def balance(self, address: str, block: int) -> int:
        """Wei."""
        self.state_questions.append((address, block))
        gifts = sum(value for (who, at), value in self.extra.items() if who == address and at <= block)
        moved = self._sum(TRANSACTIONS, address, block) + self._sum(INTERNAL_TRANSACTIONS, address, block)
        return 10**18 + moved + gifts - FEE * self.nonce(address, block)

    def nonce(self, address: str, block: int) -> int:
        """Transactions sent."""
        self.state_questions.append((address, block))
        return sum(
            record.kind is TRANSACTIONS and record.sender == address and record.block <= block
            for record in (self.truth or self.ledger).records
        )

    def token_balance(self, token: str, address: str, block: int) -> int:
        """Units of the token."""
        self.state_questions.append((address, block))
        return 10**6 + self._sum(TOKEN_TRANSFERS, address, block, token)

    def has_code(self, address: str, _block: int) -> bool:
        """Whether it is a contract."""
        return address in self.contracts


def stored_ids(connection: Connection, kind: Kind, chain: str = "base") -> dict[int, set[str]]:
    """What the table holds: ids by block."""
    query = f"SELECT block_number, replace(id::text, '-', '') FROM {kind.table.fullname} WHERE chain = %s"
    found: dict[int, set[str]] = {}
    for block, identity in connection.execute(query, [chain]):
        found.setdefault(block, set()).add(identity)
    return found
