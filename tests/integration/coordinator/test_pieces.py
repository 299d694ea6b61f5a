"""One task, several workers: real proofs of a model in segments, by worker processes over HTTP, on a real chain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount
from sqlmodel import Session, create_engine, select

from circuits.artefacts import CircuitCache
from circuits.build import ProvingCircuit, build_circuit
from circuits.process import EzklProcess
from circuits.srs import ensure_development_srs
from contracts.chain import Chain, Deployment
from contracts.devchain import DevChain
from coordinator.tables import FaultRow, PieceRow
from rexis.api import JobView, ModelRegistration, PieceState
from rexis.protocol.digests import sha256
from rexis.protocol.policy import Tier
from rexis.protocol.records import input_root
from rexis.protocol.signing import address_of, new_account
from tests.integration.circuits.tiny_circuit import TINY, residual
from tests.integration.coordinator.rig import Rig
from tests.unit.coordinator.fakes import make_policy
from verifier.certificate import VerifyOptions, verify_certificate

SEGMENTS = 4
PROFILE = TINY.model_copy(update={"cuts": (2, 3, 4)})
PATIENCE_S = 300.0
ROOT = Path(__file__).resolve().parents[3]
_WORKER = """
import sys
from pathlib import Path
from eth_account import Account
from provers.worker import WorkerOptions, run_worker

