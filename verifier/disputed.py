"""Settles a dispute about a segment by proofs of its steps (:mod:`circuits.training_step`).

Two platforms may differ by more than a policy tolerates, and each says that it is right. The proofs say what the steps
give in fixed point, whatever anybody's torch does. The verifier makes the circuits' keys itself, so that nothing of the
worker's but its proofs is used.
"""

from __future__ import annotations

import numpy as np

from circuits.artefacts import CircuitCache
from circuits.build import ProvingCircuit, build_circuit
from circuits.process import Ezkl
from circuits.profile import CircuitProfile
from circuits.srs import Srs
from circuits.training_step import StepProofs, check_steps, flat_tensors, step_model
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import EvidenceError
from rexis.protocol.records import Floats
from rexis.protocol.training import TrainingPlan
from rexis.protocol.transcript import State, weights_of


def step_circuits(
    base: bytes, plan: TrainingPlan, segment: int, profile: CircuitProfile, srs: Srs, cache: CircuitCache, ezkl: Ezkl
) -> list[ProvingCircuit]:
    """The circuit of each step of a segment; steps with the same learning rate share one.

    Raises
    ------
    CircuitError, TensorError, ResourceError
        See :func:`~circuits.training_step.step_model` and :func:`~circuits.build.build_circuit`.
    """
    made: dict[Digest, ProvingCircuit] = {}
    found = []
    for step in range(plan.step_of(segment), plan.step_of(segment + 1)):
        model = step_model(base, plan, step)
        key = sha256(model)
        if key not in made:
            made[key] = build_circuit(model, profile, srs, cache, ezkl)
        found.append(made[key])
    return found


def check_disputed_segment(
    plan: TrainingPlan,
    records: Floats,
    segment: int,
    before: State,
    end: State,
    shown: StepProofs,
    circuits: list[ProvingCircuit],
    *,
    tolerance: float,
) -> float:
    """How far the committed end of a segment lies from the proved one, as a part of the proved way.

    Parameters
    ----------
    records
        Of the dataset, which has been compared with its root.
    before, end
        Committed states, which have been compared with their roots.
    circuits
        From :func:`step_circuits`, made here.
    tolerance
        What fixed point is allowed to cost, as a part of the way.

    Raises
    ------
    CircuitError
        A proof does not hold, or there are not as many as steps.
    EvidenceError
        Proofs of other steps; or the committed end lies elsewhere than the proved one.
    """
    if shown.start != plan.step_of(segment):
        raise EvidenceError(f"the proofs begin at step {shown.start}, the segment at {plan.step_of(segment)}")
    weights, claimed = weights_of(before), weights_of(end)
    artefacts = [circuit.artefacts for circuit in circuits]
    proved = check_steps(artefacts, plan, records, weights, shown, circuits[0].srs)
    scale = artefacts[0].parsed.segments[0].output_scale
    gap, way = (
        float(np.linalg.norm((proved - flat_tensors(plan, values, scale)).astype(np.float64)))
        for values in (claimed, weights)
    )
    distance = gap / way if way else float(gap > 0)
    if distance > tolerance:
        raise EvidenceError(
            f"segment {segment} ends {distance:.3g} of its way from what was proved; fixed point may cost {tolerance:g}"
        )
    return distance
