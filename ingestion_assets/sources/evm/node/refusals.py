"""What nodes say when they refuse, and what to do about it.

There is no standard: -32005 means too many results as well as too many requests, -32602 a range that is too large, a
parameter that is wrong, and a node that is behind. So the text is read first, and the code where the text says nothing.
The first rule that matches wins, and the order is part of the catalogue: a range beyond the head and a limit of requests
are told apart from a range that is too large, and those from all that is not served.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from ingestion_assets.engine.budget import next_midnight
from ingestion_assets.engine.errors import (
    IngestionError,
    Misconfigured,
    Permanent,
    QuotaExhausted,
    RateLimited,
    TooMuch,
    Transient,
    Unauthorized,
    Unsupported,
)


class BatchTooLarge(TooMuch):
    """Too many calls in one request; each of them is well."""


class Reverted(Permanent):
    """The contract refused the call: it will refuse it again."""


def _quota(text: str) -> IngestionError:
    midnight = next_midnight()
    return QuotaExhausted(f"{text}; asked again at {midnight:%Y-%m-%d %H:%M} UTC", until=midnight)


Verdict = Callable[[str], IngestionError]

# What to do -> what the text may say: regular expressions, whatever the case.
RULES: tuple[tuple[Verdict, tuple[str, ...]], ...] = (
    (
        Reverted,
        ("execution reverted", "vm execution error", "invalid opcode", "invalid jump", "stack underflow"),
    ),
    (
        Transient,  # the node is behind: never a question of size
        (
            r"beyond (the )?(current|latest|chain|head)",
            r"extends beyond",
            r"invalid block (height|range param)",
            r"header (for hash )?not found",
            r"(unknown|future) block\b",
            r"\bblock (0x[0-9a-f]+ |#?\d+ |number )?not found",
            r"(after|greater than|above|past) (the )?(last accepted|latest|current|head) block",
            r"cannot query unfinalized",
            r"not yet (available|indexed)",
            r"ErrEndpointMissingData",
            r"no backend is currently healthy",
            r"node is (still )?(syncing|behind)",
        ),
    ),
    (
        _quota,
        (
            r"\b(daily|monthly)\b.{0,30}\b(limit|quota|count|capacity|credits?|requests?|calls?)\b",
            r"\bquota\b.{0,10}(exceeded|exhausted|reached)",
            r"out of credits",
            r"credits? (limit )?(exceeded|exhausted)",
        ),
    ),
    (
        RateLimited,
        (
            r"\brate.?limit",
            r"too many requests",
            r"throttl",
            r"per[ -]second",
            r"requests?/s(ec)?\b",
            r"\brps\b",
            r"compute units",
            r"request (count|limit) (exceeded|reached)",
            r"concurrent requests",
            r"slow down",
        ),
    ),
    (
        BatchTooLarge,
        (
            r"\bbatch (size|limit|length|too|of \d)",
            r"\bbatch\b.{0,30}(too (large|big|many)|exceed|limit)",
            r"(calls|requests) in (a |the |one )?batch",
        ),
    ),
    (
        Unsupported,  # what is past is gone here, or costs extra
        (
            r"\barchive (requests?|nodes?|data|state|access|mode)",
            r"missing trie node",
            r"no state available",
            r"state (is )?(not |un)available",
            r"(historical|old|required) (state|data)\b.{0,40}(not |un)available",
            r"pre-?bedrock",
            r"\bpruned\b",
            r"state-sync transaction",
            r"not traceable",
        ),
    ),
    (
        TooMuch,  # blocks, logs, bytes or time
        (
            r"blocks? range",
            r"\brange\b.{0,40}(too|exceed|bigger|larger|greater|limit|max|allowed for)",
            r"(max(imum)?|limited to|exceeds?)\b.{0,30}\b(range|blocks)\b",
            r"\branges over\b",
            r"too (large|wide|big|many) .{0,20}\b(range|blocks)\b",
            r"(number of|at most|up to) .{0,20}\bblocks?\b",
            r"\bblocks distance",
            r"\b(results|logs|events)\b.{0,40}exceed",
            r"(exceeds?|more than|too many|max(imum)?|number of)\b.{0,20}\b(results|logs|events)\b",
            r"smaller than size",
            r"response (is |was )?too (large|big)",
            r"response (body )?(size|length)",
            r"(content|entity|payload) too large",
            r"query time ?out",
            r"query (took|takes) too long",
            r"(consider reducing|reduce) .{0,20}range",
            r"smaller (result|range|block)",
            r"^limit exceeded\b",
        ),
    ),
    (
        Unauthorized,
        (
            r"unauthori[sz]ed",
            r"invalid (api|project|access).?(key|id|token)",
            r"api.?key\b.{0,20}(missing|invalid|required|disabled|not)",
            r"(missing|without|no) api.?key",
            r"must be authenticated|authentication",
            r"forbidden|(access|permission) denied",
            r"invalid (project id|token)",
        ),
    ),
    (
        Unsupported,
        (
            r"\bmethod\b.{0,60}(not|n't|unsupported|disabled)",
            r"(unsupported|unknown|disabled|restricted) method",
            r"not supported|unsupported",
            r"not (available|enabled|allowed) (on|for|in|by)\b",
            r"\bupgrade\b",
            r"\bfree ?tier\b|paid (plan|tier)",
        ),
    ),
    (
        Transient,
        (
            r"time(d)? ?out|deadline exceeded",
            r"temporar|try again|retry",
            r"internal (server |json-rpc )?error",
            r"unavailable|overload|\bbusy\b",
        ),
    ),
    (
        Misconfigured,
        (
            r"invalid (argument|param|address|request|json)",
            r"cannot specify both",
            r"parse error",
            r"missing value",
        ),
    ),
)

_RULES = [(verdict, re.compile("|".join(patterns), re.IGNORECASE)) for verdict, patterns in RULES]

# https://eips.ethereum.org/EIPS/eip-1474#error-codes, and what providers made of the rest
CODES: dict[int, Verdict] = {
    3: Reverted,
    429: RateLimited,
    -32005: RateLimited,
    -32016: RateLimited,
    -32029: RateLimited,
    -32014: Transient,
    -32614: TooMuch,
    -32062: TooMuch,
    -32701: TooMuch,
    -32004: Unsupported,
    -32601: Unsupported,
    -32602: Misconfigured,
    -32600: Misconfigured,
    -32700: Misconfigured,
}


def classify(code: int, message: str, data: object = None) -> IngestionError:
    """The error of an answer as one of ours. It repeats the message and nothing of the data.

    Args:
        code: of the error object; 0 where there is none.
        message: of the error object, free of secrets.
        data: of the error object, decoded or raw: some say only there what they mean.
    """
    said, shown = _said(message, data), message or f"error {code}"
    for verdict, pattern in _RULES:
        if pattern.search(said):
            return verdict(shown)
    return CODES.get(code, Transient)(shown)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a provider said of the size of a question that it refused.

    Args:
        hint: first and last block of a range that it says will do. Not to be trusted: see `fits`.
        blocks: the most blocks that it allows in one question.
        logs: the most logs that it gives in one answer.
    """

    hint: tuple[int, int] | None = None
    blocks: int | None = None
    logs: int | None = None

    def fits(self, lo: int, hi: int) -> int | None:
        """How many blocks the hint spans; None unless it lies inside of the refused range and is smaller."""
        if self.hint is None:
            return None
        first, last = self.hint
        if lo <= first <= last <= hi and last - first < hi - lo:
            return last - first + 1
        return None


