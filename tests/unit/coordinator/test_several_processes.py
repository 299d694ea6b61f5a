"""Several coordinators over one database: duties, rings of the bell, and evidence that reaches two of them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy.exc import OperationalError
from sqlmodel import select, update

from coordinator.bell import Bell, heard
from coordinator.duties import Duties, Duty
from coordinator.loops import Loops
from coordinator.relay import Relay
from coordinator.services import Coordinator
from coordinator.store import Store
from coordinator.tables import DutyRow, FaultRow, LeaseRow, Outcome, TaskRow, TroubleRow
from rexis.api import JobState, JobView, Lease, TaskState, VerdictView
from rexis.protocol.errors import EvidenceError, LeaseError, UnavailableError
from rexis.protocol.evidence import Evidence
from rexis.protocol.signing import address_of
from tests.unit.coordinator.fakes import FakeClock, FakeLedger, FakeWorker, make_coordinator
from tests.unit.coordinator.scene import Scene


@pytest.fixture
def stores(database: str) -> Iterator[list[Store]]:
    made = [Store(database) for _ in range(2)]
    yield made
    for store in made:
        store.close()


@pytest.fixture
def other(tmp_path: Path, coordinator: Coordinator, ledger: FakeLedger, clock: FakeClock) -> Iterator[Coordinator]:
    """A second coordinator over the first one's database and blobs, with its account."""
    made = make_coordinator(tmp_path, ledger, clock, database_url=coordinator.settings.database_url)
    yield made
    made.close()


# --- duties -----------------------------------------------------------------------------------------------------------


def test_one_process_has_a_duty(stores: list[Store]) -> None:
    first, second = (Duties(store) for store in stores)
    assert first.renew()
    assert not second.renew()
    assert all(first.has(duty) and not second.has(duty) for duty in Duty)
    assert first.term(Duty.WALLET) == 1
    with pytest.raises(UnavailableError, match="another coordinator process has duty wallet"):
        second.term(Duty.WALLET)
    assert not first.renew()
    assert first.term(Duty.WALLET) == 1


def test_of_many_that_start_at_once_one_gets_it(stores: list[Store]) -> None:
    many = [Duties(stores[place % 2]) for place in range(8)]
    threads = [threading.Thread(target=one.renew) for one in many]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [sum(one.has(duty) for one in many) for duty in Duty] == [1] * len(Duty)


def test_the_duties_of_the_dead_are_taken_over(stores: list[Store], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Duties(stores[0], hold_s=60.0), Duties(stores[1], hold_s=60.0)
    first.renew()
    assert not second.renew()
    assert first.has(Duty.WALLET)
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + 59.5)
    with monkeypatch.context() as patch:
        patch.setattr("coordinator.duties.time", later)
        assert not first.has(Duty.WALLET)  # before anybody else can have it
    assert not second.renew()
    with stores[0].writing() as session:  # as if the time had passed by the database's clock, too
        session.exec(update(DutyRow).values(until=0))
    assert second.renew()
    assert second.term(Duty.WALLET) == 2
    with stores[0].writing() as session, pytest.raises(UnavailableError):
        first.require(session, Duty.WALLET)
    with stores[1].writing() as session:
        assert second.require(session, Duty.WALLET) == 2
    first.renew()
    assert not first.has(Duty.WALLET)


def test_duties_that_are_left_are_free_at_once(stores: list[Store]) -> None:
    first, second = (Duties(store) for store in stores)
    first.renew()
    second.release(list(Duty))  # they are not its own
    assert not second.renew()
    first.release([Duty.WALLET])
    assert second.renew()
    assert [first.has(duty) for duty in (Duty.WALLET, Duty.EXPIRE)] == [False, True]
    assert [second.has(duty) for duty in (Duty.WALLET, Duty.EXPIRE)] == [True, False]


def test_only_the_holder_anchors_and_the_next_one_goes_on(
    scene: Scene, coordinator: Coordinator, other: Coordinator, ledger: FakeLedger
) -> None:
    scene.publish()
    job = scene.submit()
    scene.do_all()
    ledger.head += 5
    coordinator.duties.renew()

    async def take_turns() -> None:
        await run_loops(other, 0.5)
        assert ledger.anchors == []
        coordinator.duties.release(list(Duty))
        await run_loops(other, 15.0, until=lambda: bool(ledger.anchors) and not other.anchoring.due())
        assert len(ledger.anchors) == 1
        await run_loops(coordinator, 15.0, until=lambda: certified(scene, job, ledger))  # it was handed over

    asyncio.run(take_turns())
    assert len(ledger.anchors) == 1
    assert certified(scene, job, ledger)


