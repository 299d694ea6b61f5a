"""The monitor on a development chain: what it tells of, once killed, and after a reorganisation."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from contracts.chain import Chain
from contracts.devchain import DevChain
from contracts.logs import LogReader
from rexis.cli.main import main
from rexis.interpreter import python, python_environment
from rexis.protocol.certificate import Certificate
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import ChainError
from rexis.protocol.signing import address_of, new_account
from verifier.monitoring.alerts import Alert, AlertKind
from verifier.monitoring.checkpoint import Checkpoint
from verifier.monitoring.monitor import Monitor, Watched

_KILLED = (
    "import os, signal, sys; from verifier.monitoring.checkpoint import Checkpoint; "
    "Checkpoint.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL); "
    "from rexis.cli.main import main; main(sys.argv[1:])"
)
VECTORS = Path(__file__).parents[2] / "vectors/certificates"


def scanned(reader: LogReader, state: Path, *, start: int, **watched: Any) -> list[Alert]:
    found: list[Alert] = []
    Monitor(reader, state, Watched(**watched), start=start).scan(found.append)
    return found


def test_versions_and_revocations_are_told_once(coordinator: Chain, reader: LogReader, tmp_path: Path) -> None:
    start, state = reader.block_number() + 1, tmp_path / "state"
    mine, another = sha256(coordinator.address.encode()), sha256(b"of " + coordinator.address.encode())
    for digest, epoch in ((mine, 1), (another, 1), (mine, 2)):
        coordinator.register(digest, epoch, NO_CIRCUIT)
    coordinator.revoke(mine, 1)
    found = scanned(reader, state, start=start, models=[mine])
    new = AlertKind.NEW_MODEL_VERSION
    assert [alert.kind for alert in found] == [new, new, AlertKind.REVOCATION]
    assert "key epoch 2" in found[1].detail
    assert all(str(another) not in alert.detail for alert in found)
    assert scanned(reader, state, start=start, models=[mine]) == []


def test_a_model_that_changes_hands_is_told(
    dev: DevChain, coordinator: Chain, reader: LogReader, tmp_path: Path
) -> None:
    mine, another = sha256(b"handed over by " + coordinator.address.encode()), sha256(coordinator.address.encode() * 2)
    for digest in (mine, another):
        coordinator.register(digest, 1, NO_CIRCUIT)
    start, state = reader.block_number() + 1, tmp_path / "state"
    account = new_account()
    dev.fund(address_of(account))
    heir = Chain.connect(dev.url, account=account)
    heir.discover()
    for digest in (mine, another):
        coordinator.propose_owner(digest, heir.address)
    (proposed,) = scanned(reader, state, start=start, models=[mine])
    assert proposed.kind == AlertKind.PROPOSED_OWNER
    assert heir.address in proposed.detail
    for digest in (mine, another):
        heir.accept_ownership(digest)
    (accepted,) = scanned(reader, state, start=start, models=[mine])
    assert accepted.kind == AlertKind.NEW_OWNER
    assert f"model {mine} is {heir.address}'s, it was {coordinator.address}'s" in accepted.detail


def test_what_the_coordinator_does_not_know_of_is_told(coordinator: Chain, reader: LogReader, tmp_path: Path) -> None:
    start, known, foreign, task = reader.block_number() + 1, sha256(b"known"), sha256(b"foreign"), sha256(b"task")
    for digest in (known, foreign):
        coordinator.anchor(digest, 3)
        coordinator.commit(task, digest)
    watched = {"start": start, "known": [known]}
    found = scanned(reader, tmp_path / "a", coordinator=coordinator.address, **watched)
    assert [alert.kind for alert in found] == [AlertKind.UNKNOWN_ANCHOR, AlertKind.UNKNOWN_COMMITMENT]
    assert all(str(foreign) in alert.detail and alert.transaction is not None for alert in found)
    assert scanned(reader, tmp_path / "b", coordinator=address_of(new_account()), **watched) == []


def test_a_monitor_killed_before_it_persists_tells_again(
    dev: DevChain, coordinator: Chain, reader: LogReader, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, state = reader.block_number() + 1, tmp_path / "state"
    coordinator.register(sha256(b"killed" + coordinator.address.encode()), 1, NO_CIRCUIT)
    arguments = ["monitor", "--rpc", dev.url, "--state", str(state), "--start", str(start)]
    killed = subprocess.run(
        python("-c", _KILLED, *arguments), stdout=subprocess.PIPE, env=python_environment(), timeout=120, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert not state.exists()
    assert main(arguments) == 3
    (told,) = [json.loads(line) for line in killed.stdout.splitlines()]
    assert told == json.loads(capsys.readouterr().out)
    assert told["alert"] == "new-model-version"
    assert main(arguments) == 0
    assert capsys.readouterr().out == ""


def test_a_reorganisation_is_told_and_scanned_again(
    dev: DevChain, coordinator: Chain, reader: LogReader, tmp_path: Path
) -> None:
    start, state = reader.block_number() + 1, tmp_path / "state"
    dev.mine(2)
    assert scanned(reader, state, start=start) == []
    coordinator.register(sha256(b"lost" + coordinator.address.encode()), 1, NO_CIRCUIT)
    (lost,) = scanned(reader, state, start=start)
    standing = Checkpoint.read(state)
    assert standing is not None
    assert len(standing.blocks) == 2
    dev.drop(1)
    (told,) = scanned(reader, state, start=start)
    assert (told.kind, told.block) == (AlertKind.REORGANISATION, lost.block)
    again = Checkpoint.read(state)
    assert again is not None
    assert again.blocks[0] == standing.blocks[0]
    assert again.blocks[-1].hash != standing.blocks[-1].hash
    assert scanned(reader, state, start=start) == []


def test_a_state_of_another_deployment_is_refused(reader: LogReader, tmp_path: Path) -> None:
    state = tmp_path / "state"
    scanned(reader, state, start=reader.block_number())
    found = Checkpoint.read(state)
    assert found is not None
    found.model_copy(update={"chain_id": 5}).write(state)
    with pytest.raises(ChainError, match="chain 5"):
        scanned(reader, state, start=0)


def test_a_certified_statement_that_its_worker_did_not_make(chain_of_vectors: DevChain, tmp_path: Path) -> None:
    """On the chain of the vectors, where the Certifier accepted two records of a real worker's statement."""
    certificate = Certificate.parse((VECTORS / "zk-certified-on-chain/certificate.json").read_bytes())
    statement = certificate.tasks[0].evidence.statement
    reader = LogReader.connect(chain_of_vectors.url)
    reader.discover()
    quiet = sha256(b"no model")
    watched: dict[str, Any] = {"start": 0, "models": [quiet], "workers": [statement.worker]}
    found = scanned(reader, tmp_path / "a", **watched)
    mine = certificate.domain.digest(statement)
    assert {alert.kind for alert in found} == {AlertKind.FOREIGN_STATEMENT}
    assert any(str(mine) in alert.detail for alert in found)
    told = scanned(reader, tmp_path / "b", **watched, known=[Digest(mine)])
    assert all(str(mine) not in alert.detail for alert in told)
