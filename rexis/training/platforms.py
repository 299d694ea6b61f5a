"""Where a training runs, and how it is made to give the same bits there again."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rexis.protocol.errors import TrainingError, UnavailableError
from rexis.protocol.transcript import Platform

try:
    import torch
    import torch.utils.deterministic
    from torch.backends import cudnn
except ImportError as error:
    raise UnavailableError("training needs torch and onnx", hint="pip install 'rexis[training]'") from error

from rexis.training.graph import ARITHMETIC

_CPUINFO = Path("/proc/cpuinfo")
_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9 .+_()@/-]+")

# cuBLAS asks for a fixed workspace before its first call, or its sums change from run to run.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def this_platform(device: str = "cpu", threads: int = 1) -> Platform:
    """What has to be the same for a segment to give the same bits: libraries, device, instruction set, threads."""
    kind = torch.device(device).type
    name = "cpu" if kind == "cpu" else str(torch.cuda.get_device_name(device))
    machine = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} {_processor()} arithmetic-{ARITHMETIC}"
    return Platform(
        torch=re.sub(r"[^A-Za-z0-9.+_-]+", "-", torch.__version__)[:64],
        device=_NOT_ALLOWED.sub("-", name)[:128],
        machine=_NOT_ALLOWED.sub("-", machine)[-128:],
        threads=threads if kind == "cpu" else 0,
    )


def require_device(device: str) -> torch.device:
    """A device of this machine.

    Raises
    ------
    TrainingError
        There is none of that name.
    """
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise TrainingError(f"there is no device {device!r} here", field="device", hint="cpu, or cuda") from error
    return torch.device(device)


@contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Inside, torch takes every sum in the same order each time, in full float32, on so many threads."""
    before = torch.get_num_threads()
    strict, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filling, precision = torch.utils.deterministic.fill_uninitialized_memory, torch.get_float32_matmul_precision()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # it finds bugs, and costs a pass over memory
    torch.set_float32_matmul_precision("highest")
    try:
        with cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.utils.deterministic.fill_uninitialized_memory = filling
        torch.use_deterministic_algorithms(mode=strict, warn_only=warn)
        torch.set_num_threads(before)


def _processor() -> str:
    if _CPUINFO.is_file():
        for line in _CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
