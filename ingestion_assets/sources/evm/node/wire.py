"""JSON-RPC 2.0 over HTTP: single calls and batches, and every way in which the answers may be odd.

https://www.jsonrpc.org/specification. The answers of a batch come in any order; some may be missing, doubled, null, or
errors while others are well; and a provider that finds a batch too large says so in one object instead of a list. What
is missing is asked for again, a refused batch is halved, and the process remembers the size.

Most providers count each call of a batch, so a batch takes as many permits of the budget, and holds a quarter of what the
budget has at most; unless the provider is known to count a batch once. Larger ones are slower, for while one waits until
so much is free at once, what is free already lies idle.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from ingestion_assets.engine.errors import (
    IngestionError,
    Misconfigured,
    QuotaExhausted,
    RateLimited,
    TooMuch,
    Transient,
    Unauthorized,
    Unsupported,
)
from ingestion_assets.engine.http import Client
from ingestion_assets.sources.evm.node.refusals import BatchTooLarge, Reverted, classify

NULL = b"null"
LONGEST = 300  # characters of an error that we repeat
SHARE = 4  # batches that fit into a window of the budget, at least

# Of an eth_call these are the contract's own doing, and asking again gives the same.
FAILED_CALL = re.compile(
    r"revert|out of gas|gas uint64|stack (under|over)flow|stack limit|opcode|evm error|out of bounds|OutOf[A-Z]|write protection"
    r"|code size|execution (aborted|error|failed)|invalid jump",
    re.IGNORECASE,
)


class Call(NamedTuple):
    """A method and its parameters."""

    method: str
    params: tuple[object, ...] = ()


class Fault(msgspec.Struct):
    """The error object of an answer."""

    code: int = 0
    message: str = ""
    data: msgspec.Raw = msgspec.Raw(NULL)


@dataclass(frozen=True, slots=True)
class Refused:
    """An answer that stays an error however often it is asked for."""

    error: IngestionError
    fault: Fault


Answer = msgspec.Raw | Refused


class _Item(msgspec.Struct):
    id: int | str | float | None = None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw = msgspec.Raw(NULL)  # not `| None`: a union with Raw takes nothing but null


_read = msgspec.json.Decoder(list[_Item] | _Item).decode
_read_fault = msgspec.json.Decoder(Fault).decode


class _Odd(Exception):
    """The batch as a whole was refused."""


class Wire:
    """One node.

    Args:
        client: asks it.
        max_batch: calls in one request at most.
        counts_once: a batch counts as one request.
    """

    def __init__(self, client: Client, *, max_batch: int = 50, counts_once: bool = False) -> None:
        self.client = client
        self._counts_once = counts_once
        most = None if counts_once else client.budget.most
        size = max_batch if most is None else min(max_batch, max(1, most // SHARE))
        self._batch = size  # only ever made smaller; a race between threads costs one refused batch

    def one(self, method: str, *params: object, may_be_null: bool = False) -> msgspec.Raw:
        """The result of one call.

        Raises:
            Transient: no answer, or null where that is none.
            IngestionError: what `classify` says of the node's error.
        """
        return self.results([Call(method, params)], may_be_null=may_be_null)[0]

    def results(
        self, calls: Sequence[Call], *, most: int | None = None, may_be_null: bool = False
    ) -> list[msgspec.Raw]:
        """The results of some calls, in their order; raises the first error among them."""
        return [given(answer) for answer in self.ask(calls, most=most, may_be_null=may_be_null)]

    def ask(
        self, calls: Sequence[Call], *, most: int | None = None, may_be_null: bool = False
    ) -> list[Answer]:
        """The answers to some calls, in their order, in as many requests as it takes.

        Args:
            calls: any number of them.
            most: calls in one request at most, for heavy ones.
            may_be_null: null is an answer; if not, it is what a backend says that lags behind, and is asked again.

        Raises:
            Transient: the node answers none of a request's calls, again and again.
        """
        found: dict[int, Answer] = {}
        left = list(range(len(calls)))
        while left:
            size = min(self._batch, most or self._batch)
            todo = left[:size]
            try:
                self._request(calls, todo, found, may_be_null=may_be_null)
            except _Odd:
                self._batch = min(self._batch, max(1, len(todo) // 2))
                most = min(most or self._batch, self._batch)
            left = [number for number in left if number not in found]
        return [found[number] for number in range(len(calls))]

    def _request(
        self, calls: Sequence[Call], todo: list[int], found: dict[int, Answer], *, may_be_null: bool
    ) -> None:
        """One request; what is well goes to `found`, which gains at least one answer."""
        bodies = [
            {"jsonrpc": "2.0", "id": number, "method": calls[number].method, "params": calls[number].params}
            for number in todo
        ]
        body = msgspec.json.encode(bodies if len(bodies) > 1 else bodies[0])

        def read(answer: bytes) -> None:
            found.update(self._sort(answer, calls, todo, may_be_null=may_be_null))

        try:
            self.client.ask({}, read, body=body, permits=1 if self._counts_once else len(todo))
        except (Misconfigured, Unauthorized, TooMuch) as error:
            if any(number in found for number in todo):
                return  # the status says less than the body
            if len(todo) > 1 and not isinstance(error, Unauthorized):
                raise _Odd from None  # some answer a batch that is too large with HTTP 400 or 413
            if not isinstance(error, TooMuch):
                raise
            found[todo[0]] = Refused(error, Fault(message=str(error)))

    def _sort(
        self, body: bytes, calls: Sequence[Call], todo: list[int], *, may_be_null: bool
    ) -> dict[int, Answer]:
        """What is well in an answer; raises why, if nothing is."""
        why: IngestionError | None = None
        found: dict[int, Answer] = {}
        alone = len(todo) == 1
        for item in self._items(body, alone=alone):
            number = todo[0] if alone and item.id is None else _number(item.id)
            if number not in todo:
                if bytes(item.error) != NULL:  # about the batch as a whole
                    fault = _fault(item.error)
                    about_size = not alone and "batch" in fault.message.lower()
                    why = why or (BatchTooLarge(fault.message) if about_size else self._classified(fault))
                continue
            verdict = self._verdict(item, calls[number], alone=alone, may_be_null=may_be_null)
            if isinstance(verdict, IngestionError):
                why = why or verdict
            else:
                found.setdefault(number, verdict)
        if found:
            if isinstance(why, RateLimited):
                self.client.budget.pause(why.retry_after or 1.0)
            return found
        if not alone and isinstance(why, TooMuch | Misconfigured | Unsupported):
            raise _Odd
        raise why or Transient(f"{self.client.host} does not answer {calls[todo[0]].method}")

    def _items(self, body: bytes, *, alone: bool) -> list[_Item]:
        try:
            read = _read(body)
        except RecursionError:
            if not alone:
                raise _Odd from None
            raise TooMuch(f"{self.client.host}: the answer is nested too deeply to be read") from None
        except (msgspec.DecodeError, UnicodeError) as error:
            raise Transient(f"{self.client.host} answers with what is no JSON-RPC: {error}") from None
        return read if isinstance(read, list) else [read]

    def _verdict(self, item: _Item, call: Call, *, alone: bool, may_be_null: bool) -> Answer | IngestionError:
        """An answer, or why it is none yet."""
        if bytes(item.error) != NULL:
            fault = _fault(item.error)
            if call.method == "eth_call" and FAILED_CALL.search(fault.message):
                return Refused(Reverted(self._words(fault)), fault)
            error = self._classified(fault)
            if isinstance(error, Transient | QuotaExhausted) or (isinstance(error, TooMuch) and not alone):
                return error
            return Refused(error, fault)
        if isinstance(item.result, msgspec.UnsetType):
            return Transient(f"{self.client.host} answers {call.method} with neither a result nor an error")
        if not may_be_null and bytes(item.result) == NULL:
            return Transient(f"{self.client.host} answers {call.method} with nothing")
        return item.result

    def _classified(self, fault: Fault) -> IngestionError:
        return classify(fault.code, self._words(fault), fault.data)

    def _words(self, fault: Fault) -> str:
        return self.client.redact(fault.message)[:LONGEST]


def given(answer: Answer) -> msgspec.Raw:
    """The result; raises where there is none."""
    if isinstance(answer, Refused):
        raise answer.error
    return answer


def _number(name: float | str | None) -> int:
    """The number of a call by the id that came back; -1 where it is none of ours."""
    if isinstance(name, str):
        return int(name) if name.isascii() and name.isdigit() else -1
    return int(name) if name is not None else -1


def _fault(error: msgspec.Raw) -> Fault:
    try:
        return _read_fault(error)
    except (msgspec.DecodeError, UnicodeError):
        return Fault(
            message=bytes(error).decode(errors="replace")
        )  # a bare text, or an object of its own kind
