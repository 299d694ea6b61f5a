"""Anchors, for everybody: the log of them, and what stands under each root."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from coordinator.documents import Services, answer, operation
from rexis.api import AnchorLeaves, AnchorPage, LogKey
from rexis.protocol.parsing import MAX_SAFE_INTEGER

router = APIRouter(prefix="/v1", tags=["anchors"])

_TEXT = "text/plain"
_Index = Annotated[int, Path(ge=0, le=MAX_SAFE_INTEGER)]


@router.get(
    "/anchors",
    **operation("Final anchors from a place of the log on", (HTTPStatus.OK, AnchorPage), refuses=(422,), public=True),
)
def anchors(services: Services, start: Annotated[int, Query(ge=0, le=MAX_SAFE_INTEGER)] = 0) -> Response:
    return answer(services.anchor_log.page(start))


@router.get(
    "/anchors/{index}",
    **operation("What stands under an anchor's root", (HTTPStatus.OK, AnchorLeaves), refuses=(404, 422), public=True),
)
def leaves(services: Services, index: _Index) -> Response:
    return answer(services.anchor_log.leaves(index))


@router.get("/log", **operation("The key that signs the log of anchors", (HTTPStatus.OK, LogKey), public=True))
def key(services: Services) -> Response:
    return answer(services.anchor_log.key())


@router.get(
    "/log/checkpoint",
    **operation("The log's head, signed (C2SP tlog-checkpoint)", (HTTPStatus.OK, _TEXT), public=True),
)
def checkpoint(services: Services) -> Response:
    return Response(services.anchor_log.checkpoint(), media_type=_TEXT)


@router.get(
    "/log/proofs/{index}",
    **operation(
        "That an anchor is in the log (C2SP tlog-proof)", (HTTPStatus.OK, _TEXT), refuses=(404, 422), public=True
    ),
)
def proof(services: Services, index: _Index) -> Response:
    return Response(services.anchor_log.proof(index), media_type=_TEXT)
