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
from circuits.process import EzklProcess, OutOfMemoryError, ProcessGoneError
from circuits.srs import ensure_development_srs
from rexis.protocol.errors import CircuitError

pytest.importorskip("ezkl")


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_error_names_operation_and_reason(tmp_path: Path) -> None:
    with EzklProcess() as ezkl, pytest.raises(CircuitError, match=r"ezkl failed at vka: .*No such file"):
        ezkl.call("vka", vk="none", settings="none", srs="none", out=str(tmp_path / "x"))


def test_a_call_that_fits_no_operation_is_a_fault_and_no_error_of_ezkls() -> None:
    with EzklProcess() as ezkl:
        with pytest.raises(TypeError, match="srs: missing a required argument: 'logrows'"):
            ezkl.call("srs", out="x")
        with pytest.raises(CircuitError, match="ezkl failed at vka"):
            ezkl.call("vka", vk="none", settings="none", srs="none", out="none")


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
        with pytest.raises(TypeError, match="no operation 'no such operation'"):
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


def test_call_in_a_thread_leaves_the_event_loop_free_and_can_be_ended_from_it(tmp_path: Path) -> None:
    async def scenario(ezkl: EzklProcess) -> None:
        await asyncio.to_thread(ezkl.call, "srs", out=str(tmp_path / "a"), logrows=6)
        work = asyncio.create_task(asyncio.to_thread(ezkl.call, "srs", out=str(tmp_path / "a"), logrows=20))
        await asyncio.sleep(0.1)
        assert not work.done()  # it takes minutes, and the loop has run meanwhile
        ezkl.kill()
        with pytest.raises(CircuitError, match="signal 9"):
            await work
        await asyncio.to_thread(ezkl.call, "srs", out=str(tmp_path / "b"), logrows=6)

    with EzklProcess() as ezkl:
        asyncio.run(scenario(ezkl))


@pytest.fixture
def system_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for ``/tmp``."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


def record_file(folder: Path) -> Path | None:
    return next((path for path in folder.rglob("input")), None)


def test_killed_child_leaves_no_records_behind(tmp_path: Path, system_tmp: Path) -> None:
    """A pipe stands for the compiled circuit, so that the child hangs with the record written."""
    compiled = tmp_path / "compiled"
    os.mkfifo(compiled)
    ezkl = EzklProcess()
    seen: list[Path] = []

    def kill_when_written() -> None:
        while (found := record_file(system_tmp)) is None:
            time.sleep(0.01)
        seen.append(found)
        ezkl.kill()

    watcher = threading.Thread(target=kill_when_written, daemon=True)
    watcher.start()
    with pytest.raises(CircuitError, match="signal 9"):
        ezkl.call("witness", compiled=str(compiled), scale=7, records=[[1, 2, 3]])
    watcher.join()
    assert seen
    assert list(system_tmp.iterdir()) == []
    ezkl.close()


def test_folders_of_living_processes_and_of_others_stay(tmp_path: Path, system_tmp: Path) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / "file").write_bytes(b"")
    (system_tmp / "rexis-ezkl-link").symlink_to(target)
    with EzklProcess() as first, EzklProcess() as second:
        for ezkl in (first, second):
            ezkl.call("srs", out=str(tmp_path / "a"), logrows=6)
        assert len(list(system_tmp.glob("rexis-ezkl-*"))) == 3
    assert [path.name for path in system_tmp.iterdir()] == ["rexis-ezkl-link"]
    assert (target / "file").exists()


def test_close_removes_the_childs_folder(tmp_path: Path, system_tmp: Path) -> None:
    with EzklProcess() as ezkl:
        ezkl.call("srs", out=str(tmp_path / "a"), logrows=6)
        assert [path.stat().st_mode & 0o077 for path in system_tmp.iterdir()] == [0]
    assert list(system_tmp.iterdir()) == []


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
def test_child_dies_with_its_parent_even_in_the_middle_of_work(tmp_path: Path, system_tmp: Path) -> None:
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
    (orphan,) = system_tmp.iterdir()
    with EzklProcess() as ezkl:
        ezkl.call("srs", out=str(tmp_path / "c"), logrows=6)
        assert not orphan.exists()


def test_a_child_without_room_says_so(tmp_path: Path) -> None:
    with EzklProcess(memory_limit=256 << 20) as ezkl:
        with pytest.raises(OutOfMemoryError, match="more memory for srs than the 256 MiB that it may take"):
            ezkl.call("srs", out=str(tmp_path / "a"), logrows=22)
        ezkl.call("srs", out=str(tmp_path / "b"), logrows=6)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_a_full_disk_is_no_answer() -> None:
    """An error of the machine's must not pass for one of the files that ezkl was given."""
    with EzklProcess() as ezkl, pytest.raises(ProcessGoneError, match="No space left on device"):
        ezkl.call("srs", out="/dev/full", logrows=6)


@pytest.mark.skipif(sys.platform != "linux", reason="oom_score_adj is Linux's")
def test_where_memory_runs_out_the_child_goes_first(tmp_path: Path) -> None:
    with EzklProcess() as ezkl:
        ezkl.call("srs", out=str(tmp_path / "a"), logrows=6)
        assert Path(f"/proc/{ezkl.pid}/oom_score_adj").read_text().strip() == "1000"
