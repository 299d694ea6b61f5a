"""The one error tree. Every error that a person may meet is a :class:`RexisError`.

An error says what is wrong (`message`), where (`field`), and what to do (`hint`). Over HTTP it becomes an
RFC 9457 problem with the class's `status`; on the command line one line and a non-zero exit code.
No error text may hold a key, a plain record or a passphrase.
"""

from __future__ import annotations

from typing import ClassVar


class RexisError(Exception):
    """Base of everything that rexis raises on purpose.

    Parameters
    ----------
    message
        One sentence for a person. Never holds a secret.
    field
        The JSON path or parameter at fault, for example ``statement.inputRoot``.
    hint
        What the reader can do about it.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 400
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, field: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.hint = hint

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        what = f" (hint: {self.hint})" if self.hint else ""
        return f"{where}{self.message}{what}"


class MalformedError(RexisError):
    """Bytes from outside that do not parse as what they should be."""

    code = "malformed"
    status = 422


class TensorError(MalformedError):
    """A tensor or record of the wrong shape, dtype, or with values that are not finite."""

    code = "bad-tensor"


class DigestMismatchError(RexisError):
    """Bytes whose digest is not the one they were asked for or announced by."""

    code = "digest-mismatch"
    status = 422


class MerkleError(RexisError):
    """A Merkle path that does not lead from its leaf to its root."""

    code = "merkle-mismatch"
    status = 422


class SignatureError(RexisError):
    """A signature that does not recover to the address that should have signed."""

    code = "bad-signature"
    status = 422


class EvidenceError(RexisError):
    """Evidence that does not show what its statement claims."""

    code = "evidence-rejected"
    status = 422


class KeyFileError(RexisError):
    """A key file that cannot be read: wrong passphrase, wrong epoch, unsafe permissions, not a key file."""

    code = "key-file"
    status = 422


class EncryptionError(RexisError):
    """A model or record that Equivariant Encryption cannot transform, with the node and the reason."""

    code = "ee-unsupported"
    status = 422


class CircuitError(RexisError):
    """The proof system refused: a circuit that does not compile, a witness out of range, a failed proof."""

    code = "circuit"
    status = 422


class TrainingError(RexisError):
    """A model that cannot be trained as its plan says, or a training that went to NaN."""

    code = "training"
    status = 422


class ResourceError(RexisError):
    """Work that this machine has no room for: memory, disk, or a size limit."""

    code = "too-large"
    status = 413


class UnavailableError(RexisError):
    """A part that is not there: no chain node, no prover, an optional package that is not installed."""

    code = "unavailable"
    status = 503
    retryable = True


class RateError(UnavailableError):
    """Too many requests in too short a time. `retry_after` says after how many seconds there may be one again."""

    code = "rate-limited"
    status = 429
    retry_after: float | None = None


class QuotaError(RexisError):
    """More than the operator lets one address have."""

    code = "quota"
    status = 403


class NotFoundError(RexisError):
    """Something named by its id or digest that nobody has."""

    code = "not-found"
    status = 404


class ConflictError(RexisError):
    """A request that contradicts what is already recorded."""

    code = "conflict"
    status = 409


class AuthError(RexisError):
    """No valid token, or a token of somebody who may not do this."""

    code = "unauthorised"
    status = 401


class ForbiddenError(AuthError):
    """Known, but not allowed."""

    code = "forbidden"
    status = 403


class LeaseError(ConflictError):
    """A lease that has expired, was given back, or belongs to another worker."""

    code = "lease-lost"


class ChainError(RexisError):
    """The chain refused a transaction, or holds another record than the one expected."""

    code = "chain"
    status = 502
