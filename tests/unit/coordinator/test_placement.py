"""A task goes to no worker with less memory than its circuit needs, on SQLite and, where there is one, PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from circuits.artefacts import CircuitArtefacts
from circuits.chain import ChainSettings
from circuits.cost import estimate_of
from circuits.settings import CircuitSettings, canonical
from contracts.onchain import Registration
from coordinator.placement import Candidate, waiting_reason
from rexis.api import JobView, ModelRegistration, WorkerRegistration
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.parsing import Address
from rexis.protocol.policy import Tier
from rexis.protocol.records import input_root
from rexis.protocol.signing import address_of
from tests.unit.circuits.settings_document import document
from tests.unit.coordinator.fakes import (
    MODEL_DIGEST,
    FakeClock,
    FakeLedger,
    FakeWorker,
    make_coordinator,
    make_policy,
)
from tests.unit.coordinator.scene import Scene
from verifier.circuit import needed_bytes

SRS = b"an SRS"


def _artefacts() -> CircuitArtefacts:
    changed = document()
    changed["model_instance_shapes"] = [[1, 4], [1, 2]]
    return CircuitArtefacts(canonical(changed), b"a vk", (sha256(b"a word"),), sha256(SRS))


ARTEFACTS = _artefacts()
NEEDED = needed_bytes(ARTEFACTS.settings)


@pytest.fixture
def scene(
    tmp_path: Path, database: str, ledger: FakeLedger, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Scene]:
    """A published model with a circuit, whose keys nobody checks."""
    pytest.importorskip("ezkl")
    monkeypatch.setattr("coordinator.catalogue.proofs_can_be_checked", lambda: False)
    made = Scene(make_coordinator(tmp_path, ledger, clock, database_url=database), ledger)
    made.publish()
    pinned, owner = ARTEFACTS.description, address_of(made.owner)
    ledger.models[MODEL_DIGEST, 1] = Registration(
        owner, Digest(pinned.hash_struct()), pinned.vka_digest, pinned.srs_digest, 5, None
    )
    for blob in (ARTEFACTS.settings, ARTEFACTS.vk, SRS):
        made.upload(made.owner, blob)
    made.coordinator.catalogue.register_model(
        owner, ModelRegistration(model_digest=MODEL_DIGEST, key_epoch=1, circuit=pinned, vka=list(ARTEFACTS.vka))
    )
    yield made
    made.coordinator.close()


def worker(scene: Scene, memory_bytes: int) -> FakeWorker:
    made = FakeWorker()
    scene.coordinator.workers.register(
        made.address,
        WorkerRegistration(name="w", provider="CPU", tiers=list(Tier), memory_bytes=memory_bytes),
    )
    return made


def submit(scene: Scene, tier: Tier) -> JobView:
    policy = make_policy(tier=tier, shard_size=5, sample_size=0 if tier == Tier.ZK else 2)
    if tier == Tier.COMMIT:
        return scene.submit(policy=policy)
    pinned, data = ARTEFACTS.description, scene.dataset
    return scene.submit(policy=policy, circuit=pinned, input_root=input_root(tier, pinned, data.records, data.salts))


@pytest.mark.parametrize("tier", [Tier.SAMPLED, Tier.ZK])
def test_a_task_that_cannot_fit_is_never_leased(scene: Scene, tier: Tier) -> None:
    job = submit(scene, tier)
    small = worker(scene, NEEDED - 1)
    for _ in range(3):
        assert scene.coordinator.leases.grant(small.address) is None
    need = f"about {-(-NEEDED >> 20)} MiB"
    assert scene.job(job).tasks[0].waiting == (
        f"no worker has enough memory: the task needs {need}, the largest worker has {NEEDED - 1 >> 20} MiB"
    )
    large = worker(scene, NEEDED)
    assert scene.job(job).tasks[0].waiting == "waiting for a free worker"
    assert scene.coordinator.leases.grant(small.address) is None
    assert scene.lease(large).request.policy.tier == tier


def test_of_several_segments_the_largest_counts() -> None:
    first, last = document(), document()
    first["model_instance_shapes"], last["model_instance_shapes"] = [[1, 4], [1, 30]], [[1, 30], [1, 2]]
    last["run_args"]["input_scale"] = 9
    last["model_input_scales"] = [9]
    last["num_rows"] *= 5
    segments = [CircuitSettings.parse(canonical(each)) for each in (first, last)]
    one, other = (estimate_of(each).needed_bytes for each in segments)
    assert one < other == needed_bytes(ChainSettings.of((1,), segments).data)


def test_who_registers_again_with_more_memory_gets_it(scene: Scene) -> None:
    submit(scene, Tier.ZK)
    made = worker(scene, NEEDED - 1)
    assert scene.coordinator.leases.grant(made.address) is None
    scene.coordinator.workers.register(
        made.address, WorkerRegistration(name="w", provider="CPU", tiers=[Tier.ZK], memory_bytes=NEEDED)
    )
    assert scene.lease(made)


def test_tasks_without_proofs_go_to_workers_of_every_size(scene: Scene) -> None:
    submit(scene, Tier.ZK)  # older, and in nobody's reach
    job = submit(scene, Tier.COMMIT)
    assert scene.lease(worker(scene, 0)).request.job_id(scene.coordinator.deployment.domain) == job.job_id


def test_reasons_name_the_memory() -> None:
    def candidate(number: int, gib: int, *, online: bool = True) -> Candidate:
        zk = frozenset({"zk"})
        return Candidate(Address(f"0x{number:040}"), zk, zk, online, gib << 30)

    small, large = candidate(1, 1), candidate(2, 4)

    def why(workers: list[Candidate], excluded: list[str], gib: int = 2) -> str:
        return waiting_reason("zk", gib << 30, workers, excluded, last=False)

    assert (
        why([small], [])
        == "no worker has enough memory: the task needs about 2048 MiB, the largest worker has 1024 MiB"
    )
    assert why([small, large], []) == "waiting for a free worker"
    fits = "with enough memory (the task needs about 2048 MiB, 1 of 2 have that)"
    assert why([small, large], [large.address]) == f"every worker {fits} has failed this task"
    assert why([small, candidate(3, 2, online=False)], []) == f"every worker {fits} is offline"
    assert why([small, large], [small.address, large.address], 0) == "every worker that fits has failed this task"
