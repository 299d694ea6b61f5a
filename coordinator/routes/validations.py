"""What validators are asked about, and what they hand in."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Response

from coordinator.documents import LARGE, Caller, JobPath, Services, answer, body, operation
from rexis.api import Failure, Role, ValidationList, VerdictSubmission
from rexis.protocol.certificate import Certificate

router = APIRouter(prefix="/v1/validations", tags=["validations"])

_VALIDATOR = (Role.VALIDATOR,)
_REFUSES = (404, 409, 422)


@router.get(
    "",
    **operation(
        "Jobs that wait for the caller's verdict, oldest first", (HTTPStatus.OK, ValidationList), roles=_VALIDATOR
    ),
)
def validations(caller: Caller, services: Services) -> Response:
    return answer(services.validations.wanted(caller))


@router.get(
    "/{job_id}",
    **operation(
        "The certificate that a job gets if validators agree, canonical bytes",
        (HTTPStatus.OK, Certificate),
        refuses=_REFUSES,
        roles=_VALIDATOR,
    ),
)
def draft(caller: Caller, services: Services, job_id: JobPath) -> Response:
    return Response(services.validations.draft(job_id), media_type="application/json")


@router.post(
    "/{job_id}",
    **operation(
        "Hand verdicts on a job's statements in, each with a BLS signature",
        (HTTPStatus.NO_CONTENT, None),
        takes=VerdictSubmission,
        refuses=(*_REFUSES, 502),
        roles=_VALIDATOR,
    ),
)
def hand_in(
    caller: Caller,
    services: Services,
    job_id: JobPath,
    document: Annotated[VerdictSubmission, body(VerdictSubmission, LARGE)],
) -> Response:
    services.validations.hand_in(caller, job_id, document)
    services.bell.ring()
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.post(
    "/{job_id}/abstain",
    **operation(
        "Say why the caller signs nothing about a job",
        (HTTPStatus.NO_CONTENT, None),
        takes=Failure,
        refuses=_REFUSES,
        roles=_VALIDATOR,
    ),
)
def abstain(
    caller: Caller, services: Services, job_id: JobPath, document: Annotated[Failure, body(Failure)]
) -> Response:
    services.validations.abstain(caller, job_id, document)
    return Response(status_code=HTTPStatus.NO_CONTENT)
