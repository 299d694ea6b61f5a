"""What a machine is told about itself, where something stands in the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from circuits.settings import CircuitSettings, canonical
from provers import checkup
from provers.checkup import Finding, Grade, ZooModel
from provers.device import AUTO, CPU, Device, Gpu, Kind
from tests.unit.circuits.settings_document import document
from tests.unit.provers.fakes import linear_model


def of(what: str, found: Iterator[Finding]) -> Finding:
    """The finding of this name."""
    return next(one for one in found if one.what == what)


def machine(
    folder: Path, device: Device = AUTO, memory_bytes: int | None = None, cache_bytes: int = 1
) -> list[Finding]:
    return list(checkup.machine(folder, cache_bytes, memory_bytes, device))


def test_a_machine_that_has_everything(tmp_path: Path) -> None:
    found = {one.what: one for one in machine(tmp_path / "not" / "there")}
    assert {name for name, one in found.items() if one.grade == Grade.FAIL} == set()
    assert "MiB are free" in found["memory"].says
    assert not (tmp_path / "not").exists(), "looking makes nothing"


def test_memory_that_is_not_there(tmp_path: Path) -> None:
    found = of("memory", iter(machine(tmp_path, memory_bytes=1 << 50)))
    assert (found.grade, found.hint) == (Grade.WARN, "a lower --memory")


def test_a_disk_that_is_too_small(tmp_path: Path) -> None:
    assert of("disk", iter(machine(tmp_path, cache_bytes=1 << 60))).grade == Grade.WARN


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_gpu_that_was_asked_for_and_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [CPU])
    found = of("device", iter(machine(tmp_path, Device(Kind.CUDA))))
    assert found.grade == Grade.FAIL
    assert "built without CUDA" in found.says


def test_a_gpu_that_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [CPU])
    monkeypatch.setattr(checkup, "gpus", lambda: [Gpu(0, "NVIDIA X", 80 << 30, 70 << 30)])
    found = of("device", iter(machine(tmp_path)))
    assert (found.grade, found.hint) == (Grade.WARN, "pip install onnxruntime-gpu")
    assert "NVIDIA X, 71680 MiB of 81920 MiB free" in found.says


def test_another_ezkl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "version", lambda name: "22.0.0")
    found = of("ezkl", iter(machine(tmp_path)))
    assert found.grade == Grade.FAIL
    assert "version 22.0.0, not 23.0.5" in found.says


@pytest.fixture
def zoo_model(tmp_path: Path) -> ZooModel:
    (tmp_path / "model.onnx").write_bytes(linear_model())
    settings = CircuitSettings.parse(canonical(document()))
    return ZooModel("linear", tmp_path / "model.onnx", np.zeros((1, 3), np.float32), [settings])


@pytest.mark.parametrize(
    ("memory_bytes", "grade", "says"),
    [(64 << 30, Grade.OK, "tiers commit, sampled, zk: yes"), (1 << 20, Grade.FAIL, "sampled, zk: no")],
)
def test_a_model_is_proved_where_the_memory_is(zoo_model: ZooModel, memory_bytes: int, grade: Grade, says: str) -> None:
    found = checkup.model(zoo_model, AUTO, memory_bytes)
    assert found.grade == grade
    assert says in found.says


def test_a_model_without_a_circuit_is_said_to_have_none(zoo_model: ZooModel) -> None:
    bare = ZooModel(zoo_model.name, zoo_model.file, zoo_model.record, None)
    assert checkup.model(bare, AUTO, None).grade == Grade.WARN


def test_a_model_that_does_not_run_fails(zoo_model: ZooModel) -> None:
    zoo_model.file.write_bytes(b"no model")
    assert checkup.model(zoo_model, AUTO, None).grade == Grade.FAIL


@pytest.mark.parametrize(
    ("skew", "grade"), [(0, Grade.OK), (60, Grade.WARN), (-60, Grade.WARN), (600, Grade.FAIL), (-600, Grade.FAIL)]
)
def test_a_clock_that_is_off(skew: float, grade: Grade) -> None:
    found = checkup._clock(formatdate(time.time() - skew, usegmt=True), time.time())
    assert found.grade == grade
    if skew:
        assert ("ahead of" if skew > 0 else "behind") in found.says


@pytest.mark.parametrize("date", [None, "yesterday"])
def test_a_coordinator_that_does_not_tell_the_time(date: str | None) -> None:
    assert checkup._clock(date, time.time()).grade == Grade.SKIPPED


def test_somebody_elses_server_is_no_coordinator_and_no_node() -> None:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        (found,), info = checkup.coordinator(url)
        assert (found.grade, info) == (Grade.FAIL, None)
        assert of("chain node", checkup.chain(url, None)).grade == Grade.FAIL
        server.shutdown()
