"""What token contracts say of themselves: symbol and decimals, for logs, which name the contract only.

Kept in `ops.tokens`, because it is asked for with every transfer and never needed twice.
"""

import threading
from collections.abc import Iterable, Mapping

import msgspec

from ingestion_assets.engine import rows as copy_text
from ingestion_assets.engine.errors import QuotaExhausted, RateLimited, Transient, Unauthorized
from ingestion_assets.engine.store import Connection, Store
from ingestion_assets.sources.evm.fields import NULL, UINT8, Unreadable
from ingestion_assets.sources.evm.node.refusals import Reverted
from ingestion_assets.sources.evm.node.shapes import octets
from ingestion_assets.sources.evm.node.wire import Answer, Call, Fault, Refused, Wire, given

SYMBOL, DECIMALS = "0x95d89b41", "0x313ce567"  # selectors of symbol() and decimals()
WORD = 32  # bytes

Said = tuple[str | None, int | None]  # symbol, decimals


class Tokens:
    """The tokens of one chain.

    Args:
        wire: asks the contracts.
        chain: its name here.
        store: keeps what they say.
    """

    def __init__(self, wire: Wire, chain: str, store: Store) -> None:
        self._wire = wire
        self._chain = chain
        self._store = store
        self._columns: dict[str, str] = {}
        self._asking = threading.Lock()  # else every window that runs beside would ask for the same

    def columns(self, tokens: Iterable[str]) -> Mapping[str, str]:
        """`token_symbol` and `token_decimals` of each, as COPY text with a tab between them."""
        with self._asking:
            unknown = sorted(set(tokens) - self._columns.keys())
            if unknown:
                for token, said in (self._store.transaction(lambda c: self._recall(c, unknown))).items():
                    self._columns[token] = _text(*said)
                self._ask([token for token in unknown if token not in self._columns])
        return self._columns

    def _recall(self, connection: Connection, tokens: list[str]) -> dict[str, Said]:
        return {
            row[0]: (row[1], row[2]) for row in connection.execute(_KNOWN, [self._chain, tokens]).fetchall()
        }

    def _ask(self, tokens: list[str]) -> None:
        calls = [
            Call("eth_call", ({"to": token, "data": selector}, "latest"))
            for token in tokens
            for selector in (SYMBOL, DECIMALS)
        ]
        answers = self._answers(calls)
        told: list[tuple[str, str, str | None, int | None]] = []
        for number, token in enumerate(tokens):
            symbol, decimals = answers[2 * number], answers[2 * number + 1]
            said = symbol_of(_bytes(symbol)), decimals_of(_bytes(decimals))
            self._columns[token] = _text(*said)
            if not (_is_mute(symbol) or _is_mute(decimals)):
                name = None if said[0] is None else copy_text.printable(said[0])
                told.append((self._chain, token, name, said[1]))
        if told:
            self._store.transaction(lambda c: c.cursor().executemany(_REMEMBER, told))

    def _answers(self, calls: list[Call]) -> list[Answer]:
        """What the contracts answer. Anybody can make one on which the node fails, and that must not stop the others.

        Raises:
            Transient: it is the node that does not answer.
        """
        try:
            return self._wire.ask(calls)
        except RateLimited:
            raise
        except Transient:
            found: list[Answer] = []
            for call in calls:
                try:
                    found += self._wire.ask([call])
                except RateLimited:
                    raise
                except Transient as error:
                    self._wire.one("eth_chainId")
                    found.append(Refused(error, Fault(message=str(error))))
            return found


def _is_mute(answer: Answer) -> bool:
    """Whether it is the node that cannot tell, and not the contract."""
    return isinstance(answer, Refused) and not isinstance(answer.error, Reverted)


def _bytes(answer: Answer) -> bytes | None:
    """What a contract returned; None where it has no such function, or the node cannot execute the call."""
    if isinstance(answer, Refused) and not isinstance(answer.error, Unauthorized | QuotaExhausted):
        return None
    try:
        return octets(msgspec.json.decode(given(answer), type=str))
    except (msgspec.DecodeError, Unreadable):
        return None


def symbol_of(returned: bytes | None) -> str | None:
    """The symbol in what `symbol()` returned: a string, or 32 bytes filled up with zeros as old tokens have it."""
    if not returned:
        return None
    if len(returned) == WORD:
        text = returned.rstrip(b"\0")
    else:
        size = int.from_bytes(returned[WORD : 2 * WORD], "big")
        text = returned[2 * WORD : 2 * WORD + size]
    return text.decode(errors="replace")


def decimals_of(returned: bytes | None) -> int | None:
    """The number that `decimals()` returned; None where it is none that decimals can have."""
    if not returned:
        return None
    number = int.from_bytes(returned[:WORD], "big")
    return number if number <= UINT8 else None


def _text(symbol: str | None, decimals: int | None) -> str:
    return f"{copy_text.text(symbol).decode()}\t{NULL if decimals is None else decimals}"


_KNOWN = "SELECT token, symbol, decimals FROM ops.tokens WHERE chain = %s AND token = ANY(%s)"
_REMEMBER = (
    "INSERT INTO ops.tokens (chain, token, symbol, decimals) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"
)
