"""A warm proof under the tuned profile against one under the settings that ezkl's own calibration chooses.

``python -m bench.circuit_tuning`` prints a table and writes JSON to ``bench/out/circuit_tuning.json``. Both get the
same encrypted model, records and machine: ezkl's as its documentation uses it (default run arguments with our
visibility, ``calibrate_settings`` with target "resources" on the calibration records), ours from
``circuits/<model>/profile.json``. They prove the same record in turns, and both have proved once before the clock
starts. Decisions and errors are of decrypted outputs over held-out records.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from circuits.build import make_settings
from circuits.process import EzklProcess
from circuits.profile import profile_for, tuned_models
from circuits.srs import ensure_development_srs
from models.zoo import held_out, load_model_bytes, training_split
from rexis.ee import decrypt_outputs, encrypt_records
from rexis.ee.compiler import encrypt_model
from rexis.protocol.records import dequantise, quantise

DEFAULT_OUT = Path(__file__).parent / "out" / "circuit_tuning.json"
_CALIBRATION, _CHECKED = 16, 40
_VISIBILITY: dict[str, Any] = {
    "input_visibility": "public",
    "output_visibility": "public",
    "param_visibility": "fixed",
    "variables": [["batch", 1]],
}


class Side:
    """One circuit of a model, with its keys."""

    def __init__(self, folder: Path, model: bytes, settings: bytes) -> None:
        self.ezkl = EzklProcess()
        self.document: dict[str, Any] = json.loads(settings)
        folder.mkdir()
        self._paths = {part: str(folder / part) for part in ("model", "settings", "compiled", "vk", "pk", "vka")}
        Path(self._paths["model"]).write_bytes(model)
        Path(self._paths["settings"]).write_bytes(settings)
        logrows = self.document["run_args"]["logrows"]
        self._paths["srs"] = str(ensure_development_srs(logrows, folder.parent).path)
        self.ezkl.call("keys", **self._paths)
        self.scale = self.document["model_input_scales"][0]

    def prove(self, record: Any) -> tuple[float, int]:
        """Seconds, and bytes of the proof."""
        call = {part: self._paths[part] for part in ("compiled", "pk", "vk", "settings", "srs")}
        row = quantise(record, self.scale).reshape(-1).tolist()
        started = time.perf_counter()
        proof = self.ezkl.call("prove", scale=self.scale, record=row, **call)["proof"]
        return time.perf_counter() - started, len(proof) // 2

    def outputs(self, records: Any) -> Any:
        """Exact outputs, as numbers."""
        rows = quantise(records, self.scale).reshape(len(records), -1).tolist()
        found = self.ezkl.call("witness", compiled=self._paths["compiled"], scale=self.scale, records=rows)
        return dequantise(np.array(found), self.document["model_output_scales"][0]).astype(np.float32)


def compare(name: str, folder: Path, repeats: int) -> dict[str, Any]:
    """Both sides of one model."""
    plain = load_model_bytes(name)
    encrypted = encrypt_model(plain, epoch=1, seed=bytes(32))
    calibration = encrypt_records(encrypted.key, training_split(name)[0][:_CALIBRATION])
    checked = held_out(name)[0][:_CHECKED]
    hidden = encrypt_records(encrypted.key, checked)
    session = onnxruntime.InferenceSession(plain, providers=["CPUExecutionProvider"])
    reference = session.run(None, {session.get_inputs()[0].name: checked})[0]
    (folder / "model").write_bytes(encrypted.model)
    with EzklProcess() as ezkl:
        ezkl.call(
            "calibrate",
            model=str(folder / "model"),
            run_args=_VISIBILITY,
            records=calibration.reshape(len(calibration), -1).astype(float).tolist(),
            out=str(folder / "calibrated"),
        )
        ours = make_settings(encrypted.model, profile_for(name), ezkl).data
    sides = {
        "ezkl": Side(folder / "ezkl", encrypted.model, (folder / "calibrated").read_bytes()),
        "tuned": Side(folder / "tuned", encrypted.model, ours),
    }
    report: dict[str, Any] = {}
    times: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(repeats + 1):
        for which, side in sides.items():
            seconds, size = side.prove(hidden[turn % len(hidden)])
            if turn:
                times[which].append(seconds)
            report[which] = {"proofBytes": size}
    for which, side in sides.items():
        found = decrypt_outputs(encrypted.key, side.outputs(hidden).reshape(reference.shape))
        args = side.document["run_args"]
        report[which] |= {
            "seconds": statistics.median(times[which]),
            "slowest": max(times[which]),
            "logrows": args["logrows"],
            "scales": [args["input_scale"], args["param_scale"]],
            "error": float(np.abs(found - reference).max()),
            "agreement": float((found.argmax(axis=1) == reference.argmax(axis=1)).mean()),
        }
        side.ezkl.close()
    report["ratio"] = statistics.median(a / b for a, b in zip(times["ezkl"], times["tuned"], strict=True))
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    parser.add_argument("--model", action="append", choices=tuned_models())
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    report = {}
    for name in options.model or tuned_models():
        with tempfile.TemporaryDirectory() as folder:
            report[name] = found = compare(name, Path(folder), options.repeats)
        for which in ("ezkl", "tuned"):
            side = found[which]
            print(
                f"{name:14} {which:6} 2^{side['logrows']} scales {side['scales']}: {side['seconds']:.2f} s "
                f"(slowest {side['slowest']:.2f}), {side['proofBytes']} bytes, error {side['error']:.3g}, "
                f"decisions {side['agreement']:.1%}"
            )
        print(f"{name:14} ratio {found['ratio']:.2f}")
    ratios = [found["ratio"] for found in report.values()]
    print(f"median ratio {statistics.median(ratios):.2f} over {len(ratios)} models")
    options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
