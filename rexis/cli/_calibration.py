"""Records to calibrate a circuit with, drawn where there are none, and what the plain model makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime

from circuits.boundary import Boundary, boundary_of, vocabulary_of
from circuits.fidelity import other_function
from circuits.process import EzklProcess
from circuits.tuning import HEADROOM
from rexis.cli.console import note
from rexis.protocol.errors import TensorError
from rexis.protocol.records import Floats

_COMPARED = 4  # records whose outputs are compared with the circuit's
_DRAWS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Any]] = {
    "standard normal": lambda random, shape: random.normal(size=shape),
    "uniform from 0.1 to 0.9": lambda random, shape: random.uniform(0.1, 0.9, size=shape),
    "uniform from 1.1 to 2": lambda random, shape: random.uniform(1.1, 2.0, size=shape),
}
"""Tried in this order until the model's outputs are finite: logarithms and roots want positive numbers."""


@dataclass(frozen=True)
class Calibration:
    """Records to choose a profile by, and others to check the choice with.

    Attributes
    ----------
    source
        Where they come from, in words.
    is_random
        They are drawn, and say little about real ones.
    """

    records: Floats
    check: Floats
    source: str
    is_random: bool = False


def drawn(model: bytes, count: int, checks: int = 16) -> Calibration:
    """Random records of a model's input, always the same: token ids where it takes such, else the first of `_DRAWS`.

    Raises
    ------
    TensorError
        The model does not run, or gives no finite outputs on any of them.
    """
    boundary = boundary_of(model)
    shape = (count + checks, *boundary.record_shape)
    ids = vocabulary_of(model)
    draws = _DRAWS if ids is None else {f"token ids below {ids}": lambda random, size: random.integers(ids, size=size)}
    for name, draw in draws.items():
        records = draw(np.random.default_rng(0), shape).astype(np.float32)
        if np.isfinite(outputs_of(model, records)).all():
            return Calibration(records[:count], records[count:], f"random ({name})", is_random=True)
    raise TensorError(
        f"the model gives no finite outputs on random records ({', '.join(draws)})",
        field="data",
        hint="give records with --data",
    )


def require_shape(boundary: Boundary, records: Floats) -> None:
    """Refuse records of another shape than the model's."""
    if records.shape[1:] != boundary.record_shape:
        raise TensorError(
            f"records are {list(records.shape[1:])} each, the model takes {list(boundary.record_shape)}",
            field="data",
            hint="give records of the model's shape",
        )


def outputs_of(model: bytes, records: Floats) -> Floats:
    """The model's outputs ``[n, …]`` on records ``[n, …]``, one by one as proofs are.

    Raises
    ------
    TensorError
        The records have another shape than the model's, or it does not run.
    """
    boundary = boundary_of(model)
    require_shape(boundary, records)
    try:
        session = onnxruntime.InferenceSession(model, _quiet(), providers=["CPUExecutionProvider"])
        rows = [session.run(None, {boundary.input: _given(boundary, record)})[0] for record in records]
    except Exception as error:  # ONNX Runtime's errors share no public base class
        raise TensorError(f"ONNX Runtime does not run the model: {_first_line(error)}", field="model") from error
    outputs = np.stack([_of_record(boundary, np.asarray(row)) for row in rows]).astype(np.float32)
    return outputs if outputs.ndim > 1 else outputs[:, None]


def warned_of(model: bytes, records: Floats, ezkl: EzklProcess) -> str | None:
    """Warn where ezkl takes an operator and computes something else, and say so."""
    found = other_function(model, records[:_COMPARED], outputs_of, ezkl, ids=vocabulary_of(model) is not None)
    if found is not None:
        note(f"warning: {found}. A proof would be about that. Export the model without the operator.")
    return found


def headroom_of(model: bytes) -> float:
    """How many times as large as the calibration's records may be. 1 for token ids: others have no meaning."""
    return HEADROOM if vocabulary_of(model) is None else 1.0


def _given(boundary: Boundary, record: Floats) -> Floats:
    return record.reshape(boundary.given)


def _of_record(boundary: Boundary, output: Floats) -> Floats:
    counted = boundary.counts_records and output.ndim > 1 and len(output) == 1
    return output[0] if counted else output


def _quiet() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return options


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
