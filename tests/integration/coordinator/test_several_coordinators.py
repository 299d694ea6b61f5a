"""Real coordinator processes over one database; the one in charge is killed while it works."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount

from contracts.chain import Deployment
from contracts.devchain import DevChain
from coordinator.chain import Ledger
from rexis.api import JobState
from rexis.protocol.digests import sha256
from tests.databases import Databases
from tests.integration.coordinator.fleet import Fleet
from tests.unit.coordinator.fakes import make_policy

JOBS = 5


@pytest.mark.parametrize(("kind", "size"), [("postgresql", 3), ("sqlite", 2)])
def test_the_one_in_charge_is_killed(
    kind: str,
    size: int,
    tmp_path: Path,
    databases: Databases,
    dev: DevChain,
    deployment: Deployment,
    funded: Callable[[], LocalAccount],
) -> None:
    with databases.empty(kind, tmp_path) as url:
        fleet = Fleet(
            tmp_path, dev, deployment, funded(), funded(), database=url, size=size, REXIS_ANCHOR_SECONDS="0.1"
        )
        try:
            fleet.start()
            go_through(fleet, deployment, dev)
        finally:
            fleet.close()


def go_through(fleet: Fleet, deployment: Deployment, dev: DevChain) -> None:
    rig = fleet.rigs[0]
    rig.publish()
    requests = [rig.request(make_policy(shard_size=1), nonce=sha256(b"%d" % number)) for number in range(JOBS)]
    alive = list(range(len(fleet.rigs)))
    requester = {place: fleet.client(rig.requester, place) for place in alive}
    jobs = [requester[number % len(alive)].submit_job(request).job_id for number, request in enumerate(requests)]

    with fleet.working(3, rig.dataset) as wrong:
        wait(lambda: bool(fleet.rows("SELECT 1 FROM anchor WHERE tx_hash IS NOT NULL")))
        killed = fleet.holder()
        fleet.kill(killed)
        alive.remove(killed)
        for number, job in enumerate(jobs):
            asked = requester[alive[number % len(alive)]]
            view = asked.wait_for_job(job, poll_seconds=0.2, timeout_seconds=60.0)
            assert view.state == JobState.CERTIFIED, view.reason
    assert wrong == []
    assert fleet.holder() != killed

    tasks = fleet.rows("SELECT task_id, state FROM task")
    assert Counter(state for _, state in tasks) == {"anchored": JOBS * 5}
    accepted = fleet.rows("SELECT task_id FROM lease WHERE outcome = 'accepted'")
    assert sorted(accepted) == sorted((task,) for task, _ in tasks)
    assert fleet.rows("SELECT 1 FROM lease WHERE outcome = 'open'") == []
    leaves = fleet.rows("SELECT task_id FROM anchor_leaf")
    assert sorted(leaves) == sorted((task,) for task, _ in tasks)

    written = Counter(roots_on_chain(fleet, deployment, dev))
    assert written == Counter(root for (root,) in fleet.rows("SELECT root FROM anchor"))
    assert max(written.values()) == 1


def roots_on_chain(fleet: Fleet, deployment: Deployment, dev: DevChain) -> list[str]:
    """What the coordinators' account anchored, by the chain's events."""
    ledger = Ledger.connect(dev.url, account=fleet.account)
    ledger.attach(deployment)
    event = ledger._contracts["EvidenceLog"].events["Anchored"]()
    found = event.get_logs(argument_filters={"submitter": ledger.address}, from_block=0)
    return [f"0x{bytes(one['args']['root']).hex()}" for one in found]


def wait(until: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.1)
