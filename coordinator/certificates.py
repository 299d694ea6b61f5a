"""Certificates: what an auditor needs about a finished job, sealed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor

from eth_account.signers.local import LocalAccount
from sqlmodel import col, exists, select, update

from contracts.onchain import Deployment
from coordinator.blobs import Blobs
from coordinator.catalogue import Catalogue, vka_words
from coordinator.chain import Ledger
from coordinator.commitments import Commitments
from coordinator.leases import fail_job
from coordinator.places import anchor_of
from coordinator.store import Store
from coordinator.tables import CertifiedRow, CommitmentRow, JobRow, TaskRow
from coordinator.times import Clock, rfc3339
from rexis.api import JobState, TaskState
from rexis.protocol.certificate import (
    DEVELOPMENT_CHAINS,
    FORMAT,
    Certificate,
    CertifiedTask,
    Contracts,
    seal_text,
)
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ConflictError, NotFoundError, UnavailableError
from rexis.protocol.evidence import MAX_EVIDENCE_BYTES, Evidence
from rexis.protocol.parsing import to_hex
from rexis.protocol.policy import Tier
from rexis.protocol.records import output_format, output_salts
from rexis.protocol.rung import SignedRungClaim
from rexis.protocol.signing import sign_text
from rexis.protocol.statement import JobRequest
from rexis.protocol.tensors import unpack_outputs
from verifier.certificate import VerifyOptions, verify_certificate
from verifier.circuit import srs_is_development
from verifier.tiers import TIERS


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

    def due(self) -> list[str]:
        """Jobs that lack nothing but their certificate."""
        open_task = exists().where(col(TaskRow.job_id) == col(JobRow.job_id), col(TaskRow.state) != TaskState.ANCHORED)
        ready = (col(JobRow.state) == JobState.ANCHORING, col(JobRow.certifying).is_(False), ~open_task)
        with self._store.reading() as session:
            return list(session.exec(select(JobRow.job_id).where(*ready).order_by(col(JobRow.submitted_at))))

    def issue(self, job_id: str) -> None:
        """Make, store and record one job's certificate; or fail the job where the chain has decided against it.

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
        request = JobRequest.from_json(job.request.encode())
        try:
            certified = [self._task(request, task) for task in tasks]
            self._require_registered(request, certified)
        except ConflictError as error:
            with self._store.writing() as session:
                fail_job(session, session.get_one(JobRow, job_id), error.message)
            return
        document = self._document(job, request, certified).to_json()
        fault = self._fault(request, document)
        if fault is not None:
            with self._store.writing() as session:
                fail_job(session, session.get_one(JobRow, job_id), f"the certificate would not verify: {fault}")
            return
        digest = self._blobs.put(document)
        with self._store.writing() as session:
            session.exec(
                update(JobRow)
                .where(col(JobRow.job_id) == job_id, col(JobRow.state) == JobState.ANCHORING)
                .values(state=JobState.CERTIFIED, certificate_digest=str(digest))
            )

    def _fault(self, request: JobRequest, document: bytes) -> str | None:
        """Why an auditor would refuse the certificate; None if nobody would. The chain's steps were taken before."""
        srs = None if request.circuit == NO_CIRCUIT else self._blobs.path(request.circuit.srs_digest, "SRS")
        allowed = VerifyOptions(offline=True, srs=srs, allow_development_srs=True, allow_development_chain=True)
        verdict = self._checking.submit(verify_certificate, document, allowed).result()
        if verdict.failed is not None:
            return f"step {verdict.failed.number} ({verdict.failed.name}): {verdict.failed.detail}"
        if verdict.unchecked:
            raise UnavailableError(f"cannot check {verdict.unchecked[0].name}: {verdict.unchecked[0].detail}")
        return None

    def _document(self, job: JobRow, request: JobRequest, tasks: list[CertifiedTask]) -> Certificate:
        circuit = request.circuit
        with self._store.reading() as session:
            vka = vka_words(session, request.model_digest, request.key_epoch)
        material = None if circuit == NO_CIRCUIT else self._catalogue.material(circuit, vka)
        domain = self._deployment.domain
        document: dict[str, object] = {
            "format": FORMAT,
            "domain": domain.to_object(),
            "contracts": Contracts(
                model_registry=self._deployment.model_registry, certifier=self._deployment.certifier
            ).to_object(),
            "request": request.to_object(),
            "requestSignature": job.signature,
            "circuit": material.to_object() if material else None,
            "tasks": [task.to_object() for task in tasks],
            "development": _development(domain.chain_id, request),
            "issuedAt": rfc3339(self._clock()),
        }
        if job.rung_claim is not None:
            document["rungClaim"] = SignedRungClaim.from_json(job.rung_claim.encode()).to_object()
        document["seal"] = to_hex(sign_text(self._account, seal_text(document)))
        return Certificate.from_object(document)

    def _task(self, request: JobRequest, task: TaskRow) -> CertifiedTask:
        evidence = Evidence.from_json(
            self._blobs.read(Digest.parse(task.evidence_digest), "evidence"), max_bytes=MAX_EVIDENCE_BYTES
        )
        with self._store.reading() as session:
            anchor = anchor_of(session, task.task_id)
            rows = session.exec(select(CertifiedRow).where(col(CertifiedRow.task_id) == task.task_id))
            certified = [Digest.parse(one.tx_hash) for one in sorted(rows, key=lambda one: one.record_index)]
            row = session.get(CommitmentRow, task.lease_id)
        commitment = self._commitments.settled(row) if row is not None else None
        if row is not None and commitment is None:
            raise UnavailableError("the challenge's block is not to be had", hint="is the chain node synchronised?")
        opening_block_hash = None
        if request.policy.tier == Tier.COMMIT:
            opening_block_hash = self._chain().block_hash(anchor.block_number + 1, confirmations=self._confirmations)
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

    def _require_registered(self, request: JobRequest, tasks: list[CertifiedTask]) -> None:
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
