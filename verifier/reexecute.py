"""Step 12: runs opened records again with the encrypted model in ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexis.protocol.errors import EvidenceError, TensorError, UnavailableError
from rexis.protocol.policy import Tier
from rexis.protocol.records import Floats, dequantise
from rexis.protocol.statement import JobRequest
from verifier.opened import OpenedRecord


def check_reexecution(request: JobRequest, model: Path, opened: Iterable[list[OpenedRecord]], limit: int) -> str:
    """Run up to `limit` opened records and compare with what was committed.

    The rule for each output value: |re-executed − committed| ≤ absTolerance + relTolerance · |re-executed|. Fixed-point
    records (tiers ``sampled`` and ``zk``) are compared after scaling back, so the policy's tolerance must
    leave room for the circuit's rounding.

    Returns
    -------
    str
        How many agreed, and the largest difference.

    Raises
    ------
    EvidenceError
        A record disagrees, or none was opened.
    UnavailableError
        ONNX Runtime is not installed.
    """
    records = [record for task in opened for record in task][:limit]
    if not records:
        raise EvidenceError(
            "no record is opened in this certificate", hint="ask the requester for a policy with sampleSize > 0"
        )
    policy, circuit = request.policy, request.circuit
    inputs = np.stack([_floats(record.inputs, policy.tier, circuit.input_scale) for record in records])
    claimed = np.stack([_floats(record.outputs, policy.tier, circuit.output_scale) for record in records])
    found = _run(model, inputs)
    if found.shape != claimed.shape:
        raise EvidenceError(f"the model gives {found.shape[1]} values a record, {claimed.shape[1]} were committed")
    difference = np.abs(found.astype(np.float64) - claimed)
    allowed = policy.abs_tolerance_e9 * 1e-9 + policy.rel_tolerance_e9 * 1e-9 * np.abs(found.astype(np.float64))
    wrong = (difference > allowed).any(axis=1)
    if bool(wrong.any()):
        first = int(np.argmax(wrong))
        raise EvidenceError(
            f"record {records[first].index} differs by {difference[first].max():.3g}, the policy allows "
            f"{allowed[first].min():.3g}; {int(wrong.sum())} of {len(records)} records differ",
            hint="under the worker's signature this shows that it did not run the registered model",
        )
    return f"{len(records)} records agree, largest difference {difference.max():.3g}"


def _floats(values: NDArray[Any], tier: Tier, scale: int) -> Floats:
    return values.astype(np.float32) if tier == Tier.COMMIT else dequantise(values, scale)


def _run(model: Path, inputs: Floats) -> Floats:
    try:
        import onnxruntime as ort
    except ImportError:
        raise UnavailableError("onnxruntime is not installed", hint="pip install 'rexis[verifier]'") from None
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        node = session.get_inputs()[0]
        shape = [dim if isinstance(dim, int) else -1 for dim in node.shape[1:]]
        rows = inputs.reshape(len(inputs), *shape) if -1 not in shape else inputs
        step = node.shape[0] if isinstance(node.shape[0], int) else len(rows)
        parts = [session.run(None, {node.name: rows[i : i + step]})[0] for i in range(0, len(rows), step)]
    except Exception as error:  # ONNX Runtime's errors share no public base class
        raise TensorError(f"the encrypted model does not run on the opened records: {error}") from error
    return np.concatenate(parts).reshape(len(inputs), -1).astype(np.float32)
