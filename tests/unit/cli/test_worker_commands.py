"""`rexis worker status` and `drain`, on a worker's real process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rexis.cli.main import main

ROOT = Path(__file__).resolve().parents[3]
_PROGRAM = """
import sys
from pathlib import Path
from provers.worker import WorkerOptions, run_worker
from rexis.protocol.signing import new_account

run_worker(WorkerOptions(coordinator="http://127.0.0.1:9", account=new_account(), name="w1", cache=Path(sys.argv[1])))
"""


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that waits for a coordinator which is not there."""
    started = subprocess.Popen([sys.executable, "-c", _PROGRAM, str(tmp_path)], cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "run").glob("*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield started
    started.kill()
    started.wait()


def test_what_a_worker_does_is_shown_and_it_can_be_drained(
    process: subprocess.Popen[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["worker", "status", "--cache", str(tmp_path), "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert (shown["pid"], shown["name"], shown["state"], shown["tasks"]) == (process.pid, "w1", "starting", [])
    assert main(["worker", "status", "--cache", str(tmp_path)]) == 0
    assert "computes on  CPU" in capsys.readouterr().out

    assert main(["worker", "drain", "--cache", str(tmp_path), "--name", "another"]) == 1
    assert "no worker another runs" in capsys.readouterr().err
    assert main(["worker", "drain", "--cache", str(tmp_path), "--timeout", "30"]) == 0
    assert "ended    w1" in capsys.readouterr().out
    assert process.wait(10) == 0
    assert main(["worker", "status", "--cache", str(tmp_path)]) == 1
    assert "no worker runs" in capsys.readouterr().err


def test_a_worker_that_was_killed_does_not_count(
    process: subprocess.Popen[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert main(["worker", "status", "--cache", str(tmp_path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == []
    assert main(["worker", "drain", "--cache", str(tmp_path), "--now"]) == 1
    assert "no worker runs" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["gpu", "cuda:x"])
def test_a_device_that_is_none_is_refused(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--coordinator", "http://127.0.0.1:9", "--wallet", "none.json", "--unchecked-chain"]
    assert main(["worker", "run", *given, "--device", device]) == 1
    assert f"no device '{device}'" in capsys.readouterr().err
