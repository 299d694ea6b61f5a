"""Certificates: what an auditor needs about a finished job, sealed."""

from __future__ import annotations

from collections.abc import Callable

from eth_account.signers.local import LocalAccount
from sqlmodel import col, exists, select

from contracts.chain import RevertError
from contracts.onchain import AnchorProof, Deployment
from coordinator.blobs import Blobs
from coordinator.catalogue import Catalogue, vka_words
from coordinator.chain import Ledger
from coordinator.commitments import Commitments
from coordinator.leases import fail_job
from coordinator.store import Store
from coordinator.tables import AnchorRow, CertifiedRow, CommitmentRow, JobRow, LeafRow, TaskRow
from coordinator.times import Clock, rfc3339
from rexis.api import JobState, TaskState
from rexis.protocol.certificate import (
    DEVELOPMENT_CHAINS,
    FORMAT,
    Anchor,
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
from rexis.protocol.records import TaskTrees
from rexis.protocol.signing import sign_text
from rexis.protocol.statement import JobRequest
from rexis.protocol.tensors import unpack_outputs
from verifier.circuit import srs_is_development
from verifier.tiers import TIERS


class Certificates:
    """Makes the certificate of each job whose tasks are all anchored.

    Parameters
    ----------
    account
        Signs the seal.
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
        confirmations: int,
    ) -> None:
        self._store, self._blobs, self._clock, self._chain = store, blobs, clock, chain
        self._catalogue, self._commitments = catalogue, commitments
        self._deployment, self._account, self._confirmations = deployment, account, confirmations

    def due(self) -> list[str]:
        """Jobs that lack nothing but their certificate."""
        open_task = exists().where(col(TaskRow.job_id) == col(JobRow.job_id), col(TaskRow.state) != TaskState.ANCHORED)
        with self._store.reading() as session:
            ready = select(JobRow.job_id).where(col(JobRow.state) == JobState.ANCHORING, ~open_task)
            return list(session.exec(ready.order_by(col(JobRow.submitted_at))))

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
        except (RevertError, ConflictError) as error:
            with self._store.writing() as session:
                fail_job(session, session.get_one(JobRow, job_id), error.message)
            return
        document = self._document(job, request, certified)
        digest = self._blobs.put(document.to_json())
        with self._store.writing() as session:
            job = session.get_one(JobRow, job_id)
            job.state, job.certificate_digest = JobState.CERTIFIED, str(digest)
            session.add(job)

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
        document["seal"] = to_hex(sign_text(self._account, seal_text(document)))
        return Certificate.from_object(document)

    def _task(self, request: JobRequest, task: TaskRow) -> CertifiedTask:
        evidence = Evidence.from_json(
            self._blobs.read(Digest.parse(task.evidence_digest), "evidence"), max_bytes=MAX_EVIDENCE_BYTES
        )
        anchor = self._anchor(task)
        with self._store.reading() as session:
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
            certified=self._certify(request, task, evidence, anchor) if request.policy.certify_on_chain else [],
        )

    def _anchor(self, task: TaskRow) -> Anchor:
        with self._store.reading() as session:
            leaf = session.get_one(LeafRow, task.task_id)
            row = session.get_one(AnchorRow, leaf.anchor)
        if row.anchor_id is None or row.block is None:
            raise UnavailableError("the anchor is not on chain yet")
        return Anchor(
            anchor_id=row.anchor_id,
            root=Digest.parse(row.root),
            size=row.size,
            leaf_index=leaf.leaf_index,
            path=[Digest.parse(node) for node in leaf.path.split()],
            block_number=row.block,
            transaction=Digest.parse(row.tx_hash),
        )

    def _opened(self, request: JobRequest, task: TaskRow, evidence: Evidence, block_hash: Digest) -> Evidence:
        """Tier ``commit``: open the records that the block after the anchor chose."""
        statement = evidence.statement
        digest = Digest.parse(task.statement_digest)
        indices = TIERS[Tier.COMMIT].required_indices(statement, request.policy, digest, block_hash)
        if not indices:
            return evidence
        dataset = self._catalogue.dataset(request.dataset_digest)
        outputs = unpack_outputs(self._blobs.read(evidence.outputs_digest, "outputs"), count=task.count, fixed=False)
        trees = TaskTrees(Tier.COMMIT, request.circuit, dataset.records, dataset.salts, task.start, outputs)
        return evidence.model_copy(update={"openings": [trees.open(index) for index in indices]})

    def _certify(self, request: JobRequest, task: TaskRow, evidence: Evidence, anchor: Anchor) -> list[Digest]:
        """Have the Certifier check every record that it has not checked; returns the transactions in record order."""
        chain = self._chain()
        with self._store.reading() as session:
            rows = session.exec(select(CertifiedRow).where(col(CertifiedRow.task_id) == task.task_id))
            known = {row.record_index: row.tx_hash for row in rows}
            vka = vka_words(session, request.model_digest, request.key_epoch)
        if len(known) < task.count:
            chain.register_vka(vka)
        place = AnchorProof(anchor.anchor_id, anchor.leaf_index, anchor.path)
        digest = Digest.parse(task.statement_digest)
        for opening, proof in zip(evidence.openings, evidence.proofs, strict=True):
            if opening.index in known:
                continue
            found: Digest | None = None
            if not chain.is_record_certified(digest, opening.index - task.start):
                try:
                    found = chain.certify_record(
                        evidence.statement, evidence.signature, place, opening, proof.proof, vka
                    ).hash
                except RevertError as error:
                    # Anybody may send the same call, and did so while ours waited: it is done.
                    if error.name != "AlreadyCertified":
                        raise
            found = found or chain.find_certified(digest, opening.index, anchor.block_number)
            if found is None:
                raise UnavailableError("the node does not show the event of a certified record")
            known[opening.index] = str(found)
            with self._store.writing() as session:
                session.add(CertifiedRow(task_id=task.task_id, record_index=opening.index, tx_hash=str(found)))
        return [Digest.parse(known[index]) for index in sorted(known)]

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
