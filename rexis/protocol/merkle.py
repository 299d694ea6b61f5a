"""RFC 6962 Merkle trees: SHA-256, leaf prefix 0x00, node prefix 0x01.

The tree of RFC 6962 §2.1 (split at the largest power of two below n) is that of pairing neighbours level by level and
promoting an odd last node, which is how :class:`MerkleTree` builds it; the recursive definition is the tests' oracle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import islice
from typing import Protocol

from rexis.protocol.digests import Digest
from rexis.protocol.errors import MerkleError

LEAF = b"\x00"
NODE = b"\x01"
MAX_PATH = 64
HASH = 32
_BLOCK = 1 << 13  # nodes at a time, an even number


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 ‖ data)."""
    return sha256(LEAF + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right)."""
    return sha256(NODE + left + right).digest()


class Nodes(Protocol):
    """Where a tree's nodes are kept, one after the other."""

    def append(self, nodes: bytes) -> None:
        """Add nodes at the end."""
        ...

    def read(self, start: int, end: int) -> bytes:
        """Nodes ``start … end-1``."""
        ...


class _NodesInMemory:
    def __init__(self) -> None:
        self._nodes = bytearray()

    def append(self, nodes: bytes) -> None:
        self._nodes += nodes

    def read(self, start: int, end: int) -> bytes:
        return bytes(self._nodes[start * HASH : end * HASH])


class MerkleTree:
    """All levels of a tree over leaf data.

    Parameters
    ----------
    leaves
        Leaf data, at least one.
    nodes
        Empty; by default in memory, 64 bytes a leaf.
    """

    def __init__(self, leaves: Iterable[bytes], nodes: Nodes | None = None) -> None:
        self._nodes = nodes = nodes if nodes is not None else _NodesInMemory()
        count, hashes = 0, map(leaf_hash, leaves)
        while level := b"".join(islice(hashes, _BLOCK)):
            nodes.append(level)
            count += len(level) // HASH
        self._levels = _levels(count)
        for begin, size in self._levels[:-1]:
            for place in range(begin, begin + size, _BLOCK):
                nodes.append(_parents(nodes.read(place, min(place + _BLOCK, begin + size))))

    @classmethod
    def reopened(cls, count: int, nodes: Nodes) -> MerkleTree:
        """A tree over `count` leaves whose nodes were kept."""
        found = cls.__new__(cls)
        found._nodes, found._levels = nodes, _levels(count)
        return found

    def __len__(self) -> int:
        return self._levels[0][1]

    @property
    def root(self) -> Digest:
        """The Merkle tree hash."""
        return self._node(self._levels[-1][0])

    def path(self, index: int) -> list[Digest]:
        """The audit path of leaf `index`, from the leaf up (RFC 9162 §2.1.3.1)."""
        if not 0 <= index < len(self):
            raise MerkleError(f"leaf {index} of a tree of {len(self)}")
        found = []
        for begin, size in self._levels[:-1]:
            sibling = index ^ 1
            if sibling < size:
                found.append(self._node(begin + sibling))
            index >>= 1
        return found

    def around(self, start: int, count: int) -> list[Digest]:
        """What leads from leaves ``start … start+count-1`` to the root: see :class:`MerkleRange`."""
        if start < 0 or count < 1 or start + count > len(self):
            raise MerkleError(f"leaves {start} + {count} of a tree of {len(self)}")
        found = []
        for (begin, _), (left, right) in zip(self._levels, _beside(len(self), start, count), strict=True):
            found += [self._node(begin + place) for place in (left, right) if place is not None]
        return found

    def _node(self, place: int) -> Digest:
        return Digest(self._nodes.read(place, place + 1))


