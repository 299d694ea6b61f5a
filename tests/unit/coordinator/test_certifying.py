"""On-chain certification: whoever was first, and wherever it is cut off, a record that is certified counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlmodel import select

from contracts.node import RevertError
from coordinator.services import Coordinator
from coordinator.tables import AnchorRow, AnchorState, CertifiedRow, JobRow, LeafRow, TaskRow
from rexis.api import JobState, TaskState
from rexis.protocol.digests import ZERO_DIGEST, sha256
from rexis.protocol.errors import ResourceError
from rexis.protocol.evidence import Evidence, Measured, RecordProof
from rexis.protocol.merkle import MerkleTree
from rexis.protocol.policy import Tier
from rexis.protocol.records import Opening
from rexis.protocol.statement import statement_for
from tests.unit.coordinator.fakes import Crash, FakeClock, FakeLedger, FakeWorker, make_coordinator, make_policy
from tests.unit.coordinator.scene import Scene
from tests.unit.coordinator.test_jobs import CIRCUIT


class Anchored:
    """A job of tier ``zk`` with everything but its records on chain. The proofs are none: the chain is a fake."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        scene.publish()
        policy = make_policy(tier=Tier.ZK, sample_size=0, shard_size=5, certify_on_chain=True)
        request = scene.request(policy=policy, circuit=CIRCUIT)
        coordinator = scene.coordinator
        domain = coordinator.deployment.domain
        self.job_id = request.job_id(domain)
        scene.keep_circuit(CIRCUIT)
        coordinator.jobs._insert(self.job_id, scene.sign(request))
        statement = statement_for(
            request,
            domain,
            start=0,
            count=5,
            output_root=sha256(b"outputs"),
            worker=FakeWorker().address,
            nonce=sha256(b"lease"),
        )
        opened = [
            Opening(index=i, salt=ZERO_DIGEST, input=b"\0" * 8, input_path=[], output=b"\0" * 8, output_path=[])
            for i in range(5)
        ]
        evidence = Evidence(
            statement=statement,
            signature=b"\0" * 65,
            outputs_digest=sha256(b"outputs"),
            openings=opened,
            proofs=[RecordProof(index=i, proofs=[b"proof"], boundaries=[]) for i in range(5)],
            measured=Measured(max_abs_error_e9=0, rms_error_e9=0, compute_ms=0, prove_ms=0, provider="none"),
        )
        self.digest = domain.digest(statement)
        stored = coordinator.blobs.put(evidence.to_json())
        with coordinator._store.writing() as session:
            session.add(
                AnchorRow(
                    id=1,
                    state=AnchorState.FINAL,
                    root=str(MerkleTree([self.digest]).root),
                    size=1,
                    since_block=1,
                    anchor_id=0,
                    block=2,
                    tx_hash=str(ZERO_DIGEST),
                )
            )
            session.flush()
            session.add(
                LeafRow(task_id=str(statement.task_id), anchor=1, leaf_index=0, statement_digest=str(self.digest))
            )
            task = session.get_one(TaskRow, str(statement.task_id))
            task.state, task.statement_digest = TaskState.ANCHORED, str(self.digest)
            task.evidence_digest = str(stored)
            session.add(task)
            job = session.get_one(JobRow, str(self.job_id))
            job.state = JobState.ANCHORING
            session.add(job)

    @property
    def coordinator(self) -> Coordinator:
        return self.scene.coordinator

    def turn(self) -> None:
        for job in self.coordinator.certifying.due():
            self.coordinator.certifying.advance(job)

    def finish(self) -> None:
        while self.coordinator.certifying.due():
            self.turn()

    def found(self) -> list[str | None]:
        with self.coordinator._store.reading() as session:
            rows = [session.get(CertifiedRow, (self.task, index)) for index in range(5)]
        return [row.tx_hash if row else None for row in rows]

    @property
    def task(self) -> str:
        with self.coordinator._store.reading() as session:
            return session.exec(select(LeafRow.task_id)).one()

    @property
    def state(self) -> JobState:
        with self.coordinator._store.reading() as session:
            return JobState(session.get_one(JobRow, str(self.job_id)).state)


