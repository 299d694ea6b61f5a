"""A coordinator on a real chain, with a model owner, a requester and workers around it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
from eth_account.signers.local import LocalAccount

from contracts.chain import Chain, Deployment
from contracts.devchain import DevChain
from rexis.api import JobState, JobView, Lease, ModelRegistration, VerdictView, WorkerRegistration
from rexis.client import RexisClient
from rexis.files import write_file
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.policy import Policy, Tier
from rexis.protocol.signing import address_of, new_account
from rexis.protocol.statement import JobRequest
from rexis.protocol.tensors import Dataset
from tests.unit.coordinator.fakes import MODEL, FakeWorker, make_dataset, make_policy, make_request

PASSPHRASE = "for tests only"


class Rig:
    """Starts ``python -m coordinator`` in `folder`; started again there, it goes on where it was."""

    def __init__(
        self, folder: Path, dev: DevChain, deployment: Deployment, owner: LocalAccount, account: LocalAccount
    ) -> None:
        self.folder, self.dev, self.deployment, self.owner, self.account = folder, dev, deployment, owner, account
        self.requester = new_account()
        self.dataset = make_dataset()
        self._ends = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        write_file(folder / "wallet.json", json.dumps(account.encrypt(PASSPHRASE, iterations=2)).encode(), private=True)
        (folder / "deployment.json").write_bytes(deployment.to_json())
        self.rpc = dev.url

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def settings(self) -> dict[str, str]:
        return {
            "REXIS_PORT": str(self.port),
            "REXIS_DATA_DIR": str(self.folder / "data"),
            "REXIS_RPC": self.rpc,
            "REXIS_DEPLOYMENT": str(self.folder / "deployment.json"),
            "REXIS_WALLET": str(self.folder / "wallet.json"),
            "REXIS_PASSPHRASE": PASSPHRASE,
            "REXIS_ANCHOR_SECONDS": "1",
        }

    def start(self, **environment: str) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "coordinator"],
                env={**os.environ, **self.settings(), **environment},
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/healthz").is_success:
                    return
            except httpx.HTTPError:
                time.sleep(0.1)
        raise AssertionError(self.log)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self._process is not None
        self._process.send_signal(how)
        return self._process.wait(30)

    def close(self) -> None:
        self._ends.close()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def client(self, account: LocalAccount) -> RexisClient:
        return self._ends.enter_context(RexisClient(self.url, account))

    def publish(self) -> None:
        """Register the model on chain and here, and upload the dataset."""
        chain = Chain.connect(self.dev.url, account=self.owner)
        chain.attach(self.deployment)
        chain.register(self.model_digest, 1, NO_CIRCUIT)
        owner = self.client(self.owner)
        owner.upload_blob(self.model)
        owner.register_model(ModelRegistration(model_digest=self.model_digest, key_epoch=1, circuit=NO_CIRCUIT, vka=[]))
        requester = self.client(self.requester)
        requester.upload_blob(self.dataset.to_bytes())
        requester.register_dataset(self.dataset.digest)

    @property
    def model(self) -> bytes:
        """A model of this rig's own: a digest has one owner on chain."""
        return MODEL + address_of(self.owner).encode()

    @property
    def model_digest(self) -> Digest:
        return sha256(self.model)

    def request(self, policy: Policy | None = None, **changes: object) -> JobRequest:
        return make_request(
            self.dataset,
            address_of(self.requester),
            address_of(self.account),
            **{"model_digest": self.model_digest, "policy": policy or make_policy(), **changes},
        )

    def worker(self) -> RigWorker:
        """A registered worker."""
        worker = RigWorker(self.client(account := new_account()), FakeWorker(account))
        worker.client.register_worker(
            WorkerRegistration(name="w", provider="CPUExecutionProvider", tiers=[Tier.COMMIT], memory_bytes=1 << 30)
        )
        return worker

    def finished(self, job_id: Digest, timeout: float = 30.0) -> JobView:
        view = self.client(self.requester).wait_for_job(job_id, poll_seconds=0.1, timeout_seconds=timeout)
        assert view.state == JobState.CERTIFIED, (view.reason, self.log)
        return view


class RigWorker:
    """A worker of tier ``commit`` over HTTP."""

    def __init__(self, client: RexisClient, worker: FakeWorker) -> None:
        self.client, self.fake = client, worker

    def lease(self, wait_seconds: int = 5) -> Lease:
        lease = self.client.lease(wait_seconds)
        assert lease is not None
        return lease

    def do_one(self, dataset: Dataset) -> VerdictView:
        """Lease a task, do it honestly, hand it in."""
        lease = self.lease()
        blob, evidence = self.fake.work(lease, dataset)
        self.client.upload_blob(blob)
        return self.client.evidence(lease.lease_id, evidence)
