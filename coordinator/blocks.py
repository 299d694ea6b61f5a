"""Slices of blobs that were read lately, in memory: of a dataset, each task needs a few salts."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from rexis.protocol.digests import Digest

_BLOCK = 64 << 10
_MOST_BYTES = 32 << 20

Read = Callable[[int, int], bytes]


class Blocks:
    """The blocks that were used last, of all blobs together. Their content never changes, as their name says."""

    def __init__(self, block: int = _BLOCK, most_bytes: int = _MOST_BYTES) -> None:
        self._block, self._most = block, most_bytes // block
        self._held: OrderedDict[tuple[Digest, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def over(self, digest: Digest, read: Read, size: int) -> Read:
        """Read a blob of so many bytes through its blocks; what is longer than one is read past them."""

        def through(start: int, end: int) -> bytes:
            if end - start > self._block:
                return read(start, end)
            first, last = start // self._block, (end - 1) // self._block
            found = b"".join(self._get(digest, number, read, size) for number in range(first, last + 1))
            return found[start - first * self._block : end - first * self._block]

        return through

    def _get(self, digest: Digest, number: int, read: Read, size: int) -> bytes:
        key = digest, number
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        found = read(number * self._block, min(size, (number + 1) * self._block))
        with self._lock:
            self._held[key] = found
            while len(self._held) > self._most:
                self._held.popitem(last=False)
        return found
