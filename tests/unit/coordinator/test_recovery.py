"""Cut off at any point and started again, jobs go on, and nothing is written on chain twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.services import Coordinator
from coordinator.tables import CommitmentRow, JobRow
from rexis.api import CommitmentSubmission, JobState, JobView, Progress, Stage, TaskState
from rexis.protocol.certificate import Certificate
from rexis.protocol.digests import sha256
from rexis.protocol.errors import ConflictError, EvidenceError, LeaseError, UnavailableError
from rexis.protocol.policy import Tier
from rexis.protocol.signing import address_of, new_account, sign_digest
from rexis.protocol.statement import statement_for
from tests.unit.coordinator.fakes import Crash, FakeClock, FakeLedger, FakeWorker, make_coordinator, make_policy
from tests.unit.coordinator.scene import Scene
from tests.unit.coordinator.test_jobs import CIRCUIT


def restarted(scene: Scene, tmp_path: Path, clock: FakeClock) -> Scene:
    scene.coordinator.close()
    made = make_coordinator(tmp_path, scene.ledger, clock, database_url=scene.coordinator.settings.database_url)
    return Scene(made, scene.ledger, scene.owner, scene.requester, scene.dataset)


def finish(scene: Scene) -> None:
    """What the background loops do."""
    coordinator = scene.coordinator
    while coordinator.anchoring.due():
        coordinator.anchoring.run()
    scene.ledger.head += 1
    for job in coordinator.certificates.due():
        coordinator.certificates.issue(job)


def certificate(scene: Scene, job: JobView) -> Certificate:
    return Certificate.parse(scene.coordinator.jobs.certificate(address_of(scene.requester), job.job_id))


def test_a_finished_job_is_certified(scene: Scene) -> None:
    scene.publish()
    job = scene.submit()
    scene.do_all()
    finish(scene)
    assert scene.job(job).state == JobState.CERTIFIED
    found = certificate(scene, job)
    assert found.development == ["chain"]
    assert [len(task.evidence.openings) for task in found.tasks] == [2, 2]
    assert len({task.anchor.anchor_id for task in found.tasks}) == 1


def test_dying_between_the_anchor_and_its_receipt(scene: Scene, tmp_path: Path, clock: FakeClock) -> None:
    scene.publish()
    job = scene.submit()
    scene.do_all()
    scene.ledger.crash_after = "anchor"
    with pytest.raises(Crash):
        scene.coordinator.anchoring.run()
    again = restarted(scene, tmp_path, clock)
    finish(again)
    assert again.job(job).state == JobState.CERTIFIED
    assert len(again.ledger.anchors) == 1
    anchored, transaction = again.ledger.anchors[0]
    assert certificate(again, job).tasks[0].anchor.transaction == transaction
    assert certificate(again, job).tasks[0].anchor.block_number == anchored.block


def test_dying_before_the_anchor_is_sent(scene: Scene, tmp_path: Path, clock: FakeClock) -> None:
    scene.publish()
    job = scene.submit()
    scene.do_all()
    assert scene.coordinator.anchoring._plan(scene.ledger.head) is not None
    again = restarted(scene, tmp_path, clock)
    finish(again)
    assert len(again.ledger.anchors) == 1
    assert again.job(job).state == JobState.CERTIFIED


def test_dying_before_the_certificate_is_recorded(scene: Scene, tmp_path: Path, clock: FakeClock) -> None:
    scene.publish()
    job = scene.submit()
    scene.do_all()
    scene.coordinator.anchoring.run()
    assert scene.job(job).state == JobState.ANCHORING
    assert all(task.state == TaskState.ANCHORED for task in scene.job(job).tasks)
    again = restarted(scene, tmp_path, clock)
    with pytest.raises(UnavailableError, match="has not come"):  # the block that opens records
        again.coordinator.certificates.issue(again.coordinator.certificates.due()[0])
    finish(again)
    assert again.job(job).state == JobState.CERTIFIED


def test_an_unfinished_job_is_anchored_only_after_a_while(scene: Scene, clock: FakeClock) -> None:
    scene.publish()
    scene.submit()
    worker = scene.worker()
    scene.hand_in(worker, scene.lease(worker))
    assert not scene.coordinator.anchoring.due()
    clock.pass_seconds(31)
    assert scene.coordinator.anchoring.due()
    finish(scene)
    assert len(scene.ledger.anchors) == 1
    scene.hand_in(worker, scene.lease(worker))
    assert scene.coordinator.anchoring.due()


def test_a_model_revoked_before_the_anchor_fails_the_job(scene: Scene) -> None:
    scene.publish()
    job = scene.submit()
    scene.do_all()
    scene.ledger.register_model(address_of(scene.owner), revoked_at=scene.ledger.head)
    finish(scene)
    view = scene.job(job)
    assert view.state == JobState.FAILED
    assert "revoked" in (view.reason or "")


def test_a_certificate_that_would_not_verify_is_not_issued(scene: Scene) -> None:
    scene.publish()
    job = scene.submit()
    scene.do_all()
    with scene.coordinator._store.writing() as session:
        session.get_one(JobRow, str(job.job_id)).signature = "0x" + "11" * 65
    finish(scene)
    view = scene.job(job)
    assert view.state == JobState.FAILED
    assert "would not verify: step 3" in (view.reason or "")
    assert view.certificate_digest is None


# --- tier sampled: the chain part of it needs no proofs ---------------------------------------------------------------


class Sampled:
    """A job of tier ``sampled`` and one worker. No proof is made: only commitments are looked at."""

    def __init__(self, scene: Scene, **policy: object) -> None:
        self.scene = scene
        scene.publish()
        wanted = make_policy(**{"tier": Tier.SAMPLED, "shard_size": 5, **policy})
        request = scene.request(policy=wanted, circuit=CIRCUIT)
        self.submission = scene.sign(request)
        domain = scene.coordinator.deployment.domain
        scene.keep_circuit(CIRCUIT)
        scene.coordinator.jobs._insert(request.job_id(domain), self.submission)
        self.job_id = request.job_id(domain)

    @property
    def coordinator(self) -> Coordinator:
        return self.scene.coordinator

    def take(self, worker: FakeWorker | None = None) -> None:
        self.worker = worker or self.scene.worker(Tier.SAMPLED)
        self.lease = self.scene.lease(self.worker)

    def view(self) -> JobView:
        return self.coordinator.views.job(address_of(self.scene.requester), self.job_id)

    def trust(self, worker: FakeWorker) -> None:
        """Let it have done another task of this tier."""
        self.scene.prove(worker, Tier.SAMPLED)

    def settle(self) -> None:
        for task in self.coordinator.commitments.spent():
            self.coordinator.commitments.settle(task)

    def statement(self, **changes: object) -> CommitmentSubmission:
        lease = self.lease
        fields: dict[str, object] = {
            "start": lease.start,
            "count": lease.count,
            "output_root": sha256(b"outputs"),
            "worker": self.worker.address,
            "nonce": lease.nonce,
        }
        made = statement_for(lease.request, lease.domain, **{**fields, **changes})  # type: ignore[arg-type]
        return CommitmentSubmission(
            statement=made, signature=sign_digest(self.worker.account, lease.domain.digest(made))
        )

    def commit(self, **changes: object) -> None:
        self.coordinator.commitments.submit(self.lease.lease_id, self.worker.address, self.statement(**changes))

    def send(self) -> None:
        commitments = self.coordinator.commitments
        for lease_id in commitments.pending():
            commitments.send(lease_id)
        commitments.follow()


def test_a_commitment_and_its_challenge(scene: Scene) -> None:
    sampled = Sampled(scene)
    sampled.take()
    challenge = lambda: scene.coordinator.commitments.challenge(sampled.lease.lease_id, sampled.worker.address)  # noqa: E731
    with pytest.raises(ConflictError, match="nothing was committed"):
        challenge()
    sampled.commit()
    sampled.commit()
    assert challenge() is None
    sampled.send()
    assert challenge() is None
    block = scene.ledger.head
    scene.ledger.head += 1
    found = challenge()
    assert found is not None
    assert (found.attempt, found.block_number) == (1, block)
    assert found.challenge_block_hash == scene.ledger.block_hash(block + 1)
    assert challenge() == found
    assert len(scene.ledger.commitments) == 1


def test_waiting_for_the_chain_is_no_standstill(scene: Scene, clock: FakeClock) -> None:
    sampled = Sampled(scene)
    sampled.take()
    sampled.commit()
    beat = Progress(stage=Stage.COMMIT, done=0, total=5)
    for _ in range(60):
        clock.pass_seconds(50)
        scene.coordinator.leases.heartbeat(sampled.lease.lease_id, sampled.worker.address, beat)


def test_one_statement_a_lease(scene: Scene) -> None:
    sampled = Sampled(scene)
    sampled.take()
    sampled.commit()
    with pytest.raises(ConflictError):
        sampled.commit(output_root=sha256(b"better outputs"))


@pytest.mark.parametrize("changes", [{"nonce": sha256(b"x")}, {"start": 1, "count": 4}])
def test_a_statement_about_something_else(scene: Scene, changes: dict[str, object]) -> None:
    sampled = Sampled(scene)
    sampled.take()
    with pytest.raises(EvidenceError):
        sampled.commit(**changes)


def test_a_commitment_of_another_tier(scene: Scene) -> None:
    scene.publish()
    scene.submit()
    worker = scene.worker()
    lease = scene.lease(worker)
    statement = worker.statement(lease, scene.dataset, worker.outputs(lease, scene.dataset))
    submission = CommitmentSubmission(
        statement=statement, signature=sign_digest(worker.account, lease.domain.digest(statement))
    )
    with pytest.raises(ConflictError, match="only tier sampled"):
        scene.coordinator.commitments.submit(lease.lease_id, worker.address, submission)


def test_dying_between_the_commitment_and_its_receipt(scene: Scene, tmp_path: Path, clock: FakeClock) -> None:
    sampled = Sampled(scene)
    sampled.take()
    sampled.commit()
    scene.ledger.crash_after = "commit"
    with pytest.raises(Crash):
        sampled.send()
    sampled.scene = restarted(scene, tmp_path, clock)
    sampled.send()
    assert sampled.coordinator.commitments.pending() == []
    assert len(scene.ledger.commitments) == 1
    with sampled.coordinator._store.reading() as session:
        row = session.get_one(CommitmentRow, sampled.lease.lease_id)
    assert (row.attempt, row.tx_hash) == (1, str(scene.ledger.commitments[0][1]))


def test_who_leaves_after_a_commitment_does_not_get_the_task_again(scene: Scene, clock: FakeClock) -> None:
    """Lease, commit anything, look at the challenge, leave: once an address, by whatever door."""
    sampled = Sampled(scene, max_attempts=5)
    leases = scene.coordinator.leases
    leave = (
        lambda: leases.give_back(sampled.lease.lease_id, sampled.worker.address),
        lambda: leases.give_up(sampled.lease.lease_id, sampled.worker.address, "x", "had enough"),
        lambda: (clock.pass_seconds(61), leases.expire()),
    )
    for door in leave:
        sampled.take(scene.worker(Tier.SAMPLED))
        sampled.commit()
        sampled.send()
        door()
        assert leases.grant(sampled.worker.address) is None
    view = sampled.view()
    assert view.state == JobState.RUNNING
    assert [fault.code for fault in view.tasks[0].faults] == ["commitment-dropped", "x", "commitment-dropped"]
    assert len({fault.worker for fault in view.tasks[0].faults}) == 3


def test_strangers_do_not_get_the_last_attempt(scene: Scene) -> None:
    sampled = Sampled(scene, max_attempts=3)
    leases = scene.coordinator.leases
    for _ in range(2):
        sampled.take(scene.worker(Tier.SAMPLED))
        sampled.commit()
        sampled.send()
        leases.give_back(sampled.lease.lease_id, sampled.worker.address)
    stranger, veteran = scene.worker(Tier.SAMPLED), scene.worker(Tier.SAMPLED)
    assert leases.grant(stranger.address) is None
    assert "the last attempt is kept for" in str(sampled.view().tasks[0].waiting)
    sampled.trust(veteran)
    assert sampled.view().tasks[0].waiting == "waiting for a free worker"
    sampled.take(veteran)
    sampled.commit()
    sampled.send()
    assert len(scene.ledger.commitments) == 3


def test_members_of_a_closed_coordinator_need_no_credit(tmp_path: Path, clock: FakeClock) -> None:
    account = new_account()
    ledger = FakeLedger(new_account())
    closed = make_coordinator(tmp_path, ledger, clock, members=[address_of(account)])
    Sampled(Scene(closed, ledger), max_attempts=1).take()


def test_who_drops_many_commitments_is_left_out_for_a_day(scene: Scene, clock: FakeClock) -> None:
    sampled = Sampled(scene, max_attempts=5, shard_size=1)
    worker = scene.worker(Tier.SAMPLED)
    for _ in range(3):
        sampled.take(worker)
        sampled.commit()
        scene.coordinator.leases.give_back(sampled.lease.lease_id, worker.address)
    assert scene.coordinator.leases.grant(worker.address) is None
    clock.pass_seconds(25 * 3600)
    sampled.take(worker)


def test_attempts_are_counted_on_chain_and_run_out(scene: Scene) -> None:
    sampled = Sampled(scene, max_attempts=2)
    for _ in range(2):
        worker = scene.worker(Tier.SAMPLED)
        sampled.trust(worker)
        sampled.take(worker)
        sampled.commit()
        sampled.send()
        scene.coordinator.leases.give_back(sampled.lease.lease_id, worker.address)
    assert sampled.view().state == JobState.RUNNING
    sampled.settle()
    assert len(scene.ledger.commitments) == 2
    view = sampled.view()
    assert view.state == JobState.FAILED
    assert "2 commitments were made, each by another worker" in (view.reason or "")
    assert "the policy allows 2" in (view.reason or "")
    assert view.tasks[0].state == TaskState.FAILED


def test_attempts_that_are_not_known_here_count_too(scene: Scene) -> None:
    sampled = Sampled(scene, max_attempts=2)
    sampled.take(scene.worker(Tier.SAMPLED))
    sampled.commit()
    for number in range(2):
        scene.ledger.commit(sampled.statement().statement.task_id, sha256(b"%d" % number))
    sampled.send()
    assert len(scene.ledger.commitments) == 2
    assert sampled.view().state == JobState.FAILED
    with pytest.raises(LeaseError, match="cancelled"):
        scene.coordinator.commitments.challenge(sampled.lease.lease_id, sampled.worker.address)


@pytest.mark.parametrize("intended", [False, True], ids=("unsigned", "intended before there was an outbox"))
def test_an_attempt_that_was_never_sent_is_not_used_up(scene: Scene, clock: FakeClock, intended: bool) -> None:
    sampled = Sampled(scene, max_attempts=1)
    worker = scene.worker(Tier.SAMPLED)
    sampled.trust(worker)
    sampled.take(worker)
    sampled.commit()
    scene.ledger.crash_unsigned = "commit"
    with pytest.raises(Crash):
        sampled.send()
    if intended:
        with scene.coordinator._store.writing() as session:
            session.get_one(CommitmentRow, sampled.lease.lease_id).since_block = scene.ledger.head
    clock.pass_seconds(61)
    scene.coordinator.leases.expire()
    assert bool(scene.coordinator.commitments.spent()) == intended
    sampled.settle()
    assert sampled.view().state == JobState.RUNNING
    other = scene.worker(Tier.SAMPLED)
    sampled.trust(other)
    sampled.take(other)


def test_an_attempt_that_was_signed_is_sent_although_its_lease_has_ended(
    scene: Scene, tmp_path: Path, clock: FakeClock
) -> None:
    """Nobody knows whether a node has it. It counts, and the chain shall show why."""
    sampled = Sampled(scene, max_attempts=2)
    sampled.take()
    sampled.commit()
    scene.ledger.holding, scene.ledger.crash_before = True, "commit"
    with pytest.raises(Crash):
        sampled.send()
    scene.ledger.mempool.clear()
    sampled.scene = restarted(scene, tmp_path, clock)
    clock.pass_seconds(61)
    sampled.coordinator.leases.expire()
    scene.ledger.holding = False
    sampled.coordinator.commitments.follow()
    sampled.coordinator.commitments.follow()
    assert len(scene.ledger.commitments) == 1
    with sampled.coordinator._store.reading() as session:
        assert session.get_one(CommitmentRow, sampled.lease.lease_id).attempt == 1


def test_the_statement_of_a_lost_lease_is_not_sent(scene: Scene, clock: FakeClock) -> None:
    sampled = Sampled(scene)
    sampled.take()
    sampled.commit()
    clock.pass_seconds(61)
    scene.coordinator.leases.expire()
    assert scene.coordinator.commitments.pending() == []
