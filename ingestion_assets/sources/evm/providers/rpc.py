"""A node that speaks JSON-RPC: blocks with receipts, traces, logs, and the chain's state. https://ethereum.github.io/execution-apis"""

import bisect
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Annotated, ClassVar, Literal

import msgspec
from pydantic import Field

from ingestion_assets.engine.errors import (
    Misconfigured,
    SchemaDrift,
    TooMuch,
    Transient,
    Unsupported,
)
from ingestion_assets.engine.http import Client, Secrets
from ingestion_assets.engine.store import Store
from ingestion_assets.sources.evm.fields import Unreadable
from ingestion_assets.sources.evm.node.blocks import Blocks, time_of
from ingestion_assets.sources.evm.node.candidates import Candidates
from ingestion_assets.sources.evm.node.logs import ENOUGH, FIRST, Filtered, Whole
from ingestion_assets.sources.evm.node.ranges import LogRanges
from ingestion_assets.sources.evm.node.refusals import Reverted
from ingestion_assets.sources.evm.node.shapes import Block, octets, quantity, read_block
from ingestion_assets.sources.evm.node.tokens import Tokens
from ingestion_assets.sources.evm.node.traces import Traces
from ingestion_assets.sources.evm.node.transactions import Transactions
from ingestion_assets.sources.evm.node.transfers import Transfers, topic_of
from ingestion_assets.sources.evm.node.windows import Verdict, readings, side_by_side
from ingestion_assets.sources.evm.node.wire import Wire
from ingestion_assets.sources.evm.provider import ALL, Header, Question, Reading
from ingestion_assets.sources.evm.providers.base import ProviderConfig
from ingestion_assets.sources.evm.records import INTERNAL_TRANSACTIONS, TRANSACTIONS
from ingestion_assets.sources.section import Whole as Number

BALANCE_OF = "0x70a08231"  # selector of balanceOf(address)
SETTLED = 1_000  # blocks below the head, whose times can no longer change
BATCH = 50
DELEGATED = (
    "0xef0100"  # an account that lends itself the code of a contract: https://eips.ethereum.org/EIPS/eip-7702
)

Evidence = Literal["stated", "header", "receipts"]
Window = tuple[Callable[[int, int], int], Callable[[int, int], Sequence[Reading]]]


class RpcProvider(ProviderConfig):
    """A node, or a service in front of many. The url may hold `{key}`; without it a key goes into a header."""

    is_node: ClassVar[bool] = True
    errors_in_body: ClassVar[bool] = True

    kind: Literal["rpc"]
    max_batch: Annotated[Number, Field(ge=1, le=1_000)] = BATCH  # calls in one request
    batch_counts_once: bool = False  # most services count each call of a batch against their limits
    in_flight: Annotated[Number, Field(ge=1, le=64)] = 4  # questions that are under way at the same time
    blocks_per_question: Annotated[Number, Field(ge=1, le=10_000)] = 200  # what one commit holds at most
    evidence: Evidence = "header"  # what is asked for beside the records, to show that they are all

    def secrets(self, key: str | None) -> Secrets:
        """In the path, or as a bearer token."""
        if not key:
            return Secrets()
        if "{key}" in str(self.url) or "%7bkey%7d" in str(self.url).lower():
            return Secrets(path=key)
        return Secrets(headers={"Authorization": f"Bearer {key}"})

    def open(self, client: Client, *, name: str, chain: str, chain_id: int, store: Store) -> "Rpc":  # noqa: ARG002 - of all kinds
        """See `ProviderConfig`."""
        return Rpc(
            client,
            name=name,
            chain=chain,
            store=store,
            max_batch=self.max_batch,
            batch_counts_once=self.batch_counts_once,
            in_flight=self.in_flight,
            blocks_per_question=self.blocks_per_question,
            evidence=self.evidence,
        )


