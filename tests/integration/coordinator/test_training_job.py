"""Whole trainings over HTTP, on a real chain: one worker's process is killed, and another worker cheats."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount

from contracts.chain import Chain, Deployment
from contracts.devchain import DevChain
from provers.keeper import Stop
from provers.onchain import OnChain
from provers.options import WorkerOptions
from provers.worker import Worker, open_site
from rexis.api import JobState, JobView, ModelRegistration, TranscriptView
from rexis.client import RexisClient, training_request
from rexis.lineage import fetch_certificates, lineages
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import EncryptionError
from rexis.protocol.policy import Tier
from rexis.protocol.signing import address_of, new_account
from rexis.protocol.tensors import Dataset
from rexis.protocol.training import TrainingPlan
from rexis.protocol.transcript import hand_overs
from tests.integration.coordinator.rig import Rig
from tests.unit.coordinator.fakes import make_policy
from tests.unit.coordinator.trainings import make_model, make_plan, make_rows
from tests.unit.provers.fakes import NoDisplay
from verifier.artifacts import artifact_name
from verifier.certificate import VerifyOptions, verify_certificate
from verifier.report import Outcome, Status

pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[3]
SEGMENTS, INTERVAL = 10, 4
PROGRAM = """
import sys
from pathlib import Path
from eth_account import Account
from provers.worker import WorkerOptions, run_worker
url, key, folder, rpc = sys.argv[1:]
run_worker(WorkerOptions(
    coordinator=url, account=Account.from_key(key), name="w", cache=Path(folder), rpc_url=rpc, wait_seconds=1, tasks=1))
