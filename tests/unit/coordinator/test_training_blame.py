"""Who answers for a segment that cannot be taken again: who signed its end, and not who took the task over later."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import verifier.retraining
from coordinator.training_evidence import _Files
from rexis.api import Lease
from rexis.protocol.errors import EvidenceError
from rexis.protocol.training import TrainingRequest
from rexis.protocol.transcript import State
from tests.retraining import in_a_thread
from tests.unit.coordinator.fakes import FakeClock
from tests.unit.coordinator.scene import Scene
from tests.unit.coordinator.trainings import INTERVAL, FakeTrainer, TrainingScene
from verifier.report import StepFailed, Verdict
from verifier.training import SEGMENTS, TrainingContext, walk_training


class _Cheat(FakeTrainer):
    """Commits finite weights from which no step leads to a finite loss, and says that some did."""

    def state(self, lease: Lease, step: int, model: bytes) -> State:
        honest = super().state(lease, step, model)
        return {name: np.full_like(value, 3e38) for name, value in honest.items()} if step else honest


def test_steps_that_lead_nowhere_are_the_fault_of_who_signed_them(
    scene: Scene, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier.retraining, "_process", in_a_thread)
    training = TrainingScene(scene)
    training.publish()
    training.submit()
    cheat = _Cheat(scene, training.trainer().account)
    cheat.train(cheat.lease(), training.model, until=2)
    clock.pass_seconds(61)
    heir = training.trainer()
    lease = heir.lease()
    evidence = heir.evidence(lease, heir.train(lease, training.model))
    assert isinstance(lease.request, TrainingRequest)
    assert lease.plan is not None
    context = TrainingContext(
        domain=lease.domain,
        request=lease.request,
        plan=lease.plan,
        worker=heir.address,
        nonce=lease.nonce,
        block_hash=None,
        files=_Files(training.coordinator.blobs),
    )
    walk_training(evidence, context, Verdict())
    with pytest.raises(StepFailed) as failed:
        walk_training(evidence, dataclasses.replace(context, more_segments=[1]), Verdict())
    cause = failed.value.__cause__
    assert failed.value.number == SEGMENTS
    assert isinstance(cause, EvidenceError)
    assert cause.field == "transcript.2.checkpoint.stateRoot"
    assert f"of worker {cheat.address}: cannot be taken again: " in cause.message
    assert f"the loss of step {INTERVAL} is" in cause.message
