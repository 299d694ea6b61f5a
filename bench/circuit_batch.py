"""Whether several records in one circuit cost less than as many circuits of one record each.

``python -m bench.circuit_batch`` prints a table and writes JSON to ``bench/out/circuit_batch.json``. The tuned profile
of a zoo model keeps its scales and digits; for each batch the cost model picks the cheapest rows and inner columns, and
that circuit is built and proved. Seconds and processor seconds are of one proof, divided by its records.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench._processes import cpu_seconds
from circuits.cost import MAX_BLOCKS, Estimate, estimate, relaid
from circuits.process import EzklProcess
from circuits.profile import CircuitProfile, profile_for, rewrites_for, tuned_models
from circuits.rewrites import rewrite
from circuits.settings import CircuitSettings, canonical
from circuits.srs import ensure_development_srs
from models.zoo import held_out, load_model_bytes
from rexis.ee import encrypt_records
from rexis.ee.compiler import encrypt_model
from rexis.protocol.records import quantise

DEFAULT_OUT = Path(__file__).parent / "out" / "circuit_batch.json"


def settings_of(ezkl: EzklProcess, paths: dict[str, str], profile: CircuitProfile, batch: int) -> CircuitSettings:
    """Settings for so many records at once; they stay where `paths` has them."""
    run_args = profile.run_args() | {"variables": [["batch", batch]]}
    ezkl.single_threaded().call("settings", model=paths["model"], run_args=run_args, out=paths["settings"])
    return CircuitSettings.parse(canonical(json.loads(Path(paths["settings"]).read_bytes())))


def cheapest(settings: CircuitSettings) -> tuple[CircuitProfile, Estimate]:
    """The layout of a model's rows that takes least processor time."""
    found = []
    for logrows, inner in itertools.product(range(11, 18), (1, 2, 3)):
        columns = relaid(settings, logrows, inner)
        if columns.blocks <= MAX_BLOCKS:
            layout = settings.profile.model_copy(update={"logrows": logrows, "inner_columns": inner})
            found.append((layout, estimate(columns)))
    return min(found, key=lambda each: each[1].cpu_seconds)


def measure(name: str, batch: int, folder: Path, repeats: int) -> dict[str, Any]:
    """One batch size."""
    encrypted = encrypt_model(rewrite(load_model_bytes(name), rewrites_for(name)), epoch=1, seed=bytes(32))
    records = encrypt_records(encrypted.key, held_out(name)[0][:batch])
    paths = {part: str(folder / part) for part in ("model", "settings", "compiled", "vk", "pk")}
    Path(paths["model"]).write_bytes(encrypted.model)
    with EzklProcess() as ezkl:
        profile, cost = cheapest(settings_of(ezkl, paths, profile_for(name), batch))
        settings = settings_of(ezkl, paths, profile, batch)
        paths["srs"] = str(ensure_development_srs(profile.logrows, folder.parent).path)
        ezkl.call("keys", **paths)
        call = {part: paths[part] for part in ("compiled", "pk", "vk", "settings", "srs")}
        row = quantise(records, settings.input_scale).reshape(-1).tolist()
        seconds, cpu = [], []
        for turn in range(repeats + 1):
            before, started = cpu_seconds(ezkl.pid), time.perf_counter()
            proof = ezkl.call("prove", scale=settings.input_scale, record=row, **call)["proof"]
            if turn:
                seconds.append((time.perf_counter() - started) / batch)
                cpu.append((cpu_seconds(ezkl.pid) - before) / batch)
    return {
        "batch": batch,
        "rows": settings.rows * profile.inner_columns,
        "logrows": profile.logrows,
        "innerColumns": profile.inner_columns,
        "predictedCpuSeconds": round(cost.cpu_seconds / batch, 3),
        "seconds": statistics.median(seconds),
        "cpuSeconds": statistics.median(cpu),
        "proofBytes": len(proof) // 2,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    parser.add_argument("--model", choices=tuned_models(), default="breast_cancer")
    parser.add_argument("--batch", type=int, action="append")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    report = []
    with tempfile.TemporaryDirectory() as root:
        for batch in options.batch or (1, 2, 4, 8):
            folder = Path(root, str(batch))
            folder.mkdir()
            found = measure(options.model, batch, folder, options.repeats)
            report.append(found)
            print(
                f"{options.model} batch {batch}: {found['rows']} rows in 2^{found['logrows']} × "
                f"{found['innerColumns']}, {found['seconds']:.2f} s and {found['cpuSeconds']:.2f} s of processor time "
                f"a record, proof {found['proofBytes']} bytes",
                flush=True,
            )
    options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
