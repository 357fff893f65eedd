"""Who and what takes part in the sandbox's transactions: accounts, contracts, tokens.

A party is a small integer inside the sandbox and becomes an address only when a row is written.
Addresses depend on the seed but not on the chain: a person has the same address on every chain,
and a table that forgets the chain in its key must mix the two up here rather than in production.
"""

from functools import lru_cache
from typing import NamedTuple

from ingestion_assets.sandbox.draw import Draw, digest

HUB = 0
"""The busiest of the watched accounts. Watched accounts are the parties 0, 1, 2, ..."""

_STRANGERS = range(1_000, 1_400)
_CONTRACTS = range(2_000, 2_012)
_TOKEN_CONTRACTS = 3_000
_CREATED = 1_000_000


class Token(NamedTuple):
    """What a token contract says about itself, which nobody checks."""

    name: str
    symbol: str
    decimals: int


TOKENS = (
    Token("Sand Dollar", "SAND", 6),
    Token("Wrapped Pebble", "WPEB", 18),
    Token('No\x00Good "quoted" back\\slash\nsecond line', 'N\x00"\\\nG', 18),
    Token("Песочные Часы ⏳", "ЧАСЫ🏖", 8),
    Token("", "", 0),
)


def stranger(draw: Draw) -> int:
    """Draw a party that nobody watches."""
    return _STRANGERS[draw.below(len(_STRANGERS))]


def contract(draw: Draw) -> int:
    """Draw a contract that calls others."""
    return _CONTRACTS[draw.below(len(_CONTRACTS))]


def token_contract(token: int) -> int:
    """Give the party that is the contract of the token `TOKENS[token]`."""
    return _TOKEN_CONTRACTS + token


def created(block: int, index: int) -> int:
    """Give the contract that transaction `index` of `block` brings into being."""
    return _CREATED + (block << 12) + index


@lru_cache(maxsize=8_192)
def address_of(seed: int, party: int) -> str:
    """Give the address of a party: 0x and 40 lower-case hex digits."""
    return digest(seed, "party", party, size=20)
