"""RFC 6962 Merkle trees: SHA-256, leaf prefix 0x00, node prefix 0x01.

The tree of RFC 6962 §2.1 (split at the largest power of two below n) is that of pairing neighbours level by level and
promoting an odd last node, which is how :class:`MerkleTree` builds it; the recursive definition is the tests' oracle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

from rexis.protocol.digests import Digest
from rexis.protocol.errors import MerkleError

LEAF = b"\x00"
NODE = b"\x01"
MAX_PATH = 64


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 ‖ data)."""
    return sha256(LEAF + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right)."""
    return sha256(NODE + left + right).digest()


class MerkleTree:
    """All levels of a tree over leaf data.

    Parameters
    ----------
    leaves
        Leaf data, at least one.
    """

    def __init__(self, leaves: Iterable[bytes]) -> None:
        level = [leaf_hash(data) for data in leaves]
        if not level:
            raise MerkleError("a tree needs at least one leaf")
        self._levels = [level]
        while len(level) > 1:
            above = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
            if len(level) % 2:
                above.append(level[-1])
            self._levels.append(above)
            level = above

    def __len__(self) -> int:
        return len(self._levels[0])

    @property
    def root(self) -> Digest:
        """The Merkle tree hash."""
        return Digest(self._levels[-1][0])

    def path(self, index: int) -> list[Digest]:
        """The audit path of leaf `index`, from the leaf up (RFC 9162 §2.1.3.1)."""
        if not 0 <= index < len(self):
            raise MerkleError(f"leaf {index} of a tree of {len(self)}")
        found = []
        for level in self._levels[:-1]:
            sibling = index ^ 1
            if sibling < len(level):
                found.append(Digest(level[sibling]))
            index >>= 1
        return found


def check_inclusion(root: bytes, size: int, index: int, data: bytes, path: Sequence[bytes], what: str = "leaf") -> None:
    """Check that `data` is leaf `index` of the tree of `size` leaves with `root` (RFC 9162 §2.1.3.2).

    Raises
    ------
    MerkleError
        The index lies outside the tree, the path is too short or too long, or it leads to another root.
    """
    if not 0 <= index < size:
        raise MerkleError(f"{what}: index {index} lies outside a tree of {size}")
    if len(path) > MAX_PATH:
        raise MerkleError(f"{what}: a path of {len(path)} nodes")
    fn, sn, found = index, size - 1, leaf_hash(data)
    for sibling in path:
        if sn == 0:
            raise MerkleError(f"{what}: the path is too long")
        if fn & 1 or fn == sn:
            found = node_hash(sibling, found)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            found = node_hash(found, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise MerkleError(f"{what}: the path is too short")
    if found != root:
        raise MerkleError(f"{what}: the path leads to 0x{found.hex()}, not to the root 0x{root.hex()}")
