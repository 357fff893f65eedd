"""The Etherscan V2 API: how it is asked, and what its errors mean. https://docs.etherscan.io/etherscan-v2

Everything but a page of the network's own arrives as HTTP 200; an error is a `status` of "0" and a
sentence in `result` or `message`. An empty answer is one of a few sentences, and never just no records.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
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
from ingestion_assets.sources.evm.records import Kind, Page

T = TypeVar("T")

EMPTY = frozenset(
    {
        "No transactions found",
        "No records found",
        "No token transfers found",
        "No blocks found",
        "No internal transactions found",
    }
)


def _rate_limited(text: str) -> IngestionError:
    allowed = re.search(r"\((\d+)/sec\)", text)
    return RateLimited(text, retry_after=1.0, allowed=int(allowed[1]) if allowed else None)


def _quota(text: str) -> IngestionError:
    midnight = next_midnight()
    return QuotaExhausted(f"{text}; it is full again at {midnight:%Y-%m-%d %H:%M} UTC", until=midnight)


# How an error's text begins -> what to do about it. First match wins.
ERRORS: dict[str, Callable[[str], IngestionError]] = {
    "Max daily rate limit reached": _quota,
    "Max rate limit reached": _rate_limited,
    "Max calls per sec rate limit reached": _rate_limited,
    "Too many invalid api key attempts": Unauthorized,
    "Invalid API Key": Unauthorized,
    "Missing/Invalid API Key": Unauthorized,
    "Missing or unsupported chainid parameter": Misconfigured,
    "Free API access is not supported for this chain": Unsupported,
    "Free API access is temporarily unavailable": Transient,
    "Sorry, it looks like you are trying to access an API Pro endpoint": Unsupported,
    "Result window is too large": TooMuch,
    "Query Timeout occured": TooMuch,
    "Error! Invalid address format": Misconfigured,
    "Error! Missing Or invalid Action name": Misconfigured,
    "Error! Missing Or invalid Module name": Misconfigured,
    "Error! Block number already pass": Misconfigured,
    "Error! Invalid chain": Misconfigured,
    "You are using a deprecated V1 endpoint": Misconfigured,
}

# https://ethereum.org/developers/docs/apis/json-rpc/#quantities-encoding; below 0 there is no block yet
QUANTITY = re.compile(r"-?0x[0-9a-fA-F]{1,15}")
BLOCK = re.compile(r"[0-9]{1,18}")

NO_BLOCK = "Error! No closest block found"
FAR_FUTURE = "Error! Block timestamp too far in the future"


class Envelope(msgspec.Struct):
    """What stands around every answer but those of the proxy module."""

    status: str
    message: str = ""
    result: list[msgspec.Raw] | str | None = None


class Header(msgspec.Struct):
    """What we need of a block."""

    number: str
    timestamp: str


class Rpc(msgspec.Struct):
    """An answer of the proxy module: a JSON-RPC object, or the envelope when it is an error of Etherscan's own."""

    result: Header | str | None = None
    status: str | None = None
    message: str = ""
    error: msgspec.Raw = msgspec.Raw(b"null")  # an object that nodes fill as they like


_envelope = msgspec.json.Decoder(Envelope)
_rpc = msgspec.json.Decoder(Rpc)


