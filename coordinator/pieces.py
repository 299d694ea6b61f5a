"""Pieces: one segment each of a leased task's proved records, so that several workers prove one task.

The worker that leased the task is its *lead*; it offers the pieces, takes part itself, and signs for all. *Helpers*
hold a piece for a time, as a lead holds its lease. What they hand in is checked here at once, so that a bad proof costs
its maker and not the lead. Pieces end when the lease does.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from sqlmodel import Session, col, func, select

from circuits.verifying import MAX_PROOF_BYTES
from coordinator.access import Access, add_readers
from coordinator.blobs import Blobs
from coordinator.catalogue import Catalogue, vka_words
from coordinator.commitments import job_of
from coordinator.leases import Leases, Terms, place, require_open
from coordinator.standing import Rules, failed_by, note_fault
from coordinator.states import OvertakenError, change, create
from coordinator.store import Store
from coordinator.tables import FaultRow, JobRow, LeaseRow, Outcome, PieceRow, TaskRow, WorkerRow
from coordinator.times import Clock, rfc3339
from coordinator.workers import Workers
from rexis.api import LeaseExtended, Piece, PieceOffer, PieceProofs, PieceState, PiecesView, PieceView, Progress
from rexis.protocol.certificate import CircuitMaterial
from rexis.protocol.circuit import Visibility
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ConflictError, EvidenceError, LeaseError, MalformedError, TensorError
from rexis.protocol.evidence import MAX_EVIDENCE_BYTES
from rexis.protocol.parsing import Address, parse_hex
from rexis.protocol.policy import Tier
from rexis.protocol.records import Integers
from rexis.protocol.statement import JobRequest
from rexis.protocol.tensors import unpack_values
from rexis.protocol.typed_data import Domain
from verifier.circuit import artefacts_of, reasons_against_segment

_HEADER = 64 << 10
_QUOTES = 8
# Helpers that may leave a piece; then it is the lead's. So nobody keeps a task from its end by taking pieces only.
_MOST_LEFT = 3


@dataclass(frozen=True)
class _Case:
    """A piece's proofs with what they are checked against."""

    request: JobRequest
    material: CircuitMaterial
    segment: int
    inputs: Integers
    outputs: Integers


