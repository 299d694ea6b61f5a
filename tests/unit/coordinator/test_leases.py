"""Leases: one worker at a time, put back when they run out, and reasons why a task waits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.placement import Candidate, private_records, waiting_reason
from coordinator.services import Coordinator
from coordinator.tables import JobRow
from rexis.api import JobState, Progress, Stage, TaskState, WorkerRegistration
from rexis.protocol.digests import sha256
from rexis.protocol.errors import EvidenceError, ForbiddenError, LeaseError
from rexis.protocol.parsing import Address
from rexis.protocol.policy import Tier
from rexis.protocol.signing import address_of
from tests.unit.coordinator.fakes import FakeClock, FakeLedger, FakeWorker, make_coordinator, make_policy
from tests.unit.coordinator.scene import Scene

PROGRESS = Progress(stage=Stage.COMPUTE, done=1, total=3)


@pytest.fixture
def published(scene: Scene) -> Scene:
    scene.publish()
    return scene


def test_tasks_are_leased_in_order_and_once(published: Scene) -> None:
    job = published.submit()
    worker, other = published.worker(), published.worker()
    first, second = published.lease(worker), published.lease(other)
    assert [(lease.start, lease.count) for lease in (first, second)] == [(0, 3), (3, 2)]
    assert first.nonce != second.nonce
    assert published.coordinator.leases.grant(worker.address) is None
    view = published.job(job)
    assert view.state == JobState.RUNNING
    assert [task.worker for task in view.tasks] == [worker.address, other.address]


def test_racing_workers_never_get_the_same_task(published: Scene) -> None:
    published.submit(policy=make_policy(shard_size=1))
    workers = [published.worker() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        leases = list(pool.map(lambda worker: published.coordinator.leases.grant(worker.address), workers))
    starts = [lease.start for lease in leases if lease is not None]
    assert sorted(starts) == list(range(5))


def test_a_worker_holds_only_so_many(published: Scene) -> None:
    published.submit(policy=make_policy(shard_size=1))
    hoarder, other = published.prove(published.worker()), published.worker()
    held = [published.lease(hoarder) for _ in range(4)]
    assert published.coordinator.leases.grant(hoarder.address) is None
    assert published.lease(other).start == 4
    published.coordinator.leases.give_back(held[0].lease_id, hoarder.address)
    assert published.lease(hoarder).start == 0


def test_heartbeats_without_progress_do_not_keep_a_lease(published: Scene, clock: FakeClock) -> None:
    published.submit()
    worker, leases = published.worker(), published.coordinator.leases
    lease = published.lease(worker)
    for turn in range(40):
        # Back and forth, and more records than there are, is no progress.
        beat = Progress(stage=Stage.COMPUTE, done=3 + turn % 2 + turn, total=1000)
        clock.pass_seconds(50)
        try:
            leases.heartbeat(lease.lease_id, worker.address, beat)
        except LeaseError:
            break
    assert 1200 <= turn * 50 <= 1350


def test_progress_keeps_a_lease_but_not_for_ever(published: Scene, clock: FakeClock) -> None:
    published.submit(policy=make_policy(shard_size=5))
    worker, leases = published.worker(), published.coordinator.leases
    published.coordinator.leases._terms = replace(leases._terms, most_ms=2_000_000)
    lease = published.lease(worker)
    for turn in range(40):
        beat = Progress(stage=Stage.PROVE, done=turn // 10, total=5)
        clock.pass_seconds(55)
        try:
            leases.heartbeat(lease.lease_id, worker.address, beat)
        except LeaseError:
            break
    assert 1900 <= turn * 55 <= 2050


def test_only_a_registered_worker_gets_a_lease(published: Scene) -> None:
    published.submit()
    with pytest.raises(ForbiddenError):
        published.coordinator.leases.grant(FakeWorker().address)


def test_a_lease_that_runs_out_is_lost_and_the_task_free(published: Scene, clock: FakeClock) -> None:
    job = published.submit()
    worker, leases = published.worker(), published.coordinator.leases
    lease = published.lease(worker)
    clock.pass_seconds(59)
    leases.heartbeat(lease.lease_id, worker.address, PROGRESS)
    assert published.job(job).tasks[0].progress == PROGRESS
    clock.pass_seconds(59)
    leases.heartbeat(lease.lease_id, worker.address, PROGRESS)
    clock.pass_seconds(60)
    with pytest.raises(LeaseError, match="expired"):
        leases.heartbeat(lease.lease_id, worker.address, PROGRESS)
    assert published.job(job).tasks[0].state == TaskState.PENDING
    with pytest.raises(LeaseError):
        published.hand_in(worker, lease)
    published.prove(worker)
    assert [published.lease(worker).start for _ in range(2)] == [3, 0]  # what was never tried comes first


def test_a_task_that_makes_a_worker_vanish_goes_to_another(published: Scene, clock: FakeClock) -> None:
    job = published.submit(policy=make_policy(shard_size=5))
    worker = published.worker()
    for _ in range(3):
        published.lease(worker)
        clock.pass_seconds(61)
    assert published.coordinator.leases.grant(worker.address) is None
    assert [fault.code for fault in published.job(job).tasks[0].faults] == ["lease-expired"]
    assert published.lease(published.worker()).start == 0


def test_another_worker_cannot_use_a_lease(published: Scene) -> None:
    published.submit()
    worker, thief = published.worker(), published.worker()
    lease = published.lease(worker)
    leases = published.coordinator.leases
    for use in (
        lambda: leases.heartbeat(lease.lease_id, thief.address, PROGRESS),
        lambda: leases.give_up(lease.lease_id, thief.address, "x", ""),
        lambda: leases.give_back(lease.lease_id, thief.address),
        lambda: published.hand_in(thief, lease),
        lambda: leases.heartbeat("0" * 32, worker.address, PROGRESS),
    ):
        with pytest.raises(LeaseError):
            use()


def test_giving_back_is_no_fault_and_giving_up_is(published: Scene) -> None:
    job = published.submit(policy=make_policy(shard_size=5))
    worker, leases = published.worker(), published.coordinator.leases
    lease = published.lease(worker)
    leases.give_back(lease.lease_id, worker.address)
    leases.give_back(lease.lease_id, worker.address)  # an answer may be lost
    assert published.job(job).tasks[0].faults == []

    lease = published.lease(worker)
    leases.give_up(lease.lease_id, worker.address, "too-large", "no room")
    leases.give_up(lease.lease_id, worker.address, "too-large", "no room")
    task = published.job(job).tasks[0]
    assert [(fault.code, fault.detail) for fault in task.faults] == [("too-large", "no room")]
    assert task.waiting == "every worker that fits has failed this task"
    assert leases.grant(worker.address) is None
    # Announcing itself anew does not lift that: it could fail the task for ever.
    again = WorkerRegistration(name="w", provider="CPU", tiers=[Tier.COMMIT], memory_bytes=2)
    published.coordinator.workers.register(worker.address, again)
    assert leases.grant(worker.address) is None


def test_a_task_that_many_workers_failed_fails_its_job(tmp_path: Path, ledger: FakeLedger, clock: FakeClock) -> None:
    scene = Scene(make_coordinator(tmp_path, ledger, clock, max_task_faults=3), ledger)
    scene.publish()
    veteran, _ = scene.do_all(), scene.submit(policy=make_policy(shard_size=5))
    scene.hand_in(veteran, scene.lease(veteran))
    job = scene.submit(policy=make_policy(shard_size=5), nonce=sha256(b"second"))
    leases = scene.coordinator.leases
    for _ in range(2):
        worker = scene.worker()
        leases.give_up(scene.lease(worker).lease_id, worker.address, "too-large", "no room")
    # The last one that may fail it is no stranger.
    assert leases.grant(scene.worker().address) is None
    assert scene.job(job).tasks[0].waiting == "waiting for a free worker"
    leases.give_up(scene.lease(veteran).lease_id, veteran.address, "too-large", "no room either")
    view = scene.job(job)
    assert view.state == JobState.FAILED
    assert "3 workers failed, the last with too-large: no room either" in str(view.reason)


def test_giving_back_again_and_again_is_a_fault(published: Scene) -> None:
    job = published.submit(policy=make_policy(shard_size=5))
    worker, leases = published.worker(), published.coordinator.leases
    for _ in range(10):
        leases.give_back(published.lease(worker).lease_id, worker.address)
    assert leases.grant(worker.address) is None
    assert [fault.code for fault in published.job(job).tasks[0].faults] == ["given-back"]


def test_refused_evidence_counts_and_is_not_forgiven(published: Scene) -> None:
    job = published.submit(policy=make_policy(shard_size=5))
    worker = published.worker()
    lease = published.lease(worker)
    with pytest.raises(EvidenceError, match="step 7"):
        published.hand_in(FakeLiar(worker.account), lease)
    task = published.job(job).tasks[0]
    assert [fault.code for fault in task.faults] == ["evidence-rejected"]
    published.coordinator.workers.register(
        worker.address, WorkerRegistration(name="w", provider="CPU", tiers=[Tier.COMMIT], memory_bytes=2)
    )
    assert published.coordinator.leases.grant(worker.address) is None
    assert [one.faults for one in published.coordinator.workers.all()] == [1]


class FakeLiar(FakeWorker):
    """Claims a nonce that is not the lease's."""

    def work(self, lease, dataset, **options):  # type: ignore[no-untyped-def]
        return super().work(lease.model_copy(update={"nonce": lease.request.nonce}), dataset, **options)


