"""Turns everything that a handler can raise into problem documents (:mod:`rexis.web.problems`)."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request, Response
from obstore.exceptions import BaseError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from rexis.protocol.errors import (
    UnavailableError,
)
from rexis.web import handlers
from rexis.web.problems import problem_response

_log = logging.getLogger(__name__)


def install(app: FastAPI) -> None:
    """Turn everything that a handler can raise into problems."""

    handlers.install(app)

    async def on_database_error(request: Request, error: SQLAlchemyError) -> Response:
        _log.error("database: %s", type(error).__name__, exc_info=error)
        busy = UnavailableError("the database is busy or out of reach", hint="try again")
        return problem_response(busy, request.state.request_id)

    async def on_storage_error(request: Request, error: OSError) -> Response:
        _log.error("storage: %s", type(error).__name__, exc_info=error)
        lost = UnavailableError(
            "the coordinator's storage is full or out of reach", hint="try again, or tell the operator"
        )
        return problem_response(lost, request.state.request_id)

    app.add_exception_handler(DBAPIError, on_database_error)  # type: ignore[arg-type]
    app.add_exception_handler(PoolTimeout, on_database_error)  # type: ignore[arg-type]
    app.add_exception_handler(OSError, on_storage_error)  # type: ignore[arg-type]
    app.add_exception_handler(BaseError, on_storage_error)  # type: ignore[arg-type]
