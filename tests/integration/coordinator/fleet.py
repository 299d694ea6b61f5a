"""Several coordinator processes over one database and one wallet, and workers that go from one to the next."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from eth_account.signers.local import LocalAccount
from sqlalchemy import create_engine, text

from contracts.chain import Deployment
from contracts.devchain import DevChain
from rexis.api import Lease, WorkerRegistration
from rexis.client import RexisClient
from rexis.protocol.errors import ConflictError, LeaseError, RexisError
from rexis.protocol.evidence import Evidence
from rexis.protocol.policy import Tier
from rexis.protocol.signing import new_account
from rexis.protocol.tensors import Dataset
from rexis.transport import Retry
from tests.integration.coordinator.rig import Rig
from tests.unit.coordinator.fakes import FakeWorker

_Answer = TypeVar("_Answer")
# A worker here has other coordinators to ask: it does not wait for one that is dead.
_AT_ONCE = Retry(attempts=1)


class Fleet:
    """Coordinators that differ by their port only.

    Parameters
    ----------
    folder
        For wallet, blobs and logs; shared by all.
    database
        SQLAlchemy URL.
    """

    def __init__(
        self, folder: Path, dev: DevChain, deployment: Deployment, owner: LocalAccount, account: LocalAccount,
        *, database: str, size: int, **settings: str,
    ) -> None:  # fmt: skip
        self.database, self.account = database, account
        self._settings = {"REXIS_DATABASE_URL": database, "REXIS_DATA_DIR": str(folder / "data"), **settings}
        self.rigs = []
        for place in range(size):
            (folder / str(place)).mkdir()
            rig = Rig(folder / str(place), dev, deployment, owner, account)
            if self.rigs:
                rig.requester, rig.dataset = self.rigs[0].requester, self.rigs[0].dataset
            self.rigs.append(rig)

    def start(self) -> None:
        """Start all at once: on an empty database, they all want to set it up."""
        with ThreadPoolExecutor(len(self.rigs)) as threads:
            list(threads.map(lambda rig: rig.start(**self._settings), self.rigs))

    def restart(self, place: int) -> None:
        """Start one again that was killed."""
        self.rigs[place].start(**self._settings)

    def kill(self, place: int) -> None:
        """End one as ``kill -9`` does."""
        self.rigs[place].stop(signal.SIGKILL)

    def holder(self, duty: str = "wallet") -> int:
        """Which coordinator took a duty last, by the logs."""
        taken = [
            (int(term), place)
            for place, rig in enumerate(self.rigs)
            for term in re.findall(rf"has duty {duty} now, term (\d+)", rig.log)
        ]
        return max(taken)[1]

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """What the database has."""
        engine = create_engine(self.database)
        with engine.connect() as connection:
            found = [tuple(row) for row in connection.execute(text(query))]
        engine.dispose()
        return found

    def client(self, account: LocalAccount, place: int) -> RexisClient:
        return RexisClient(self.rigs[place].url, account, retry=_AT_ONCE)

    def close(self) -> None:
        for rig in self.rigs:
            rig.close()

    @contextmanager
    def working(self, workers: int, dataset: Dataset) -> Iterator[list[BaseException]]:
        """Workers in threads of their own; what went wrong in them is in the list."""
        stop, wrong = threading.Event(), list[BaseException]()

        def run(place: int) -> None:
            try:
                Roamer(self, place).work(dataset, stop.is_set)
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=run, args=(place,)) for place in range(workers)]
        for thread in threads:
            thread.start()
        try:
            yield wrong
        finally:
            stop.set()
            for thread in threads:
                thread.join()


class Roamer:
    """A worker of tier ``commit`` that makes each request of another coordinator, and again if that one is dead."""

    def __init__(self, fleet: Fleet, first: int) -> None:
        self._fake = FakeWorker(new_account())
        self._clients = [fleet.client(self._fake.account, place) for place in range(len(fleet.rigs))]
        self._next = first
        self.done = 0

    def work(self, dataset: Dataset, stopped: Callable[[], bool]) -> None:
        """Do tasks until told to stop. Every task that was leased is handed in."""
        registration = WorkerRegistration(
            name="roamer", provider="CPUExecutionProvider", tiers=[Tier.COMMIT], memory_bytes=1 << 30
        )
        self._ask(lambda client: client.register_worker(registration))
        while not stopped():
            lease = self._ask(lambda client: client.lease(1))
            if lease is not None:
                blob, evidence = self._fake.work(lease, dataset)
                self._hand_in(lease, blob, evidence)
        for client in self._clients:
            client.close()

    def _hand_in(self, lease: Lease, blob: bytes, evidence: Evidence) -> None:
        self._ask(lambda client: client.upload_blob(blob))
        try:
            self._ask(lambda client: client.evidence(lease.lease_id, evidence))
        except LeaseError:
            return  # it ended meanwhile, which is the coordinator's to decide
        self.done += 1

    def _ask(self, question: Callable[[RexisClient], _Answer]) -> _Answer:
        deadline = time.monotonic() + 60
        while True:
            self._next = (self._next + 1) % len(self._clients)
            try:
                return question(self._clients[self._next])
            except ConflictError:
                raise
            except RexisError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
