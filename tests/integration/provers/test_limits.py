"""ezkl's child runs out of memory or time, or is killed: the task fails with the reason, and the worker goes on."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import provers.circuit
from circuits.build import ProvingCircuit
from circuits.process import EzklProcess
from provers.circuit import LocalSite
from provers.task import CircuitFiles
from rexis.protocol.errors import ResourceError
from tests.integration.provers.rig import work


def test_a_circuit_beyond_the_memory_by_the_estimate_is_refused_before_it_begins(folder: Path) -> None:
    done = work(folder, memory_bytes=32 << 20)
    ((code, detail),) = done.failures
    assert code == "too-large"
    assert ", 32 MiB are there" in detail
    assert done.handed_in == []


def test_a_segment_beyond_the_memory_is_refused_before_it_begins(folder: Path, circuit: ProvingCircuit) -> None:
    pinned, blobs, keys = circuit.artefacts.description, folder / "blobs", folder / "keys"
    (folder / "vk").write_bytes(circuit.artefacts.vk)
    files = CircuitFiles(blobs / "model", blobs / "settings", blobs / "srs")
    for memory_bytes, fits in ((32 << 20, False), (1 << 30, True)):
        with closing(LocalSite(keys, memory_bytes)) as site, site.desk(lambda: None) as desk:
            given = (pinned, files, folder / "vk", circuit.artefacts.vka, 0)
            if fits:
                desk.open_segment(*given)
                assert keys.exists()
                continue
            with pytest.raises(ResourceError, match=", 32 MiB are there"):
                desk.open_segment(*given)
            assert not keys.exists()


def test_a_child_that_takes_more_memory_than_estimated_fails_the_task(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        provers.circuit, "require_memory", lambda settings, available: None
    )  # an estimate that is far too low
    monkeypatch.setattr(provers.circuit, "_ADDRESSES_BYTES", 0)
    done = work(folder, memory_bytes=100 << 20, times=2)
    assert [code for code, _ in done.failures] == ["circuit-memory"] * 2
    assert "than the 100 MiB that it may take" in done.failures[0][1]
    assert done.handed_in == []


def test_a_call_that_takes_too_long_fails_the_task(folder: Path) -> None:
    done = work(folder, proof_seconds=0.05, times=2)
    assert [code for code, _ in done.failures] == ["circuit-process"] * 2
    assert "in 0.05 s and was ended" in done.failures[0][1]


def test_a_killed_child_fails_the_task_and_the_next_one_succeeds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel does it when memory runs out."""
    call, killed = EzklProcess.call, list[int]()

    def call_and_kill(ezkl: EzklProcess, operation: str, **arguments: Any) -> Any:
        if operation == "prove" and not killed and ezkl.pid is not None:
            killed.append(ezkl.pid)
            os.kill(ezkl.pid, signal.SIGSTOP)  # so that it cannot answer before
            threading.Timer(0.2, os.kill, (ezkl.pid, signal.SIGKILL)).start()
        return call(ezkl, operation, **arguments)

    monkeypatch.setattr(EzklProcess, "call", call_and_kill)
    done = work(folder, times=2)
    ((code, detail),) = done.failures
    assert killed
    assert code == "circuit-process"
    assert "the proof process ended during prove (signal 9)" in detail
    assert len(done.handed_in) == 1


def test_a_child_that_crashes_at_once_fails_every_task_and_not_the_worker(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("circuits.process.python", lambda *arguments: ["/bin/sh", "-c", "exit 7"])
    done = work(folder, times=2)
    assert [code for code, _ in done.failures] == ["circuit-process"] * 2
    assert "exit code 7" in done.failures[0][1]
