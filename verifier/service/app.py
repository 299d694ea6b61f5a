"""The application. It keeps nothing: neither certificates nor verdicts, not even in its log."""

from __future__ import annotations

from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from starlette.datastructures import Headers

from rexis.api import Problem
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.parsing import Address
from rexis.web.bodies import read_body
from rexis.web.clients import client_of
from rexis.web.handlers import install
from rexis.web.headers import SafeHeaders
from rexis.web.limits import Buckets, client_key, too_many
from rexis.web.problems import MEDIA_TYPE
from rexis.web.requests import RequestLog
from verifier.service.desk import desk_routes, example_routes
from verifier.service.documents import About, Report
from verifier.service.judge import Task
from verifier.service.judging import judge
from verifier.service.places import Places
from verifier.service.settings import ServiceSettings

_DESCRIPTION = (
    "Takes a certificate and returns the verdict with every numbered step: the library and the steps of `rexis "
    "verify`. No account, nothing is kept. A verdict is as good as its operator: whoever does not trust that one runs "
    "`rexis verify`. Errors are RFC 9457 problems; that a certificate is not valid is no error."
)
_DIGEST, _ADDRESS = "^0x[0-9a-f]{64}$", "^0x[0-9a-fA-F]{40}$"
_PROBLEM = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
_CERTIFICATE = {"schema": {"type": "object", "description": "The certificate file's bytes, unchanged."}}

Pin = Annotated[str | None, Query(pattern=_DIGEST)]


def create_app(settings: ServiceSettings) -> FastAPI:
    """The ASGI application."""
    app = FastAPI(
        title="rexis verifier",
        version=version("rexis"),
        description=_DESCRIPTION,
        redirect_slashes=False,
        docs_url=None,  # FastAPI's pages load scripts from a foreign host
        redoc_url=None,
    )
    buckets, places = Buckets(settings.rate, settings.burst), Places(settings.at_once)

    @app.get("/healthz", summary="Whether the process answers", response_class=Response)
    async def healthz() -> Response:
        return Response("ok\n", media_type="text/plain")

    @app.get("/v1/about", summary="What a verdict stands on", response_model=About, responses=_refusals(429))
    async def about() -> Response:
        return _answer(
            About(
                version=version("rexis"),
                chain=settings.rpc is not None,
                accepts_development_chain=settings.allow_development_chain,
                accepts_development_srs=settings.allow_development_srs,
                max_certificate_bytes=settings.max_bytes,
                max_seconds=settings.bounds.seconds,
                quorum=settings.quorum.validator_quorum if settings.quorum else None,
            )
        )

    @app.post(
        "/v1/verify",
        summary="Verify a certificate, of an evaluation or of a training",
        response_model=Report,
        responses=_refusals(408, 413, 422, 429, 503),
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": _CERTIFICATE}}},
    )
    async def verify(
        request: Request,
        job: Pin = None,
        model: Pin = None,
        requester: Annotated[str | None, Query(pattern=_ADDRESS)] = None,
    ) -> Response:
        """`job`, `model` and `requester` are what you expect: the certificate itself cannot tell you which is meant."""
        client = client_of(request.scope, Headers(scope=request.scope), settings.proxies)
        if wait := buckets.take(client_key(client)):
            raise too_many("too many certificates from where you are", wait)
        task = Task(
            rpc=settings.rpc,
            artifacts=str(settings.artifacts.resolve()) if settings.artifacts else None,
            allow_development_chain=settings.allow_development_chain,
            allow_development_srs=settings.allow_development_srs,
            quorum=settings.quorum,
            job_id=Digest.parse(job, "job") if job else None,
            model_digest=Digest.parse(model, "model") if model else None,
            requester=Address.parse(requester, "requester") if requester else None,
        )
        async with places.queue():
            data = await read_body(request, settings.max_bytes, settings.patience_s)
            finding = await places.run(lambda: judge(task, data, settings.bounds))
        return _answer(Report.of(finding, sha256(data), verifier=version("rexis"), chain=settings.rpc is not None))

    app.include_router(desk_routes())
    app.include_router(example_routes(settings.examples, settings.max_bytes))
    app.state.own_routes = list(app.router.routes)
    app.add_middleware(RequestLog, service="verifier")
    app.add_middleware(SafeHeaders, https=settings.https)
    install(app)
    return app


def _answer(document: About | Report) -> Response:
    return Response(document.to_json(), media_type="application/json")


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"description": HTTPStatus(status).phrase, "model": Problem, **_PROBLEM} for status in (*statuses, 500)
    }
