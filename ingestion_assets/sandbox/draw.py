"""Reproducible draws: numbers and hashes that depend on a key and on nothing else.

`random.Random` promises the same sequence between Python releases only for a few of its methods,
and a cryptographic digest promises it for ever. Nothing here knows about blocks or addresses.
"""

from hashlib import blake2b

_POOL_BITS = 512
_SPARE_BITS = 24
"""Randomness that must be left over in the pool, so that the remainder of a division is fair."""


def digest(*key: object, size: int = 32) -> str:
    """Hash the parts of `key` to `size` bytes and give them as 0x-prefixed lower-case hex."""
    text = "/".join(map(str, key))
    return "0x" + blake2b(text.encode(), digest_size=size).hexdigest()


class Draw:
    """An endless sequence of draws that is the same for the same key, in every process."""

    __slots__ = ("_key", "_pool", "_refills", "_room")

    def __init__(self, *key: object) -> None:
        """Start the sequence that belongs to `key`."""
        self._key = "/".join(map(str, key)).encode()
        self._refills = 0
        self._pool = 0
        self._room = 1

    def below(self, bound: int) -> int:
        """Draw an integer with 0 <= integer < bound; `bound` is at least 1 and below 2**400."""
        if self._room < bound << _SPARE_BITS:
            salt = self._refills.to_bytes(8, "big")
            self._pool = int.from_bytes(blake2b(self._key, salt=salt).digest(), "big")
            self._room = 1 << _POOL_BITS
            self._refills += 1
        self._room //= bound
        self._pool, drawn = divmod(self._pool, bound)
        return drawn

    def between(self, low: int, high: int) -> int:
        """Draw an integer with low <= integer <= high."""
        return low + self.below(high - low + 1)

    def chance(self, probability: float) -> bool:
        """Answer True with the given probability (0 to 1, in steps of 1/10,000)."""
        return self.below(10_000) < probability * 10_000
