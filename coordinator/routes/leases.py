"""What a worker does: lease, heartbeat, commit, take the challenge, hand in evidence, give up or back."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from coordinator.documents import (
    MEDIUM,
    Caller,
    LeasePath,
    Services,
    announced_bytes,
    answer,
    body,
    operation,
    read_document,
)
from coordinator.routes.waiting import first_found
from rexis.api import (
    Challenge,
    CommitmentSubmission,
    Failure,
    Heartbeat,
    Lease,
    LeaseExtended,
    LeaseRequest,
    VerdictView,
)
from rexis.protocol.evidence import Evidence

router = APIRouter(prefix="/v1/leases", tags=["leases"])

_REFUSES = (409, 422)
# Clients commonly wait 30 s for an answer.
_CHALLENGE_WAIT_S = 15.0
# Larger ones are read a few at a time: a document takes several times its size while it is parsed.
_SMALL_EVIDENCE = 1 << 20


@router.post(
    "",
    **operation(
        "Ask for a task, and wait for one",
        (HTTPStatus.OK, Lease),
        (HTTPStatus.NO_CONTENT, None),
        takes=LeaseRequest,
    ),
)
async def lease(
    request: Request, caller: Caller, services: Services, document: Annotated[LeaseRequest, body(LeaseRequest)]
) -> Response:
    return await first_found(request, services, document.wait_seconds, lambda: services.leases.grant(caller))


@router.post(
    "/{lease_id}/heartbeat",
    **operation(
        "Keep a lease, and say how far it is",
        (HTTPStatus.OK, LeaseExtended),
        takes=Heartbeat,
        refuses=_REFUSES,
    ),
)
def heartbeat(
    caller: Caller, services: Services, lease_id: LeasePath, document: Annotated[Heartbeat, body(Heartbeat)]
) -> Response:
    return answer(services.leases.heartbeat(lease_id, caller, document.progress))


@router.post(
    "/{lease_id}/commitment",
    **operation(
        "Fix a statement before its challenge is known (tier sampled)",
        (HTTPStatus.NO_CONTENT, None),
        takes=CommitmentSubmission,
        refuses=_REFUSES,
    ),
)
def commitment(
    caller: Caller,
    services: Services,
    lease_id: LeasePath,
    document: Annotated[CommitmentSubmission, body(CommitmentSubmission, MEDIUM)],
) -> Response:
    services.commitments.submit(lease_id, caller, document)
    services.bell.ring()
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.get(
    "/{lease_id}/challenge",
    **operation(
        "The block that says which records to prove; wait for it",
        (HTTPStatus.OK, Challenge),
        (HTTPStatus.NO_CONTENT, None),
        refuses=(409, 422, 502),
    ),
)
async def challenge(request: Request, caller: Caller, services: Services, lease_id: LeasePath) -> Response:
    def look() -> Challenge | None:
        found = services.commitments.challenge(lease_id, caller)
        return None if found is None else Challenge(commitment=found)

    return await first_found(request, services, _CHALLENGE_WAIT_S, look)


@router.post(
    "/{lease_id}/evidence",
    **operation(
        "Hand evidence in; the answer is what checking it gave",
        (HTTPStatus.OK, VerdictView),
        takes=Evidence,
        refuses=(*_REFUSES, 502),
    ),
)
async def evidence(request: Request, caller: Caller, services: Services, lease_id: LeasePath) -> Response:
    intake = services.intake
    # Who has no such lease is told so before anything is read, and a lease says how much evidence can be.
    most = await run_in_threadpool(intake.admit, lease_id, caller)
    announced = announced_bytes(request)
    try:
        if announced is not None and announced <= _SMALL_EVIDENCE:
            digest = await intake.store(await read_document(request, Evidence, most))
        else:
            async with intake.large:
                digest = await intake.store(await read_document(request, Evidence, most))
        return answer(await intake.check(lease_id, caller, digest))
    finally:
        services.bell.ring()


@router.post(
    "/{lease_id}/fail",
    **operation("Give a task up, and say why", (HTTPStatus.NO_CONTENT, None), takes=Failure, refuses=_REFUSES),
)
def fail(
    caller: Caller, services: Services, lease_id: LeasePath, document: Annotated[Failure, body(Failure, MEDIUM)]
) -> Response:
    services.leases.give_up(lease_id, caller, document.code, document.detail)
    services.bell.ring()
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.delete(
    "/{lease_id}",
    **operation("Give a lease back unused", (HTTPStatus.NO_CONTENT, None), refuses=_REFUSES),
)
def give_back(caller: Caller, services: Services, lease_id: LeasePath) -> Response:
    services.leases.give_back(lease_id, caller)
    services.bell.ring()
    return Response(status_code=HTTPStatus.NO_CONTENT)
