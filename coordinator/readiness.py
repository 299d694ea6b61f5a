"""Whether this coordinator can do its work now. Each check has a time limit, and its result is kept for a moment."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator

from rexis.protocol.errors import RexisError, UnavailableError
from rexis.protocol.parsing import Strict

_LIMIT_S = 3.0
_log = logging.getLogger(__name__)


class CheckState(StrEnum):
    """What a check found."""

    OK = "ok"
    # Work waits, but nothing is lost by sending requests here.
    DEGRADED = "degraded"
    FAILED = "failed"


CheckStateField = Annotated[CheckState, BeforeValidator(CheckState)]


class CheckView(Strict):
    """One check. `detail` names no host, path or version: anybody may ask."""

    name: str
    state: CheckStateField
    detail: str


class Readiness(Strict):
    """``GET /readyz``: ready unless a check has failed."""

    ready: bool
    checks: list[CheckView]


class Pulse:
    """When each background loop of this process last went round."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._beats: dict[str, float] = {}

    def beat(self, name: str) -> None:
        """A loop begins another round."""
        self._beats[name] = time.monotonic()

    def check(self) -> None:
        """Return if all loops go round.

        Raises
        ------
        UnavailableError
            One has not for too long.
        """
        silent = [name for name, at in self._beats.items() if time.monotonic() - at > self._longest_s]
        if silent:
            raise UnavailableError(f"{', '.join(silent)}: no round for {self._longest_s:g} s")


@dataclass(frozen=True)
class Check:
    """Something to look at.

    Attributes
    ----------
    look
        Returns if it is well; raises if not.
    needed
        Whether requests should go elsewhere while it is not.
    kept_s
        How long its result stands: strangers may ask as often as they like.
    """

    name: str
    look: Callable[[], None]
    needed: bool
    kept_s: float


class Checks:
    """Runs checks side by side. One that hangs is failed, and not begun again while it hangs."""

    def __init__(self, checks: list[Check]) -> None:
        self._checks = checks
        self._threads = ThreadPoolExecutor(max(1, len(checks)), "readiness")
        self._running: dict[str, Future[None]] = {}
        self._known: dict[str, tuple[float, CheckView]] = {}
        self._lock = threading.Lock()

    async def run(self) -> Readiness:
        """The state of everything, as it was found within the last seconds."""
        found = await asyncio.gather(*(asyncio.to_thread(self._result, check) for check in self._checks))
        return Readiness(ready=all(view.state != CheckState.FAILED for view in found), checks=list(found))

    def close(self) -> None:
        """Wait for nothing."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _result(self, check: Check) -> CheckView:
        with self._lock:
            known = self._known.get(check.name)
            if known is not None and time.monotonic() < known[0]:
                return known[1]
            running = self._running.get(check.name)
            if running is None or running.done():
                running = self._running[check.name] = self._threads.submit(check.look)
        worse = CheckState.FAILED if check.needed else CheckState.DEGRADED
        try:
            running.result(_LIMIT_S)
        except TimeoutError:
            view = CheckView(name=check.name, state=worse, detail=f"no answer within {_LIMIT_S:g} s")
        except Exception as error:
            _log.warning("readiness: %s: %s", check.name, error)
            detail = error.code if isinstance(error, RexisError) else "an error, see the log"
            view = CheckView(name=check.name, state=worse, detail=detail)
        else:
            view = CheckView(name=check.name, state=CheckState.OK, detail="")
        with self._lock:
            self._known[check.name] = (time.monotonic() + check.kept_s, view)
        return view
