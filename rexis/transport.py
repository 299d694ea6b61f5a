"""HTTP as the typed client needs it: problems become errors, transient failures are retried, tokens are renewed."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version

import httpx
from eth_account.signers.local import LocalAccount

from rexis.api import LoginChallenge, LoginRequest, Problem, Token, TokenRequest
from rexis.protocol import errors
from rexis.protocol.errors import (
    AuthError,
    ForbiddenError,
    MalformedError,
    NotFoundError,
    ResourceError,
    RexisError,
    UnavailableError,
)
from rexis.protocol.login import require_login_to
from rexis.protocol.parsing import Strict
from rexis.protocol.signing import address_of, sign_text
from rexis.telemetry import traces

MAX_PROBLEM_BYTES = 64 << 10
DEFAULT_TIMEOUT = httpx.Timeout(30.0, connect=10.0)


@dataclass(frozen=True)
class Retry:
    """How often and how patiently to try again: exponential back-off with full jitter.

    Attributes
    ----------
    attempts
        Tries in all.
    base_seconds, cap_seconds
        Before try n+1 the client sleeps a random time between 0 and ``min(cap, base · 2^n)``, or what the server
        asked for (``Retry-After``), at most `cap_seconds`.
    """

    attempts: int = 5
    base_seconds: float = 0.5
    cap_seconds: float = 10.0

    def pause(self, failures: int, asked: float | None = None) -> None:
        """Sleep after the given number of failures."""
        limit = min(self.cap_seconds, self.base_seconds * 2.0 ** (failures - 1))
        wait = min(asked, self.cap_seconds) if asked is not None else random.uniform(0, limit)  # noqa: S311
        time.sleep(wait)


class Transport:
    """One coordinator's HTTP endpoint, seen by one wallet. Safe to use from several threads.

    Parameters
    ----------
    base_url
        ``https://host[:port]``.
    account
        Signs in when the server asks for a token; without it only public documents can be read.
    """

    def __init__(
        self,
        base_url: str,
        account: LocalAccount | None,
        *,
        timeout: httpx.Timeout | float = DEFAULT_TIMEOUT,
        retry: Retry | None = None,
    ) -> None:
        self.url = _checked_url(base_url)
        self.retry = retry or Retry()
        self._account = account
        self._token: str | None = None
        self._renew_at = float("inf")
        self._login_lock = threading.Lock()
        self._http = httpx.Client(
            base_url=self.url,
            timeout=timeout,
            headers={"User-Agent": f"rexis/{version('rexis')}"},
            limits=httpx.Limits(max_keepalive_connections=8),
            # Whoever redirects us would be sent the token, or have us ask somebody else.
            follow_redirects=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, *, max_bytes: int) -> bytes:
        """The body of a GET, at most `max_bytes`; empty for 204."""
        return self.send("GET", path, max_bytes=max_bytes)

    def post(self, path: str, document: Strict | None, *, idempotent: bool, read_seconds: float | None = None) -> bytes:
        """POST a document; the answer's body (empty for 204)."""
        body = b"" if document is None else document.to_json()
        return self.send(
            "POST",
            path,
            body=lambda: body,
            headers={"Content-Type": "application/json"} if document is not None else {},
            idempotent=idempotent,
            read_seconds=read_seconds,
        )

    def send(
        self,
        method: str,
        path: str,
        *,
        body: Callable[[], bytes | Iterator[bytes]] | None = None,
        headers: dict[str, str] | None = None,
        idempotent: bool = True,
        max_bytes: int = 64 << 20,
        read_seconds: float | None = None,
    ) -> bytes:
        """Send one request, with retries, and read the whole answer.

        Parameters
        ----------
        body
            Makes the body anew for each try.
        idempotent
            Whether a request whose answer was lost may be sent again. One that never left, or that the server
            refused as retryable, always may.

        Raises
        ------
        RexisError
            The subclass that the server's problem names; :class:`UnavailableError` if it cannot be reached.
        """
        failures = 0
        while True:
            try:
                with self.stream(method, path, body=body, headers=headers, read_seconds=read_seconds) as response:
                    return read_limited(response, max_bytes, path)
            except RexisError as error:
                failures += 1
                if failures >= self.retry.attempts or not may_retry(error, idempotent=idempotent):
                    raise
                self.retry.pause(failures, asked=getattr(error, "retry_after", None))

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        body: Callable[[], bytes | Iterator[bytes]] | None = None,
        headers: dict[str, str] | None = None,
        read_seconds: float | None = None,
        accept: tuple[int, ...] = (),
    ) -> Iterator[httpx.Response]:
        """One request without retries (but with one new sign-in on 401), as an open response.

        It is successful, or has one of the statuses in `accept`.
        """
        token = self._current()
        response = self._open(method, path, body, headers, token, read_seconds)
        try:
            if response.status_code == httpx.codes.UNAUTHORIZED and self._account is not None:
                response.close()
                response = self._open(method, path, body, headers, self._renew(token), read_seconds)
            if not response.is_success and response.status_code not in accept:
                raise error_of(response)
            with _connection_errors(self.url):
                yield response
        finally:
            response.close()

    def login(self) -> str:
        """Sign in with Ethereum (EIP-4361) and keep the bearer token.

        Raises
        ------
        AuthError
            There is no wallet to sign with.
        MalformedError
            The server asks to sign something else than a sign-in to itself with this wallet.
        """
        if self._account is None:
            raise AuthError("signing in needs a wallet", hint="pass a wallet")
        address = address_of(self._account)
        challenge = LoginChallenge.from_json(
            self._once("/v1/auth/challenge", LoginRequest(address=address)), max_bytes=MAX_PROBLEM_BYTES
        )
        require_login_to(challenge.message, authority=self._http.base_url.netloc.decode("ascii"), address=address)
        answer = TokenRequest(message=challenge.message, signature=sign_text(self._account, challenge.message))
        found = Token.from_json(self._once("/v1/auth/token", answer), max_bytes=MAX_PROBLEM_BYTES)
        self._token, self._renew_at = found.token, _renewal(found)
        return self._token

    def logout(self) -> None:
        """End the token, if there is one: nobody can use it from now on."""
        with self._login_lock:
            token, self._token = self._token, None
        if token is not None:
            self._open("DELETE", "/v1/auth/token", None, None, token, None).close()

    def _current(self) -> str | None:
        """The token, renewed if it ends soon: a long upload would be refused at its end."""
        token = self._token
        if token is not None and time.monotonic() > self._renew_at:
            return self._renew(token)
        return token

    def _renew(self, refused: str | None) -> str:
        """A token other than the one that was refused; threads that meet the same refusal sign in once."""
        with self._login_lock:
            if self._token is None or self._token == refused:
                return self.login()
            return self._token

    def _once(self, path: str, document: Strict) -> bytes:
        """A POST of the sign-in itself: its own 401 is final."""
        response = self._open("POST", path, document.to_json, {"Content-Type": "application/json"}, None, None)
        try:
            if not response.is_success:
                raise error_of(response)
            with _connection_errors(self.url):
                return read_limited(response, MAX_PROBLEM_BYTES, path)
        finally:
            response.close()

    def _open(
        self,
        method: str,
        path: str,
        body: Callable[[], bytes | Iterator[bytes]] | None,
        headers: dict[str, str] | None,
        token: str | None,
        read_seconds: float | None,
    ) -> httpx.Response:
        request = self._http.build_request(
            method, path, content=body() if body is not None else None, headers={**traces.headers(), **(headers or {})}
        )
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token}"
        if read_seconds is not None:
            request.extensions["timeout"] = {**request.extensions["timeout"], "read": read_seconds}
        with _connection_errors(self.url):
            return self._http.send(request, stream=True)


