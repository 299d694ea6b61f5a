"""Workers that mean no good, each by name, as they stand against a real coordinator over HTTP (tier ``commit``).

An adversary attacks one job of one task, as often and under as many addresses as it likes. What must come of it stands
with it: which error it gets, and which faults are then recorded against it.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import httpx
import numpy as np

from rexis.api import JobView, Lease, Progress, Stage
from rexis.protocol.digests import sha256
from rexis.protocol.errors import LeaseError, RexisError
from rexis.protocol.evidence import Evidence
from rexis.protocol.parsing import Address
from rexis.protocol.signing import new_account
from rexis.protocol.tensors import pack_outputs
from rexis.protocol.typed_data import Domain
from tests.integration.coordinator.rig import Rig, RigWorker


@dataclass(frozen=True)
class Theft:
    """What an adversary may have of an honest worker: all about an earlier task."""

    worker: RigWorker
    lease: Lease
    evidence: Evidence
    blob: bytes


@dataclass
class Scene:
    """One job of one task, and who is there.

    Attributes
    ----------
    stolen
        An earlier job's task, done by an honest worker.
    """

    rig: Rig
    job: JobView
    stolen: Theft
    lease_seconds: float

    def worker(self) -> RigWorker:
        """A new address."""
        return self.rig.worker()

    def lease(self, worker: RigWorker) -> Lease:
        """The job's task."""
        lease = worker.lease()
        assert lease.request.job_id(lease.domain) == self.job.job_id
        return lease

    def waits_again(self) -> bool:
        """Whether the task is there for others."""
        return self.rig.client(self.rig.requester).job(self.job.job_id).tasks[0].state == "pending"


class Adversary(ABC):
    """A way to cheat.

    Attributes
    ----------
    name
        How tests and reports call it.
    faults
        Codes of the faults that are recorded against each of its addresses.
    waits
        It is about leases that run out.
    says
        What the refusal says of the reason; None where nothing is refused, because nothing is handed in.
    """

    name: ClassVar[str]
    faults: ClassVar[tuple[str, ...]] = ("evidence-rejected",)
    says: ClassVar[str | None] = None
    waits: ClassVar[bool] = False

    @abstractmethod
    def attack(self, scene: Scene) -> list[Address]:
        """Do it; returns the addresses that were used. Ends when the coordinator has noticed."""

    def refused(self, call: Callable[[], object], kind: type[RexisError] = RexisError) -> None:
        """A call that must be refused for the right reason."""
        try:
            call()
        except kind as error:
            assert self.says is not None
            assert re.search(self.says, str(error)), error
        else:
            raise AssertionError(f"{self.name}: accepted")


class OnePiece(Adversary):
    """Those that hand in one forged piece of evidence."""

    def attack(self, scene: Scene) -> list[Address]:
        """Lease, forge, hand in."""
        worker = scene.worker()
        lease = scene.lease(worker)
        blob, evidence = self.forge(scene, worker, lease)
        worker.client.upload_blob(blob)
        self.refused(lambda: worker.client.evidence(lease.lease_id, evidence))
        return [worker.fake.address]

    @abstractmethod
    def forge(self, scene: Scene, worker: RigWorker, lease: Lease) -> tuple[bytes, Evidence]:
        """Outputs and evidence."""


class SwappedOutputs(OnePiece):
    """Commits to the right outputs and uploads others."""

    name, says = "outputs swapped after the commitment", "outputs were changed after they were committed"

    def forge(self, scene: Scene, worker: RigWorker, lease: Lease) -> tuple[bytes, Evidence]:
        """See :class:`OnePiece`."""
        _, evidence = worker.fake.work(lease, scene.rig.dataset)
        blob = pack_outputs(worker.fake.outputs(lease, scene.rig.dataset) + 1)
        return blob, evidence.model_copy(update={"outputs_digest": sha256(blob)})


class ForeignSigner(OnePiece):
    """Lets another key sign, so that the blame would be somebody else's."""

    name, says = "forged signature", "is signed by"

    def forge(self, scene: Scene, worker: RigWorker, lease: Lease) -> tuple[bytes, Evidence]:
        """See :class:`OnePiece`."""
        return worker.fake.work(lease, scene.rig.dataset, signer=new_account())


class OtherWorkersEvidence(OnePiece):
    """Hands in what an honest worker made of the same records for another job, unchanged."""

    name, says = "evidence of another worker, job and lease", "statement.jobId"

    def forge(self, scene: Scene, worker: RigWorker, lease: Lease) -> tuple[bytes, Evidence]:
        """See :class:`OnePiece`."""
        return scene.stolen.blob, scene.stolen.evidence


class Copycat(OnePiece):
    """Has seen another's evidence for this very task, and hands it in as its own without a new signature."""

    name, says = "copy of another worker's evidence", "statement.worker"

    def forge(self, scene: Scene, worker: RigWorker, lease: Lease) -> tuple[bytes, Evidence]:
        """The statement with the other's name and signature, but this lease's nonce."""
        other = scene.stolen.worker.fake
        blob, evidence = other.work(lease, scene.rig.dataset)
        return blob, evidence


