"""Whether decrypted outputs are the plain model's, by the bound that a circuit was tuned to."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np

from bench.costs.checks import require
from circuits.profile import TUNED
from rexis.protocol.records import Floats

# Float32 under another key: measured 1e-7 (median) to 1e-5 (bench.ee_inference).
_FLOAT_ERROR = 1e-3
_DEFAULT_AGREEMENT = 0.99


@dataclass(frozen=True)
class Bound:
    """What a circuit was tuned to.

    Attributes
    ----------
    agreement
        Share of records that must be decided as the plain model decides.
    error
        Of a regression, which has no classes: outputs within it count as decided alike. Infinite if none was given.
    """

    agreement: float
    error: float

    @classmethod
    def of(cls, model: str) -> Bound:
        """From the evidence beside the tuned profile."""
        evidence = TUNED / model / "evidence.json"
        found = json.loads(evidence.read_bytes())["bound"] if evidence.is_file() else {}
        error = found.get("error")
        return cls(found.get("agreement", _DEFAULT_AGREEMENT), math.inf if error is None else error)


def agreement(found: Floats, expected: Floats, bound: Bound) -> float:
    """Share of records ``[n, values]`` that are decided alike."""
    if expected.shape[1] > 1:
        alike = found.argmax(axis=1) == expected.argmax(axis=1)
    else:
        alike = np.abs(found - expected)[:, 0] <= bound.error
    return float(alike.mean())


def require_agreement(found: Floats, expected: Floats, bound: Bound) -> str:
    """A circuit's decrypted outputs are within the bound, whose share of records is rounded up.

    Raises
    ------
    WrongResult
        They are not.
    """
    share, count = agreement(found, expected, bound), len(expected)
    wrong, allowed = round((1 - share) * count), math.ceil(round((1 - bound.agreement) * count, 6))
    require(bool(np.isfinite(found).all()), "an output is not finite")
    require(wrong <= allowed, f"{wrong} of {count} records are decided otherwise, {allowed} may be")
    return f"{count - wrong} of {count} records decided alike, largest error {max_error(found, expected):.3g}"


def require_same(found: Floats, expected: Floats) -> str:
    """Decrypted float32 outputs are the plain model's but for rounding.

    Raises
    ------
    WrongResult
        They are not.
    """
    scale = max(1.0, float(np.abs(expected).max()))
    largest = max_error(found, expected) / scale
    require(
        largest <= _FLOAT_ERROR, f"outputs differ by {largest:.3g} of their size, at most {_FLOAT_ERROR} is expected"
    )
    return f"largest error {largest:.2g} of the outputs' size"


def max_error(found: Floats, expected: Floats) -> float:
    """Largest difference; NaN counts as infinite."""
    return float(np.nan_to_num(np.abs(found.astype(np.float64) - expected), nan=np.inf).max())