class Etherscan:
    """One chain at one explorer that speaks Etherscan V2.

    Args:
        client: asks it, with the key.
        chain: its name here.
        chain_id: its number there.
        page_size: records asked for at once; a plan's cap below it is noticed.
        result_window: page × offset may not pass it.
    """

    name = "etherscan"

    def __init__(
        self,
        client: Client,
        chain: str,
        chain_id: int,
        *,
        page_size: int = 1_000,
        result_window: int = 10_000,
    ) -> None:
        self._client = client
        self._chain = chain
        self._chain_id = chain_id
        self._page_size = min(page_size, result_window)
        self.pages_per_window = result_window // self._page_size

    def page(
        self, kind: Kind, address: str, lo: int, hi: int, *, page: int = 1, newest_first: bool = False
    ) -> Page:
        """One page of an account's records in the blocks lo..hi."""
        params: dict[str, str | int] = {
            "module": "account",
            "action": kind.action,
            "address": address,
            "startblock": lo,
            "endblock": hi,
            "page": page,
            "offset": self._page_size,
            "sort": "desc" if newest_first else "asc",
        }

        def read(body: bytes) -> Page:
            return kind.page(
                self._list(body),
                chain=self._chain,
                provider=self.name,
                address=address,
                blocks=(lo, hi),
                asked=self._page_size,
                newest_first=newest_first,
            )

        return self._ask(params, read)

    def head(self) -> int:
        """The newest block the explorer shows."""
        return self._rpc({"action": "eth_blockNumber"}, self._head)

    def tagged(self, tag: str) -> int:
        """The block its node gives this tag."""
        header = self._block(tag)
        if header is None:
            raise Unsupported(
                f"{self._client.host} does not know the tag {tag!r}: give the chain a finality of {{depth: …}}"
            )
        return self._quantity(header.number)

    def time_of(self, block: int) -> datetime | None:
        """When a block was made."""
        header = self._block(hex(block))
        if header is None:
            return None
        seconds = self._quantity(header.timestamp)
        try:
            return datetime.fromtimestamp(seconds, UTC)
        except (ValueError, OverflowError, OSError) as error:
            raise SchemaDrift(f"{self._client.host}: the time of block {block} is {seconds}") from error

    def block_before(self, moment: datetime) -> int | None:
        """The last block not younger than `moment`. https://docs.etherscan.io/api-reference/endpoint/getblocknobytime"""
        params: dict[str, str | int] = {
            "module": "block",
            "action": "getblocknobytime",
            "timestamp": int(moment.timestamp()),
            "closest": "before",
        }
        return self._ask(params, self._block_number)

    def _block(self, tag: str) -> Header | None:
        return self._rpc({"action": "eth_getBlockByNumber", "tag": tag, "boolean": "false"}, self._header)

    def _head(self, result: Header | str | None) -> int:
        if not result:  # a node that starts, or a gateway that lost it
            raise Transient(f"{self._client.host} gave no number for its newest block")
        return self._quantity(result)

    def _header(self, result: Header | str | None) -> Header | None:
        if not isinstance(result, str):
            return result
        if not result:
            raise Transient(f"{self._client.host} gave nothing for a block")
        raise SchemaDrift(f"{self._client.host}: a block is an object, found {self._quoted(result)}")

    def _quantity(self, number: Header | str) -> int:
        if isinstance(number, str) and QUANTITY.fullmatch(number):
            return int(number, 16)
        raise SchemaDrift(
            f"{self._client.host}: {self._quoted(str(number))} is no number as nodes write them"
        )

    def _block_number(self, body: bytes) -> int | None:
        envelope = self._decode(_envelope, body)
        text = envelope.result if isinstance(envelope.result, str) else ""
        if envelope.status == "1" and BLOCK.fullmatch(text):
            return int(text)
        if text.startswith(NO_BLOCK):
            return None
        if text.startswith(FAR_FUTURE):
            return self.head()
        raise self._error(envelope.status, text, envelope.message)

    def _rpc(self, params: Mapping[str, str | int], take: Callable[[Header | str | None], T]) -> T:
        def read(body: bytes) -> T:
            answer = self._decode(_rpc, body)
            if answer.status is not None:  # an error of the explorer, not of its node
                raise self._error(
                    answer.status, answer.result if isinstance(answer.result, str) else "", answer.message
                )
            if bytes(answer.error) != b"null":
                said = self._client.redact(bytes(answer.error).decode(errors="replace"))
                raise Transient(f"{self._client.host}: its node says {said[:300]}")
            return take(answer.result)

        return self._ask({"module": "proxy", **params}, read)

    def _ask(self, params: Mapping[str, str | int], read: Callable[[bytes], T]) -> T:
        return self._client.ask({"chainid": self._chain_id, **params}, read)

    def _list(self, body: bytes) -> list[msgspec.Raw]:
        envelope = self._decode(_envelope, body)
        if isinstance(envelope.result, list):
            # No records and no word about it may be a hiccup: empty is what the explorer calls empty.
            if envelope.message in EMPTY or (envelope.status == "1" and envelope.result):
                return envelope.result
            raise self._error(envelope.status, "", envelope.message)
        raise self._error(envelope.status, envelope.result or "", envelope.message)

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

    def _error(self, status: str, *texts: str) -> IngestionError:
        said = [self._client.redact(text) for text in texts if text]
        for beginning, error in ERRORS.items():
            for text in said:
                if text.startswith(beginning):
                    return error(f"{self._client.host}: {text}")
        heard = " / ".join(said)[:300] or "nothing"
        return Transient(
            f"{self._client.host} gave neither records nor an error we know: status {status}, {heard}"
        )
