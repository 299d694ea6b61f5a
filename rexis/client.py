"""The typed HTTP client of a coordinator, for requesters, model owners and workers.

Every call returns a checked document of :mod:`rexis.api` or raises a :class:`~rexis.protocol.errors.RexisError`.
Transient failures are retried where that is safe (:mod:`rexis.transport`). One client may be used from many threads.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TypeVar
from urllib.parse import urlencode

import httpx
from eth_account.signers.local import LocalAccount

from rexis.api import (
    AnchorLeaves,
    AnchorPage,
    AuditEntry,
    AuditHead,
    AuditPage,
    BlobView,
    Challenge,
    CommitmentSubmission,
    DatasetRegistration,
    DatasetView,
    Event,
    EventPage,
    EvidenceBatch,
    EvidenceResult,
    EvidenceResults,
    Failure,
    Heartbeat,
    Info,
    JobList,
    JobState,
    JobSubmission,
    JobSummary,
    JobView,
    Lease,
    LeaseExtended,
    LeaseRequest,
    Leases,
    Lineage,
    LoggedAnchor,
    LogKey,
    MemberChange,
    MemberList,
    MemberView,
    ModelRegistration,
    ModelView,
    PaymentOffer,
    Piece,
    PieceOffer,
    PieceProofs,
    PiecesView,
    PieceTurn,
    Progress,
    Role,
    TaskEvidence,
    TaskPage,
    TaskState,
    TaskView,
    TranscriptView,
    Validation,
    ValidationList,
    VerdictSubmission,
    VerdictView,
    Waiting,
    WorkerList,
    WorkerRegistration,
    WorkerView,
)
from rexis.protocol.anchored import AnchoredStatement
from rexis.protocol.certificate import MAX_CERTIFICATE_BYTES
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import Digest
from rexis.protocol.errors import (
    AuthError,
    ConflictError,
    DigestMismatchError,
    MalformedError,
    NotFoundError,
    ResourceError,
    RexisError,
    TensorError,
    UnavailableError,
)
from rexis.protocol.evidence import Evidence
from rexis.protocol.onsite import PrivateDataset
from rexis.protocol.parsing import Address, Strict
from rexis.protocol.policy import Policy, Tier
from rexis.protocol.records import input_root
from rexis.protocol.rows import values_of_a_row
from rexis.protocol.signing import address_of, sign_digest
from rexis.protocol.statement import JobRequest, Kind, Statement
from rexis.protocol.tensors import Dataset
from rexis.protocol.training import TrainingPlan, TrainingRequest
from rexis.protocol.transcript import SignedCheckpoint, TrainingEvidence
from rexis.protocol.typed_data import Domain
from rexis.transfers import IN_PARTS_FROM, OnBytes, chunks, digest_of, download, fetch, measure, report, upload_in_parts
from rexis.transport import DEFAULT_TIMEOUT, Retry, Transport, error_of_problem

_DOCUMENT_BYTES = 16 << 20
# The coordinator checks proofs before it answers.
_EVIDENCE_SECONDS = 900.0
_TEXT_BYTES = 128 << 10
# It looks at every record of a dataset before it answers.
_DATASET_SECONDS = 1800.0
MAX_OUTPUTS = 1 << 40
"""Bytes of a job's outputs: they are many blobs, so that the limit of one is not theirs."""
_EVENTS = "text/event-stream"
# The coordinator says every 15 s that it is still there.
_EVENT_SILENCE_S = 60.0
# Patience with a coordinator that is restarted during a transfer: about a minute without a byte.
_TRANSFERS = Retry(attempts=10, cap_seconds=30.0)

_Document = TypeVar("_Document", bound=Strict)