def test_accepted_evidence_has_one_verdict(published: Scene) -> None:
    job = published.submit(policy=make_policy(shard_size=5))
    worker = published.worker()
    lease = published.lease(worker)
    verdict = published.hand_in(worker, lease)
    assert verdict.accepted
    assert all(step.status == "ok" for step in verdict.steps)
    assert published.hand_in(worker, lease) == verdict
    assert published.job(job).state == JobState.ANCHORING
    with pytest.raises(LeaseError):
        published.coordinator.leases.heartbeat(lease.lease_id, worker.address, PROGRESS)


def test_why_a_task_waits(published: Scene, clock: FakeClock) -> None:
    job = published.submit(policy=make_policy(shard_size=5))

    def why() -> str | None:
        return published.job(job).tasks[0].waiting

    assert why() == "no worker registered"
    published.worker(Tier.ZK)
    assert why() == "no worker proves tier commit"
    published.worker()
    assert why() == "waiting for a free worker"
    clock.pass_seconds(121)
    assert why() == "every worker that fits is offline"


def test_reasons_by_themselves() -> None:
    able = Candidate(Address("0x" + "0" * 40), frozenset({"zk"}), frozenset(), online=True, memory_bytes=0)
    trusted = Candidate(Address("0x" + "1" * 40), frozenset({"zk"}), frozenset({"zk"}), online=True, memory_bytes=0)
    assert waiting_reason("zk", 0, [], [], last=False) == "no worker registered"
    assert waiting_reason("commit", 0, [able], [], last=False) == "no worker proves tier commit"
    assert waiting_reason("zk", 0, [able], [able.address], last=False) == "every worker that fits has failed this task"
    assert waiting_reason("zk", 0, [able], [], last=False) == "waiting for a free worker"
    assert waiting_reason("zk", 0, [able], [], last=True).startswith("the last attempt is kept for")
    assert waiting_reason("zk", 0, [able, trusted], [], last=True) == "waiting for a free worker"


