"""The child process that verifies one certificate: ``python -m verifier.service.judge <memory limit> <seconds>``.

It reads two frames (:mod:`verifier.retrain`): what to verify with (:class:`Task`), then the certificate. It answers
with a frame for each step as it is taken, and with a last one for the conclusion.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from contracts.accountability import Accountability
from rexis.protocol.parsing import AddressField, DigestField, Strict
from verifier.certificate import VerifyOptions, verify_certificate
from verifier.confined import NO_MEMORY, confine
from verifier.report import Step
from verifier.retrain import read_frame, write_frame
from verifier.service.documents import RESULTS, Finding, StepView


class Task(Strict):
    """What to verify with: the operator's choices, and whatever the caller pinned."""

    rpc: str | None
    artifacts: str | None
    allow_development_chain: bool
    allow_development_srs: bool
    job_id: DigestField | None = None
    requester: AddressField | None = None
    model_digest: DigestField | None = None
    quorum: Accountability | None = None

    def options(self) -> VerifyOptions:
        """As the library takes them."""
        return VerifyOptions(
            rpc_url=self.rpc,
            offline=self.rpc is None,
            artifacts=Path(self.artifacts) if self.artifacts else None,
            job_id=self.job_id,
            requester=self.requester,
            model_digest=self.model_digest,
            allow_development_srs=self.allow_development_srs,
            allow_development_chain=self.allow_development_chain,
            quorum=self.quorum,
        )


def main() -> int:
    """Verify one certificate."""
    answers = confine()
    asked, certificate = read_frame(sys.stdin.buffer), read_frame(sys.stdin.buffer)
    if asked is None or certificate is None:
        return 1

    def say(step: Step) -> None:
        write_frame(answers, StepView.of(step).to_json())

    given = [certificate]
    del certificate  # its memory is free once it is read
    try:
        verdict = verify_certificate(given.pop(), Task.from_json(asked).options(), say)
    except MemoryError:
        return NO_MEMORY
    result = RESULTS[verdict.outcome]
    shows = verdict.shows if result == "valid" else []
    write_frame(answers, Finding(result=result, steps=[], shows=shows).to_json())
    with contextlib.suppress(BrokenPipeError):
        answers.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
