"""The worker with real proofs, and what is left of it after ``kill -9``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from circuits.build import ProvingCircuit
from circuits.process import EzklProcess
from circuits.proving import Prover
from circuits.verifying import Claim, check_proofs, verify_proofs
from rexis.protocol.evidence import Evidence
from rexis.protocol.records import check_opening
from tests.integration.provers.conftest import RECORDS
from tests.integration.provers.rig import work

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 60.0


def claims(evidence: Evidence) -> list[Claim]:
    """The proofs, with what the openings commit."""
    found = []
    statement = evidence.statement
    for opening, proof in zip(evidence.openings, evidence.proofs, strict=True):
        inputs, outputs = check_opening(
            opening,
            tier=statement.tier,
            circuit=statement.circuit,
            input_root=statement.input_root,
            input_size=statement.input_size,
            output_root=statement.output_root,
            start=statement.record_start,
            count=statement.record_count,
        )
        found.append(Claim(proof.proofs, [], inputs.tolist(), outputs.tolist()))
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def test_every_proof_verifies(folder: Path, circuit: ProvingCircuit) -> None:
    (evidence,) = work(folder).handed_in
    verify_proofs(circuit.artefacts, claims(evidence), circuit.srs)
    assert len(evidence.proofs) == RECORDS
    assert 0 < evidence.measured.max_abs_error_e9 < 10**8
    assert evidence.measured.prove_ms > 0


def test_an_altered_output_has_no_proof(folder: Path, circuit: ProvingCircuit) -> None:
    (evidence,) = work(folder, dishonest="alter-outputs:2").handed_in
    reasons = check_proofs(circuit.artefacts, claims(evidence), circuit.srs)
    assert sum(reason is not None for reason in reasons) == 2


def test_kill_loses_nothing_but_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(folder)
    proofs = folder / "cache" / "proofs"
    wait_until(lambda: proofs.is_dir() and len(list(proofs.glob("*.proof"))) >= 2)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = len(list(proofs.glob("*.proof")))
    assert 2 <= finished < RECORDS
    assert children
    wait_until(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children))

    made = []
    prove = Prover.prove_segment
    monkeypatch.setattr(Prover, "prove_segment", lambda self, *given: made.append(1) or prove(self, *given))
    monkeypatch.setattr("circuits.process.EzklProcess.call", refusing("keys"))
    (evidence,) = work(folder).handed_in
    assert len(evidence.proofs) == RECORDS
    assert len(made) == RECORDS - finished


def start(folder: Path) -> subprocess.Popen[bytes]:
    """A worker in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.provers.rig", str(folder)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def refusing(operation: str) -> Callable[..., object]:
    """``EzklProcess.call`` that must not be used for one operation."""
    call = EzklProcess.call

    def guarded(self: EzklProcess, name: str, **arguments: object) -> object:
        assert name != operation, f"{operation} was done again"
        return call(self, name, **arguments)

    return guarded