"""


class TrainingRig:
    """A rig whose model can be trained, and worker processes."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        self.rig, self.folder = rig, folder
        self.model = make_model(int(address_of(rig.owner), 16) % 2**32)
        self.dataset: Dataset = make_rows(24)
        self._ends = ExitStack()
        self.owner, self.requester = rig.client(rig.owner), rig.client(rig.requester)

    def publish(self) -> None:
        self.owner.upload_blob(self.model)
        self.register(self.model)
        self.requester.upload_blob(self.dataset.to_bytes())
        self.requester.register_dataset(self.dataset.digest)

    def register(self, model: bytes) -> None:
        chain = Chain.connect(self.rig.dev.url, account=self.rig.owner)
        chain.attach(self.rig.deployment)
        chain.register(sha256(model), 1, NO_CIRCUIT)
        registration = ModelRegistration(model_digest=sha256(model), key_epoch=1, circuit=NO_CIRCUIT, vka=[])
        self.owner.register_model(registration)

    def submit(self, plan: TrainingPlan, sample: int, tolerance_e9: int = 0) -> JobView:
        policy = make_policy(
            tier=Tier.SAMPLED, sample_size=sample, rel_tolerance_e9=tolerance_e9, abs_tolerance_e9=0, max_attempts=3
        )
        requester, digest = self.requester, self.dataset.digest
        request = training_request(
            requester.info(), requester.model(sha256(self.model), 1), self.dataset, digest, plan, policy,
            requester=requester.address,
        )  # fmt: skip
        return requester.submit_job(request, plan)

    def start_process(self) -> tuple[str, subprocess.Popen[bytes]]:
        """Start a worker's process; its address."""
        account = new_account()
        arguments = [self.rig.url, account.key.hex(), str(self.folder / "cache-process"), self.rig.rpc]
        with (self.folder / "log").open("wb") as log:
            process = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], cwd=ROOT, stdout=log, stderr=log)
        self._ends.callback(process.wait)
        self._ends.callback(process.kill)
        return address_of(account), process

    @contextmanager
    def worker(self, dishonest: str | None = None) -> Iterator[str]:
        """A worker in this process; its address."""
        account, stop = new_account(), Stop()
        options = WorkerOptions(
            coordinator=self.rig.url,
            account=account,
            name="w",
            cache=self.folder / address_of(account),
            wait_seconds=1,
            tasks=1,
            dishonest=dishonest,
        )
        client, chain = self.rig.client(account), OnChain.connect(self.rig.rpc, self.owner.info())
        with closing(open_site(options)) as site, ThreadPoolExecutor(1) as threads:
            running = threads.submit(Worker(options, client, stop, NoDisplay(), site, chain).run)
            try:
                yield address_of(account)
            finally:
                stop.requested = True
                running.result()

    def log(self) -> str:
        log = self.folder / "log"
        return (log.read_text() if log.exists() else "") + self.rig.log[-4000:]

    def transcript(self, job: JobView, least: int) -> TranscriptView:
        """The transcript, once there are so many checkpoints."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            found = self.requester.transcript(job.job_id)
            if len(found.checkpoints) >= least:
                return found
            time.sleep(0.05)
        raise AssertionError(self.log())

    def finished(self, job: JobView) -> JobView:
        view = self.requester.wait_for_job(job.job_id, poll_seconds=0.1, timeout_seconds=200)
        assert view.state == JobState.CERTIFIED, (view.reason, self.log())
        return view

    def fetch(self, client: RexisClient, digest: Digest) -> bytes:
        return client.download_blob(digest, self.folder / artifact_name(digest)).read_bytes()

    def close(self) -> None:
        self._ends.close()


@pytest.fixture(scope="module")
def training(
    tmp_path_factory: pytest.TempPathFactory,
    dev: DevChain,
    deployment: Deployment,
    funded: Callable[[], LocalAccount],
) -> Iterator[TrainingRig]:
    rig = Rig(tmp_path_factory.mktemp("coordinator"), dev, deployment, owner=funded(), account=funded())
    rig.start(REXIS_LEASE_SECONDS="6", REXIS_HEARTBEAT_SECONDS="2", REXIS_RETRY_SECONDS="0")
    made = TrainingRig(rig, tmp_path_factory.mktemp("workers"))
    made.publish()
    yield made
    made.close()
    rig.close()


def test_a_killed_worker_is_followed_by_one_that_ends_with_the_same_bits(training: TrainingRig) -> None:
    plan = make_plan(steps=SEGMENTS * INTERVAL, checkpointInterval=INTERVAL)
    job = training.submit(plan, sample=3)
    lost, process = training.start_process()
    training.transcript(job, 3)
    process.kill()
    with training.worker() as heir:
        view = training.finished(job)
    assert view.training is not None
    assert (view.training.step, view.training.steps) == (plan.steps, plan.steps)

    transcript = training.requester.transcript(job.job_id).checkpoints
    (first, one), (later, other) = hand_overs(transcript)
    assert (first, one, other) == (0, lost, heir)
    assert 0 < later <= SEGMENTS
    assert [len(signed.losses) // 4 for signed in transcript] == [0, *[INTERVAL] * SEGMENTS]

    from rexis.training.session import Trainer

    alone = Trainer(training.model, plan, training.dataset.records, threads=os.cpu_count() or 1)
    losses = alone.advance(plan.steps).astype("<f4").tobytes()
    assert b"".join(signed.losses for signed in transcript) == losses
    assert transcript[-1].checkpoint.state_root == alone.root
    trained = alone.export()
    assert transcript[-1].checkpoint.model_digest == sha256(trained)
    for client in (training.owner, training.requester):
        assert training.fetch(client, sha256(trained)) == trained

    document = training.requester.certificate(job.job_id)
    for digest in (sha256(training.model), training.dataset.digest, *{one.state_digest for one in transcript}):
        training.fetch(training.owner if digest == sha256(training.model) else training.requester, digest)
    options = VerifyOptions(rpc_url=training.rig.dev.url, artifacts=training.folder, allow_development_chain=True)
    verdict = verify_certificate(document, options)
    assert verdict.outcome == Outcome.VALID, verdict.failed or verdict.unchecked
    assert all(step.status == Status.OK for step in verdict.steps)

    training.register(trained)
    (origin,) = training.owner.lineage(sha256(trained), 1).origins
    assert (origin.base_digest, origin.job_id) == (sha256(training.model), job.job_id)
    assert origin.certificate_digest == sha256(document)
    (root,) = lineages(list(fetch_certificates(training.requester, sha256(trained), 1)))
    assert root.digest == sha256(training.model)
    assert [made.digest for _, made in root.trainings] == [sha256(trained)]


def test_a_worker_that_trains_otherwise_is_refused_and_an_honest_one_goes_on(training: TrainingRig) -> None:
    plan = make_plan(steps=12, checkpointInterval=INTERVAL)
    job = training.submit(plan, sample=3, tolerance_e9=10**6)
    with training.worker("training-rate") as cheat:
        deadline = time.monotonic() + 200
        while not (faults := training.requester.job(job.job_id).tasks[0].faults) and time.monotonic() < deadline:
            time.sleep(0.1)
    assert faults, training.log()
    assert (faults[0].worker, faults[0].code) == (cheat, "evidence-rejected")
    assert "taken again" in faults[0].detail
    with training.worker() as honest:
        training.finished(job)
    transcript = training.requester.transcript(job.job_id).checkpoints
    assert [signed.checkpoint.worker for signed in transcript] == [cheat, *[honest] * plan.segments]


def test_adamw_under_keys_that_mix_is_refused_with_the_reason(training: TrainingRig) -> None:
    adamw = {"kind": "adamw", "learningRateE9": 10**6, "beta1E9": 9 * 10**8, "beta2E9": 999 * 10**6, "epsilonE12": 1}
    with pytest.raises(EncryptionError, match="adamw does not commute with keys that mix") as refused:
        training.submit(make_plan(optimiser=adamw, powers=["mix"]), sample=1)
    assert refused.value.field == "plan.optimiser"
    assert "allowInexact" in str(refused.value.hint)
    job = training.submit(make_plan(optimiser=adamw, powers=["mix"], allowInexact=True), sample=1)
    assert training.requester.cancel_job(job.job_id).training is not None
