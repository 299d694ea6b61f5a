"""Made ``version7.sql`` and ``blobs``: the state of the last coordinator without migrations, in the middle of its work.

Run at commit f3651d1, whose tables it needs: ``python -m tests.unit.coordinator.old.make_version7``. Kept to show
what the files hold.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from coordinator.tables import SCHEMA_VERSION  # type: ignore[attr-defined]
from rexis.api import Progress, Stage, WorkerRegistration
from rexis.protocol.digests import sha256
from rexis.protocol.policy import Tier
from rexis.protocol.signing import address_of
from tests.unit.coordinator.fakes import FakeClock, FakeLedger, FakeWorker, make_coordinator
from tests.unit.coordinator.old.people import COORDINATOR, OWNER, REQUESTER, WORKERS
from tests.unit.coordinator.scene import Scene
from tests.unit.coordinator.test_recovery import Sampled

HERE = Path(__file__).parent


def main() -> None:
    """One job certified, one with a task accepted and one leased, one with a commitment on chain, one failed."""
    assert SCHEMA_VERSION == 7
    with tempfile.TemporaryDirectory() as folder:
        ledger = FakeLedger(COORDINATOR)
        coordinator = make_coordinator(Path(folder), ledger, FakeClock())
        scene = Scene(coordinator, ledger, owner=OWNER, requester=REQUESTER)
        workers = [FakeWorker(account) for account in WORKERS]
        for worker in workers:
            coordinator.workers.register(
                worker.address,
                WorkerRegistration(
                    name="old", provider="CPUExecutionProvider", tiers=[Tier.COMMIT, Tier.SAMPLED], memory_bytes=1
                ),
            )
        scene.publish()
        scene.token(REQUESTER)

        scene.submit(nonce=sha256(b"certified"))
        while (lease := coordinator.leases.grant(workers[0].address)) is not None:
            scene.hand_in(workers[0], lease)
        coordinator.anchoring.run()
        ledger.head += 1
        for job in coordinator.certificates.due():
            coordinator.certificates.issue(job)

        failed = scene.submit(nonce=sha256(b"failed"))
        coordinator.jobs.cancel(address_of(REQUESTER), failed.job_id)

        scene.submit(nonce=sha256(b"in flight"))
        lease = scene.lease(workers[1])
        coordinator.leases.give_up(lease.lease_id, workers[1].address, "too-large", "no room")
        scene.hand_in(workers[0], scene.lease(workers[0]))
        lease = scene.lease(workers[0])
        beat = Progress(stage=Stage.COMMIT, done=1, total=lease.count)
        coordinator.leases.heartbeat(lease.lease_id, workers[0].address, beat)

        sampled = Sampled(scene, max_attempts=3)
        sampled.take(workers[1])
        sampled.commit()
        sampled.send()
        coordinator.close()

        with closing(sqlite3.connect(Path(folder) / "coordinator.sqlite")) as made:
            (HERE / "version7.sql").write_text("\n".join(made.iterdump()) + "\n")
        shutil.copytree(Path(folder) / "blobs", HERE / "blobs")


if __name__ == "__main__":
    main()
