"""A chain whose blocks come when they are asked for, with coordinators on it: faults can be put anywhere in between."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from eth_account.signers.local import LocalAccount
from sqlmodel import select

from contracts.chain import Chain
from contracts.devchain import DevChain
from contracts.onchain import AnchorProof, Deployment
from contracts.sending import Fees, Sender
from coordinator.chain import Ledger
from coordinator.places import Places
from coordinator.services import Coordinator
from coordinator.settings import Settings
from coordinator.tables import AnchorRow, TaskRow, TransactionRow, TransactionStatus
from rexis.api import JobState, JobView, TaskState
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import Digest
from rexis.protocol.errors import UnavailableError
from rexis.protocol.parsing import Address
from rexis.protocol.signing import address_of, new_account
from tests.unit.coordinator.fakes import MODEL_DIGEST, FakeClock
from tests.unit.coordinator.scene import Scene
from verifier.certificate import VerifyOptions, verify_certificate
from verifier.report import Outcome

CONFIRMATIONS = 2
GWEI = 10**9


def start_world(folder: Path, deployed: Path) -> World:
    """A world whose chain has the contracts."""
    state = folder / "state.json"
    shutil.copy(deployed, state)
    return World(folder, DevChain.start(block_time_s=None, state=state))


@dataclass
class World:
    """A chain whose blocks come when they are asked for, and coordinators on it, all of one account and one folder."""

    folder: Path
    dev: DevChain
    account: LocalAccount = field(default_factory=new_account)
    clock: FakeClock = field(default_factory=FakeClock)
    owner: LocalAccount = field(default_factory=new_account)
    requester: LocalAccount = field(default_factory=new_account)
    running: list[Coordinator] = field(default_factory=list)

    def __post_init__(self) -> None:
        for account in (self.account, self.owner):
            self.dev.fund(address_of(account))
        self.scene = Scene(self.start(), self, owner=self.owner, requester=self.requester)  # type: ignore[arg-type]

    def start(self, **settings: object) -> Coordinator:
        usual = {"data_dir": self.folder / "data", "rpc": self.dev.url, "confirmations": CONFIRMATIONS}
        made = Settings(**{**usual, **settings})  # type: ignore[arg-type]
        coordinator = Coordinator(made, Deployment.on(31337), self.account, clock=self.clock)
        self.running.append(coordinator)
        return coordinator

    def restart(self, **settings: object) -> None:
        """As after ``kill -9``: nothing of the old one is asked any more."""
        self.scene.coordinator = self.start(**settings)

    def close(self) -> None:
        for coordinator in self.running:
            coordinator.close()
        self.dev.stop()

    def register_model(self, owner: Address) -> None:
        chain = Chain.connect(self.dev.url, account=self.owner)
        chain.discover()
        chain.register(MODEL_DIGEST, 1, NO_CIRCUIT)

    @property
    def coordinator(self) -> Coordinator:
        return self.scene.coordinator

    def work(self) -> JobView:
        """A job, done but not anchored. From here on blocks come when they are asked for."""
        self.scene.publish()
        job = self.scene.submit()
        self.scene.do_all()
        self.dev.hold()
        return job

    def turn(self) -> None:
        """What the background loops do in a second, with as much patience."""
        anchoring, certificates = self.coordinator.anchoring, self.coordinator.certificates
        self.coordinator.commitments.follow()
        if anchoring.due():
            anchoring.run()
        for job in certificates.due():
            try:
                certificates.issue(job)
            except UnavailableError:
                continue

    def finish(self, job: JobView, *, seconds: float = 11.0) -> None:
        """Let blocks come, and time pass, until the job is certified."""
        for _ in range(12):
            self.turn()
            self.dev.mine()
            self.clock.pass_seconds(seconds)
        assert self.scene.job(job).state == JobState.CERTIFIED, self.scene.job(job).reason
        self.require_sound(job)

    def require_sound(self, job: JobView) -> None:
        """One event a root; every accepted statement under a root of the chain as it is; a certificate that holds."""
        reader = Ledger.connect(self.dev.url, account=self.account)
        reader.discover()
        event = reader._contracts["EvidenceLog"].events["Anchored"]()
        roots = [found["args"]["root"] for found in event.get_logs(from_block=0)]
        assert len(roots) == len(set(roots)) == len(self.anchors())
        with self.coordinator._store.reading() as session:
            tasks = session.exec(select(TaskRow)).all()
            assert {task.state for task in tasks} == {TaskState.ANCHORED}
            for task in tasks:
                place = Places().of(session, task.task_id)
                found = reader.check_inclusion(
                    Digest.parse(task.statement_digest), AnchorProof(place.anchor_id, place.leaf_index, place.path)
                )
                assert (found.block, found.root) == (place.block_number, place.root)
        verdict = self.verify(self.certificate(job))
        assert verdict.outcome == Outcome.VALID, verdict.failed

    def verify(self, document: bytes):  # type: ignore[no-untyped-def]
        return verify_certificate(document, VerifyOptions(rpc_url=self.dev.url, allow_development_chain=True))

    def certificate(self, job: JobView) -> bytes:
        return self.coordinator.jobs.certificate(address_of(self.requester), job.job_id)

    def anchors(self) -> list[AnchorRow]:
        with self.coordinator._store.reading() as session:
            return list(session.exec(select(AnchorRow)))

    def transactions(self, *statuses: TransactionStatus) -> list[TransactionRow]:
        with self.coordinator._store.reading() as session:
            rows = list(session.exec(select(TransactionRow)))
        return [row for row in rows if not statuses or row.status in statuses]

    def elsewhere(self, nonce: int, gwei: int = 5) -> None:
        """Somebody uses the same wallet: a payment of nothing, with a nonce of their choice."""
        sender = Sender.connect(self.dev.url, account=self.account)
        sender.broadcast(sender.sign(sender.nothing(), 21_000, nonce, Fees(gwei * GWEI, GWEI)).raw)

    def dev_head(self) -> int:
        return Sender.connect(self.dev.url).block_number()

    def next_nonce(self) -> int:
        reader = Sender.connect(self.dev.url, account=self.account)
        return reader.nonces()[0]
