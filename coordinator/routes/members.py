"""Members and their roles, for operators."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Response

from coordinator.documents import AddressPath, Caller, Services, answer, body, operation
from rexis.api import MemberChange, MemberList, MemberView, Role

router = APIRouter(prefix="/v1/members", tags=["members"])

_OPERATOR = (Role.OPERATOR,)


@router.get("", **operation("Everybody with roles of their own", (HTTPStatus.OK, MemberList), roles=_OPERATOR))
def members(caller: Caller, services: Services) -> Response:
    return answer(services.members.all())


@router.put(
    "/{address}",
    **operation(
        "Give an address roles, in place of those given before",
        (HTTPStatus.OK, MemberView),
        takes=MemberChange,
        roles=_OPERATOR,
    ),
)
def give(
    caller: Caller, services: Services, address: AddressPath, document: Annotated[MemberChange, body(MemberChange)]
) -> Response:
    return answer(services.members.give(caller, address, document.roles))


@router.delete(
    "/{address}",
    **operation(
        "Take back what was given to an address, or its revocation",
        (HTTPStatus.NO_CONTENT, None),
        refuses=(404, 422),
        roles=_OPERATOR,
    ),
)
def remove(caller: Caller, services: Services, address: AddressPath) -> Response:
    services.members.remove(caller, address)
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.post(
    "/{address}/revoke",
    **operation(
        "Shut an address out, and end its tokens", (HTTPStatus.OK, MemberView), refuses=(422,), roles=_OPERATOR
    ),
)
def revoke(caller: Caller, services: Services, address: AddressPath) -> Response:
    return answer(services.members.revoke(caller, address))
