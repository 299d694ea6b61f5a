"""What a worker does: lease, heartbeat, commit, take the challenge, hand in evidence, give up or back."""

from __future__ import annotations

from contextlib import nullcontext
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from coordinator.documents import (
    MEDIUM,
    Caller,
    LeasePath,
    Services,
    answer,
    body,
    operation,
    read_document,
)
from coordinator.inspection import Inspection
from coordinator.ranges import BYTES
from coordinator.routes.waiting import first_found
from rexis.api import (
    Challenge,
    CommitmentSubmission,
    Failure,
    Heartbeat,
    LeaseExtended,
    LeaseRequest,
    Leases,
    Role,
    VerdictView,
)
from rexis.protocol.evidence import Evidence
from rexis.protocol.parsing import Address, Strict
from rexis.protocol.transcript import SignedCheckpoint, TrainingEvidence
from rexis.web.bodies import announced_bytes

router = APIRouter(prefix="/v1/leases", tags=["leases"])

_REFUSES = (409, 422)
_WORKER = (Role.WORKER,)
# Clients commonly wait 30 s for an answer.
_CHALLENGE_WAIT_S = 15.0
# Larger ones are read a few at a time: a document takes several times its size while it is parsed.
_SMALL_EVIDENCE = 1 << 20


@router.post(
    "",
    **operation(
        "Ask for tasks, and wait for one",
        (HTTPStatus.OK, Leases),
        (HTTPStatus.NO_CONTENT, None),
        takes=LeaseRequest,
        roles=_WORKER,
    ),
)
async def lease(
    request: Request, caller: Caller, services: Services, document: Annotated[LeaseRequest, body(LeaseRequest)]
) -> Response:
    def look() -> Leases | None:
        found = services.leases.grant_many(caller, document.most, document.memory_bytes)
        return Leases(leases=found) if found else None

    return await first_found(request, services, document.wait_seconds, look, work=True)


@router.post(
    "/{lease_id}/heartbeat",
    **operation(
        "Keep a lease, and say how far it is",
        (HTTPStatus.OK, LeaseExtended),
        takes=Heartbeat,
        refuses=_REFUSES,
        roles=_WORKER,
    ),
)
def heartbeat(
    caller: Caller, services: Services, lease_id: LeasePath, document: Annotated[Heartbeat, body(Heartbeat)]
) -> Response:
    return answer(services.leases.heartbeat(lease_id, caller, document.progress))


@router.get(
    "/{lease_id}/records",
    **operation(
        "The task's records and salts, with the nodes that lead from them to the dataset's root",
        (HTTPStatus.OK, BYTES),
        refuses=_REFUSES,
        roles=_WORKER,
    ),
)
def records(caller: Caller, services: Services, lease_id: LeasePath) -> Response:
    return Response(services.shards.read(lease_id, caller), media_type=BYTES)


@router.post(
    "/{lease_id}/commitment",
    **operation(
        "Fix a statement before its challenge is known (tier sampled)",
        (HTTPStatus.NO_CONTENT, None),
        takes=CommitmentSubmission,
        refuses=_REFUSES,
        roles=_WORKER,
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
        roles=_WORKER,
    ),
)
async def challenge(request: Request, caller: Caller, services: Services, lease_id: LeasePath) -> Response:
    def look() -> Challenge | None:
        found = services.commitments.challenge(lease_id, caller)
        return None if found is None else Challenge(commitment=found)

    return await first_found(request, services, _CHALLENGE_WAIT_S, look)


@router.post(
    "/{lease_id}/checkpoints",
    **operation(
        "Hand in a training's next checkpoint, whose state was uploaded before; it keeps the lease",
        (HTTPStatus.NO_CONTENT, None),
        takes=SignedCheckpoint,
        refuses=_REFUSES,
        roles=_WORKER,
    ),
)
async def checkpoint(request: Request, caller: Caller, services: Services, lease_id: LeasePath) -> Response:
    most = await run_in_threadpool(services.checkpoints.most_bytes, lease_id, caller)
    signed = await read_document(request, SignedCheckpoint, most)
    await run_in_threadpool(services.checkpoints.add, lease_id, caller, signed)
    services.bell.ring(work=False)
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.post(
    "/{lease_id}/evidence",
    **operation(
        "Hand evidence in; the answer is what checking it gave",
        (HTTPStatus.OK, VerdictView),
        takes=Evidence,
        refuses=(*_REFUSES, 502),
        roles=_WORKER,
    ),
)
async def evidence(request: Request, caller: Caller, services: Services, lease_id: LeasePath) -> Response:
    intake = services.intake
    # Who has no such lease is told so before anything is read, and a lease says how much evidence can be.
    admitted = await services.in_turn(intake.admit, lease_id, caller)
    try:
        if admitted.light:
            document = await read_document(request, Evidence, admitted.most)
            verdict = await services.in_turn(services.batches.check_one, caller, lease_id, document)
        else:
            verdict = await _inspected(request, caller, lease_id, intake, Evidence, admitted.most)
    except BaseException:
        services.bell.ring()
        raise
    services.bell.ring(work=False)
    return answer(verdict)


@router.post(
    "/{lease_id}/training",
    **operation(
        "Hand evidence of a training in; the answer is what checking it gave",
        (HTTPStatus.OK, VerdictView),
        takes=TrainingEvidence,
        refuses=(*_REFUSES, 502),
        roles=_WORKER,
    ),
)
async def training(request: Request, caller: Caller, services: Services, lease_id: LeasePath) -> Response:
    intake = services.training_intake
    most = await run_in_threadpool(intake.admit, lease_id, caller)
    try:
        return answer(await _inspected(request, caller, lease_id, intake, TrainingEvidence, most))
    finally:
        services.bell.ring()


async def _inspected(
    request: Request, caller: Address, lease_id: str, intake: Inspection, kind: type[Strict], most: int
) -> VerdictView:
    """Read evidence of at most so many bytes, keep it, and have it checked."""
    announced = announced_bytes(request)
    is_small = announced is not None and announced <= _SMALL_EVIDENCE
    async with nullcontext() if is_small else intake.large:
        digest = await intake.store(await read_document(request, kind, most))
    return await intake.check(lease_id, caller, digest)


@router.post(
    "/{lease_id}/fail",
    **operation(
        "Give a task up, and say why", (HTTPStatus.NO_CONTENT, None), takes=Failure, refuses=_REFUSES, roles=_WORKER
    ),
)
def fail(
    caller: Caller, services: Services, lease_id: LeasePath, document: Annotated[Failure, body(Failure, MEDIUM)]
) -> Response:
    services.leases.give_up(lease_id, caller, document.code, document.detail)
    services.bell.ring()
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.delete(
    "/{lease_id}",
    **operation("Give a lease back unused", (HTTPStatus.NO_CONTENT, None), refuses=_REFUSES, roles=_WORKER),
)
def give_back(caller: Caller, services: Services, lease_id: LeasePath) -> Response:
    services.leases.give_back(lease_id, caller)
    services.bell.ring()
    return Response(status_code=HTTPStatus.NO_CONTENT)
