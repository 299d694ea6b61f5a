"""A real circuit of a 3-2 linear model, and everything that a ``zk`` lease of it needs, in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from circuits.artefacts import CircuitCache
from circuits.build import ProvingCircuit, build_circuit
from circuits.process import EzklProcess
from circuits.profile import CircuitProfile
from circuits.srs import ensure_development_srs
from rexis.protocol.policy import Tier
from rexis.protocol.signing import new_account
from tests.unit.provers.fakes import linear_model, make_dataset, make_lease

RECORDS = 6
PROFILE = CircuitProfile(
    input_scale=7, param_scale=7, decomposition_base=256, decomposition_legs=3, inner_columns=1, logrows=10
)


@pytest.fixture(scope="session")
def circuit(tmp_path_factory: pytest.TempPathFactory) -> ProvingCircuit:
    pytest.importorskip("ezkl")
    owner = tmp_path_factory.mktemp("owner")
    srs = ensure_development_srs(PROFILE.logrows, owner)
    with EzklProcess() as ezkl:
        return build_circuit(linear_model(), PROFILE, srs, CircuitCache(owner / "keys"), ezkl)


@pytest.fixture
def folder(tmp_path: Path, circuit: ProvingCircuit) -> Path:
    """For :func:`tests.integration.provers.rig.work`."""
    dataset = make_dataset(RECORDS)
    lease = make_lease(Tier.ZK, dataset, new_account(), circuit=circuit.artefacts.description, shard=RECORDS)
    (tmp_path / "lease.json").write_bytes(lease.to_json())
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    (blobs / "model").write_bytes(linear_model())
    (blobs / "dataset").write_bytes(dataset.to_bytes())
    (blobs / "settings").write_bytes(circuit.artefacts.settings)
    (blobs / "srs").write_bytes(circuit.srs.path.read_bytes())
    return tmp_path
