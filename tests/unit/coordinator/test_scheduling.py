"""Whose task is next: turns, priorities, deadlines, back-off, quarantine, reputation; what looking for one costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount
from sqlalchemy import text
from sqlmodel import select

from coordinator.scheduling import _asked, _given, _next_job, offer_of
from coordinator.standing import PENALTY_LIMIT, Record, Rules
from coordinator.tables import LeaseRow, ShareRow, TaskRow, WorkerRow
from coordinator.times import rfc3339
from rexis.api import JobState, JobSubmission, JobView, TaskState, WorkerRegistration
from rexis.protocol.digests import sha256
from rexis.protocol.errors import ConflictError, EvidenceError, LeaseError, MalformedError
from rexis.protocol.policy import Tier
from rexis.protocol.signing import address_of, new_account
from tests.unit.coordinator.fakes import FakeClock, FakeLedger, FakeWorker, make_coordinator, make_policy
from tests.unit.coordinator.scene import Scene
from tests.unit.coordinator.test_leases import PROGRESS, FakeLiar


@pytest.fixture
def scene(database: str, tmp_path: Path, ledger: FakeLedger, clock: FakeClock) -> Iterator[Scene]:
    """Tasks wait after they failed, as by default, and a worker may have many leases."""
    made = make_coordinator(tmp_path, ledger, clock, database_url=database, retry_seconds=1, max_leases=64)
    scene = Scene(made, ledger)
    scene.publish()
    yield scene
    made.close()


def submit(scene: Scene, name: bytes = b"job", account: LocalAccount | None = None, **asked: object) -> JobView:
    """A job of five tasks of one record."""
    who = replace(scene, requester=account or scene.requester)
    if account is not None:
        who.upload(account, scene.dataset.to_bytes())
        scene.coordinator.catalogue.register_dataset(address_of(account), scene.dataset.digest)
    signed = who.sign(who.request(policy=make_policy(shard_size=1), nonce=sha256(name)))
    given = JobSubmission(request=signed.request, signature=signed.signature, **asked)  # type: ignore[arg-type]
    return scene.coordinator.jobs.submit(address_of(who.requester), given)[0]


def order(scene: Scene, worker: FakeWorker, most: int = 1) -> list[str]:
    """Of whose job each next task is, until there are none."""
    found = []
    while leases := scene.coordinator.leases.grant_many(worker.address, most):
        found += [str(lease.request.job_id(scene.coordinator.deployment.domain)) for lease in leases]
    return found


def test_many_tasks_do_not_hold_up_few(scene: Scene, clock: FakeClock) -> None:
    """Three jobs of one requester, then one of another: they take turns."""
    first = [str(submit(scene, b"%d" % number).job_id) for number in range(3)]
    clock.pass_seconds(1)
    second = str(submit(scene, b"late", new_account()).job_id)
    found = order(scene, scene.veteran())
    assert Counter(found) == Counter([*first * 5, *[second] * 5])
    for end in range(2, 11):
        assert abs(found[:end].count(second) - end / 2) <= 1
    assert found[10:] == [first[2]] * 5 or set(found[10:]) <= set(first)


def test_who_was_away_has_saved_nothing_up(scene: Scene) -> None:
    early, late = new_account(), new_account()
    submit(scene, b"late 0", late)
    worker = scene.veteran()
    order(scene, worker)
    for number in range(4):
        submit(scene, b"early %d" % number, early)
    order(scene, worker)  # twenty tasks, with nobody else there
    jobs = {str(submit(scene, b"late", late).job_id): "late", str(submit(scene, b"early", early).job_id): "early"}
    found = [jobs[job] for job in order(scene, worker)]
    assert all(abs(found[:end].count("late") - end / 2) <= 1 for end in range(1, 11))


def test_priority_counts_among_ones_own_and_waiting_counts_too(scene: Scene, clock: FakeClock) -> None:
    low = str(submit(scene, b"low", priority=-1).job_id)
    clock.pass_seconds(300)
    normal, urgent = str(submit(scene, b"normal").job_id), str(submit(scene, b"urgent", priority=1).job_id)
    clock.pass_seconds(301)
    later = str(submit(scene, b"later").job_id)  # a step of priority is ten minutes
    found = list(dict.fromkeys(order(scene, scene.veteran())))
    assert found == [urgent, normal, low, later]


def test_several_at_once_are_one_transaction_and_within_the_bound(scene: Scene) -> None:
    submit(scene)
    registration = WorkerRegistration(name="w", provider="CPU", tiers=[Tier.COMMIT], memory_bytes=1, slots=3)
    worker = scene.veteran()
    scene.coordinator.workers.register(worker.address, registration)
    leases = scene.coordinator.leases.grant_many(worker.address, 64)
    assert [lease.start for lease in leases] == [0, 1, 2]
    assert scene.coordinator.leases.grant_many(worker.address, 64) == []


def test_strangers_have_one_at_a_time(scene: Scene) -> None:
    submit(scene)
    stranger, leases = scene.worker(), scene.coordinator.leases
    (lease,) = leases.grant_many(stranger.address, 64)
    assert leases.grant(stranger.address) is None
    assert scene.hand_in(stranger, lease).accepted
    assert len(leases.grant_many(stranger.address, 64)) == 4


def test_a_task_that_failed_waits_longer_each_time(scene: Scene, clock: FakeClock) -> None:
    job = scene.submit(policy=make_policy(shard_size=5))
    leases = scene.coordinator.leases
    for seconds in (1, 2, 4, 8):
        worker, other = scene.worker(), scene.worker()
        leases.give_up(scene.lease(worker).lease_id, worker.address, "too-large", "no room")
        waiting = scene.job(job).tasks[0].waiting
        assert waiting == f"tried again from {rfc3339(clock.now + seconds * 1000)}, since a worker failed it"
        clock.pass_seconds(seconds - 0.5)
        assert leases.grant(other.address) is None
        clock.pass_seconds(0.5)
    assert Rules(16, closed=False).back_off(60) == 300_000


def test_a_task_that_workers_vanish_with_is_quarantined(scene: Scene, clock: FakeClock) -> None:
    """The rest of the job goes on, and its requester decides."""
    job = submit(scene)
    requester, jobs, views = address_of(scene.requester), scene.coordinator.jobs, scene.coordinator.views
    for _ in range(3):
        poisoned = scene.lease(worker := scene.worker())
        while poisoned.start != 0:  # the others are done at once
            scene.hand_in(worker, poisoned)
            poisoned = scene.lease(worker)
        clock.pass_seconds(61)
        scene.coordinator.leases.expire()
        clock.pass_seconds(10)
    scene.do_all()
    view = scene.job(job)
    assert view.counts.quarantined == 1
    assert view.counts.done == 4
    assert view.state == JobState.RUNNING
    assert "1 of 5 tasks are quarantined" in str(view.reason)
    assert "vanished with it" in str(view.tasks[0].waiting)
    assert views.waiting(requester, job.job_id).groups[-1].starts == [0]
    assert scene.coordinator.leases.grant(scene.worker().address) is None
    jobs.retry(requester, job.job_id)
    scene.do_all()
    assert scene.job(job).state == JobState.ANCHORING
    with pytest.raises(ConflictError, match="nothing in it"):
        jobs.retry(requester, job.job_id)
    told = [(one.entity, one.after) for one in views.history(requester, job.job_id, 0, 1000, 0).events]
    assert told.count(("lease", "expired")) == 3
    assert told[-1] == ("task", "accepted")
    assert ("task", "quarantined") in told


def test_a_job_past_its_deadline_fails(scene: Scene, clock: FakeClock) -> None:
    with pytest.raises(MalformedError, match="has passed"):
        submit(scene, deadline=rfc3339(clock.now - 1000))
    with pytest.raises(MalformedError, match="no time"):
        submit(scene, deadline="2026-13-40T00:00:00Z")
    job = submit(scene, deadline=rfc3339(clock.now + 30_000))
    worker, leases = scene.worker(), scene.coordinator.leases
    held = scene.lease(worker)
    clock.pass_seconds(30)
    with pytest.raises(LeaseError, match="cancelled"):
        leases.heartbeat(held.lease_id, worker.address, PROGRESS)
    assert leases.grant(worker.address) is None
    view = scene.job(job)
    assert (view.state, view.counts.failed) == (JobState.FAILED, 5)
    assert "its deadline" in str(view.reason)
    again = scene.coordinator.jobs.retry(address_of(scene.requester), job.job_id)
    assert (again.state, again.counts.pending, again.deadline, again.reason) == (JobState.QUEUED, 5, None, None)
    scene.do_all()
    assert scene.job(job).state == JobState.ANCHORING


def test_a_retried_job_keeps_what_was_accepted(scene: Scene) -> None:
    job, requester = submit(scene), address_of(scene.requester)
    worker = scene.worker()
    scene.hand_in(worker, scene.lease(worker))
    failing = scene.lease(worker)
    scene.coordinator.leases.give_up(failing.lease_id, worker.address, "x", "cannot")
    scene.coordinator.jobs.cancel(requester, job.job_id)
    view = scene.coordinator.jobs.retry(requester, job.job_id)
    assert (view.counts.accepted, view.counts.pending) == (1, 4)
    # The worker that gave up may try again; it is forgiven.
    assert {lease.start for lease in scene.coordinator.leases.grant_many(worker.address, 9)} == {1, 2, 3, 4}


def test_who_cheats_gets_nothing_for_a_while(scene: Scene, clock: FakeClock) -> None:
    for number in range(2):
        submit(scene, b"%d" % number)
    liar = FakeLiar(scene.veteran().account)
    for _ in range(3):
        with pytest.raises(EvidenceError):
            scene.hand_in(liar, scene.lease(liar))
    (known,) = [one for one in scene.coordinator.workers.all() if one.address == liar.address]
    assert (known.faults, known.penalty) == (3, PENALTY_LIMIT)
    assert known.barred_until == rfc3339(clock.now + 24 * 3600 * 1000)
    assert scene.coordinator.leases.grant(liar.address) is None
    (group,) = scene.coordinator.views.waiting(address_of(scene.requester), submit(scene, b"3").job_id).groups
    assert "left out for its faults" in group.reason
    clock.pass_seconds(24 * 3600)
    assert scene.coordinator.leases.grant(liar.address) is not None


def test_a_gpu_and_a_kind_of_data_are_asked_for(scene: Scene) -> None:
    job = submit(scene, gpu_memory_bytes=8 << 30, modality="ecg")
    plain = WorkerRegistration(name="w", provider="CUDA", tiers=[Tier.COMMIT], memory_bytes=1)
    worker, leases = FakeWorker(), scene.coordinator.leases

    def why(**has: object) -> str | None:
        scene.coordinator.workers.register(worker.address, plain.model_copy(update=has))
        found = scene.job(job).tasks[0].waiting
        assert (leases.grant(worker.address) is None) == (not str(found).startswith("waiting for a free"))
        return found

    assert why() == "no worker has a GPU with 8192 MiB, the largest has 0 MiB"
    assert why(gpu_memory_bytes=8 << 30, modalities=["mri"]) == "no worker of tier commit takes ecg"
    assert why(gpu_memory_bytes=8 << 30, modalities=["mri", "ecg"]) == "waiting for a free worker"


def test_why_says_whose_turn_it_is(scene: Scene, clock: FakeClock) -> None:
    submit(scene, b"first")
    clock.pass_seconds(1)
    own = submit(scene, b"second")
    worker = scene.worker()
    scene.lease(worker)
    submit(scene, b"other", new_account())
    (group,) = scene.coordinator.views.waiting(address_of(scene.requester), own.job_id).groups
    assert group.count == 5
    assert group.reason == (
        "waiting for a free worker: every one that fits has as many leases as it may; "
        "before it: 1 other requester(s) and 1 job(s) of your own"
    )


def test_views_come_in_pages(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.views.SHOWN_TASKS", 2)
    job, requester, views = submit(scene), address_of(scene.requester), scene.coordinator.views
    view = scene.job(job)
    assert ([task.start for task in view.tasks], view.counts.pending) == ([0, 1], 5)
    starts: list[int] = []
    after: int | None = None
    for _ in range(3):
        page = views.tasks(requester, job.job_id, after, 2)
        starts += [task.start for task in page.tasks]
        after = page.next
    assert (starts, after) == ([0, 1, 2, 3, 4], None)
    assert [one.start for one in views.tasks(requester, job.job_id, None, 9, TaskState.LEASED).tasks] == []
    first = views.history(requester, job.job_id, 0, 1)
    assert first.next is not None
    assert [one.entity for one in views.history(requester, job.job_id, first.next, 9).events] == ["task"]


def test_the_tasks_of_a_large_job_are_made_bit_by_bit(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.jobs._PLANNED_AT_ONCE", 2)
    job, worker, jobs = submit(scene), scene.veteran(), scene.coordinator.jobs
    assert (job.counts.pending, len(job.tasks)) == (5, 2)
    for lease in scene.coordinator.leases.grant_many(worker.address, 9):
        scene.hand_in(worker, lease)
    assert scene.job(job).state == JobState.RUNNING  # three are still to be made
    assert [jobs.plan(), jobs.plan(), jobs.plan()] == [2, 1, 0]
    scene.do_all()
    assert scene.job(job).state == JobState.ANCHORING
    assert scene.job(job).counts.accepted == 5


def test_turns_of_nobody_are_forgotten(scene: Scene, clock: FakeClock) -> None:
    submit(scene, b"gone", new_account())
    scene.do_all()
    submit(scene)
    scene.do_all()
    submit(scene, b"still there")
    clock.pass_seconds(61)
    scene.coordinator.leases.tidy_turns()
    with scene.coordinator._store.reading() as session:
        left = session.exec(select(ShareRow.requester)).all()
    assert address_of(scene.requester) in left


def test_no_look_for_a_task_reads_a_whole_table(scene: Scene) -> None:
    """What the database says that it will do, with enough rows for it to matter."""
    submit(scene)
    store, rules = scene.coordinator._store, Rules(16, closed=False)
    with store.writing() as session:
        task = session.exec(select(TaskRow)).first()
        assert task is not None
        fields = task.model_dump()
        session.add_all(TaskRow(**{**fields, "task_id": f"{n}", "start": 100 + n}) for n in range(3000))
    worker = WorkerRow(address="w", name="", provider="", tiers="commit zk", memory_bytes=1, last_seen=0)
    offer = offer_of(worker, Record(1, 0, {"commit": 1}), None, 10**13, rules)
    with store.writing() as session:
        connection = session.connection()
        if connection.dialect.name == "postgresql":
            connection.execute(text("ANALYZE"))
        looks = [
            _next_job(_asked(offer), frozenset()).params(_given(offer)),
            select(LeaseRow.lease_id).where(text("lease.outcome = 'open'"), LeaseRow.expires_at <= 0).limit(1),
        ]
        for look in looks:
            compiled = look.compile(connection, compile_kwargs={"literal_binds": True})
            plan = "EXPLAIN " if connection.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN "
            told = [str(tuple(row)) for row in connection.exec_driver_sql(plan + str(compiled))]
            assert not [line for line in told if "Seq Scan on task" in line or "SCAN task" in line], told
            if connection.dialect.name == "sqlite":  # PostgreSQL reads a table of one page without its index
                assert not [line for line in told if "SCAN lease" in line and "USING" not in line], told
