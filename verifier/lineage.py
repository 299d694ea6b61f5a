"""Verifies several certificates together: base model → training → trained model → evaluations, without a gap.

Each certificate's own steps are taken first. Then:

27. Lineage: all are of one deployment, and lead back to one base model: whatever was evaluated or trained on is that
    model, or one that a training here made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from rexis.lineage import ModelLineage, lineages
from rexis.protocol.certificate import Certificate
from rexis.protocol.digests import Digest
from rexis.protocol.errors import EvidenceError
from rexis.protocol.training_certificate import TrainingCertificate
from verifier.certificate import VerifiedCertificate, VerifyOptions, verify_certificate
from verifier.report import Step, StepFailed

LINEAGE = 27


def verify_lineage(
    documents: Sequence[tuple[str, bytes]],
    options: VerifyOptions,
    on_step: Callable[[Step], None] | None = None,
) -> VerifiedCertificate:
    """Take all the steps; stops at the first that fails.

    Parameters
    ----------
    documents
        Name and bytes of each certificate.
    options
        `model_digest` is that of the base model that all came from.
    """
    whole = VerifiedCertificate(on_step=on_step)
    # Files are found by digest, as each certificate is of another model.
    alone = replace(options, model=None, model_digest=None)
    read: list[tuple[str, Certificate | TrainingCertificate]] = []
    for name, data in documents:

        def say(step: Step, of: str = name) -> None:
            whole.add(step.number, f"{of}: {step.name}", step.status, step.detail, step.hint)

        found = verify_certificate(data, alone, say)
        if found.failed is not None or found.certificate is None:
            return whole
        read.append((name, found.certificate))
        whole.shows += [f"{name}: {sentence}" for sentence in found.shows]
    try:
        with whole.step(LINEAGE, "lineage") as notes:
            notes.say(_check_lineage(read, options.model_digest))
    except StepFailed:
        pass
    return whole


def _check_lineage(read: Sequence[tuple[str, Certificate | TrainingCertificate]], base: Digest | None) -> str:
    """Step 27."""
    first = read[0][1]
    for name, each in read:
        if each.domain != first.domain:
            raise EvidenceError(f"{name} is of another deployment than {read[0][0]}", field="domain")
    roots = lineages([each for _, each in read])
    if len(roots) > 1:
        whole = next((root for root in roots if root.trainings), roots[0])
        loose = next(root for root in roots if root is not whole)
        names = ", ".join(name for name, each in read if each.request.model_digest == loose.digest)
        raise EvidenceError(
            f"the chain breaks at {names}: no training here made its model {loose.digest} out of {whole.digest}",
            field="request.modelDigest",
        )
    root = roots[0]
    if base is not None and root.digest != base:
        raise EvidenceError(f"all came from model {root.digest}, you pinned {base}", field="request.modelDigest")
    return "; ".join(_paths(root)) or f"model {root.digest}, not trained: {_evaluated(root)}"


def _paths(model: ModelLineage) -> list[str]:
    """Each way from a base to what was made of it."""
    found = []
    for training, made in model.trainings:
        found.append(
            f"model {model.digest} → dataset {training.request.input_root} → transcript "
            f"{training.evidence.statement.output_root} → model {made.digest}: {_evaluated(made)}"
        )
        found += _paths(made)
    return found


def _evaluated(model: ModelLineage) -> str:
    return f"{len(model.evaluations)} evaluation" + ("s" if len(model.evaluations) != 1 else "")
