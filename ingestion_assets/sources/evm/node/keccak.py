"""Keccak-256, the hash that Ethereum is built on; not the SHA3-256 of hashlib, which pads otherwise."""

try:
    from sha3 import keccak_256
except ImportError:  # no wheel for this system
    from Crypto.Hash import keccak

    def keccak256(data: bytes) -> bytes:
        """The 32 bytes of the hash."""
        return keccak.new(data=data, digest_bits=256).digest()
else:

    def keccak256(data: bytes) -> bytes:
        """The 32 bytes of the hash."""
        return keccak_256(data).digest()  # type: ignore[no-any-return]  # it has no types