class RexisClient:
    """A coordinator, as one wallet sees it.

    Parameters
    ----------
    base_url
        ``https://host[:port]``.
    account
        The wallet that signs in and signs jobs. Without it only public documents can be read.
    domain
        The chain and EvidenceLog that the caller trusts; a coordinator that names others is refused.
    timeout, retry
        See httpx and :class:`~rexis.transport.Retry`. Without `retry`, transfers of blobs are patient for longer than
        other calls.
    """

    def __init__(
        self,
        base_url: str,
        account: LocalAccount | None = None,
        *,
        domain: Domain | None = None,
        timeout: httpx.Timeout | float = DEFAULT_TIMEOUT,
        retry: Retry | None = None,
    ) -> None:
        self._account = account
        self._domain = domain
        self._transport = Transport(base_url, account, timeout=timeout, retry=retry)
        self._transfers = retry or _TRANSFERS
        self._info: Info | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    @property
    def url(self) -> str:
        """The coordinator's URL."""
        return self._transport.url

    @property
    def account(self) -> LocalAccount:
        """The wallet; :class:`AuthError` if there is none."""
        if self._account is None:
            raise AuthError("this needs a wallet", hint="pass a wallet")
        return self._account

    @property
    def address(self) -> Address:
        """The wallet's address."""
        return address_of(self.account)

    # --- who and where -----------------------------------------------------------------------------------------

    def login(self) -> str:
        """Sign in now rather than at the first call that needs it; returns the bearer token, which is a secret."""
        return self._transport.login()

    def logout(self) -> None:
        """End this client's token; the next call that needs one signs in again."""
        self._transport.logout()

    def info(self) -> Info:
        """What the coordinator says of itself; asked once.

        Raises
        ------
        ConflictError
            It names another chain or EvidenceLog than the one that the caller trusts.
        """
        if self._info is None:
            info = self._get(Info, "/v1/info")
            if self._domain is not None and info.domain != self._domain:
                raise ConflictError(
                    f"the coordinator works on chain {info.domain.chain_id}, EvidenceLog "
                    f"{info.domain.verifying_contract}; expected chain {self._domain.chain_id}, "
                    f"{self._domain.verifying_contract}",
                    field="domain",
                    hint="is this the right coordinator, and the right deployment file?",
                )
            self._info = info
        return self._info

    # --- anchors, for everybody --------------------------------------------------------------------------------

    def log_key(self) -> LogKey:
        """Who signs the log of anchors."""
        return self._get(LogKey, "/v1/log")

    def log_checkpoint(self) -> str:
        """The log's head, a signed note."""
        return self._text("/v1/log/checkpoint")

    def log_proof(self, index: int) -> str:
        """That the log has an anchor, as a tlog-proof."""
        return self._text(f"/v1/log/proofs/{index}")

    def anchors(self, start: int) -> list[LoggedAnchor]:
        """Anchors from a place of the log on, some at a time; none at its end."""
        return self._get(AnchorPage, f"/v1/anchors?start={start}").anchors

    def anchor_leaves(self, index: int) -> AnchorLeaves:
        """The statements under an anchor's root."""
        return self._get(AnchorLeaves, f"/v1/anchors/{index}")

    # --- for operators -----------------------------------------------------------------------------------------

    def members(self) -> MemberList:
        """Everybody with roles of their own."""
        return self._get(MemberList, "/v1/members")

    def give_roles(self, address: Address, roles: Sequence[Role]) -> MemberView:
        """Give an address roles, in place of those given before; lifts a revocation."""
        body = MemberChange(roles=list(roles)).to_json()
        headers = {"Content-Type": "application/json"}
        return MemberView.from_json(
            self._transport.send("PUT", f"/v1/members/{address}", body=lambda: body, headers=headers)
        )

    def remove_member(self, address: Address) -> None:
        """Take back what was given to an address, also a revocation."""
        self._transport.send("DELETE", f"/v1/members/{address}")

    def revoke_member(self, address: Address) -> MemberView:
        """Shut an address out, and end its tokens."""
        return MemberView.from_json(self._transport.post(f"/v1/members/{address}/revoke", None, idempotent=True))

    def audit_log(self) -> Iterator[AuditEntry]:
        """The audit log from its first entry."""
        position = 0
        while entries := self._get(AuditPage, f"/v1/audit?after={position}").entries:
            yield from entries
            position = entries[-1].position

    def audit_head(self) -> AuditHead:
        """The audit log's last entry, which anybody who has signed in may note."""
        return self._get(AuditHead, "/v1/audit/head")

    # --- blobs -------------------------------------------------------------------------------------------------

    def upload_blob(self, source: Path | bytes, *, progress: OnBytes | None = None) -> Digest:
        """Store bytes under their SHA-256 and return it. Nothing is sent if the coordinator has them already.

        Large ones are sent in parts, and go on where an earlier upload of the same bytes stopped.

        Raises
        ------
        ResourceError
            Larger than the coordinator takes.
        """
        digest, size = measure(source)
        limit = self.info().max_blob_bytes
        if size > limit:
            raise ResourceError(f"a blob of {size} bytes, over the coordinator's limit of {limit}")
        if self.has_blob(digest):
            report(progress, size, size)
            return digest
        if size >= IN_PARTS_FROM:
            upload_in_parts(
                self._transport,
                source,
                digest,
                size,
                stored=lambda: self.has_blob(digest),
                retry=self._transfers,
                progress=progress,
            )
            return digest
        answer = self._transport.send(
            "PUT",
            f"/v1/blobs/{digest}",
            body=lambda: chunks(source, 0, size, size, progress),
            headers={"Content-Type": "application/octet-stream", "Content-Length": str(size)},
            max_bytes=_DOCUMENT_BYTES,
        )
        stored = BlobView.from_json(answer)
        if (stored.digest, stored.size) != (digest, size):
            raise DigestMismatchError(
                f"the coordinator stored {stored.digest} ({stored.size} bytes) instead of {digest} ({size} bytes)",
                hint="did the file change during the upload?",
            )
        return digest

    def has_blob(self, digest: Digest) -> bool:
        """Whether the coordinator has (and lets us see) a blob."""
        try:
            self._transport.send("HEAD", f"/v1/blobs/{digest}")
        except NotFoundError:
            return False
        return True

    def download_blob(
        self, digest: Digest, to: Path, *, max_bytes: int | None = None, progress: OnBytes | None = None
    ) -> Path:
        """Fetch a blob into the file `to`, which is whole and has the right digest, or is not there.

        An interrupted download stays as ``<name>.part`` and is taken up again. One process at a time per file.

        Parameters
        ----------
        max_bytes
            Refuse anything larger; default: the coordinator's own limit for blobs.

        Raises
        ------
        DigestMismatchError
            The server sent other bytes than those asked for; they are thrown away.
        ResourceError
            Larger than `max_bytes`.
        """
        if to.is_file() and digest_of(to) == digest:
            report(progress, to.stat().st_size, to.stat().st_size)
            return to
        limit = self.info().max_blob_bytes if max_bytes is None else max_bytes
        path = f"/v1/blobs/{digest}"
        return download(self._transport, path, digest, to, limit=limit, retry=self._transfers, progress=progress)

    # --- workers, models, datasets -----------------------------------------------------------------------------

    def register_worker(self, registration: WorkerRegistration) -> WorkerView:
        """Announce this wallet as a worker, or change what was announced."""
        return self._post(WorkerView, "/v1/workers", registration)

    def workers(self) -> list[WorkerView]:
        """All registered workers, by name."""
        return self._get(WorkerList, "/v1/workers").workers

    def register_model(self, registration: ModelRegistration) -> ModelView:
        """Make a model known that its owner registered on chain."""
        return self._post(ModelView, "/v1/models", registration)

    def model(self, digest: Digest, epoch: int) -> ModelView:
        """A registered model.

        Raises
        ------
        ConflictError
            The coordinator describes another one. Of a model of its choice the outputs could be the records.
        """
        found = self._get(ModelView, f"/v1/models/{digest}/{epoch}")
        _require_answer(f"model {digest}, epoch {epoch}", f"model {found.model_digest}, epoch {found.key_epoch}")
        return found

    def lineage(self, digest: Digest, epoch: int) -> Lineage:
        """The certified trainings that led to a registered model, the last one first.

        Raises
        ------
        ConflictError
            They do not follow one another. What each claims, only its certificate shows.
        """
        found = self._get(Lineage, f"/v1/models/{digest}/{epoch}/lineage")
        for origin in found.origins:
            _require_answer(f"model {digest}", f"model {origin.model_digest}")
            digest = origin.base_digest
        return found

    def register_dataset(self, digest: Digest) -> DatasetView:
        """Make an uploaded blob known as a dataset."""
        registration = DatasetRegistration(digest=digest)
        return self._post(DatasetView, "/v1/datasets", registration, read_seconds=_DATASET_SECONDS)

    def dataset(self, digest: Digest) -> DatasetView:
        """A registered dataset; :class:`ConflictError` if the coordinator describes another one."""
        found = self._get(DatasetView, f"/v1/datasets/{digest}")
        _require_answer(f"dataset {digest}", f"dataset {found.digest}")
        return found

    # --- jobs --------------------------------------------------------------------------------------------------

    def submit_job(
        self,
        request: JobRequest,
        plan: TrainingPlan | None = None,
        *,
        priority: int = 0,
        deadline: str | None = None,
        gpu_memory_bytes: int = 0,
        modality: str | None = None,
        payment: PaymentOffer | None = None,
        quorum: Address | None = None,
    ) -> JobView:
        """Sign and submit a job. The same request is the same job, however often it is sent.

        Parameters
        ----------
        plan
            Of a training, whose request has its digest.
        priority, deadline, gpu_memory_bytes, modality
            How it is scheduled (:class:`rexis.api.JobSubmission`); not part of what is signed.
        quorum
            Of a policy that wants validators: the ValidatorQuorum whose verdict is meant.
        payment
            Who pays the job in, and at which escrow; it waits until they have.

        Raises
        ------
        ConflictError
            The coordinator calls the job by another id than the signed one.
        """
        domain = self.info().domain
        job_id = request.job_id(domain)
        submission = JobSubmission(
            request=request,
            signature=sign_digest(self.account, job_id),
            plan=plan,
            priority=priority,
            deadline=deadline,
            gpu_memory_bytes=gpu_memory_bytes,
            modality=modality,
            quorum=quorum,
            payment=payment,
        )
        view = self._post(JobView, "/v1/jobs", submission, read_seconds=_DATASET_SECONDS)
        if view.job_id != job_id or view.request != request:
            raise ConflictError(f"the coordinator answered with job {view.job_id} to the request {job_id}")
        return view

    def job(self, job_id: Digest) -> JobView:
        """A job with its tasks; :class:`ConflictError` if the coordinator describes another one."""
        found = self._get(JobView, f"/v1/jobs/{job_id}")
        _require_answer(f"job {job_id}", f"job {found.job_id}")
        return found

    def jobs(self) -> list[JobSummary]:
        """This wallet's jobs, newest first, without their tasks."""
        return self._get(JobList, "/v1/jobs").jobs

    def cancel_job(self, job_id: Digest) -> JobView:
        """End a job that is not finished; it counts as failed.

        Raises
        ------
        ConflictError
            It has its certificate already.
        """
        return JobView.from_json(self._transport.post(f"/v1/jobs/{job_id}/cancel", None, idempotent=True))

    def retry_job(self, job_id: Digest) -> JobView:
        """Have what failed in a job, or was quarantined, tried again; what was accepted stays.

        Raises
        ------
        ConflictError
            There is nothing to try again, or no attempt is left.
        """
        return JobView.from_json(self._transport.post(f"/v1/jobs/{job_id}/retry", None, idempotent=False))

    def job_tasks(
        self, job_id: Digest, after: int | None = None, limit: int = 1000, state: TaskState | None = None
    ) -> TaskPage:
        """A page of a job's tasks, in the order of their records; its `next` is the `after` of the next page."""
        wanted = {"after": after, "limit": limit, "state": state.value if state else None}
        return self._get(TaskPage, f"/v1/jobs/{job_id}/tasks?{_query(wanted)}")

    def history(self, job_id: Digest, *, start: int | None = None) -> Iterator[Event]:
        """What became of a job, or of its task that begins with record `start`; oldest first."""
        after: int | None = 0
        while after is not None:
            wanted = {"after": after, "limit": 1000, "start": start}
            page = self._get(EventPage, f"/v1/jobs/{job_id}/history?{_query(wanted)}")
            yield from page.events
            after = page.next

    def waiting(self, job_id: Digest) -> Waiting:
        """Why a job's tasks wait."""
        return self._get(Waiting, f"/v1/jobs/{job_id}/waiting")

    def task(self, task_id: Digest) -> TaskView:
        """One task; :class:`ConflictError` if the coordinator describes another one."""
        found = self._get(TaskView, f"/v1/tasks/{task_id}")
        _require_answer(f"task {task_id}", f"task {found.task_id}")
        return found

    def anchored_statement(self, task_id: Digest) -> AnchoredStatement:
        """A task's accepted statement and where it stands on chain: of a job or a task of this wallet's.

        Raises
        ------
        ConflictError
            It is not anchored yet.
        """
        found = self._get(AnchoredStatement, f"/v1/tasks/{task_id}/statement")
        _require_answer(f"task {task_id}", f"task {found.statement.task_id}")
        return found

    def wait_for_job(
        self,
        job_id: Digest,
        on_update: Callable[[JobView], None] | None = None,
        *,
        poll_seconds: float = 1.0,
        timeout_seconds: float | None = None,
        patience_seconds: float = 300.0,
    ) -> JobView:
        """Wait until a job is certified or failed, and return it.

        Parameters
        ----------
        on_update
            Called with the job after every poll.
        patience_seconds
            How long the coordinator may be out of reach (restarted, upgraded) before that counts as an error.

        Raises
        ------
        UnavailableError
            The time is up, or the coordinator stayed out of reach.
        """
        begun = reached = time.monotonic()
        while True:
            try:
                view = self.job(job_id)
            except UnavailableError:
                if time.monotonic() - reached > patience_seconds:
                    raise
            else:
                reached = time.monotonic()
                if on_update is not None:
                    on_update(view)
                if view.state in (JobState.CERTIFIED, JobState.FAILED):
                    return view
            if timeout_seconds is not None and time.monotonic() - begun > timeout_seconds:
                raise UnavailableError(f"job {job_id} is not done after {timeout_seconds:g} s", hint="it goes on")
            time.sleep(poll_seconds)

    @contextmanager
    def event_stream(self, path: str, after: int) -> Iterator[Iterator[bytes]]:
        """The bytes of a stream of server-sent events, from the one after number `after` on.

        Raises
        ------
        MalformedError
            The answer is something else.
        UnavailableError
            The connection broke, or nothing came for longer than the coordinator ever keeps silent.
        """
        headers = {"Accept": _EVENTS, **({"Last-Event-ID": str(after)} if after else {})}
        with self._transport.stream("GET", path, headers=headers, read_seconds=_EVENT_SILENCE_S) as response:
            if response.headers.get("Content-Type", "").partition(";")[0] != _EVENTS:
                raise MalformedError("not a stream of events", hint="is a proxy in between?")
            yield response.iter_bytes()

    def transcript(self, job_id: Digest) -> TranscriptView:
        """A training's plan and its checkpoints so far.

        Nothing here shows that they are sound: :func:`rexis.protocol.transcript.check_transcript` does.
        """
        return self._get(TranscriptView, f"/v1/jobs/{job_id}/transcript")

    def certificate(self, job_id: Digest) -> bytes:
        """A finished job's certificate: canonical bytes, as they are to be kept."""
        return self._transport.get(f"/v1/jobs/{job_id}/certificate", max_bytes=MAX_CERTIFICATE_BYTES)

    # --- for validators ----------------------------------------------------------------------------------------

    def validations(self) -> list[Validation]:
        """Jobs that wait for this wallet's verdict, oldest first."""
        return self._get(ValidationList, "/v1/validations").validations

    def draft_certificate(self, job_id: Digest, max_bytes: int = MAX_CERTIFICATE_BYTES) -> bytes:
        """The certificate that a job gets if validators agree.

        Raises
        ------
        ConflictError
            Validators are asked nothing about it, or not any more.
        ResourceError
            Larger than `max_bytes`.
        """
        return self._transport.get(f"/v1/validations/{job_id}", max_bytes=max_bytes)

    def hand_verdicts_in(self, job_id: Digest, submission: VerdictSubmission) -> None:
        """Hand signed verdicts on a job's statements in; the same ones again change nothing."""
        self._transport.post(f"/v1/validations/{job_id}", submission, idempotent=True)

    def abstain(self, job_id: Digest, code: str, detail: str) -> None:
        """Say why this wallet signs nothing about a job."""
        why = Failure(code=code, detail=detail[:2000])
        self._transport.post(f"/v1/validations/{job_id}/abstain", why, idempotent=True)

    # --- results -----------------------------------------------------------------------------------------------

    def outputs(self, job_id: Digest) -> bytes:
        """A job's encrypted outputs, one safetensors blob over all its records.

        Nothing here shows that they are the certified ones; :func:`rexis.outputs.require_certified` does.
        """
        return self._transport.get(_outputs(job_id), max_bytes=MAX_OUTPUTS)

    def download_outputs(self, job_id: Digest, part: Path, *, progress: OnBytes | None = None) -> None:
        """As :meth:`outputs`, into a file, which may hold the beginning of them already."""
        retry = self._transfers
        fetch(self._transport, _outputs(job_id), part, limit=MAX_OUTPUTS, retry=retry, progress=progress)

    # --- a worker's side ---------------------------------------------------------------------------------------

    def lease(self, wait_seconds: int = 20) -> Lease | None:
        """Ask for a task; ``None`` if none came in the time (at most 30 s)."""
        return next(iter(self.leases(1, wait_seconds)), None)

    def leases(self, most: int, wait_seconds: int = 20, memory_bytes: int | None = None) -> list[Lease]:
        """Ask for tasks; empty if none came in the time (at most 30 s).

        Parameters
        ----------
        memory_bytes
            Memory that is left for each; ``None`` for all that was registered.
        """
        body = self._transport.post(
            "/v1/leases",
            LeaseRequest(wait_seconds=wait_seconds, most=most, memory_bytes=memory_bytes),
            idempotent=False,
            read_seconds=wait_seconds + 30.0,
        )
        return Leases.from_json(body).leases if body else []

    def shard(self, lease_id: str) -> bytes:
        """The records of a leased task: a :class:`~rexis.protocol.tensors.Shard` as a blob, which nothing here checks.

        The first one of a dataset takes the coordinator long, if the dataset is large and it knows no tree of it.
        """
        return self._transport.send(
            "GET", f"/v1/leases/{lease_id}/records", max_bytes=self.info().max_blob_bytes, read_seconds=_DATASET_SECONDS
        )

    def heartbeat(self, lease_id: str, progress: Progress) -> LeaseExtended:
        """Keep a lease and say how far it is; :class:`LeaseError` if it is lost."""
        return self._post(LeaseExtended, f"/v1/leases/{lease_id}/heartbeat", Heartbeat(progress=progress))

    def commitment(self, lease_id: str, statement: Statement) -> None:
        """Sign a statement and hand it in before the challenge (tier ``sampled``)."""
        signature = sign_digest(self.account, self.info().domain.digest(statement))
        submission = CommitmentSubmission(statement=statement, signature=signature)
        self._transport.post(f"/v1/leases/{lease_id}/commitment", submission, idempotent=True)

    def challenge(self, lease_id: str, wait_seconds: float = 20.0, poll_seconds: float = 0.5) -> Challenge | None:
        """The challenge of a committed lease; ``None`` if the chain has not given it in the time."""
        deadline = time.monotonic() + wait_seconds
        while True:
            body = self._transport.get(f"/v1/leases/{lease_id}/challenge", max_bytes=_DOCUMENT_BYTES)
            if body:
                return Challenge.from_json(body)
            if time.monotonic() + poll_seconds > deadline:
                return None
            time.sleep(poll_seconds)

    def checkpoint(self, lease_id: str, signed: SignedCheckpoint) -> None:
        """Hand in a training's next checkpoint, whose state was uploaded; it keeps the lease."""
        self._transport.post(
            f"/v1/leases/{lease_id}/checkpoints", signed, idempotent=True, read_seconds=_EVIDENCE_SECONDS
        )

    def training_evidence(self, lease_id: str, evidence: TrainingEvidence) -> VerdictView:
        """Hand in a training's evidence; returns what the coordinator's own check found."""
        body = self._transport.post(
            f"/v1/leases/{lease_id}/training", evidence, idempotent=True, read_seconds=_EVIDENCE_SECONDS
        )
        return VerdictView.from_json(body)

    def evidence(self, lease_id: str, evidence: Evidence) -> VerdictView:
        """Hand in evidence; returns what the coordinator's own check found."""
        body = self._transport.post(
            f"/v1/leases/{lease_id}/evidence", evidence, idempotent=True, read_seconds=_EVIDENCE_SECONDS
        )
        return VerdictView.from_json(body)

    def evidence_batch(self, items: Sequence[TaskEvidence]) -> list[VerdictView | RexisError]:
        """Hand evidence of several leases in (tier ``commit``), with outputs up to `MAX_INLINE_OUTPUTS` bytes each.

        Returns
        -------
        answers
            For each item, in order: what the coordinator's own check found, or the error that :meth:`evidence` would
            have raised.

        Raises
        ------
        ConflictError
            The coordinator answers about other leases.
        """
        body = self._transport.post(
            "/v1/evidence", EvidenceBatch(items=list(items)), idempotent=True, read_seconds=_EVIDENCE_SECONDS
        )
        results = EvidenceResults.from_json(body).results
        _require_answer(" ".join(one.lease_id for one in items), " ".join(one.lease_id for one in results))
        return [_verdict_or_error(one) for one in results]

    def offer_pieces(self, lease_id: str, offer: PieceOffer) -> None:
        """Let others prove segments of a leased task."""
        self._transport.post(f"/v1/leases/{lease_id}/pieces", offer, idempotent=True)

    def pieces(self, lease_id: str, finished: Sequence[int]) -> PiecesView:
        """How the pieces of a leased task are, and which of them is next for its lead.

        Parameters
        ----------
        finished
            Segments that the lead has the proofs of.
        """
        return self._post(PiecesView, f"/v1/leases/{lease_id}/pieces/turn", PieceTurn(finished=list(finished)))

    def piece(self, wait_seconds: int = 0) -> Piece | None:
        """Ask for a piece of another worker's task; ``None`` if none came in the time (at most 30 s)."""
        request = LeaseRequest(wait_seconds=wait_seconds)
        body = self._transport.post("/v1/pieces", request, idempotent=False, read_seconds=wait_seconds + 30.0)
        return Piece.from_json(body) if body else None

    def piece_heartbeat(self, piece_id: str, progress: Progress) -> LeaseExtended:
        """Keep a piece and say how far it is; :class:`LeaseError` if it is lost."""
        return self._post(LeaseExtended, f"/v1/pieces/{piece_id}/heartbeat", Heartbeat(progress=progress))

    def hand_piece_in(self, piece_id: str, proofs: PieceProofs) -> None:
        """Hand a piece's proofs in; :class:`EvidenceError` if the coordinator's own check refuses them."""
        self._transport.post(f"/v1/pieces/{piece_id}/proofs", proofs, idempotent=True, read_seconds=_EVIDENCE_SECONDS)

    def leave_piece(self, piece_id: str, code: str, detail: str) -> None:
        """Leave a piece to others and say why."""
        self._transport.post(f"/v1/pieces/{piece_id}/fail", Failure(code=code, detail=detail[:2000]), idempotent=True)

    def fail(self, lease_id: str, code: str, detail: str) -> None:
        """Give a task up and say why."""
        self._transport.post(f"/v1/leases/{lease_id}/fail", Failure(code=code, detail=detail[:2000]), idempotent=True)

    def release(self, lease_id: str) -> None:
        """Give a lease back unused (shutdown); no fault is recorded."""
        self._transport.send("DELETE", f"/v1/leases/{lease_id}")

    # --- inside ------------------------------------------------------------------------------------------------

    def _get(self, kind: type[_Document], path: str) -> _Document:
        return kind.from_json(self._transport.get(path, max_bytes=_DOCUMENT_BYTES))

    def _text(self, path: str) -> str:
        try:
            return self._transport.get(path, max_bytes=_TEXT_BYTES).decode("utf-8")
        except UnicodeDecodeError:
            raise MalformedError(f"the answer to {path} is no text") from None

    def _post(
        self, kind: type[_Document], path: str, document: Strict, *, read_seconds: float | None = None
    ) -> _Document:
        return kind.from_json(self._transport.post(path, document, idempotent=True, read_seconds=read_seconds))