class Pieces:
    """Who proves which segment of a leased task.

    Parameters
    ----------
    checking
        Where proofs are checked.
    """

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        access: Access,
        clock: Clock,
        catalogue: Catalogue,
        workers: Workers,
        leases: Leases,
        domain: Domain,
        rules: Rules,
        terms: Terms,
        checking: Executor,
    ) -> None:
        self._store, self._blobs, self._access, self._clock = store, blobs, access, clock
        self._catalogue, self._workers, self._leases = catalogue, workers, leases
        self._domain, self._rules, self._terms, self._checking = domain, rules, terms, checking

    # --- the lead ----------------------------------------------------------------------------------------------

    def offer(self, lease_id: str, lead: Address, offer: PieceOffer) -> None:
        """Make the pieces of a lease; the same offer again changes nothing.

        Those that helpers made for the same values in an earlier lease of the task are made already.

        Raises
        ------
        LeaseError
            The lease is lost.
        MalformedError
            The circuit has other segments, or the values are not those of so many records.
        ConflictError
            Other values were offered before.
        """
        self._leases.expire()
        with self._store.reading() as session:
            request, task = job_of(session, require_open(session, lease_id, lead))
        records, needed = proved_records(request, task.count), self._catalogue.needed_by_segment(request.circuit)
        self._values(lead, request, records, offer)
        with self._store.writing() as session:
            require_open(session, lease_id, lead)
            before = _of_lease(session, lease_id)
            if before and {row.values_digest for row in before} != {str(offer.values)}:
                raise ConflictError("other values were offered in this lease", field="values")
            if before:
                return
            made = _made_before(session, task.task_id, str(offer.values))
            add_readers(session, lead, [Digest.parse(row.proofs_digest) for row in made.values() if row.proofs_digest])
            rows, now = [], self._clock()
            for segment in range(offer.segments):
                row = PieceRow(
                    piece_id=secrets.token_hex(16),
                    lease_id=lease_id,
                    segment=segment,
                    records=records,
                    needed_bytes=needed[segment],
                    values_digest=str(offer.values),
                )
                rows.append(row)
            create(session, *rows, reason="offered by the lead", at=now, actor=lead)
            for row in rows:
                if (old := made.get(row.segment)) is not None:
                    change(
                        session,
                        row,
                        PieceState.DONE,
                        reason="made in an earlier lease",
                        at=now,
                        worker=old.worker,
                        proofs_digest=old.proofs_digest,
                    )

    def turn(self, lease_id: str, lead: Address, finished: Sequence[int]) -> PiecesView:
        """Note which segments the lead has, give it the next open one, and say how all are."""
        self._expire()
        with self._store.writing() as session:
            self._workers.seen(session, lead)
            require_open(session, lease_id, lead)
            rows, now = _of_lease(session, lease_id), self._clock()
            for row in rows:
                if row.segment in finished and row.state != PieceState.DONE:
                    why = "the lead has its proofs"
                    change(session, row, PieceState.DONE, reason=why, at=now, actor=lead, worker=lead, expires_at=None)
            mine = next((row for row in rows if row.state == PieceState.HELD and row.worker == lead), None)
            if mine is None:
                opened = (row for row in rows if row.state == PieceState.OPEN)
                mine = next((row for row in opened if _claim(session, row, lead, now, None)), None)
            return PiecesView(yours=mine.segment if mine else None, pieces=[_view(row) for row in rows])

    # --- helpers -----------------------------------------------------------------------------------------------

    def grant(self, worker: Address) -> Piece | None:
        """The first open piece that the worker may help with; None if there is none.

        Whoever holds private datasets works on these only.

        Raises
        ------
        ForbiddenError
            The caller is not registered as a worker.
        """
        self._expire()
        with self._store.writing() as session:
            registered = self._workers.seen(session, worker)
            if registered.datasets or _held(session, worker) >= self._terms.at_a_time:
                return None
            now = self._clock()
            for row in _placeable(session, registered):
                if _claim(session, row, worker, now, now + self._terms.lease_ms):
                    return self._document(session, row)
        return None

    def heartbeat(self, piece_id: str, worker: Address, progress: Progress) -> LeaseExtended:
        """Note how far a piece is, and keep it as long as it gets somewhere. Its progress is its lease's, too."""
        self._expire()
        with self._store.writing() as session:
            self._workers.seen(session, worker)
            row = _require_held(session, piece_id, worker)
            now = self._clock()
            before = Progress.from_json(row.progress.encode()) if row.progress else None
            if before is None or place(progress, row.records) > place(before, row.records):
                row.progressed_at, row.progress = now, progress.to_json().decode()
                session.get_one(LeaseRow, row.lease_id).progressed_at = now
            expires_at = row.expires_at or now
            if now - row.progressed_at < self._terms.stalled_ms:
                expires_at = max(expires_at, now + self._terms.lease_ms)
            row.expires_at = expires_at
            session.add(row)
            return LeaseExtended(expires_at=rfc3339(expires_at))

    def leave(self, piece_id: str, worker: Address, code: str, detail: str) -> None:
        """The helper cannot make the piece, or stops: others shall. That is no fault."""
        self._expire()
        with self._store.writing() as session:
            row = session.get(PieceRow, piece_id)
            if row is not None and worker in row.left_by.split():
                return  # said twice
            _reopen(session, _require_held(session, piece_id, worker), f"{code}: {detail}", self._clock())

    def admit(self, piece_id: str, worker: Address) -> int:
        """Before proofs are read: how many bytes they may have. The piece is kept while they are read and checked.

        Raises
        ------
        LeaseError
            The piece is lost.
        """
        self._expire()
        with self._store.writing() as session:
            made = session.get(PieceRow, piece_id)
            if made is not None and _made_by(made, worker):
                return _proofs_limit(made)
            row = _require_held(session, piece_id, worker)
            row.expires_at = self._clock() + self._terms.stalled_ms
            session.add(row)
            return _proofs_limit(row)

    async def store(self, given: PieceProofs) -> Digest:
        """Keep proofs as a blob, so that none wait in memory until they are checked."""
        return await asyncio.to_thread(lambda: self._blobs.put(given.to_json()))

    async def check(self, piece_id: str, worker: Address, digest: Digest) -> None:
        """Check stored proofs of a piece and take them.

        Raises
        ------
        LeaseError
            The piece is lost.
        EvidenceError
            A proof does not hold. The fault is recorded, and somebody else gets the piece.
        UnavailableError
            A part that checking needs is missing here; the piece goes on.
        """
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._checking, self._judge, piece_id, worker, digest)

    def _judge(self, piece_id: str, worker: Address, digest: Digest) -> None:
        with self._store.reading() as session:
            found = session.get(PieceRow, piece_id)
            if found is not None and _made_by(found, worker):
                return  # said twice
            row = _require_held(session, piece_id, worker)
            request, _ = job_of(session, session.get_one(LeaseRow, row.lease_id))
            vka = vka_words(session, request.model_digest, request.key_epoch)
        given = PieceProofs.from_json(self._blobs.read(digest, "proofs"), max_bytes=MAX_EVIDENCE_BYTES)
        fault = self._fault(self._case(row, request, vka), given.proofs)
        if fault is None:
            self._accept(piece_id, worker, digest)
            return
        detail = f"segment {row.segment}: {fault}"
        with self._store.writing() as session:
            row = _require_held(session, piece_id, worker)
            _reopen(session, row, detail, self._clock())
            lease = session.get_one(LeaseRow, row.lease_id)
            session.add(
                FaultRow(
                    task_id=lease.task_id,
                    worker=worker,
                    at=self._clock(),
                    outcome=Outcome.REFUSED,
                    code=EvidenceError.code,
                    detail=detail[:2000],
                    helping=True,
                )
            )
            task = session.get_one(TaskRow, lease.task_id)
            note_fault(session, worker, task.tier, Outcome.REFUSED, self._clock(), self._rules)
        raise EvidenceError(detail, field="proofs")

    def _case(self, row: PieceRow, request: JobRequest, vka: list[Digest]) -> _Case:
        blob = self._blobs.read(Digest.parse(row.values_digest), "values")
        values = unpack_values(blob, count=row.records, widths=self._widths(request))
        material = self._catalogue.material(request.circuit, vka)
        return _Case(request, material, row.segment, values[row.segment], values[row.segment + 1])

    def _fault(self, case: _Case, proofs: Sequence[bytes]) -> str | None:
        """What is wrong with the proofs; None if they all hold."""
        if len(proofs) != len(case.inputs):
            return f"{len(proofs)} proofs for {len(case.inputs)} records"
        circuit = case.request.circuit
        artefacts, srs = artefacts_of(case.material, circuit), self._blobs.path(circuit.srs_digest, "SRS")
        reasons = reasons_against_segment(artefacts, srs, case.segment, proofs, case.inputs, case.outputs)
        bad = [(place, reason) for place, reason in enumerate(reasons) if reason is not None]
        return f"proof {bad[0][0]} does not hold: {bad[0][1]}" if bad else None

    def _accept(self, piece_id: str, worker: Address, digest: Digest) -> None:
        with self._store.writing() as session:
            row = _require_held(session, piece_id, worker)
            now = self._clock()
            change(
                session,
                row,
                PieceState.DONE,
                reason="its proofs hold",
                at=now,
                actor=worker,
                proofs_digest=str(digest),
                expires_at=None,
            )
            lease = session.get_one(LeaseRow, row.lease_id)
            lease.progressed_at = now
            add_readers(session, Address.parse(lease.worker), [digest])

    # --- both --------------------------------------------------------------------------------------------------

    def expire(self) -> int:
        """Open the pieces of helpers that gave no sign of life; returns how many there were."""
        now = self._clock()
        overdue = select(PieceRow).where(col(PieceRow.state) == PieceState.HELD, col(PieceRow.expires_at) <= now)
        with self._store.looking() as session:
            if session.exec(overdue.limit(1)).first() is None:
                return 0
        with self._store.writing() as session:
            rows = session.exec(overdue).all()
            for row in rows:
                _reopen(session, row, "its time ran out", now)
        return len(rows)

    def _expire(self) -> None:
        self._leases.expire()
        self.expire()

    def _values(self, lead: Address, request: JobRequest, records: int, offer: PieceOffer) -> None:
        """Make sure that the offered values are what pieces can be checked against."""
        if request.policy.tier == Tier.COMMIT or request.circuit.visibility != Visibility.PUBLIC:
            raise MalformedError("nothing is proved in this tier, or nobody else may see it", field="segments")
        widths = self._widths(request)
        if offer.segments != len(widths) - 1:
            raise MalformedError(f"the circuit has {len(widths) - 1} segments, not {offer.segments}", field="segments")
        if not self._access.holds(lead, offer.values):
            raise MalformedError(
                f"the values {offer.values} have not been uploaded",
                field="values",
                hint=f"PUT /v1/blobs/{offer.values} first",
            )
        size, most = self._blobs.size(offer.values) or 0, 8 * records * sum(widths) + _HEADER
        if size > most:
            raise TensorError(f"a blob of {size} bytes; so many records have at most {most}", field="values")
        unpack_values(self._blobs.read(offer.values, "values"), count=records, widths=widths)

    def _widths(self, request: JobRequest) -> list[int]:
        circuit = request.circuit
        return [circuit.input_length, *self._catalogue.boundaries(circuit), circuit.output_length]

    def _document(self, session: Session, row: PieceRow) -> Piece:
        request, task = job_of(session, session.get_one(LeaseRow, row.lease_id))
        return Piece(
            piece_id=row.piece_id,
            expires_at=rfc3339(row.expires_at or 0),
            heartbeat_seconds=self._terms.heartbeat_seconds,
            domain=self._domain,
            request=request,
            request_signature=parse_hex(session.get_one(JobRow, task.job_id).signature),
            segment=row.segment,
            records=row.records,
            values=Digest.parse(row.values_digest),
            vka=vka_words(session, request.model_digest, request.key_epoch),
        )


