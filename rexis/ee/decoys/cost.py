"""What decoys cost: the encrypted model timed beside the plain one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Feed = Mapping[str, NDArray[Any]]

_PAIRS = 40
_BLOCK_SECONDS = 0.002  # long against the clock's step, short against the scheduler's


def runtime_ratio(
    plain: tuple[bytes | Path, Feed], encrypted: tuple[bytes | Path, Feed], *, pairs: int = _PAIRS
) -> float:
    """Time of the encrypted model over that of the plain one: the median over pairs of blocks, one thread each.

    Blocks alternate, and so does which side goes first, so that whatever else the machine does hits both alike.

    Parameters
    ----------
    plain, encrypted
        A model (ONNX) and a batch of records as it takes them, by input.
    pairs
        How many blocks of each.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    sides = []
    for model, feed in (plain, encrypted):
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        sides.append((session, feed))
    calls = max(1, round(_BLOCK_SECONDS / min(_seconds(*side, calls=3) for side in sides)))
    times = np.empty((pairs, 2))
    for pair in range(pairs):
        for side in (pair % 2, 1 - pair % 2):
            times[pair, side] = _seconds(*sides[side], calls=calls)
    return float(np.median(times[:, 1] / times[:, 0]))


def _seconds(session: Any, feed: Feed, *, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        session.run(None, feed)
    return (time.perf_counter() - start) / calls
