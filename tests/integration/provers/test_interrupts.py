"""Signals: to a worker that waits for its coordinator, and in the middle of a long proof."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from circuits.build import ProvingCircuit
from circuits.process import EzklProcess
from provers.circuit import LocalSite
from provers.display import PlainDisplay
from provers.keeper import Held, LeaseKeeper, Stop, StopRequested
from provers.task import CircuitFiles
from rexis.api import Lease, Stage
from rexis.locks import locked
from rexis.protocol.errors import CircuitError
from rexis.protocol.signing import new_account
from tests.unit.provers.fakes import FakeCoordinator

ROOT = Path(__file__).resolve().parents[3]
_NOBODY_LISTENS = "http://127.0.0.1:9"
_PROGRAM = """
import sys
from pathlib import Path
from provers.worker import WorkerOptions, run_worker
from rexis.protocol.signing import new_account
run_worker(WorkerOptions(coordinator=sys.argv[1], account=new_account(), name="w", cache=Path(sys.argv[2])))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_waiting_worker_with_0(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, _NOBODY_LISTENS, str(tmp_path / "cache")],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    first = process.stderr.readline()
    assert "cannot reach the coordinator" in first
    assert "trying again" in first
    process.send_signal(number)
    assert process.wait(timeout=10) == 0
    assert process.stderr.read().rstrip().endswith("stopped")


def test_a_stop_ends_a_long_proof_at_once(folder: Path) -> None:
    lease = Lease.from_json((folder / "lease.json").read_bytes())
    stop = Stop()
    with EzklProcess() as ezkl:
        begun = time.monotonic()
        with pytest.raises(StopRequested), keeper_of(lease, stop) as keeper:
            keeper.on_interrupt(ezkl.kill)
            keeper.at(Stage.PROVE, 0, 1)
            threading.Timer(1.0, lambda: setattr(stop, "requested", True)).start()
            with pytest.raises(CircuitError):
                ezkl.call("srs", out=str(folder / "big.srs"), logrows=20)  # takes minutes
            keeper.check()
    assert time.monotonic() - begun < 20


def test_a_stop_ends_the_wait_for_another_workers_keys(folder: Path, circuit: ProvingCircuit) -> None:
    """Another worker holds the lock for as long as its set-up takes: minutes for a large circuit."""
    lease, stop = Lease.from_json((folder / "lease.json").read_bytes()), Stop()
    blobs, keys = folder / "blobs", folder / "keys"
    keys.mkdir()
    lock = (
        keys / f".{circuit.segments[0].folder.name}.lock"
    )  # the same model, settings and SRS have the same name everywhere
    site = LocalSite(keys, None)
    with pytest.raises(StopRequested), keeper_of(lease, stop) as keeper, locked(lock), closing(site):
        threading.Timer(0.5, lambda: setattr(stop, "requested", True)).start()
        files = CircuitFiles(blobs / "model", blobs / "settings", blobs / "srs")
        with site.desk(keeper.check) as desk:
            desk.open(lease.request.circuit, files, lambda done, total: None)
    assert [path.name for path in keys.iterdir()] == [lock.name]


def keeper_of(lease: Lease, stop: Stop) -> LeaseKeeper:
    coordinator = FakeCoordinator(new_account(), {})
    held = Held("task", lease.count, 1, lambda progress: coordinator.heartbeat(lease.lease_id, progress))
    return LeaseKeeper(held, stop, finish=False, display=PlainDisplay())