url, rpc, key, cache, dishonest = sys.argv[1:]
run_worker(
    WorkerOptions(
        coordinator=url,
        account=Account.from_key(key),
        name=Path(cache).name,
        cache=Path(cache),
        rpc_url=rpc,
        wait_seconds=1,
        dishonest=dishonest or None,
    )
)
"""


class WorkerProcess:
    """A worker with a folder of its own."""

    def __init__(self, rig: Rig, folder: Path, dishonest: str) -> None:
        account = new_account()
        self.address = address_of(account)
        folder.mkdir()
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-c", _WORKER, rig.url, rig.rpc, account.key.hex()),
                    *(str(folder / "cache"), dishonest),
                ],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def says(self, text: str) -> None:
        """Wait until the worker logs this."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.log:
            assert time.monotonic() < deadline, self.log
            assert self._process.poll() is None, self.log
            time.sleep(0.05)

    def end(self, how: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(how)
        self._process.wait(60)


class SegmentedRig:
    """A :class:`Rig` whose model is proved in segments, with worker processes."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        self.rig, self.folder = rig, folder
        self.model = residual(int(address_of(rig.owner), 16) % 2**32)
        srs = ensure_development_srs(TINY.logrows, folder)
        with EzklProcess() as ezkl:
            self.circuit: ProvingCircuit = build_circuit(
                self.model, PROFILE, srs, CircuitCache(folder / "owner-keys"), ezkl
            )
        self.pinned = self.circuit.artefacts.description
        chain = Chain.connect(rig.dev.url, account=rig.owner)
        chain.attach(rig.deployment)
        chain.register(sha256(self.model), 1, self.pinned)
        owner = rig.client(rig.owner)
        for blob in (self.model, self.circuit.artefacts.settings, self.circuit.artefacts.vk, srs.path):
            owner.upload_blob(blob)
        vka = list(self.circuit.artefacts.vka)
        owner.register_model(
            ModelRegistration(model_digest=sha256(self.model), key_epoch=1, circuit=self.pinned, vka=vka)
        )
        requester = rig.client(rig.requester)
        requester.upload_blob(rig.dataset.to_bytes())
        requester.register_dataset(rig.dataset.digest)
        self._engine = create_engine(f"sqlite:///{rig.folder}/data/coordinator.sqlite")
        self._workers: list[WorkerProcess] = []

    def start(self, dishonest: str = "") -> WorkerProcess:
        folder = self.folder / f"worker-{len(self._workers)}"
        self._workers.append(WorkerProcess(self.rig, folder, dishonest))
        return self._workers[-1]

    def stop_workers(self) -> None:
        for worker in self._workers:
            worker.end(signal.SIGKILL)

    def submit(self, name: str, tier: Tier = Tier.ZK, sample_size: int = 0) -> JobView:
        """A job with one task of all records."""
        data = self.rig.dataset
        return self.rig.client(self.rig.requester).submit_job(
            self.rig.request(
                make_policy(tier=tier, sample_size=sample_size, shard_size=5),
                model_digest=sha256(self.model),
                circuit=self.pinned,
                input_root=input_root(tier, self.pinned, data.records, data.salts),
                nonce=sha256(name.encode()),
            )
        )

    def certified(self, job: JobView, proved: int = 5) -> JobView:
        """The finished job, after the independent verifier has accepted its certificate."""
        rig = self.rig
        view = rig.finished(job.job_id, PATIENCE_S)
        options = VerifyOptions(
            rpc_url=rig.dev.url,
            srs=self.circuit.srs.path,
            allow_development_srs=True,
            allow_development_chain=True,
        )
        verdict = verify_certificate(rig.client(rig.requester).certificate(job.job_id), options)
        assert verdict.failed is None, verdict.steps
        assert verdict.certificate is not None
        (task,) = verdict.certificate.tasks
        assert [len(record.proofs) for record in task.evidence.proofs] == [SEGMENTS] * proved
        return view

    def pieces(self, job: JobView) -> list[PieceRow]:
        """Of the job's only task, over all its leases."""
        with Session(self._engine) as session:
            return list(session.exec(select(PieceRow).order_by(PieceRow.segment)).all())

    def faults(self) -> list[FaultRow]:
        with Session(self._engine) as session:
            return list(session.exec(select(FaultRow)).all())


@pytest.fixture
def segmented(
    tmp_path: Path, dev: DevChain, deployment: Deployment, funded: Callable[[], LocalAccount]
) -> Iterator[SegmentedRig]:
    pytest.importorskip("ezkl")
    (tmp_path / "coordinator").mkdir()
    rig = Rig(tmp_path / "coordinator", dev, deployment, owner=funded(), account=funded())
    rig.start(REXIS_LEASE_SECONDS="15", REXIS_HEARTBEAT_SECONDS="2")
    made = SegmentedRig(rig, tmp_path)
    yield made
    made.stop_workers()
    rig.close()


def led_and_helped(segmented: SegmentedRig, dishonest: str = "") -> tuple[WorkerProcess, WorkerProcess]:
    """A lead at work, and a helper that has just got a piece."""
    lead = segmented.start()
    lead.says("leased records")
    helper = segmented.start(dishonest)
    helper.says("helping with segment")
    return lead, helper


@pytest.mark.parametrize(
    ("tier", "sample_size", "proved"), [pytest.param(Tier.ZK, 0, 5, marks=pytest.mark.slow), (Tier.SAMPLED, 3, 3)]
)
def test_two_workers_prove_one_task(segmented: SegmentedRig, tier: Tier, sample_size: int, proved: int) -> None:
    job = segmented.submit("two workers", tier, sample_size)
    lead, helper = led_and_helped(segmented)
    segmented.certified(job, proved)
    pieces = segmented.pieces(job)
    assert [piece.segment for piece in pieces] == list(range(SEGMENTS))
    by_helper = [piece for piece in pieces if piece.proofs_digest is not None]
    assert {piece.worker for piece in by_helper} == {helper.address}
    assert {piece.records for piece in pieces} == {proved}
    assert 0 < len(by_helper) < SEGMENTS  # the lead made the others
    assert f"was proved by {helper.address}" in lead.log
    assert segmented.faults() == []


@pytest.mark.slow
def test_a_helper_that_is_killed_costs_time_only(segmented: SegmentedRig) -> None:
    job = segmented.submit("killed")
    _, helper = led_and_helped(segmented)
    helper.end(signal.SIGKILL)
    segmented.certified(job)
    pieces = segmented.pieces(job)
    assert [piece.proofs_digest for piece in pieces] == [None] * SEGMENTS
    assert [piece.left_by.split() for piece in pieces].count([helper.address]) == 1
    assert segmented.faults() == []


def test_garbage_from_a_helper_is_refused_and_its_fault(segmented: SegmentedRig) -> None:
    job = segmented.submit("garbage")
    lead, helper = led_and_helped(segmented, "garbage-proofs")
    view = segmented.certified(job)
    (fault,) = view.tasks[0].faults
    assert (fault.worker, fault.code) == (helper.address, "evidence-rejected")
    assert "proof 0 does not hold" in fault.detail
    (row,) = segmented.faults()
    assert row.helping
    assert view.tasks[0].worker == lead.address
    assert all(piece.proofs_digest is None for piece in segmented.pieces(job))


@pytest.mark.slow
def test_without_helpers_all_is_as_it_was(segmented: SegmentedRig) -> None:
    job = segmented.submit("alone")
    lead = segmented.start()
    segmented.certified(job)
    assert {(piece.worker, piece.state) for piece in segmented.pieces(job)} <= {
        (lead.address, PieceState.DONE),
        (lead.address, PieceState.HELD),  # the last one, which it told nobody about
    }
