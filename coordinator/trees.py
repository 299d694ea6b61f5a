"""Trees over datasets, kept in files: they can have more leaves than memory has room for."""

from __future__ import annotations

import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

from rexis.protocol.merkle import HASH, MerkleTree, node_count

_OPEN = 16


class Trees:
    """Merkle trees by name. A file is made again if it is not there, so that it may go at any time.

    Parameters
    ----------
    folder
        This machine's; processes may share it.
    max_bytes
        Bound on the files. Those that are open go too: who has them open keeps what is in them.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._open: OrderedDict[str, MerkleTree] = OrderedDict()
        self._lock, self._making = threading.Lock(), OrderedDict[str, threading.Lock]()

    def get(self, name: str, count: int, leaves: Callable[[], Iterable[bytes]]) -> MerkleTree:
        """The tree over `count` leaves.

        Parameters
        ----------
        leaves
            Gives them, if the tree is not here. It takes minutes for large datasets; others do not wait for it.
        """
        with self._lock:
            making = self._making.setdefault(name, threading.Lock())
            self._making.move_to_end(name)
            while len(self._making) > 4 * _OPEN:
                self._making.popitem(last=False)
        with making:
            with self._lock:
                if name in self._open:
                    self._open.move_to_end(name)
                    return self._open[name]
            tree = self._reopened(name, count) or self._made(name, leaves())
            with self._lock:
                self._open[name] = tree
                while len(self._open) > _OPEN:
                    self._open.popitem(last=False)
            return tree

    def _reopened(self, name: str, count: int) -> MerkleTree | None:
        path = self._folder / name
        if not path.is_file() or path.stat().st_size != node_count(count) * HASH:
            return None
        os.utime(path)
        return MerkleTree.reopened(count, _NodesInFile(path))

    def _made(self, name: str, leaves: Iterable[bytes]) -> MerkleTree:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / name
        part = path.with_name(f"{name}.{secrets.token_hex(4)}.part")
        try:
            nodes = _NodesInFile(part)
            tree = MerkleTree(leaves, nodes)
            nodes.flush()
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        self._bound()
        return tree

    def _bound(self) -> None:
        files = [(path, path.stat()) for path in self._folder.iterdir() if path.suffix != ".part"]
        total = sum(stat.st_size for _, stat in files)
        for path, stat in sorted(files, key=lambda entry: entry[1].st_mtime):
            if total <= self._max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= stat.st_size


class _NodesInFile:
    """See :class:`rexis.protocol.merkle.Nodes`."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("ab+")

    def append(self, nodes: bytes) -> None:
        self._stream.write(nodes)

    def flush(self) -> None:
        self._stream.flush()

    def read(self, start: int, end: int) -> bytes:
        self._stream.flush()
        return os.pread(self._stream.fileno(), (end - start) * HASH, start * HASH)
