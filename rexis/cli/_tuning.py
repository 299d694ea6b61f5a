"""Between the tuner, which knows encrypted models and records, and the owner's plain ones."""

from __future__ import annotations

import math
import os
import platform
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from circuits.process import EzklProcess
from circuits.rewrites import rewrite
from circuits.settings import EZKL_VERSION
from circuits.tuning import HEADROOM, Bound, Candidate, Found, Limits, Side, assess, worthwhile
from rexis.cli._calibration import Calibration, headroom_of, outputs_of
from rexis.ee import decrypt_outputs, encrypt_records
from rexis.ee.compiler import encrypt_model
from rexis.protocol.digests import sha256, tensor_digest
from rexis.protocol.errors import EncryptionError
from rexis.protocol.records import Floats, dequantise, quantise

_PLAIN = "--plain tunes the model as it is"


@dataclass(frozen=True)
class Calibrated:
    """A plain model, and the rewritten one whose circuit is tuned (the same one if nothing was worth rewriting)."""

    plain: bytes
    rewrites: tuple[str, ...]
    rewritten: bytes

    @classmethod
    def of(cls, plain: bytes, ezkl: EzklProcess, *, rewriting: bool) -> Self:
        """Rewrite a model where that takes rows off its circuit."""
        names = worthwhile(plain, ezkl) if rewriting else ()
        return cls(plain, names, rewrite(plain, names) if names else plain)

    def sides(self, records: Floats, keys: int, tolerance: float) -> list[Side]:
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
        reference = outputs_of(self.plain, records)
        if not keys:
            headroom = headroom_of(self.plain)
            return [Side(self.rewritten, records, lambda found: _judged(found, reference, tolerance), headroom)]
        return [_side(self.rewritten, records, reference, tolerance) for _ in range(keys)]


def plain_side(plain: bytes, records: Floats, tolerance: float = math.inf) -> Side:
    """The model and the records as they are."""
    return Calibrated(plain, (), plain).sides(records, 0, tolerance)[0]


def written(
    model: Calibrated, calibration: Calibration, keys: int, bound: Bound, limits: Limits, found: Found
) -> dict[str, Any]:
    """What was searched, seen and chosen, and how the choice fares on records and a key that it was not chosen by."""
    records, check = calibration.records, calibration.check
    side = model.sides(check, min(keys, 1), bound.error)[0]
    seen: list[Floats] = []

    def judge(outputs: Floats) -> tuple[float, float]:
        seen.append(outputs)
        return side.judge(outputs)

    with EzklProcess() as ezkl:
        error, agreement = assess(ezkl, [replace(side, judge=judge)], found.best.profile)
    scale = found.best.profile.input_scale
    again = outputs_of(side.model, dequantise(quantise(side.records, scale), scale))
    off = max((float(np.abs(outputs.reshape(again.shape) - again).max()) for outputs in seen), default=math.inf)
    return {
        "model": str(sha256(model.plain)),
        "rewritten": str(sha256(model.rewritten)),
        "rewrites": list(model.rewrites),
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
        "checked": {
            "records": len(check),
            "error": _finite(error),
            "agreement": agreement,
            "reexecutionError": _finite(off),
        },
        "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "ezkl": EZKL_VERSION},
    }


def checked_line(report: dict[str, Any]) -> str:
    """What the check of a report saw."""
    checked = report["checked"]
    under = " under another key" if report["calibration"]["keys"] else ""
    start = f"checked on {checked['records']} other records{under}: "
    if checked["error"] is None:
        return start + "some have no witness"
    return start + f"decisions agree {checked['agreement']:.1%}, largest error {checked['error']:.3g}"


def outside(report: dict[str, Any], bound: Bound) -> str | None:
    """The warning that is due where the check of a report left the bound."""
    checked = report["checked"]
    if checked["error"] is not None and bound.allows(checked["error"], checked["agreement"]):
        return None
    return "warning: that is outside the bound. Tune with more records and keys, or with a tighter one."


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
        "predictedGas": cost.gas,
        "seconds": each.seconds,
        "proofBytes": each.proof_bytes,
    }


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
