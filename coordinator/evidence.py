"""Intake of evidence. The worker is not believed: everything is rebuilt from the dataset and the uploaded outputs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from sqlmodel import select

from circuits.verifying import MAX_PROOF_BYTES
from coordinator.access import Access
from coordinator.blobs import Blobs
from coordinator.catalogue import Catalogue, vka_words
from coordinator.commitments import Commitments, job_of
from coordinator.leases import Leases, close, require_open
from coordinator.store import Store
from coordinator.tables import CommitmentRow, JobRow, LeaseRow, Outcome, TaskRow
from coordinator.times import Clock
from rexis.api import JobState, StepView, TaskState, VerdictView
from rexis.protocol.certificate import MAX_CERTIFICATE_BYTES
from rexis.protocol.digests import Digest
from rexis.protocol.errors import (
    DigestMismatchError,
    EvidenceError,
    LeaseError,
    MalformedError,
    TensorError,
    UnavailableError,
)
from rexis.protocol.evidence import MAX_EVIDENCE_BYTES, Evidence
from rexis.protocol.parsing import Address
from rexis.protocol.policy import Tier
from rexis.protocol.records import MAX_VALUES, Floats, Integers, output_format, output_salts
from rexis.protocol.statement import JobRequest
from rexis.protocol.tensors import unpack_outputs
from rexis.protocol.typed_data import Domain
from verifier.evidence import OPENINGS, SELECTION, STATEMENT, TaskContext, walk_evidence
from verifier.report import StepFailed, Verdict

# Records of a stranger's width must fit into memory, and those that are opened into the certificate.
_MAX_OUTPUTS = 1 << 30
_HEADER = 64 << 10
_LARGE_AT_ONCE = 2
# Of an opening: two Merkle paths, salt, names.
_PATHS = 16 << 10


@dataclass(frozen=True)
class _Case:
    """A piece of evidence with what it is checked against.

    Attributes
    ----------
    committed
        The statement that was committed, if one was.
    width
        Values of a record's output, if that is known.
    """

    lease_id: str
    evidence: Evidence
    context: TaskContext
    committed: Digest | None
    width: int | None


class Intake:
    """Checks evidence and records what came out.

    Parameters
    ----------
    checking
        Where proofs are checked.
    keep_every_s
        How often a lease is kept alive while its evidence is checked.

    Attributes
    ----------
    large
        To be held while a large document is read and parsed.
    """

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        access: Access,
        clock: Clock,
        catalogue: Catalogue,
        leases: Leases,
        commitments: Commitments,
        domain: Domain,
        checking: Executor,
        keep_every_s: float,
    ) -> None:
        self._store, self._blobs, self._clock, self._catalogue = store, blobs, clock, catalogue
        self._access, self._checking = access, checking
        self._leases, self._commitments, self._domain = leases, commitments, domain
        self._keep_every_s = keep_every_s
        self.large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._running: dict[tuple[str, str], asyncio.Task[VerdictView]] = {}

    def admit(self, lease_id: str, worker: Address) -> int:
        """Before evidence is read: how many bytes it may have.

        Raises
        ------
        LeaseError
            The lease is lost.
        """
        self._leases.expire()
        with self._store.reading() as session:
            lease = session.get(LeaseRow, lease_id)
            if lease is None or lease.worker != worker or lease.outcome != Outcome.ACCEPTED:
                lease = require_open(session, lease_id, worker)
            request, task = job_of(session, lease)
        boundaries = () if request.policy.tier == Tier.COMMIT else self._catalogue.boundaries(request.circuit)
        return evidence_limit(request, task.count, boundaries)

    async def store(self, evidence: Evidence) -> Digest:
        """Keep evidence as a blob, so that none waits in memory until it is checked."""
        return await asyncio.to_thread(lambda: self._blobs.put(evidence.to_json()))

    async def check(self, lease_id: str, worker: Address, digest: Digest) -> VerdictView:
        """Check stored evidence and record the verdict.

        The same piece sent again, while the first is checked or later, has the same answer.

        Raises
        ------
        LeaseError
            The lease is lost.
        EvidenceError
            Refused: the step that failed, and why. The fault is recorded and another worker gets the task.
        MalformedError
            The outputs have not been uploaded.
        UnavailableError
            A part that checking needs is missing here; the lease goes on.
        """
        key = (lease_id, str(digest))
        running = self._running.get(key)
        if running is None:
            running = asyncio.create_task(self._run(lease_id, worker, digest))
            self._running[key] = running
            running.add_done_callback(lambda _: self._running.pop(key, None))
        return await asyncio.shield(running)

    async def _run(self, lease_id: str, worker: Address, digest: Digest) -> VerdictView:
        known = await asyncio.to_thread(self._known, lease_id, worker, digest)
        if known is not None:
            return known
        keeper = asyncio.create_task(self._keep(lease_id))
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._checking, self._judge, lease_id, worker, digest)
        finally:
            keeper.cancel()

    async def _keep(self, lease_id: str) -> None:
        while True:
            await asyncio.to_thread(self._leases.keep, lease_id)
            await asyncio.sleep(self._keep_every_s)

    def _known(self, lease_id: str, worker: Address, digest: Digest) -> VerdictView | None:
        """The verdict on evidence that was accepted before."""
        self._leases.expire()
        with self._store.reading() as session:
            lease = session.get(LeaseRow, lease_id)
            if lease is not None and lease.worker == worker and lease.outcome == Outcome.ACCEPTED:
                task = session.get_one(TaskRow, lease.task_id)
                if task.evidence_digest != str(digest) or task.verdict is None:
                    raise LeaseError("other evidence was accepted in this lease")
                return VerdictView.from_json(task.verdict.encode())
            require_open(session, lease_id, worker)
        return None

    def _judge(self, lease_id: str, worker: Address, digest: Digest) -> VerdictView:
        evidence = Evidence.from_json(self._blobs.read(digest, "evidence"), max_bytes=MAX_EVIDENCE_BYTES)
        case = self._case(lease_id, worker, evidence)
        verdict, width = self._check(case)
        if verdict.failed is None and verdict.unchecked:
            missing = verdict.unchecked[0]
            raise UnavailableError(f"cannot check {missing.name}: {missing.detail}", hint=missing.hint)
        if verdict.failed is not None:
            failed = verdict.failed
            detail = f"step {failed.number} ({failed.name}): {failed.detail}"
            self._leases.refuse(lease_id, worker, detail)
            raise EvidenceError(detail, hint=failed.hint)
        return self._accept(case, worker, digest, verdict, width)

    def _case(self, lease_id: str, worker: Address, evidence: Evidence) -> _Case:
        with self._store.reading() as session:
            lease = require_open(session, lease_id, worker)
            request, task = job_of(session, lease)
            row = session.get(CommitmentRow, lease_id)
            vka = vka_words(session, request.model_digest, request.key_epoch)
            width = session.get_one(JobRow, task.job_id).output_width
        if not self._access.holds(worker, evidence.outputs_digest):
            raise MalformedError(
                f"the outputs {evidence.outputs_digest} have not been uploaded",
                field="outputsDigest",
                hint=f"PUT /v1/blobs/{evidence.outputs_digest} first, then send the evidence again",
            )
        tier, circuit = request.policy.tier, request.circuit
        commitment = self._commitments.settled(row) if row is not None else None
        if tier == Tier.SAMPLED and commitment is None:
            raise MalformedError(
                "the challenge is not known yet", field="proofs", hint="GET …/challenge first: it says what to prove"
            )
        context = TaskContext(
            domain=self._domain,
            request=request,
            start=task.start,
            count=task.count,
            worker=worker,
            nonce=Digest.parse(lease.nonce),
            block_hash=commitment.challenge_block_hash if commitment else None,
            material=None if tier == Tier.COMMIT else self._catalogue.material(circuit, vka),
            srs=None if tier == Tier.COMMIT else self._blobs.path(circuit.srs_digest, "SRS"),
        )
        return _Case(lease_id, evidence, context, Digest.parse(row.statement_digest) if row else None, width)

    def _check(self, case: _Case) -> tuple[Verdict, int]:
        """The verdict, and the width of the outputs."""
        verdict, evidence, context = Verdict(), case.evidence, case.context
        width = 0
        try:
            if case.committed is not None:
                with verdict.step(STATEMENT, f"the statement that was committed, {context.name}"):
                    found = self._domain.digest(evidence.statement)
                    if found != case.committed:
                        raise EvidenceError(f"{case.committed} was committed, the evidence is about {found}")
            with verdict.step(SELECTION, f"outputs, {context.name}"):
                outputs = self._outputs(case)
                width = outputs[0].size
            walk_evidence(evidence, context, verdict)
            with verdict.step(OPENINGS, f"roots rebuilt from every record, {context.name}"):
                self._check_roots(case, outputs)
        except StepFailed:
            pass
        return verdict, width

    def _check_roots(self, case: _Case, outputs: Floats | Integers) -> None:
        """The input root belongs to the dataset, which is checked once; a task costs only its own outputs."""
        statement, request = case.evidence.statement, case.context.request
        inputs = self._catalogue.inputs(request.dataset_digest, statement.tier, statement.circuit)
        if inputs.root != statement.input_root:
            raise DigestMismatchError(
                f"the dataset's root is {inputs.root}, not {statement.input_root}", field="statement.inputRoot"
            )
        salts = output_salts(inputs.salts[case.context.start :][: case.context.count])
        root = output_format(statement.tier, statement.circuit).tree(outputs, salts).root
        if root != statement.output_root:
            raise DigestMismatchError(
                f"the uploaded outputs have root {root}, not {statement.output_root}",
                field="statement.outputRoot",
                hint="the outputs were changed after they were committed",
            )

    def _outputs(self, case: _Case) -> Floats | Integers:
        """The uploaded outputs, read only if their size can be right."""
        context, request, digest = case.context, case.context.request, case.evidence.outputs_digest
        fixed = request.policy.tier != Tier.COMMIT
        itemsize = 8 if fixed else 4
        most = widest_output(request, context.count) if case.width is None else case.width
        size = self._blobs.size(digest) or 0
        if size > context.count * most * itemsize + _HEADER:
            raise TensorError(
                f"a blob of {size} bytes for {context.count} records: a record may have {most} values",
                field="outputs",
                hint=None if case.width else "jobs of large outputs need smaller shards and samples",
            )
        outputs = unpack_outputs(self._blobs.read(digest, "outputs"), count=context.count, fixed=fixed)
        width = outputs[0].size
        if width > most or (case.width is not None and width != case.width):
            allowed = f"at most {most} are possible" if case.width is None else f"this job's have {case.width}"
            raise TensorError(f"a record has {width} values, {allowed}", field="outputs")
        return outputs

    def _accept(self, case: _Case, worker: Address, digest: Digest, verdict: Verdict, width: int) -> VerdictView:
        statement = case.evidence.statement
        view = VerdictView(
            task_id=statement.task_id,
            accepted=True,
            steps=[
                StepView(number=step.number, name=step.name, status=step.status.value, detail=step.detail)
                for step in verdict.steps
            ],
        )
        with self._store.writing() as session:
            lease = require_open(session, case.lease_id, worker)
            task = session.get_one(TaskRow, lease.task_id)
            job = session.get_one(JobRow, task.job_id)
            if job.output_width not in (None, width):
                raise UnavailableError("another task of the job was accepted meanwhile", hint="send it again")
            job.output_width = width
            task.state, task.accepted_at = TaskState.ACCEPTED, self._clock()
            task.statement_digest = str(self._domain.digest(statement))
            task.evidence_digest, task.outputs_digest = str(digest), str(case.evidence.outputs_digest)
            task.verdict = view.to_json().decode()
            session.add(task)
            close(session, lease, Outcome.ACCEPTED)
            session.flush()
            states = session.exec(select(TaskRow.state).where(TaskRow.job_id == task.job_id)).all()
            if all(state in (TaskState.ACCEPTED, TaskState.ANCHORED) for state in states):
                job.state = JobState.ANCHORING
        return view


def evidence_limit(request: JobRequest, count: int, boundaries: Sequence[int] = ()) -> int:
    """Bytes that the evidence of a task of `count` records can have.

    Parameters
    ----------
    boundaries
        Values on each boundary between the circuit's segments.
    """
    tier, circuit = request.policy.tier, request.circuit
    proved = {Tier.COMMIT: 0, Tier.SAMPLED: min(request.policy.sample_size, count), Tier.ZK: count}[tier]
    values = 16 * (circuit.input_length + sum(boundaries) + circuit.output_length)  # hexadecimal int64
    proofs = 2 * MAX_PROOF_BYTES * (len(boundaries) + 1)
    return min(MAX_EVIDENCE_BYTES, _HEADER + proved * (proofs + _PATHS + values))


def widest_output(request: JobRequest, count: int) -> int:
    """Values that a record's output can have where its width is not known: what leaf, memory and certificate hold.

    Parameters
    ----------
    count
        Records of the task.
    """
    opened = sum(min(request.policy.sample_size, size) for _, size in request.shards())
    in_certificate = MAX_CERTIFICATE_BYTES // 2 // (8 * max(1, opened))  # hexadecimal float32
    return min(MAX_VALUES, in_certificate, _MAX_OUTPUTS // (4 * count))
