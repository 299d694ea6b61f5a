"""Pieces: a lead offers them and takes its turns; helpers take one, keep it, hand its proofs in or leave it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from coordinator.documents import (
    MEDIUM,
    Caller,
    LeasePath,
    PiecePath,
    Services,
    answer,
    body,
    operation,
    read_document,
)
from coordinator.routes.waiting import first_found
from rexis.api import (
    Failure,
    Heartbeat,
    LeaseExtended,
    LeaseRequest,
    Piece,
    PieceOffer,
    PieceProofs,
    PiecesView,
    PieceTurn,
    Role,
)

router = APIRouter(prefix="/v1", tags=["pieces"])

_REFUSES = (409, 422)
_WORKER = (Role.WORKER,)


@router.post(
    "/leases/{lease_id}/pieces",
    **operation(
        "Let others prove segments of a leased task",
        (HTTPStatus.NO_CONTENT, None),
        takes=PieceOffer,
        refuses=(404, *_REFUSES),
        roles=_WORKER,
    ),
)
def offer(
    caller: Caller, services: Services, lease_id: LeasePath, document: Annotated[PieceOffer, body(PieceOffer)]
) -> Response:
    services.pieces.offer(lease_id, caller, document)
    services.bell.ring()
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.post(
    "/leases/{lease_id}/pieces/turn",
    **operation(
        "How a leased task's pieces are, and which is its lead's to prove now",
        (HTTPStatus.OK, PiecesView),
        takes=PieceTurn,
        refuses=_REFUSES,
        roles=_WORKER,
    ),
)
def turn(
    caller: Caller, services: Services, lease_id: LeasePath, document: Annotated[PieceTurn, body(PieceTurn)]
) -> Response:
    return answer(services.pieces.turn(lease_id, caller, document.finished))


@router.post(
    "/pieces",
    **operation(
        "Ask for a piece of another worker's task, and wait for one",
        (HTTPStatus.OK, Piece),
        (HTTPStatus.NO_CONTENT, None),
        takes=LeaseRequest,
        roles=_WORKER,
    ),
)
async def piece(
    request: Request, caller: Caller, services: Services, document: Annotated[LeaseRequest, body(LeaseRequest)]
) -> Response:
    return await first_found(request, services, document.wait_seconds, lambda: services.pieces.grant(caller), work=True)


@router.post(
    "/pieces/{piece_id}/heartbeat",
    **operation(
        "Keep a piece, and say how far it is",
        (HTTPStatus.OK, LeaseExtended),
        takes=Heartbeat,
        refuses=_REFUSES,
        roles=_WORKER,
    ),
)
def heartbeat(
    caller: Caller, services: Services, piece_id: PiecePath, document: Annotated[Heartbeat, body(Heartbeat)]
) -> Response:
    return answer(services.pieces.heartbeat(piece_id, caller, document.progress))


@router.post(
    "/pieces/{piece_id}/proofs",
    **operation(
        "Hand a piece's proofs in; they are checked before the answer",
        (HTTPStatus.NO_CONTENT, None),
        takes=PieceProofs,
        refuses=(404, *_REFUSES),
        roles=_WORKER,
    ),
)
async def proofs(request: Request, caller: Caller, services: Services, piece_id: PiecePath) -> Response:
    # Who has no such piece is told so before anything is read, and a piece says how much there can be.
    most = await run_in_threadpool(services.pieces.admit, piece_id, caller)
    try:
        async with services.intake.large:
            digest = await services.pieces.store(await read_document(request, PieceProofs, most))
        await services.pieces.check(piece_id, caller, digest)
    finally:
        services.bell.ring()
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.post(
    "/pieces/{piece_id}/fail",
    **operation(
        "Leave a piece, and say why", (HTTPStatus.NO_CONTENT, None), takes=Failure, refuses=_REFUSES, roles=_WORKER
    ),
)
def leave(
    caller: Caller, services: Services, piece_id: PiecePath, document: Annotated[Failure, body(Failure, MEDIUM)]
) -> Response:
    services.pieces.leave(piece_id, caller, document.code, document.detail)
    services.bell.ring()
    return Response(status_code=HTTPStatus.NO_CONTENT)
