"""What a task's computation gave, before anything is claimed about it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from rexis.protocol.evidence import Measured
from rexis.protocol.parsing import MAX_SAFE_INTEGER
from rexis.protocol.records import Floats, Integers


@dataclass(frozen=True)
class Computed:
    """A task's outputs ``[count, …]`` in the tier's encoding, and how they were computed.

    Attributes
    ----------
    max_abs_error, rms_error
        Fixed-point outputs against the float32 model's; 0 for tier ``commit``.
    compute_ms
        Wall time in milliseconds.
    provider
        ONNX Runtime execution provider.
    """

    outputs: Floats | Integers
    provider: str
    compute_ms: int
    max_abs_error: float = 0.0
    rms_error: float = 0.0

    def measured(self, prove_ms: int = 0) -> Measured:
        """For the evidence."""
        return Measured(
            max_abs_error_e9=_billionths(self.max_abs_error),
            rms_error_e9=_billionths(self.rms_error),
            compute_ms=self.compute_ms,
            prove_ms=prove_ms,
            provider=self.provider,
        )


def fixed_point_errors(outputs: Integers, scale: int, reference: Floats) -> tuple[float, float]:
    """(largest, root mean square) of |fixed point − float32|."""
    difference = outputs.astype(np.float64) * 2.0**-scale - reference.reshape(outputs.shape).astype(np.float64)
    return float(np.abs(difference).max()), float(np.sqrt(np.mean(difference**2)))


def milliseconds_since(begun: float) -> int:
    """Whole milliseconds since a ``time.perf_counter()``."""
    return round((time.perf_counter() - begun) * 1000)


def _billionths(value: float) -> int:
    return min(round(value * 1e9), MAX_SAFE_INTEGER)
