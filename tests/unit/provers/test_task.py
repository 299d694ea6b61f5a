"""What a worker refuses before it computes anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from provers.task import check_lease, read_dataset, read_shard
from rexis.api import Lease
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import sha256
from rexis.protocol.errors import (
    ConflictError,
    DigestMismatchError,
    MalformedError,
    RexisError,
    SignatureError,
)
from rexis.protocol.policy import Tier
from rexis.protocol.signing import new_account, sign_digest
from rexis.protocol.statement import Kind
from rexis.protocol.tensors import Dataset
from rexis.protocol.training import TrainingRequest
from rexis.protocol.typed_data import Domain
from tests.unit.coordinator.trainings import make_plan
from tests.unit.provers.fakes import DOMAIN, FakeCoordinator, make_dataset, make_lease

REQUESTER = new_account()


def resigned(lease: Lease, **changes: Any) -> Lease:
    request = lease.request.model_copy(update=changes)
    signature = sign_digest(REQUESTER, request.job_id(DOMAIN))
    return lease.model_copy(update={"request": request, "request_signature": signature})


@pytest.fixture
def lease() -> Lease:
    return make_lease(Tier.COMMIT, make_dataset(20), REQUESTER)


def test_a_good_lease_passes(lease: Lease) -> None:
    check_lease(lease, DOMAIN)
    check_lease(lease.model_copy(update={"start": 16, "count": 4}), DOMAIN)


def test_another_chain_is_refused(lease: Lease) -> None:
    with pytest.raises(ConflictError, match="this worker works on chain 1"):
        check_lease(lease, Domain(chain_id=1, verifying_contract=DOMAIN.verifying_contract))


def test_a_request_that_its_requester_did_not_sign_is_refused(lease: Lease) -> None:
    changed = lease.request.model_copy(update={"nonce": sha256(b"another job")})
    with pytest.raises(SignatureError):
        check_lease(lease.model_copy(update={"request": changed}), DOMAIN)


@pytest.mark.parametrize(("start", "count"), [(0, 7), (1, 8), (16, 8), (20, 1)])
def test_a_range_that_is_no_shard_is_refused(lease: Lease, start: int, count: int) -> None:
    with pytest.raises(ConflictError, match="not a shard"):
        check_lease(lease.model_copy(update={"start": start, "count": count}), DOMAIN)


def test_a_training_has_the_plan_that_was_signed_and_nothing_else_has_one(lease: Lease) -> None:
    plan = make_plan()
    fields = dict(lease.request) | {"kind": Kind.TRAINING, "circuit": NO_CIRCUIT, "plan_digest": plan.digest}
    request = TrainingRequest(**{**fields, "record_start": 0, "record_count": lease.request.input_size})
    signature = sign_digest(REQUESTER, request.job_id(DOMAIN))
    start, count = request.shards()[0]
    update = {"request": request, "request_signature": signature, "plan": plan, "start": start, "count": count}
    training = lease.model_copy(update=update)
    check_lease(training, DOMAIN)
    without = resigned(lease, kind=Kind.TRAINING)
    for wrong in (make_plan(steps=6), None):
        with pytest.raises(ConflictError, match="not the one of the request"):
            check_lease(training.model_copy(update={"plan": wrong}), DOMAIN)
    for wrong_lease in (lease.model_copy(update={"plan": plan}), without, without.model_copy(update={"plan": plan})):
        with pytest.raises(ConflictError, match="not the one of the request"):
            check_lease(wrong_lease, DOMAIN)


@pytest.mark.parametrize("tier", list(Tier))
def test_the_dataset_of_the_request_is_read(tmp_path: Path, tier: Tier) -> None:
    dataset = make_dataset(9)
    path = tmp_path / "dataset"
    path.write_bytes(dataset.to_bytes())
    found = read_dataset(path, make_lease(tier, dataset, REQUESTER).request)
    assert np.array_equal(found.records, dataset.records)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"dataset_digest": sha256(b"other")}, DigestMismatchError),
        ({"input_root": sha256(b"other")}, DigestMismatchError),
        ({"input_size": 21}, MalformedError),
    ],
)
def test_a_dataset_that_is_not_the_signed_one_is_refused(
    tmp_path: Path, lease: Lease, changes: dict[str, Any], error: type[RexisError]
) -> None:
    path = tmp_path / "dataset"
    path.write_bytes(make_dataset(20).to_bytes())
    with pytest.raises(error):
        read_dataset(path, lease.request.model_copy(update=changes))


@pytest.mark.parametrize("tier", list(Tier))
def test_a_shard_is_read_and_led_to_the_signed_root(tier: Tier) -> None:
    dataset = make_dataset(20)
    lease = make_lease(tier, dataset, REQUESTER, shard=6).model_copy(update={"start": 6})
    sent = FakeCoordinator(REQUESTER, {dataset.digest: dataset.to_bytes()}, leased={"": lease}).shard("")
    shard = read_shard(sent, lease)
    assert np.array_equal(shard.records, dataset.records[6:12])
    for changes in ({"start": 5}, {"start": 14}, {"request": lease.request.model_copy(update={"input_size": 40})}):
        with pytest.raises(RexisError):
            read_shard(sent, lease.model_copy(update=changes))
    place = sent.index(dataset.records[7].tobytes()) + 3
    with pytest.raises(DigestMismatchError, match="root"):
        read_shard(sent[:place] + bytes([sent[place] ^ 0x80]) + sent[place + 1 :], lease)
    with pytest.raises(MalformedError):
        read_shard(sent, lease.model_copy(update={"count": 5}))


def test_records_that_do_not_fit_the_circuit_are_refused(tmp_path: Path) -> None:
    dataset = Dataset(np.ones((4, 5), dtype=np.float32), np.zeros((4, 32), dtype=np.uint8))
    path = tmp_path / "dataset"
    path.write_bytes(dataset.to_bytes())
    with pytest.raises(MalformedError, match="5 values, the circuit takes 3"):
        read_dataset(path, make_lease(Tier.ZK, dataset, REQUESTER).request)
