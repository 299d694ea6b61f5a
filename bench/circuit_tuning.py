"""A warm proof under the tuned profile against one under the settings that ezkl's own calibration chooses.

``python -m bench.circuit_tuning`` prints a table and writes JSON to ``bench/out/circuit_tuning.json``. ezkl's side is
as its documentation has it: the zoo's model, encrypted, default run arguments with our visibility,
``calibrate_settings`` with target "resources" on the calibration records. Ours is the same model after the rewrites
that its profile was tuned for, encrypted, with ``circuits/<model>/profile.json``. Both prove the same records in turns
on one machine, in a child process each, witness and check of the finished proof included, and both have proved once
before the clock starts. The ratio is taken turn by turn; processor time stands beside it, since it does not move with
what else the machine does. Decisions and errors are of decrypted outputs over held-out records, against the zoo model.

Where ezkl's calibration fails, or does not end within the limits, there is no ratio: the table says what it said.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from bench._processes import cpu_seconds
from circuits.build import make_settings
from circuits.process import EzklProcess
from circuits.profile import TUNED, profile_for, rewrites_for, tuned_models
from circuits.rewrites import rewrite
from circuits.srs import ensure_development_srs
from models.zoo import held_out, load_model_bytes, training_split
from rexis.ee import decrypt_outputs, encrypt_records
from rexis.ee.compiler import encrypt_model
from rexis.protocol.errors import CircuitError
from rexis.protocol.records import dequantise, quantise

DEFAULT_OUT = Path(__file__).parent / "out" / "circuit_tuning.json"
_CALIBRATION, _CHECKED = 16, 40
_MEMORY, _SECONDS = 12 << 30, 900.0  # that each side may take for a call
_VISIBILITY: dict[str, Any] = {
    "input_visibility": "public",
    "output_visibility": "public",
    "param_visibility": "fixed",
    "variables": [["batch", 1]],
}


class Side:
    """One circuit of a model, with its keys."""

    def __init__(self, folder: Path, model: bytes, settings: bytes) -> None:
        self.ezkl = EzklProcess(memory_limit=_MEMORY, timeout=_SECONDS)
        self.document: dict[str, Any] = json.loads(settings)
        folder.mkdir()
        self._paths = {part: str(folder / part) for part in ("model", "settings", "compiled", "vk", "pk")}
        Path(self._paths["model"]).write_bytes(model)
        Path(self._paths["settings"]).write_bytes(settings)
        logrows = self.document["run_args"]["logrows"]
        self._paths["srs"] = str(ensure_development_srs(logrows, folder.parent).path)
        self.ezkl.call("keys", **self._paths)
        self.scale = self.document["model_input_scales"][0]

    def prove(self, record: Any) -> Proved:
        """Prove one record."""
        call = {part: self._paths[part] for part in ("compiled", "pk", "vk", "settings", "srs")}
        row = quantise(record, self.scale).reshape(-1).tolist()
        before, started = cpu_seconds(self.ezkl.pid), time.perf_counter()
        proof = self.ezkl.call("prove", scale=self.scale, record=row, **call)["proof"]
        return Proved(time.perf_counter() - started, cpu_seconds(self.ezkl.pid) - before, len(proof) // 2)

    def outputs(self, records: Any) -> Any:
        """Exact outputs, as numbers."""
        rows = quantise(records, self.scale).reshape(len(records), -1).tolist()
        found = self.ezkl.call("witness", compiled=self._paths["compiled"], scale=self.scale, records=rows)
        return dequantise(np.array(found), self.document["model_output_scales"][0]).astype(np.float32)


class Proved(NamedTuple):
    """What one proof took: seconds, processor seconds of the child, bytes."""

    seconds: float
    cpu: float
    size: int


class Encrypted:
    """A model under a key of its own, with records for it."""

    def __init__(self, name: str, model: bytes) -> None:
        made = encrypt_model(model, epoch=1, seed=bytes(32))
        self.model, self._key = made.model, made.key
        self.calibration = encrypt_records(made.key, training_split(name)[0][:_CALIBRATION])
        self.checked = encrypt_records(made.key, held_out(name)[0][:_CHECKED])

    def judged(self, outputs: Any, reference: Any, tolerance: float) -> dict[str, float]:
        """Largest error and share of equal decisions; for a regression, of outputs within the tolerance."""
        found = decrypt_outputs(self._key, outputs.reshape(reference.shape))
        error = np.abs(found - reference).max(axis=1)
        decides = reference.shape[1] > 1
        same = found.argmax(axis=1) == reference.argmax(axis=1) if decides else error <= tolerance
        return {"error": float(error.max()), "agreement": float(same.mean())}


def compare(name: str, folder: Path, repeats: int) -> dict[str, Any]:
    """Both sides of one model; `failed` says why there is none of ezkl's."""
    plain = load_model_bytes(name)
    rewritten = rewrite(plain, rewrites_for(name))
    given = {"ezkl": Encrypted(name, plain), "tuned": Encrypted(name, rewritten)}
    session = onnxruntime.InferenceSession(plain, providers=["CPUExecutionProvider"])
    reference = session.run(None, {session.get_inputs()[0].name: held_out(name)[0][:_CHECKED]})[0]
    report: dict[str, Any] = {}
    with EzklProcess() as ezkl:
        ours = make_settings(given["tuned"].model, profile_for(name), ezkl).data
    sides = {"tuned": Side(folder / "tuned", given["tuned"].model, ours)}
    try:
        theirs = calibrated(given["ezkl"], folder)
        sides = {"ezkl": Side(folder / "ezkl", given["ezkl"].model, theirs)} | sides
    except CircuitError as error:
        report["failed"] = str(error)
    proofs: dict[str, list[Proved]] = {which: [] for which in sides}
    for turn in range(repeats + 1):
        for which, side in sides.items():
            records = given[which].checked
            proved = side.prove(records[turn % len(records)])
            if turn:
                proofs[which].append(proved)
    for which, side in sides.items():
        args = side.document["run_args"]
        report[which] = {
            "seconds": statistics.median(each.seconds for each in proofs[which]),
            "slowest": max(each.seconds for each in proofs[which]),
            "cpuSeconds": statistics.median(each.cpu for each in proofs[which]),
            "proofBytes": proofs[which][0].size,
            "logrows": args["logrows"],
            "scales": [args["input_scale"], args["param_scale"]],
            **given[which].judged(side.outputs(given[which].checked), reference, tolerance_of(name)),
        }
        side.ezkl.close()
    if "ezkl" in proofs:
        pairs = list(zip(proofs["ezkl"], proofs["tuned"], strict=True))
        report["ratio"] = statistics.median(theirs.seconds / ours.seconds for theirs, ours in pairs)
        report["cpuRatio"] = statistics.median(theirs.cpu / ours.cpu for theirs, ours in pairs)
    return report


