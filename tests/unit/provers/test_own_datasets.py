"""Whose requests about private records a worker serves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from provers.onsite import OwnDatasets
from rexis.protocol.circuit import Circuit
from rexis.protocol.errors import ConflictError, DigestMismatchError, MalformedError, TensorError
from rexis.protocol.onsite import PrivateDataset
from rexis.protocol.parsing import Address
from rexis.protocol.policy import Rung, Tier
from rexis.protocol.records import input_root
from rexis.protocol.signing import address_of, new_account
from rexis.protocol.statement import JobRequest
from tests.unit.coordinator.fakes import make_dataset, make_policy, make_request
from tests.unit.protocol.test_onsite import circuit, private

OWNER = address_of(new_account())


def request(data: PrivateDataset, who: Address = OWNER, what: Circuit | None = None, **changes: object) -> JobRequest:
    what = what or circuit()
    fields: dict[str, object] = {
        "circuit": what,
        "policy": make_policy(tier=Tier.ZK, sample_size=0, rung=Rung.ZK_ONSITE),
        "dataset_digest": data.digest,
        "input_root": input_root(Tier.ZK, what, data.committed, data.leaf_salts),
        "input_size": len(data),
        "record_count": len(data),
    }
    return make_request(make_dataset(), who, OWNER, **{**fields, **changes})


@pytest.fixture
def data(tmp_path: Path) -> PrivateDataset:
    found = private()
    (tmp_path / "data").write_bytes(found.to_bytes())
    return found


def test_the_owners_own_request(tmp_path: Path, data: PrivateDataset) -> None:
    own = OwnDatasets([tmp_path / "data"], OWNER)
    assert own.digests == [data.digest]
    found = own.requested(request(data))
    assert found is not None
    assert np.array_equal(found.records, data.records)


def test_others_ask_in_vain(tmp_path: Path, data: PrivateDataset) -> None:
    """With a model of a stranger's choice, an output can be the record."""
    own = OwnDatasets([tmp_path / "data"], OWNER)
    stranger = address_of(new_account())
    with pytest.raises(ConflictError, match="asks about records of"):
        own.requested(request(data, stranger))
    with pytest.raises(ConflictError, match="not on this machine"):
        own.requested(request(private()))
    with pytest.raises(ConflictError, match="own datasets only"):
        own.requested(make_request(make_dataset(), OWNER, OWNER))
    with pytest.raises(DigestMismatchError, match="root"):
        own.requested(request(data, input_root=data.digest))
    with pytest.raises(MalformedError, match="scale"):
        own.requested(request(data, what=circuit(input_scale=9)))


def test_a_worker_without_private_records(tmp_path: Path, data: PrivateDataset) -> None:
    own = OwnDatasets([], OWNER)
    assert own.requested(make_request(make_dataset(), OWNER, OWNER)) is None
    with pytest.raises(ConflictError, match="not on this machine"):
        own.requested(request(data))
    (tmp_path / "plain").write_bytes(make_dataset().to_bytes())
    with pytest.raises(TensorError, match="for others to compute on"):
        OwnDatasets([tmp_path / "plain"], OWNER)
