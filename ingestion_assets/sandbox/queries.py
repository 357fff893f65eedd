"""The questions the explorer answers: one function for each, from query parameters to JSON values.

Nothing here knows HTTP. A question that makes no sense raises `RefusedError`, which the explorer turns
into its status "0" envelope.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from ingestion_assets.sandbox.chain import Chain

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_NO_CLOSEST = "Error! No closest block found"


class Limits(NamedTuple):
    """What the explorer allows."""

    window: int = 10_000
    """The largest page x offset."""
    max_records: int = 1_000
    """The most rows of one answer; a larger offset is cut without a word."""
    finality_depth: int = 2
    """How many blocks the finalized block is behind the head."""


class View(NamedTuple):
    """A chain as it looks at the moment of a question."""

    chain: Chain
    head: int
    limits: Limits


class RefusedError(Exception):
    """The explorer does not answer this; `message` and `result` are those of the envelope."""

    def __init__(self, result: str | None, message: str = "NOTOK") -> None:
        super().__init__(result or message)
        self.result = result
        self.message = message


def rows(view: View, action: str, query: Mapping[str, str]) -> dict[str, object]:
    """Answer account/txlist, account/txlistinternal and account/tokentx.

    The explorer pages only when it is given both page and offset; without them the answer is the
    first `max_records` rows, and nothing in it says whether there are more.

    Raises:
        RefusedError: the address or a block is malformed, or the page lies outside the window.

    """
    address = query.get("address", "")
    if not _ADDRESS.fullmatch(address):
        raise RefusedError("Error! Invalid address format")
    if "contractaddress" in query:
        raise RefusedError("Error! The sandbox does not filter by contractaddress")
    low = _block(query.get("startblock"), 0, view.head)
    high = _block(query.get("endblock"), view.head, view.head)
    page, offset = _natural(query.get("page")), _natural(query.get("offset"))
    if page and offset and page * offset > view.limits.window:
        limit = view.limits.window
        message = f"Result window is too large, PageNo x Offset size must be less than or equal to {limit}"
        raise RefusedError(None, message)
    if not (page and offset):
        page, offset = 1, view.limits.max_records
    offset = min(offset, view.limits.max_records)
    found = view.chain.find(action, address, low, min(high, view.head))
    if query.get("sort", "asc").lower() == "desc":
        found.reverse()
    result = view.chain.render(action, found[(page - 1) * offset : page * offset], view.head)
    if not result:
        return {"status": "0", "message": "No transactions found", "result": []}
    return {"status": "1", "message": "OK", "result": result}


def block_by_time(view: View, query: Mapping[str, str]) -> dict[str, object]:
    """Answer block/getblocknobytime with a decimal string; both directions include the second.

    Raises:
        RefusedError: a parameter is malformed, or there is no block on that side of the time.

    """
    timestamp, closest = query.get("timestamp", ""), query.get("closest", "")
    if not timestamp.isdecimal():
        raise RefusedError("Error! Invalid timestamp")
    if closest not in {"before", "after"}:
        raise RefusedError("Error! Missing Or invalid closest parameter")
    if closest == "before":
        block = min(view.chain.last_block_at(int(timestamp)), view.head)
    else:
        block = view.chain.first_block_at(int(timestamp))
    if not 0 <= block <= view.head:
        raise RefusedError(_NO_CLOSEST)
    return {"status": "1", "message": "OK", "result": str(block)}


def block_number(view: View, _query: Mapping[str, str]) -> dict[str, object]:
    """Answer proxy/eth_blockNumber: the head, as JSON-RPC and in hex."""
    return {"jsonrpc": "2.0", "id": 83, "result": hex(view.head)}


def block_by_number(view: View, query: Mapping[str, str]) -> dict[str, object]:
    """Answer proxy/eth_getBlockByNumber; the result is null for a block that is not there yet.

    The block's transactions are left out: the sandbox's readers only ask for its time and hash.
    """
    finalized = max(0, view.head - view.limits.finality_depth)
    named = {"latest": view.head, "earliest": 0, "finalized": finalized, "safe": finalized}
    tag = query.get("tag", "")
    if tag in named:
        number = named[tag]
    elif re.fullmatch(r"0x[0-9a-fA-F]{1,16}", tag):
        number = int(tag, 16)
    else:
        error = {"code": -32602, "message": f"invalid argument 0: {tag!r} is no block number"}
        return {"jsonrpc": "2.0", "id": 1, "error": error}
    return {"jsonrpc": "2.0", "id": 1, "result": _header(view, number)}


def _header(view: View, number: int) -> dict[str, object] | None:
    if not 0 <= number <= view.head:
        return None
    return {
        "number": hex(number),
        "timestamp": hex(view.chain.time_of(number)),
        "hash": view.chain.hash_of(number),
        "parentHash": view.chain.hash_of(number - 1),
        "transactions": [],
    }


def _block(text: str | None, default: int, latest: int) -> int:
    """Read a block parameter: a decimal number or the word latest."""
    if not text:
        return default
    if text == "latest":
        return latest
    if not text.isdecimal():
        raise RefusedError("Error! Invalid block number")
    return int(text)


def _natural(text: str | None) -> int:
    """Read a page or an offset; whatever is no positive number counts as not given."""
    return int(text) if text and text.isdecimal() else 0
