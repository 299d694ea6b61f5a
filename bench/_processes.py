"""What the kernel says of a process (Linux: proc(5))."""

from __future__ import annotations

import os
from pathlib import Path


def peak_bytes(pid: int | None) -> int:
    """Largest resident set so far; `pid` as :attr:`circuits.process.EzklProcess.pid` gives it."""
    lines = _proc(pid, "status").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def cpu_seconds(pid: int | None) -> float:
    """Processor time so far, of all threads."""
    fields = _proc(pid, "stat").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _proc(pid: int | None, name: str) -> str:
    if pid is None:
        raise ProcessLookupError("the process has ended")
    return Path("/proc", str(pid), name).read_text()
