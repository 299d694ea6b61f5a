"""The HTTP application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import Lifespan

from coordinator import problems
from coordinator.documents import describe, roles_of
from coordinator.front import Front
from coordinator.loops import Loops
from coordinator.observed import Observed
from coordinator.routes import (
    anchors,
    audit,
    blobs,
    catalogue,
    docs,
    events,
    evidence,
    jobs,
    leases,
    members,
    pieces,
    system,
    uploads,
    validations,
)
from coordinator.services import Coordinator
from coordinator.watching import watch_events
from rexis.web.clients import read_networks
from rexis.web.headers import SafeHeaders
from rexis.web.requests import RequestLog

_DESCRIPTION = (
    "Stores, schedules, checks evidence, anchors it and issues certificates. Trusted for liveness, never for "
    "correctness. Documents are strict JSON: no unknown fields, no floats, no duplicate keys. Errors are RFC 9457 "
    "problems."
)


def create_app(coordinator: Coordinator) -> FastAPI:
    """The ASGI application of one coordinator; its background loops run as long as the application does."""
    watch_events()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        coordinator.bell.start()
        async with coordinator.relay.running(), Loops(coordinator).running():
            yield
        coordinator.close()

    app = described_app(lifespan)
    app.state.coordinator = coordinator
    settings = coordinator.settings
    app.add_middleware(
        Front,
        limits=coordinator.limits,
        hosts=settings.hosts(),
        proxies=read_networks(settings.trusted_proxies),
        open_paths=[
            route.path_regex
            for route in (*app.state.own_routes, *app.routes)
            if isinstance(route, Route) and not roles_of(route)
        ],
    )
    if settings.desk_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.desk_origins,
            allow_methods=["GET"],
            allow_headers=["Authorization", "Last-Event-ID"],
        )
    app.add_middleware(RequestLog, service="coordinator")
    app.add_middleware(Observed)
    app.add_middleware(SafeHeaders, https=(settings.public_url or "").startswith("https://"))
    problems.install(app)
    return app


def described_app(lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """All routes and their description, without anything that answers them."""
    app = FastAPI(
        title="rexis coordinator",
        version=version("rexis"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # FastAPI's pages load scripts from a foreign host
        redoc_url=None,
    )
    app.state.own_routes = []
    describe(app)
    subjects = (
        system,
        blobs,
        uploads,
        catalogue,
        jobs,
        events,
        leases,
        evidence,
        pieces,
        validations,
        members,
        audit,
        anchors,
        docs,
    )
    for module in subjects:
        app.include_router(module.router)
        app.state.own_routes += module.router.routes
    return app