# A number as people write it (2000, 10,000, 2K), and what it counts.
_COUNTED = re.compile(
    r"(?<![\w./\[-])(\d{1,3}(?:[,_]\d{3})+|\d+)([km]?)\b(?!\.\d)"
    r"(?![\s-]*(?:m?s|m(?:illi)?sec\w*|sec\w*|min\w*|hours?)\b)"  # a time is no size
    r"[\s-]*(blocks?|results?|logs?|records?|events?|bytes|[kmg]i?b\b)?",
    re.IGNORECASE,
)
_LIMIT = re.compile(
    r"\b(max|limit|exceed|distance|over|plan|allowed|cap of|up to|at most|(greater|bigger|larger|more|smaller) than)",
    re.IGNORECASE,
)
_OF_LOGS = re.compile(r"\bresults?\b|\blogs (matched|per|in)\b|\b(max|number of|many) logs\b", re.IGNORECASE)
_HINT = re.compile(r"(0x[0-9a-f]+)\s*(?:,|-|to)\s*(0x[0-9a-f]+)|\brange:? (\d+)\s*-\s*(\d+)", re.IGNORECASE)
_OFFER = re.compile(r"up to an? \S+ block range and no limit[^.,]*", re.IGNORECASE)  # Alchemy's; no limit
_SCALES = {"": 1, "k": 1_000, "m": 1_000_000}
_MOST = 2**53  # larger numbers are no limits
_DEPTH = 8  # of data


def refusal(message: str, data: object = None) -> Refusal:
    """What can be learnt from the text of a refusal: a hint, and the last number that is called a limit."""
    said = _OFFER.sub("", _said(message, data))
    hint, blocks, logs = _hint(said), None, None
    for number, unit, before in _limits(_HINT.sub("", said)):
        if unit.startswith(("result", "log", "record", "event")) or (not unit and _OF_LOGS.search(before)):
            logs = number
        elif not unit or unit.startswith("block"):
            blocks = number
    match _plain(data):  # Infura's
        case {"from": str(first), "to": str(last), **more} if hint is None:
            hint = _hint(f"{first}, {last}")
            limit = more.get("limit")
            logs = limit if logs is None and type(limit) is int and limit > 0 else logs
    return Refusal(hint, blocks, logs)


def _limits(text: str) -> Iterator[tuple[int, str, str]]:
    """Every number that its sentence calls a limit: the number, its unit in lower case, the sentence so far."""
    for match in _COUNTED.finditer(text):
        before = text[text.rfind(". ", 0, match.start()) + 1 : match.start()]
        number = int(re.sub(r"\D", "", match[1])) * _SCALES[match[2].lower()]
        if _LIMIT.search(before) and 0 < number < _MOST:
            yield number, (match[3] or "").lower(), before


def _hint(text: str) -> tuple[int, int] | None:
    match = _HINT.search(text)
    if match is None:
        return None
    return (int(match[1], 16), int(match[2], 16)) if match[1] else (int(match[3]), int(match[4]))


def _said(message: str, data: object) -> str:
    """The message, and every text in its data; numbers there may be anything."""
    return " ".join([message, *_texts(_plain(data), _DEPTH)]).strip()[:4_000]


def _texts(data: object, depth: int) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict | list) and depth:
        for inner in data.values() if isinstance(data, dict) else data:
            yield from _texts(inner, depth - 1)


def _plain(data: object) -> object:
    if not isinstance(data, msgspec.Raw | bytes):
        return data
    try:
        decoded: object = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return bytes(data).decode(errors="replace")
    return decoded
