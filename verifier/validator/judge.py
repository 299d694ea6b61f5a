"""The child process in which a validator checks one certificate: ``python -m verifier.validator.judge``.

It reads two frames, a :class:`~verifier.validator.documents.Check` and the certificate, and answers with one, a
:class:`~verifier.validator.documents.Judgement`.

What is signed has to be true whoever hands over what. That a certificate holds makes its statements valid. That it
does not hold is often its sender's doing: evidence that was left out, or changed on the way, says nothing against a
worker. One fault is the worker's own, under its signature: an output that it committed to and that the model does not
give. That is looked for in tier ``commit``, where nothing else is. The other tiers have proofs, which say more than the
policy's tolerance does.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from rexis.protocol.certificate import Certificate
from rexis.protocol.errors import RexisError
from rexis.protocol.policy import Tier
from rexis.protocol.training_certificate import parse_certificate
from rexis.protocol.validation import Finding
from verifier.certificate import REEXECUTION, VerifiedCertificate, VerifyOptions, verify_certificate
from verifier.confined import NO_MEMORY, confine
from verifier.report import Outcome
from verifier.retrain import read_frame, write_frame
from verifier.validator.documents import Check, FoundStatement, Judgement

_ALL = 1 << 31


def judge(check: Check, data: bytes) -> Judgement:
    """Check a certificate and say what may be signed of it."""
    try:
        certificate = parse_certificate(data)
    except RexisError as error:
        return _nothing("refused", f"not a certificate: {error.message}")
    if not isinstance(certificate, Certificate):
        return _nothing("refused", "validators do not judge trainings")
    if certificate.domain != check.domain:
        return _nothing("refused", "the certificate is of another deployment than this validator's")
    verdict = verify_certificate(
        data,
        VerifyOptions(
            rpc_url=check.rpc,
            artifacts=Path(check.artifacts),
            reexecute=_ALL if certificate.request.policy.tier == Tier.COMMIT else 0,
            job_id=check.job_id,
            allow_development_chain=check.allow_development_chain,
            allow_development_srs=check.allow_development_srs,
            by_validator=True,
        ),
    )
    if verdict.outcome == Outcome.VALID:
        return Judgement(kind="valid", findings=_findings(certificate, Finding.VALID), reason=None)
    if verdict.failed is None:
        missing = verdict.unchecked[0]
        return _nothing("undecided", f"step {missing.number} ({missing.name}): {missing.detail}")
    reason = f"step {verdict.failed.number} ({verdict.failed.name}): {verdict.failed.detail}"
    refuted = _refuted(certificate, verdict)
    if refuted:
        return Judgement(kind="refuted", findings=refuted, reason=reason)
    return _nothing("refused", reason)


def _findings(certificate: Certificate, finding: Finding, records: set[int] | None = None) -> list[FoundStatement]:
    """A finding about every statement, or about those that have one of these records."""
    found = []
    for place in certificate.places:
        statement = place.statement
        of_task = range(statement.record_start, statement.record_start + statement.record_count)
        if records is None or any(record in of_task for record in records):
            found.append(FoundStatement(statement=certificate.domain.digest(statement), verdict=finding))
    return found


def _refuted(certificate: Certificate, verdict: VerifiedCertificate) -> list[FoundStatement]:
    if verdict.failed is None or verdict.failed.number != REEXECUTION or not verdict.refuted:
        return []
    return _findings(certificate, Finding.INVALID, set(verdict.refuted))


def _nothing(kind: str, reason: str) -> Judgement:
    return Judgement.from_object({"kind": kind, "findings": [], "reason": reason})


def main() -> int:
    """Check one certificate."""
    answers = confine()
    asked, certificate = read_frame(sys.stdin.buffer), read_frame(sys.stdin.buffer)
    if asked is None or certificate is None:
        return 1
    try:
        judgement = judge(Check.from_json(asked), certificate)
    except MemoryError:
        return NO_MEMORY
    write_frame(answers, judgement.to_json())
    with contextlib.suppress(BrokenPipeError):
        answers.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
