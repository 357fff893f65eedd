"""What a provider is: a system that answers questions about one chain, in our terms.

Belongs here: the protocol, the words that questions and answers are made of, and nothing that asks. Each kind
of provider is one module in `providers`; whoever reads a chain knows only what stands here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from ingestion_assets.sources.evm.records import Kind, Page

ALL = "*"  # as a subject of ERC-20 transfers: every token


@dataclass(frozen=True, slots=True)
class Header:
    """What identifies a block. Hashes are 0x…, lower case; `time` is UTC."""

    number: int
    hash: str
    parent_hash: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Question:
    """Which records of `kind` name one of `subjects` in the blocks `lo`..`hi` (inclusive)?

    Subjects are addresses in lower case: watched accounts, or for ERC-20 transfers token contracts (or `ALL`).
    """

    kind: Kind
    subjects: tuple[str, ...]
    lo: int
    hi: int


@dataclass(frozen=True, slots=True)
class Reading:
    """A part of an answer: the records of the blocks `lo`..`hi`, for all subjects of the question.

    `page` holds whole blocks, oldest first. `level` is the evidence (`engine.stream.LEVELS`) that these are all;
    where there is none, `doubt` says why, and the range stays a gap.
    """

    lo: int
    hi: int
    page: Page
    level: str = "stated"
    doubt: str | None = None


class Provider(Protocol):
    """One provider of one chain. Every method raises `engine.errors`; none of them loops for ever."""

    name: str
    at_once: (
        int | None
    )  # subjects that one question may hold; None: as many as there are, for the price of one

    def read(self, question: Question) -> Iterator[Reading]:
        """The answer, in readings that follow each other without a hole from `question.lo` to `question.hi`.

        Raises:
            Unsupported: it has no answer to this kind of question on this chain or plan.
            Transient: it failed in passing; readings that were given before stay true.
        """
        ...

    def head(self) -> int:
        """The newest block it shows."""
        ...

    def tagged(self, tag: str) -> int:
        """The block its node gives this tag (`finalized`, `safe`)."""
        ...

    def header(self, block: int) -> Header | None:
        """What identifies a block; None where it does not exist (yet)."""
        ...

    def block_before(self, moment: datetime) -> int | None:
        """The last block not younger than `moment`; None where the chain begins later."""
        ...

    def chain_id(self) -> int | None:
        """The number of the chain it serves; None where it cannot tell."""
        ...

    def close(self) -> None:
        """Close its connections."""
        ...


@runtime_checkable
class State(Protocol):
    """What a provider with the chain's past state can tell as well. Amounts are whole numbers of the smallest unit."""

    def balance(self, address: str, block: int) -> int:
        """Wei after `block`."""
        ...

    def nonce(self, address: str, block: int) -> int:
        """Transactions sent up to and with `block`."""
        ...

    def token_balance(self, token: str, address: str, block: int) -> int:
        """ERC-20 `balanceOf` after `block`."""
        ...

    def has_code(self, address: str, block: int) -> bool:
        """Whether it is a contract."""
        ...
