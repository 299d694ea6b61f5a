"""The scheduler under a state machine (hypothesis): requesters, workers and time do whatever they may, in any order.

What each worker may get is worked out here once more, in Python over the rows that stand in the database, from what
:mod:`coordinator.scheduling` and :mod:`coordinator.standing` say, and every grant must be the first of that.
``REXIS_FUZZ_EXAMPLES`` is how many runs there are.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import event
from sqlmodel import Session, select

from coordinator.gauges import StateGauges
from coordinator.services import Coordinator
from coordinator.standing import PENALTY_LIMIT
from coordinator.tables import FaultRow, JobRow, LeaseRow, Outcome, ShareRow, StandingRow, TaskRow, WorkerRow
from coordinator.times import rfc3339
from rexis.api import JobState, JobSubmission, Lease, Progress, Stage, TaskCounts, TaskState, WorkerRegistration
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import ConflictError, EvidenceError, LeaseError
from rexis.protocol.parsing import Address
from rexis.protocol.policy import Tier
from rexis.protocol.signing import address_of, new_account
from tests.databases import Databases
from tests.histories import check_histories
from tests.unit.coordinator.fakes import FakeClock, FakeLedger, FakeWorker, make_coordinator, make_dataset, make_policy
from tests.unit.coordinator.scene import Scene
from tests.unit.coordinator.test_leases import FakeLiar

EXAMPLES = 2 * int(os.environ.get("REXIS_FUZZ_EXAMPLES", "6"))
STEPS = 40
RECORDS = 12
MAX_LEASES, MAX_FAULTS, MAX_VANISHED = 4, 3, 2
LEASE_S, STALLED_S, MOST_S, BARRED_S = 60, 100, 240, 3600
OPEN = (JobState.QUEUED, JobState.RUNNING)
DONE = (TaskState.ACCEPTED, TaskState.ANCHORED)
ACCOUNTS = [new_account() for _ in range(3)]
WORKERS = [new_account() for _ in range(5)]
FATES = st.sampled_from(["hand in", "hand in", "give up", "give back"])


@dataclass(frozen=True)
class Held:
    """A lease as its worker has it."""

    worker: FakeWorker
    document: Lease


@dataclass
class Rows:
    """All that the database says about the queue, at one time."""

    jobs: dict[str, JobRow]
    tasks: dict[str, TaskRow]
    leases: dict[str, LeaseRow]
    faults: list[FaultRow]
    workers: dict[str, WorkerRow]
    shares: dict[str, ShareRow]
    standings: dict[tuple[str, str], StandingRow]

    @classmethod
    def of(cls, session: Session) -> Rows:
        return cls(
            {row.job_id: row for row in session.exec(select(JobRow))},
            {row.task_id: row for row in session.exec(select(TaskRow))},
            {row.lease_id: row for row in session.exec(select(LeaseRow))},
            list(session.exec(select(FaultRow))),
            {row.address: row for row in session.exec(select(WorkerRow))},
            {row.requester: row for row in session.exec(select(ShareRow))},
            {(row.worker, row.tier): row for row in session.exec(select(StandingRow))},
        )

    def tasks_of(self, job_id: str) -> list[TaskRow]:
        return [task for task in self.tasks.values() if task.job_id == job_id]

    def open_leases(self, worker: str | None = None) -> list[LeaseRow]:
        return [one for one in self.leases.values() if one.outcome == Outcome.OPEN and worker in (None, one.worker)]

    def accepted(self, worker: str) -> int:
        return sum(one.outcome == Outcome.ACCEPTED for one in self.leases.values() if one.worker == worker)

    def room(self, worker: str) -> int:
        """Leases that a worker may have besides those that it has."""
        most = 1 if self.accepted(worker) == 0 else min(MAX_LEASES, self.workers[worker].slots or MAX_LEASES)
        return most - len(self.open_leases(worker))

    def against(self, task: TaskRow) -> list[FaultRow]:
        return [fault for fault in self.faults if fault.task_id == task.task_id and not fault.forgiven]

    def vanished(self, task: TaskRow) -> set[str]:
        """Workers that vanished with a task since its requester last had it tried again."""
        since = self.jobs[task.job_id].retried_at
        mine = [one for one in self.leases.values() if one.task_id == task.task_id and one.granted_at >= since]
        return {one.worker for one in mine if one.outcome == Outcome.EXPIRED}

    def offered(self, worker: str, now: int) -> dict[str, list[tuple[JobRow, list[TaskRow]]]]:
        """What a worker could take: by requester, jobs in their order with their tasks in theirs."""
        row, found = self.workers[worker], defaultdict(list)
        credit = self.accepted(worker) - sum(fault.worker == worker for fault in self.faults)
        for job in sorted(self.jobs.values(), key=lambda one: (one.rank, one.job_id)):
            if job.state not in OPEN or "commit" not in row.tiers.split() or job.gpu_bytes > row.gpu_bytes:
                continue
            if job.deadline is not None and job.deadline <= now:
                continue
            tasks = []
            for task in sorted(self.tasks_of(job.job_id), key=lambda one: (one.ready_at, one.start)):
                against = self.against(task)
                last = len(against) >= MAX_FAULTS - 1
                if task.state != TaskState.PENDING or task.ready_at > now or (last and credit <= 0):
                    continue
                if worker not in [fault.worker for fault in against]:
                    tasks.append(task)
            if tasks:
                found[job.requester].append((job, tasks))
        return dict(found)


class SchedulerMachine(RuleBasedStateMachine):
    """One database, and two coordinators that take turns with it."""

    databases: Databases

    jobs: Bundle[Any] = Bundle("jobs")
    leases: Bundle[Any] = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self._folder = Path(tempfile.mkdtemp(prefix="rexis-scheduler-"))
        self.databases.copy_sqlite(self._folder / "state.db")
        self._clock, self._ledger = FakeClock(), FakeLedger(new_account())
        self._coordinators = [self._start(), self._start()]
        self._scene = Scene(self._coordinators[0], self._ledger, dataset=make_dataset(RECORDS))
        self._scene.publish()
        for account in ACCOUNTS:
            self._scene.upload(account, self._scene.dataset.to_bytes())
            self._scene.coordinator.catalogue.register_dataset(address_of(account), self._scene.dataset.digest)
        self._numbers = itertools.count()
        # For two requesters: what the first got more than the second since both had tasks that wait, and how far apart
        # that may be.
        self._ahead: dict[tuple[str, str], list[int]] = {}
        self._began = 0  # where the turn that began last did

    def _start(self) -> Coordinator:
        made = make_coordinator(
            self._folder,
            self._ledger,
            self._clock,
            database_url=f"sqlite:///{self._folder}/state.db",
            retry_seconds=1,
            max_leases=MAX_LEASES,
            max_task_faults=MAX_FAULTS,
            max_task_vanished=MAX_VANISHED,
            lease_seconds=LEASE_S,
            stalled_seconds=STALLED_S,
            max_lease_seconds=MOST_S,
            barred_seconds=BARRED_S,
        )
        event.listen(made._store._engine, "connect", lambda driver, _: driver.execute("PRAGMA synchronous=OFF"))
        return made

    def teardown(self) -> None:
        try:
            self._look()
            with self._coordinator._store.reading() as session:
                check_histories(session)
        finally:
            for one in self._coordinators:
                one.close()
            shutil.rmtree(self._folder)

    @property
    def _coordinator(self) -> Coordinator:
        return self._coordinators[0]

    def _rows(self) -> Rows:
        with self._coordinator._store.reading() as session:
            return Rows.of(session)

    # --- requesters

    @initialize(target=jobs)
    def first_jobs(self) -> Any:
        return multiple(*(self._submit(account, 1, 0, None, 0) for account in ACCOUNTS[:2]))

    @rule(
        target=jobs,
        account=st.sampled_from(ACCOUNTS),
        shard=st.integers(1, 4),
        priority=st.integers(-2, 2),
        deadline_s=st.none() | st.integers(1, 600),
        gpu_bytes=st.sampled_from([0, 0, 0, 100]),
    )
    def submit(
        self, account: LocalAccount, shard: int, priority: int, deadline_s: int | None, gpu_bytes: int
    ) -> Digest:
        return self._submit(account, shard, priority, deadline_s, gpu_bytes)

    def _submit(
        self, account: LocalAccount, shard: int, priority: int, deadline_s: int | None, gpu_bytes: int
    ) -> Digest:
        who = replace(self._scene, requester=account)
        nonce = sha256(b"%d" % next(self._numbers))
        signed = who.sign(who.request(policy=make_policy(shard_size=shard), nonce=nonce))
        deadline = None if deadline_s is None else rfc3339(self._clock.now + 1000 * deadline_s)
        asked = JobSubmission(
            request=signed.request,
            signature=signed.signature,
            priority=priority,
            deadline=deadline,
            gpu_memory_bytes=gpu_bytes,
        )
        view, created = self._coordinator.jobs.submit(address_of(account), asked)
        assert created
        assert (view.state, view.counts.pending) == (JobState.QUEUED, -(-RECORDS // shard))
        return view.job_id

    @rule(job=jobs, again=st.booleans())
    def cancel_or_retry(self, job: Digest, again: bool) -> None:
        if again:
            self._retry(job)
        else:
            assert self._coordinator.jobs.cancel(self._requester(job), job).state == JobState.FAILED

    def _retry(self, job: Digest) -> None:
        rows = self._rows()
        before, tasks = rows.jobs[str(job)], rows.tasks_of(str(job))
        again = [task for task in tasks if task.state in (TaskState.FAILED, TaskState.QUARANTINED)]
        if before.state != JobState.FAILED and not again:
            with pytest.raises(ConflictError, match="nothing in it"):
                self._coordinator.jobs.retry(self._requester(job), job)
            return
        view = self._coordinator.jobs.retry(self._requester(job), job)
        assert view.counts.failed == view.counts.quarantined == 0
        assert view.counts.done == sum(task.state in DONE for task in tasks)
        if before.state == JobState.FAILED:
            assert view.state == (JobState.QUEUED if again else JobState.ANCHORING)

    def _requester(self, job: Digest) -> Address:
        return Address.parse(self._rows().jobs[str(job)].requester)

    # --- workers

    @rule(
        account=st.sampled_from(WORKERS),
        slots=st.none() | st.integers(1, 6),
        gpu_bytes=st.sampled_from([0, 200]),
        tier=st.sampled_from([Tier.COMMIT, Tier.COMMIT, Tier.COMMIT, Tier.ZK]),
    )
    def register(self, account: LocalAccount, slots: int | None, gpu_bytes: int, tier: Tier) -> None:
        self._register(address_of(account), slots, gpu_bytes, tier)

    def _register(self, worker: Address, slots: int | None, gpu_bytes: int, tier: Tier) -> None:
        registration = WorkerRegistration(
            name="w", provider="CPU", tiers=[tier], memory_bytes=1, slots=slots, gpu_memory_bytes=gpu_bytes
        )
        self._coordinator.workers.register(worker, registration)

    @rule(target=leases, account=st.sampled_from(WORKERS), most=st.integers(1, 6), lies=st.booleans())
    def lease(self, account: LocalAccount, most: int, lies: bool) -> Any:
        return multiple(*self._lease(FakeLiar(account) if lies else FakeWorker(account), most))

    def _lease(self, worker: FakeWorker, most: int) -> list[Held]:
        if worker.address not in self._rows().workers:
            self._register(worker.address, None, 200, Tier.COMMIT)
        self._coordinator.leases.expire()
        before, now = self._rows(), self._clock.now
        found = self._coordinator.leases.grant_many(worker.address, most)
        after = self._rows()
        offered, room = before.offered(worker.address, now), min(most, before.room(worker.address))
        barred = before.workers[worker.address].barred_until > now
        possible = 0 if barred else max(0, min(room, sum(len(tasks) for jobs in offered.values() for _, tasks in jobs)))
        assert len(found) == possible
        given = [after.tasks[after.leases[one.lease_id].task_id] for one in found]
        if found:
            self._check_order(before, after, offered, given)
            self._check_shares(offered, after.offered(worker.address, now), after, given)
        return [Held(worker, one) for one in found]

    def _check_order(
        self, before: Rows, after: Rows, offered: dict[str, list[tuple[JobRow, list[TaskRow]]]], given: list[TaskRow]
    ) -> None:
        """Whose turn it is gets tasks of the first of its jobs, then whose turn it is then."""
        finished = {one: before.shares[one].finished for one in offered}
        left = {requester: list(jobs) for requester, jobs in offered.items()}
        expected: list[str] = []
        while len(expected) < len(given):
            turn = min((one for one in left if left[one]), key=lambda one: (finished[one], one))
            job, tasks = left[turn].pop(0)
            taken = tasks[: len(given) - len(expected)]
            expected += [task.task_id for task in taken]
            self._began = max(self._began, finished[turn])
            finished[turn] = self._began + job.cost * len(taken)
        assert [task.task_id for task in given] == expected
        assert {one: after.shares[one].finished for one in offered} == finished

    def _check_shares(self, before: dict[str, Any], after: dict[str, Any], rows: Rows, given: list[TaskRow]) -> None:
        """Of two requesters who both have tasks that wait, neither gets ahead by more than each gets at once."""
        got: Counter[str] = Counter()
        for task in given:
            got[rows.jobs[task.job_id].requester] += rows.jobs[task.job_id].cost
        for pair in itertools.combinations(sorted(address_of(account) for account in ACCOUNTS), 2):
            if not all(one in before and one in after for one in pair):
                self._ahead.pop(pair, None)
                continue
            ahead, low, high = self._ahead.get(pair, [0, 0, 0])
            ahead += got[pair[0]] - got[pair[1]]
            self._ahead[pair] = [ahead, min(low, ahead), max(high, ahead)]
            assert self._ahead[pair][2] - self._ahead[pair][1] <= 2 * MAX_LEASES * 4

    @rule(
        held=leases,
        done=st.integers(0, 4),
        stage=st.sampled_from([Stage.FETCH, Stage.COMPUTE, Stage.UPLOAD]),
        stranger=st.sampled_from(WORKERS),
    )
    def heartbeat(self, held: Held, done: int, stage: Stage, stranger: LocalAccount) -> None:
        if (other := address_of(stranger)) != held.worker.address:  # whose business it is not
            with pytest.raises(LeaseError, match="another worker"):
                self._coordinator.leases.give_up(held.document.lease_id, other, "mine", "now")
        progress = Progress(stage=stage, done=done, total=4)
        with self._allowed(held) as was_open:
            before = self._rows().leases[held.document.lease_id]
            self._coordinator.leases.heartbeat(held.document.lease_id, held.worker.address, progress)
        if was_open:
            now, row = self._clock.now, self._rows().leases[held.document.lease_id]
            assert row.expires_at <= row.granted_at + 1000 * MOST_S
            stalled = now - row.progressed_at >= 1000 * STALLED_S
            assert row.expires_at == (
                before.expires_at if stalled else min(now + 1000 * LEASE_S, row.granted_at + 1000 * MOST_S)
            )

    @rule(
        fates=st.lists(FATES | st.just("keep"), min_size=5, max_size=15),
        most=st.integers(1, 3),
        seconds=st.sampled_from([1, 4, 61]),
    )
    def everybody_works(self, fates: list[str], most: int, seconds: int) -> None:
        """Each worker leases something and does with each lease what comes next; the last one always lies."""
        left = iter(fates)
        for account in WORKERS:
            worker = FakeLiar(account) if account is WORKERS[-1] else FakeWorker(account)
            for held, fate in zip(self._lease(worker, most), left, strict=False):
                if fate != "keep":
                    self.finish(held, fate)
        self.time_passes(seconds)

    @rule(held=consumes(leases), fate=FATES)
    def finish(self, held: Held, fate: str) -> None:
        worker, lease_id = held.worker, held.document.lease_id
        with self._allowed(held) as was_open:
            if fate == "hand in":
                scene = replace(self._scene, coordinator=self._coordinator)
                if isinstance(worker, FakeLiar):
                    with pytest.raises(EvidenceError):
                        scene.hand_in(worker, held.document)
                else:
                    assert scene.hand_in(worker, held.document).accepted
            elif fate == "give up":
                self._coordinator.leases.give_up(lease_id, worker.address, "cannot", "no room")
            else:
                self._coordinator.leases.give_back(lease_id, worker.address)
        if was_open:
            expected = {"give up": Outcome.GAVE_UP, "give back": Outcome.RETURNED}.get(
                fate, Outcome.REFUSED if isinstance(worker, FakeLiar) else Outcome.ACCEPTED
            )
            assert self._rows().leases[lease_id].outcome == expected

    @contextmanager
    def _allowed(self, held: Held) -> Iterator[bool]:
        """What only the holder of an open lease may do; whether it is one."""
        self._coordinator.leases.expire()
        if self._rows().leases[held.document.lease_id].outcome == Outcome.OPEN:
            yield True
            return
        with pytest.raises(LeaseError):
            yield False
            raise AssertionError("done, in a lease that has ended")

    # --- time and machines

    @rule(seconds=st.sampled_from([1, 5, 30, 59, 61, 130, 3600]))
    def time_passes(self, seconds: int) -> None:
        self._clock.pass_seconds(seconds)
        self._coordinator.leases.expire()
        self._coordinator.leases.tidy_turns()
        now, rows = self._clock.now, self._rows()
        assert not [one for one in rows.open_leases() if one.expires_at <= now]
        assert not [one for one in rows.jobs.values() if one.state in OPEN and (one.deadline or now + 1) <= now]

    @rule(restarted=st.booleans())
    def look_at_the_other(self, restarted: bool) -> None:
        """Go on with the other coordinator, which may have been started anew."""
        self._coordinators.reverse()
        if restarted:
            self._coordinators[0].close()
            self._coordinators[0] = self._start()
        self._look()

    # --- what is always true

    @invariant()
    def promises_hold(self) -> None:
        rows = self._rows()
        self._check_leases(rows)
        self._check_jobs(rows)
        self._check_faults(rows)

    @staticmethod
    def _check_leases(rows: Rows) -> None:
        """No task is leased twice, and nobody has too many."""
        held = rows.open_leases()
        leased = {task.task_id: task.lease_id for task in rows.tasks.values() if task.state == TaskState.LEASED}
        assert {one.task_id: one.lease_id for one in held} == leased
        assert len(held) == len(leased)
        assert max(Counter(one.worker for one in held).values(), default=0) <= MAX_LEASES
        accepted = Counter(one.task_id for one in rows.leases.values() if one.outcome == Outcome.ACCEPTED)
        assert accepted == Counter(task.task_id for task in rows.tasks.values() if task.state in DONE)

    @staticmethod
    def _check_jobs(rows: Rows) -> None:
        """A job ends when its tasks do."""
        for job in rows.jobs.values():
            states = Counter(TaskState(task.state) for task in rows.tasks_of(job.job_id))
            done = sum(states[state] for state in DONE)
            if job.state == JobState.ANCHORING:
                assert done == states.total()
            elif job.state == JobState.FAILED:
                assert done + states[TaskState.FAILED] == states.total()
                assert job.reason
            else:
                assert done < states.total()
                assert states[TaskState.FAILED] == 0
            if job.state == JobState.QUEUED:
                assert states[TaskState.LEASED] == states[TaskState.QUARANTINED] == 0

    def _check_faults(self, rows: Rows) -> None:
        """Who fails is left out, and what fails is not tried for ever."""
        now = self._clock.now
        for task in rows.tasks.values():
            if rows.jobs[task.job_id].state in OPEN:
                assert len(rows.against(task)) < MAX_FAULTS
            if task.state == TaskState.QUARANTINED:
                assert len(rows.vanished(task)) >= MAX_VANISHED
            elif task.state == TaskState.PENDING:
                assert len(rows.vanished(task)) < MAX_VANISHED
        for worker in rows.workers.values():
            lies = [one for one in rows.faults if one.worker == worker.address and one.outcome == Outcome.REFUSED]
            recent = [one for one in lies if one.at > now - 1000 * BARRED_S]
            if len(recent) * 4 >= PENALTY_LIMIT and rows.accepted(worker.address) == 0:
                assert worker.barred_until > min(one.at for one in recent)
            assert 0 <= worker.penalty <= PENALTY_LIMIT

    def _look(self) -> None:
        """What everybody is shown agrees with the tables."""
        rows, of = self._rows(), self._coordinator
        for job in rows.jobs.values():
            requester, identity = Address.parse(job.requester), Digest.parse(job.job_id)
            states = Counter(TaskState(task.state).value for task in rows.tasks_of(job.job_id))
            view = of.views.job(requester, identity)
            assert view.counts == TaskCounts(**states)
            if job.state in OPEN:
                groups = of.views.waiting(requester, identity).groups
                waits = states[TaskState.PENDING] + states[TaskState.QUARANTINED] + states[TaskState.ACCEPTED]
                assert sum(group.count for group in groups) >= waits
                assert all(task.waiting for task in view.tasks if task.state == TaskState.PENDING)
        for view in of.workers.all():
            mine = [fault for fault in rows.faults if fault.worker == view.address]
            assert view.accepted == rows.accepted(view.address)
            assert view.faults == sum(fault.outcome == Outcome.REFUSED for fault in mine)
            standing = rows.standings.get((view.address, "commit"))
            assert (standing.failed if standing else 0) == len(mine)
        told = {family.name: family for family in StateGauges(of._store, self._clock, 1).collect()}
        (leases,) = told["rexis_leases_open"].samples
        assert leases.value == len(rows.open_leases())
        queued = sum(task.state == TaskState.PENDING for task in rows.tasks.values())
        assert sum(sample.value for sample in told["rexis_queue_tasks"].samples) == queued


def test_the_scheduler_keeps_its_promises(databases: Databases) -> None:
    SchedulerMachine.databases = databases
    runs = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        derandomize="REXIS_FUZZ_EXAMPLES" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(SchedulerMachine, settings=runs)