def proved_records(request: JobRequest, count: int) -> int:
    """How many records of a task of `count` are proved."""
    return count if request.policy.tier == Tier.ZK else min(request.policy.sample_size, count)


def _of_lease(session: Session, lease_id: str) -> Sequence[PieceRow]:
    return session.exec(select(PieceRow).where(PieceRow.lease_id == lease_id).order_by(col(PieceRow.segment))).all()


def _made_before(session: Session, task_id: str, values: str) -> dict[int, PieceRow]:
    """By segment: pieces of the task that helpers made, in whichever lease, for the same values."""
    found = (
        select(PieceRow)
        .join(LeaseRow, col(LeaseRow.lease_id) == col(PieceRow.lease_id))
        .where(
            col(LeaseRow.task_id) == task_id,
            col(PieceRow.values_digest) == values,
            col(PieceRow.proofs_digest).is_not(None),
        )
    )
    return {row.segment: row for row in session.exec(found)}


def _held(session: Session, worker: Address) -> int:
    """How many pieces of open leases the worker holds."""
    found = (
        select(func.count())
        .select_from(PieceRow)
        .join(LeaseRow, col(LeaseRow.lease_id) == col(PieceRow.lease_id))
        .where(
            col(PieceRow.worker) == worker,
            col(PieceRow.state) == PieceState.HELD,
            col(LeaseRow.outcome) == Outcome.OPEN,
        )
    )
    return session.exec(found).one()


