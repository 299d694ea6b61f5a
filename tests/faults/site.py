"""A whole deployment under supervision: chain node, database, coordinators and workers, all real processes."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from eth_account.signers.local import LocalAccount

from bench.load.postgres import PostgresServer, postgres
from bench.load.scene import Scene
from bench.load.stack import free_port
from contracts.chain import Chain, Deployment
from rexis.files import write_file
from rexis.protocol.parsing import Address
from rexis.protocol.signing import address_of, new_account
from tests.faults.chain import CONFIRMATIONS, ChainNode
from tests.faults.nursery import Nursery
from tests.faults.processes import Supervised, wait_until
from tests.faults.work import RECORDS, Work, committed, proved

WORKERS = 3
_START_S = 120
# Short ones: what a killed worker had is another's after seconds.
_SETTINGS = {
    "REXIS_LEASE_SECONDS": "6",
    "REXIS_HEARTBEAT_SECONDS": "1",
    "REXIS_ANCHOR_SECONDS": "1",
    "REXIS_WORKER_SECONDS": "30",
    "REXIS_MAX_TASK_FAULTS": "100",
    "REXIS_CONFIRMATIONS": str(CONFIRMATIONS),
}


@dataclass
class Site:
    """What runs.

    Attributes
    ----------
    database
        SQLAlchemy URL.
    server
        The PostgreSQL server, if the database is on one.
    address
        Of the coordinators' account.
    committed, proved
        The jobs of each kind, all of one requester.
    hired
        How many workers there have been.
    """

    folder: Path
    requester: LocalAccount
    committed: Work
    proved: Work
    chain: ChainNode
    deployment: Deployment
    database: str
    server: PostgresServer | None
    address: Address
    urls: list[str]
    coordinators: list[Supervised]
    workers: list[Supervised]
    _worker: Callable[[int], Supervised]
    hired: int = WORKERS

    def replace(self) -> tuple[Supervised, Supervised]:
        """Put a worker with an account of its own in the place of the one that is here longest."""
        old, new = self.workers[0], self._worker(self.hired)
        self.hired += 1
        self.workers[:] = [*self.workers[1:], new]
        old.stop()
        return old, new


@contextmanager
def running(folder: Path, kind: str, coordinators: int) -> Iterator[Site]:
    """A deployment for the length of a ``with`` block, with a model and a dataset.

    Parameters
    ----------
    kind
        ``sqlite`` or ``postgresql``.
    """
    with ExitStack() as ends:
        server = ends.enter_context(postgres()) if kind == "postgresql" else None
        database = server.url if server else f"sqlite:///{folder / 'data' / 'coordinator.sqlite'}"
        chain = ChainNode(folder, free_port())
        ends.callback(chain.close)
        account = new_account()
        chain.dev.fund(address_of(account))
        deployment = Chain.connect(chain.url, account=account).deploy_all()
        (folder / "deployment.json").write_bytes(deployment.to_json())
        passphrase = folder / "passphrase"
        write_file(passphrase, secrets.token_hex(16).encode(), private=True)
        wallet = _wallet(folder / "coordinator.wallet.json", passphrase, account)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("REXIS_")}
        environment |= _SETTINGS | {"REXIS_DATABASE_URL": database}

        nursery = Nursery(environment)
        ends.callback(nursery.close)

        def supervised(name: str, *arguments: str) -> Supervised:
            found = Supervised(name, nursery, list(arguments), folder / f"{name}.log")
            ends.callback(found.stop)
            return found

        urls, running = [], []
        for number in range(coordinators):
            port = free_port()
            urls.append(f"http://127.0.0.1:{port}")
            running.append(
                supervised(
                    f"coordinator-{number}", "coordinator", "run", "--port", str(port), "--rpc", chain.url,
                    "--deployment", str(folder / "deployment.json"), "--wallet", str(wallet),
                    "--passphrase-file", str(passphrase), "--data", str(folder / "data"),
                )
            )  # fmt: skip
            wait_until(lambda: answers(urls[-1]), _START_S, "a coordinator answers")
        scene, coordinator = Scene.make(RECORDS), address_of(account)
        chain.dev.fund(address_of(scene.owner))
        scene.publish(urls[0], chain.url, deployment)
        with_proofs = proved(scene.owner, scene.requester, folder, urls[0], chain.url, deployment, coordinator)

        def worker(number: int) -> Supervised:
            name = f"worker-{number}"
            wallet = _wallet(folder / f"{name}.wallet.json", passphrase, new_account())
            return supervised(
                name, "worker", "run", "--coordinator", urls[number % len(urls)], "--rpc", chain.url, "--name", name,
                "--cache", str(folder / name), "--tiers", "commit,sampled", "--wallet", str(wallet),
                "--passphrase-file", str(passphrase),
            )  # fmt: skip

        yield Site(
            folder, scene.requester, committed(scene, coordinator), with_proofs, chain, deployment, database, server,
            coordinator, urls, running, [worker(number) for number in range(WORKERS)], worker,
        )  # fmt: skip


def answers(url: str) -> bool:
    """Whether a coordinator answers."""
    try:
        return httpx.get(f"{url}/healthz", timeout=2.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _wallet(path: Path, passphrase: Path, account: object) -> Path:
    document = account.encrypt(passphrase.read_text(), iterations=2)  # type: ignore[attr-defined]
    write_file(path, json.dumps(document).encode(), private=True)
    return path
