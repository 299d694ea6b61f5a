"""Jobs and tasks, as their requester sees them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from coordinator.documents import LARGE, Caller, CallersRoles, JobPath, Services, TaskPath, answer, body, operation
from coordinator.ranges import BYTES, ranged
from coordinator.views import MAX_PAGE, SHOWN_TASKS
from rexis.api import (
    EventPage,
    JobList,
    JobSubmission,
    JobView,
    Role,
    TaskPage,
    TaskState,
    TaskView,
    TranscriptView,
    Waiting,
)
from rexis.protocol.anchored import AnchoredStatement
from rexis.protocol.certificate import Certificate
from rexis.protocol.parsing import MAX_SAFE_INTEGER
from rexis.telemetry import traces

router = APIRouter(prefix="/v1", tags=["jobs"])

_REFUSES = (404, 422)
_Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
_MINE = (Role.REQUESTER,)
_WATCHERS = (Role.REQUESTER, Role.OPERATOR)
_CHECKERS = (Role.VALIDATOR, Role.AUDITOR)


@router.post(
    "/jobs",
    **operation(
        "Submit a job; the same request is the same job",
        (HTTPStatus.CREATED, JobView),
        (HTTPStatus.OK, JobView),
        takes=JobSubmission,
        refuses=(502,),
        roles=_MINE,
    ),
)
def submit_job(
    request: Request,
    caller: Caller,
    services: Services,
    document: Annotated[JobSubmission, body(JobSubmission, LARGE)],
) -> Response:
    trace = traces.current() or traces.given(request.headers)
    view, created = services.jobs.submit(caller, document, trace)
    services.bell.ring()
    return answer(view, HTTPStatus.CREATED if created else HTTPStatus.OK)


@router.get("/jobs", **operation("The caller's newest jobs", (HTTPStatus.OK, JobList), roles=_MINE))
def jobs(caller: Caller, services: Services) -> Response:
    return answer(JobList(jobs=services.views.jobs(caller)))


@router.get(
    "/jobs/{job_id}",
    **operation("A job with its first tasks", (HTTPStatus.OK, JobView), refuses=_REFUSES, roles=_WATCHERS),
)
def job(caller: Caller, roles: CallersRoles, services: Services, job_id: JobPath) -> Response:
    return answer(services.views.job(caller, job_id, anybodys=Role.OPERATOR in roles))


@router.post(
    "/jobs/{job_id}/cancel",
    **operation(
        "End a job that is not finished; it counts as failed",
        (HTTPStatus.OK, JobView),
        refuses=(*_REFUSES, 409),
        roles=_MINE,
    ),
)
def cancel_job(caller: Caller, services: Services, job_id: JobPath) -> Response:
    view = services.jobs.cancel(caller, job_id)
    services.bell.ring()
    return answer(view)


@router.post(
    "/jobs/{job_id}/retry",
    **operation(
        "Have what failed in a job, or was quarantined, tried again",
        (HTTPStatus.OK, JobView),
        refuses=(*_REFUSES, 409),
        roles=_WATCHERS,
    ),
)
def retry_job(caller: Caller, roles: CallersRoles, services: Services, job_id: JobPath) -> Response:
    view = services.jobs.retry(caller, job_id, anybodys=Role.OPERATOR in roles)
    services.bell.ring()
    return answer(view)


@router.get(
    "/jobs/{job_id}/tasks",
    **operation("A job's tasks, in pages", (HTTPStatus.OK, TaskPage), refuses=_REFUSES, roles=_WATCHERS),
)
def job_tasks(
    caller: Caller,
    roles: CallersRoles,
    services: Services,
    job_id: JobPath,
    after: Annotated[int | None, Query(ge=0, le=MAX_SAFE_INTEGER)] = None,
    limit: _Limit = SHOWN_TASKS,
    state: TaskState | None = None,
) -> Response:
    anybodys = Role.OPERATOR in roles
    return answer(services.views.tasks(caller, job_id, after, limit, state, anybodys=anybodys))


@router.get(
    "/jobs/{job_id}/history",
    **operation(
        "What became of a job, or of one of its tasks, in pages",
        (HTTPStatus.OK, EventPage),
        refuses=_REFUSES,
        roles=_WATCHERS,
    ),
)
def history(
    caller: Caller,
    roles: CallersRoles,
    services: Services,
    job_id: JobPath,
    after: Annotated[int, Query(ge=0, le=MAX_SAFE_INTEGER)] = 0,
    limit: _Limit = SHOWN_TASKS,
    start: Annotated[int | None, Query(ge=0, le=MAX_SAFE_INTEGER, description="First record of one task.")] = None,
) -> Response:
    anybodys = Role.OPERATOR in roles
    return answer(services.views.history(caller, job_id, after, limit, start, anybodys=anybodys))


@router.get(
    "/jobs/{job_id}/waiting",
    **operation("Why a job's tasks wait", (HTTPStatus.OK, Waiting), refuses=_REFUSES, roles=_WATCHERS),
)
def waiting(caller: Caller, roles: CallersRoles, services: Services, job_id: JobPath) -> Response:
    return answer(services.views.waiting(caller, job_id, anybodys=Role.OPERATOR in roles))


@router.get(
    "/tasks/{task_id}",
    **operation(
        "One task", (HTTPStatus.OK, TaskView), refuses=_REFUSES, roles=(Role.REQUESTER, Role.WORKER, Role.OPERATOR)
    ),
)
def task(caller: Caller, roles: CallersRoles, services: Services, task_id: TaskPath) -> Response:
    return answer(services.views.task(caller, task_id, anybodys=Role.OPERATOR in roles))


@router.get(
    "/tasks/{task_id}/statement",
    **operation(
        "A task's signed statement and its place on chain, for disputes and payments",
        (HTTPStatus.OK, AnchoredStatement),
        refuses=(*_REFUSES, 409),
        roles=(Role.REQUESTER, Role.WORKER, Role.OPERATOR),
    ),
)
def statement(caller: Caller, roles: CallersRoles, services: Services, task_id: TaskPath) -> Response:
    return answer(services.statements.of(caller, task_id, anybodys=Role.OPERATOR in roles))


@router.get(
    "/jobs/{job_id}/certificate",
    **operation(
        "A finished job's certificate, canonical bytes",
        (HTTPStatus.OK, Certificate),
        refuses=(*_REFUSES, 409),
        roles=(*_MINE, *_CHECKERS),
    ),
)
def certificate(caller: Caller, roles: CallersRoles, services: Services, job_id: JobPath) -> Response:
    anybodys = not roles.isdisjoint(_CHECKERS)
    return Response(services.jobs.certificate(caller, job_id, anybodys=anybodys), media_type="application/json")


@router.get(
    "/jobs/{job_id}/transcript",
    **operation(
        "A training's plan, and its checkpoints so far",
        (HTTPStatus.OK, TranscriptView),
        refuses=_REFUSES,
        roles=_WATCHERS,
    ),
)
def transcript(caller: Caller, roles: CallersRoles, services: Services, job_id: JobPath) -> Response:
    return answer(services.checkpoints.transcript(caller, job_id, anybodys=Role.OPERATOR in roles))


@router.get(
    "/jobs/{job_id}/outputs",
    **operation(
        "A job's encrypted outputs as one safetensors blob, or with Range a part of it",
        (HTTPStatus.OK, BYTES),
        (HTTPStatus.PARTIAL_CONTENT, BYTES),
        refuses=(*_REFUSES, 409, 416),
        roles=_MINE,
    ),
)
def outputs(request: Request, caller: Caller, services: Services, job_id: JobPath) -> Response:
    found = services.jobs.outputs(caller, job_id)
    return ranged(request, found.size, found.etag, found.stream)
