"""Sign-in with Ethereum (EIP-4361): the message a wallet signs to get a bearer token."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from rexis.protocol.errors import MalformedError
from rexis.protocol.parsing import Address

_STATEMENT = "Sign in to this rexis coordinator. This signature moves no funds and certifies no result."
_AUTHORITY = re.compile(r"[A-Za-z0-9.\-\[\]:]{1,255}\Z")


_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z"
_FIELDS = re.compile(
    rf"URI: (https?://\S{{1,500}})\nVersion: 1\nChain ID: \d{{1,20}}\nNonce: [A-Za-z0-9]{{8,128}}\n"
    rf"Issued At: {_TIME}\nExpiration Time: {_TIME}\Z",
    re.ASCII,
)


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
    """Refuse to sign anything but our own sign-in message, to this host and for this account (EIP-4361 §wallet checks).

    All of the text is looked at: nothing may stand behind the fields that we know (another URI, resources).
    """
    expected = f"{authority} wants you to sign in with your Ethereum account:\n{address}\n\n{_STATEMENT}\n\n"
    fields = _FIELDS.match(message.removeprefix(expected)) if message.startswith(expected) else None
    if fields is None or _authority_of(fields[1]) != authority:
        raise MalformedError(
            "the server asks to sign a message for another host or account",
            field="message",
            hint="check the coordinator's URL",
        )


def _authority_of(uri: str) -> str | None:
    try:
        return urlsplit(uri).netloc
    except ValueError:
        return None
