"""Evidence by the batch."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from fastapi import APIRouter, Request, Response

from coordinator.batches import Answer
from coordinator.documents import Caller, Services, answer, operation, read_document
from rexis.api import MAX_BATCH, MAX_INLINE_OUTPUTS, EvidenceBatch, EvidenceResult, EvidenceResults, Role
from rexis.protocol.errors import RexisError
from rexis.web.problems import problem_of

router = APIRouter(prefix="/v1", tags=["leases"])

# An item's outputs in hexadecimal, and its statement.
_MOST = MAX_BATCH * (2 * MAX_INLINE_OUTPUTS + (8 << 10))


@router.post(
    "/evidence",
    **operation(
        "Hand evidence of several leases in, with small outputs (tier commit); each has its own verdict or problem",
        (HTTPStatus.OK, EvidenceResults),
        takes=EvidenceBatch,
        roles=(Role.WORKER,),
    ),
)
async def evidence(request: Request, caller: Caller, services: Services) -> Response:
    batch = await read_document(request, EvidenceBatch, _MOST)
    found: Sequence[Answer] = ()
    try:
        found = await services.in_turn(services.batches.check, caller, batch)
    finally:
        # What was accepted is no task for anybody else; what was not may be one again.
        services.bell.ring(work=not found or any(isinstance(one, RexisError) for one in found))
    results = [
        EvidenceResult(lease_id=item.lease_id, problem=problem_of(one, request.state.request_id))
        if isinstance(one, RexisError)
        else EvidenceResult(lease_id=item.lease_id, verdict=one)
        for item, one in zip(batch.items, found, strict=True)
    ]
    return answer(EvidenceResults(results=results))
