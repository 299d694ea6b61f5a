"""What models run on: which device a worker may use, and what is there."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from rexis.protocol.errors import MalformedError, UnavailableError

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
PREFERRED_PROVIDERS = (CUDA, CPU)
_GPU_QUERY = ("index", "name", "memory.total", "memory.free")
_QUERY_SECONDS = 10.0
_CUDA_DEVICE = re.compile(r"cuda(?::(\d{1,3}))?")

Provider = str | tuple[str, dict[str, str]]
"""An ONNX Runtime execution provider, with its options."""


class Kind(StrEnum):
    """What an operator chose."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True)
class Device:
    """``auto`` (a GPU if one comes up, else the CPU), ``cpu``, or ``cuda:N`` and nothing else."""

    kind: Kind
    index: int = 0

    @classmethod
    def parse(cls, text: str) -> Device:
        """Read an option.

        Raises
        ------
        MalformedError
            None of these.
        """
        if text in (Kind.AUTO, Kind.CPU):
            return cls(Kind(text))
        found = _CUDA_DEVICE.fullmatch(text)
        if found is None:
            raise MalformedError(f"no device {text!r}", field="device", hint="auto, cpu, cuda or cuda:N")
        return cls(Kind.CUDA, int(found[1] or 0))

    def __str__(self) -> str:
        return f"{self.kind}:{self.index}" if self.kind == Kind.CUDA else str(self.kind)

    def providers(self, available: Sequence[str]) -> list[Provider]:
        """What to ask ONNX Runtime for, in this order.

        Parameters
        ----------
        available
            What it was built with.

        Raises
        ------
        UnavailableError
            CUDA was chosen, and this ONNX Runtime was built without.
        """
        if self.kind == Kind.CUDA and CUDA not in available:
            raise UnavailableError(
                f"no device {self}: this ONNX Runtime was built without CUDA",
                hint="pip uninstall onnxruntime; pip install onnxruntime-gpu; or take --device auto",
            )
        if self.kind == Kind.CPU or CUDA not in available:
            return [CPU]
        return [(CUDA, {"device_id": str(self.index)}), CPU]

    def require(self, provider: str) -> str:
        """The provider that a session came up with, if it is one of this device.

        Raises
        ------
        UnavailableError
            CUDA was chosen, and ONNX Runtime fell back to the CPU.
        """
        if self.kind == Kind.CUDA and provider != CUDA:
            raise UnavailableError(
                f"device {self} does not come up: ONNX Runtime fell back to {provider}",
                hint="is the driver there (nvidia-smi), and do its CUDA and cuDNN fit this onnxruntime-gpu?",
            )
        return provider


AUTO = Device(Kind.AUTO)


@dataclass(frozen=True)
class Gpu:
    """A GPU as its driver tells."""

    index: int
    name: str
    memory_bytes: int
    free_bytes: int


def gpus() -> list[Gpu]:
    """The GPUs of this machine; none where NVIDIA's driver is not there."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        told = subprocess.run(
            [command, f"--query-gpu={','.join(_GPU_QUERY)}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_QUERY_SECONDS,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return read_gpus(told)


def read_gpus(told: str) -> list[Gpu]:
    """Parse what ``nvidia-smi`` printed, memory in MiB; lines that it cannot fill in are left out."""
    found = []
    for line in told.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == len(_GPU_QUERY) and all(cells[place].isdecimal() for place in (0, 2, 3)):
            found.append(Gpu(int(cells[0]), cells[1], int(cells[2]) << 20, int(cells[3]) << 20))
    return found