class MerkleRange:
    """Some leaves of a tree, with the nodes beside them: enough for the root, and for the path of each.

    Parameters
    ----------
    size
        Leaves of the whole tree.
    start
        Index of the first leaf here.
    leaves
        Leaf data, at least one.
    around
        From :meth:`MerkleTree.around`; a stranger may have sent it.

    Raises
    ------
    MerkleError
        The leaves lie outside the tree, or there are too few or too many nodes.
    """

    def __init__(self, size: int, start: int, leaves: Iterable[bytes], around: Sequence[bytes]) -> None:
        level = [leaf_hash(data) for data in leaves]
        if not level or start < 0 or start + len(level) > size:
            raise MerkleError(f"{len(level)} leaves from {start} on are not in a tree of {size}")
        self._start, self._count, self._size = start, len(level), size
        # Of each level: the index of the first node here, and the nodes.
        self._held: list[tuple[int, list[bytes]]] = []
        given = iter(around)
        first = start
        try:
            for left, right in _beside(size, start, len(level)):
                if left is not None:
                    level, first = [next(given), *level], left
                if right is not None:
                    level = [*level, next(given)]
                self._held.append((first, level))
                pairs = range(0, len(level) - 1, 2)
                above = [node_hash(level[i], level[i + 1]) for i in pairs]
                level, first = above + level[2 * len(above) :], first // 2
        except StopIteration:
            raise MerkleError("nodes that lead to the root are missing") from None
        if next(given, None) is not None:
            raise MerkleError("there are more nodes than lead to the root")
        self.root = Digest(level[0])
        """The tree's root, as these leaves and nodes have it."""

    def path(self, index: int) -> list[Digest]:
        """The audit path of the leaf with this index in the whole tree."""
        if not self._start <= index < self._start + self._count:
            raise MerkleError(f"leaf {index} is not among {self._start} … {self._start + self._count - 1}")
        found, size = [], self._size
        for first, level in self._held[:-1]:
            sibling = index ^ 1
            if sibling < size:
                found.append(Digest(level[sibling - first]))
            index, size = index >> 1, (size + 1) // 2
        return found


class GrowingTree:
    """The root over leaves that are added one by one, without keeping the tree.

    Attributes
    ----------
    size
        Leaves so far.
    peaks
        Roots of the full subtrees, from the left; their sizes are the powers of two in `size`, the largest first.
    """

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        if len(peaks) != size.bit_count():
            raise MerkleError(f"{len(peaks)} subtrees do not make a tree of {size}")
        self.size, self.peaks = size, list(peaks)

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaf data."""
        peaks = self.peaks
        for data in leaves:
            found, full = leaf_hash(data), self.size
            while full & 1:
                found, full = node_hash(peaks.pop(), found), full >> 1
            peaks.append(found)
            self.size += 1

    @property
    def root(self) -> Digest:
        """The Merkle tree hash; of no leaves the hash of nothing (RFC 6962 §2.1)."""
        if not self.peaks:
            return Digest(sha256().digest())
        *left, found = self.peaks
        for peak in reversed(left):
            found = node_hash(peak, found)
        return Digest(found)


def merkle_root(leaves: Iterable[bytes]) -> Digest:
    """The root over leaf data, at least one, without keeping the tree."""
    tree = GrowingTree()
    tree.extend(leaves)
    if not tree.size:
        raise MerkleError("a tree needs at least one leaf")
    return tree.root


def node_count(leaves: int) -> int:
    """How many nodes a tree over so many leaves has, the leaves among them."""
    return sum(size for _, size in _levels(leaves))


def _levels(count: int) -> list[tuple[int, int]]:
    """Of each level from the leaves up: the place of its first node, and how many there are."""
    if count < 1:
        raise MerkleError("a tree needs at least one leaf")
    levels = [(0, count)]
    while levels[-1][1] > 1:
        begin, size = levels[-1]
        levels.append((begin + size, (size + 1) // 2))
    return levels


def _beside(size: int, start: int, count: int) -> Iterator[tuple[int | None, int | None]]:
    """Of each level from the leaves up: the nodes left and right of a range that its parents need."""
    end = start + count
    while True:
        left = start - 1 if start % 2 else None
        right = end if end % 2 and end < size else None
        yield left, right
        if size == 1:
            return
        start, end, size = start // 2, (end + 1) // 2, (size + 1) // 2


def _parents(level: bytes) -> bytes:
    """The nodes above, of a level's nodes from an even one on; the last of an odd number goes up as it is."""
    pairs = range(0, len(level) - HASH, 2 * HASH)
    above = b"".join(node_hash(level[i : i + HASH], level[i + HASH : i + 2 * HASH]) for i in pairs)
    return above + level[2 * len(above) :]


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
