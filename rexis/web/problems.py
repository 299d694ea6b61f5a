"""Errors as RFC 9457 problem documents, always with a request id, never with internals."""

from __future__ import annotations

from http import HTTPStatus

from starlette.responses import Response

from rexis.api import Problem
from rexis.protocol.errors import RateError, RexisError

MEDIA_TYPE = "application/problem+json"
_RETRY_AFTER_S = "2"
_LONGEST = 1000


def problem_of(error: RexisError, request_id: str) -> Problem:
    """The document that an error becomes."""
    return Problem(
        type=f"urn:rexis:problem:{error.code}",
        title=error.code.replace("-", " ").capitalize(),
        status=error.status,
        detail=_short(error.message),
        code=error.code,
        field=None if error.field is None else _short(error.field),
        hint=error.hint,
        retryable=error.retryable,
        request_id=request_id,
    )


def problem_response(error: RexisError, request_id: str) -> Response:
    """The response that an error becomes."""
    headers = {}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.retryable:
        wait = error.retry_after if isinstance(error, RateError) else None
        headers["Retry-After"] = _RETRY_AFTER_S if wait is None else str(wait)
    return Response(problem_of(error, request_id).to_json(), error.status, headers, MEDIA_TYPE)


def _short(text: str) -> str:
    """Errors repeat what was sent; an answer isn't longer than a page for it."""
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


class InternalError(RexisError):
    """A fault of ours; the log has it under the request id."""

    code = "internal"
    status = 500


class MethodError(RexisError):
    """A path that has no such method."""

    code = "method-not-allowed"
    status = 405
