"""The audit log."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Response

from coordinator.documents import Caller, Services, answer, operation
from coordinator.roles import ANY
from rexis.api import AuditHead, AuditPage, Role
from rexis.protocol.parsing import MAX_SAFE_INTEGER

router = APIRouter(prefix="/v1/audit", tags=["audit"])


@router.get(
    "",
    **operation(
        "Entries of the audit log that follow a position",
        (HTTPStatus.OK, AuditPage),
        refuses=(422,),
        roles=(Role.OPERATOR,),
    ),
)
def entries(
    caller: Caller, services: Services, after: Annotated[int, Query(ge=0, le=MAX_SAFE_INTEGER)] = 0
) -> Response:
    return answer(AuditPage(entries=services.audit.after(after)))


@router.get(
    "/head",
    **operation("The audit log's last entry, by number and digest", (HTTPStatus.OK, AuditHead), roles=ANY),
)
def head(caller: Caller, services: Services) -> Response:
    return answer(services.audit.head())