def calibrated(encrypted: Encrypted, folder: Path) -> bytes:
    """Settings as ezkl's calibration chooses them."""
    (folder / "model").write_bytes(encrypted.model)
    with EzklProcess(memory_limit=_MEMORY, timeout=_SECONDS) as ezkl:
        ezkl.call(
            "calibrate",
            model=str(folder / "model"),
            run_args=_VISIBILITY,
            records=encrypted.calibration.reshape(len(encrypted.calibration), -1).astype(float).tolist(),
            out=str(folder / "calibrated"),
        )
    return (folder / "calibrated").read_bytes()


def tolerance_of(name: str) -> float:
    """The error that a model's profile was tuned for."""
    bound = json.loads((TUNED / name / "evidence.json").read_bytes())["bound"]["error"]
    return math.inf if bound is None else float(bound)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    parser.add_argument("--model", action="append", choices=tuned_models())
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {}
    for name in options.model or tuned_models():
        with tempfile.TemporaryDirectory() as folder:
            report[name] = found = compare(name, Path(folder), options.repeats)
        for which in ("ezkl", "tuned"):
            if which not in found:
                print(f"{name:14} {which:6} {found['failed']}")
                continue
            side = found[which]
            print(
                f"{name:14} {which:6} 2^{side['logrows']} scales {side['scales']}: {side['seconds']:.2f} s "
                f"(slowest {side['slowest']:.2f}), cpu {side['cpuSeconds']:.2f} s, {side['proofBytes']} bytes, "
                f"error {side['error']:.3g}, decisions {side['agreement']:.1%}"
            )
        if "ratio" in found:
            print(f"{name:14} ratio {found['ratio']:.2f}, of processor time {found['cpuRatio']:.2f}", flush=True)
    for what in ("ratio", "cpuRatio"):
        ratios = [found[what] for found in report.values() if what in found]
        if ratios:
            print(f"median {what} {statistics.median(ratios):.2f} over {len(ratios)} models")
    options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
