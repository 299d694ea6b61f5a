"""A zoo model under an EE key, with records and a job, as a worker and a checker meet them.

What is encrypted is the model after the rewrites that its circuit was tuned for, as in `rexis demo`. The key comes
from a fixed seed, so that the circuit, its errors and the size of its proofs are the same in every run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx

from bench.costs.proof_parts import material_of
from circuits.build import ProvingCircuit
from circuits.profile import rewrites_for, tuned_models
from circuits.rewrites import rewrite
from contracts.devchain import CHAIN_ID
from contracts.onchain import Deployment
from models.zoo import held_out, load_manifest, load_model_bytes
from provers.executor import OnnxExecutor
from rexis.api import Lease
from rexis.ee import decrypt_outputs, encrypt_records
from rexis.ee.compiler import encrypt_model
from rexis.protocol.circuit import NO_CIRCUIT, Circuit
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.policy import Policy, Rung, Tier
from rexis.protocol.records import SALT_BYTES, Floats, Integers, dequantise, input_root
from rexis.protocol.signing import address_of, new_account, sign_digest
from rexis.protocol.statement import JobRequest, Kind
from rexis.protocol.tensors import Dataset
from verifier.evidence import TaskContext

DOMAIN = Deployment.on(CHAIN_ID).domain
# Two ONNX Runtimes of one version differ by less; what an altered output is off by is 1 (provers.dishonest).
_TOLERANCE_E9 = 1_000_000


class Scene:
    """One model.

    Parameters
    ----------
    folder
        For the files that a worker reads: the encrypted model, datasets.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder, self.manifest = name, folder, load_manifest(name)
        self.plain = load_model_bytes(name)
        rewrites = rewrites_for(name) if name in tuned_models() else ()
        encrypted = encrypt_model(rewrite(self.plain, rewrites), epoch=1, seed=bytes(32))
        self.key, self.encrypted = encrypted.key, encrypted.model
        self.held_out, self.labels = held_out(name)
        folder.mkdir(parents=True)
        self.model_file, self.plain_file = folder / "model.onnx", folder / "plain.onnx"
        self.model_file.write_bytes(self.encrypted)
        self.plain_file.write_bytes(self.plain)
        self.requester, self.worker = new_account(), new_account()

    @cached_property
    def executor(self) -> OnnxExecutor:
        """The encrypted model."""
        return OnnxExecutor(self.model_file)

    @cached_property
    def plain_executor(self) -> OnnxExecutor:
        """The plain model."""
        return OnnxExecutor(self.plain_file)

    @property
    def parameters(self) -> int:
        """Numbers in the model's float constants."""
        graph = onnx.load_from_string(self.plain).graph
        floats = (tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT)
        return sum(math.prod(tensor.dims) for tensor in floats)

    def records(self, count: int) -> Floats:
        """Plain held-out records; where there are fewer, from the start again."""
        return np.resize(self.held_out, (count, *self.held_out.shape[1:]))

    def encrypted_records(self, count: int) -> Floats:
        """The same, as they travel."""
        return encrypt_records(self.key, self.records(count))

    def job(self, tier: Tier, count: int, sample: int, circuit: ProvingCircuit | None) -> Job:
        """A signed job of one task over `count` records."""
        random = np.random.default_rng()
        salts = random.integers(0, 256, (count, SALT_BYTES), dtype=np.uint8)
        dataset = Dataset(self.encrypted_records(count), salts)
        described = NO_CIRCUIT if circuit is None else circuit.artefacts.description
        request = JobRequest(
            kind=Kind.EVALUATION,
            model_digest=sha256(self.encrypted),
            key_epoch=1,
            circuit=described,
            dataset_digest=dataset.digest,
            input_root=input_root(tier, described, dataset.records, dataset.salts),
            input_size=count,
            record_start=0,
            record_count=count,
            policy=_policy(tier, count, sample),
            requester=address_of(self.requester),
            coordinator=address_of(self.requester),
            nonce=Digest(random.bytes(32)),
        )
        lease = Lease(
            lease_id="0" * 32,
            nonce=Digest(random.bytes(32)),
            expires_at="2100-01-01T00:00:00Z",
            heartbeat_seconds=60,
            domain=DOMAIN,
            request=request,
            request_signature=sign_digest(self.requester, request.job_id(DOMAIN)),
            start=0,
            count=count,
            vka=[],
        )
        return Job(self, lease, dataset, circuit)

    def decrypted(self, outputs: Floats | Integers, circuit: Circuit) -> Floats:
        """A task's outputs as the data owner sees them, ``[count, values]``."""
        floats = outputs.astype(np.float32)
        if outputs.dtype != np.float32:
            floats = dequantise(outputs.astype(np.int64), circuit.output_scale)
        shape = (len(outputs), *self.manifest.onnx.output_shape)
        return decrypt_outputs(self.key, floats.reshape(shape)).reshape(len(outputs), -1)

    def reference(self, count: int) -> Floats:
        """The plain model's outputs, ``[count, values]``."""
        return self.plain_executor.run(self.records(count)).reshape(count, -1)


@dataclass(frozen=True)
class Job:
    """One task, from both sides."""

    scene: Scene
    lease: Lease
    dataset: Dataset
    circuit: ProvingCircuit | None

    @property
    def request(self) -> JobRequest:
        """The signed request."""
        return self.lease.request

    def dataset_file(self) -> Path:
        """The dataset, as a worker downloads it."""
        path = self.scene.folder / f"dataset-{self.lease.count}"
        path.write_bytes(self.dataset.to_bytes())
        return path

    def context(self, block_hash: Digest | None) -> TaskContext:
        """What a checker knows of the task."""
        circuit = self.circuit
        return TaskContext(
            domain=DOMAIN,
            request=self.request,
            start=0,
            count=self.lease.count,
            worker=address_of(self.scene.worker),
            nonce=self.lease.nonce,
            block_hash=block_hash,
            material=None if circuit is None else material_of(circuit),
            srs=None if circuit is None else circuit.srs.path,
        )


def with_second_opinion(context: TaskContext) -> TaskContext:
    """The same, with every proof checked by the Solidity verifier in an EVM too."""
    return replace(context, second_opinion=True)


def _policy(tier: Tier, count: int, sample: int) -> Policy:
    return Policy(
        tier=tier,
        sample_size=sample,
        shard_size=count,
        max_attempts=1,
        abs_tolerance_e9=_TOLERANCE_E9,
        rel_tolerance_e9=_TOLERANCE_E9,
        rung=Rung.EE_OUTSOURCED,
        validators=0,
        certify_on_chain=False,
    )
