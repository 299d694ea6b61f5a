"""A chain in memory, a clock that is set by hand, and a small model, dataset and worker made of protocol functions."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from eth_account.signers.local import LocalAccount

from contracts.accountability import Accountability
from contracts.accountable import RecordedVerdict, Validator
from contracts.artefacts import ContractError
from contracts.node import RevertError
from contracts.onchain import Anchored, Committed, Deployment, Registration
from contracts.sending import Call, Fees, Receipt, Signed
from coordinator.services import Coordinator
from coordinator.settings import Settings
from rexis.api import Lease
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import ZERO_DIGEST, Digest, sha256
from rexis.protocol.errors import ChainError, NotFoundError, UnavailableError
from rexis.protocol.evidence import Evidence, Measured
from rexis.protocol.parsing import Address
from rexis.protocol.policy import Policy, Rung, Tier
from rexis.protocol.records import Floats, TaskTrees, input_root
from rexis.protocol.signing import address_of, new_account, sign_digest
from rexis.protocol.statement import JobRequest, Kind, Statement, statement_for
from rexis.protocol.tensors import Dataset, pack_outputs
from rexis.protocol.validation import Finding

MODEL = b"an encrypted model"
MODEL_DIGEST = sha256(MODEL)


def address(number: int) -> Address:
    return Address.from_bytes(number.to_bytes(20, "big"))


DEPLOYMENT = Deployment.on(31337)


class Crash(BaseException):
    """The process dies here. Not an Exception, so that nothing handles it."""


@dataclass
class FakeLedger:
    """An EvidenceLog, a ModelRegistry, a Certifier and a ValidatorQuorum that mine one block a transaction.

    Attributes
    ----------
    down
        No node answers.
    crash_after
        Die after this kind of transaction was mined, before its receipt is seen.
    crash_before
        Die after this kind of transaction was sent, before it is mined: :meth:`mine` does that.
    crash_unsigned
        Die before this kind of transaction is signed.
    refuses
        Name of the error with which the Certifier refuses; with ``AlreadyCertified`` somebody else was first.
    holding
        Transactions wait for :meth:`mine`.
    """

    account: LocalAccount
    head: int = 10
    down: bool = False
    crash_after: str | None = None
    crash_before: str | None = None
    crash_unsigned: str | None = None
    refuses: str | None = None
    holding: bool = False
    fee_cap: int | None = None
    market: int = 100
    fork: int = 0
    forked_at: int = 10**9
    strangers: int = 0
    certified: dict[tuple[Digest, int], Digest] = field(default_factory=dict)
    validators: dict[int, Validator] = field(default_factory=dict)
    verdicts: dict[Digest, RecordedVerdict] = field(default_factory=dict)
    mempool: dict[int, bytes] = field(default_factory=dict)
    mined: list[tuple[int, int, Receipt, bytes]] = field(default_factory=list)  # nonce, block, receipt, raw
    models: dict[tuple[Digest, int], Registration] = field(default_factory=dict)
    owners: dict[Digest, Address] = field(default_factory=dict)
    commitments: list[tuple[Committed, Digest]] = field(default_factory=list)
    anchors: list[tuple[Anchored, Digest]] = field(default_factory=list)

    def __call__(self) -> FakeLedger:
        self._up()
        return self

    @property
    def address(self) -> Address:
        return address_of(self.account)

    @property
    def sent(self) -> int:
        """Records that were sent to the Certifier."""
        waiting = [*self.mempool.values(), *(raw for _, _, _, raw in self.mined)]
        return sum(json.loads(raw)["what"] == "certify" for raw in waiting)

    # --- the chain

    def block_number(self) -> int:
        self._up()
        return self.head

    def newest(self) -> tuple[int, Digest]:
        return self.block_number(), self._hash(self.head)

    def block_hash(self, number: int, *, wait_s: float = 0.0, confirmations: int = 0) -> Digest:
        self._up()
        if number + confirmations > self.head:
            raise UnavailableError(f"block {number} has not come")
        return self._hash(number)

    def drop(self, blocks: int) -> None:
        """A reorganisation: as many blocks are made anew, and their transactions wait again."""
        self.forked_at, self.fork = self.head - blocks + 1, self.fork + 1
        for nonce, block, receipt, raw in self.mined:
            if block >= self.forked_at:
                self.mempool[nonce] = raw
                self.anchors = [one for one in self.anchors if one[1] != receipt.hash]
                self.commitments = [one for one in self.commitments if one[1] != receipt.hash]
        self.mined = [one for one in self.mined if one[1] < self.forked_at]

    def mine(self) -> None:
        """Mine what waits."""
        while (raw := self.mempool.pop(self.nonces()[0], None)) is not None:
            self._include(raw)

    # --- transactions, as contracts.sending has them

    def anchoring(self, root: Digest, size: int) -> Call:
        return self._call("anchor", root=str(root), size=size)

    def committing(self, task_id: Digest, statement_digest: Digest) -> Call:
        return self._call("commit", task=str(task_id), statement=str(statement_digest))

    def certifying(  # type: ignore[no-untyped-def]
        self, statement, signature, anchor, opening, proof, vka
    ) -> Call:
        return self._call("certify", statement=str(DEPLOYMENT.domain.digest(statement)), index=opening.index)

    def recording(self, statement_digest: Digest, finding: Finding, slots: list[int], signature: bytes) -> Call:
        return self._call("verdict", statement=str(statement_digest), finding=int(finding), slots=sorted(slots))

    def nothing(self) -> Call:
        return self._call("nothing")

    def gas(self, call: Call) -> int:
        self._up()
        wanted = json.loads(call.data)
        if wanted["what"] == "certify":
            record = Digest.parse(wanted["statement"]), wanted["index"]
            if self.refuses == "AlreadyCertified":
                self.head += 1
                self.certified[record] = sha256(b"a stranger's", self.head.to_bytes(8, "big"))
            if self.refuses is not None:
                name = self.refuses or None
                raise RevertError(
                    f"the contract refused: {name or 'no reason given'}", ContractError(name, {}) if name else None
                )
            if record in self.certified:
                raise RevertError("the contract refused", ContractError("AlreadyCertified", {}))
        if wanted["what"] == "verdict" and Digest.parse(wanted["statement"]) in self.verdicts:
            raise RevertError("the contract refused", ContractError("AlreadyRecorded", {}))
        return 21_000

    def fees(self) -> Fees:
        self._up()
        return Fees(self.market, self.market // 10)

    def base_fee(self) -> int:
        return self.market // 2

    def nonces(self) -> tuple[int, int]:
        self._up()
        mined = len(self.mined) + self.strangers
        pending = mined
        while pending in self.mempool:
            pending += 1
        return mined, pending

    def nonces_at(self, block: int) -> int:
        return self.strangers + sum(mined_in <= block for _, mined_in, _, _ in self.mined)

    def sign(self, call: Call, gas: int, nonce: int, fees: Fees) -> Signed:
        if self.crash_unsigned == json.loads(call.data)["what"]:
            self.crash_unsigned = None
            raise Crash
        return self._signed({**json.loads(call.data), "nonce": nonce}, fees)

    def sign_again(self, raw: bytes, fees: Fees) -> Signed:
        return self._signed(json.loads(raw), fees)

    def broadcast(self, raw: bytes) -> None:
        self._up()
        wanted = json.loads(raw)
        if any(one == raw for _, _, _, one in self.mined) or raw in self.mempool.values():
            return
        if wanted["nonce"] < self.nonces()[0]:
            raise ChainError("the chain node refused: nonce too low")
        before = self.mempool.get(wanted["nonce"])
        if before is not None and json.loads(before)["fee"] * 1.1 > wanted["fee"]:
            raise ChainError("the chain node refused: replacement transaction underpriced")
        self.mempool[wanted["nonce"]] = raw
        if self.crash_before == wanted["what"]:
            self.crash_before = None
            raise Crash
        if not self.holding:
            self.mine()
        if self.crash_after == wanted["what"]:
            self.crash_after = None
            raise Crash

    def receipt(self, digest: Digest) -> Receipt | None:
        self._up()
        return next((receipt for _, _, receipt, _ in self.mined if receipt.hash == digest), None)

    def nonce_of(self, digest: Digest) -> int:
        return next(nonce for nonce, _, receipt, _ in self.mined if receipt.hash == digest)

    def anchored_in(self, digest: Digest) -> Anchored:
        return next(made for made, transaction in self.anchors if transaction == digest)

    def committed_in(self, digest: Digest) -> Committed:
        return next(made for made, transaction in self.commitments if transaction == digest)

    # --- the contracts

    def registration(self, model_digest: Digest, key_epoch: int) -> Registration:
        self._up()
        if (model_digest, key_epoch) not in self.models:
            raise NotFoundError("not registered")
        return self.models[model_digest, key_epoch]

    def owner_of(self, model_digest: Digest) -> Address:
        self._up()
        return self.owners[model_digest]

    def attempts(self, submitter: Address, task_id: Digest) -> int:
        self._up()
        return sum(made.task_id == task_id and made.submitter == submitter for made, _ in self.commitments)

    def commit(self, task_id: Digest, statement_digest: Digest) -> None:
        """A commitment by a hand of its own: with the coordinator's wallet, but not through its outbox."""
        call = self.committing(task_id, statement_digest)
        self._include(self._signed({**json.loads(call.data), "nonce": self.nonces()[0]}, self.fees()).raw)

    def find_commitment(
        self, task_id: Digest, statement_digest: Digest, since_block: int
    ) -> tuple[Committed, Digest] | None:
        self._up()
        wanted = (task_id, statement_digest)
        return next((one for one in self.commitments if (one[0].task_id, one[0].statement_digest) == wanted), None)

    def find_anchor(self, root: Digest, size: int, since_block: int) -> tuple[Anchored, Digest] | None:
        self._up()
        return next((one for one in self.anchors if one[0].root == root), None)

    def is_vka_registered(self, vka_digest: Digest) -> bool:
        self._up()
        return True

    def is_record_certified(self, statement_digest: Digest, offset: int) -> bool:
        self._up()
        return (statement_digest, offset) in self.certified

    def find_certified(
        self, statement_digest: Digest, record_index: int, since_block: int, confirmations: int
    ) -> Digest | None:
        self._up()
        return self.certified.get((statement_digest, record_index))

    def validator_in(self, slot: int) -> Validator | None:
        self._up()
        return self.validators.get(slot)

    def active_validator_stake(self) -> int:
        self._up()
        return sum(one.active for one in self.validators.values())

    def verdict_on(self, digest: Digest) -> Finding | None:
        self._up()
        return self.verdicts[digest].finding if digest in self.verdicts else None

    def find_verdict(self, digest: Digest, since_block: int, confirmations: int = 0) -> RecordedVerdict | None:
        found = self.verdicts.get(digest)
        return found if found is not None and since_block <= found.block <= self.head - confirmations else None

    def record_verdict(self, digest: Digest, finding: Finding, slots: list[int], transaction: Digest) -> None:
        """What the contract writes down, whoever sent it."""
        stake = sum(self.validators[slot].active for slot in slots)
        active = self.active_validator_stake()
        self.verdicts[digest] = RecordedVerdict(finding, tuple(slots), stake, active, self.head, transaction)

    def register_model(
        self, owner: Address, epoch: int = 1, revoked_at: int | None = None, digest: Digest = MODEL_DIGEST
    ) -> None:
        circuit_hash = Digest(NO_CIRCUIT.hash_struct())
        self.owners.setdefault(digest, owner)
        self.models[digest, epoch] = Registration(owner, circuit_hash, ZERO_DIGEST, ZERO_DIGEST, 5, revoked_at)

    # --- inside

    def _up(self) -> None:
        if self.down:
            raise UnavailableError("no chain node answers")

    def _hash(self, number: int) -> Digest:
        fork = self.fork if number >= self.forked_at else 0
        return sha256(b"block", number.to_bytes(8, "big"), bytes([fork]))

    def _call(self, what: str, **fields: object) -> Call:
        return Call(self.address, json.dumps({"what": what, **fields}).encode())

    def _signed(self, fields: dict[str, object], fees: Fees) -> Signed:
        raw = json.dumps({**fields, "fee": fees.most}).encode()
        return Signed(sha256(raw), raw, fees)

    def _include(self, raw: bytes) -> None:
        """Mine one transaction, in a block of its own."""
        self._up()
        self.head += 1
        made, digest = json.loads(raw), sha256(raw)
        receipt = Receipt(digest, self.head, self._hash(self.head), 21_000, 21_000 * 10**9, succeeded=True)
        self.mined.append((made["nonce"], self.head, receipt, raw))
        if made["what"] == "anchor":
            anchor_id = len(self.anchors)
            anchored = Anchored(anchor_id, Digest.parse(made["root"]), made["size"], self.head, self.address)
            self.anchors.append((anchored, digest))
        if made["what"] == "commit":
            task, statement = Digest.parse(made["task"]), Digest.parse(made["statement"])
            attempt = self.attempts(self.address, task) + 1
            self.commitments.append((Committed(self.address, task, attempt, statement, self.head), digest))
        if made["what"] == "certify":
            self.certified[Digest.parse(made["statement"]), made["index"]] = digest
        if made["what"] == "verdict":
            self.record_verdict(Digest.parse(made["statement"]), Finding(made["finding"]), made["slots"], digest)


@dataclass
class FakeClock:
    """Milliseconds that pass when told to."""

    now: int = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += int(seconds * 1000)


def make_coordinator(
    folder: Path,
    ledger: FakeLedger,
    clock: FakeClock | None = None,
    accountability: Accountability | None = None,
    **settings: object,
) -> Coordinator:
    """A coordinator whose state lies in `folder`: made again there, it is the same one restarted."""
    made = Settings(data_dir=folder, **{"retry_seconds": 0, **settings})  # type: ignore[arg-type]
    return Coordinator(
        made,
        DEPLOYMENT,
        ledger.account,
        chain=ledger,  # type: ignore[arg-type]
        clock=clock or FakeClock(),
        accountability=accountability,
    )


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
