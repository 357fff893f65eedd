"""What happens in a block: the transactions, and the calls and token transfers inside them.

This module decides, `rows` writes down. Everything about block n follows from seed, chain and n,
and the odd cases of real chains (twins, failures, creations, dust) are drawn often enough that a
day of history holds most of them.
"""

from bisect import bisect_right
from itertools import accumulate
from math import exp
from typing import NamedTuple

from ingestion_assets.sandbox import parties
from ingestion_assets.sandbox.draw import Draw
from ingestion_assets.sandbox.parties import HUB, TOKENS

MAX_UINT256 = 2**256 - 1

_HUB_SHARE = 0.2
_BUSY_EVERY = 389
_BUSY_AT = 200
_ODDS = 1_000_000


class Call(NamedTuple):
    """A value moved by a contract; `receiver` is None when `created` is the new contract."""

    sender: int
    receiver: int | None
    created: int | None
    value: int
    trace: str


class Transfer(NamedTuple):
    """Units of `TOKENS[token]` that went from one party to another."""

    token: int
    sender: int
    receiver: int
    value: int


class Transaction(NamedTuple):
    """One transaction; values are in wei, parties as in `parties`."""

    sender: int
    receiver: int | None
    value: int
    created: int | None = None
    failed: bool = False
    calls: tuple[Call, ...] = ()
    transfers: tuple[Transfer, ...] = ()


class Script:
    """The story of one chain, block by block."""

    def __init__(self, seed: int, chain_id: int, accounts: int, transactions_per_block: float) -> None:
        """Tell the story of `accounts` watched accounts at a mean rate of transactions."""
        self._key = f"{seed}/{chain_id}"
        self._accounts = accounts
        self._odds = _poisson(transactions_per_block)

    def block(self, number: int) -> list[Transaction]:
        """Give the transactions of block `number` in their order; often there are none."""
        draw = Draw(self._key, "block", number)
        ordinary = bisect_right(self._odds, draw.below(_ODDS))
        rush = draw.between(20, 40) if number % _BUSY_EVERY == _BUSY_AT else 0
        return [
            self._transaction(draw, number, index, rush=index >= ordinary) for index in range(ordinary + rush)
        ]

    def _transaction(self, draw: Draw, block: int, index: int, *, rush: bool) -> Transaction:
        me = HUB if rush or draw.chance(_HUB_SHARE) else draw.below(self._accounts)
        other = self._counterparty(draw, me)
        kind = draw.below(100)
        if kind < 40:
            sender, receiver = (me, other) if draw.chance(0.5) else (other, me)
            return Transaction(sender, receiver, _wei(draw))
        if kind < 45:
            return Transaction(me, me, _wei(draw))
        if kind < 52:
            return _failure(draw, me, other)
        if kind < 56:
            return Transaction(me, None, 0, created=parties.created(block, index))
        if kind < 72:
            return _contract_call(draw, me, other, block, index)
        return _token_call(draw, me, other)

    def _counterparty(self, draw: Draw, me: int) -> int:
        """Draw the other side: now and then another watched account, so rows are listed twice."""
        if self._accounts > 1 and draw.chance(0.2):
            return (me + draw.between(1, self._accounts - 1)) % self._accounts
        return parties.stranger(draw)


def _poisson(mean: float) -> list[int]:
    """Give the odds, in parts of _ODDS, that a block has at most 0, 1, 2, ... transactions."""
    numbers = range(1, 16 + int(8 * mean))
    terms = accumulate(numbers, lambda term, number: term * mean / number, initial=exp(-mean))
    return [round(total * _ODDS) for total in accumulate(terms)]


def _wei(draw: Draw) -> int:
    """Draw an amount of wei: sometimes nothing, mostly something between dust and 100 ether."""
    return 0 if draw.chance(0.1) else draw.below(10 ** draw.between(6, 20)) + 1


def _failure(draw: Draw, me: int, other: int) -> Transaction:
    """Fail after having tried to move money: the value is shown and has not moved."""
    if draw.chance(0.5):
        return Transaction(me, other, _wei(draw), failed=True)
    hands = parties.contract(draw)
    attempt = Call(hands, other, None, _wei(draw), "0")
    return Transaction(me, hands, attempt.value, failed=True, calls=(attempt,))


def _contract_call(draw: Draw, me: int, other: int, block: int, index: int) -> Transaction:
    """Call a contract that pays out: once, several times, or several times exactly the same."""
    hands = parties.contract(draw)
    if draw.chance(0.1):
        born = Call(hands, me, None, 0, "0"), Call(me, None, parties.created(block, index), 0, "0_1")
        return Transaction(me, hands, 0, calls=born)
    pay = Call(hands, me, None, _wei(draw), "0")
    if draw.chance(0.3):
        same = tuple(pay._replace(trace=f"0_{turn}") for turn in range(draw.between(2, 4)))
        return Transaction(other, hands, pay.value * len(same), calls=same)
    change = Call(hands, other, None, _wei(draw), "1")
    return Transaction(other, hands, pay.value + change.value, calls=(pay, change))


def _token_call(draw: Draw, me: int, other: int) -> Transaction:
    """Move tokens: once, in a chain of hops, or as twins that no field tells apart."""
    token = draw.below(len(TOKENS))
    sender, receiver = (me, other) if draw.chance(0.5) else (other, me)
    first = Transfer(token, sender, receiver, _units(draw, token))
    shape = draw.below(10)
    if shape < 2:
        transfers: tuple[Transfer, ...] = (first,) * draw.between(2, 3)
    elif shape < 4:
        hop = Transfer(draw.below(len(TOKENS)), receiver, sender, _units(draw, token))
        transfers = (first, hop)
    elif shape < 5:
        transfers = (first._replace(receiver=sender),)
    else:
        transfers = (first,)
    return Transaction(sender, parties.token_contract(token), 0, transfers=transfers)


def _units(draw: Draw, token: int) -> int:
    """Draw an amount in a token's smallest unit: usual, nothing, or the largest there is."""
    case = draw.below(40)
    if case == 0:
        return MAX_UINT256
    if case < 4:
        return 0
    return draw.below(10 ** (TOKENS[token].decimals + 4)) + 1
