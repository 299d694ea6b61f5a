from __future__ import annotations

import pytest

from rexis.protocol.digests import sha256
from rexis.protocol.errors import MalformedError, SignatureError
from rexis.protocol.login import login_message, require_login_to
from rexis.protocol.signing import (
    address_of,
    new_account,
    recover,
    require_signer,
    sign_digest,
    sign_text,
    text_digest,
)

ACCOUNT, OTHER = new_account(), new_account()
DIGEST = sha256(b"message")
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def test_sign_and_recover() -> None:
    assert recover(DIGEST, sign_digest(ACCOUNT, DIGEST)) == address_of(ACCOUNT)
    assert recover(text_digest("grüße"), sign_text(ACCOUNT, "grüße")) == address_of(ACCOUNT)


def test_malleated_signature_is_refused() -> None:
    signature = sign_digest(ACCOUNT, DIGEST)
    high = ORDER - int.from_bytes(signature[32:64], "big")
    twin = signature[:32] + high.to_bytes(32, "big") + bytes([55 - signature[64]])
    with pytest.raises(SignatureError, match="high s"):
        recover(DIGEST, twin)


@pytest.mark.parametrize(
    "bad", [b"", b"\0" * 64, b"\0" * 65, b"\x01" * 64 + b"\x00", b"\xff" * 32 + b"\x01" * 32 + b"\x1b"]
)
def test_garbage_is_refused(bad: bytes) -> None:
    with pytest.raises(SignatureError):
        require_signer(DIGEST, bad, address_of(ACCOUNT), "thing")


def test_another_signer_is_named() -> None:
    with pytest.raises(SignatureError, match=address_of(OTHER)):
        require_signer(DIGEST, sign_digest(OTHER, DIGEST), address_of(ACCOUNT), "statement")


def test_login_is_bound_to_host_and_account() -> None:
    address = address_of(ACCOUNT)
    message = login_message(
        authority="rexis.example:8000",
        uri="https://rexis.example:8000",
        address=address,
        chain_id=1,
        nonce="abcdef123456",
        issued_at="2026-01-01T00:00:00Z",
        expires_at="2026-01-01T00:05:00Z",
    )
    require_login_to(message, authority="rexis.example:8000", address=address)
    with pytest.raises(MalformedError):
        require_login_to(message, authority="evil.example", address=address)
    with pytest.raises(MalformedError):
        require_login_to(message, authority="rexis.example:8000", address=address_of(OTHER))
    with pytest.raises(MalformedError):
        login_message(
            authority="a\nb", uri="", address=address, chain_id=1, nonce="abcdefgh1", issued_at="", expires_at=""
        )
