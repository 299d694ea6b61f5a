"""Server-sent events: a job's changes and progress, as they happen."""

from __future__ import annotations

import re
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from coordinator.documents import Caller, JobPath, Services, operation
from rexis.api import Role
from rexis.protocol.errors import MalformedError

router = APIRouter(prefix="/v1", tags=["jobs"])

_EVENTS = "text/event-stream"
_RESUME = "Last-Event-ID"
_NUMBER = re.compile(r"[0-9]{1,18}\Z")


@router.get(
    "/jobs/{job_id}/events",
    **operation(
        "A job's changes and progress as server-sent events; with Last-Event-ID those after it",
        (HTTPStatus.OK, _EVENTS),
        refuses=(404, 422),
        roles=(Role.REQUESTER,),
    ),
)
async def job_events(request: Request, caller: Caller, services: Services, job_id: JobPath) -> Response:
    given = request.headers.get(_RESUME, "0")
    if not _NUMBER.match(given):
        raise MalformedError("not an event's number", field=_RESUME)
    await run_in_threadpool(services.streams.admit, caller, job_id)
    stream = services.streams.stream(caller, job_id, int(given))
    # X-Accel-Buffering: nginx would hold events back.
    return StreamingResponse(stream, HTTPStatus.OK, {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}, _EVENTS)
