"""The certificate of a trained model, and how a certificate of either kind is read.

Reading one checks its form only. What it claims is checked by ``verifier``.
"""

from __future__ import annotations

from typing import Literal

from rexis.protocol.certificate import (
    MAX_CERTIFICATE_BYTES,
    Anchor,
    Certificate,
    Commitment,
    Place,
    SealedDocument,
)
from rexis.protocol.digests import Digest
from rexis.protocol.parsing import load_json
from rexis.protocol.training import TrainingPlan, TrainingRequest
from rexis.protocol.transcript import TrainingEvidence

TRAINING_FORMAT = "rexis-training-certificate-v1"


class TrainingCertificate(SealedDocument):
    """See ``docs/protocol.md`` §6.

    Attributes
    ----------
    plan
        The one whose digest the request pins.
    commitment
        Tier ``sampled`` only.
    """

    LONG = ("evidence",)

    format: Literal["rexis-training-certificate-v1"]
    request: TrainingRequest
    plan: TrainingPlan
    evidence: TrainingEvidence
    commitment: Commitment | None
    anchor: Anchor

    @property
    def places(self) -> list[Place]:
        """The one statement."""
        return [
            Place(
                where="",
                statement=self.evidence.statement,
                commitment=self.commitment,
                opening_block_hash=None,
                anchor=self.anchor,
            )
        ]

    @property
    def trained_model(self) -> Digest:
        """What the last checkpoint says that it is, as an ONNX model."""
        return self.evidence.transcript[-1].checkpoint.model_digest


def parse_certificate(data: bytes) -> Certificate | TrainingCertificate:
    """Read a certificate of the kind that it says.

    Raises
    ------
    MalformedError
        No format that is known here, or not the canonical form of a document of that format.
    """
    evaluation = Certificate.read_by_task(data)
    if evaluation is not None:
        return evaluation
    value = load_json(data, max_bytes=MAX_CERTIFICATE_BYTES)
    found = value.get("format") if isinstance(value, dict) else None
    kind = TrainingCertificate if found == TRAINING_FORMAT else Certificate
    certificate = kind.from_object(value)
    del value  # which is larger than what was read from it
    certificate.require_canonical(data)
    return certificate