class OtherLease(OnePiece):
    """Evidence that fitted an earlier lease of the same worker: its nonce is another."""

    name, says = "evidence of an earlier lease", "statement.nonce"

    def forge(self, scene: Scene, worker: RigWorker, lease: Lease) -> tuple[bytes, Evidence]:
        """See :class:`OnePiece`."""
        earlier = lease.model_copy(update={"nonce": sha256(b"an earlier lease")})
        return worker.fake.work(earlier, scene.rig.dataset)


class OtherJob(OnePiece):
    """A statement about the same records for another job, signed by the worker itself, with this lease's nonce."""

    name, says = "evidence of another job", "statement.jobId"

    def forge(self, scene: Scene, worker: RigWorker, lease: Lease) -> tuple[bytes, Evidence]:
        """See :class:`OnePiece`."""
        other = scene.stolen.lease.model_copy(update={"nonce": lease.nonce})
        return worker.fake.work(other, scene.rig.dataset)


class OtherTask(OnePiece):
    """A statement about fewer records than the task has."""

    name, says = "evidence of another task", "statement.taskId"

    def forge(self, scene: Scene, worker: RigWorker, lease: Lease) -> tuple[bytes, Evidence]:
        """See :class:`OnePiece`."""
        fewer = lease.model_copy(update={"count": lease.count - 1})
        blob, _ = worker.fake.work(lease, scene.rig.dataset)
        statement = worker.fake.statement(fewer, scene.rig.dataset, worker.fake.outputs(fewer, scene.rig.dataset))
        return blob, worker.fake.sign(lease, statement, blob)


class OtherChain(OnePiece):
    """Signs for another chain, where nobody would be blamed."""

    name, says = "evidence for another chain", "is signed by"

    def forge(self, scene: Scene, worker: RigWorker, lease: Lease) -> tuple[bytes, Evidence]:
        """See :class:`OnePiece`."""
        foreign = Domain(chain_id=1, verifying_contract=lease.domain.verifying_contract)
        blob, evidence = worker.fake.work(lease, scene.rig.dataset)
        return blob, worker.fake.sign(lease.model_copy(update={"domain": foreign}), evidence.statement, blob)


class NotFinite(OnePiece):
    """Commits to outputs that are no numbers, with which anything would agree."""

    name, says = "outputs that are no numbers", "NaN or infinity"

    def forge(self, scene: Scene, worker: RigWorker, lease: Lease) -> tuple[bytes, Evidence]:
        """The packing of honest code refuses NaN: its bytes are put there by hand."""
        blob, evidence = worker.fake.work(lease, scene.rig.dataset)
        broken = blob[:-4] + np.float32(np.nan).tobytes()
        return broken, evidence.model_copy(update={"outputs_digest": sha256(broken)})


class Withholder(Adversary):
    """Hands in good evidence and keeps the outputs to itself; then waits for the lease to end."""

    name, says = "result withheld", "have not been uploaded"
    waits = True
    faults = ()

    def attack(self, scene: Scene) -> list[Address]:
        """Its lease ends as any other does."""
        worker = scene.worker()
        lease = scene.lease(worker)
        _, evidence = worker.fake.work(lease, scene.rig.dataset)
        # The outputs of these records may be known from another job: these are this worker's own.
        mine = evidence.model_copy(update={"outputs_digest": sha256(worker.fake.address.encode())})
        self.refused(lambda: worker.client.evidence(lease.lease_id, mine))
        until(scene.waits_again)
        return [worker.fake.address]


class Late(Adversary):
    """Hands its evidence in when the lease has run out."""

    name, says = "late", "the lease has ended"
    waits = True
    faults = ()

    def attack(self, scene: Scene) -> list[Address]:
        """Once: that is no fault, and the task is there for others."""
        worker = scene.worker()
        lease = scene.lease(worker)
        blob, evidence = worker.fake.work(lease, scene.rig.dataset)
        until(scene.waits_again)
        worker.client.upload_blob(blob)
        self.refused(lambda: worker.client.evidence(lease.lease_id, evidence), LeaseError)
        self.refused(lambda: worker.client.heartbeat(lease.lease_id, progress(1)), LeaseError)
        return [worker.fake.address]


class Silent(Adversary):
    """Takes the task and is never heard of again."""

    name = "silent"
    waits = True
    faults = ("lease-expired",)

    def attack(self, scene: Scene) -> list[Address]:
        """Again and again, until it gets the task no more."""
        worker = scene.worker()
        for _ in range(3):
            scene.lease(worker)
            until(scene.waits_again)
        return [worker.fake.address]


