"""Jobs and tasks, as their requester sees them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Response

from coordinator.documents import MEDIUM, Caller, JobPath, Services, TaskPath, answer, body, operation
from rexis.api import JobList, JobSubmission, JobView, TaskView
from rexis.protocol.certificate import Certificate

router = APIRouter(prefix="/v1", tags=["jobs"])

_REFUSES = (404, 422)


@router.post(
    "/jobs",
    **operation(
        "Submit a job; the same request is the same job",
        (HTTPStatus.CREATED, JobView),
        (HTTPStatus.OK, JobView),
        takes=JobSubmission,
        refuses=(502,),
    ),
)
def submit_job(
    caller: Caller, services: Services, document: Annotated[JobSubmission, body(JobSubmission, MEDIUM)]
) -> Response:
    view, created = services.jobs.submit(caller, document)
    services.bell.ring()
    return answer(view, HTTPStatus.CREATED if created else HTTPStatus.OK)


@router.get("/jobs", **operation("The caller's newest jobs", (HTTPStatus.OK, JobList)))
def jobs(caller: Caller, services: Services) -> Response:
    return answer(JobList(jobs=services.jobs.listed(caller)))


@router.get("/jobs/{job_id}", **operation("A job with its tasks", (HTTPStatus.OK, JobView), refuses=_REFUSES))
def job(caller: Caller, services: Services, job_id: JobPath) -> Response:
    return answer(services.jobs.view(caller, job_id))


@router.post(
    "/jobs/{job_id}/cancel",
    **operation(
        "End a job that is not finished; it counts as failed", (HTTPStatus.OK, JobView), refuses=(*_REFUSES, 409)
    ),
)
def cancel_job(caller: Caller, services: Services, job_id: JobPath) -> Response:
    view = services.jobs.cancel(caller, job_id)
    services.bell.ring()
    return answer(view)


@router.get("/tasks/{task_id}", **operation("One task", (HTTPStatus.OK, TaskView), refuses=_REFUSES))
def task(caller: Caller, services: Services, task_id: TaskPath) -> Response:
    return answer(services.jobs.task(caller, task_id))


@router.get(
    "/jobs/{job_id}/certificate",
    **operation(
        "A finished job's certificate, canonical bytes",
        (HTTPStatus.OK, Certificate),
        refuses=(*_REFUSES, 409),
    ),
)
def certificate(caller: Caller, services: Services, job_id: JobPath) -> Response:
    return Response(services.jobs.certificate(caller, job_id), media_type="application/json")


@router.get(
    "/jobs/{job_id}/outputs",
    **operation(
        "A job's encrypted outputs as one safetensors blob",
        (HTTPStatus.OK, "application/octet-stream"),
        refuses=(*_REFUSES, 409),
    ),
)
def outputs(caller: Caller, services: Services, job_id: JobPath) -> Response:
    return Response(services.jobs.outputs(caller, job_id), media_type="application/octet-stream")
