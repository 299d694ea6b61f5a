"""Takes segments of a training again, for step 26 of :mod:`verifier.training`.

The model is a stranger's, so it runs in a child process (:mod:`verifier.retrain`) with limits, from its bytes alone.
"""

from __future__ import annotations

import io
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, Self, cast

import numpy as np
from numpy.typing import NDArray

from rexis.interpreter import python, python_environment
from rexis.protocol.digests import Digest
from rexis.protocol.errors import TrainingError, UnavailableError
from rexis.protocol.records import Floats
from rexis.protocol.training import TrainingPlan
from rexis.protocol.transcript import Platform, State, pack_state, unpack_state
from verifier.retrain import ANSWER, NO_MEMORY, read_frame, write_frame

_MEMORY_LIMIT = 64 << 30
_SECONDS = 4 * 3600
_MAX_REASON = 500


@dataclass(frozen=True)
class Again:
    """A segment's end, as taking it again gave it.

    Attributes
    ----------
    state
        None if it is the committed one, bit by bit.
    losses
        One for each of its steps.
    """

    state: State | None
    losses: NDArray[np.float32]


def can_retrain() -> bool:
    """Whether what it takes is installed here."""
    return find_spec("torch") is not None and find_spec("onnx") is not None


class Retraining:
    """A training whose segments can be taken again; see :meth:`started`.

    Attributes
    ----------
    platform
        Where that is done.
    """

    def __init__(self, asks: BinaryIO, answers: BinaryIO, plan: TrainingPlan, *about: bytes) -> None:
        self._asks, self._answers, self._plan = asks, answers, plan
        self._ask(plan.to_json(), *about)
        self.platform = Platform.from_json(self._answer())

    @classmethod
    @contextmanager
    def started(cls, base: bytes, plan: TrainingPlan, records: Floats, platform: Platform) -> Iterator[Self]:
        """Start the process.

        Parameters
        ----------
        base
            The base model, ONNX bytes.
        records
            The dataset's, ``[n, …]``.
        platform
            Where it was trained: the same device and number of threads are taken here, if there are.

        Raises
        ------
        TrainingError
            The model cannot be trained as the plan says.
        UnavailableError
            PyTorch is not installed, or the model takes more memory or time than it may have.
        """
        if not can_retrain():
            raise UnavailableError("PyTorch or onnx is not installed", hint="pip install 'rexis[training]'")
        rows = io.BytesIO()
        np.save(rows, records.reshape(len(records), -1), allow_pickle=False)
        # CUDA maps more addresses than there is memory.
        with _process(_MEMORY_LIMIT if platform.device == "cpu" else 0) as (asks, answers):
            yield cls(asks, answers, plan, platform.to_json(), base, rows.getvalue())

    def segment(self, index: int, before: State, committed: Digest) -> Again:
        """Take the segment after checkpoint `index`, whose end is said to have the root `committed`.

        Raises
        ------
        TrainingError
            The state is not one of this model's, or the steps come to NaN.
        """
        self._ask(index.to_bytes(8, "little") + committed, pack_state(before))
        losses, state = np.frombuffer(self._answer(), dtype="<f4").astype(np.float32), self._answer()
        return Again(unpack_state(state, self._plan) if state else None, losses)

    def _ask(self, *frames: bytes) -> None:
        try:
            for frame in frames:
                write_frame(self._asks, frame)
        except BrokenPipeError:
            self._answer()  # it had said why

    def _answer(self) -> bytes:
        frame = read_frame(self._answers)
        if frame is None:
            raise EOFError
        if frame[:1] != ANSWER:
            raise TrainingError(frame[1:].decode(errors="replace")[:_MAX_REASON])
        return frame[1:]


@contextmanager
def _process(memory_limit: int) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """The child's input and output."""
    child = subprocess.Popen(
        python("-m", "verifier.retrain", str(memory_limit), str(_SECONDS)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=python_environment(),
        cwd=Path(__file__).anchor,
    )
    late = threading.Timer(_SECONDS, child.kill)
    late.start()
    try:
        yield cast(BinaryIO, child.stdin), cast(BinaryIO, child.stdout)
    except EOFError:
        code = child.wait()
        why = "has no room" if code == NO_MEMORY else f"ended with {code}"
        raise UnavailableError(
            f"the process that takes segments again {why}", hint=f"it may take {_MEMORY_LIMIT >> 30} GiB"
        ) from None
    finally:
        late.cancel()
        child.kill()
        with suppress(BrokenPipeError):
            child.communicate()