def _outputs(job_id: Digest) -> str:
    return f"/v1/jobs/{job_id}/outputs"


def _query(wanted: Mapping[str, object]) -> str:
    return urlencode({name: value for name, value in wanted.items() if value is not None})


def _require_answer(asked: str, found: str) -> None:
    if found != asked:
        raise ConflictError(f"asked about {asked}, the coordinator answers about {found}", hint="do not trust it")


def _verdict_or_error(result: EvidenceResult) -> VerdictView | RexisError:
    if result.verdict is not None:
        return result.verdict
    if result.problem is None:
        raise ConflictError(f"the coordinator says nothing about lease {result.lease_id}", hint="do not trust it")
    return error_of_problem(result.problem)


def job_request(
    info: Info,
    model: ModelView,
    dataset: Dataset | PrivateDataset,
    dataset_digest: Digest,
    policy: Policy,
    *,
    requester: Address,
    record_start: int = 0,
    record_count: int | None = None,
    nonce: Digest | None = None,
) -> JobRequest:
    """The request to evaluate a registered model on (a slice of) a dataset; the input root is rebuilt here.

    Parameters
    ----------
    model
        As the coordinator or the chain knows it.
    dataset, dataset_digest
        The caller's own copy, and the SHA-256 of its blob.
    record_count
        Default: all records from `record_start`.
    nonce
        Default: random. The same nonce with the same rest is the same job.

    Raises
    ------
    MalformedError, TensorError
        The tier needs a circuit that the model lacks, the records do not fit the circuit, or the slice is empty.
    """
    circuit = NO_CIRCUIT if policy.tier == Tier.COMMIT else model.circuit
    if policy.tier != Tier.COMMIT and circuit == NO_CIRCUIT:
        raise MalformedError(
            f"the model is registered without a circuit, tier {policy.tier.name.lower()} needs one",
            field="policy.tier",
            hint="use tier commit, or register the model with a circuit",
        )
    if policy.tier != Tier.COMMIT and (fault := dataset.misfit(circuit)) is not None:
        raise TensorError(fault, field="records")
    left = len(dataset) - record_start
    count = left if record_count is None else record_count
    if record_start < 0 or not 1 <= count <= left:
        raise MalformedError(
            f"records {record_start} … {record_start + count - 1} are not in a dataset of {len(dataset)}",
            field="recordStart",
        )
    return JobRequest(
        kind=Kind.EVALUATION,
        model_digest=model.model_digest,
        key_epoch=model.key_epoch,
        circuit=circuit,
        dataset_digest=dataset_digest,
        input_root=input_root(policy.tier, circuit, dataset.committed, dataset.leaf_salts),
        input_size=len(dataset),
        record_start=record_start,
        record_count=count,
        policy=policy,
        requester=requester,
        coordinator=info.coordinator,
        nonce=nonce if nonce is not None else Digest(secrets.token_bytes(32)),
    )