def test_a_duty_that_was_lost_is_not_gone_on_with(coordinator: Coordinator, other: Coordinator) -> None:
    """A process that was suspended in the middle of its turn: the rest of the turn is somebody else's."""
    done: list[str] = []

    def step(what: str) -> bool:
        done.append(what)
        return True

    async def turn() -> None:
        loops = Loops(coordinator)
        await loops._try("step", [], step, "with the duty")
        coordinator.duties.release(list(Duty))
        other.duties.renew()
        await loops._try("step", [], step, "without")

    coordinator.duties.renew()
    asyncio.run(turn())
    assert done == ["with the duty"]


async def run_loops(coordinator: Coordinator, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
    """Run a coordinator's background loops until something is so, or the time is up."""
    coordinator.bell.start()
    async with Loops(coordinator).running():
        for _ in range(int(seconds / 0.02)):
            if until():
                return
            await asyncio.sleep(0.02)


def test_a_process_without_duties_only_answers(
    tmp_path: Path, scene: Scene, coordinator: Coordinator, ledger: FakeLedger, clock: FakeClock
) -> None:
    url = coordinator.settings.database_url
    front = make_coordinator(tmp_path, ledger, clock, database_url=url, duties=False)
    scene.publish()
    job = scene.submit()
    scene.do_all()

    def issued() -> bool:
        return certified(scene, job, ledger)

    asyncio.run(run_loops(front, 0.5, issued))
    assert not any(front.duties.has(duty) for duty in Duty)
    assert scene.job(job).state == JobState.ANCHORING
    asyncio.run(run_loops(coordinator, 20, issued))
    assert scene.job(job).state == JobState.CERTIFIED
    front.close()


def certified(scene: Scene, job: JobView, ledger: FakeLedger) -> bool:
    ledger.head += 1
    return scene.job(job).state == JobState.CERTIFIED


def test_any_process_says_why_a_job_is_held_up(
    scene: Scene, coordinator: Coordinator, other: Coordinator, ledger: FakeLedger
) -> None:
    scene.publish()
    job = scene.submit()
    scene.do_all()
    ledger.down = True
    there = Scene(other, ledger, scene.owner, scene.requester, scene.dataset)
    asyncio.run(run_loops(coordinator, 15.0, until=lambda: there.job(job).reason is not None))
    assert there.job(job).reason == "no chain node answers"
    (listed,) = other.views.jobs(address_of(scene.requester))
    assert listed.reason == "no chain node answers"
    ledger.down = False
    asyncio.run(run_loops(other, 15.0, until=lambda: certified(scene, job, ledger)))
    assert (scene.job(job).state, scene.job(job).reason) == (JobState.CERTIFIED, None)


def test_a_process_that_lost_the_database_after_the_certificate_leaves_no_reason(
    scene: Scene, coordinator: Coordinator, ledger: FakeLedger
) -> None:
    scene.publish()
    job = scene.submit()
    scene.do_all()

    def issue(job_id: str) -> bool:
        coordinator.ending.issue(job_id)
        raise OperationalError("COMMIT", None, Exception("the connection is closed"))

    async def turn() -> None:
        while coordinator.anchoring.due():
            coordinator.anchoring.run()
        ledger.head += 1
        coordinator.duties.renew()
        await Loops(coordinator)._try(str(job.job_id), [str(job.job_id)], issue, str(job.job_id))

    asyncio.run(turn())
    with coordinator._store.reading() as session:
        assert session.get_one(TroubleRow, str(job.job_id)).reason == "the database is busy or out of reach"
    assert (scene.job(job).state, scene.job(job).reason) == (JobState.CERTIFIED, None)


# --- the bell ---------------------------------------------------------------------------------------------------------


def test_a_ring_is_heard_in_the_other_processes(database: str) -> None:
    async def ring() -> list[float]:
        bells = [Bell() for _ in range(3)]
        async with AsyncExitStack() as running:
            for bell in bells:
                bell.start()
                await running.enter_async_context(Relay(database, bell).running())
            await asyncio.sleep(0.5)  # they connect
            waits = []
            for bell in bells:
                events = [one.listen() for one in bells if one is not bell]
                began = time.monotonic()
                bell.ring()
                for event in events:
                    await heard(event, 5.0)
                    assert event.is_set()
                waits.append(time.monotonic() - began)
                await asyncio.sleep(0.3)  # echoes end
            quiet = [bell.listen() for bell in bells]
            await asyncio.sleep(0.4)
            assert not any(event.is_set() for event in quiet)  # none rings for ever
        return waits

    assert max(asyncio.run(ring())) < 3.0


def test_many_rings_are_few_messages(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ring() -> int:
        here, there = Bell(), Bell()
        echoes = 0

        def counted(*, work: bool = True) -> None:
            nonlocal echoes
            echoes += 1

        monkeypatch.setattr(there, "echo", counted)
        async with AsyncExitStack() as running:
            for bell in (here, there):
                bell.start()
                await running.enter_async_context(Relay(database, bell).running())
            await asyncio.sleep(0.5)
            echoes = 0
            for _ in range(500):
                here.ring()
            await asyncio.sleep(0.5)
        return echoes

    assert 1 <= asyncio.run(ring()) <= 3


# --- evidence that reaches two processes ------------------------------------------------------------------------------


def both_check(
    monkeypatch: pytest.MonkeyPatch,
    scene: Scene,
    other: Coordinator,
    lease: Lease,
    worker: FakeWorker,
    evidence: Evidence,
) -> list[object]:
    """The answers of two processes that read the evidence before either has decided."""
    digest = asyncio.run(scene.coordinator.intake.store(evidence))
    gate, intakes = threading.Barrier(2, timeout=20), (scene.coordinator.intake, other.intake)

    def meet(intake):  # type: ignore[no-untyped-def]
        judge = intake._judge.judge

        def judged(case):  # type: ignore[no-untyped-def]
            found = judge(case)
            gate.wait()
            return found

        monkeypatch.setattr(intake._judge, "judge", judged)

    async def send() -> list[object]:
        return await asyncio.gather(
            *(intake.check(lease.lease_id, worker.address, digest) for intake in intakes), return_exceptions=True
        )

    for intake in intakes:
        meet(intake)
    return asyncio.run(send())


def test_evidence_that_two_processes_get_is_accepted_once(
    scene: Scene, other: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.publish()
    scene.submit()
    worker = scene.worker()
    lease = scene.lease(worker)
    blob, evidence = worker.work(lease, scene.dataset)
    scene.upload(worker.account, blob)
    first, second = both_check(monkeypatch, scene, other, lease, worker, evidence)
    assert isinstance(first, VerdictView) and first == second
    with scene.coordinator._store.reading() as session:
        done = session.exec(select(TaskRow).where(TaskRow.state == TaskState.ACCEPTED)).all()
        leases = session.exec(select(LeaseRow)).all()
        assert [task.lease_id for task in done] == [lease.lease_id]
        assert [row.outcome for row in leases] == [Outcome.ACCEPTED]
        assert session.exec(select(FaultRow)).all() == []


def test_evidence_that_two_processes_refuse_is_one_fault(
    scene: Scene, other: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.publish()
    scene.submit()
    worker = scene.worker()
    lease = scene.lease(worker)
    _, evidence = worker.work(lease, scene.dataset)
    wrong = worker.sign(lease, evidence.statement, b"other outputs")
    scene.upload(worker.account, b"other outputs")
    found = both_check(monkeypatch, scene, other, lease, worker, wrong)
    assert {type(one) for one in found} == {EvidenceError, LeaseError}
    with scene.coordinator._store.reading() as session:
        assert [fault.worker for fault in session.exec(select(FaultRow))] == [worker.address]
        assert [row.outcome for row in session.exec(select(LeaseRow))] == [Outcome.REFUSED]


def test_a_task_is_leased_once_however_many_ask(scene: Scene, other: Coordinator) -> None:
    scene.publish()
    scene.submit()
    workers = [scene.worker() for _ in range(8)]
    found: list[object] = []

    def ask(place: int) -> None:
        leases = (scene.coordinator if place % 2 else other).leases
        found.append(leases.grant(workers[place].address))

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(workers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    granted = [lease for lease in found if lease is not None]
    assert sorted(lease.start for lease in granted) == [0, 3]  # both tasks, and none twice
    assert len(found) == len(workers)
