"""Checks one task's evidence. Nothing that the worker sent is believed.

The numbers are those of the list in :mod:`verifier.certificate`:

7. the statement is the one that the signed request implies, and its worker signed it;
8. exactly the records that the tier asks for are opened and proved; of private ones nothing measured is told;
9. each opening leads to the committed input and output roots;
10. each proof verifies against the pinned circuit, with public instances rebuilt from the opening;
20. if asked, the Solidity verifier says the same of each proof as step 10, also of those that step 10 refuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rexis.protocol.certificate import CircuitMaterial
from rexis.protocol.circuit import Visibility
from rexis.protocol.digests import Digest
from rexis.protocol.errors import EvidenceError
from rexis.protocol.evidence import Evidence, Measured
from rexis.protocol.parsing import Address
from rexis.protocol.policy import Tier
from rexis.protocol.records import check_opening
from rexis.protocol.signing import require_signer
from rexis.protocol.statement import JobRequest, Statement, statement_for
from rexis.protocol.typed_data import Domain
from verifier.circuit import artefacts_of, proofs_can_be_checked, reasons_against, require_all_hold
from verifier.opened import OpenedRecord
from verifier.report import Verdict
from verifier.second_opinion import SECOND_OPINION, check_second_opinion
from verifier.tiers import TIERS

STATEMENT, SELECTION, OPENINGS, PROOFS = 7, 8, 9, 10
_FEW = 1 << 12


@dataclass(frozen=True)
class TaskContext:
    """What the checker knows about a task from elsewhere than its worker.

    Attributes
    ----------
    domain, request
        Of the job; the request's signature has been checked.
    start, count
        The task's records.
    worker, nonce
        Of the lease; None for an auditor, who knows no lease.
    block_hash
        Hash of the block that chooses records: after the commitment (``sampled``) or the anchor (``commit``).
    material
        Circuit artefacts, compared with ``request.circuit`` before use; None for tier ``commit``.
    srs
        File with the SRS; None if it is not at hand.
    second_opinion
        Take step 20.
    """

    domain: Domain
    request: JobRequest
    start: int
    count: int
    worker: Address | None
    nonce: Digest | None
    block_hash: Digest | None
    material: CircuitMaterial | None
    srs: Path | None
    second_opinion: bool = False

    @property
    def name(self) -> str:
        """How reports call the task."""
        return f"records {self.start}–{self.start + self.count - 1}"


def walk_evidence(evidence: Evidence, context: TaskContext, verdict: Verdict) -> list[OpenedRecord]:
    """Take the steps; raises ``StepFailed`` at the first that fails, returns the opened records."""
    statement = evidence.statement
    with verdict.step(STATEMENT, f"statement and worker's signature, {context.name}") as notes:
        digest = check_statement(evidence, context)
        notes.say(f"statement {digest} signed by {statement.worker}")

    with verdict.step(SELECTION, f"records that the tier asks for, {context.name}") as notes:
        required = _check_selection(evidence, context, digest)
        _require_silence(evidence)
        notes.say(f"{len(required)} of {context.count} records opened, {len(evidence.proofs)} proved")

    with verdict.step(OPENINGS, f"Merkle openings, {context.name}") as notes:
        opened = [_check_opening(evidence, context, position) for position in range(len(evidence.openings))]
        notes.say(
            f"{len(opened)} records lead to input root {statement.input_root} and output root {statement.output_root}"
        )

    if TIERS[statement.tier].PROVES:
        _check_proofs(evidence, context, verdict, opened)
    return opened


def _check_proofs(evidence: Evidence, context: TaskContext, verdict: Verdict, opened: list[OpenedRecord]) -> None:
    found: list[str | None] | None = None
    try:
        with verdict.step(PROOFS, f"proofs, {context.name}") as notes:
            artefacts = artefacts_of(context.material, context.request.circuit)
            found = reasons_against(artefacts, context.srs, evidence.proofs, opened)
            require_all_hold(found, opened)
            notes.say(_verified(len(opened), len(artefacts.segments)))
    finally:  # a proof that ezkl refuses and the contract would accept is as bad as the other way round
        if context.second_opinion and context.material is not None:
            with verdict.step(SECOND_OPINION, f"second opinion, {context.name}") as notes:
                notes.say(
                    check_second_opinion(
                        context.material,
                        context.request.circuit,
                        context.srs,
                        evidence.proofs,
                        evidence.openings,
                        found,
                    )
                )


def _verified(records: int, segments: int) -> str:
    if segments == 1:
        return f"{records} proofs verify with instances rebuilt from the committed records"
    return (
        f"{records} × {segments} proofs verify; first inputs and last outputs are rebuilt from the committed records, "
        "and each segment's outputs are the next one's inputs"
    )


def check_statement(evidence: Evidence, context: TaskContext) -> Digest:
    """Step 7: rebuild the statement from the signed request and compare field by field; then the signature."""
    return require_statement(
        evidence.statement,
        evidence.signature,
        context.request,
        context.domain,
        start=context.start,
        count=context.count,
        worker=context.worker,
        nonce=context.nonce,
    )


def require_statement(
    statement: Statement,
    signature: bytes,
    request: JobRequest,
    domain: Domain,
    *,
    start: int,
    count: int,
    worker: Address | None,
    nonce: Digest | None,
) -> Digest:
    """A statement is what the request implies of these records, and its worker signed it; returns its digest.

    Parameters
    ----------
    worker, nonce
        Of the lease; None where no lease is known.

    Raises
    ------
    EvidenceError, SignatureError
        Names the first field that is another one.
    """
    expected = statement_for(
        request,
        domain,
        start=start,
        count=count,
        output_root=statement.output_root,
        worker=worker or statement.worker,
        nonce=nonce or statement.nonce,
    )
    for name, field in Statement.model_fields.items():
        found, wanted = getattr(statement, name), getattr(expected, name)
        if found != wanted:
            raise EvidenceError(
                f"is {_text(found)}, the signed request implies {_text(wanted)}", field=f"statement.{field.alias}"
            )
    digest = domain.digest(statement)
    require_signer(digest, signature, statement.worker, "statement")
    return digest


def checkable_tiers() -> list[Tier]:
    """Tiers whose evidence can be checked with what is installed here."""
    return [tier for tier, rule in TIERS.items() if not rule.PROVES or proofs_can_be_checked()]


def _check_selection(evidence: Evidence, context: TaskContext, digest: Digest) -> list[int]:
    tier = TIERS[evidence.statement.tier]
    number = tier.required_count(evidence.statement, context.request.policy, context.block_hash)
    if number > _FEW and len(evidence.openings) != number:
        # Without a look at which: what it takes to draw many is bounded by the size of the document.
        raise EvidenceError(f"{len(evidence.openings)} are there, {number} are asked for", field="evidence.openings")
    required = tier.required_indices(evidence.statement, context.request.policy, digest, context.block_hash)
    _require_indices("openings", [item.index for item in evidence.openings], required)
    _require_indices("proofs", [item.index for item in evidence.proofs], required if tier.PROVES else [])
    return required


def _require_silence(evidence: Evidence) -> None:
    """Errors and times depend on records: where inputs are private, evidence has none."""
    measured, circuit = evidence.measured, evidence.statement.circuit
    if circuit.visibility == Visibility.HASHED and measured != Measured.nothing(measured.provider):
        raise EvidenceError("tells errors or times of private inputs, which must be 0", field="evidence.measured")


def _require_indices(what: str, found: list[int], required: list[int]) -> None:
    if found == required:
        return
    missing, extra = sorted(set(required) - set(found)), sorted(set(found) - set(required))
    if missing:
        reason = f"record {missing[0]} is asked for but not there ({len(missing)} missing)"
    elif extra:
        reason = f"record {extra[0]} is there but was not asked for ({len(extra)} too many)"
    else:
        reason = "records are repeated or out of order"
    raise EvidenceError(reason, field=f"evidence.{what}")


def _check_opening(evidence: Evidence, context: TaskContext, position: int) -> OpenedRecord:
    statement, opening = evidence.statement, evidence.openings[position]
    inputs, outputs = check_opening(
        opening,
        tier=statement.tier,
        circuit=statement.circuit,
        input_root=statement.input_root,
        input_size=statement.input_size,
        output_root=statement.output_root,
        start=context.start,
        count=context.count,
    )
    return OpenedRecord(opening.index, inputs, outputs)


def _text(value: object) -> str:
    if isinstance(value, Digest | int | str):
        return f"{value.name.lower()}" if hasattr(value, "name") else str(value)
    return "another " + type(value).__name__.lower()