class Rpc:
    """One chain at one node.

    Args:
        client: asks it.
        name: of the provider, for the column and for what is learnt.
        chain: its name here.
        store: keeps what is learnt.
        max_batch: calls in one request.
        batch_counts_once: a batch takes one permit of the budget, not one for each call.
        in_flight: windows that are read side by side.
        blocks_per_question: blocks in one reading, where no answer's size decides that.
        evidence: what readings are to prove.
    """

    at_once: int | None = None

    def __init__(
        self,
        client: Client,
        *,
        name: str,
        chain: str,
        store: Store,
        max_batch: int = BATCH,
        batch_counts_once: bool = False,
        in_flight: int = 4,
        blocks_per_question: int = 200,
        evidence: Evidence = "header",
    ) -> None:
        self.name = name
        self._chain = chain
        self._client = client
        self._store = store
        self._window = blocks_per_question
        self._evidence = evidence
        self._in_flight = in_flight
        self._wire = Wire(client, max_batch=max_batch, counts_once=batch_counts_once)
        self._blocks = Blocks(self._wire, root=evidence == "receipts")
        self._tokens = Tokens(self._wire, chain, store)
        self._traces = Traces(self._blocks, chain, name)
        self._pool = ThreadPoolExecutor(in_flight, thread_name_prefix=f"{chain}-{name}")
        self._ranges: dict[str, LogRanges] = {}
        self._times: dict[int, datetime] = {}
        self._locating = threading.Lock()

    def read(self, question: Question) -> Iterator[Reading]:
        """See `Provider`. What the node shows is given before it is said that it shows no more."""
        head = self.head()
        if question.lo <= head:
            cut, read = self._windows(question)
            blocks = (question.lo, min(question.hi, head))
            yield from side_by_side(self._pool, self._in_flight, blocks, cut, read)
        if question.hi > head:
            raise Transient(f"{self._client.host} shows blocks up to {head}, asked for was {question.hi}")

    def _windows(self, question: Question) -> Window:
        """How long its windows are, and how one is read."""
        subjects = frozenset(question.subjects)
        if question.kind is TRANSACTIONS:
            transactions = Transactions(self._blocks, self._chain, self.name, subjects)
            level = "receipts" if self._evidence == "receipts" else "header"
            return self._by_blocks(transactions.read, level)
        if question.kind is INTERNAL_TRANSACTIONS:
            return self._by_blocks(lambda lo, hi: self._traces.read(subjects, lo, hi), "stated")
        return self._of_transfers(question, None if ALL in subjects else subjects)

    def _by_blocks(self, read: Callable[[int, int], dict[int, Verdict]], level: str) -> Window:
        def window(lo: int, hi: int) -> Sequence[Reading]:
            return readings(self._client.host, lo, hi, read(lo, hi), level)

        return lambda lo, hi: min(hi, lo + self._window - 1), window

    def _of_transfers(self, question: Question, subjects: frozenset[str] | None) -> Window:
        transfers = Transfers(question.kind, subjects, self._chain, self.name, self._tokens)
        level = "receipts" if self._evidence == "receipts" else "header"
        candidates = Candidates(self._blocks, transfers, window=self._window, level=level)
        if self._evidence == "stated":
            ranges = (
                self._ranges_for("transfers of all tokens", FIRST)
                if subjects is None
                else self._ranges_for(question.kind.name)
            )
            filtered = Filtered(self._blocks, ranges, transfers, candidates)
            return filtered.cut, filtered.read
        if self._evidence == "header" and subjects is None:
            whole = Whole(self._blocks, self._ranges_for("all logs", FIRST), transfers, candidates)
            return whole.cut, whole.read
        return candidates.cut, candidates.read

    def _ranges_for(self, kind: str, first: int = 2_000) -> LogRanges:
        if kind not in self._ranges:
            self._ranges[kind] = LogRanges(
                self._store, self._chain, self.name, kind, first=first, wanted=ENOUGH
            )
        return self._ranges[kind]

    def head(self) -> int:
        """See `Provider`."""
        return self._quantity("eth_blockNumber")

    def tagged(self, tag: str) -> int:
        """See `Provider`."""
        block = self._block(tag)
        if block is None:
            raise Unsupported(
                f"{self._client.host} does not know the tag {tag!r}: give the chain a finality of {{depth: …}}"
            )
        try:
            return quantity(block.number)
        except Unreadable as error:
            raise SchemaDrift(f"{self._client.host}: the block tagged {tag}: {error}") from error

    def header(self, block: int) -> Header | None:
        """See `Provider`."""
        found = self._block(hex(block))
        if found is None and block <= self.head():  # another backend, which lags behind
            found = self._block(hex(block))
            if found is None:
                raise Transient(f"{self._client.host} does not show block {block}, which is below its head")
        if found is None:
            return None
        try:
            return Header(block, found.hash.lower(), found.parent_hash.lower(), time_of(found))
        except Unreadable as error:
            raise SchemaDrift(f"{self._client.host}: block {block}: {error}") from error

    def block_before(self, moment: datetime) -> int | None:
        """See `Provider`. Looks where even block times would have it and in the middle of what is left, by turns."""
        with self._locating:
            head = self.head()
            known = sorted(self._times)  # times that were seen are remembered
            at = bisect.bisect_right(known, moment, key=self._times.__getitem__)
            lo, hi = known[at - 1] if at else 0, min(known[at], head) if at < len(known) else head
            early, late = self._time(lo, head), self._time(hi, head)
            if early > moment:
                return None
            if late <= moment:
                return hi
            is_even = True
            while hi - lo > 1:
                share = (moment - early) / (late - early) if is_even else 0.5
                block = min(max(lo + int(share * (hi - lo)), lo + 1), hi - 1)
                time = self._time(block, head)
                if time <= moment:
                    lo, early = block, time
                else:
                    hi, late = block, time
                is_even = not is_even
            return lo

    def _time(self, block: int, head: int) -> datetime:
        if block in self._times:
            return self._times[block]
        header = self.header(block)
        if header is None:
            raise Transient(f"{self._client.host} does not show block {block}, and its head is {head}")
        if block <= head - SETTLED:
            self._times[block] = header.time
        return header.time

    def chain_id(self) -> int | None:
        """See `Provider`."""
        return self._quantity("eth_chainId")

    def balance(self, address: str, block: int) -> int:
        """See `State`."""
        return self._quantity("eth_getBalance", address, hex(block))

    def nonce(self, address: str, block: int) -> int:
        """See `State`."""
        return self._quantity("eth_getTransactionCount", address, hex(block))

    def token_balance(self, token: str, address: str, block: int) -> int:
        """See `State`.

        Raises:
            Misconfigured: it is no ERC-20 token.
        """
        data = BALANCE_OF + topic_of(address)[2:]
        said = f"{self._chain}: {token} gives no balance, so it is no ERC-20 token"
        try:
            returned = octets(self._text("eth_call", {"to": token, "data": data}, hex(block)))
        except (Reverted, TooMuch, Unreadable) as error:
            raise Misconfigured(said) from error
        if not returned:
            raise Misconfigured(said)
        return int.from_bytes(returned[:32], "big")

    def has_code(self, address: str, block: int) -> bool:
        """See `State`."""
        code = self._text("eth_getCode", address, hex(block)).lower()
        return len(code) > len("0x") and not code.startswith(DELEGATED)

    def close(self) -> None:
        """See `Provider`. Windows that nobody waits for any longer are given up."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _block(self, tag: str) -> Block | None:
        answer = self._wire.one("eth_getBlockByNumber", tag, False, may_be_null=True)
        if bytes(answer) == b"null":
            return None
        try:
            return read_block(answer)
        except msgspec.DecodeError as error:
            raise SchemaDrift(f"{self._client.host}: block {tag} cannot be read: {error}") from error

    def _text(self, method: str, *params: object) -> str:
        answer = self._wire.one(method, *params)
        try:
            return msgspec.json.decode(answer, type=str)
        except msgspec.DecodeError as error:
            raise SchemaDrift(f"{self._client.host}: the answer to {method} is no text: {error}") from error

    def _quantity(self, method: str, *params: object) -> int:
        try:
            return quantity(self._text(method, *params))
        except Unreadable as error:
            raise SchemaDrift(f"{self._client.host}: {method}: {error}") from error
