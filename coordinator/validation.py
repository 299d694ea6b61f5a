"""What validators are asked, and what they answer: signed verdicts on the statements of jobs whose policy wants them.

A finished job gets a certificate as a *draft* first, which is what validators check. Each hands in BLS signatures over
(statement digest, verdict). Whose they are says the ValidatorQuorum contract; :mod:`coordinator.validating` writes the
verdict of enough of them there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import ColumnElement
from sqlmodel import Session, case, col, delete, exists, func, or_, select

from contracts.accountability import Accountability
from coordinator import metrics
from coordinator.audit import record
from coordinator.blobs import Blobs
from coordinator.chain import Ledger
from coordinator.store import Store
from coordinator.tables import AbstentionRow, JobRow, TaskRow, ValidationRow, ValidatorSignatureRow
from coordinator.times import Clock
from rexis.api import (
    MAX_VERDICTS,
    Failure,
    JobState,
    SignedVerdict,
    Validation,
    ValidationList,
    ValidationView,
    ValidatorView,
    VerdictSubmission,
)
from rexis.protocol import bls
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ConflictError, ForbiddenError, MalformedError, NotFoundError, SignatureError
from rexis.protocol.parsing import Address, enum_name, to_hex
from rexis.protocol.policy import Tier
from rexis.protocol.statement import JobRequest
from rexis.protocol.training import read_request
from rexis.protocol.typed_data import Domain
from rexis.protocol.validation import Finding, ValidatorVerdict

_SHOWN = 16
_SHOWN_VALIDATORS = 256


class Validations:
    """Asks validators, and takes what they sign.

    Parameters
    ----------
    quorum
        The deployment whose validators they are; None if there is none.
    """

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        clock: Clock,
        chain: Callable[[], Ledger],
        domain: Domain,
        quorum: Accountability | None,
    ) -> None:
        self._store, self._blobs, self._clock, self._chain = store, blobs, clock, chain
        self._domain, self._quorum = domain, quorum

    def wanted(self, caller: Address) -> ValidationList:
        """Jobs with statements that the caller has not judged, oldest first.

        Those about which it could say nothing come last, in turns: they must not hide the others from it.
        """
        signed = exists().where(
            col(ValidatorSignatureRow.task_id) == col(TaskRow.task_id), col(ValidatorSignatureRow.account) == caller
        )
        open_to_caller = ~signed & ~settled()
        said = (col(AbstentionRow.job_id) == col(JobRow.job_id)) & (col(AbstentionRow.account) == caller)
        order = (func.coalesce(col(AbstentionRow.at), 0), col(JobRow.submitted_at))
        with self._store.looking() as session:
            waiting = exists().where(col(TaskRow.job_id) == col(JobRow.job_id), open_to_caller)
            asked = select(JobRow).outerjoin(AbstentionRow, said).where(_asked(), waiting)
            jobs = session.exec(asked.order_by(*order).limit(_SHOWN)).all()
            found = []
            for job in jobs:
                tasks = select(TaskRow.statement_digest).where(col(TaskRow.job_id) == job.job_id, open_to_caller)
                digests = session.exec(tasks.order_by(col(TaskRow.start)).limit(MAX_VERDICTS)).all()
                found.append(
                    Validation(
                        job_id=Digest.parse(job.job_id),
                        certificate_digest=Digest.parse(job.draft_digest),
                        files=files_to_check(read_request(job.request.encode())),
                        statements=[Digest.parse(digest) for digest in digests],
                    )
                )
        return ValidationList(validations=found)

    def draft(self, job_id: Digest) -> bytes:
        """The certificate that a job will get if validators agree.

        Raises
        ------
        NotFoundError, ConflictError
            No such job, or none that validators are asked about now.
        """
        with self._store.looking() as session:
            digest = _require_asked(session, job_id).draft_digest
        return self._blobs.read(Digest.parse(digest), "certificate")

    def hand_in(self, caller: Address, job_id: Digest, submission: VerdictSubmission) -> None:
        """Keep a validator's signatures.

        Raises
        ------
        NotFoundError, ConflictError
            No such job or statement, none that validators are asked about now, or a verdict that contradicts one that
            the caller signed before. Of those both signatures are kept.
        ForbiddenError
            The caller does not hold the slot, or has nothing at stake.
        MalformedError, SignatureError
            Names the signature that is no point of its subgroup, or not the validator's.
        """
        with self._store.looking() as session:
            _require_asked(session, job_id)
            tasks = _tasks_of(session, job_id)
        for position, one in enumerate(submission.verdicts):
            if one.statement not in tasks:
                raise NotFoundError(f"the job has no statement {one.statement}", field=f"verdicts.{position}.statement")
        key = self._key_of(caller, submission.slot)
        for position, one in enumerate(submission.verdicts):
            self._require_signed(key, one, f"verdicts.{position}.signature")
        with self._store.writing() as session:
            _require_asked(session, job_id)
            contradictions = [
                one.statement
                for one in submission.verdicts
                if self._keep(session, caller, submission.slot, key, tasks[one.statement], one)
            ]
            mine = (col(AbstentionRow.job_id) == str(job_id), col(AbstentionRow.account) == caller)
            session.exec(delete(AbstentionRow).where(*mine))
        for one in submission.verdicts:
            metrics.VALIDATOR_VERDICTS.labels(enum_name(one.verdict)).inc()
        if contradictions:
            raise ConflictError(
                f"{caller} signed both verdicts on statement {contradictions[0]}; both signatures are kept",
                hint="anybody may report that to the ValidatorQuorum contract, which takes the stake",
            )

    def abstain(self, caller: Address, job_id: Digest, why: Failure) -> None:
        """Note why a validator signs nothing about a job.

        Raises
        ------
        NotFoundError, ConflictError
            As :meth:`draft`.
        """
        with self._store.writing() as session:
            _require_asked(session, job_id)
            reason = f"{why.code}: {why.detail}"
            session.merge(AbstentionRow(job_id=str(job_id), account=caller, reason=reason, at=self._clock()))
        metrics.VALIDATOR_VERDICTS.labels("none").inc()

    def _key_of(self, caller: Address, slot: int) -> bytes:
        if self._quorum is None:
            raise ConflictError("this coordinator knows no validators")
        found = self._chain().validator_in(slot)
        if found is None or found.account != caller:
            raise ForbiddenError(
                f"{caller} does not hold slot {slot} of quorum {self._quorum.validator_quorum}",
                hint="rexis validator join",
            )
        if found.active == 0:
            raise ForbiddenError(f"{caller} has asked its whole stake back", hint="its verdicts count for nothing")
        return found.public_key

    def _require_signed(self, key: bytes, one: SignedVerdict, field: str) -> None:
        message = self._domain.digest(ValidatorVerdict(statement_digest=one.statement, verdict=one.verdict))
        try:
            holds = bls.verify(key, message, one.signature)
        except MalformedError as error:
            raise MalformedError(error.message, field=field, hint=error.hint) from None
        if not holds:
            raise SignatureError("is not the validator's over this verdict", field=field)

    def _keep(self, session: Session, caller: Address, slot: int, key: bytes, task: str, one: SignedVerdict) -> bool:
        """Write a signature down; whether it contradicts one that is there."""
        other = Finding.INVALID if one.verdict == Finding.VALID else Finding.VALID
        now, name = self._clock(), enum_name(one.verdict)
        if session.get(ValidatorSignatureRow, (task, caller, one.verdict)) is None:
            session.add(
                ValidatorSignatureRow(
                    task_id=task,
                    account=caller,
                    verdict=one.verdict,
                    slot=slot,
                    public_key=to_hex(key),
                    signature=to_hex(one.signature),
                    at=now,
                )
            )
            record(session, now, caller, f"verdict.{name}", str(one.statement))
        return session.get(ValidatorSignatureRow, (task, caller, other)) is not None


def files_to_check(request: JobRequest) -> list[Digest]:
    """Blobs that a validator needs beside the certificate: what runs records again, or what proofs are checked with."""
    return [request.model_digest if request.policy.tier == Tier.COMMIT else request.circuit.srs_digest]


def readable_by_validators(session: Session, digest: Digest) -> bool:
    """Whether validators are asked something that takes a blob."""
    requests = session.exec(select(JobRow.request).where(_asked()))
    return any(digest in files_to_check(read_request(document.encode())) for document in requests)


def is_agreed() -> ColumnElement[bool]:
    """Condition on jobs: on each statement there is the verdict that the policy wants."""
    agreed = exists().where(
        col(ValidationRow.task_id) == col(TaskRow.task_id),
        col(ValidationRow.tx_hash).is_not(None),
        col(ValidationRow.verdict) == Finding.VALID,
        col(ValidationRow.signers) >= col(JobRow.validators),
    )
    return ~exists().where(col(TaskRow.job_id) == col(JobRow.job_id), ~agreed)


def is_decided_against(session: Session, job: JobRow) -> bool:
    """Whether there is a verdict on chain with which a job cannot be certified: a quorum writes one only."""
    against = or_(col(ValidationRow.verdict) == Finding.INVALID, col(ValidationRow.signers) < job.validators)
    found = (
        select(ValidationRow.task_id)
        .join(TaskRow, col(TaskRow.task_id) == col(ValidationRow.task_id))
        .where(col(TaskRow.job_id) == job.job_id, col(ValidationRow.tx_hash).is_not(None), against)
    )
    return session.exec(found.limit(1)).first() is not None


def progress_of(session: Session, job: JobRow, quorum: Accountability | None) -> ValidationView | None:
    """How far validators are with a job; None if it wants none."""
    if job.validators == 0:
        return None
    of_job = col(TaskRow.job_id) == job.job_id
    joined = select(func.count(), func.count(col(ValidationRow.tx_hash))).select_from(TaskRow)
    statements, on_chain = session.exec(
        joined.outerjoin(ValidationRow, col(ValidationRow.task_id) == col(TaskRow.task_id)).where(of_job)
    ).one()
    least = (
        select(func.min(func.coalesce(col(ValidationRow.share), 0)))
        .select_from(TaskRow)
        .outerjoin(ValidationRow, col(ValidationRow.task_id) == col(TaskRow.task_id))
    )
    open_ = col(ValidationRow.tx_hash).is_(None)
    verdict = col(ValidatorSignatureRow.verdict)
    signed = session.exec(
        select(
            ValidatorSignatureRow.account,
            func.sum(case((verdict == Finding.VALID, 1), else_=0)),
            func.sum(case((verdict == Finding.INVALID, 1), else_=0)),
        )
        .join(TaskRow, col(TaskRow.task_id) == col(ValidatorSignatureRow.task_id))
        .where(of_job)
        .group_by(col(ValidatorSignatureRow.account))
    ).all()
    abstains = {
        row.account: row.reason
        for row in session.exec(select(AbstentionRow).where(col(AbstentionRow.job_id) == job.job_id))
    }
    counts = {account: (int(valid), int(invalid)) for account, valid, invalid in signed}
    return ValidationView(
        quorum=None if quorum is None else quorum.validator_quorum,
        wanted=job.validators,
        statements=statements,
        settled=on_chain,
        share=0 if job.draft_digest is None else session.exec(least.where(of_job, open_)).one() or 0,
        threshold=0 if quorum is None else quorum.terms.threshold_bps,
        validators=[
            ValidatorView(
                account=Address.parse(account),
                valid=counts.get(account, (0, 0))[0],
                invalid=counts.get(account, (0, 0))[1],
                abstains=abstains.get(account),
            )
            for account in sorted({*counts, *abstains})[:_SHOWN_VALIDATORS]
        ],
    )


def explained(view: ValidationView) -> str:
    """Why a job waits for validators, for a person."""
    judged = sum(one.valid + one.invalid > 0 for one in view.validators)
    text = (
        f"waits for validators: {view.settled} of {view.statements} statements have a verdict on chain; {judged} "
        f"validators have judged, {view.wanted} are wanted on each; {view.share / 100:g} % of the stake has signed, "
        f"more than {view.threshold / 100:g} % is needed"
    )
    against = sum(one.invalid > 0 for one in view.validators)
    if against:
        text += f"; {against} found a statement not valid"
    silent = next((one for one in view.validators if one.abstains is not None), None)
    return text if silent is None else f"{text}; {silent.account} does not judge: {silent.abstains}"


def _asked() -> ColumnElement[bool]:
    """Condition on jobs: validators are asked about them."""
    return (
        (col(JobRow.state) == JobState.ANCHORING) & (col(JobRow.validators) > 0) & col(JobRow.draft_digest).is_not(None)
    )


def settled() -> ColumnElement[bool]:
    """Condition on tasks: there is a verdict on chain, for good."""
    return exists().where(col(ValidationRow.task_id) == col(TaskRow.task_id), col(ValidationRow.tx_hash).is_not(None))


def _require_asked(session: Session, job_id: Digest) -> JobRow:
    row = session.get(JobRow, str(job_id))
    if row is None:
        raise NotFoundError(f"no job {job_id}")
    if row.state != JobState.ANCHORING or not row.validators or row.draft_digest is None:
        raise ConflictError(f"the job is {JobState(row.state)}: validators are asked nothing about it")
    return row


def _tasks_of(session: Session, job_id: Digest) -> Mapping[Digest, str]:
    """Tasks of a job by their statements."""
    found = session.exec(select(TaskRow.statement_digest, TaskRow.task_id).where(col(TaskRow.job_id) == str(job_id)))
    return {Digest.parse(digest): task for digest, task in found if digest is not None}
