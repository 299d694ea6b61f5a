"""Turns what a handler can raise into problem documents."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from rexis.protocol.errors import AuthError, ForbiddenError, MalformedError, NotFoundError, RexisError
from rexis.web.problems import InternalError, MethodError, problem_response


def install(app: FastAPI) -> None:
    """Of this application, whose routes stand in ``app.state.own_routes``."""

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

    app.add_exception_handler(RexisError, on_rexis_error)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, on_http_error)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, on_validation_error)  # type: ignore[arg-type]


def _methods(request: Request) -> list[str]:
    found: set[str] = set()
    for route in request.app.state.own_routes:
        matched, _ = route.matches(request.scope)
        if matched != Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return sorted(found)


def _from_http(request: Request, error: HTTPException) -> RexisError:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return NotFoundError(f"nothing at {request.url.path}", hint="the API is described at /openapi.json")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodError(f"{request.method} is not possible at {request.url.path}", hint="see /openapi.json")
    if error.status_code == HTTPStatus.UNAUTHORIZED:
        return AuthError(error.detail)
    if error.status_code == HTTPStatus.FORBIDDEN:
        return ForbiddenError(error.detail)
    return MalformedError(error.detail) if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR else InternalError("")
