"""Trainings: what is taken and what is refused, checkpoints in order and once, hand-over, lineage, and what is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from rexis.api import JobState, Progress, Stage, TaskState
from rexis.cli.main import main
from rexis.protocol.digests import sha256
from rexis.protocol.errors import (
    ConflictError,
    EncryptionError,
    EvidenceError,
    ForbiddenError,
    LeaseError,
    MalformedError,
    ResourceError,
    RexisError,
    SignatureError,
)
from rexis.protocol.policy import Tier
from rexis.protocol.signing import address_of, new_account
from rexis.protocol.transcript import check_transcript, hand_overs, pack_state, state_root_of, transcript_tree
from tests.unit.coordinator.fakes import FakeClock, FakeLedger, make_coordinator
from tests.unit.coordinator.scene import Scene
from tests.unit.coordinator.serving import serving, use
from tests.unit.coordinator.test_recovery import finish
from tests.unit.coordinator.trainings import INTERVAL, STEPS, TrainingScene, make_plan

ADAM = {"kind": "adamw", "learningRateE9": 10**6, "beta1E9": 9 * 10**8, "beta2E9": 999 * 10**6, "epsilonE12": 10**4}


@pytest.fixture
def training(scene: Scene) -> TrainingScene:
    made = TrainingScene(scene)
    made.publish()
    return made


def test_a_training_is_one_task_for_workers_that_train(training: TrainingScene) -> None:
    job = training.submit()
    assert training.submit().job_id == job.job_id
    assert [(task.start, task.count) for task in job.tasks] == [(0, len(training.dataset))]
    assert job.training is not None
    assert (job.training.step, job.training.steps, job.training.loss_e9) == (0, STEPS, None)
    evaluator = training.scene.worker()
    assert training.coordinator.leases.grant(evaluator.address) is None
    assert training.scene.job(job).tasks[0].waiting == "no worker trains for tier commit"
    trainer = training.trainer()
    view = next(one for one in training.coordinator.workers.all() if one.address == trainer.address)
    assert (view.tiers, view.trains) == ([Tier.COMMIT], [Tier.COMMIT])
    lease = trainer.lease()
    assert (lease.plan, lease.transcript) == (make_plan(), [])


@pytest.mark.parametrize(
    ("changes", "kind", "reason", "field"),
    [
        ({"optimiser": ADAM, "powers": ["mix", "permute"]}, EncryptionError, "adamw does not", "plan.optimiser"),
        ({"inputShape": [4]}, MalformedError, "has 4 values, the plan says 5", "plan.inputShape"),
        ({"trainable": ["nothing"]}, RexisError, "nothing", "plan.trainable"),
        ({"batchSize": 9}, MalformedError, "a batch of 9 of 8 records", "plan.batchSize"),
        ({"steps": (1 << 20) + 1, "checkpointInterval": 1 << 20}, ResourceError, "at most", "plan.steps"),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_carried_out_is_refused_with_the_reason(
    training: TrainingScene, changes: dict[str, object], kind: type[RexisError], reason: str, field: str
) -> None:
    with pytest.raises(kind, match=reason) as refused:
        training.submit(make_plan(**changes))
    assert refused.value.field == field


def test_what_is_not_exact_is_taken_if_its_owner_says_so(training: TrainingScene) -> None:
    inexact = make_plan(optimiser=ADAM, powers=["mix", "permute"], allowInexact=True)
    assert training.submit(inexact).training is not None
    exact = make_plan(optimiser=ADAM)
    assert training.submit(exact, nonce=sha256(b"another")).training is not None


def test_the_plan_is_the_one_that_was_signed(training: TrainingScene) -> None:
    caller, jobs = address_of(training.scene.requester), training.coordinator.jobs
    signed = training.submission()
    for plan, reason in ((None, "needs its plan"), (make_plan(steps=6), "the request says")):
        with pytest.raises(MalformedError, match=reason) as refused:
            jobs.submit(caller, signed.model_copy(update={"plan": plan}))
        assert refused.value.field == "plan"
    training.scene.publish()
    other = training.scene.sign(training.scene.request())
    with pytest.raises(MalformedError, match="only a training has a plan"):
        jobs.submit(caller, other.model_copy(update={"plan": make_plan()}))


def test_checkpoints_come_in_order_and_once(training: TrainingScene) -> None:
    job, trainer = training.submit(), training.trainer()
    lease, add = trainer.lease(), training.coordinator.checkpoints.add
    first = trainer.make(lease, None, training.model)
    second = trainer.make(lease, first, training.model)
    with pytest.raises(EvidenceError, match="checkpoint 0: is 1"):
        trainer.hand_in(lease, second)
    trainer.hand_in(lease, first)
    trainer.hand_in(lease, first)
    trainer.hand_in(lease, second)
    other = trainer.make(lease, first, training.model, state_root=sha256(b"another"))
    with pytest.raises(ConflictError, match="is there already, and is another one"):
        trainer.hand_in(lease, other)
    stranger = training.trainer()
    with pytest.raises(LeaseError, match="another worker"):
        add(lease.lease_id, stranger.address, second)
    view = training.scene.job(job)
    assert view.training is not None
    assert (view.training.step, view.training.loss_e9) == (INTERVAL, 500_000_000)
    progress = view.tasks[0].progress
    assert progress is not None
    assert (progress.stage, progress.done, progress.total, progress.loss_e9) == (Stage.COMPUTE, 2, STEPS, 500_000_000)


def test_a_checkpoint_whose_state_is_not_what_it_says_is_not_taken(training: TrainingScene) -> None:
    training.submit()
    trainer = training.trainer()
    lease = trainer.lease()
    first = trainer.make(lease, None, training.model)
    elsewhere = trainer.make(lease, None, training.model, state_root=sha256(b"x"))
    with pytest.raises(EvidenceError, match="the base model's is"):
        trainer.hand_in(lease, elsewhere)
    with pytest.raises(MalformedError, match="has not been uploaded"):
        trainer.hand_in(lease, first.model_copy(update={"state_digest": sha256(b"nowhere")}))
    small = training.scene.upload(trainer.account, b"small")
    with pytest.raises(EvidenceError, match="the state's blob has 5 bytes"):
        trainer.hand_in(lease, first.model_copy(update={"state_digest": small}))
    trainer.hand_in(lease, first)
    second = trainer.make(lease, first, training.model)
    with pytest.raises(EvidenceError, match="the state has root"):
        trainer.hand_in(lease, second.model_copy(update={"state_digest": first.state_digest}))
    with pytest.raises(EvidenceError, match="losses"):
        trainer.hand_in(lease, second.model_copy(update={"losses": b""}))
    with pytest.raises(SignatureError):
        trainer.hand_in(lease, second.model_copy(update={"signature": first.signature}))
    theirs = training.trainer()
    foreign = theirs.make(lease, first, training.model)
    with pytest.raises(EvidenceError, match="the lease is"):
        trainer.hand_in(lease, foreign)


def test_a_state_of_other_shapes_is_not_left_to_an_heir(training: TrainingScene) -> None:
    training.submit()
    trainer = training.trainer()
    lease = trainer.lease()
    found = trainer.train(lease, training.model, until=0)
    honest = trainer.make(lease, found[-1], training.model)
    state = {name: value.T.copy() for name, value in trainer.state(lease, INTERVAL, training.model).items()}
    root = state_root_of(INTERVAL, honest.checkpoint.cursor, state)
    turned = trainer.make(lease, found[-1], training.model, state_root=root)
    digest = training.scene.upload(trainer.account, pack_state(state))
    with pytest.raises(EvidenceError, match=r"momentum_buffer/w has shape \[2, 3\], not the model's"):
        trainer.hand_in(lease, turned.model_copy(update={"state_digest": digest}))
    trainer.hand_in(lease, honest)


def test_the_next_worker_goes_on_where_the_lost_one_was(training: TrainingScene, clock: FakeClock) -> None:
    job, lost = training.submit(), training.trainer()
    before = lost.train(lost.lease(), training.model, until=1)
    clock.pass_seconds(61)
    training.coordinator.leases.expire()
    heir = training.trainer()
    lease = heir.lease()
    assert lease.transcript == before
    may_read = training.coordinator.access.may_read
    assert may_read(heir.address, before[-1].state_digest)
    assert not may_read(training.trainer().address, before[-1].state_digest)
    heir.train(lease, training.model)
    view = training.coordinator.checkpoints.transcript(address_of(training.scene.requester), job.job_id)
    task = training.scene.job(job).tasks[0].task_id
    check_transcript(view.checkpoints, view.plan, task, lease.domain)
    assert hand_overs(view.checkpoints) == [(0, lost.address), (2, heir.address)]
    with pytest.raises(LeaseError):
        lost.hand_in(lease, before[-1])
    with pytest.raises(ForbiddenError):
        training.coordinator.checkpoints.transcript(address_of(new_account()), job.job_id)


def test_evidence_that_holds_gives_the_model_to_requester_and_owner(training: TrainingScene) -> None:
    job, trainer = training.submit(), training.trainer()
    lease = trainer.lease()
    verdict = trainer.finish(lease, training.model)
    assert verdict.accepted
    assert {step.status for step in verdict.steps} == {"ok"}
    view = training.scene.job(job)
    assert (view.state, view.tasks[0].state) == (JobState.ANCHORING, TaskState.ACCEPTED)
    transcript = training.coordinator.checkpoints.transcript(address_of(training.scene.requester), job.job_id)
    trained = transcript.checkpoints[-1].checkpoint.model_digest
    for account in (training.scene.requester, training.scene.owner):
        assert training.coordinator.access.may_read(address_of(account), trained)
    assert not training.coordinator.access.may_read(address_of(new_account()), trained)
    with pytest.raises(ConflictError, match="it has a model"):
        training.coordinator.jobs.outputs(address_of(training.scene.requester), job.job_id)


def test_a_model_handed_over_since_gives_what_was_trained_to_its_new_owner(training: TrainingScene) -> None:
    job, trainer, heir = training.submit(), training.trainer(), address_of(new_account())
    lease = trainer.lease()
    training.scene.ledger.owners[training.model_digest] = heir
    trainer.finish(lease, training.model)
    transcript = training.coordinator.checkpoints.transcript(address_of(training.scene.requester), job.job_id)
    trained = transcript.checkpoints[-1].checkpoint.model_digest
    assert training.coordinator.access.may_read(heir, trained)
    assert not training.coordinator.access.may_read(address_of(training.scene.owner), trained)


def test_a_trained_model_that_the_state_does_not_give_is_refused(training: TrainingScene) -> None:
    training.submit()
    trainer = training.trainer()
    lease = trainer.lease()
    found = trainer.train(lease, training.model, until=2)
    other = training.scene.upload(trainer.account, training.model)
    found.append(trainer.make(lease, found[-1], training.model, model_digest=other))
    trainer.hand_in(lease, found[-1])
    with pytest.raises(EvidenceError, match="trained model"):
        trainer.send(lease, trainer.evidence(lease, found))
    honest = training.trainer()
    assert len(honest.lease().transcript) == 3
    assert training.coordinator.leases.grant(trainer.address) is None


def test_who_signed_the_wrong_checkpoint_answers_for_it_and_not_its_heir(
    training: TrainingScene, clock: FakeClock
) -> None:
    job, cheat, heir = training.submit(), training.trainer(), training.trainer()
    cheat.train(cheat.lease(), training.model, until=2)
    clock.pass_seconds(61)
    lease = heir.lease()
    heir.train(lease, training.model)
    training.coordinator.leases.receive(lease.lease_id, heir.address)
    training.coordinator.leases.refuse_training(lease.lease_id, heir.address, "segment 1 was not taken", 2)
    faults = training.scene.job(job).tasks[0].faults
    assert [(one.worker, one.detail) for one in faults] == [(cheat.address, "segment 1 was not taken")]
    assert training.coordinator.leases.grant(cheat.address) is None
    again = heir.lease()
    assert [signed.checkpoint.index for signed in again.transcript] == [0, 1]
    assert heir.finish(again, training.model).accepted


def test_a_last_checkpoint_without_evidence_is_reached_again_by_the_heir(
    training: TrainingScene, clock: FakeClock
) -> None:
    training.submit()
    lost, heir = training.trainer(), training.trainer()
    lost.train(lost.lease(), training.model)
    clock.pass_seconds(61)
    lease = heir.lease()
    assert len(lease.transcript) == lease.plan.segments  # type: ignore[union-attr]
    assert heir.finish(lease, training.model).accepted


def test_evidence_of_another_kind_or_of_other_checkpoints_is_refused(training: TrainingScene) -> None:
    training.submit()
    trainer = training.trainer()
    lease = trainer.lease()
    with pytest.raises(ConflictError, match="the task is a training"):
        training.coordinator.intake.admit(lease.lease_id, trainer.address)
    found = trainer.train(lease, training.model)
    with pytest.raises(EvidenceError, match="not the transcript that is here"):
        trainer.send(lease, trainer.evidence(lease, found[:-1]))


def test_a_lease_of_a_training_lasts_as_long_as_checkpoints_come(
    tmp_path: Path, ledger: FakeLedger, clock: FakeClock
) -> None:
    coordinator = make_coordinator(tmp_path, ledger, clock, max_lease_seconds=90)
    training = TrainingScene(Scene(coordinator, ledger))
    training.publish()
    training.submit()
    trainer = training.trainer()
    lease = trainer.lease()
    found = trainer.train(lease, training.model, until=0)
    for step in (1, 2, 3, 4):
        clock.pass_seconds(40)
        progress = Progress(stage=Stage.COMPUTE, done=step, total=STEPS)
        coordinator.leases.heartbeat(lease.lease_id, trainer.address, progress)
        if step % INTERVAL == 0:
            found.append(trainer.make(lease, found[-1], training.model))
            trainer.hand_in(lease, found[-1])
    clock.pass_seconds(40)
    coordinator.leases.heartbeat(lease.lease_id, trainer.address, Progress(stage=Stage.COMPUTE, done=5, total=STEPS))
    clock.pass_seconds(51)
    with pytest.raises(LeaseError, match="expired"):
        trainer.hand_in(lease, found[-1])
    coordinator.close()


def test_a_model_tells_which_trainings_led_to_it(training: TrainingScene, clock: FakeClock) -> None:
    job, trainer = training.submit(), training.trainer()
    trainer.finish(trainer.lease(), training.model)
    transcript = training.coordinator.checkpoints.transcript(address_of(training.scene.requester), job.job_id)
    trained = transcript.checkpoints[-1].checkpoint.model_digest
    assert training.coordinator.lineages.of(trained, 1).origins == []
    finish(training.scene)
    (origin,) = training.coordinator.lineages.of(trained, 1).origins
    assert (origin.base_digest, origin.job_id) == (training.model_digest, job.job_id)
    assert origin.transcript_root == transcript_tree([one.checkpoint for one in transcript.checkpoints]).root
    assert training.coordinator.lineages.of(trained, 2).origins == []
    assert training.coordinator.lineages.of(training.model_digest, 1).origins == []


def test_states_are_kept_until_the_certificate_and_as_long_as_its_job(
    tmp_path: Path, ledger: FakeLedger, clock: FakeClock
) -> None:
    coordinator = make_coordinator(tmp_path, ledger, clock, retention_unused_hours=1, retention_job_days=2)
    training = TrainingScene(Scene(coordinator, ledger))
    training.publish()
    training.submit()
    trainer = training.trainer()
    lease = trainer.lease()
    found = trainer.train(lease, training.model, until=1)
    states = {signed.state_digest for signed in found}
    other = training.scene.upload(trainer.account, b"of no use")
    clock.pass_seconds(5 * 3600)
    gone = {digest for digest, _, _ in coordinator.garbage.rehearse()}
    assert other in gone
    assert not gone & states
    coordinator.leases.expire()
    heir = training.trainer()
    heir.finish(heir.lease(), training.model)
    finish(training.scene)
    coordinator.garbage.run()
    clock.pass_seconds(24 * 3600)
    assert not {digest for digest, _, _ in coordinator.garbage.rehearse()} & states
    clock.pass_seconds(25 * 3600)
    assert states <= {digest for digest, _, _ in coordinator.garbage.rehearse()}
    coordinator.close()


def test_a_person_sees_the_losses(
    tmp_path: Path, ledger: FakeLedger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(tmp_path, ledger) as coordinator:
        training = TrainingScene(Scene(coordinator, ledger))
        training.publish()
        job, trainer = training.submit(), training.trainer()
        trainer.train(trainer.lease(), training.model, until=2)
        use(monkeypatch, coordinator, training.scene.requester, tmp_path / "wallet.json")
        assert main(["job", "curve", str(job.job_id), "--out", str(tmp_path / "loss.csv")]) == 0
        shown = capsys.readouterr().out
        assert "*" in shown
        assert f"3 of 4 checkpoints; from checkpoint 0 worker {trainer.address}" in shown
        assert (tmp_path / "loss.csv").read_text() == "step,loss\n1,1\n2,0.5\n3,1\n4,0.5\n"
        assert main(["status", str(job.job_id)]) == 0
        assert "4/5 steps, loss 0.5" in capsys.readouterr().out
