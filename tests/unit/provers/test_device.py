"""Which device is chosen. No GPU is needed, and none is tested: only what would be asked of ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort
import pytest

from provers.device import AUTO, CPU, CUDA, Device, Gpu, Kind, read_gpus
from provers.executor import OnnxExecutor, best_provider
from rexis.protocol.errors import MalformedError, UnavailableError
from tests.unit.provers.fakes import linear_model

BOTH, TENSORRT = ["TensorrtExecutionProvider", CUDA, CPU], "TensorrtExecutionProvider"


@pytest.mark.parametrize(
    ("text", "available", "providers"),
    [
        ("auto", BOTH, [(CUDA, {"device_id": "0"}), CPU]),
        ("auto", [CPU], [CPU]),
        ("cpu", BOTH, [CPU]),
        ("cuda", BOTH, [(CUDA, {"device_id": "0"}), CPU]),
        ("cuda:3", BOTH, [(CUDA, {"device_id": "3"}), CPU]),
    ],
)
def test_providers_are_asked_for_in_order(text: str, available: list[str], providers: list[object]) -> None:
    assert Device.parse(text).providers(available) == providers


@pytest.mark.parametrize("text", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "CPU", "cuda:0:1"])
def test_other_devices_are_refused(text: str) -> None:
    with pytest.raises(MalformedError, match="no device"):
        Device.parse(text)


@pytest.mark.parametrize("text", ["auto", "cpu", "cuda:2"])
def test_a_device_is_written_as_it_is_read(text: str) -> None:
    assert str(Device.parse(text)) == text
    assert str(Device.parse("cuda")) == "cuda:0"


def test_cuda_that_was_not_built_in_is_refused_with_what_to_install() -> None:
    with pytest.raises(UnavailableError, match="built without CUDA") as refused:
        Device(Kind.CUDA).providers([CPU])
    assert "onnxruntime-gpu" in str(refused.value.hint)


def test_cuda_that_falls_back_to_the_cpu_is_refused_and_auto_is_not() -> None:
    with pytest.raises(UnavailableError, match="cuda:1 does not come up"):
        Device(Kind.CUDA, 1).require(CPU)
    assert AUTO.require(CPU) == CPU
    assert Device(Kind.CUDA, 1).require(CUDA) == CUDA


@pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="this ONNX Runtime may really have one")
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_session_that_falls_back_does_not_serve_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime only warns, and goes on with the CPU."""
    (tmp_path / "model").write_bytes(linear_model())
    monkeypatch.setattr(ort, "get_available_providers", lambda: BOTH)
    device = Device(Kind.CUDA)
    with pytest.raises(UnavailableError, match="does not come up"):
        best_provider(device)
    with pytest.raises(UnavailableError, match="does not come up"):
        OnnxExecutor(tmp_path / "model", device=device)
    assert OnnxExecutor(tmp_path / "model").provider == CPU


def test_what_the_driver_tells_is_read() -> None:
    told = "0, NVIDIA H100 80GB HBM3, 81559, 80000\n1, NVIDIA A2, [N/A], [N/A]\nNo devices were found\n"
    assert read_gpus(told) == [Gpu(0, "NVIDIA H100 80GB HBM3", 81559 << 20, 80000 << 20)]
