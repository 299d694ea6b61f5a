"""The two kinds of jobs in the stream: ``commit`` on a zoo model, and ``sampled`` on a model with a tiny circuit."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from eth_account.signers.local import LocalAccount

from bench.load.scene import EPOCH, MODEL, Scene
from circuits.artefacts import CircuitCache
from circuits.build import build_circuit
from circuits.process import EzklProcess
from circuits.srs import ensure_development_srs
from contracts.chain import Chain, Deployment
from models.zoo import load_model_bytes
from provers.executor import OnnxExecutor
from rexis.api import ModelRegistration
from rexis.client import RexisClient
from rexis.ee import encrypt_records
from rexis.ee.compiler import EncryptedModel, encrypt_model
from rexis.ee.records import record_salts
from rexis.protocol.digests import sha256, tensor_digest
from rexis.protocol.parsing import Address
from rexis.protocol.policy import Policy, Rung, Tier
from rexis.protocol.records import Floats, input_root
from rexis.protocol.signing import address_of
from rexis.protocol.statement import JobRequest, Kind
from rexis.protocol.tensors import Dataset
from tests.integration.circuits.tiny_circuit import TINY, mlp

RECORDS = 60
_SHARD, _OPENED = 2, 2
_PROVED_RECORDS, _PROVED_SHARD = 4, 2
# Each kill of a worker between its commitment and its proof costs a task one of these.
_ATTEMPTS = 100


@dataclass(frozen=True)
class Work:
    """What a job of one kind asks for, and what must come of it.

    Attributes
    ----------
    plain
        What the plain model makes of the plain records ``[n, classes]``.
    tolerance
        How far decrypted outputs may be from that.
    srs
        What the proofs are checked with; None without proofs.
    """

    encrypted: EncryptedModel
    dataset: Dataset
    plain: Floats
    tolerance: float
    srs: Path | None
    _request: JobRequest

    def request(self, number: int) -> JobRequest:
        """The request of one job: each has a nonce of its own."""
        return self._request.model_copy(update={"nonce": sha256(b"job", number.to_bytes(8, "big"))})

    @property
    def records(self) -> int:
        """Records of a job."""
        return self._request.record_count


def committed(scene: Scene, coordinator: Address) -> Work:
    """Jobs of tier ``commit``: thirty small tasks each."""
    request = scene.request(coordinator, count=RECORDS, shard=_SHARD, opened=_OPENED, number=0)
    plain = _outputs(load_model_bytes(MODEL), scene.plain[:RECORDS])
    return Work(scene.encrypted, scene.dataset, plain, 1e-3, None, request)


def proved(
    owner: LocalAccount, requester: LocalAccount, folder: Path, url: str, chain_url: str, deployment: Deployment,
    coordinator: Address,
) -> Work:  # fmt: skip
    """Jobs of tier ``sampled``, one real proof a task. Builds the circuit, and registers it with its model."""
    model = mlp(0)
    encrypted = encrypt_model(model, epoch=EPOCH)
    records = np.random.default_rng(0).normal(size=(_PROVED_RECORDS, 4)).astype(np.float32)
    values = encrypt_records(encrypted.key, records)
    dataset = Dataset(values, record_salts(encrypted.key, tensor_digest(values), len(values)))
    srs = ensure_development_srs(TINY.logrows, folder)
    with EzklProcess() as ezkl:
        artefacts = build_circuit(encrypted.model, TINY, srs, CircuitCache(folder / "keys"), ezkl).artefacts
    pinned = artefacts.description
    chain = Chain.connect(chain_url, account=owner)
    chain.attach(deployment)
    chain.register(encrypted.digest, EPOCH, pinned)
    with RexisClient(url, owner) as client:
        for blob in (encrypted.model, artefacts.settings, artefacts.vk, srs.path):
            client.upload_blob(blob)
        client.register_model(
            ModelRegistration(
                model_digest=encrypted.digest, key_epoch=EPOCH, circuit=pinned, vka=list(artefacts.vka)
            )
        )  # fmt: skip
    with RexisClient(url, requester) as client:
        client.upload_blob(dataset.to_bytes())
        client.register_dataset(dataset.digest)
    policy = Policy(
        tier=Tier.SAMPLED, sample_size=1, shard_size=_PROVED_SHARD, max_attempts=_ATTEMPTS, abs_tolerance_e9=0,
        rel_tolerance_e9=0, rung=Rung.EE_OUTSOURCED, validators=0, certify_on_chain=False,
    )  # fmt: skip
    request = JobRequest(
        kind=Kind.EVALUATION,
        model_digest=encrypted.digest,
        key_epoch=EPOCH,
        circuit=pinned,
        dataset_digest=dataset.digest,
        input_root=input_root(Tier.SAMPLED, pinned, dataset.records, dataset.salts),
        input_size=len(dataset),
        record_start=0,
        record_count=len(dataset),
        policy=policy,
        requester=address_of(requester),
        coordinator=coordinator,
        nonce=sha256(b"job"),
    )
    # Fixed point with seven bits after the point; outputs are as large as 2.
    return Work(encrypted, dataset, _outputs(model, records), 0.05, srs.path, request)


def _outputs(model: bytes, records: Floats) -> Floats:
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(model)
        file.flush()
        return OnnxExecutor(Path(file.name), threads=1).run(records)
