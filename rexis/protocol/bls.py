"""BLS signatures over BLS12-381: public keys in G1, signatures in G2, with proofs of possession.

Ciphersuite ``BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_`` (draft-irtf-cfrg-bls-signature-05), hash to curve by RFC
9380 §8.8.2. Points are bytes as EIP-2537 writes them, so that the ValidatorQuorum contract takes them as they are:
128 for a public key, 256 for a signature. arkworks does the arithmetic; the tests hold it against py-ecc and against
the precompiles of an EVM.

A proof of possession also names the account and the deployment: nobody registers a key that was copied elsewhere.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rexis.protocol.errors import MalformedError, UnavailableError
from rexis.protocol.parsing import Address
from rexis.protocol.typed_data import Domain

if TYPE_CHECKING:
    from py_arkworks_bls12381 import G1Point, G2Point

SIGNATURE_DST = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"
POSSESSION_DST = b"BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"
# Order of the groups.
ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
PUBLIC_KEY_BYTES = 128
SIGNATURE_BYTES = 256

_COORDINATE = 48  # bytes of a number below the field's modulus
_PADDED = 64
_PADDING = _PADDED - _COORDINATE


@dataclass(frozen=True)
class BlsKey:
    """A validator's secret key, a number in 1 … ORDER − 1. Its text shows nothing of it."""

    secret: int = field(repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.secret < ORDER:
            raise MalformedError("a BLS secret key lies between 1 and the group's order")

    @cached_property
    def public_key(self) -> bytes:
        """128 bytes."""
        curve = _curve()
        return _written(curve.G1Point() * curve.Scalar(self.secret))

    def sign(self, message: bytes, dst: bytes = SIGNATURE_DST) -> bytes:
        """The signature over a message, 256 bytes."""
        curve = _curve()
        return _written(curve.G2Point.hash_to_curve(message, dst) * curve.Scalar(self.secret))

    def prove_possession(self, account: Address, domain: Domain) -> bytes:
        """What ``ValidatorQuorum.join`` wants from `account`, 256 bytes."""
        return self.sign(possession_message(self.public_key, account, domain), POSSESSION_DST)


def new_bls_key() -> BlsKey:
    """A key from the operating system's randomness."""
    return BlsKey(1 + secrets.randbelow(ORDER - 1))


def possession_message(public_key: bytes, account: Address, domain: Domain) -> bytes:
    """What a proof of possession signs: the key, who registers it, and where."""
    return public_key + account.raw() + domain.separator()


def verify(public_key: bytes, message: bytes, signature: bytes, dst: bytes = SIGNATURE_DST) -> bool:
    """Whether a signature is that of a key (or of the keys that it is the sum of) over a message.

    The point at infinity is no public key and no signature.

    Raises
    ------
    MalformedError
        `public_key` or `signature` is no point of its subgroup.
    """
    curve = _curve()
    key, signed = _g1(public_key), _g2(signature)
    if key == curve.G1Point.identity() or signed == curve.G2Point.identity():
        return False
    return bool(curve.GT.pairing_check([-curve.G1Point(), key], [signed, curve.G2Point.hash_to_curve(message, dst)]))


def aggregate_keys(public_keys: Sequence[bytes]) -> bytes:
    """The sum of public keys. Each of them must have been proved to be in somebody's possession."""
    total = _curve().G1Point.identity()
    for public_key in public_keys:
        total += _g1(public_key)
    return _written(total)


def aggregate_signatures(signatures: Sequence[bytes]) -> bytes:
    """The sum of signatures over one message."""
    total = _curve().G2Point.identity()
    for signature in signatures:
        total += _g2(signature)
    return _written(total)


def _g1(point: bytes) -> G1Point:
    found: G1Point = _read(_curve().G1Point, point, PUBLIC_KEY_BYTES, "public key")
    return found


def _g2(point: bytes) -> G2Point:
    found: G2Point = _read(_curve().G2Point, point, SIGNATURE_BYTES, "signature")
    return found


def _read(group: Any, point: bytes, length: int, what: str) -> Any:
    words = [point[i : i + _PADDED] for i in range(0, len(point), _PADDED)]
    if len(point) != length or any(any(word[:_PADDING]) for word in words):
        raise MalformedError(f"a BLS {what} is {length} bytes as EIP-2537 writes them")
    coordinates = b"".join(word[_PADDING:] for word in words)
    if not any(coordinates):
        return group.identity()
    try:
        return group.from_xy_bytes_be(coordinates)
    except ValueError:
        raise MalformedError(f"the {what} is no point of its subgroup") from None


def _written(point: G1Point | G2Point) -> bytes:
    if point == type(point).identity():
        return bytes(PUBLIC_KEY_BYTES if isinstance(point, _curve().G1Point) else SIGNATURE_BYTES)
    raw = point.to_xy_bytes_be()
    return b"".join(bytes(_PADDING) + raw[i : i + _COORDINATE] for i in range(0, len(raw), _COORDINATE))


def _curve() -> Any:
    try:
        import py_arkworks_bls12381
    except ImportError:
        raise UnavailableError("BLS signatures need arkworks", hint="pip install 'rexis[validator]'") from None
    return py_arkworks_bls12381
