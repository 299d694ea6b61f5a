"""What a worker hands in for a task: statement, signature, openings and proofs."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, FailFast, Field

from rexis.protocol.errors import MalformedError
from rexis.protocol.parsing import DigestField, HexBytes, Strict, UInt64
from rexis.protocol.policy import MAX_SHARD
from rexis.protocol.records import Opening, boundary_values
from rexis.protocol.statement import Statement

MAX_EVIDENCE_BYTES = 256 << 20
MAX_SEGMENTS = 64


def _whole(payload: bytes) -> bytes:
    try:
        boundary_values(payload)
    except MalformedError as error:
        raise ValueError(error.message) from None
    return payload


_Boundary = Annotated[HexBytes, AfterValidator(_whole)]


class RecordProof(Strict):
    """Proofs for one record. Only the bytes: the public instances are rebuilt from the record's opening.

    Attributes
    ----------
    index
        Absolute record index.
    proofs
        ezkl's proof bytes (Halo2-KZG, EVM transcript), one for each segment of the circuit, in order.
    boundaries
        The values between the segments, each as the payload of a fixed-point leaf. They are the public outputs of one
        proof and the public inputs of the next; that there are some with which both hold is all that is asked.
    """

    index: UInt64
    proofs: Annotated[list[Annotated[HexBytes, Field(min_length=1)]], Field(min_length=1, max_length=MAX_SEGMENTS)]
    boundaries: Annotated[list[_Boundary], Field(max_length=MAX_SEGMENTS - 1)]


class Measured(Strict):
    """What the worker measured and nobody proved, in units of 10⁻⁹.

    Attributes
    ----------
    max_abs_error_e9
        Largest |fixed-point output − float32 output| over the task's records (0 for tier ``commit``).
    rms_error_e9
        Root mean square of the same.
    prove_ms, compute_ms
        Wall time in milliseconds.
    provider
        ONNX Runtime execution provider.
    """

    max_abs_error_e9: UInt64
    rms_error_e9: UInt64
    compute_ms: UInt64
    prove_ms: UInt64
    provider: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9]+$")]

    @classmethod
    def nothing(cls, provider: str) -> Self:
        """What evidence about private inputs says: errors and times would tell of them."""
        return cls(max_abs_error_e9=0, rms_error_e9=0, compute_ms=0, prove_ms=0, provider=provider)


class Evidence(Strict):
    """Statement, proof and worker's signature for one task.

    Attributes
    ----------
    signature
        The worker's, over the statement's EIP-712 digest.
    outputs_digest
        SHA-256 of the blob with the task's encrypted outputs.
    openings, proofs
        One each for every record that the tier proves, in ascending order of index.
    """

    LONG = ("openings", "proofs")

    statement: Statement
    signature: HexBytes
    outputs_digest: DigestField
    openings: Annotated[list[Opening], Field(max_length=MAX_SHARD), FailFast()]
    proofs: Annotated[list[RecordProof], Field(max_length=MAX_SHARD), FailFast()]
    measured: Measured
