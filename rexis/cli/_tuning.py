"""Between the tuner, which knows encrypted models and records, and the owner's plain ones."""

from __future__ import annotations

import math
import os
import platform
from typing import Any

import numpy as np

from circuits.process import EzklProcess
from circuits.settings import EZKL_VERSION
from circuits.tuning import HEADROOM, Bound, Candidate, Found, Limits, Side, assess
from rexis.cli._calibration import Calibration, headroom_of, outputs_of
from rexis.ee import decrypt_outputs, encrypt_records
from rexis.ee.compiler import encrypt_model
from rexis.protocol.digests import sha256, tensor_digest
from rexis.protocol.errors import EncryptionError
from rexis.protocol.records import Floats

_PLAIN = "--plain tunes the model as it is"


def sides_of(plain: bytes, records: Floats, keys: int, tolerance: float) -> list[Side]:
    """The records under so many fresh keys.

    Parameters
    ----------
    keys
        0 for the model and the records as they are.
    tolerance
        Regressions have no classes: there an output agrees if it is off by no more than this.

    Raises
    ------
    EncryptionError
        EE cannot encrypt the model, with the node and the reason.
    """
    if not keys:
        return [plain_side(plain, records, tolerance)]
    reference = outputs_of(plain, records)
    return [_side(plain, records, reference, tolerance) for _ in range(keys)]


def plain_side(plain: bytes, records: Floats, tolerance: float = math.inf) -> Side:
    """The model and the records as they are."""
    reference = outputs_of(plain, records)
    return Side(plain, records, lambda found: _judged(found, reference, tolerance), headroom_of(plain))


def written(
    plain: bytes, calibration: Calibration, keys: int, bound: Bound, limits: Limits, found: Found
) -> dict[str, Any]:
    """What was searched, seen and chosen, and how the choice fares on records and a key that it was not chosen by."""
    records, check = calibration.records, calibration.check
    with EzklProcess() as ezkl:
        error, agreement = assess(ezkl, sides_of(plain, check, min(keys, 1), bound.error), found.best.profile)
    return {
        "model": str(sha256(plain)),
        "calibration": {
            "source": calibration.source,
            "records": len(records),
            "digest": str(tensor_digest(records)),
            "keys": keys,
        },
        "bound": {"agreement": bound.agreement, "error": _finite(bound.error)},
        "limits": {"memoryBytes": _finite(limits.memory_bytes), "proofBytes": _finite(limits.proof_bytes)},
        "layoutsCompared": found.tried,
        "chosen": _shown(found.best),
        "frontier": [_shown(each) for each in found.frontier],
        "checked": {"records": len(check), "error": _finite(error), "agreement": agreement},
        "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "ezkl": EZKL_VERSION},
    }


def _side(plain: bytes, records: Floats, reference: Floats, tolerance: float) -> Side:
    try:
        encrypted = encrypt_model(plain, epoch=1)
    except EncryptionError as error:
        raise EncryptionError(
            error.message, field=error.field, hint=f"{_PLAIN}{f'; {error.hint}' if error.hint else ''}"
        ) from error

    def judge(outputs: Floats) -> tuple[float, float]:
        return _judged(decrypt_outputs(encrypted.key, outputs.reshape(reference.shape)), reference, tolerance)

    tokens = encrypted.key.input is not None and encrypted.key.input.tokens is not None
    return Side(encrypted.model, encrypt_records(encrypted.key, records), judge, 1.0 if tokens else HEADROOM)


def _judged(outputs: Floats, reference: Floats, tolerance: float) -> tuple[float, float]:
    """Largest error, and the share of decisions that agree."""
    found = outputs.reshape(reference.shape)
    error = np.abs(found - reference).reshape(len(reference), -1)
    classes = reference.shape[-1]
    if classes > 1:
        agrees = found.reshape(-1, classes).argmax(axis=1) == reference.reshape(-1, classes).argmax(axis=1)
    else:
        agrees = error.max(axis=1) <= tolerance
    return float(error.max()), float(agrees.mean())


def _shown(each: Candidate) -> dict[str, Any]:
    cost = each.estimate
    return {
        "profile": each.profile.to_object(),
        "error": each.error,
        "agreement": each.agreement,
        "predictedCpuSeconds": round(cost.cpu_seconds, 3),
        "predictedPeakBytes": cost.peak_bytes,
        "predictedProofBytes": cost.proof_bytes,
        "seconds": each.seconds,
        "proofBytes": each.proof_bytes,
    }


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
