"""The whole comparison, one model after another."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.costs import chain, circuit, peer_ckks, peer_ezkl, peer_reexecution
from bench.costs.alone import commit_peak_bytes
from bench.costs.checks import Checks
from bench.costs.clock import repeated
from bench.costs.result import ChainCost, CircuitCost, ModelCost, PeerCost, Report, TierCost
from bench.costs.scene import Scene
from bench.costs.scope import Scope
from bench.costs.surroundings import commit, machine, versions
from bench.costs.tiers import TierMeasurement
from circuits.process import ProcessGoneError
from rexis.protocol.errors import NotFoundError, ResourceError, UnavailableError

OnStep = Callable[[str, int, int], None]
"""Told what is being done, and how many of how many steps are behind."""

_INFERENCES = 50
# Why a model has no circuit here, which is nobody's fault: no profile, no room, no time, no ezkl.
_NO_CIRCUIT = (NotFoundError, ResourceError, ProcessGoneError, UnavailableError)


@dataclass(frozen=True)
class _ModelFindings:
    cost: ModelCost
    peers: list[PeerCost]
    proved: chain.Proved | None


def compare(scope: Scope, command: str, at: OnStep) -> Report:
    """Measure everything in the scope. Takes minutes, and both cores.

    Parameters
    ----------
    command
        What a person types to get the same again.
    """
    began, started, load = datetime.now(UTC), time.perf_counter(), os.getloadavg()[0]
    checks = Checks()
    models: list[ModelCost] = []
    peers: list[PeerCost] = []
    proved: list[chain.Proved] = []
    steps = len(scope.models) + 2
    with tempfile.TemporaryDirectory(prefix="rexis-bench-") as name:
        folder = Path(name)
        for done, model in enumerate(scope.models):
            found = _model(model, scope, checks, folder, _steps_of(model, done, steps, at))
            models.append(found.cost)
            peers += found.peers
            proved += [found.proved] if found.proved else []
        if peer_ckks.MODEL in scope.models:
            at("CKKS", steps - 2, steps)
            peers += peer_ckks.measure(scope, checks)
        at("gas on a development chain", steps - 1, steps)
        on_chain, no_chain = _chain(scope, proved, checks)
    return Report(
        command=command,
        smoke=scope.smoke,
        began=began.isoformat(timespec="seconds"),
        seconds=time.perf_counter() - started,
        commit=commit(),
        machine=machine(load),
        versions=versions(),
        models=models,
        chain=on_chain,
        no_chain=no_chain,
        peers=peers,
        checks=checks.found,
    )


def _steps_of(model: str, done: int, steps: int, at: OnStep) -> Callable[[str], None]:
    return lambda what: at(f"{model}: {what}", done, steps)


def _model(name: str, scope: Scope, checks: Checks, folder: Path, at: Callable[[str], None]) -> _ModelFindings:
    at("encrypting")
    scene, srs = Scene(name, folder / name), folder / "srs"
    with ExitStack() as stack:
        prepared = _prepared(scene, scope, checks, srs, at, stack)
        at("tasks, tier by tier")
        tiers = TierMeasurement(
            scene,
            scope,
            checks,
            prepared.found,
            lambda job: commit_peak_bytes(job.lease, job.dataset_file(), scene.model_file),
        )
        costs = tasks_of(tiers, scene.name, checks)
    found, peers = prepared.found, [_reexecution(scene, scope, checks, at)]
    if found is not None:
        at("ezkl as documented")
        peers.append(peer_ezkl.measure(scene, scope, checks, srs))
    proved = None if found is None or tiers.probe is None else chain.Proved(name, found[0].circuit, tiers.probe)
    return _ModelFindings(_cost(scene, scope, prepared, costs), peers, proved)


def tasks_of(tiers: TierMeasurement, about: str, checks: Checks) -> list[TierCost]:
    """Those that were done: a task that ezkl does not finish in its time ends the model, not the comparison."""
    name, costs = "the worker does its tasks", list[TierCost]()
    try:
        with checks.that(name, about, unless=(ProcessGoneError,)):
            for cost in tiers.measure():
                costs.append(cost)  # one by one: what came before a failure stays
    except ProcessGoneError as error:
        checks.skip(name, about, error.message)
    return costs


@dataclass(frozen=True)
class _Prepared:
    """A model's circuit with its single proofs, or why there is none."""

    found: tuple[circuit.Opened, CircuitCost] | None
    reason: str | None = None


def _prepared(
    scene: Scene, scope: Scope, checks: Checks, srs: Path, at: Callable[[str], None], stack: ExitStack
) -> _Prepared:
    if not scope.proves:
        return _Prepared(None, "no tier with proofs was asked for")
    at("set-up of the circuit")
    found: tuple[circuit.Opened, CircuitCost] | None = None
    try:
        with checks.that("the circuit is made and proves", scene.name, unless=_NO_CIRCUIT):
            opened = stack.enter_context(circuit.opened(scene, scope, srs))
            at("single proofs")
            found = opened, circuit.measure(scene, opened, scope, checks)
    except _NO_CIRCUIT as error:
        return _Prepared(None, error.message)
    return _Prepared(found) if found else _Prepared(None, "its circuit does not prove: see the checks")


def _reexecution(scene: Scene, scope: Scope, checks: Checks, at: Callable[[str], None]) -> PeerCost:
    at("re-execution")
    return peer_reexecution.measure(scene, scope, checks)


def _cost(scene: Scene, scope: Scope, prepared: _Prepared, tiers: list[TierCost]) -> ModelCost:
    records = scope.tasks[0]
    plain, encrypted = scene.records(records), scene.encrypted_records(records)
    manifest = scene.manifest
    return ModelCost(
        name=scene.name,
        modality=manifest.modality,
        parameters=scene.parameters,
        record_values=math.prod(manifest.onnx.record_shape),
        outputs=math.prod(manifest.onnx.output_shape),
        plain=repeated(lambda: scene.plain_executor.run(plain), _INFERENCES, scope.cell_seconds),
        encrypted=repeated(lambda: scene.executor.run(encrypted), _INFERENCES, scope.cell_seconds),
        records=records,
        circuit=None if prepared.found is None else prepared.found[1],
        no_circuit=prepared.reason,
        tiers=tiers,
    )


def _chain(scope: Scope, proved: list[chain.Proved], checks: Checks) -> tuple[ChainCost | None, str | None]:
    try:
        return chain.measure(scope.anchors, proved, checks), None
    except UnavailableError as error:
        checks.skip("transactions on a development chain", "chain", error.message)
        return None, error.message
