"""The HTTP application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from coordinator import problems
from coordinator.documents import describe
from coordinator.loops import Loops
from coordinator.middleware import RequestLog
from coordinator.routes import blobs, catalogue, docs, jobs, leases, pieces, system
from coordinator.services import Coordinator

_DESCRIPTION = (
    "Stores, schedules, checks evidence, anchors it and issues certificates. Trusted for liveness, never for "
    "correctness. Documents are strict JSON: no unknown fields, no floats, no duplicate keys. Errors are RFC 9457 "
    "problems."
)


def create_app(coordinator: Coordinator) -> FastAPI:
    """The ASGI application of one coordinator; its background loops run as long as the application does."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        coordinator.bell.start()
        async with Loops(coordinator).running():
            yield
        coordinator.close()

    app = FastAPI(
        title="rexis coordinator",
        version=version("rexis"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # FastAPI's pages load scripts from a foreign host
        redoc_url=None,
    )
    app.state.coordinator, app.state.own_routes = coordinator, []
    app.add_middleware(RequestLog)
    problems.install(app)
    describe(app)
    for module in (system, blobs, catalogue, jobs, leases, pieces, docs):
        app.include_router(module.router)
        app.state.own_routes += module.router.routes
    return app
