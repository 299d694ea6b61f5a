"""A chain in memory, a clock that is set by hand, and a small model, dataset and worker made of protocol functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from eth_account.signers.local import LocalAccount

from contracts.node import Transaction
from contracts.onchain import Anchored, Committed, Deployment, Registration
from coordinator.services import Coordinator
from coordinator.settings import Settings
from rexis.api import Lease
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import ZERO_DIGEST, Digest, sha256
from rexis.protocol.errors import NotFoundError, UnavailableError
from rexis.protocol.evidence import Evidence, Measured
from rexis.protocol.parsing import Address
from rexis.protocol.policy import Policy, Rung, Tier
from rexis.protocol.records import Floats, TaskTrees, input_root
from rexis.protocol.signing import address_of, new_account, sign_digest
from rexis.protocol.statement import JobRequest, Kind, Statement, statement_for
from rexis.protocol.tensors import Dataset, pack_outputs

MODEL = b"an encrypted model"
MODEL_DIGEST = sha256(MODEL)


def address(number: int) -> Address:
    return Address.from_bytes(number.to_bytes(20, "big"))


DEPLOYMENT = Deployment.on(31337)


class Crash(BaseException):
    """The process dies here. Not an Exception, so that nothing handles it."""


@dataclass
class FakeLedger:
    """An EvidenceLog and a ModelRegistry that mine one block a transaction.

    Attributes
    ----------
    down
        No node answers.
    crash_after
        Die after this kind of transaction was mined, before its receipt is seen.
    """

    account: LocalAccount
    head: int = 10
    down: bool = False
    crash_after: str | None = None
    models: dict[tuple[Digest, int], Registration] = field(default_factory=dict)
    commitments: list[tuple[Committed, Digest]] = field(default_factory=list)
    anchors: list[tuple[Anchored, Digest]] = field(default_factory=list)

    def __call__(self) -> FakeLedger:
        self._up()
        return self

    @property
    def address(self) -> Address:
        return address_of(self.account)

    def block_number(self) -> int:
        self._up()
        return self.head

    def block_hash(self, number: int, *, wait_s: float = 0.0, confirmations: int = 0) -> Digest:
        self._up()
        if number + confirmations > self.head:
            raise UnavailableError(f"block {number} has not come")
        return sha256(b"block", number.to_bytes(8, "big"))

    def registration(self, model_digest: Digest, key_epoch: int) -> Registration:
        self._up()
        if (model_digest, key_epoch) not in self.models:
            raise NotFoundError("not registered")
        return self.models[model_digest, key_epoch]

    def attempts(self, submitter: Address, task_id: Digest) -> int:
        self._up()
        return sum(made.task_id == task_id and made.submitter == submitter for made, _ in self.commitments)

    def commit(self, task_id: Digest, statement_digest: Digest) -> tuple[Committed, Transaction]:
        transaction = self._mine("commit")
        attempt = self.attempts(self.address, task_id) + 1
        made = Committed(self.address, task_id, attempt, statement_digest, self.head)
        self.commitments.append((made, transaction.hash))
        self._maybe_crash("commit")
        return made, transaction

    def find_commitment(
        self, task_id: Digest, statement_digest: Digest, since_block: int
    ) -> tuple[Committed, Digest] | None:
        self._up()
        wanted = (task_id, statement_digest)
        return next((one for one in self.commitments if (one[0].task_id, one[0].statement_digest) == wanted), None)

    def anchor(self, root: Digest, size: int) -> tuple[Anchored, Transaction]:
        transaction = self._mine("anchor")
        made = Anchored(len(self.anchors), root, size, self.head, self.address)
        self.anchors.append((made, transaction.hash))
        self._maybe_crash("anchor")
        return made, transaction

    def find_anchor(self, root: Digest, size: int, since_block: int) -> tuple[Anchored, Digest] | None:
        self._up()
        return next((one for one in self.anchors if one[0].root == root), None)

    def require_settled(self) -> None:
        self._up()

    def register_model(self, owner: Address, epoch: int = 1, revoked_at: int | None = None) -> None:
        circuit_hash = Digest(NO_CIRCUIT.hash_struct())
        self.models[MODEL_DIGEST, epoch] = Registration(owner, circuit_hash, ZERO_DIGEST, ZERO_DIGEST, 5, revoked_at)

    def _up(self) -> None:
        if self.down:
            raise UnavailableError("no chain node answers")

    def _mine(self, what: str) -> Transaction:
        self._up()
        self.head += 1
        return Transaction(sha256(what.encode(), self.head.to_bytes(8, "big")), self.head, 21_000)

    def _maybe_crash(self, what: str) -> None:
        if self.crash_after == what:
            self.crash_after = None
            raise Crash


@dataclass
class FakeClock:
    """Milliseconds that pass when told to."""

    now: int = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += int(seconds * 1000)


def make_coordinator(
    folder: Path, ledger: FakeLedger, clock: FakeClock | None = None, **settings: object
) -> Coordinator:
    """A coordinator whose state lies in `folder`: made again there, it is the same one restarted."""
    made = Settings(data_dir=folder, **settings)  # type: ignore[arg-type]
    return Coordinator(made, DEPLOYMENT, ledger.account, chain=ledger, clock=clock or FakeClock())  # type: ignore[arg-type]


def make_dataset(count: int = 5, width: int = 4) -> Dataset:
    rng = np.random.default_rng(1)
    return Dataset(
        rng.normal(size=(count, width)).astype(np.float32), rng.integers(0, 256, (count, 32)).astype(np.uint8)
    )


def make_policy(**changes: object) -> Policy:
    fields: dict[str, object] = {
        "tier": Tier.COMMIT,
        "sample_size": 2,
        "shard_size": 3,
        "max_attempts": 2,
        "abs_tolerance_e9": 0,
        "rel_tolerance_e9": 0,
        "rung": Rung.EE_OUTSOURCED,
        "validators": 0,
        "certify_on_chain": False,
    }
    return Policy(**{**fields, **changes})  # type: ignore[arg-type]


def make_request(dataset: Dataset, requester: Address, served_by: Address, **changes: object) -> JobRequest:
    fields: dict[str, object] = {
        "kind": Kind.EVALUATION,
        "model_digest": MODEL_DIGEST,
        "key_epoch": 1,
        "circuit": NO_CIRCUIT,
        "dataset_digest": dataset.digest,
        "input_root": input_root(Tier.COMMIT, NO_CIRCUIT, dataset.records, dataset.salts),
        "input_size": len(dataset),
        "record_start": 0,
        "record_count": len(dataset),
        "policy": make_policy(),
        "requester": requester,
        "coordinator": served_by,
        "nonce": sha256(b"nonce"),
    }
    return JobRequest(**{**fields, **changes})  # type: ignore[arg-type]


def evaluate(records: Floats) -> Floats:
    """The model."""
    return np.stack([records.sum(axis=1), records.max(axis=1)], axis=1).astype(np.float32)


@dataclass
class FakeWorker:
    """A worker of tier ``commit``, made of protocol functions."""

    account: LocalAccount = field(default_factory=new_account)

    @property
    def address(self) -> Address:
        return address_of(self.account)

    def outputs(self, lease: Lease, dataset: Dataset) -> Floats:
        return evaluate(dataset.records[lease.start : lease.start + lease.count])

    def statement(self, lease: Lease, dataset: Dataset, outputs: Floats) -> Statement:
        trees = TaskTrees(Tier.COMMIT, NO_CIRCUIT, dataset.records, dataset.salts, lease.start, outputs)
        return statement_for(
            lease.request,
            lease.domain,
            start=lease.start,
            count=lease.count,
            output_root=trees.output_root,
            worker=self.address,
            nonce=lease.nonce,
        )

    def work(
        self, lease: Lease, dataset: Dataset, *, outputs: Floats | None = None, signer: LocalAccount | None = None
    ) -> tuple[bytes, Evidence]:
        """The outputs' blob and the evidence."""
        outputs = self.outputs(lease, dataset) if outputs is None else outputs
        blob = pack_outputs(outputs)
        return blob, self.sign(lease, self.statement(lease, dataset, outputs), blob, signer)

    def sign(self, lease: Lease, statement: Statement, blob: bytes, signer: LocalAccount | None = None) -> Evidence:
        return Evidence(
            statement=statement,
            signature=sign_digest(signer or self.account, lease.domain.digest(statement)),
            outputs_digest=sha256(blob),
            openings=[],
            proofs=[],
            measured=Measured(
                max_abs_error_e9=0, rms_error_e9=0, compute_ms=1, prove_ms=0, provider="CPUExecutionProvider"
            ),
        )