def test_leases_survive_a_restart(published: Scene, coordinator: Coordinator) -> None:
    published.submit()
    worker = published.worker()
    lease = published.lease(worker)
    coordinator._store.close()  # a new connection sees what is on disk
    assert coordinator.leases.heartbeat(lease.lease_id, worker.address, PROGRESS).expires_at


def test_private_records_are_proved_by_who_has_them(published: Scene) -> None:
    """Tasks on a private dataset go to a worker that holds it for their requester, and such a worker gets no others."""
    requester = address_of(published.requester)
    held, other = sha256(b"held"), sha256(b"another")
    job = published.submit(policy=make_policy(shard_size=5))
    registration = WorkerRegistration(name="w", provider="CPUExecutionProvider", tiers=[Tier.COMMIT], memory_bytes=1)
    owner, neighbour, others, stranger = FakeWorker(), FakeWorker(), FakeWorker(), published.worker()
    workers, leases, store = published.coordinator.workers, published.coordinator.leases, published.coordinator._store
    workers.register(owner.address, registration.model_copy(update={"datasets": [held], "requester": requester}))
    workers.register(neighbour.address, registration.model_copy(update={"datasets": [other], "requester": requester}))
    workers.register(others.address, registration.model_copy(update={"datasets": [held]}))
    assert leases.grant(owner.address) is None
    with store.writing() as session:
        session.get_one(JobRow, str(job.job_id)).private_records = private_records(held, requester)
    assert leases.grant(stranger.address) is None
    assert leases.grant(neighbour.address) is None
    assert leases.grant(others.address) is None  # it serves its own address, and would have to fail the task
    assert published.job(job).tasks[0].waiting == "waiting for a free worker"
    assert leases.grant(owner.address) is not None


def test_why_private_records_wait() -> None:
    able = Candidate("a", frozenset({"zk"}), frozenset(), online=True, memory_bytes=0)
    holder = replace(able, datasets=frozenset({"d"}))
    assert waiting_reason("zk", 0, [able], [], last=False, private="d").startswith("no worker holds the records")
    assert waiting_reason("zk", 0, [holder], [], last=False, private="e").startswith("no worker holds the records")
    assert waiting_reason("zk", 0, [able, holder], [], last=False, private="d") == "waiting for a free worker"
    assert waiting_reason("zk", 0, [holder], [], last=False) == "no worker registered"
