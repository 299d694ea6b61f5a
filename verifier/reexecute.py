"""Step 12: runs opened records again with the encrypted model in ONNX Runtime on the CPU.

The model is a stranger's, so it runs in a child process (:mod:`verifier.rerun`) that has limits, from its bytes alone.
"""

from __future__ import annotations

import io
import subprocess
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexis.interpreter import python, python_environment
from rexis.protocol.errors import EvidenceError, TensorError, UnavailableError
from rexis.protocol.policy import Tier
from rexis.protocol.records import Floats, dequantise
from rexis.protocol.statement import JobRequest
from verifier.opened import OpenedRecord
from verifier.rerun import NO_MEMORY, REFUSED

_MEMORY_LIMIT = 16 << 30
_SECONDS = 300
_MAX_REASON = 500


class RefutedError(EvidenceError):
    """Committed outputs are not the model's. `records`: indices of these."""

    def __init__(self, message: str, records: list[int], *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.records = records


def check_reexecution(request: JobRequest, model: bytes, opened: Iterable[list[OpenedRecord]], limit: int) -> str:
    """Run up to `limit` opened records and compare with what was committed.

    The rule for each output value: it is finite, and |re-executed − committed| ≤ absTolerance + relTolerance ·
    |re-executed|. Fixed-point
    records (tiers ``sampled`` and ``zk``) are compared after scaling back, so the policy's tolerance must
    leave room for the circuit's rounding.

    Returns
    -------
    str
        How many agreed, and the largest difference.

    Raises
    ------
    RefutedError
        A record disagrees.
    EvidenceError
        None was opened, or an output is not finite.
    TensorError
        The model is refused, or does not run on the records.
    UnavailableError
        ONNX Runtime is not installed, or the model takes more memory or time than it may have.
    """
    records = [record for task in opened for record in task][:limit]
    if not records:
        raise EvidenceError(
            "no record is opened in this certificate", hint="ask the requester for a policy with sampleSize > 0"
        )
    policy, circuit = request.policy, request.circuit
    for what, lengths in (
        ("inputs", {record.inputs.shape for record in records}),
        ("outputs", {record.outputs.shape for record in records}),
    ):
        if len(lengths) != 1:
            raise EvidenceError(f"the opened records have {what} of different lengths", field="evidence.openings")
    inputs = np.stack([_floats(record.inputs, policy.tier, circuit.input_scale) for record in records])
    claimed = np.stack([_floats(record.outputs, policy.tier, circuit.output_scale) for record in records])
    found = _run(model, inputs)
    if found.shape != claimed.shape:
        raise EvidenceError(f"the model gives {found.shape[1]} values a record, {claimed.shape[1]} were committed")
    finite = (np.isfinite(found) & np.isfinite(claimed)).all(axis=1)
    if not bool(finite.all()):
        raise EvidenceError(f"the output of record {records[int(np.argmin(finite))].index} is not finite")
    exact = found.astype(np.float64)
    difference = np.abs(exact - claimed)
    allowed = policy.abs_tolerance_e9 * 1e-9 + policy.rel_tolerance_e9 * 1e-9 * np.abs(exact)
    wrong = ~(difference <= allowed).all(axis=1)
    if bool(wrong.any()):
        first = int(np.argmax(wrong))
        raise RefutedError(
            f"record {records[first].index} differs by {difference[first].max():.3g}, the policy allows "
            f"{allowed[first].min():.3g}; {int(wrong.sum())} of {len(records)} records differ",
            [records[position].index for position in np.flatnonzero(wrong)],
            hint="under the worker's signature this shows that it did not run the registered model",
        )
    return f"{len(records)} records agree, largest difference {difference.max():.3g}"


def _floats(values: NDArray[Any], tier: Tier, scale: int) -> Floats:
    return values.astype(np.float32) if tier == Tier.COMMIT else dequantise(values, scale)


def _run(model: bytes, inputs: Floats) -> Floats:
    if find_spec("onnxruntime") is None or find_spec("onnx") is None:
        raise UnavailableError("onnxruntime or onnx is not installed", hint="pip install 'rexis[verifier]'")
    records = io.BytesIO()
    np.save(records, inputs, allow_pickle=False)
    command = python("-m", "verifier.rerun", str(_MEMORY_LIMIT), str(_SECONDS))
    try:
        done = subprocess.run(
            command,
            input=len(model).to_bytes(8, "little") + model + records.getvalue(),
            capture_output=True,
            check=False,
            timeout=_SECONDS,
            env=python_environment(),
            cwd=Path(__file__).anchor,
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"the encrypted model did not finish within {_SECONDS} s") from None
    if done.returncode == REFUSED:
        raise TensorError(done.stderr.decode(errors="replace")[-_MAX_REASON:])
    if done.returncode != 0:
        why = "has no room" if done.returncode == NO_MEMORY else f"ended with {done.returncode}"
        raise UnavailableError(
            f"the process that runs the encrypted model {why}", hint=f"it may take {_MEMORY_LIMIT >> 30} GiB"
        )
    outputs: Floats = np.load(io.BytesIO(done.stdout), allow_pickle=False)
    return outputs
