"""secp256k1 signatures over 32-byte digests, and the sign-in message for a bearer token.

What signs is imported where it is used: it takes as long as all that a verifier needs (its key files bring pairings).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature
from eth_typing import Hash32
from eth_utils.exceptions import ValidationError

from rexis.protocol.digests import Digest
from rexis.protocol.errors import SignatureError
from rexis.protocol.keccak import keccak
from rexis.protocol.parsing import Address

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

# Half the group order: EIP-2 admits low s only, so that a signature cannot be turned into a second valid one.
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


def new_account() -> LocalAccount:
    """A fresh random secp256k1 account."""
    from eth_account import Account

    account: LocalAccount = Account.create()
    return account


def address_of(account: LocalAccount) -> Address:
    """The account's address."""
    return Address.parse(str(account.address))


def sign_digest(account: LocalAccount, digest: Digest) -> bytes:
    """Sign 32 bytes; returns r ‖ s ‖ v, 65 bytes, v in {27, 28}."""
    return bytes(account.unsafe_sign_hash(Hash32(digest)).signature)


def recover(digest: Digest, signature: bytes) -> Address:
    """The address that signed `digest`.

    Raises
    ------
    SignatureError
        Not 65 bytes, v not 27 or 28, high s (EIP-2), or no point to recover.
    """
    if len(signature) != 65:
        raise SignatureError(f"a signature is 65 bytes, not {len(signature)}")
    if signature[64] not in (27, 28):
        raise SignatureError(f"recovery byte {signature[64]} is neither 27 nor 28")
    if int.from_bytes(signature[32:64], "big") > _HALF_ORDER:
        raise SignatureError("signature with a high s (EIP-2)")
    try:
        parsed = Signature(signature[:64] + bytes([signature[64] - 27]))
        return Address.from_bytes(parsed.recover_public_key_from_msg_hash(bytes(digest)).to_canonical_address())
    except (BadSignature, ValidationError, ValueError) as error:
        raise SignatureError("not a signature") from error


def require_signer(digest: Digest, signature: bytes, expected: Address, what: str) -> None:
    """Raise :class:`SignatureError` unless `expected` signed `digest`."""
    found = recover(digest, signature)
    if found != expected:
        raise SignatureError(f"{what} is signed by {found}, not by {expected}")


def sign_text(account: LocalAccount, text: str) -> bytes:
    """Sign a text message (EIP-191, version 0x45)."""
    from eth_account.messages import encode_defunct

    return bytes(account.sign_message(encode_defunct(text=text)).signature)


def text_digest(text: str) -> Digest:
    """The EIP-191 digest of a text message: keccak256(0x19 ‖ "Ethereum Signed Message:\\n" ‖ length ‖ text)."""
    raw = text.encode()
    return Digest(keccak(b"\x19Ethereum Signed Message:\n" + str(len(raw)).encode() + raw))