def _placeable(session: Session, worker: WorkerRow) -> Iterator[PieceRow]:
    """Open pieces of other workers' leases, the oldest first, that the worker has room for and has not failed."""
    found = (
        select(PieceRow)
        .join(LeaseRow, col(LeaseRow.lease_id) == col(PieceRow.lease_id))
        .join(TaskRow, col(TaskRow.task_id) == col(LeaseRow.task_id))
        .where(
            col(PieceRow.state) == PieceState.OPEN,
            col(LeaseRow.outcome) == Outcome.OPEN,
            col(LeaseRow.worker) != worker.address,
            col(TaskRow.tier).in_(worker.tiers.split()),
            col(PieceRow.needed_bytes) <= worker.memory_bytes,
            ~failed_by(worker.address),
        )
        .order_by(col(LeaseRow.granted_at), col(LeaseRow.lease_id), col(PieceRow.segment))
    )
    for row in session.exec(found).all():
        left = row.left_by.split()
        if worker.address not in left and len(left) < _MOST_LEFT:
            yield row


def _claim(session: Session, row: PieceRow, worker: Address, now: int, expires_at: int | None) -> bool:
    """Have an open piece held; False if another coordinator process was faster."""
    try:
        change(
            session,
            row,
            PieceState.HELD,
            reason="taken",
            at=now,
            actor=worker,
            worker=worker,
            progressed_at=now,
            expires_at=expires_at,
            progress=None,
        )
    except OvertakenError:
        return False
    return True


def _reopen(session: Session, row: PieceRow, reason: str, now: int) -> None:
    left_by = " ".join((*row.left_by.split(), row.worker or ""))
    change(session, row, PieceState.OPEN, reason=reason, at=now, worker=None, expires_at=None, left_by=left_by)
    row.reason = reason[:2000]
    session.add(row)


def _require_held(session: Session, piece_id: str, worker: Address) -> PieceRow:
    """A piece that this helper holds.

    Raises
    ------
    LeaseError
        It was never there, is another's, or has ended.
    """
    row = session.get(PieceRow, piece_id)
    if row is None:
        raise LeaseError("no such piece", hint="ask for another one")
    if row.worker != worker or row.state != PieceState.HELD or row.expires_at is None:
        raise LeaseError("the piece is no longer yours", hint="ask for another one")
    if session.get_one(LeaseRow, row.lease_id).outcome != Outcome.OPEN:
        raise LeaseError("the task of this piece has ended", hint="ask for another one")
    return row


def _proofs_limit(row: PieceRow) -> int:
    """Bytes that the document with a piece's proofs can have; they are hexadecimal."""
    return min(MAX_EVIDENCE_BYTES, _HEADER + row.records * (2 * MAX_PROOF_BYTES + _QUOTES))


def _made_by(row: PieceRow, worker: Address) -> bool:
    return row.state == PieceState.DONE and row.worker == worker and row.proofs_digest is not None


def _view(row: PieceRow) -> PieceView:
    return PieceView(
        segment=row.segment,
        state=row.state,
        worker=Address.parse(row.worker) if row.worker else None,
        proofs=Digest.parse(row.proofs_digest) if row.proofs_digest else None,
        reason=row.reason,
    )
