"""ezkl by itself, as its documentation uses it: default run arguments, ``calibrate_settings`` with target "resources".

It proves the plain model on plain records, since it has no EE: the prover sees both. Inputs and outputs are public and
the weights fixed, as in the circuits of rexis.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from bench._processes import peak_bytes
from bench.costs.agreement import Bound, agreement, max_error
from bench.costs.checks import Checks, require
from bench.costs.clock import repeated, timed
from bench.costs.result import PeerCost, Spread
from bench.costs.scene import Scene
from bench.costs.scope import Scope
from circuits.memory import total_bytes
from circuits.process import EzklProcess
from circuits.srs import ensure_development_srs
from models.zoo import training_split
from rexis.protocol.errors import CircuitError
from rexis.protocol.records import dequantise, quantise

NAME = "ezkl, as documented"
_SHOWS = "every output is what ezkl's circuit of the plain model computes"
_HIDES = "nothing from the prover"
_CALIBRATION = 16
_SHARE_OF_MACHINE = 0.75  # it may ask for more than there is, and take other processes with it
_RUN_ARGS: dict[str, Any] = {
    "input_visibility": "public",
    "output_visibility": "public",
    "param_visibility": "fixed",
    "variables": [["batch", 1]],
}


def measure(scene: Scene, scope: Scope, checks: Checks, srs_folder: Path) -> PeerCost:
    """Calibrate, make keys, prove and verify one record after another."""
    try:
        return _measure(scene, scope, checks, srs_folder)
    except CircuitError as error:  # too slow for this run, or ezkl cannot do it: what it says goes into the report
        return PeerCost(peer=NAME, model=scene.name, shows=_SHOWS, hides=_HIDES, reason=error.message)


def _measure(scene: Scene, scope: Scope, checks: Checks, srs_folder: Path) -> PeerCost:
    folder = scene.folder / "ezkl"
    folder.mkdir()
    paths = {part: str(folder / part) for part in ("model", "settings", "compiled", "vk", "pk", "vka")}
    Path(paths["model"]).write_bytes(scene.plain)
    calibration = training_split(scene.name)[0][:_CALIBRATION]
    with EzklProcess(memory_limit=_memory(), timeout=scope.peer_seconds) as ezkl:
        calibrated_s, _ = timed(
            lambda: ezkl.call(
                "calibrate",
                model=paths["model"],
                run_args=_RUN_ARGS,
                records=calibration.reshape(len(calibration), -1).astype(float).tolist(),
                out=paths["settings"],
            )
        )
        settings = json.loads(Path(paths["settings"]).read_bytes())
        logrows, scale = settings["run_args"]["logrows"], settings["model_input_scales"][0]
        paths["srs"] = str(ensure_development_srs(logrows, srs_folder).path)
        keys_s, _ = timed(lambda: ezkl.call("keys", **paths))
    records = scene.records(scope.tasks[0])
    rows = quantise(records, scale).reshape(len(records), -1).tolist()
    call = {part: paths[part] for part in ("compiled", "pk", "vk", "settings", "srs")}
    check = {part: paths[part] for part in ("vk", "settings", "srs")}
    with EzklProcess(memory_limit=_memory(), timeout=scope.peer_seconds) as ezkl:
        outputs = np.array(ezkl.call("witness", compiled=paths["compiled"], scale=scale, records=rows))
        made = ezkl.call("prove", scale=scale, record=rows[0], **call)  # loads the keys
        prove = repeated(
            lambda: ezkl.call("prove", scale=scale, record=rows[0], **call), scope.proofs, scope.cell_seconds
        )
        peak = peak_bytes(ezkl.pid)
    claims = [{"proof": made["proof"], "instances": made["instances"]}]

    def verified() -> list[str | None]:
        with EzklProcess() as checker:  # as rexis does it, so that both pay for the start of a process
            found: list[str | None] = checker.call("verify", claims=claims, **check)
        return found

    verify = repeated(verified, scope.proofs, scope.cell_seconds)
    with checks.that("ezkl's own proof holds", scene.name):
        require(verified() == [None], "ezkl rejects it")
    found = dequantise(outputs, settings["model_output_scales"][0]).astype(np.float32).reshape(len(records), -1)
    expected = scene.reference(len(records))
    return PeerCost(
        peer=NAME,
        model=scene.name,
        shows=_SHOWS,
        hides=_HIDES,
        setup=Spread.of([calibrated_s + keys_s]),
        work=prove,
        verify=verify,
        sent_bytes=float(records[0].nbytes),
        proof_bytes=len(made["proof"]) // 2,
        peak_bytes=peak,
        max_error=max_error(found, expected),
        agreement=agreement(found, expected, Bound.of(scene.name)),
        note=f"2^{logrows} rows; set-up is calibration ({calibrated_s:.1f} s) and keys",
    )


def _memory() -> int:
    return int(total_bytes() * _SHARE_OF_MACHINE)
