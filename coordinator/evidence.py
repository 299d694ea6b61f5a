"""Intake of evidence of evaluations."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

from coordinator.accepting import accept, rows_of
from coordinator.access import Access
from coordinator.blobs import Blobs
from coordinator.catalogue import Catalogue, vka_words
from coordinator.commitments import Commitments, job_of
from coordinator.inspection import Inspection
from coordinator.judging import Case, Judge, Judged, evidence_limit, require_evaluation
from coordinator.leases import Leases, require_open
from coordinator.store import Store
from coordinator.tables import CommitmentRow, JobRow, LeaseRow, Outcome
from coordinator.times import Clock
from rexis.api import VerdictView
from rexis.protocol.digests import Digest
from rexis.protocol.errors import MalformedError, RexisError
from rexis.protocol.evidence import MAX_EVIDENCE_BYTES, Evidence
from rexis.protocol.parsing import Address
from rexis.protocol.policy import Tier
from rexis.protocol.typed_data import Domain
from verifier.evidence import TaskContext

_LIGHT_VALUES = 1 << 16


@dataclass(frozen=True)
class Admission:
    """How evidence is taken in.

    Attributes
    ----------
    most
        Bytes that it may have.
    light
        Checking it takes no longer than a request: nothing is proved, and the outputs are few.
    """

    most: int
    light: bool


class Intake(Inspection):
    """Checks evidence of evaluations and records what came out."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        access: Access,
        clock: Clock,
        catalogue: Catalogue,
        leases: Leases,
        commitments: Commitments,
        judge: Judge,
        domain: Domain,
        checking: Executor,
        keep_every_s: float,
    ) -> None:
        super().__init__(store, blobs, leases, checking, keep_every_s)
        self._clock, self._catalogue, self._access, self._judge = clock, catalogue, access, judge
        self._commitments, self._domain = commitments, domain

    def admit(self, lease_id: str, worker: Address) -> Admission:
        """Before evidence is read: how many bytes it may have, and whether it is checked at once.

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
            width = session.get_one(JobRow, task.job_id).output_width
        require_evaluation(request)
        commit = request.policy.tier == Tier.COMMIT
        boundaries = () if commit else self._catalogue.boundaries(request.circuit)
        light = commit and lease.outcome == Outcome.OPEN and width is not None and task.count * width <= _LIGHT_VALUES
        return Admission(evidence_limit(request, task.count, boundaries), light)

    def _decide(self, lease_id: str, worker: Address, digest: Digest) -> VerdictView:
        evidence = Evidence.from_json(self._blobs.read(digest, "evidence"), max_bytes=MAX_EVIDENCE_BYTES)
        judged = self._judge.judge(self._case(lease_id, worker, evidence, digest))
        judged.require_decided()
        fault = judged.fault()
        if fault is not None:
            self._leases.refuse(lease_id, worker, fault.message)
            raise fault
        return self._accept(judged, worker)

    def _case(self, lease_id: str, worker: Address, evidence: Evidence, digest: Digest) -> Case:
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
        committed = Digest.parse(row.statement_digest) if row else None
        return Case(lease_id, evidence, digest, context, committed, width)

    def _accept(self, judged: Judged, worker: Address) -> VerdictView:
        with self._store.writing() as session:
            rows = rows_of(session, [judged.case.lease_id])
            (answer,) = accept(session, [judged], rows, worker, self._clock())
        if isinstance(answer, RexisError):
            raise answer
        return answer