class Hoarder(Adversary):
    """Keeps a lease alive by heartbeats, and gets nowhere with it."""

    name, says = "lease hoarded without progress", "the lease has ended"
    waits = True
    faults = ("lease-expired",)

    def attack(self, scene: Scene) -> list[Address]:
        """Each heartbeat in time, none with progress: the coordinator ends the lease nevertheless."""
        worker = scene.worker()
        for _ in range(3):
            lease = scene.lease(worker)
            self.refused(lambda: self._hold(scene, worker, lease), LeaseError)  # noqa: B023
        return [worker.fake.address]

    def _hold(self, scene: Scene, worker: RigWorker, lease: Lease) -> None:
        deadline = time.monotonic() + 20.0
        while time.monotonic() < deadline:
            worker.client.heartbeat(lease.lease_id, progress(0))
            time.sleep(scene.lease_seconds / 5)


class Pretender(Adversary):
    """Claims more and more progress, beyond the records that there are."""

    name, says = "progress that is made up", "the lease has ended"
    waits = True
    faults = ()

    def attack(self, scene: Scene) -> list[Address]:
        """A lease has only so many steps: made-up ones count for nothing."""
        worker = scene.worker()
        lease = scene.lease(worker)
        self.refused(lambda: self._hold(scene, worker, lease), LeaseError)
        return [worker.fake.address]

    def _hold(self, scene: Scene, worker: RigWorker, lease: Lease) -> None:
        deadline, done = time.monotonic() + 20.0, lease.count
        while time.monotonic() < deadline:
            done += 1
            worker.client.heartbeat(lease.lease_id, progress(done, stage=Stage.UPLOAD, total=done))
            time.sleep(scene.lease_seconds / 5)


class Quitter(Adversary):
    """Gives each task up at once with a reason of its own."""

    name = "gives up"
    faults = ("no-mood",)

    def attack(self, scene: Scene) -> list[Address]:
        """Once is enough: it doesn't get the task again."""
        worker = scene.worker()
        worker.client.fail(scene.lease(worker).lease_id, "no-mood", "not today")
        return [worker.fake.address]


class Malformed(Adversary):
    """Sends what is no evidence; the coordinator answers with a problem, and not with a fault of its own."""

    name = "malformed evidence"
    waits = True
    faults = ()

    BODIES: ClassVar[tuple[bytes, ...]] = (
        b"",
        b"{",
        b"null",
        b"[" * 100_000,
        b'{"statement": 1e999}',
        b'{"statement": {}, "statement": {}}',
        b"\xff\xfe" * 50,
        b'{"x": "' + b"y" * 200_000 + b'"}',
    )

    def attack(self, scene: Scene) -> list[Address]:
        """What can't be read is about no task, so that it is no fault; the lease ends as any other does."""
        worker = scene.worker()
        lease = scene.lease(worker)
        for body in self.BODIES:
            answer = raw_evidence(worker, lease, body)
            assert answer.status_code in (400, 409, 413, 422), (body[:20], answer.status_code, answer.text[:200])
            assert answer.headers["content-type"] == "application/problem+json"
        until(scene.waits_again)
        return [worker.fake.address]


class Sybils(Adversary):
    """One person under many addresses, who wants the job to fail for good: each address fails the task once."""

    name, says = "many addresses of one person", "is signed by"

    def attack(self, scene: Scene) -> list[Address]:
        """As many as get the task. Its last attempt is kept for a worker that has shown something."""
        used = []
        for _ in range(20):
            worker = scene.worker()
            lease = worker.client.lease(0)
            if lease is None:
                return used
            blob, evidence = worker.fake.work(lease, scene.rig.dataset, signer=new_account())
            worker.client.upload_blob(blob)
            self.refused(lambda: worker.client.evidence(lease.lease_id, evidence))  # noqa: B023
            used.append(worker.fake.address)
        raise AssertionError("the task was given to anybody")


ADVERSARIES: tuple[Adversary, ...] = (
    SwappedOutputs(), ForeignSigner(), OtherWorkersEvidence(), Copycat(), OtherLease(), OtherJob(), OtherTask(),
    OtherChain(), NotFinite(), Withholder(), Late(), Silent(), Hoarder(), Pretender(), Quitter(), Malformed(), Sybils(),
)  # fmt: skip


def progress(done: int, stage: Stage = Stage.COMPUTE, total: int = 5) -> Progress:
    """What a heartbeat says."""
    return Progress(stage=stage, done=done, total=total)


def raw_evidence(worker: RigWorker, lease: Lease, body: bytes) -> httpx.Response:
    """Bytes to a lease's evidence, with the worker's own token."""
    transport = worker.client._transport
    headers = {"Authorization": f"Bearer {transport._token}", "Content-Type": "application/json"}
    return httpx.post(f"{worker.client.url}/v1/leases/{lease.lease_id}/evidence", content=body, headers=headers)


def until(condition: Callable[[], bool]) -> None:
    """Wait for the coordinator to notice."""
    deadline = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < deadline, "the coordinator has not noticed"
        time.sleep(0.05)
