"""What a kind of record is, and how a page of it becomes rows: the same for every provider.

Belongs here: identity, ordinals and COPY text. How a provider writes its records down is known where it is asked
(`providers`, `node`); what it gives arrives here as `Row`s.

Identity does not depend on the provider: it is the hash of the natural key, in lower case, and of the ordinal among
rows that are equal in it. The same block, read from whatever source, has the same ids.
"""

import hashlib
from binascii import hexlify
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa

from ingestion_assets.engine.stream import Rejected, Rows
from ingestion_assets.sources.evm import tables

HASH_SHAPE = b"0x" + b"0" * 64
ADDRESS_SHAPE = b"0x" + b"0" * 40
FIRST = b"\t0\t"  # ordinal


class Row(msgspec.Struct, frozen=True, gc=False):
    r"""A record on its way to becoming a row: all but its ordinal and the id that follows from that.

    Every part but the first two is COPY text (escaped, `\N` for NULL), so that a row is written by joining them:
    `when`, `key`, tab, ordinal, tab, `attributes`, `payload`, tab, id, newline.

        when        b"base\t1234567\t2024-01-01T00:00:00+00:00\t"       chain, block_number, block_time
        key         b"0x…hash\t0x…from\t0x…to\t0x…token\t5000000"       lower case; token only where the kind has one;
                                                                    a creation has \N for `to`; no tab at the end
        attributes  b"\\N\tUSD\t6\tetherscan\t"                       the table's columns from after `ordinal` up to and with
                                                                    `provider`, and a tab at the end
        payload     b'{"blockNumber":"1234567",…}'                   see `engine.rows.payload`

    `identity` is `kind.identity(key, attributes)`. `block` is the number in `when`.

    Made in a quarter of a NamedTuple's time, and the garbage collector need not look at any of them.
    """

    block: int
    identity: bytes
    when: bytes
    key: bytes
    attributes: bytes
    payload: bytes | msgspec.Raw  # a view of the answer unless it had to be mended


@dataclass(frozen=True, slots=True)
class Page:
    """The records of one answer, in block order; newest first if they were asked for like that.

    `bad` holds each rejected record with the number of good ones before it. `is_last` says that the range has
    nothing more after this page. `left_out` records were read and are, on purpose, no rows (calls that move nothing,
    for example); `reach` is the block in which the answer ends where such a record is its last. `doubt` is the
    provider's own word that these may not be all.
    """

    good: Sequence[Row]
    bad: Sequence[tuple[int, Rejected]]
    is_last: bool
    left_out: int = 0
    reach: int = -1
    doubt: str | None = None

    @classmethod
    def empty(cls) -> "Page":
        """Nothing, and nothing after it."""
        return cls((), (), is_last=True)

    @property
    def size(self) -> int:
        """Records: good, bad, and left out."""
        return len(self.good) + len(self.bad) + self.left_out

    @property
    def last_block(self) -> int:
        """The block in which the page ends; -1 where no record says so."""
        return max(self.reach, self.good[-1].block if self.good else -1)

    def before(self, block: int) -> "Page":
        """The part of the page that lies before a block."""
        cut = bisect_left(self.good, block, key=lambda row: row.block)
        bad = [bad for bad in self.bad if _lies_before(block, cut, *bad)]
        return Page(self.good[:cut], bad, is_last=False, doubt=self.doubt)

    def since(self, block: int) -> "Page":
        """The rest of the page: what `before` leaves."""
        cut = bisect_left(self.good, block, key=lambda row: row.block)
        bad = [
            (max(0, at - cut), letter) for at, letter in self.bad if not _lies_before(block, cut, at, letter)
        ]
        return Page(self.good[cut:], bad, self.is_last, reach=self.reach, doubt=self.doubt)

    @staticmethod
    def join(pages: Sequence["Page"]) -> "Page":
        """The pages of one question as one."""
        good: list[Row] = []
        bad: list[tuple[int, Rejected]] = []
        for page in pages:
            bad += [(len(good) + at, letter) for at, letter in page.bad]
            good += page.good
        return Page(
            good,
            bad,
            pages[-1].is_last,
            left_out=sum(page.left_out for page in pages),
            reach=max(page.reach for page in pages),
            doubt=next((page.doubt for page in pages if page.doubt), None),
        )

    def reversed(self) -> "Page":
        """The same records in the opposite order."""
        total = len(self.good)
        bad = [(total - at, letter) for at, letter in reversed(self.bad)]
        return Page(self.good[::-1], bad, self.is_last, self.left_out, self.reach, self.doubt)

    def shared(self, other: "Page") -> "Page":
        """The rows that both readings of one question show, each as often as the reading that shows it less."""
        left = Counter(row.identity for row in other.good)
        good: list[Row] = []
        for row in self.good:
            if left[row.identity] > 0:
                left[row.identity] -= 1
                good.append(row)
        return Page(good, self.bad, is_last=False, doubt=self.doubt)

    def rejected(self) -> tuple[Rejected, ...]:
        """The records that cannot become rows."""
        return tuple(letter for _, letter in self.bad)

    def rows(self, kind: "Kind") -> Rows:
        """COPY text. The page must hold whole blocks only: ordinals count the equals of a transaction."""
        seen: dict[bytes, int] = {}
        parts: list[bytes | msgspec.Raw] = []
        add, blake2b, has_twins = parts.extend, hashlib.blake2b, kind.has_twins
        # Every record passes here: written for speed, see benchmarks/logs.md.
        for row in self.good:
            identity, number = row.identity, FIRST
            if has_twins:
                if ordinal := seen.get(identity, 0):
                    number = b"\t%d\t" % ordinal
                seen[identity] = ordinal + 1
            name = hexlify(blake2b(identity + number, digest_size=16).digest())
            add((row.when, row.key, number, row.attributes, row.payload, b"\t", name, b"\n"))
        return Rows(kind.table, b"".join(parts), len(self.good))

    def ids(self, kind: "Kind") -> list[str]:
        """The id of each row, 32 hexadecimal digits, in the order of the rows, as `rows` writes it."""
        seen: Counter[bytes] = Counter()
        found: list[str] = []
        for row in self.good:
            # Written out here and in `rows`, which every record passes: a call would cost it a twentieth of its time.
            number = b"\t%d\t" % seen[row.identity]
            found.append(hashlib.blake2b(row.identity + number, digest_size=16).hexdigest())
            seen[row.identity] += kind.has_twins
        return found


