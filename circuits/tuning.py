"""Choose a circuit profile for a model by trying: accurate first, then cheap, then really timed.

ezkl's own calibration minimises one error at the largest scales that fit, and gave a circuit four times as expensive
for the breast cancer model. Here the caller says which error is good enough.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from circuits.artefacts import CircuitCache
from circuits.build import build_circuit, make_settings
from circuits.memory import advice_columns
from circuits.process import EzklProcess
from circuits.profile import CircuitProfile
from circuits.proving import Prover
from circuits.settings import CircuitSettings
from circuits.srs import ensure_development_srs
from rexis.protocol.errors import CircuitError
from rexis.protocol.records import dequantise, quantise

Floats = NDArray[np.float32]

# Records are tried this many times as large, so that an outlier still has a witness.
HEADROOM = 2.0
# A digit of the range check as large as the column allows, without splitting its table.
_BASES = {11: 2000, 12: 4000, 13: 8000, 14: 16000, 15: 32000, 16: 64000, 17: 128000}


@dataclass(frozen=True)
class Trial:
    """One candidate, measured.

    Attributes
    ----------
    cells
        Advice columns × 2^logrows: the estimate of the cost.
    error
        Largest absolute difference to the float outputs.
    prove_seconds
        Best of two proofs; None if it was not among the finalists.
    """

    profile: CircuitProfile
    cells: int
    error: float
    prove_seconds: float | None = None


def candidates(logrows: Sequence[int] = (12, 13, 14)) -> Iterator[CircuitProfile]:
    """The grid that was worth trying for small models: scales 7 to 9, two digits, one or two inner columns."""
    for rows, inner, (input_scale, param_scale) in itertools.product(logrows, (1, 2), ((7, 7), (7, 8), (7, 9))):
        yield CircuitProfile(
            input_scale=input_scale,
            param_scale=param_scale,
            decomposition_base=_BASES[rows],
            decomposition_legs=2,
            inner_columns=inner,
            logrows=rows,
        )


def tune(
    onnx_bytes: bytes,
    records: Floats,
    outputs: Floats,
    *,
    max_error: float,
    work_dir: Path,
    profiles: Sequence[CircuitProfile] | None = None,
    finalists: int = 3,
) -> list[Trial]:
    """Find the cheapest profile whose outputs stay within `max_error` of the float model's.

    Parameters
    ----------
    onnx_bytes
        The *encrypted* model, since its weights have another range than the plain one's.
    records, outputs
        A sample of encrypted records ``[n, …]`` and the float model's outputs ``[n, m]`` for them.
    max_error
        Largest absolute error, in the unit of the encrypted outputs.
    work_dir
        For keys and development SRS files.
    profiles
        What to try, by default :func:`candidates`.
    finalists
        How many of the cheapest accurate ones to prove for real. The estimate is good to about 25 %.

    Returns
    -------
    The finalists, fastest first.

    Raises
    ------
    CircuitError
        None is accurate enough.
    """
    with EzklProcess() as ezkl:
        trials, best = [], float("inf")
        for profile in profiles if profiles is not None else candidates():
            settings = make_settings(onnx_bytes, profile, ezkl)
            error = _error(ezkl, onnx_bytes, settings, records, outputs)
            best = min(best, error)
            if error <= max_error:
                trials.append(Trial(profile, advice_columns(settings) << settings.logrows, error))
        if not trials:
            raise CircuitError(f"no profile keeps the error below {max_error:g}; the best has {best:.3g}")
        trials.sort(key=lambda trial: (trial.cells, trial.error))
        timed = [_timed(ezkl, onnx_bytes, trial, records, work_dir) for trial in trials[:finalists]]
        return sorted(timed, key=lambda trial: trial.prove_seconds or 0.0)


def outputs_without_keys(
    ezkl: EzklProcess, onnx_bytes: bytes, settings: CircuitSettings, records: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Exact outputs ``[n, output_length]`` of a circuit that has no keys, for fixed-point records ``[n, …]``.

    Raises
    ------
    CircuitError
        A record has no witness, or the model does not compile.
    """
    with tempfile.TemporaryDirectory(prefix="rexis-tune-") as name:
        paths = {part: str(Path(name, part)) for part in ("model", "settings", "compiled")}
        Path(paths["model"]).write_bytes(onnx_bytes)
        Path(paths["settings"]).write_bytes(settings.data)
        ezkl.call("compile", **paths)
        rows = records.reshape(len(records), -1).tolist()
        found = ezkl.call("witness", compiled=paths["compiled"], scale=settings.input_scale, records=rows)
    return np.array(found, dtype=np.int64)


def _error(ezkl: EzklProcess, onnx_bytes: bytes, settings: CircuitSettings, records: Floats, outputs: Floats) -> float:
    """Largest error on the sample; infinite if one of its records, or one twice as large, has no witness."""
    stretched = np.concatenate([records, HEADROOM * records]).astype(np.float32)
    try:
        found = outputs_without_keys(ezkl, onnx_bytes, settings, quantise(stretched, settings.input_scale))
    except CircuitError:
        return float("inf")
    exact = dequantise(found[: len(records)], settings.output_scale)
    return float(np.abs(exact - outputs.reshape(exact.shape)).max())


def _timed(ezkl: EzklProcess, onnx_bytes: bytes, trial: Trial, records: Floats, work_dir: Path) -> Trial:
    srs = ensure_development_srs(trial.profile.logrows, work_dir)
    circuit = build_circuit(onnx_bytes, trial.profile, srs, CircuitCache(work_dir / "keys"), ezkl)
    record = quantise(records[0], trial.profile.input_scale).reshape(-1)
    prover, seconds = Prover(circuit, ezkl), []
    for _ in range(2):
        start = time.perf_counter()
        prover.prove(record)
        seconds.append(time.perf_counter() - start)
    return Trial(trial.profile, trial.cells, trial.error, min(seconds))