def training_request(
    info: Info,
    model: ModelView,
    dataset: Dataset,
    dataset_digest: Digest,
    plan: TrainingPlan,
    policy: Policy,
    *,
    requester: Address,
    nonce: Digest | None = None,
) -> TrainingRequest:
    """The request to train a registered model on a dataset; the input root is rebuilt here.

    Parameters
    ----------
    model, dataset, dataset_digest, nonce
        See :func:`job_request`.

    Raises
    ------
    TensorError
        The records are not rows of the plan's input and target.
    """
    length = values_of_a_row(dataset.records)
    if length != plan.row_length:
        raise TensorError(f"a record has {length} values, the plan says {plan.row_length}", field="records")
    return TrainingRequest(
        kind=Kind.TRAINING,
        model_digest=model.model_digest,
        key_epoch=model.key_epoch,
        circuit=NO_CIRCUIT,
        dataset_digest=dataset_digest,
        input_root=input_root(policy.tier, NO_CIRCUIT, dataset.committed, dataset.leaf_salts),
        input_size=len(dataset),
        record_start=0,
        record_count=len(dataset),
        policy=policy,
        requester=requester,
        coordinator=info.coordinator,
        nonce=nonce if nonce is not None else Digest(secrets.token_bytes(32)),
        plan_digest=plan.digest,
    )
