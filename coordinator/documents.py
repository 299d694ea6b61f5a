"""Documents over HTTP: strict reading of bodies, canonical answers, and their schemas in OpenAPI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Path, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic.json_schema import models_json_schema
from starlette.concurrency import run_in_threadpool

from coordinator.problems import MEDIA_TYPE
from coordinator.services import Coordinator
from rexis.api import Problem
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ResourceError, RexisError
from rexis.protocol.parsing import Address, Strict

# Most documents are a few names and numbers; what is larger says so. Sizes are those of canonical, escaped JSON.
SMALL = 8 << 10
MEDIUM = 32 << 10
LARGE = 2 << 20
# Bytes a second below which a body counts as stopped.
_SLOWEST = 16 << 10
_REF = "#/components/schemas/{model}"
_JSON = "application/json"
_documents: set[type[Strict]] = {Problem}
_bearer = HTTPBearer(auto_error=False, description="A token from POST /v1/auth/token")

_Document = TypeVar("_Document", bound=Strict)


def coordinator_of(request: Request) -> Coordinator:
    """The coordinator behind this application."""
    found: Coordinator = request.app.state.coordinator
    return found


Services = Annotated[Coordinator, Depends(coordinator_of)]


async def _caller(
    request: Request, services: Services, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Address:
    token = credentials.credentials if credentials is not None else None
    address = await run_in_threadpool(services.auth.caller, token)
    request.state.caller = address
    return address


Caller = Annotated[Address, Depends(_caller)]
"""The address that the bearer token stands for. Stands before the body, so that strangers send none."""


def _named(pattern: str) -> Any:
    """A path parameter that is described by a pattern, and checked by the kernel."""
    return Path(json_schema_extra={"pattern": pattern})


_DIGEST = _named("^0x[0-9a-f]{64}$")
LeasePath = Annotated[str, _named("^[0-9a-f]{32}$")]
PiecePath = Annotated[str, _named("^[0-9a-f]{32}$")]


def _digest(digest: Annotated[str, _DIGEST]) -> Digest:
    return Digest.parse(digest, "digest")


def _job_id(job_id: Annotated[str, _DIGEST]) -> Digest:
    return Digest.parse(job_id, "jobId")


def _task_id(task_id: Annotated[str, _DIGEST]) -> Digest:
    return Digest.parse(task_id, "taskId")


DigestPath = Annotated[Digest, Depends(_digest)]
JobPath = Annotated[Digest, Depends(_job_id)]
TaskPath = Annotated[Digest, Depends(_task_id)]


def body(kind: type[_Document], max_bytes: int = SMALL) -> Any:
    """Dependency: the request's body as a document, read by the kernel's strict rules."""

    async def read(request: Request) -> _Document:
        return await read_document(request, kind, max_bytes)

    return Depends(read)


async def read_document(request: Request, kind: type[_Document], max_bytes: int) -> _Document:
    """A request's body as a document.

    Raises
    ------
    ResourceError
        It is larger than `max_bytes`.
    MalformedError
        It is not such a document.
    """
    announced = announced_bytes(request)
    if announced is not None and announced > max_bytes:
        raise _too_large(max_bytes)
    data = bytearray()
    async for chunk in arriving(request):
        data += chunk
        if len(data) > max_bytes:
            raise _too_large(max_bytes)
    return await run_in_threadpool(_parse, kind, data, max_bytes)


class BodyTimeoutError(RexisError):
    """A body that does not come, or comes too slowly."""

    code = "timeout"
    status = 408
    retryable = True


async def arriving(request: Request) -> AsyncIterator[bytes]:
    """A body's chunks, as long as they come: `body_seconds` of patience, and more only for bytes that are here.

    Raises
    ------
    BodyTimeoutError
        They stopped coming.
    """
    patience = coordinator_of(request).settings.body_seconds
    loop, chunks = asyncio.get_running_loop(), request.stream()
    begun, received = loop.time(), 0
    while True:
        try:
            async with asyncio.timeout_at(begun + patience + received / _SLOWEST):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise BodyTimeoutError(
                f"the body stopped after {received} bytes", hint="is the connection slow or cut off? send it again"
            ) from None
        received += len(chunk)
        yield chunk


def announced_bytes(request: Request) -> int | None:
    """The body's size, where the client announces it."""
    announced = request.headers.get("Content-Length", "")
    return int(announced) if announced.isascii() and announced.isdigit() and len(announced) < 19 else None


def _parse(kind: type[_Document], data: bytearray, max_bytes: int) -> _Document:
    return kind.from_json(bytes(data), max_bytes=max_bytes)


def answer(document: Strict, status: int = HTTPStatus.OK) -> Response:
    """A document as a response, in canonical form."""
    return Response(document.to_json(), status, media_type=_JSON)


def operation(
    summary: str,
    *answers: tuple[HTTPStatus, type[Strict] | str | None],
    takes: type[Strict] | None = None,
    refuses: tuple[int, ...] = (),
    public: bool = False,
) -> dict[str, Any]:
    """Keyword arguments of a route: what it takes, answers and refuses, for OpenAPI.

    Parameters
    ----------
    answers
        Status with a document, a media type for bytes, or None for an empty body.
    takes
        The body's document.
    refuses
        Statuses of problems beside those that any route has: an error of ours, storage out of reach, a token that is
        missing or no member's, a body that is wrong, too large or does not come.
    public
        Needs no token.
    """
    responses: dict[int | str, dict[str, Any]] = {}
    for status, kind in answers:
        responses[int(status)] = {"description": status.phrase, **({} if kind is None else _content(kind))}
    usual = {500, 503} | (set() if public else {401, 403}) | (set() if takes is None else {408, 413, 422})
    for code in sorted(usual | set(refuses)):
        responses[code] = {
            "description": HTTPStatus(code).phrase,
            "content": {MEDIA_TYPE: {"schema": _schema_of(Problem)}},
        }
    extra = {"requestBody": {"required": True, **_content(takes)}} if takes is not None else {}
    return {
        "summary": summary,
        "status_code": int(answers[0][0]),
        "response_model": None,
        "response_class": Response,
        "responses": responses,
        "openapi_extra": extra,
    }


def describe(app: FastAPI) -> None:
    """Add the documents' schemas to the application's OpenAPI document."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            kinds = sorted(_documents, key=lambda kind: kind.__name__)
            # What a field accepts is what it writes; the writers know their JSON types.
            _, found = models_json_schema([(kind, "serialization") for kind in kinds], ref_template=_REF)
            schema.setdefault("components", {}).setdefault("schemas", {}).update(found["$defs"])
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _content(kind: type[Strict] | str) -> dict[str, Any]:
    if isinstance(kind, str):
        return {"content": {kind: {"schema": {"type": "string", "format": "binary"}}}}
    return {"content": {_JSON: {"schema": _schema_of(kind)}}}


def _schema_of(kind: type[Strict]) -> dict[str, str]:
    _documents.add(kind)
    return {"$ref": _REF.format(model=kind.__name__)}


def _too_large(limit: int) -> ResourceError:
    return ResourceError(f"the document is larger than {limit} bytes")
