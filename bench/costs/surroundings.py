"""Where and with what a run was made."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.costs.result import Machine
from circuits.memory import total_bytes

_PACKAGES = ("rexis", "ezkl", "onnxruntime", "onnx", "numpy", "web3", "pyrevm", "tenseal")
_ROOT = Path(__file__).parents[2]


def commit() -> str | None:
    """Of the checkout, with a mark if files were changed; None outside of one."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()


def machine(load_before: float) -> Machine:
    """This one, with its load average before and now."""
    return Machine(
        system=platform.platform(),
        processor=_processor(),
        cores=os.cpu_count() or 0,
        memory_bytes=total_bytes(),
        load_before=round(load_before, 2),
        load_after=round(os.getloadavg()[0], 2),
    )


def _processor() -> str:
    """As Linux names it (proc(5), cpuinfo)."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def versions() -> dict[str, str]:
    """Of what the figures depend on, as far as it is installed."""
    found = {"Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
