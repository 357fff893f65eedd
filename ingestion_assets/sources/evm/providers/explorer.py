"""What all explorers that list by account share: how they are asked, what their errors mean, how blocks are told.

Belongs here: the Etherscan family, https://docs.etherscan.io/etherscan-v2. Everything but a page of the network's
own arrives as HTTP 200; an error is a `status` of "0" and a sentence in `result` or `message`. An empty answer
is one of a few sentences, and never just no records. A kind of explorer is a module of its own that brings a
`Dialect` and says what else it does in its own way.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import TypeVar

import msgspec

from ingestion_assets.engine import rows
from ingestion_assets.engine.budget import next_midnight
from ingestion_assets.engine.errors import (
    IngestionError,
    Misconfigured,
    QuotaExhausted,
    RateLimited,
    SchemaDrift,
    TooMuch,
    Transient,
    Unauthorized,
    Unsupported,
)
from ingestion_assets.engine.http import Client
from ingestion_assets.sources.evm.paging import LongestPages, walk
from ingestion_assets.sources.evm.provider import Header, Question, Reading
from ingestion_assets.sources.evm.providers.listing import ETHERSCAN_FAMILY, Listing
from ingestion_assets.sources.evm.records import Kind, Page

T = TypeVar("T")
Errors = Mapping[str, Callable[[str], IngestionError]]
Params = Mapping[str, str | int]


def _rate_limited(text: str) -> IngestionError:
    allowed = re.search(r"\((\d+)/sec\)", text)
    return RateLimited(text, retry_after=1.0, allowed=int(allowed[1]) if allowed else None)


def _quota(text: str) -> IngestionError:
    midnight = next_midnight()
    return QuotaExhausted(f"{text}; it is full again at {midnight:%Y-%m-%d %H:%M} UTC", until=midnight)


def _unauthorized(text: str) -> IngestionError:
    return Unauthorized(f"{text}: check the key that key_env names in sources.yaml, and its plan")


# How an error's text begins, in lower case -> what to do about it. First match wins, those of the dialect first.
ERRORS: Errors = {
    "max daily rate limit reached": _quota,
    "max rate limit reached": _rate_limited,
    "max calls per sec rate limit reached": _rate_limited,
    "too many requests": _rate_limited,
    "too many invalid api key attempts": _unauthorized,
    "invalid api key": _unauthorized,
    "missing/invalid api key": _unauthorized,
    "missing or unsupported chainid parameter": Misconfigured,
    "free api access is not supported for this chain": Unsupported,
    "free api access is temporarily unavailable": Transient,
    "sorry, it looks like you are trying to access an api pro endpoint": Unsupported,
    "result window is too large": TooMuch,
    "query timeout occured": TooMuch,
    "error! invalid address format": Misconfigured,
    "error! missing or invalid action name": Misconfigured,
    "error! missing or invalid module name": Misconfigured,
    "error! block number already pass": Misconfigured,
    "error! invalid chain": Misconfigured,
    "you are using a deprecated v1 endpoint": Misconfigured,
}

EMPTY = frozenset(
    {
        "No transactions found",
        "No records found",
        "No token transfers found",
        "No blocks found",
        "No internal transactions found",
        "No logs found",
    }
)

# https://ethereum.org/developers/docs/apis/json-rpc/#quantities-encoding; below 0 there is no block yet
QUANTITY = re.compile(r"-?0x[0-9a-fA-F]{1,15}")
BLOCK = re.compile(r"[0-9]{1,18}", re.ASCII)
HASH = re.compile(r"0x[0-9a-fA-F]{64}")

NO_BLOCK = ("Error! No closest block found", "Block does not exist")
FAR_FUTURE = "Error! Block timestamp too far in the future"
PENDING = "2"  # a status: some blocks of the range are not indexed yet, so these records are not all


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one explorer calls things."""

    listings: tuple[Listing, ...] = ETHERSCAN_FAMILY
    errors: Errors = field(default_factory=dict)
    ok_may_be_empty: bool = False  # an OK without records means that there are none
    may_be_pending: bool = False  # it lists what it has while it indexes, and says so

    def listing(self, kind: Kind) -> Listing | None:
        """How it lists this kind; None if not at all."""
        return next((listing for listing in self.listings if listing.kind is kind), None)


class Found(msgspec.Struct, rename="camel"):
    """How some say the block of a time."""

    block_number: str


class Envelope(msgspec.Struct):
    """What stands around every answer but those of the proxy module."""

    status: str
    message: str = ""
    result: list[msgspec.Raw] | Found | str | None = None

    @property
    def said(self) -> str:
        """The result as a sentence."""
        return self.result if isinstance(self.result, str) else ""


class Block(msgspec.Struct, rename="camel"):
    """A block as nodes write it. Of the block of a tag only the number is needed."""

    number: str
    timestamp: str = ""
    hash: str = ""
    parent_hash: str = ""


