"""A worker on a coordinator in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

from provers.keeper import Stop
from provers.onchain import Unchecked
from provers.options import WorkerOptions
from provers.worker import Worker, open_site
from rexis.api import Lease
from rexis.client import RexisClient
from rexis.protocol.digests import sha256
from rexis.protocol.policy import Tier
from rexis.protocol.signing import new_account
from tests.unit.provers.fakes import FakeCircuit, FakeCoordinator, NoDisplay, linear_model, make_dataset, make_lease

REQUESTER = new_account()
DATASET = make_dataset(8)
FILES = [linear_model(), DATASET.to_bytes(), b"settings", b"srs"]


class Bench:
    """A worker on a fake coordinator. :meth:`run` ends when no lease is left."""

    def __init__(self, folder: Path) -> None:
        self.stop = Stop()
        self.account = new_account()
        self.coordinator = FakeCoordinator(self.account, {})
        self.coordinator.blobs = {sha256(blob): blob for blob in FILES}
        self.coordinator.when_idle = self.request_stop
        self.display = NoDisplay()
        self.folder = folder
        self.chain: Any = Unchecked()
        self.options: dict[str, Any] = {}

    def request_stop(self) -> None:
        self.stop.requested = True

    @contextmanager
    def worker(self) -> Iterator[Worker]:
        options = WorkerOptions(
            coordinator="http://127.0.0.1:8080",
            account=self.account,
            name="worker",
            cache=self.folder,
            wait_seconds=0,
            **self.options,
        )
        client = cast(RexisClient, self.coordinator)
        with closing(open_site(options)) as site:
            yield Worker(options, client, self.stop, self.display, site, self.chain)

    def run(self, *leases: Any) -> FakeCoordinator:
        self.coordinator.queue = list(leases)
        with self.worker() as worker:
            worker.run()
        return self.coordinator


def lease_of(tier: Tier, **changes: Any) -> Lease:
    return make_lease(tier, DATASET, REQUESTER, **changes)


def slow(circuit: FakeCircuit, until: Callable[[], bool]) -> None:
    """Make the first proof last until a condition holds."""
    prove = circuit.prove_segment

    def wait_first(segment: int, inputs: Any) -> Any:
        deadline = time.monotonic() + 5
        while not until() and time.monotonic() < deadline:
            time.sleep(0.01)
        return prove(segment, inputs)

    circuit.prove_segment = wait_first  # type: ignore[method-assign]
