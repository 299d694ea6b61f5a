"""What the service answers with."""

from __future__ import annotations

from typing import Literal

from rexis.protocol.digests import Digest
from rexis.protocol.parsing import AddressField, DigestField, Strict
from verifier.report import Outcome, Step

ResultName = Literal["valid", "not valid", "undecided"]
RESULTS: dict[Outcome, ResultName] = {
    Outcome.VALID: "valid",
    Outcome.INVALID: "not valid",
    Outcome.UNDECIDED: "undecided",
}


class StepView(Strict):
    """One numbered step, as :class:`verifier.report.Step`."""

    number: int
    name: str
    status: Literal["ok", "failed", "unchecked", "skipped"]
    detail: str
    hint: str | None

    @classmethod
    def of(cls, step: Step) -> StepView:
        """The document of a step."""
        return cls(number=step.number, name=step.name, status=step.status.value, detail=step.detail, hint=step.hint)


class Finding(Strict):
    """What a whole verification came to; what ``rexis verify --json`` prints.

    Attributes
    ----------
    shows
        What passing shows, one sentence a task; empty unless the result is ``valid``.
    error
        Why the verification did not come to its end, if it did not. The result is ``undecided`` then.
    """

    result: ResultName
    steps: list[StepView]
    shows: list[str]
    error: str | None = None


class Report(Finding):
    """The answer to a certificate: what was found of it, and what it was.

    Attributes
    ----------
    certificate_digest
        SHA-256 of the bytes that were sent.
    verifier
        The version of rexis that verified.
    chain
        Whether a chain node was asked; if not, the chain's steps were skipped.
    """

    certificate_digest: DigestField
    verifier: str
    chain: bool

    @classmethod
    def of(cls, finding: Finding, digest: Digest, *, verifier: str, chain: bool) -> Report:
        """A finding with what it is about."""
        return cls(
            **{name: getattr(finding, name) for name in Finding.model_fields},
            certificate_digest=digest,
            verifier=verifier,
            chain=chain,
        )


class About(Strict):
    """What a verdict of this service stands on, as its operator set it."""

    version: str
    chain: bool
    accepts_development_chain: bool
    accepts_development_srs: bool
    max_certificate_bytes: int
    max_seconds: int
    quorum: AddressField | None = None
