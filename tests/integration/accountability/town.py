"""A chain with stakes, disputes and escrow on it, a coordinator, a real circuit, and everybody's command line."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount

from circuits.build import ProvingCircuit
from circuits.process import EzklProcess
from contracts.accountability import Accountability, Terms
from contracts.accountable import AccountableChain
from contracts.devchain import DevChain
from provers.executor import OnnxExecutor
from rexis.api import JobView, WorkerRegistration
from rexis.cli.main import main
from rexis.files import write_file
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import Digest
from rexis.protocol.parsing import ZERO_ADDRESS, Address
from rexis.protocol.policy import Tier
from rexis.protocol.records import Floats, TaskTrees
from rexis.protocol.signing import address_of, new_account
from rexis.protocol.statement import Statement
from tests.integration.circuits.tiny_circuit import mlp
from tests.integration.coordinator.proved import ProvedRig
from tests.integration.coordinator.rig import PASSPHRASE, Rig, RigWorker
from tests.unit.coordinator.fakes import FakeWorker, make_policy

ROOT = Path(__file__).resolve().parents[3]
BOND, PENALTY, STAKE = 10**15, 10**17, 3 * 10**17
PERIOD, WINDOW = 300, 150


class TownRig(Rig):
    """A rig whose model can really be run."""

    @property
    def model(self) -> bytes:
        return mlp(0)


@dataclass(frozen=True)
class Lie:
    """A statement with one wrong output, whose record was not drawn: accepted, anchored, certified."""

    job: JobView
    statement: Statement
    digest: Digest
    trees: TaskTrees
    altered: int
    worker: LocalAccount


@dataclass
class Town:
    """See the module."""

    folder: Path
    dev: DevChain
    rig: Rig
    circuit: ProvingCircuit
    ezkl: EzklProcess
    manifest: Accountability
    made: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.file = self.folder / "accountability.json"
        self.file.write_bytes(self.manifest.to_json())
        self.proved = ProvedRig(self.rig, self.circuit, self.ezkl)
        self.dataset = self.folder / "dataset.safetensors"
        self.dataset.write_bytes(self.rig.dataset.to_bytes())
        self.files = {name: self.folder / name for name in ("model", "settings")} | {"srs": self.circuit.srs.path}
        self.files["model"].write_bytes(self.rig.model)
        self.files["settings"].write_bytes(self.circuit.artefacts.settings)

    def chain(self, account: LocalAccount | None = None) -> AccountableChain:
        found = AccountableChain.connect(self.dev.url, account=account)
        found.discover()
        found.attach_accountability(self.manifest)
        return found

    def pass_blocks(self, count: int) -> None:
        """Let blocks come; some at a time, as a busy machine takes long over many."""
        for start in range(0, count, 50):
            self.dev.mine(min(50, count - start))

    def funded(self) -> LocalAccount:
        account = new_account()
        self.dev.fund(address_of(account))
        return account

    def wallet(self, account: LocalAccount) -> Path:
        """The account's wallet file."""
        if account.address not in self.made:
            path = self.made[account.address] = self.folder / f"{account.address}.json"
            write_file(path, json.dumps(account.encrypt(PASSPHRASE, iterations=2)).encode(), private=True)
        return self.made[account.address]

    def environment(self, account: LocalAccount | None = None) -> dict[str, str]:
        """What a person would have set: where everything is, and who they are."""
        found = {
            "REXIS_RPC": self.dev.url,
            "REXIS_COORDINATOR": self.rig.url,
            "REXIS_ACCOUNTABILITY": str(self.file),
            "REXIS_PASSPHRASE": PASSPHRASE,
        }
        return found | ({} if account is None else {"REXIS_WALLET": str(self.wallet(account))})

    def false_statement(self, altered: int = 2) -> Lie:
        """A staked worker alters one output of five; one record is drawn, so four of five times it gets through."""
        for _ in range(20):
            self.proved.new_worker()
            job = self.proved.submit(Tier.SAMPLED, shard_size=5, sample_size=1)
            lease = self.proved.lease()
            outputs, trees, statement = self.proved.compute(lease, altered=altered)
            indices = self.proved.challenged(lease, statement)
            if altered not in indices:
                evidence = self.proved.evidence(lease, outputs, trees, statement, indices)
                assert self.proved.worker.evidence(lease.lease_id, evidence).accepted
                self.rig.finished(job.job_id, 60)
                worker = self.proved.account
                self.dev.fund(address_of(worker))
                self.chain(worker).stake(STAKE)
                return Lie(job, statement, lease.domain.digest(statement), trees, altered, worker)
            self.proved.worker.release(lease.lease_id)
            self.rig.client(self.rig.requester).cancel_job(job.job_id)
        raise AssertionError("drawn twenty times")

    def commit_job(self) -> JobView:
        """A job of tier ``commit`` over all records, one task; its certificate opens one of them."""
        policy = make_policy(tier=Tier.COMMIT, shard_size=len(self.rig.dataset), sample_size=1)
        request = self.rig.request(policy, nonce=Digest(secrets.token_bytes(32)))
        return self.rig.client(self.rig.requester).submit_job(request)

    def committed(self, account: LocalAccount, altered: int | None = None) -> tuple[JobView, Digest]:
        """A job of tier ``commit`` as this account did it, its first output of record `altered` a bit off."""
        worker = RigWorker(self.rig.client(account), FakeWorker(account))
        worker.client.register_worker(
            WorkerRegistration(name="c", provider="CPUExecutionProvider", tiers=[Tier.COMMIT], memory_bytes=1 << 30)
        )
        job, data = self.commit_job(), self.rig.dataset
        lease = worker.lease()
        outputs = self.outputs(altered)
        blob, evidence = worker.fake.work(lease, data, outputs=outputs)
        worker.client.upload_blob(blob)
        assert worker.client.evidence(lease.lease_id, evidence).accepted
        self.rig.finished(job.job_id, 60)
        return job, lease.domain.digest(evidence.statement)

    def outputs(self, altered: int | None = None) -> Floats:
        """The model's, the first of record `altered` a bit off."""
        outputs = OnnxExecutor(self.files["model"]).run(self.rig.dataset.records)
        if altered is not None:
            outputs[altered, 0] += 0.25
        return outputs

    def commit_trees(self, altered: int | None = None) -> TaskTrees:
        """Of the task that :meth:`committed` does."""
        data = self.rig.dataset
        return TaskTrees(Tier.COMMIT, NO_CIRCUIT, data.records, data.salts, 0, self.outputs(altered))

    @property
    def referee(self) -> tuple[object, ...]:
        """Options that say where the circuit's files are."""
        return tuple(part for name, path in self.files.items() for part in (f"--{name}", path))

    def certificate(self, job: JobView) -> Path:
        """The job's certificate, as its requester fetched it."""
        path = self.folder / f"certificate-{job.job_id}.json"
        path.write_bytes(self.rig.client(self.rig.requester).certificate(job.job_id))
        return path

    @contextmanager
    def worker(self, account: LocalAccount, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        """`rexis worker run`, a process of its own; its log is in the folder."""
        cache = self.folder / f"cache-{account.address}"
        command = [sys.executable, "-c", "from rexis.cli.main import run; run()", "worker", "run"]
        with (self.folder / f"worker-{account.address}.log").open("ab") as log:
            process = subprocess.Popen(
                [*command, "--cache", str(cache), "--tasks", "1", *options],
                cwd=ROOT,
                env={**os.environ, **self.environment(account)},
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log_of(self, account: LocalAccount) -> str:
        return (self.folder / f"worker-{account.address}.log").read_text()


class CommandLine:
    """`rexis …` in this process, as one account after the other."""

    def __init__(self, town: Town, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._town, self._patch, self._capsys = town, monkeypatch, capsys

    def run(self, account: LocalAccount | None, *arguments: object) -> tuple[int, str, str]:
        """Exit code, what was printed, and what was said beside it."""
        for name, value in self._town.environment(account).items():
            self._patch.setenv(name, value)
        if account is None:
            self._patch.delenv("REXIS_WALLET", raising=False)
        self._capsys.readouterr()
        code = main([str(one) for one in arguments])
        return code, *self._capsys.readouterr()

    def done(self, account: LocalAccount | None, *arguments: object) -> Any:
        """The JSON of a command that must succeed."""
        code, out, said = self.run(account, *arguments, "--json")
        assert code == 0, said
        return json.loads(out)

    def refused(self, account: LocalAccount | None, *arguments: object) -> str:
        """The one line of a command that must not."""
        code, _, said = self.run(account, *arguments)
        assert code != 0
        (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
        return line


def until(true: Callable[[], bool], seconds: float = 60.0, why: Callable[[], str] = str) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, why()
        time.sleep(0.1)


def terms(governance: Address, treasury: Address, token: Address = ZERO_ADDRESS) -> Terms:
    return Terms(
        governance=governance,
        token=token,
        bond=BOND,
        penalty=PENALTY,
        reward_bps=4000,
        treasury=treasury,
        challenge_period=PERIOD,
        response_window=WINDOW,
        validator_delay=500,
        validator_min_stake=10**16,
        threshold_bps=6666,
    )
