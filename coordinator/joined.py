"""A job's outputs as one blob, which is not stored: the tasks' blobs are read one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod

from coordinator.blobs import Blobs
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.rows import StoredRows
from rexis.protocol.tensors import open_tensors, tensors_header

_HEADERS_AT_ONCE = 16


@dataclass(frozen=True)
class _Part:
    digest: Digest
    offset: int
    size: int


class JoinedOutputs:
    """Outputs of all the tasks, in their order, as :func:`rexis.protocol.tensors.pack_outputs` would write them.

    Parameters
    ----------
    digests
        Blobs of the tasks' outputs, at least one. They were checked when they were accepted.
    """

    def __init__(self, blobs: Blobs, digests: Sequence[Digest]) -> None:
        self._blobs = blobs
        with ThreadPoolExecutor(_HEADERS_AT_ONCE) as pool:
            outputs = list(pool.map(self._opened, digests))
        shapes = {rows.shape[1:] for rows in outputs}
        # Tasks may arrange as many values otherwise.
        shape = shapes.pop() if len(shapes) == 1 else (prod(outputs[0].shape[1:]),)
        count, dtype = sum(len(rows) for rows in outputs), outputs[0].dtype
        self._header = tensors_header([("outputs", dtype, (count, *shape))])
        self._parts = [
            _Part(digest, rows.offset, len(rows) * rows.row_bytes)
            for digest, rows in zip(digests, outputs, strict=True)
        ]
        self.size = len(self._header) + sum(part.size for part in self._parts)
        self.etag = sha256(self._header, *digests)

    async def stream(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes ``start … end-1``."""
        if start < len(self._header):
            yield self._header[start:end]
        place = len(self._header)
        for part in self._parts:
            first, last = max(start - place, 0), min(end - place, part.size)
            if first < last:
                async for chunk in self._blobs.stream(part.digest, part.offset + first, part.offset + last):
                    yield chunk
            place += part.size

    def _opened(self, digest: Digest) -> StoredRows:
        return open_tensors(*self._blobs.reader(digest, "outputs"), [{"outputs"}], "outputs blob")["outputs"]
