"""What a coordinator does with datasets and outputs that it never holds whole."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from coordinator.services import Coordinator
from coordinator.trees import Trees
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import sha256
from rexis.protocol.merkle import MerkleTree
from rexis.protocol.policy import Tier
from rexis.protocol.records import input_root
from rexis.protocol.signing import address_of
from rexis.protocol.tensors import Dataset, Shard, unpack_outputs
from tests.unit.coordinator.fakes import FakeClock, FakeLedger, evaluate, make_coordinator, make_policy
from tests.unit.coordinator.scene import Scene


@pytest.fixture
def coordinator(blob_url: str | None, tmp_path: Path, ledger: FakeLedger, clock: FakeClock) -> Iterator[Coordinator]:
    made = make_coordinator(tmp_path, ledger, clock, blob_url=blob_url)
    yield made
    made.close()


def test_a_worker_fetches_its_records_and_what_leads_to_the_root(http: TestClient, scene: Scene) -> None:
    scene.publish()
    scene.submit(policy=make_policy(shard_size=2))
    worker, other = scene.veteran(), scene.worker()
    scene.lease(worker)
    lease = scene.lease(worker)
    url, headers = f"/v1/leases/{lease.lease_id}/records", scene.headers(worker.account)
    found = http.get(url, headers=headers)
    assert found.status_code == 200
    shard = Shard.from_bytes(found.content, start=lease.start, count=lease.count, size=5)
    assert shard.root(Tier.COMMIT, NO_CIRCUIT) == lease.request.input_root
    assert np.array_equal(shard.records, scene.dataset.records[lease.start : lease.start + lease.count])
    assert http.get(url, headers=scene.headers(other.account)).status_code == 409
    scene.coordinator.leases.give_back(lease.lease_id, worker.address)
    assert http.get(url, headers=headers).status_code == 409


def test_outputs_are_one_blob_that_can_be_had_in_parts(http: TestClient, scene: Scene) -> None:
    scene.publish()
    job = scene.submit(policy=make_policy(shard_size=2))
    scene.do_all()
    url, headers = f"/v1/jobs/{job.job_id}/outputs", scene.headers()
    whole = http.get(url, headers=headers)
    assert np.array_equal(unpack_outputs(whole.content, count=5, fixed=False), evaluate(scene.dataset.records))
    assert whole.headers["Content-Length"] == str(len(whole.content))
    for start in range(0, len(whole.content), 7):
        part = http.get(url, headers=headers | {"Range": f"bytes={start}-{start + 9}"})
        assert (part.status_code, part.content) == (206, whole.content[start : start + 10])
        assert part.headers["ETag"] == whole.headers["ETag"]
    assert http.get(url, headers=headers | {"Range": f"bytes={len(whole.content)}-"}).status_code == 416


def test_a_tree_in_a_file_is_the_one_in_memory_and_is_made_again_if_it_is_damaged(tmp_path: Path) -> None:
    leaves = [os.urandom(5) for _ in range(1000)]
    expected, made = MerkleTree(leaves), []

    def give() -> list[bytes]:
        made.append(1)
        return leaves

    trees = Trees(tmp_path / "trees", 1 << 20)
    assert trees.get("a", 1000, give) is trees.get("a", 1000, give)
    for _ in range(2):
        tree = Trees(tmp_path / "trees", 1 << 20).get("a", 1000, give)
        assert (tree.root, tree.path(777), tree.around(3, 900)) == (
            expected.root,
            expected.path(777),
            expected.around(3, 900),
        )
    assert len(made) == 1
    os.truncate(tmp_path / "trees" / "a", 500)
    assert Trees(tmp_path / "trees", 1 << 20).get("a", 1000, give).root == expected.root
    assert len(made) == 2


def test_tree_files_are_bounded(tmp_path: Path) -> None:
    trees = Trees(tmp_path, 150_000)
    kept = [trees.get(str(number), 1000, lambda: [b"x"] * 1000) for number in range(5)]
    assert len(list(tmp_path.iterdir())) == 2
    assert len({tree.root for tree in kept}) == 1, "a tree that is open goes on"


def test_memory_does_not_grow_with_the_dataset(
    tmp_path: Path, ledger: FakeLedger, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 MB of records: registered, submitted, a shard taken; never more than a few blocks of them in memory."""
    scene = Scene(make_coordinator(tmp_path, ledger, clock), ledger)
    records = np.zeros((4096, 4096), dtype=np.float32)
    scene.dataset = Dataset(records, np.zeros((4096, 32), dtype=np.uint8))
    blob = scene.dataset.to_bytes()
    digest = scene.coordinator.blobs.put(blob)
    owner = address_of(scene.requester)
    scene.coordinator.access.uploaded(owner, digest, len(blob))
    root = input_root(Tier.COMMIT, NO_CIRCUIT, records, scene.dataset.salts)
    assert digest == sha256(blob)
    size = len(blob)
    del blob
    tracemalloc.start()
    try:
        scene.coordinator.catalogue.register_dataset(owner, digest)
        inputs = scene.coordinator.catalogue.inputs(digest, Tier.COMMIT, NO_CIRCUIT)
        assert inputs.root == root
        assert Shard.from_bytes(inputs.shard(50, 64).to_bytes(), start=50, count=64, size=4096).start == 50
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        scene.coordinator.close()
    assert peak < size / 2
