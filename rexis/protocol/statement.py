"""Job requests and statements: the two things that are signed.

The same 32 bytes of a statement are signed by a worker, stored, put in the anchor tree and recomputed in Solidity.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from typing import Annotated

from pydantic import Field, model_validator

from rexis.protocol.circuit import NO_CIRCUIT, Circuit, Visibility
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.parsing import UINT8, WRITE_ENUM, Address, AddressField, DigestField, UInt16, UInt64, read_enum
from rexis.protocol.policy import Policy, Rung, Tier, TierField
from rexis.protocol.typed_data import Domain, Struct

STATEMENT_VERSION = 1
_TASK_DOMAIN = b"rexis.task.v1\0"


class Kind(IntEnum):
    """What a job does."""

    EVALUATION = 1
    TRAINING = 2


KindField = Annotated[Kind, read_enum(Kind), WRITE_ENUM, UINT8]
Positive = Annotated[UInt64, Field(ge=1)]


class JobRequest(Struct):
    """What a requester signs. Its EIP-712 digest is the job id, so the same request is the same job.

    Attributes
    ----------
    model_digest
        SHA-256 of the encrypted model's ONNX bytes.
    key_epoch
        Epoch of the EE key that the model and the records were encrypted with.
    circuit
        The registered circuit; :data:`NO_CIRCUIT` for tier ``commit``.
    dataset_digest
        SHA-256 of the dataset blob.
    input_root, input_size
        Root and size of the tree over all the dataset's records, in the tier's encoding.
    record_start, record_count
        The slice of the dataset to evaluate.
    coordinator
        The address whose chain transactions count for this job.
    nonce
        Chosen by the client.
    """

    kind: KindField
    model_digest: DigestField
    key_epoch: Positive
    circuit: Circuit
    dataset_digest: DigestField
    input_root: DigestField
    input_size: Positive
    record_start: UInt64
    record_count: Positive
    policy: Policy
    requester: AddressField
    coordinator: AddressField
    nonce: DigestField

    @model_validator(mode="after")
    def _consistent(self) -> JobRequest:
        if self.record_start + self.record_count > self.input_size:
            raise ValueError("recordStart + recordCount lies beyond inputSize")
        _require_circuit_for(self.kind, self.policy.tier, self.circuit)
        if (self.policy.rung == Rung.ZK_ONSITE) != (self.circuit.visibility == Visibility.HASHED):
            raise ValueError("rung zk-onsite and a circuit with hashed inputs go together")
        return self

    def job_id(self, domain: Domain) -> Digest:
        """EIP-712 digest of this request."""
        return domain.digest(self)

    @property
    def shard_count(self) -> int:
        """How many tasks there are."""
        return -(-self.record_count // self.policy.shard_size)

    def shards(self) -> list[tuple[int, int]]:
        """The (start, count) of each task: contiguous, in order, covering the job exactly."""
        end = self.record_start + self.record_count
        size = self.policy.shard_size
        return [(start, min(size, end - start)) for start in range(self.record_start, end, size)]


class Statement(Struct):
    """What is claimed about one task: this model on these inputs gave these outputs."""

    version: UInt16
    job_id: DigestField
    task_id: DigestField
    kind: KindField
    model_digest: DigestField
    key_epoch: Positive
    circuit: Circuit
    input_root: DigestField
    input_size: Positive
    output_root: DigestField
    record_start: UInt64
    record_count: Positive
    tier: TierField
    policy_digest: DigestField
    worker: AddressField
    nonce: DigestField

    @model_validator(mode="after")
    def _consistent(self) -> Statement:
        if self.version != STATEMENT_VERSION:
            raise ValueError(f"this reader knows statement version {STATEMENT_VERSION} only")
        if self.record_start + self.record_count > self.input_size:
            raise ValueError("recordStart + recordCount lies beyond inputSize")
        _require_circuit_for(self.kind, self.tier, self.circuit)
        return self


@lru_cache(maxsize=256)
def policy_digest(policy: Policy) -> Digest:
    """``hashStruct`` of a policy."""
    return Digest(policy.hash_struct())


def task_id(job_id: Digest, start: int, count: int) -> Digest:
    """Id of the task that covers records ``start … start+count-1`` of a job."""
    return sha256(_TASK_DOMAIN, job_id, start.to_bytes(8, "big"), count.to_bytes(8, "big"))


def statement_for(
    request: JobRequest,
    domain: Domain,
    *,
    start: int,
    count: int,
    output_root: Digest,
    worker: Address,
    nonce: Digest,
) -> Statement:
    """The statement a worker makes about one shard of a job; everything but the output follows from the request."""
    job = request.job_id(domain)
    return Statement(
        version=STATEMENT_VERSION,
        job_id=job,
        task_id=task_id(job, start, count),
        kind=request.kind,
        model_digest=request.model_digest,
        key_epoch=request.key_epoch,
        circuit=request.circuit,
        input_root=request.input_root,
        input_size=request.input_size,
        output_root=output_root,
        record_start=start,
        record_count=count,
        tier=request.policy.tier,
        policy_digest=policy_digest(request.policy),
        worker=worker,
        nonce=nonce,
    )


def _require_circuit_for(kind: Kind, tier: Tier, circuit: Circuit) -> None:
    if (tier == Tier.COMMIT or kind == Kind.TRAINING) != (circuit == NO_CIRCUIT):
        raise ValueError("tier commit and training have no circuit; tiers sampled and zk of evaluations need one")
