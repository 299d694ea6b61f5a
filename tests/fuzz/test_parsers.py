"""Every reader of bytes from outside: a value, or an error of the tree; nothing else, whatever the bytes are."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from circuits.settings import CircuitSettings, canonical
from coordinator.auth import Auth
from coordinator.ranges import _range
from coordinator.roles import read_members
from rexis.api import (
    AuditEntry,
    CommitmentSubmission,
    EvidenceBatch,
    JobSubmission,
    Lease,
    MemberChange,
    ModelRegistration,
    PieceProofs,
    Problem,
    TokenRequest,
    WorkerRegistration,
)
from rexis.ee.compiler import encrypt_model
from rexis.ee.container import parsed
from rexis.ee.keyformat import read_key, write_key
from rexis.ee.share import Recipient, RecipientKey, seal_key
from rexis.protocol.certificate import Certificate
from rexis.protocol.circuit import Circuit
from rexis.protocol.errors import RexisError
from rexis.protocol.evidence import Evidence
from rexis.protocol.login import login_message, require_login_to
from rexis.protocol.onsite import read_dataset, read_own_dataset
from rexis.protocol.parsing import Strict, canonical_json, load_json
from rexis.protocol.policy import Policy
from rexis.protocol.rung import SignedRungClaim
from rexis.protocol.signing import address_of, new_account
from rexis.protocol.statement import JobRequest, Statement
from rexis.protocol.tensors import Dataset, pack_outputs, pack_values, unpack_outputs, unpack_values
from rexis.wallet import wallet_address
from tests.fuzz.certificates import VECTORS
from tests.fuzz.mutations import altered
from tests.unit.circuits.settings_document import document
from tests.unit.coordinator.fakes import make_dataset
from tests.unit.ee.dense_networks import mlp

EXAMPLES = 10 * int(os.environ.get("REXIS_FUZZ_EXAMPLES", "6"))
ACCOUNT = new_account()
CERTIFICATES = {name: (VECTORS / name / "certificate.json").read_bytes() for name in ("commit", "sampled", "zk-onsite")}
SAMPLED = json.loads(CERTIFICATES["sampled"])
TASK = SAMPLED["tasks"][0]
CLAIMED = json.loads((VECTORS / "private-weights" / "certificate.json").read_bytes())
KEY = encrypt_model(mlp(5, 8, 2), epoch=4, seed=bytes(32)).key
HOSPITAL = RecipientKey.fresh()
MESSAGE = login_message(
    authority="h:1", uri="http://h:1", address=address_of(ACCOUNT), chain_id=1, nonce="a" * 64,
    issued_at="2026-01-01T00:00:00Z", expires_at="2026-01-01T00:05:00Z",
)  # fmt: skip
ONSITE = canonical_json(json.loads(CERTIFICATES["zk-onsite"])["request"])


@dataclass(frozen=True)
class Reader:
    """A reader with bytes that it takes; `reads` that they are, so that changed ones are nearly right."""

    read: Callable[[bytes], object]
    valid: list[bytes] = field(repr=False)
    reads: bool = True


def of(kind: type[Strict], *documents: object) -> Reader:
    return Reader(kind.from_json, [canonical_json(each) for each in documents])


def text(read: Callable[[str], object], *valid: str, reads: bool = True) -> Reader:
    return Reader(lambda data: read(data.decode("utf-8", "surrogateescape")), [each.encode() for each in valid], reads)


def _wallet(data: bytes) -> object:
    path = Path(_wallet.folder) / "wallet.json"  # type: ignore[attr-defined]
    path.write_bytes(data)
    path.chmod(0o600)
    return wallet_address(path)


def _issued(message: str) -> object:
    auth = object.__new__(Auth)
    auth._key = bytes(32)
    return auth._issued(message)


ENTRY = {
    "position": 1, "at": 1, "actor": "a", "action": "b", "object": "c", "outcome": "d", "previous": "0x" + "1" * 64,
    "digest": "0x" + "2" * 64,
}  # fmt: skip
PROBLEM = {"type": "t", "title": "t", "status": 400, "detail": "d", "code": "c", "requestId": "r"}
LEASE = {
    "leaseId": "0" * 32, "nonce": "0x" + "1" * 64, "expiresAt": "2026-01-01T00:00:00Z", "heartbeatSeconds": 1,
    "domain": SAMPLED["domain"], "request": SAMPLED["request"], "requestSignature": "0x00", "start": 0, "count": 1,
    "vka": [],
}  # fmt: skip
BATCH = {"items": [{"leaseId": "0" * 32, "evidence": TASK["evidence"], "outputs": "0x00"}]}
WORKER = {"name": "w", "provider": "p", "tiers": ["commit"], "memoryBytes": 1}
FLOATS, INTEGERS = np.ones((3, 2), np.float32), np.ones((3, 2), np.int64)
MEMBERS = {address_of(ACCOUNT): ["worker", "auditor"]}

READERS = {
    "JSON": Reader(load_json, [CERTIFICATES["commit"]]),
    "certificate": Reader(Certificate.parse, list(CERTIFICATES.values())),
    "evidence": of(Evidence, TASK["evidence"]),
    "statement": of(Statement, TASK["evidence"]["statement"]),
    "job request": of(JobRequest, SAMPLED["request"]),
    "policy": of(Policy, SAMPLED["request"]["policy"]),
    "circuit": of(Circuit, SAMPLED["request"]["circuit"]),
    "rung claim": of(SignedRungClaim, CLAIMED["rungClaim"]),
    "job": of(JobSubmission, {"request": SAMPLED["request"], "signature": "0x00"}),
    "commitment": of(CommitmentSubmission, {"statement": TASK["evidence"]["statement"], "signature": "0x00"}),
    "batch": of(EvidenceBatch, BATCH),
    "model": of(ModelRegistration, {
        "modelDigest": "0x" + "1" * 64, "keyEpoch": 1, "circuit": SAMPLED["request"]["circuit"],
        "vka": ["0x" + "1" * 64] * 3,
    }),
    "proofs": of(PieceProofs, {"proofs": ["0x00", "0x01"]}),
    "worker": of(WorkerRegistration, WORKER),
    "lease": of(Lease, LEASE),
    "problem": of(Problem, PROBLEM),
    "token request": of(TokenRequest, {"message": MESSAGE, "signature": "0x00"}),
    "member": of(MemberChange, {"roles": ["worker"]}),
    "audit entry": of(AuditEntry, ENTRY),
    "members file": Reader(read_members, [canonical_json(MEMBERS)]),
    "sign-in message": text(_issued, MESSAGE, reads=False),
    "message to sign": text(lambda each: require_login_to(each, authority="h:1", address=address_of(ACCOUNT)), MESSAGE),
    "range": text(lambda each: _range(each, 100), "bytes=0-9", "bytes=-5", "bytes=5-"),
    "dataset": Reader(read_dataset, [make_dataset().to_bytes()]),
    "own dataset": Reader(read_own_dataset, [make_dataset().to_bytes()]),
    "float dataset": Reader(Dataset.from_bytes, [make_dataset().to_bytes()]),
    "outputs": Reader(lambda data: unpack_outputs(data, count=3, fixed=False), [pack_outputs(FLOATS)]),
    "fixed outputs": Reader(lambda data: unpack_outputs(data, count=3, fixed=True), [pack_outputs(INTEGERS)]),
    "values": Reader(lambda data: unpack_values(data, count=3, widths=[2, 2]), [pack_values([INTEGERS, INTEGERS])]),
    "EE key": Reader(read_key, [write_key(KEY)]),
    "sealed key": Reader(HOSPITAL.open, [seal_key(KEY, HOSPITAL.recipient)]),
    "recipient": text(Recipient.parse, HOSPITAL.recipient.text),
    "ONNX model": Reader(parsed, [mlp(5, 8, 2).SerializeToString()]),
    "circuit settings": Reader(CircuitSettings.parse, [canonical(document())]),
    "wallet": Reader(_wallet, [canonical_json({"version": 3, "crypto": {}, "address": address_of(ACCOUNT)[2:]})]),
}  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> None:
    _wallet.folder = tmp_path  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [name for name, reader in READERS.items() if reader.reads])
def test_what_is_changed_was_right(name: str) -> None:
    for data in READERS[name].valid:
        READERS[name].read(data)


@pytest.mark.parametrize("name", READERS)
def test_a_value_or_an_error_of_the_tree(name: str) -> None:
    reader = READERS[name]

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @example(b"")
    @example(b"\x00" * 100)
    @example(b"\xff" * 100)
    @example(b"[" * 10_000)
    @example(b'{"a":' * 10_000)
    @example(b"9" * 10_000)
    @example((2**63 - 1).to_bytes(8, "little") + b"{}")
    @given(st.sampled_from(reader.valid).flatmap(altered))
    def run(data: bytes) -> None:
        try:
            reader.read(data)
        except RexisError as error:
            assert len(str(error)) < 20_000

    run()
