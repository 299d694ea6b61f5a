"""Documents over HTTP: strict reading of bodies, canonical answers, and their schemas in OpenAPI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Path, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic.json_schema import models_json_schema
from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute

from coordinator.auth import SignedIn
from coordinator.services import Coordinator
from rexis.api import Problem, Role
from rexis.protocol.digests import Digest
from rexis.protocol.errors import AuthError
from rexis.protocol.parsing import Address, Strict
from rexis.telemetry import logs
from rexis.web import bodies
from rexis.web.limits import too_many
from rexis.web.problems import MEDIA_TYPE

# Most documents are a few names and numbers; what is larger says so. Sizes are those of canonical, escaped JSON.
SMALL = 8 << 10
MEDIUM = 32 << 10
LARGE = 2 << 20
# What is read in a millisecond or two is not worth a thread.
_AT_ONCE = 32 << 10
# Ids in paths that every log line of the request names.
_LOGGED = frozenset({"job_id", "task_id", "lease_id", "piece_id", "digest"})
_REF = "#/components/schemas/{model}"
_JSON = "application/json"
_ROLES = "x-roles"
_documents: set[type[Strict]] = {Problem}
_bearer = HTTPBearer(auto_error=False, description="A token from POST /v1/auth/token")

_Document = TypeVar("_Document", bound=Strict)


def coordinator_of(request: Request) -> Coordinator:
    """The coordinator behind this application."""
    found: Coordinator = request.app.state.coordinator
    return found


# Dependencies that compute nothing are coroutines all the same: functions would each go by way of a thread.
async def _services(request: Request) -> Coordinator:
    return coordinator_of(request)


Services = Annotated[Coordinator, Depends(_services)]


async def _token(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str | None:
    return credentials.credentials if credentials is not None else None


BearerToken = Annotated[str | None, Depends(_token)]


async def _signed_in(request: Request, services: Services, token: BearerToken) -> SignedIn:
    client, waits = request.state.client, request.state.waits
    try:
        found = await run_in_threadpool(services.auth.caller, token, roles_of(request.scope["route"]))
    except AuthError as error:
        if waits and error.status == HTTPStatus.UNAUTHORIZED:
            raise too_many("too many requests from where you are", waits) from None
        raise
    request.state.caller = found.address
    services.limits.known(client, found.address, waits)
    logs.bind(**{name: value for name, value in request.path_params.items() if name in _LOGGED})
    return found


async def _caller(found: Annotated[SignedIn, Depends(_signed_in)]) -> Address:
    return found.address


async def _roles(found: Annotated[SignedIn, Depends(_signed_in)]) -> frozenset[Role]:
    return found.roles


Caller = Annotated[Address, Depends(_caller)]
"""The address that the bearer token stands for, which has one of the roles that the route's :func:`operation` names.
Stands before the body, so that strangers send none.
"""

CallersRoles = Annotated[frozenset[Role], Depends(_roles)]
"""All roles of the caller, where they decide what it may see."""


def roles_of(route: BaseRoute) -> frozenset[Role]:
    """The roles that open a route, as its OpenAPI description names them (``x-roles``); empty if it needs no token."""
    described = (route.openapi_extra if isinstance(route, APIRoute) else None) or {}
    return frozenset(Role(name) for name in described.get(_ROLES, ()))


def _named(pattern: str) -> Any:
    """A path parameter that is described by a pattern, and checked by the kernel."""
    return Path(json_schema_extra={"pattern": pattern})


_DIGEST = _named("^0x[0-9a-f]{64}$")
LeasePath = Annotated[str, _named("^[0-9a-f]{32}$")]
PiecePath = Annotated[str, _named("^[0-9a-f]{32}$")]
UploadPath = Annotated[str, _named("^[0-9a-f]{32}$")]


async def _digest(digest: Annotated[str, _DIGEST]) -> Digest:
    return Digest.parse(digest, "digest")


async def _job_id(job_id: Annotated[str, _DIGEST]) -> Digest:
    return Digest.parse(job_id, "jobId")


async def _task_id(task_id: Annotated[str, _DIGEST]) -> Digest:
    return Digest.parse(task_id, "taskId")


async def _address(address: Annotated[str, _named("^0x[0-9a-fA-F]{40}$")]) -> Address:
    return Address.parse(address, "address")


AddressPath = Annotated[Address, Depends(_address)]
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
    data = await bodies.read_body(request, max_bytes, _patience(request))
    if len(data) <= _AT_ONCE:
        return _parse(kind, data, max_bytes)
    return await run_in_threadpool(_parse, kind, data, max_bytes)


def arriving(request: Request) -> AsyncIterator[bytes]:
    """A body's chunks, as long as they come; see :func:`rexis.web.bodies.arriving`."""
    return bodies.arriving(request, _patience(request))


def _patience(request: Request) -> float:
    return coordinator_of(request).settings.body_seconds


def _parse(kind: type[_Document], data: bytes, max_bytes: int) -> _Document:
    return kind.from_json(data, max_bytes=max_bytes)


def answer(document: Strict, status: int = HTTPStatus.OK) -> Response:
    """A document as a response, in canonical form."""
    return Response(document.to_json(), status, media_type=_JSON)


def operation(
    summary: str,
    *answers: tuple[HTTPStatus, type[Strict] | str | None],
    takes: type[Strict] | None = None,
    refuses: tuple[int, ...] = (),
    roles: Collection[Role] = (),
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
        missing or has none of the roles, a body that is wrong, too large or does not come.
    roles
        Who may use the route has one of them. None of them opens a route that takes a token and names no role.
    public
        Needs no token.
    """
    responses: dict[int | str, dict[str, Any]] = {}
    for status, kind in answers:
        responses[int(status)] = {"description": status.phrase, **({} if kind is None else _content(kind))}
    usual = {421, 429, 500, 503} | (set() if public else {401, 403}) | (set() if takes is None else {408, 413, 422})
    for code in sorted(usual | set(refuses)):
        response = responses.setdefault(code, {"description": HTTPStatus(code).phrase})
        response.setdefault("content", {})[MEDIA_TYPE] = {"schema": _schema_of(Problem)}
    extra: dict[str, Any] = {} if public else {_ROLES: [role for role in Role if role in roles]}
    if takes is not None:
        extra["requestBody"] = {"required": True, **_content(takes)}
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
    if isinstance(kind, str) and kind.startswith("text/"):
        return {"content": {kind: {}}}  # of server-sent events a schema would describe each one
    if isinstance(kind, str):
        return {"content": {kind: {"schema": {"type": "string", "format": "binary"}}}}
    return {"content": {_JSON: {"schema": _schema_of(kind)}}}


def _schema_of(kind: type[Strict]) -> dict[str, str]:
    _documents.add(kind)
    return {"$ref": _REF.format(model=kind.__name__)}
