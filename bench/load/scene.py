"""What the simulated workers work on: a real model under EE, real records, and the outputs that belong to them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from eth_account.signers.local import LocalAccount

from contracts.chain import Chain, Deployment
from models.zoo import held_out, load_model_bytes, training_split
from provers.executor import OnnxExecutor
from rexis.api import ModelRegistration
from rexis.client import RexisClient
from rexis.ee import encrypt_records
from rexis.ee.compiler import EncryptedModel, encrypt_model
from rexis.ee.records import record_salts
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import Digest, sha256, tensor_digest
from rexis.protocol.parsing import Address
from rexis.protocol.policy import Policy, Rung, Tier
from rexis.protocol.records import Floats, input_root
from rexis.protocol.signing import address_of, new_account
from rexis.protocol.statement import JobRequest, Kind
from rexis.protocol.tensors import Dataset

MODEL = "breast_cancer"
EPOCH = 1


@dataclass(frozen=True)
class Scene:
    """One encrypted model, one encrypted dataset, and who owns them.

    Attributes
    ----------
    plain
        The records in the clear ``[n, 30]``.
    outputs
        What the encrypted model makes of the encrypted records.
    """

    owner: LocalAccount
    requester: LocalAccount
    plain: Floats
    encrypted: EncryptedModel
    dataset: Dataset
    outputs: Floats

    @classmethod
    def make(cls, records: int) -> Scene:
        """A fresh one; real records are repeated where there are fewer than `records`."""
        encrypted = encrypt_model(load_model_bytes(MODEL), epoch=EPOCH)
        real = np.concatenate([held_out(MODEL)[0], training_split(MODEL)[0]]).astype(np.float32)
        plain = np.resize(real, (records, *real.shape[1:]))
        values = encrypt_records(encrypted.key, plain)
        dataset = Dataset(values, record_salts(encrypted.key, tensor_digest(values), records))
        with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
            file.write(encrypted.model)
            file.flush()
            outputs = OnnxExecutor(Path(file.name), threads=1).run(values)
        return cls(new_account(), new_account(), plain, encrypted, dataset, outputs)

    def publish(self, url: str, chain_url: str, deployment: Deployment) -> None:
        """Register the model on chain and at a coordinator, and upload the dataset. The owner needs ether."""
        chain = Chain.connect(chain_url, account=self.owner)
        chain.attach(deployment)
        chain.register(self.encrypted.digest, EPOCH, NO_CIRCUIT)
        with RexisClient(url, self.owner) as owner:
            owner.upload_blob(self.encrypted.model)
            owner.register_model(
                ModelRegistration(model_digest=self.encrypted.digest, key_epoch=EPOCH, circuit=NO_CIRCUIT, vka=[])
            )
        with RexisClient(url, self.requester) as requester:
            requester.upload_blob(self.dataset.to_bytes())
            requester.register_dataset(self.dataset.digest)

    def request(self, coordinator: Address, *, count: int, shard: int, opened: int, number: int) -> JobRequest:
        """The request of one job on the first `count` records."""
        policy = Policy(
            tier=Tier.COMMIT, sample_size=opened, shard_size=shard, max_attempts=3, abs_tolerance_e9=1_000_000,
            rel_tolerance_e9=1_000_000, rung=Rung.EE_OUTSOURCED, validators=0, certify_on_chain=False,
        )  # fmt: skip
        return JobRequest(
            kind=Kind.EVALUATION,
            model_digest=self.encrypted.digest,
            key_epoch=EPOCH,
            circuit=NO_CIRCUIT,
            dataset_digest=self.dataset.digest,
            input_root=self._root,
            input_size=len(self.dataset),
            record_start=0,
            record_count=count,
            policy=policy,
            requester=address_of(self.requester),
            coordinator=coordinator,
            nonce=sha256(b"job", number.to_bytes(8, "big")),
        )

    @cached_property
    def _root(self) -> Digest:
        return input_root(Tier.COMMIT, NO_CIRCUIT, self.dataset.records, self.dataset.salts)