def _lies_before(block: int, cut: int, at: int, letter: Rejected) -> bool:
    # A record whose block cannot be read is kept where it might be lost otherwise.
    return at <= cut if letter.position is None else letter.position < block


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of record, whoever gives it."""

    name: str
    table: sa.Table
    shape: bytes  # of the hexadecimal columns of a natural key, with every digit replaced by 0
    identity: Callable[[bytes, bytes], bytes]  # of natural key and attributes
    has_twins: bool = (
        True  # several equal ones may be real; if not, a repeated one was listed twice by mistake
    )
    subject_columns: tuple[str, ...] = (
        "from_address",
        "to_address",
        "contract_address",
    )  # who is asked about


def _shape(addresses: int) -> bytes:
    return HASH_SHAPE + b"\t" + (ADDRESS_SHAPE + b"\t") * addresses


TRANSACTIONS = Kind(
    "transactions",
    tables.transactions,
    _shape(2),
    lambda key, _attributes: key.partition(b"\t")[0],  # a transaction is its hash
    has_twins=False,
)
INTERNAL_TRANSACTIONS = Kind(
    "internal_transactions",
    tables.internal_transactions,
    _shape(2),
    lambda key, attributes: (
        key + b"\t" + b"\t".join(attributes.split(b"\t", 2)[:2]).lower()
    ),  # type, contract
)
TOKEN_TRANSFERS = Kind(
    "token_transfers",
    tables.token_transfers,
    _shape(3),
    lambda key, _attributes: key,
    subject_columns=("from_address", "to_address"),
)
ERC20_TRANSFERS = Kind(
    "erc20_transfers",
    tables.erc20_transfers,
    _shape(3),
    lambda key, _attributes: key,  # the same transfer has the same id as in token_transfers
    subject_columns=("token_address",),
)

KINDS = (TRANSACTIONS, INTERNAL_TRANSACTIONS, TOKEN_TRANSFERS)  # of watched accounts
EVERY_KIND = (*KINDS, ERC20_TRANSFERS)