def _renewal(token: Token) -> float:
    """When to sign in again, on this machine's monotonic clock: after three quarters of the token's life.

    If the two machines' clocks are apart, the answer 401 tells when it is time.
    """
    left = datetime.fromisoformat(token.expires_at).timestamp() - time.time()
    return time.monotonic() + 0.75 * left if left > 0 else float("inf")


class LostAnswerError(UnavailableError):
    """The connection broke after the request had left: nobody knows whether the server acted on it."""


def may_retry(error: RexisError, *, idempotent: bool) -> bool:
    """Whether the same request may be sent again after `error`."""
    if isinstance(error, LostAnswerError):
        return idempotent
    return error.retryable


def error_of(response: httpx.Response) -> RexisError:
    """The error that an unsuccessful response means: the class whose ``code`` the problem names.

    A body that is no problem document (a proxy's page, a HEAD without a body) is judged by its status alone.
    """
    try:
        problem = Problem.from_json(read_limited(response, MAX_PROBLEM_BYTES, "problem"), max_bytes=MAX_PROBLEM_BYTES)
    except (RexisError, httpx.HTTPError):
        error = _by_status(response)
    else:
        error = error_of_problem(problem)
    after = response.headers.get("Retry-After", "")
    if after.isdigit():
        vars(error)["retry_after"] = float(after)
    return error


def error_of_problem(problem: Problem) -> RexisError:
    """A problem document as the matching :class:`RexisError` subclass, with its field, hint and ``retryable``."""
    kind = _ERRORS.get(problem.code, RexisError)
    hint = problem.hint
    if problem.status >= httpx.codes.INTERNAL_SERVER_ERROR:
        hint = f"{hint}; " if hint else ""
        hint += f"the operator finds it as request {problem.request_id}"
    error = kind(problem.detail, field=problem.field, hint=hint)
    vars(error)["retryable"] = problem.retryable  # the server knows better than the class's default
    return error


def read_limited(response: httpx.Response, max_bytes: int, what: str) -> bytes:
    """The body of an open response, refused once it grows past `max_bytes`."""
    chunks, size = [], 0
    for chunk in response.iter_bytes():
        size += len(chunk)
        if size > max_bytes:
            raise ResourceError(f"the answer to {what} is larger than {max_bytes} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


# The tree's own classes only: those that other modules derive from them may be made otherwise.
_ERRORS: dict[str, type[RexisError]] = {
    kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RexisError)
}
_STATUS_ERRORS: dict[int, type[RexisError]] = {
    401: AuthError,
    403: ForbiddenError,
    404: NotFoundError,
    413: ResourceError,
    429: UnavailableError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
}


def _by_status(response: httpx.Response) -> RexisError:
    kind = _STATUS_ERRORS.get(response.status_code, RexisError)
    request = response.request
    return kind(
        f"{request.method} {request.url.path} was answered with HTTP {response.status_code}",
        hint="is this the URL of a rexis coordinator?",
    )


@contextmanager
def _connection_errors(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise UnavailableError(
            f"cannot reach the coordinator at {url}: {error or type(error).__name__}",
            hint="is it running, and is the URL right?",
        ) from None
    except httpx.HTTPError as error:
        raise LostAnswerError(
            f"the connection to {url} broke: {str(error) or type(error).__name__}", hint="try again"
        ) from None


def _checked_url(text: str) -> str:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query or url.fragment:
        raise MalformedError(
            f"not a coordinator's URL: {text!r}", field="coordinator", hint="for example https://rexis.example.org"
        )
    return text.rstrip("/")
