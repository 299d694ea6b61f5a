"""What evidence is worth. The worker is not believed: everything is rebuilt, from the dataset and from the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from circuits.verifying import MAX_PROOF_BYTES
from coordinator import metrics
from coordinator.blobs import Blobs
from coordinator.catalogue import Catalogue
from rexis.api import StepView, VerdictView
from rexis.protocol.certificate import MAX_CERTIFICATE_BYTES
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ConflictError, DigestMismatchError, EvidenceError, TensorError, UnavailableError
from rexis.protocol.evidence import MAX_EVIDENCE_BYTES, Evidence
from rexis.protocol.parsing import enum_name
from rexis.protocol.policy import Tier
from rexis.protocol.records import MAX_VALUES, Floats, Integers, output_format, output_salts
from rexis.protocol.statement import JobRequest, Kind
from rexis.protocol.tensors import unpack_outputs
from rexis.protocol.typed_data import Domain
from rexis.telemetry import logs, traces
from verifier.evidence import OPENINGS, PROOFS, SELECTION, STATEMENT, TaskContext, walk_evidence
from verifier.report import StepFailed, Verdict

# Records of a stranger's width must fit into memory, and those that are opened into the certificate.
_MAX_OUTPUTS = 1 << 30
HEADER = 64 << 10
# Of an opening: two Merkle paths, salt, names.
_PATHS = 16 << 10
_STEPS = {STATEMENT: "statement", SELECTION: "selection", OPENINGS: "openings", PROOFS: "proofs"}


@dataclass(frozen=True)
class Case:
    """A piece of evidence with what it is checked against.

    Attributes
    ----------
    digest
        Of the evidence as it is stored.
    stored
        The evidence as it is stored, where it is not yet.
    committed
        The statement that was committed, if one was.
    width
        Values of a record's output, if that is known.
    outputs
        The outputs blob, where it came with the evidence; else it is read from the store.
    """

    lease_id: str
    evidence: Evidence
    digest: Digest
    context: TaskContext
    committed: Digest | None
    width: int | None
    outputs: bytes | None = None
    stored: bytes = b""


@dataclass(frozen=True)
class Judged:
    """A case, its verdict, the statement's digest, and how wide a record's output turned out to be.

    Attributes
    ----------
    view, written_view
        What its worker is answered, and the same as it is stored. Both are made here: in the transaction that records
        them others would wait for it.
    """

    case: Case
    verdict: Verdict
    statement: Digest
    width: int
    view: VerdictView
    written_view: str

    def require_decided(self) -> None:
        """See :func:`require_decided`."""
        require_decided(self.verdict)

    def fault(self) -> EvidenceError | None:
        """See :func:`fault_of`."""
        return fault_of(self.verdict)


class Judge:
    """Takes every step that this coordinator can take. It reads blobs, and neither reads nor writes the database."""

    def __init__(self, blobs: Blobs, catalogue: Catalogue, domain: Domain) -> None:
        self._blobs, self._catalogue, self._domain = blobs, catalogue, domain

    def judge(self, case: Case) -> Judged:
        """The verdict on one case."""
        statement, tier = case.evidence.statement, enum_name(case.context.request.policy.tier)
        logs.bind(job_id=str(statement.job_id), task_id=str(statement.task_id))
        with traces.span("check", tier=tier, records=case.context.count), metrics.CHECK_SECONDS.labels(tier).time():
            judged = self._judge(case)
        if judged.verdict.failed is not None:
            metrics.VERIFICATION_FAILURES.labels(_STEPS.get(judged.verdict.failed.number, "other")).inc()
        return judged

    def _judge(self, case: Case) -> Judged:
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
        view = view_of_verdict(evidence.statement.task_id, verdict)
        return Judged(case, verdict, self._domain.digest(evidence.statement), width, view, view.to_json().decode())

    def _check_roots(self, case: Case, outputs: Floats | Integers) -> None:
        """The input root belongs to the dataset, which is checked once; a task costs only its own outputs."""
        statement, request = case.evidence.statement, case.context.request
        inputs = self._catalogue.inputs(request.dataset_digest, statement.tier, statement.circuit)
        if inputs.root != statement.input_root:
            raise DigestMismatchError(
                f"the dataset's root is {inputs.root}, not {statement.input_root}", field="statement.inputRoot"
            )
        salts = output_salts(inputs.salts[case.context.start : case.context.start + case.context.count])
        root = output_format(statement.tier, statement.circuit).tree(outputs, salts).root
        if root != statement.output_root:
            raise DigestMismatchError(
                f"the uploaded outputs have root {root}, not {statement.output_root}",
                field="statement.outputRoot",
                hint="the outputs were changed after they were committed",
            )

    def _outputs(self, case: Case) -> Floats | Integers:
        """The uploaded outputs, read only if their size can be right."""
        context, request, digest = case.context, case.context.request, case.evidence.outputs_digest
        fixed = request.policy.tier != Tier.COMMIT
        itemsize = 8 if fixed else 4
        most = widest_output(request, context.count) if case.width is None else case.width
        size = len(case.outputs) if case.outputs is not None else self._blobs.size(digest) or 0
        if size > context.count * most * itemsize + HEADER:
            raise TensorError(
                f"a blob of {size} bytes for {context.count} records: a record may have {most} values",
                field="outputs",
                hint=None if case.width else "jobs of large outputs need smaller shards and samples",
            )
        blob = case.outputs if case.outputs is not None else self._blobs.read(digest, "outputs")
        outputs = unpack_outputs(blob, count=context.count, fixed=fixed)
        width = outputs[0].size
        if width > most or (case.width is not None and width != case.width):
            allowed = f"at most {most} are possible" if case.width is None else f"this job's have {case.width}"
            raise TensorError(f"a record has {width} values, {allowed}", field="outputs")
        return outputs


def view_of_verdict(task_id: Digest, verdict: Verdict) -> VerdictView:
    """What is answered about a task's evidence."""
    steps = [
        StepView(number=step.number, name=step.name, status=step.status.value, detail=step.detail)
        for step in verdict.steps
    ]
    return VerdictView(task_id=task_id, accepted=verdict.failed is None, steps=steps)


def require_decided(verdict: Verdict) -> None:
    """Raise :class:`UnavailableError` where a part that checking needs is missing here."""
    if verdict.failed is None and verdict.unchecked:
        missing = verdict.unchecked[0]
        raise UnavailableError(f"cannot check {missing.name}: {missing.detail}", hint=missing.hint)


def fault_of(verdict: Verdict) -> EvidenceError | None:
    """The step that failed, and why; None if the evidence holds."""
    failed = verdict.failed
    if failed is None:
        return None
    return EvidenceError(f"step {failed.number} ({failed.name}): {failed.detail}", hint=failed.hint)


def require_evaluation(request: JobRequest) -> None:
    """Refuse a training where evidence of an evaluation was sent."""
    if request.kind != Kind.EVALUATION:
        raise ConflictError("the task is a training", hint="its evidence goes to /v1/leases/{id}/training")


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
    return min(MAX_EVIDENCE_BYTES, HEADER + proved * (proofs + _PATHS + values))


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
