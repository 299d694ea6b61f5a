"""Long polls: look again whenever something has changed, until there is an answer or the time is up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool

from coordinator.bell import heard
from coordinator.documents import answer
from coordinator.services import Coordinator
from rexis.protocol.parsing import Strict

_POLL_S = 1.0


async def first_found(
    request: Request, services: Coordinator, seconds: float, look: Callable[[], Strict | None], *, work: bool = False
) -> Response:
    """The first document that `look` finds; 204 if that is none in the time.

    Parameters
    ----------
    work
        It looks for a task, so that only rings about work are heard, and it takes its turn among those that write.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        rung = services.bell.listen(work=work)
        found = await (services.in_turn(look) if work else run_in_threadpool(look))
        if found is not None:
            return answer(found)
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0 or services.bell.stopping or await request.is_disconnected():
            return Response(status_code=HTTPStatus.NO_CONTENT)
        await heard(rung, min(left, _POLL_S))
