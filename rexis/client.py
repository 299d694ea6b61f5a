"""The typed HTTP client of a coordinator, for requesters, model owners and workers.

Every call returns a checked document of :mod:`rexis.api` or raises a :class:`~rexis.protocol.errors.RexisError`.
Transient failures are retried where that is safe (:mod:`rexis.transport`). One client may be used from many threads.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Self, TypeVar

import httpx
from eth_account.signers.local import LocalAccount

from rexis.api import (
    BlobView,
    Challenge,
    CommitmentSubmission,
    DatasetRegistration,
    DatasetView,
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
    ModelRegistration,
    ModelView,
    Piece,
    PieceOffer,
    PieceProofs,
    PiecesView,
    PieceTurn,
    Progress,
    TaskView,
    VerdictView,
    WorkerRegistration,
    WorkerView,
)
from rexis.files import publish
from rexis.protocol.certificate import MAX_CERTIFICATE_BYTES
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import Digest, digest_stream, sha256
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
from rexis.protocol.signing import address_of, sign_digest
from rexis.protocol.statement import JobRequest, Kind, Statement
from rexis.protocol.tensors import Dataset
from rexis.protocol.typed_data import Domain
from rexis.transport import DEFAULT_TIMEOUT, Retry, Transport, may_retry

_CHUNK = 1 << 20
_DOCUMENT_BYTES = 16 << 20
# The coordinator checks proofs before it answers.
_EVIDENCE_SECONDS = 900.0
_RANGE_REFUSED = httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE

OnBytes = Callable[[int, int], None]
"""Called with (bytes so far, bytes in all); the total is 0 while it is not known."""

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
        See httpx and :class:`~rexis.transport.Retry`.
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

    def login(self) -> None:
        """Sign in now rather than at the first call that needs it."""
        self._transport.login()

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

    # --- blobs -------------------------------------------------------------------------------------------------

    def upload_blob(self, source: Path | bytes, *, progress: OnBytes | None = None) -> Digest:
        """Store bytes under their SHA-256 and return it. Nothing is sent if the coordinator has them already.

        Raises
        ------
        ResourceError
            Larger than the coordinator takes.
        """
        digest, size = _measure(source)
        limit = self.info().max_blob_bytes
        if size > limit:
            raise ResourceError(f"a blob of {size} bytes, over the coordinator's limit of {limit}")
        if self.has_blob(digest):
            _report(progress, size, size)
            return digest
        answer = self._transport.send(
            "PUT",
            f"/v1/blobs/{digest}",
            body=lambda: _chunks(source, size, progress),
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
        if to.is_file() and _digest_of(to) == digest:
            _report(progress, to.stat().st_size, to.stat().st_size)
            return to
        limit = self.info().max_blob_bytes if max_bytes is None else max_bytes
        part = to.with_name(to.name + ".part")
        resumed = part.exists()
        self._fetch(f"/v1/blobs/{digest}", part, limit, progress)
        found = _digest_of(part)
        if found != digest and resumed:  # an old part may be of something else, or torn
            part.unlink()
            self._fetch(f"/v1/blobs/{digest}", part, limit, progress)
            found = _digest_of(part)
        if found != digest:
            part.unlink()
            raise DigestMismatchError(f"the coordinator sent {found} for blob {digest}", hint="do not trust its store")
        publish(part, to, overwrite=True)
        return to

    # --- workers, models, datasets -----------------------------------------------------------------------------

    def register_worker(self, registration: WorkerRegistration) -> WorkerView:
        """Announce this wallet as a worker, or change what was announced."""
        return self._post(WorkerView, "/v1/workers", registration)

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

    def register_dataset(self, digest: Digest) -> DatasetView:
        """Make an uploaded blob known as a dataset."""
        return self._post(DatasetView, "/v1/datasets", DatasetRegistration(digest=digest))

    def dataset(self, digest: Digest) -> DatasetView:
        """A registered dataset; :class:`ConflictError` if the coordinator describes another one."""
        found = self._get(DatasetView, f"/v1/datasets/{digest}")
        _require_answer(f"dataset {digest}", f"dataset {found.digest}")
        return found

    # --- jobs --------------------------------------------------------------------------------------------------

    def submit_job(self, request: JobRequest) -> JobView:
        """Sign and submit a job. The same request is the same job, however often it is sent.

        Raises
        ------
        ConflictError
            The coordinator calls the job by another id than the signed one.
        """
        domain = self.info().domain
        job_id = request.job_id(domain)
        signature = sign_digest(self.account, job_id)
        view = self._post(JobView, "/v1/jobs", JobSubmission(request=request, signature=signature))
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

    def task(self, task_id: Digest) -> TaskView:
        """One task; :class:`ConflictError` if the coordinator describes another one."""
        found = self._get(TaskView, f"/v1/tasks/{task_id}")
        _require_answer(f"task {task_id}", f"task {found.task_id}")
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

    def certificate(self, job_id: Digest) -> bytes:
        """A finished job's certificate: canonical bytes, as they are to be kept."""
        return self._transport.get(f"/v1/jobs/{job_id}/certificate", max_bytes=MAX_CERTIFICATE_BYTES)

    def outputs(self, job_id: Digest) -> bytes:
        """A job's encrypted outputs, one safetensors blob over all its records.

        Nothing here shows that they are the certified ones; :func:`rexis.outputs.require_certified` does.
        """
        return self._transport.get(f"/v1/jobs/{job_id}/outputs", max_bytes=self.info().max_blob_bytes)

    # --- a worker's side ---------------------------------------------------------------------------------------

    def lease(self, wait_seconds: int = 20) -> Lease | None:
        """Ask for a task; ``None`` if none came in the time (at most 30 s)."""
        body = self._transport.post(
            "/v1/leases",
            LeaseRequest(wait_seconds=wait_seconds),
            idempotent=False,
            read_seconds=wait_seconds + 30.0,
        )
        return Lease.from_json(body) if body else None

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

    def evidence(self, lease_id: str, evidence: Evidence) -> VerdictView:
        """Hand in evidence; returns what the coordinator's own check found."""
        body = self._transport.post(
            f"/v1/leases/{lease_id}/evidence", evidence, idempotent=True, read_seconds=_EVIDENCE_SECONDS
        )
        return VerdictView.from_json(body)

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

    def _post(self, kind: type[_Document], path: str, document: Strict) -> _Document:
        return kind.from_json(self._transport.post(path, document, idempotent=True))

    def _fetch(self, path: str, part: Path, limit: int, progress: OnBytes | None) -> None:
        """Bring `part` up to the whole blob; tries again as long as bytes keep coming."""
        failures = 0
        while True:
            have = part.stat().st_size if part.exists() else 0
            try:
                self._fetch_rest(path, part, limit, progress)
            except RexisError as error:
                if part.exists() and part.stat().st_size > have:
                    failures = 0
                failures += 1
                if failures >= self._transport.retry.attempts or not may_retry(error, idempotent=True):
                    raise
                self._transport.retry.pause(failures)
            else:
                return

    def _fetch_rest(self, path: str, part: Path, limit: int, progress: OnBytes | None) -> None:
        have = part.stat().st_size if part.exists() else 0
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        with self._transport.stream("GET", path, headers=headers, accept=(_RANGE_REFUSED,)) as response:
            if response.status_code == _RANGE_REFUSED:
                return  # the part is whole already, or longer than the blob: its digest decides
            if not _resumes_at(response, have):
                have = 0
            announced = response.headers.get("Content-Length", "")
            total = have + int(announced) if announced.isdigit() else 0
            with part.open("ab" if have else "wb") as stream:
                for chunk in response.iter_raw():
                    have += len(chunk)
                    if max(have, total) > limit:
                        raise ResourceError(f"a blob of {max(have, total)} bytes, over the limit of {limit}")
                    stream.write(chunk)
                    _report(progress, have, total)
                stream.flush()
                os.fsync(stream.fileno())


def _require_answer(asked: str, found: str) -> None:
    if found != asked:
        raise ConflictError(f"asked about {asked}, the coordinator answers about {found}", hint="do not trust it")


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


def _resumes_at(response: httpx.Response, have: int) -> bool:
    """Whether a response goes on at byte `have`; any other answer is the whole blob again."""
    unit_and_start = response.headers.get("Content-Range", "").partition("-")[0]
    return response.status_code == httpx.codes.PARTIAL_CONTENT and unit_and_start == f"bytes {have}"


def _measure(source: Path | bytes) -> tuple[Digest, int]:
    if isinstance(source, bytes):
        return sha256(source), len(source)
    return _digest_of(source), source.stat().st_size


def _digest_of(path: Path) -> Digest:
    with path.open("rb") as stream:
        return digest_stream(stream)


def _chunks(source: Path | bytes, size: int, progress: OnBytes | None) -> Iterator[bytes]:
    stream = BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    sent = 0
    with stream:
        while chunk := stream.read(_CHUNK):
            yield chunk
            sent += len(chunk)
            _report(progress, sent, size)


def _report(progress: OnBytes | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
