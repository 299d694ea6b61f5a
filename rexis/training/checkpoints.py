"""Checkpoints made beside the training: only the copy of the state holds it up.

A thread of its own takes each tensor's digest (hashing does without Python's lock), then the root, writes the blob,
and hands over to whoever signs and uploads it.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rexis.files import writing
from rexis.protocol.digests import Digest, tensor_digest
from rexis.protocol.tensors import tensors_header
from rexis.protocol.transcript import State, state_root
from rexis.training.session import Losses, Snapshot

_LOOKED_AT = 1024  # elements that tell most changed tensors from unchanged ones


@dataclass(frozen=True)
class Committed:
    """A state that is ready to be signed and uploaded.

    Attributes
    ----------
    root
        Of the state.
    losses
        float32 little-endian, of the steps since the last one.
    blob, state_digest
        The file with the state (:func:`~rexis.protocol.transcript.pack_state`), and its SHA-256. Whoever gets this
        removes the file in the end.
    state
        The tensors themselves, until the commit returns.
    """

    step: int
    cursor: int
    root: Digest
    losses: bytes
    blob: Path
    state_digest: Digest
    state: State


class Checkpoints:
    """A queue of states to commit, in order.

    Parameters
    ----------
    folder
        Where blobs are written.
    commit
        Called in the other thread with each state, one after the other.
    waiting
        Snapshots that may wait; one more makes :meth:`submit` wait. Each is as large as the state.

    Use it as a context. At its end, what was submitted is committed; unless the block raised, or a commit did: then the
    rest is let go.
    """

    def __init__(self, folder: Path, commit: Callable[[Committed], None], *, waiting: int = 1) -> None:
        self._folder, self._commit = folder, commit
        self._queue: queue.Queue[tuple[Snapshot, Losses] | None] = queue.Queue(waiting)
        self._digests = _Digests()
        self._last: Snapshot | None = None
        self._spare: queue.SimpleQueue[Snapshot] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._dropped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="checkpoints", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        if raised is not None:
            self._dropped.set()
        self._queue.put(None)
        self._thread.join()
        if raised is None:
            self._raise()

    def submit(self, snapshot: Snapshot, losses: Losses) -> None:
        """Commit a state soon. Raises what an earlier commit raised."""
        self._raise()
        self._queue.put((snapshot, losses))

    def spare(self) -> Snapshot | None:
        """A snapshot that is done with, for the next one to use its memory."""
        try:
            return self._spare.get_nowait()
        except queue.Empty:
            return None

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            if self._dropped.is_set():
                continue
            try:
                self._commit(self._made(*task))
                self._done_with(task[0])
            except BaseException as error:
                self._error = error
                self._dropped.set()

    def _done_with(self, snapshot: Snapshot) -> None:
        """The last one is kept, for the digests of the next are told from it."""
        if self._last is not None and self._last is not snapshot:
            self._spare.put(self._last)
        self._last = snapshot

    def _made(self, snapshot: Snapshot, losses: Losses) -> Committed:
        state = snapshot.arrays()
        root = state_root(snapshot.step, snapshot.cursor, self._digests.of(state))
        blob = self._folder / f"state-{snapshot.step}.safetensors"
        digest = write_state(blob, state)
        data = losses.astype("<f4").tobytes()
        return Committed(snapshot.step, snapshot.cursor, root, data, blob, digest, state)


class _Digests:
    """Digests of a state's tensors; those of tensors that did not change are kept."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[NDArray[np.float32], Digest]] = {}

    def of(self, state: State) -> dict[str, Digest]:
        self._known = {name: (value, self._digest(name, value)) for name, value in state.items()}
        return {name: digest for name, (_, digest) in self._known.items()}

    def _digest(self, name: str, value: NDArray[np.float32]) -> Digest:
        known = self._known.get(name)
        return known[1] if known is not None and _same(known[0], value) else tensor_digest(value)


def write_state(path: Path, state: State) -> Digest:
    """Write a state's blob as a whole, tensor by tensor; returns its SHA-256.

    The bytes are those of :func:`~rexis.protocol.transcript.pack_state`.
    """
    tensors = sorted(state.items())
    hashed = hashlib.sha256()
    with writing(path, overwrite=True) as stream:
        head = tensors_header([(name, value.dtype, value.shape) for name, value in tensors])
        parts: Iterator[bytes | memoryview] = chain((head,), (_data(value) for _, value in tensors))
        for part in parts:
            hashed.update(part)
            stream.write(part)
    return Digest(hashed.digest())


def _data(value: NDArray[np.float32]) -> memoryview:
    return np.ascontiguousarray(value, "<f4").reshape(-1).view(np.uint8).data


def _same(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Bit by bit, so that -0 is not 0."""
    left, right = (np.ascontiguousarray(each).reshape(-1).view(np.uint32) for each in (one, other))
    return np.array_equal(left[:_LOOKED_AT], right[:_LOOKED_AT]) and np.array_equal(left, right)
