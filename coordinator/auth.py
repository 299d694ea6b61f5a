"""Sign-in with Ethereum (EIP-4361) and bearer tokens."""

from __future__ import annotations

import secrets

from sqlalchemy import func
from sqlmodel import col, delete, select

from coordinator.store import Store
from coordinator.tables import LoginRow, TokenRow
from coordinator.times import Clock, rfc3339
from rexis.api import LoginChallenge, Token
from rexis.protocol.digests import sha256
from rexis.protocol.errors import AuthError, ForbiddenError, UnavailableError
from rexis.protocol.login import login_message
from rexis.protocol.parsing import Address
from rexis.protocol.signing import require_signer, text_digest

CHALLENGE_MS = 5 * 60 * 1000
TOKEN_MS = 12 * 3600 * 1000
# Unused sign-in messages that are kept at a time: anybody may ask for one.
_MAX_OPEN_CHALLENGES = 10_000


class Auth:
    """Who is calling.

    Parameters
    ----------
    chain_id
        Named in the sign-in message.
    members
        Who may sign in; everybody if None.
    """

    def __init__(self, store: Store, clock: Clock, chain_id: int, members: frozenset[Address] | None) -> None:
        self._store, self._clock, self._chain_id, self._members = store, clock, chain_id, members

    def challenge(self, address: Address, authority: str, uri: str) -> LoginChallenge:
        """A message that `address` signs to prove itself, once, within five minutes."""
        now = self._clock()
        expires = now + CHALLENGE_MS
        message = login_message(
            authority=authority,
            uri=uri,
            address=address,
            chain_id=self._chain_id,
            nonce=secrets.token_hex(16),
            issued_at=rfc3339(now),
            expires_at=rfc3339(expires),
        )
        with self._store.writing() as session:
            session.exec(delete(LoginRow).where(col(LoginRow.expires_at) <= now))
            session.exec(delete(TokenRow).where(col(TokenRow.expires_at) <= now))
            if session.exec(select(func.count()).select_from(LoginRow)).one() >= _MAX_OPEN_CHALLENGES:
                raise UnavailableError("too many sign-ins at once", hint="try again in some minutes")
            session.add(LoginRow(message_digest=str(sha256(message.encode())), address=address, expires_at=expires))
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
            The address is no member.
        """
        key, now = str(sha256(message.encode())), self._clock()
        with self._store.writing() as session:
            login = session.get(LoginRow, key)
            if login is None or login.expires_at <= now:
                raise AuthError(
                    "this sign-in message is unknown, used or too old", field="message", hint="ask for a new one"
                )
            address = Address.parse(login.address)
            require_signer(text_digest(message), signature, address, "sign-in message")
            if self._members is not None and address not in self._members:
                raise ForbiddenError(f"{address} is not a member here", hint="ask the operator")
            session.delete(login)
            token, expires = secrets.token_hex(32), now + TOKEN_MS
            session.add(TokenRow(token_digest=_token_digest(token), address=address, expires_at=expires))
        return Token(token=token, address=address, expires_at=rfc3339(expires))

    def caller(self, token: str | None) -> Address:
        """The address that a bearer token stands for."""
        if token is None:
            raise AuthError("this needs a bearer token", hint="sign in: POST /v1/auth/challenge")
        with self._store.reading() as session:
            found = session.get(TokenRow, _token_digest(token))
        if found is None or found.expires_at <= self._clock():
            raise AuthError("the token is unknown or has expired", hint="sign in again")
        address = Address.parse(found.address)
        if self._members is not None and address not in self._members:
            raise ForbiddenError(f"{address} is not a member here", hint="ask the operator")
        return address


def _token_digest(token: str) -> str:
    return str(sha256(token.encode("utf-8", "surrogateescape")))
