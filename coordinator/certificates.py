"""Certificates: what an auditor needs about a finished job, sealed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache

from eth_account.signers.local import LocalAccount
from sqlmodel import col, exists, or_, select

from contracts.onchain import Deployment
from coordinator.blobs import Blobs
from coordinator.catalogue import Catalogue, vka_words
from coordinator.chain import Ledger
from coordinator.commitments import Commitments
from coordinator.leases import fail_job
from coordinator.placement import is_training
from coordinator.places import Places
from coordinator.states import change
from coordinator.store import Store
from coordinator.tables import CertifiedRow, CommitmentRow, JobRow, TaskRow
from coordinator.times import Clock, rfc3339
from coordinator.transcripts import plan_of
from coordinator.validation import is_agreed
from rexis.api import JobState, TaskState
from rexis.protocol.certificate import (
    DEVELOPMENT_CHAINS,
    FORMAT,
    Anchor,
    CertifiedTask,
    Commitment,
    Contracts,
    Place,
    seal_text,
)
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ConflictError, NotFoundError, UnavailableError
from rexis.protocol.evidence import MAX_EVIDENCE_BYTES, Evidence
from rexis.protocol.parsing import canonical_json, to_hex
from rexis.protocol.policy import Tier
from rexis.protocol.records import output_format, output_salts
from rexis.protocol.rung import SignedRungClaim
from rexis.protocol.signing import sign_text
from rexis.protocol.statement import JobRequest
from rexis.protocol.tensors import unpack_outputs
from rexis.protocol.training import read_request
from rexis.protocol.training_certificate import TRAINING_FORMAT
from rexis.protocol.transcript import MAX_EVIDENCE_BYTES as MAX_TRAINING_BYTES
from rexis.protocol.transcript import TrainingEvidence
from rexis.protocol.validation import Finding
from verifier.certificate import VerifyOptions, verify_certificate
from verifier.circuit import srs_is_development
from verifier.tiers import TIERS
from verifier.training import DATASET, FIRST_STATE, SEGMENTS, TRAINED_MODEL

# Steps that need files which no certificate holds. They were taken when the evidence came.
_OF_FILES = (FIRST_STATE, TRAINED_MODEL, DATASET, SEGMENTS)


@dataclass(frozen=True)
class _Claim:
    """What a certificate of some kind says beside what all say: its fields, and where its statements are on chain."""

    fields: dict[str, object]
    places: Sequence[CertifiedTask | Place]


class Certificates:
    """Makes the certificate of each job whose tasks are all anchored.

    Parameters
    ----------
    account
        Signs the seal.
    checking
        Where proofs are checked.
    confirmations
        Blocks that must follow the one that chooses opened records before its hash is used.
    """

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        clock: Clock,
        chain: Callable[[], Ledger],
        catalogue: Catalogue,
        commitments: Commitments,
        deployment: Deployment,
        account: LocalAccount,
        checking: Executor,
        confirmations: int,
    ) -> None:
        self._store, self._blobs, self._clock, self._chain = store, blobs, clock, chain
        self._catalogue, self._commitments, self._checking = catalogue, commitments, checking
        self._deployment, self._account, self._confirmations = deployment, account, confirmations
        self._places = Places()

    def due(self) -> list[str]:
        """Jobs that lack nothing but their certificate."""
        open_task = exists().where(col(TaskRow.job_id) == col(JobRow.job_id), col(TaskRow.state) != TaskState.ANCHORED)
        judged = or_(col(JobRow.validators) == 0, col(JobRow.draft_digest).is_(None), is_agreed())
        ready = (col(JobRow.state) == JobState.ANCHORING, col(JobRow.certifying).is_(False), ~open_task, judged)
        with self._store.looking() as session:
            return list(session.exec(select(JobRow.job_id).where(*ready).order_by(col(JobRow.submitted_at))))

    def issue(self, job_id: str) -> bool:
        """Make, store and record one job's certificate; or fail the job where the chain has decided against it.

        Of a job that wants validators the first one is a draft, which they check.

        Returns True: something changed.

        Raises
        ------
        UnavailableError, ChainError
            The chain cannot be reached, or a block has not come: call again later.
        """
        with self._store.reading() as session:
            job = session.get_one(JobRow, job_id)
            tasks = list(
                session.exec(select(TaskRow).where(col(TaskRow.job_id) == job_id).order_by(col(TaskRow.start)))
            )
        request = read_request(job.request.encode())
        try:
            claim = (
                self._training(request, tasks) if is_training(job.tier) else self._evaluation(request, job_id, tasks)
            )
            self._require_on_chain(claim.places)
            self._require_registered(request, claim.places)
            if request.policy.validators and job.draft_digest is not None:
                self._require_verdicts(claim.places)
        except ConflictError as error:
            with self._store.writing() as session:
                fail_job(session, session.get_one(JobRow, job_id), error.message, at=self._clock())
            return True
        document = self._document(job, request, claim)
        fault = self._fault(request, document)
        if fault is not None:
            with self._store.writing() as session:
                reason = f"the certificate would not verify: {fault}"
                fail_job(session, session.get_one(JobRow, job_id), reason, at=self._clock())
            return True
        digest = self._blobs.put(document)
        with self._store.writing() as session:
            row = session.get_one(JobRow, job_id)
            if row.validators and row.draft_digest is None and row.state == JobState.ANCHORING:
                row.draft_digest = str(digest)
                session.add(row)
            elif row.state == JobState.ANCHORING:
                why = f"certificate {digest}"
                change(session, row, JobState.CERTIFIED, reason=why, at=self._clock(), certificate_digest=str(digest))
        return True

    def _fault(self, request: JobRequest, document: bytes) -> str | None:
        """Why an auditor would refuse the certificate; None if nobody would. The chain's steps were taken before."""
        srs = None if request.circuit == NO_CIRCUIT else self._blobs.path(request.circuit.srs_digest, "SRS")
        allowed = VerifyOptions(offline=True, srs=srs, allow_development_srs=True, allow_development_chain=True)
        verdict = self._checking.submit(verify_certificate, document, allowed).result()
        if verdict.failed is not None:
            return f"step {verdict.failed.number} ({verdict.failed.name}): {verdict.failed.detail}"
        unchecked = [step for step in verdict.unchecked if step.number not in _OF_FILES]
        if unchecked:
            raise UnavailableError(f"cannot check {unchecked[0].name}: {unchecked[0].detail}")
        return None

    def _document(self, job: JobRow, request: JobRequest, claim: _Claim) -> bytes:
        """The certificate's bytes. Whether they are one, :meth:`_fault` finds out: it reads them as auditors do."""
        domain = self._deployment.domain
        document: dict[str, object] = {
            **claim.fields,
            "domain": domain.to_object(),
            "contracts": Contracts(
                model_registry=self._deployment.model_registry, certifier=self._deployment.certifier
            ).to_object(),
            "request": request.to_object(),
            "requestSignature": job.signature,
            "development": _development(domain.chain_id, request),
            "issuedAt": rfc3339(self._clock()),
        }
        if job.rung_claim is not None:
            document["rungClaim"] = SignedRungClaim.from_json(job.rung_claim.encode()).to_object()
        document["seal"] = to_hex(sign_text(self._account, seal_text(document)))
        return canonical_json(document)

    def _evaluation(self, request: JobRequest, job_id: str, rows: list[TaskRow]) -> _Claim:
        circuit = request.circuit
        tasks = self._tasks(request, job_id, rows)
        with self._store.reading() as session:
            vka = vka_words(session, request.model_digest, request.key_epoch)
        material = None if circuit == NO_CIRCUIT else self._catalogue.material(circuit, vka)
        fields: dict[str, object] = {
            "format": FORMAT,
            "circuit": material.to_object() if material else None,
            "tasks": [task.to_object() for task in tasks],
        }
        return _Claim(fields, tasks)

    def _training(self, request: JobRequest, rows: list[TaskRow]) -> _Claim:
        (task,) = rows
        evidence = TrainingEvidence.from_json(
            self._blobs.read(Digest.parse(task.evidence_digest), "evidence"), max_bytes=MAX_TRAINING_BYTES
        )
        with self._store.reading() as session:
            anchor, plan = self._places.of(session, task.task_id), plan_of(session, task.job_id)
            row = session.get(CommitmentRow, task.lease_id) if request.policy.tier == Tier.SAMPLED else None
        commitment = None if row is None else self._settled(row)
        fields: dict[str, object] = {
            "format": TRAINING_FORMAT,
            "plan": None if plan is None else plan.to_object(),
            "evidence": evidence.to_object(),
            "commitment": None if commitment is None else commitment.to_object(),
            "anchor": anchor.to_object(),
        }
        return _Claim(fields, [Place("", evidence.statement, commitment, None, anchor)])

    def _settled(self, row: CommitmentRow) -> Commitment:
        commitment = self._commitments.settled(row)
        if commitment is None:
            raise UnavailableError("the challenge's block is not to be had", hint="is the chain node synchronised?")
        return commitment

    def _tasks(self, request: JobRequest, job_id: str, tasks: list[TaskRow]) -> list[CertifiedTask]:
        """All tasks, with what the database and the chain know of them asked once and not for each."""
        of_job = select(TaskRow.task_id).where(col(TaskRow.job_id) == job_id)
        with self._store.reading() as session:
            anchors = self._places.of_job(session, job_id)
            records = session.exec(
                select(CertifiedRow)
                .where(col(CertifiedRow.task_id).in_(of_job))
                .order_by(col(CertifiedRow.record_index))
            ).all()
            commitments = session.exec(select(CommitmentRow).where(col(CommitmentRow.task_id).in_(of_job))).all()
        certified: dict[str, list[Digest]] = defaultdict(list)
        for record in records:
            certified[record.task_id].append(Digest.parse(record.tx_hash))
        by_lease = {row.lease_id: row for row in commitments}
        block_hash = cache(lambda number: self._chain().block_hash(number, confirmations=self._confirmations))
        return [
            self._task(
                request,
                task,
                anchors[task.task_id],
                certified[task.task_id],
                by_lease.get(task.lease_id or ""),
                block_hash,
            )
            for task in tasks
        ]

    def _task(
        self,
        request: JobRequest,
        task: TaskRow,
        anchor: Anchor,
        certified: list[Digest],
        row: CommitmentRow | None,
        block_hash: Callable[[int], Digest],
    ) -> CertifiedTask:
        evidence = Evidence.from_json(
            self._blobs.read(Digest.parse(task.evidence_digest), "evidence"), max_bytes=MAX_EVIDENCE_BYTES
        )
        commitment = None if row is None else self._settled(row)
        opening_block_hash = None
        if request.policy.tier == Tier.COMMIT:
            opening_block_hash = block_hash(anchor.block_number + 1)
            evidence = self._opened(request, task, evidence, opening_block_hash)
        return CertifiedTask(
            evidence=evidence,
            commitment=commitment,
            opening_block_hash=opening_block_hash,
            anchor=anchor,
            certified=certified,
        )

    def _opened(self, request: JobRequest, task: TaskRow, evidence: Evidence, block_hash: Digest) -> Evidence:
        """Tier ``commit``: open the records that the block after the anchor chose."""
        statement = evidence.statement
        digest = Digest.parse(task.statement_digest)
        indices = TIERS[Tier.COMMIT].required_indices(statement, request.policy, digest, block_hash)
        if not indices:
            return evidence
        outputs = unpack_outputs(self._blobs.read(evidence.outputs_digest, "outputs"), count=task.count, fixed=False)
        inputs = self._catalogue.inputs(request.dataset_digest, Tier.COMMIT, request.circuit)
        form = output_format(Tier.COMMIT, request.circuit)
        tree = form.tree(outputs, output_salts(inputs.salts[task.start : task.start + task.count]))
        opened = [
            inputs.open(index, form.payload(outputs[local := index - task.start].reshape(-1)), tree.path(local))
            for index in indices
        ]
        return evidence.model_copy(update={"openings": opened})

    def _require_on_chain(self, tasks: Sequence[CertifiedTask | Place]) -> None:
        """Ask the chain itself once more for everything that the certificate will say of it.

        Raises
        ------
        UnavailableError
            An anchor or commitment is not where it was: its block was dropped, and it will be in another.
        ConflictError
            The block that drew a challenge was dropped: what was proved is not what the chain draws now.
        """
        chain, anchors = self._chain(), dict[int, Anchor]()
        for task in tasks:
            anchors[task.anchor.anchor_id] = task.anchor
            if any(chain.receipt(transaction) is None for transaction in task.certified):
                raise UnavailableError("a certified record's transaction is not where it was")
            made = task.commitment
            if made is None:
                continue
            if chain.block_hash(made.block_number + 1) != made.challenge_block_hash:
                raise ConflictError(
                    f"the chain dropped block {made.block_number + 1}, whose hash had drawn the records to prove",
                    hint="REXIS_CONFIRMATIONS is too low for this chain; submit the job again",
                )
            found = chain.committed_in(made.transaction)
            if (found.block, found.attempt) != (made.block_number, made.attempt):
                raise UnavailableError("a commitment is in another block than it was", hint="it is looked for again")
        for anchor in anchors.values():
            written = chain.anchored_in(anchor.transaction)
            if (written.anchor_id, written.root, written.block) != (
                anchor.anchor_id,
                anchor.root,
                anchor.block_number,
            ):
                raise UnavailableError("an anchor is in another block than it was", hint="it is looked for again")

    def _require_verdicts(self, tasks: Sequence[CertifiedTask | Place]) -> None:
        """Ask the chain once more for what validators said.

        Raises
        ------
        UnavailableError
            A verdict is not there any more: its block was dropped.
        """
        chain, domain = self._chain(), self._deployment.domain
        for task in tasks:
            statement = task.statement if isinstance(task, Place) else task.evidence.statement
            if chain.verdict_on(domain.digest(statement)) != Finding.VALID:
                raise UnavailableError("a verdict of validators is not where it was")

    def _require_registered(self, request: JobRequest, tasks: Sequence[CertifiedTask | Place]) -> None:
        """A model that was revoked before the anchor has no valid certificate."""
        try:
            found = self._chain().registration(request.model_digest, request.key_epoch)
        except NotFoundError as error:
            raise ConflictError(error.message) from None
        last = max(task.anchor.block_number for task in tasks)
        if found.revoked_at is not None and found.revoked_at <= last:
            raise ConflictError(
                f"the model was revoked in block {found.revoked_at}, before its evidence was anchored in block {last}"
            )


def _development(chain_id: int, request: JobRequest) -> list[str]:
    """Which development-only parameters a certificate must own up to, sorted."""
    markers = ["chain"] if chain_id in DEVELOPMENT_CHAINS else []
    if request.circuit != NO_CIRCUIT and srs_is_development(request.circuit.srs_digest):
        markers.append("srs")
    return markers
