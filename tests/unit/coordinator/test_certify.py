"""On-chain certification when somebody else is quicker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from contracts.artefacts import ContractError
from contracts.chain import RevertError
from rexis.protocol.digests import Digest, sha256
from tests.unit.coordinator.scene import Scene

STATEMENT, STRANGERS = sha256(b"statement"), sha256(b"a stranger's transaction")


class FrontRun:
    """A Certifier where a stranger's copy of each call is mined first."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.certified: set[int] = set()

    def register_vka(self, vka: object) -> None:
        pass

    def is_record_certified(self, digest: Digest, offset: int) -> bool:
        return offset in self.certified

    def certify_record(self, *call: Any) -> Any:
        self.certified.add(call[3].index)
        raise RevertError("the contract refused", ContractError(self.reason, {}))

    def find_certified(self, digest: Digest, index: int, since_block: int) -> Digest | None:
        return STRANGERS if index in self.certified else None


def certify(scene: Scene, chain: FrontRun, monkeypatch: pytest.MonkeyPatch) -> list[Digest]:
    certificates = scene.coordinator.certificates
    monkeypatch.setattr(certificates, "_chain", lambda: chain)
    monkeypatch.setattr("coordinator.certificates.vka_words", lambda *_: [])
    scene.publish()
    real = scene.submit().tasks[0]
    task: Any = SimpleNamespace(task_id=str(real.task_id), start=0, count=2, statement_digest=str(STATEMENT))
    evidence: Any = SimpleNamespace(
        statement=None,
        signature=b"",
        openings=[SimpleNamespace(index=index) for index in range(2)],
        proofs=[SimpleNamespace(proof=b"") for _ in range(2)],
    )
    anchor: Any = SimpleNamespace(anchor_id=0, leaf_index=0, path=[], block_number=1)
    request: Any = SimpleNamespace(model_digest=sha256(b"model"), key_epoch=1)
    return certificates._certify(request, task, evidence, anchor)


def test_a_record_that_a_stranger_certified_first_is_certified(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    assert certify(scene, FrontRun("AlreadyCertified"), monkeypatch) == [STRANGERS, STRANGERS]


def test_another_refusal_stays_one(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RevertError):
        certify(scene, FrontRun("ProofRejected"), monkeypatch)