class Rpc(msgspec.Struct):
    """An answer of the proxy module: a JSON-RPC object, or the envelope when it is an error of the explorer's own."""

    result: Block | str | None = None
    status: str | None = None
    message: str = ""
    error: msgspec.Raw = msgspec.Raw(b"null")  # an object that nodes fill as they like


_envelope = msgspec.json.Decoder(Envelope)
_rpc = msgspec.json.Decoder(Rpc)


class Explorer:
    """One chain at one explorer. A `provider.Provider`.

    Args:
        client: asks it, with the key.
        name: how its rows and its evidence call it.
        chain: the chain's name here.
        page_size: records asked for at once; a plan's cap below it is noticed.
        result_window: page × offset may not pass it.
    """

    at_once: int | None = 1
    dialect = Dialect()

    def __init__(
        self, client: Client, *, name: str, chain: str, page_size: int = 1_000, result_window: int = 10_000
    ) -> None:
        self.name = name
        self._client = client
        self._chain = chain
        self._page_size = min(page_size, result_window)
        self.pages_per_window = result_window // self._page_size
        self._longest = LongestPages()

    def read(self, question: Question) -> Iterator[Reading]:
        """The records of one account. See `Provider`."""
        self._listing(question.kind)
        yield from walk(self, question)

    def page(
        self, kind: Kind, address: str, lo: int, hi: int, *, page: int = 1, newest_first: bool = False
    ) -> Page:
        """One page of an account's records in the blocks lo..hi."""
        listing = self._listing(kind)
        params: dict[str, str | int] = {
            "address": address,
            "startblock": lo,
            "endblock": hi,
            "page": page,
            "offset": self._page_size,
            "sort": "desc" if newest_first else "asc",
        }

        def read(body: bytes) -> Page:
            records, doubt = self._list(body)
            return listing.page(
                records,
                chain=self._chain,
                provider=self.name,
                address=address,
                blocks=(lo, hi),
                is_last=self._longest.is_last(kind, len(records), self._page_size),
                newest_first=newest_first,
                doubt=doubt,
            )

        return self._ask("account", listing.action, params, read)

    def listed(self, action: str, params: Params) -> list[msgspec.Raw]:
        """The records of a list of the account module as they are, for whoever passes them on."""
        return self._ask("account", action, params, lambda body: self._list(body)[0])

    def head(self) -> int:
        """The newest block the explorer shows."""
        return self._proxy("eth_blockNumber", {}, self._head)

    def tagged(self, tag: str) -> int:
        """The block its node gives this tag."""
        block = self._block(tag)
        if block is None:
            raise self._no_tag(tag)
        return self._quantity(block.number)

    def header(self, block: int) -> Header | None:
        """What identifies a block; None where it does not exist (yet)."""
        found = self._block(hex(block))
        return None if found is None else self._header(found, block)

    def block_before(self, moment: datetime) -> int | None:
        """The last block not younger than `moment`. https://docs.etherscan.io/api-reference/endpoint/getblocknobytime"""
        params: Params = {"timestamp": int(moment.timestamp()), "closest": "before"}
        return self._ask("block", "getblocknobytime", params, self._found)

    def chain_id(self) -> int | None:
        """None: an explorer of this kind does not tell."""
        return None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _listing(self, kind: Kind) -> Listing:
        listing = self.dialect.listing(kind)
        if listing is None:
            what = kind.name.replace("_", " ")
            raise Unsupported(
                f"{self.name} has no list of {what} for {self._chain}: add a provider of the kind rpc"
            )
        return listing

    def _ask(self, module: str, action: str, params: Params, read: Callable[[bytes], T]) -> T:
        return self._client.ask({"module": module, "action": action, **params}, read)

    def _proxy(self, method: str, params: Params, take: Callable[[Block | str | None], T]) -> T:
        return self._ask("proxy", method, params, lambda body: take(self._result(body)))

    def _block(self, tag: str) -> Block | None:
        return self._proxy("eth_getBlockByNumber", {"tag": tag, "boolean": "false"}, self._one_block)

    def _head(self, result: Block | str | None) -> int:
        if not result:  # a node that starts, or a gateway that lost it
            raise Transient(f"{self._client.host} gave no number for its newest block")
        return self._quantity(result)

    def _one_block(self, result: Block | str | None) -> Block | None:
        if not isinstance(result, str):
            return result
        if not result:
            raise Transient(f"{self._client.host} gave nothing for a block")
        raise SchemaDrift(f"{self._client.host}: a block is an object, found {self._quoted(result)}")

    def _header(self, found: Block, block: int) -> Header:
        number, seconds = self._quantity(found.number), self._quantity(found.timestamp)
        if number != block:
            raise Transient(f"{self._client.host} answered with block {number}, asked for was {block}")
        return self._identified(block, found.hash, found.parent_hash, seconds)

    def _identified(self, block: int, own: str, parent: str, seconds: int) -> Header:
        if not (HASH.fullmatch(own) and HASH.fullmatch(parent)):
            raise SchemaDrift(
                f"{self._client.host}: block {block} has no hash: {self._quoted(f'{own} {parent}')}"
            )
        try:
            time = datetime.fromtimestamp(seconds, UTC)
        except (ValueError, OverflowError, OSError) as error:
            raise SchemaDrift(f"{self._client.host}: the time of block {block} is {seconds}") from error
        return Header(block, own.lower(), parent.lower(), time)

    def _quantity(self, number: Block | str) -> int:
        if isinstance(number, str) and QUANTITY.fullmatch(number):
            return int(number, 16)
        raise SchemaDrift(
            f"{self._client.host}: {self._quoted(str(number))} is no number as nodes write them"
        )

    def _found(self, body: bytes) -> int | None:
        envelope = self._decode(_envelope, body)
        text = envelope.result.block_number if isinstance(envelope.result, Found) else envelope.said
        if envelope.status == "1" and BLOCK.fullmatch(text):
            return int(text)
        if text.startswith(NO_BLOCK) or envelope.message.startswith(NO_BLOCK):
            return None
        if text.startswith(FAR_FUTURE):
            return self.head()
        raise self._error(envelope.status, text, envelope.message)

    def _result(self, body: bytes) -> Block | str | None:
        answer = self._decode(_rpc, body)
        if answer.status is not None:  # an error of the explorer, not of its node
            raise self._error(
                answer.status, answer.result if isinstance(answer.result, str) else "", answer.message
            )
        if bytes(answer.error) != b"null":
            said = self._client.redact(bytes(answer.error).decode(errors="replace"))
            raise Transient(f"{self._client.host}: its node says {said[:300]}")
        return answer.result

    def _list(self, body: bytes) -> tuple[list[msgspec.Raw], str | None]:
        """The records of a list, and why they may not be all."""
        envelope = self._decode(_envelope, body)
        records = envelope.result if isinstance(envelope.result, list) else None
        if envelope.status == PENDING and self.dialect.may_be_pending:
            return records or [], f"{self._client.host}: {self._client.redact(envelope.message)[:200]}"
        # No records and no word about it may be a hiccup: empty is what the explorer calls empty.
        if records is not None and (
            envelope.message in EMPTY
            or (envelope.status == "1" and (records or self.dialect.ok_may_be_empty))
        ):
            return records, None
        raise self._error(envelope.status, envelope.said, envelope.message)

    def _decode(self, decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
        """Decode, telling an answer that was cut or is no JSON (ask again) from one of another shape (a person must look)."""
        host = self._client.host
        try:
            try:
                return decoder.decode(body)
            except msgspec.DecodeError:  # perhaps only a lone surrogate in somebody's token name
                return decoder.decode(rows.mend(body))
        except msgspec.ValidationError as error:
            raise SchemaDrift(f"{host}: the answer has another shape than documented: {error}") from error
        except RecursionError as error:
            raise SchemaDrift(f"{host}: the answer is nested deeper than any documented one") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            said = self._quoted(body.decode(errors="replace"))
            raise Transient(f"{host}: the answer is no JSON ({error}): {said}") from error

    def _quoted(self, text: str) -> str:
        """The beginning of what the source said; it may echo the whole question, key included."""
        return repr(self._client.redact(text)[:80])

    def _no_tag(self, tag: str) -> Unsupported:
        return Unsupported(
            f"{self._client.host} does not know the tag {tag!r}: give {self._chain} a finality of {{depth: …}}"
        )

    def _error(self, status: str, *texts: str) -> IngestionError:
        said = [self._client.redact(text) for text in texts if text]
        for beginning, error in chain(self.dialect.errors.items(), ERRORS.items()):
            for text in said:
                if text.lower().startswith(beginning):
                    return error(f"{self._client.host}: {text}")
        heard = " / ".join(said)[:300] or "nothing"
        return Transient(
            f"{self._client.host} gave neither records nor an error we know: status {status}, {heard}"
        )


class NumberedExplorer(Explorer):
    """An explorer that is asked for a chain by its number: what it is asked for, it gives or refuses.

    Args:
        client: see `Explorer`.
        name: see `Explorer`.
        chain: see `Explorer`.
        chain_id: the number of the chain.
        page_size: see `Explorer`.
        result_window: see `Explorer`.
    """

    def __init__(
        self,
        client: Client,
        *,
        name: str,
        chain: str,
        chain_id: int,
        page_size: int = 1_000,
        result_window: int = 10_000,
    ) -> None:
        super().__init__(client, name=name, chain=chain, page_size=page_size, result_window=result_window)
        self._chain_id = chain_id

    def chain_id(self) -> int:
        """The number that is asked for."""
        return self._chain_id
