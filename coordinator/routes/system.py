"""Health, information, sign-in."""

from __future__ import annotations

from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Request, Response

from coordinator.documents import BearerToken, Caller, Services, answer, body, operation
from coordinator.readiness import Readiness
from coordinator.roles import ANY
from rexis.api import Info, LoginChallenge, LoginRequest, Token, TokenRequest
from rexis.protocol.certificate import Contracts

router = APIRouter(tags=["system"])


@router.get("/healthz", **operation("Whether the process answers", (HTTPStatus.OK, "text/plain"), public=True))
def healthz() -> Response:
    return Response("ok\n", media_type="text/plain")


@router.get(
    "/readyz",
    **operation(
        "Whether requests should come here, check by check",
        (HTTPStatus.OK, Readiness),
        (HTTPStatus.SERVICE_UNAVAILABLE, Readiness),
        public=True,
    ),
)
async def readyz(services: Services) -> Response:
    found = await services.readiness.run()
    return answer(found, HTTPStatus.OK if found.ready else HTTPStatus.SERVICE_UNAVAILABLE)


@router.get("/v1/info", **operation("What to know before signing anything", (HTTPStatus.OK, Info), public=True))
def info(services: Services) -> Response:
    deployment = services.deployment
    return answer(
        Info(
            version=version("rexis"),
            domain=deployment.domain,
            contracts=Contracts(model_registry=deployment.model_registry, certifier=deployment.certifier),
            coordinator=services.address,
            rpc_url=services.settings.suggested_rpc,
            tiers=services.tiers,
            trains=services.trains,
            max_blob_bytes=services.blobs.max_bytes,
            quorum=services.quorum,
            escrow=services.escrow,
        )
    )


@router.post(
    "/v1/auth/challenge",
    **operation("A message to sign (EIP-4361)", (HTTPStatus.OK, LoginChallenge), takes=LoginRequest, public=True),
)
def challenge(request: Request, services: Services, document: Annotated[LoginRequest, body(LoginRequest)]) -> Response:
    authority, url = services.authority(request.headers.get("host", ""))
    return answer(services.auth.challenge(document.address, authority, url))


@router.post(
    "/v1/auth/token",
    **operation(
        "A bearer token for a signed message",
        (HTTPStatus.OK, Token),
        takes=TokenRequest,
        refuses=(401, 403),
        public=True,
    ),
)
def token(services: Services, document: Annotated[TokenRequest, body(TokenRequest)]) -> Response:
    return answer(services.auth.token(document.message, document.signature))


@router.delete("/v1/auth/token", **operation("End the token that is sent", (HTTPStatus.NO_CONTENT, None), roles=ANY))
def end_token(caller: Caller, services: Services, token: BearerToken) -> Response:
    assert token is not None  # noqa: S101  # otherwise there is no caller
    services.auth.end(caller, token)
    return Response(status_code=HTTPStatus.NO_CONTENT)
