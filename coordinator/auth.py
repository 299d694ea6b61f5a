"""Sign-in with Ethereum (EIP-4361) and bearer tokens."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import bindparam
from sqlalchemy import select as sql_select
from sqlmodel import Session, col, delete, select

from coordinator.audit import record
from coordinator.roles import ANY, Members, given_to
from coordinator.store import Store
from coordinator.tables import LoginRow, MemberRow, SecretRow, TokenRow
from coordinator.times import Clock, rfc3339
from rexis.api import LoginChallenge, Role, Token
from rexis.protocol.digests import sha256
from rexis.protocol.errors import AuthError
from rexis.protocol.login import login_message
from rexis.protocol.parsing import Address
from rexis.protocol.signing import require_signer, text_digest

CHALLENGE_MS = 5 * 60 * 1000
_MAX_TOKENS = 64
_MAC_KEY = "sign-in messages"
# A nonce is 16 random bytes and 16 that show the message is ours.
_NONCE = re.compile(r"\nNonce: ([0-9a-f]{32})([0-9a-f]{32})\n")
_ADDRESS_LINE = 1
# Asked with every request: whose a token is, and what that address was given, in one look.
_CALLER = (
    sql_select(col(TokenRow.address), col(TokenRow.expires_at), col(MemberRow.roles), col(MemberRow.revoked))
    .outerjoin(MemberRow, col(MemberRow.address) == col(TokenRow.address))
    .where(col(TokenRow.token_digest) == bindparam("digest"))
)
_EXPIRES = re.compile(r"\nExpiration Time: (\S+)\Z")


class SignedIn(NamedTuple):
    """Who is calling, and what that is allowed to be."""

    address: Address
    roles: frozenset[Role]


class Auth:
    """Who is calling.

    Anybody may ask for a message to sign, so none is kept: each carries a MAC of its own text. What is kept is which
    were used, and only somebody with a wallet can use one.

    Parameters
    ----------
    chain_id
        Named in the sign-in message.
    members
        Who may sign in, and what for.
    token_ms
        How long a token is good.

    Notes
    -----
    Secrets are compared in constant time where they are compared at all: the message's MAC. A token is looked up by its
    SHA-256, so that what an index tells by its time is about digests, of which nobody chooses a prefix.
    """

    def __init__(self, store: Store, clock: Clock, chain_id: int, members: Members, token_ms: int) -> None:
        self._store, self._clock, self._chain_id, self._members = store, clock, chain_id, members
        self._token_ms = token_ms
        self._key = self._secret()

    def challenge(self, address: Address, authority: str, uri: str) -> LoginChallenge:
        """A message that `address` signs to prove itself, once, within five minutes."""
        now = self._clock()
        expires = now + CHALLENGE_MS
        message = login_message(
            authority=authority,
            uri=uri,
            address=address,
            chain_id=self._chain_id,
            nonce=(nonce := secrets.token_hex(16)),
            issued_at=rfc3339(now),
            expires_at=rfc3339(expires),
        )
        message = message.replace(f"\nNonce: {nonce}\n", f"\nNonce: {nonce}{self._mac(message)}\n")
        return LoginChallenge(message=message, expires_at=rfc3339(expires))

    def token(self, message: str, signature: bytes) -> Token:
        """Exchange a signed message for a token.

        Raises
        ------
        AuthError
            The message is not one that was issued here, was used, or is too old.
        SignatureError
            Somebody else signed it.
        ForbiddenError
            The address is no member, or was shut out.
        """
        now = self._clock()
        address, expires_at = self._issued(message)
        if expires_at <= now:
            raise _unusable()
        require_signer(text_digest(message), signature, address, "sign-in message")
        key = str(sha256(message.encode()))
        with self._store.writing() as session:
            self._members.require(address, self._members.given(session, address), ANY)
            session.exec(delete(LoginRow).where(col(LoginRow.expires_at) <= now))
            session.exec(delete(TokenRow).where(col(TokenRow.expires_at) <= now))
            if session.get(LoginRow, key) is not None:
                raise _unusable()
            session.add(LoginRow(message_digest=key, expires_at=expires_at))
            self._make_room(session, address)
            token, expires = secrets.token_hex(32), now + self._token_ms
            session.add(TokenRow(token_digest=_token_digest(token), address=address, expires_at=expires))
            record(session, now, address, "token.issue", address)
        return Token(token=token, address=address, expires_at=rfc3339(expires))

    def _issued(self, message: str) -> tuple[Address, int]:
        """Address and end of a message that was written here; all of its text is under the MAC."""
        found, ends = _NONCE.search(message), _EXPIRES.search(message)
        if found is None or ends is None:
            raise _unusable()
        written = message[: found.start(2)] + message[found.end(2) :]
        if not hmac.compare_digest(found[2], self._mac(written)):
            raise _unusable()
        expires_at = datetime.fromisoformat(ends[1]).timestamp()
        return Address.parse(message.split("\n")[_ADDRESS_LINE]), int(expires_at * 1000)

    def _mac(self, message: str) -> str:
        text = message.encode("utf-8", "surrogatepass")
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()[:32]

    def _secret(self) -> bytes:
        with self._store.writing() as session:
            row = session.get(SecretRow, _MAC_KEY) or SecretRow(name=_MAC_KEY, value=secrets.token_hex(32))
            session.add(row)
            return bytes.fromhex(row.value)

    def caller(self, token: str | None, roles: Collection[Role]) -> SignedIn:
        """Who a bearer token stands for, if that is somebody with one of the roles.

        Raises
        ------
        AuthError
            There is no token, or it is unknown, revoked or too old.
        ForbiddenError
            The address has none of the roles.
        """
        if token is None:
            raise AuthError("this needs a bearer token", hint="sign in: POST /v1/auth/challenge")
        with self._store.looking() as session:
            found = session.execute(_CALLER, {"digest": _token_digest(token)}).one_or_none()
        if found is None or found.expires_at <= self._clock():
            raise AuthError("the token is unknown or has expired", hint="sign in again")
        address = Address.parse(found.address)
        return SignedIn(address, self._members.require(address, given_to(found.roles, found.revoked), roles))

    def end(self, caller: Address, token: str) -> None:
        """Sign out: the token is good for nothing from now on."""
        with self._store.writing() as session:
            row = session.get(TokenRow, _token_digest(token))
            if row is not None:
                session.delete(row)
                record(session, self._clock(), caller, "token.end", caller)

    def _make_room(self, session: Session, address: Address) -> None:
        """End an address's oldest tokens: who signs in again and again keeps a bounded number."""
        mine = select(TokenRow).where(col(TokenRow.address) == address).order_by(col(TokenRow.expires_at).desc())
        for row in session.exec(mine.offset(_MAX_TOKENS - 1)).all():
            session.delete(row)


def _unusable() -> AuthError:
    return AuthError("this sign-in message is unknown, used or too old", field="message", hint="ask for a new one")


def _token_digest(token: str) -> str:
    return str(sha256(token.encode("utf-8", "surrogateescape")))