@pytest.fixture
def anchored(scene: Scene) -> Anchored:
    return Anchored(scene)


@pytest.mark.each_database
def test_every_record_is_sent_once_and_a_few_at_a_time(anchored: Anchored, ledger: FakeLedger) -> None:
    assert anchored.coordinator.certificates.due() == []
    anchored.turn()
    assert 0 < ledger.sent < 5
    anchored.finish()
    assert ledger.sent == 5
    assert anchored.found() == [str(ledger.certified[anchored.digest, index]) for index in range(5)]
    assert anchored.coordinator.certificates.due() == [str(anchored.job_id)]


def test_killed_while_the_transaction_waits_to_be_mined(
    anchored: Anchored, ledger: FakeLedger, tmp_path: Path, clock: FakeClock
) -> None:
    ledger.holding, ledger.crash_before = True, "certify"
    with pytest.raises(Crash):
        anchored.turn()
    anchored.coordinator.close()
    url = anchored.coordinator.settings.database_url
    anchored.scene.coordinator = make_coordinator(tmp_path, ledger, clock, database_url=url)
    anchored.turn()
    anchored.turn()
    assert 1 < ledger.sent < 5  # the others, and nothing a second time
    assert anchored.found() == [None] * 5
    ledger.holding = False
    ledger.mine()
    anchored.finish()
    assert ledger.sent == 5
    assert None not in anchored.found()
    assert anchored.state == JobState.ANCHORING


@pytest.mark.each_database
def test_killed_between_the_block_and_the_receipt(anchored: Anchored, ledger: FakeLedger) -> None:
    ledger.crash_after = "certify"
    with pytest.raises(Crash):
        anchored.turn()
    anchored.finish()
    assert ledger.sent == 5


@pytest.mark.each_database
def test_somebody_else_was_first(anchored: Anchored, ledger: FakeLedger) -> None:
    ledger.refuses = "AlreadyCertified"
    anchored.finish()
    assert anchored.state == JobState.ANCHORING
    assert anchored.found() == [str(ledger.certified[anchored.digest, index]) for index in range(5)]


@pytest.mark.parametrize("name", ["", "NotAnchored", "VkaNotRegistered"])
def test_what_may_pass_does_not_fail_the_job(anchored: Anchored, ledger: FakeLedger, name: str) -> None:
    ledger.refuses = name
    with pytest.raises(RevertError):
        anchored.turn()
    assert anchored.state == JobState.ANCHORING
    ledger.refuses = None
    anchored.finish()
    assert None not in anchored.found()


@pytest.mark.parametrize("name", ["ProofRejected", "ModelNotActive"])
def test_what_the_chain_decided_fails_the_job(anchored: Anchored, ledger: FakeLedger, name: str) -> None:
    ledger.refuses = name
    anchored.finish()
    assert anchored.state == JobState.FAILED


def test_a_job_that_has_ended_is_left_alone(anchored: Anchored, ledger: FakeLedger) -> None:
    ledger.refuses = "ProofRejected"
    with anchored.coordinator._store.writing() as session:
        session.get_one(JobRow, str(anchored.job_id)).state = JobState.CERTIFIED
    anchored.coordinator.certifying.advance(str(anchored.job_id))
    assert anchored.state == JobState.CERTIFIED


@pytest.mark.each_database
def test_a_job_has_a_limit(scene: Scene, tmp_path: Path, ledger: FakeLedger, clock: FakeClock) -> None:
    scene.coordinator = make_coordinator(tmp_path / "small", ledger, clock, max_certified_records=4)
    scene.publish()
    policy = make_policy(tier=Tier.ZK, sample_size=0, certify_on_chain=True)
    with pytest.raises(ResourceError, match="at most 4"):
        scene.submit(policy=policy, circuit=CIRCUIT)
