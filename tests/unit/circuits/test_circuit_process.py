"""The child process: failures become errors, never hangs."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from circuits.artefacts import CircuitCache
from circuits.process import EzklProcess
from circuits.srs import ensure_development_srs
from rexis.protocol.errors import CircuitError

pytest.importorskip("ezkl")


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_error_names_operation_and_reason(tmp_path: Path) -> None:
    with EzklProcess() as ezkl, pytest.raises(CircuitError, match=r"ezkl failed at vka: .*No such file"):
        ezkl.call("vka", vk="none", settings="none", srs="none", out=str(tmp_path / "x"))


@pytest.mark.parametrize("python_path", [None, "", ".", os.pathsep, f"{os.pathsep}relative"])
def test_a_module_beside_a_certificate_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python_path: str | None
) -> None:
    """An ``ezkl.py`` in the current folder says yes to everything."""
    (tmp_path / "relative").mkdir()
    for name in ("ezkl.py", "json.py", "sitecustomize.py", "relative/ezkl.py"):
        (tmp_path / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\ndef gen_srs(*a): pass\n")
    monkeypatch.chdir(tmp_path)
    if python_path is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", python_path)
    with EzklProcess() as ezkl:
        ezkl.call("srs", out=str(tmp_path / "srs"), logrows=6)
    assert not (tmp_path / "ran").exists()
    assert (tmp_path / "srs").stat().st_size > 0


def test_an_srs_may_be_named_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = ensure_development_srs(6, Path("cache"))
    assert made.path == tmp_path / "cache/development-k6.srs"
    assert CircuitCache(Path("keys")).entry(made.digest, lambda folder: None).is_absolute()


def test_child_survives_an_error(tmp_path: Path) -> None:
    with EzklProcess() as ezkl:
        for _ in range(2):
            with pytest.raises(CircuitError):
                ezkl.call("vka", vk="none", settings="none", srs="none", out=str(tmp_path / "x"))
        first = ezkl.pid
        with pytest.raises(CircuitError):
            ezkl.call("no such operation")
        assert ezkl.pid == first


def test_killed_child_fails_the_call_and_the_next_one_gets_a_new_child(tmp_path: Path) -> None:
    with EzklProcess() as ezkl:
        ezkl.call("srs", out=str(tmp_path / "a"), logrows=6)
        first = ezkl.pid
        assert first is not None
        threading.Timer(0.3, os.kill, (first, signal.SIGKILL)).start()
        with pytest.raises(CircuitError, match="signal 9"):
            ezkl.call("srs", out=str(tmp_path / "b"), logrows=18)
        ezkl.call("srs", out=str(tmp_path / "c"), logrows=6)
        assert ezkl.pid != first


def test_a_limit_above_the_inherited_one_is_lowered(tmp_path: Path) -> None:
    """In a shell with ``ulimit -v`` a limit cannot be raised; the child took that for a fault and died."""
    script = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))\n"
        "from circuits.process import EzklProcess\n"
        "with EzklProcess(memory_limit=16 << 30) as ezkl:\n"
        f"    ezkl.call('srs', out={str(tmp_path / 'a')!r}, logrows=6)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_call_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with EzklProcess(timeout=0.5) as ezkl, pytest.raises(CircuitError, match="did not finish"):
        ezkl.call("srs", out=str(tmp_path / "a"), logrows=18)


def test_cancelled_call_ends_the_work_and_the_loop_stays_free(tmp_path: Path) -> None:
    async def scenario(ezkl: EzklProcess) -> float:
        work = asyncio.create_task(ezkl.acall("srs", out=str(tmp_path / "a"), logrows=18))
        longest, last = 0.0, time.perf_counter()
        for _ in range(40):
            await asyncio.sleep(0.01)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await ezkl.acall("srs", out=str(tmp_path / "b"), logrows=6)
        return longest

    with EzklProcess() as ezkl:
        assert asyncio.run(scenario(ezkl)) < 0.3


def test_closed_process_refuses() -> None:
    ezkl = EzklProcess()
    ezkl.close()
    with pytest.raises(CircuitError, match="closed"):
        ezkl.call("srs")


def test_close_ends_the_child(tmp_path: Path) -> None:
    ezkl = EzklProcess()
    ezkl.call("srs", out=str(tmp_path / "a"), logrows=6)
    pid = ezkl.pid
    assert pid is not None
    ezkl.close()
    assert not alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_child_dies_with_its_parent_even_in_the_middle_of_work(tmp_path: Path) -> None:
    script = (
        "import sys, threading, time\n"
        "from circuits.process import EzklProcess\n"
        "ezkl = EzklProcess()\n"
        f"ezkl.call('srs', out={str(tmp_path / 'a')!r}, logrows=6)\n"
        f"work = dict(out={str(tmp_path / 'b')!r}, logrows=20)\n"
        "threading.Thread(target=ezkl.call, args=('srs',), kwargs=work).start()\n"
        "print(ezkl.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)
