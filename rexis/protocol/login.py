"""Sign-in with Ethereum (EIP-4361): the message a wallet signs to get a bearer token."""

from __future__ import annotations

import re

from rexis.protocol.errors import MalformedError
from rexis.protocol.parsing import Address

_STATEMENT = "Sign in to this rexis coordinator. This signature moves no funds and certifies no result."
_AUTHORITY = re.compile(r"[A-Za-z0-9.\-\[\]:]{1,255}\Z")


def login_message(
    *, authority: str, uri: str, address: Address, chain_id: int, nonce: str, issued_at: str, expires_at: str
) -> str:
    """The EIP-4361 text.

    Parameters
    ----------
    authority
        Host (and port) that asks, RFC 3986 authority.
    nonce
        At least 8 alphanumeric characters, used once.
    issued_at, expires_at
        RFC 3339 times.
    """
    if not _AUTHORITY.match(authority):
        raise MalformedError("not a host", field="authority")
    if len(nonce) < 8 or not nonce.isalnum():
        raise MalformedError("nonce must be at least 8 alphanumeric characters", field="nonce")
    return (
        f"{authority} wants you to sign in with your Ethereum account:\n{address}\n\n{_STATEMENT}\n\n"
        f"URI: {uri}\nVersion: 1\nChain ID: {chain_id}\nNonce: {nonce}\n"
        f"Issued At: {issued_at}\nExpiration Time: {expires_at}"
    )


def require_login_to(message: str, *, authority: str, address: Address) -> None:
    """Refuse to sign a sign-in message for another host or account (EIP-4361 §wallet checks)."""
    expected = f"{authority} wants you to sign in with your Ethereum account:\n{address}\n\n{_STATEMENT}\n\n"
    if not message.startswith(expected):
        raise MalformedError(
            "the server asks to sign a message for another host or account",
            field="message",
            hint="check the coordinator's URL",
        )
