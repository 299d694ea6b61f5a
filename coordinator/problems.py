"""Errors as RFC 9457 problem documents, always with a request id, never with internals."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from obstore.exceptions import BaseError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.routing import Match

from rexis.api import Problem
from rexis.protocol.errors import AuthError, ForbiddenError, MalformedError, NotFoundError, RexisError, UnavailableError

MEDIA_TYPE = "application/problem+json"
_RETRY_AFTER_S = "2"
_LONGEST = 1000
_log = logging.getLogger(__name__)


def problem_response(error: RexisError, request_id: str) -> Response:
    """The response that an error becomes."""
    document = Problem(
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
    headers = {}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.retryable:
        headers["Retry-After"] = _RETRY_AFTER_S
    return Response(document.to_json(), error.status, headers, MEDIA_TYPE)


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


def install(app: FastAPI) -> None:
    """Turn everything that a handler can raise into problems."""

    async def on_rexis_error(request: Request, error: RexisError) -> Response:
        return problem_response(error, request.state.request_id)

    async def on_http_error(request: Request, error: HTTPException) -> Response:
        found = _from_http(request, error)
        response = problem_response(found, request.state.request_id)
        response.headers.update(error.headers or {})
        if found.status == HTTPStatus.METHOD_NOT_ALLOWED:  # of all routes at this path, not only the first
            response.headers["Allow"] = ", ".join(_methods(request))
        return response

    async def on_validation_error(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        return problem_response(MalformedError(str(first["msg"]), field=field), request.state.request_id)

    async def on_database_error(request: Request, error: SQLAlchemyError) -> Response:
        _log.error("database: %s (request %s)", type(error).__name__, request.state.request_id, exc_info=error)
        busy = UnavailableError("the database is busy or out of reach", hint="try again")
        return problem_response(busy, request.state.request_id)

    async def on_storage_error(request: Request, error: OSError) -> Response:
        _log.error("storage: %s (request %s)", type(error).__name__, request.state.request_id, exc_info=error)
        lost = UnavailableError(
            "the coordinator's storage is full or out of reach", hint="try again, or tell the operator"
        )
        return problem_response(lost, request.state.request_id)

    app.add_exception_handler(RexisError, on_rexis_error)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, on_http_error)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, on_validation_error)  # type: ignore[arg-type]
    app.add_exception_handler(DBAPIError, on_database_error)  # type: ignore[arg-type]
    app.add_exception_handler(PoolTimeout, on_database_error)  # type: ignore[arg-type]
    app.add_exception_handler(OSError, on_storage_error)  # type: ignore[arg-type]
    app.add_exception_handler(BaseError, on_storage_error)  # type: ignore[arg-type]


def _methods(request: Request) -> list[str]:
    found: set[str] = set()
    for route in request.app.state.own_routes:
        matched, _ = route.matches(request.scope)
        if matched != Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return sorted(found)


def _from_http(request: Request, error: HTTPException) -> RexisError:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return NotFoundError(f"nothing at {request.url.path}", hint="the API is described at /docs")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodError(f"{request.method} is not possible at {request.url.path}", hint="see /docs")
    if error.status_code == HTTPStatus.UNAUTHORIZED:
        return AuthError(error.detail)
    if error.status_code == HTTPStatus.FORBIDDEN:
        return ForbiddenError(error.detail)
    return MalformedError(error.detail) if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR else InternalError("")
