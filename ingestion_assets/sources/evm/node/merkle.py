"""RLP, and the root of a list as block headers commit to it.

https://ethereum.org/developers/docs/data-structures-and-encoding/rlp and …/patricia-merkle-trie. Only what a list
needs: its keys are the RLP of 0, 1, 2, …, of which none begins another, so no branch holds a value. A general trie
keeps every node to change it later; here each is hashed and forgotten, which is what makes it fast.
"""

from collections.abc import Iterable, Sequence

from ingestion_assets.sources.evm.node.keccak import keccak256

SHORT = 55  # bytes whose length fits the first byte
HASHED = 32  # a node of so many bytes stands in its parent as its hash

Leaf = tuple[bytes, bytes]  # path (one nibble a byte), value


def string(data: bytes) -> bytes:
    """The RLP of bytes."""
    if len(data) == 1 and data[0] < 0x80:  # noqa: PLR2004 - the byte is its own RLP
        return data
    return _head(0x80, len(data)) + data


def sequence(items: Iterable[bytes]) -> bytes:
    """The RLP of a list whose items are RLP already."""
    body = b"".join(items)
    return _head(0xC0, len(body)) + body


def integer(number: int) -> bytes:
    """The RLP of a whole number: big end first, without leading zeros."""
    return string(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _head(kind: int, size: int) -> bytes:
    if size <= SHORT:
        return bytes((kind + size,))
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((kind + SHORT + len(length),)) + length


def root(values: Sequence[bytes]) -> bytes:
    """The 32 bytes that a header holds for this list."""
    if not values:
        return keccak256(string(b""))
    leaves = sorted((_nibbles(integer(index)), value) for index, value in enumerate(values))
    return keccak256(_node(leaves, 0))


def _nibbles(data: bytes) -> bytes:
    return bytes(nibble for byte in data for nibble in (byte >> 4, byte & 15))


def _node(leaves: Sequence[Leaf], depth: int) -> bytes:
    """The RLP of the node that holds these leaves, sorted by path, whose first `depth` nibbles are the same."""
    first, last = leaves[0], leaves[-1]
    if len(leaves) == 1:
        return sequence((string(_packed(first[0][depth:], 2)), string(first[1])))
    end = depth
    while first[0][end] == last[0][end]:
        end += 1
    if end > depth:
        return sequence((string(_packed(first[0][depth:end], 0)), _reference(_node(leaves, end))))
    groups: list[list[Leaf]] = [[] for _ in range(16)]
    for leaf in leaves:
        groups[leaf[0][depth]].append(leaf)
    children = [_reference(_node(group, depth + 1)) if group else b"\x80" for group in groups]
    return sequence((*children, b"\x80"))


def _reference(node: bytes) -> bytes:
    return node if len(node) < HASHED else b"\xa0" + keccak256(node)


def _packed(path: bytes, flags: int) -> bytes:
    """A path as bytes: the first nibble says whether it ends in a leaf (2), and whether its length is odd (1)."""
    nibbles = bytes((flags + 1,)) + path if len(path) % 2 else bytes((flags, 0)) + path
    return bytes(high << 4 | low for high, low in zip(nibbles[::2], nibbles[1::2], strict=True))
