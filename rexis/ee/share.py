"""Sharing an EE key with another party: HPKE (RFC 9180), base mode, to a hybrid post-quantum key.

The suite is MLKEM768-X25519 (draft-irtf-cfrg-hybrid-kems, "X-Wing"), HKDF-SHA256, ChaCha20-Poly1305, from
``cryptography``. Base mode hides the key and binds its description; it does not show who sent it. The receiver compares
key id and model digest with what the model owner published.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from pydantic import Base64Bytes, Field, PlainSerializer
from pyrage import DecryptError

from rexis.ee.keyfile import read_private, require_bounded_work
from rexis.ee.keyformat import MAX_KEY_BYTES, read_key, write_key
from rexis.ee.keys import EEKey
from rexis.ee.sealing import seal, unseal
from rexis.files import write_file
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import EncryptionError, KeyFileError, MalformedError
from rexis.protocol.parsing import DigestField, Strict, canonical_json

MAX_SEALED_BYTES = 2 * MAX_KEY_BYTES
_PUBLIC = "rexis-recipient-v1 "
_SECRET = b"rexis.ee.recipient.v1\0"
_KEM_SEED, _KEM_PUBLIC, _CURVE = 64, 1184, 32
_SUITE = "MLKEM768-X25519, HKDF-SHA256, ChaCha20-Poly1305"


@dataclass(frozen=True)
class Recipient:
    """Whom a key can be sealed to: public.

    Attributes
    ----------
    raw
        ML-KEM-768 encapsulation key (1184 bytes), then X25519 public key (32 bytes).
    """

    raw: bytes = field(repr=False)

    @property
    def digest(self) -> Digest:
        """SHA-256 of the public key: what two people compare over another channel."""
        return sha256(self.raw)

    @property
    def text(self) -> str:
        """One line, to be sent or published."""
        return _PUBLIC + b64encode(self.raw).decode("ascii")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read :attr:`text`.

        Raises
        ------
        MalformedError
            It is something else, or cut short.
        """
        try:
            raw = b64decode(text.strip().removeprefix(_PUBLIC), validate=True)
        except ValueError:
            raw = b""
        if not text.startswith(_PUBLIC) or len(raw) != _KEM_PUBLIC + _CURVE:
            raise MalformedError("not a recipient's public key", hint="the line that `rexis key recipient` prints")
        return cls(raw)

    def _public(self) -> MLKEM768X25519PublicKey:
        try:
            return MLKEM768X25519PublicKey(
                MLKEM768PublicKey.from_public_bytes(self.raw[:_KEM_PUBLIC]),
                X25519PublicKey.from_public_bytes(self.raw[_KEM_PUBLIC:]),
            )
        except ValueError:
            raise MalformedError("the recipient's public key is not a key") from None


class RecipientKey:
    """A recipient's private half. Its text form shows nothing."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != _KEM_SEED + _CURVE:
            raise KeyFileError("a recipient's key has the wrong length")
        self._kem = MLKEM768PrivateKey.from_seed_bytes(secret[:_KEM_SEED])
        self._curve = X25519PrivateKey.from_private_bytes(secret[_KEM_SEED:])

    def __repr__(self) -> str:
        return f"RecipientKey({self.recipient.digest})"

    @classmethod
    def fresh(cls) -> Self:
        """A new key, from the operating system's randomness."""
        return cls(MLKEM768PrivateKey.generate().private_bytes_raw() + X25519PrivateKey.generate().private_bytes_raw())

    @property
    def recipient(self) -> Recipient:
        """The public half."""
        return Recipient(self._kem.public_key().public_bytes_raw() + self._curve.public_key().public_bytes_raw())

    def save(self, path: Path, passphrase: str) -> None:
        """Write it, encrypted with a passphrase (age), to a new file with mode 0600."""
        if not passphrase:
            raise KeyFileError("an empty passphrase protects nothing", field="passphrase")
        secret = self._kem.private_bytes_raw() + self._curve.private_bytes_raw()
        write_file(path, seal(_SECRET + secret, passphrase), private=True)

    @classmethod
    def load(cls, path: Path, passphrase: str) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        KeyFileError
            The file is missing, readable by others, something else, damaged, or the passphrase is wrong.
        """
        sealed = read_private(path)
        require_bounded_work(sealed, path)
        try:
            opened = unseal(sealed, passphrase)
        except DecryptError:
            raise KeyFileError(f"{path} cannot be decrypted: the passphrase is wrong, or the file is damaged") from None
        if not opened.startswith(_SECRET):
            raise KeyFileError(f"{path} is not a recipient's key")
        return cls(opened.removeprefix(_SECRET))

    def open(self, sealed: bytes) -> EEKey:
        """The key that was sealed to this recipient.

        Raises
        ------
        MalformedError
            Not a sealed key.
        KeyFileError
            Sealed to somebody else, changed on the way, or not the key that it says it is.
        """
        document = _Sealed.from_json(sealed, max_bytes=MAX_SEALED_BYTES)
        if document.recipient != self.recipient.digest:
            raise KeyFileError(f"sealed to {document.recipient}, this is the key of {self.recipient.digest}")
        try:
            opened = _suite().decrypt(
                document.ciphertext, MLKEM768X25519PrivateKey(self._kem, self._curve), info=document.info()
            )
        except (InvalidTag, ValueError):
            raise KeyFileError("the sealed key was changed, or is not for this recipient") from None
        try:
            key = read_key(opened)
        except (MalformedError, EncryptionError):
            raise KeyFileError("what was sealed is not an EE key") from None
        if (key.key_id, key.epoch, key.model_digest, str(key.part)) != (
            document.key_id,
            document.epoch,
            document.model_digest,
            document.part,
        ):
            raise KeyFileError("the sealed key is not the one that its description names")
        return key


class _Sealed(Strict):
    """A sealed key with what may be said about it in the open. All of it is bound to the ciphertext."""

    format: Literal["rexis.ee.sealed-key"]
    version: Literal[1]
    suite: Literal["MLKEM768-X25519, HKDF-SHA256, ChaCha20-Poly1305"]
    recipient: DigestField
    part: Literal["full", "encrypt", "decrypt", "label"]
    key_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    epoch: Annotated[int, Field(strict=True, ge=1)]
    model_digest: DigestField
    ciphertext: Annotated[Base64Bytes, PlainSerializer(lambda raw: b64encode(raw).decode("ascii"))]

    def info(self) -> bytes:
        """HPKE's ``info``: everything but the ciphertext."""
        return canonical_json({name: value for name, value in self.to_object().items() if name != "ciphertext"})


def seal_key(key: EEKey, recipient: Recipient) -> bytes:
    """Seal a key, or better the part that the recipient needs (:meth:`EEKey.only`), to a recipient."""
    document = _Sealed(
        format="rexis.ee.sealed-key",
        version=1,
        suite=_SUITE,
        recipient=recipient.digest,
        part=str(key.part),
        key_id=key.key_id,
        epoch=key.epoch,
        model_digest=key.model_digest,
        ciphertext=b"",
    )
    sealed = _suite().encrypt(write_key(key), recipient._public(), info=document.info())
    return canonical_json(document.to_object() | {"ciphertext": b64encode(sealed).decode("ascii")})


def _suite() -> Suite:
    return Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
