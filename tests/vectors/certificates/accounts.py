"""Test accounts and validators' keys by the names of their roles. All of them are public."""

from __future__ import annotations

from eth_account import Account
from eth_account.signers.local import LocalAccount

from rexis.protocol.bls import ORDER, BlsKey
from rexis.protocol.digests import sha256

_SALT = b"rexis certificate vectors: "


def account(name: str) -> LocalAccount:
    """An account's key."""
    made: LocalAccount = Account.from_key(sha256(_SALT, name.encode()))
    return made


def bls_key(name: str) -> BlsKey:
    """A validator's key."""
    return BlsKey(1 + int.from_bytes(sha256(_SALT, b"BLS ", name.encode()), "big") % (ORDER - 1))
