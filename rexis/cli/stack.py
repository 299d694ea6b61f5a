"""A whole rexis on one machine, every part a process of its own: chain, contracts, coordinator, workers.

For development and demonstration: the chain is anvil, the SRS is made here, and one passphrase protects all key files.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx

from rexis.cli.console import note, say
from rexis.files import write_file
from rexis.interpreter import python, python_environment
from rexis.protocol.errors import ConflictError, RexisError, UnavailableError
from rexis.protocol.parsing import Address

if TYPE_CHECKING:
    from contracts.devchain import DevChain

_START_S = 60.0
_STOP_S = 20.0
_SUPERVISOR = "supervisor.pid"
_READY = "ready"
ROLES = ("owner", "requester", "coordinator")
# Of the caller's own settings, those that move the coordinator's state elsewhere: to empty places, the chain is new.
_STORES = ("REXIS_DATABASE_URL", "REXIS_BLOB_URL")


class Stack:
    """Processes and files of one development deployment.

    Parameters
    ----------
    folder
        Where wallets, keys, logs and data lie; must not exist yet, or be empty.
    settings
        More of the coordinator's environment.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        if folder.exists() and any(folder.iterdir()):
            raise ConflictError(f"{folder} is not empty", hint="choose another --out, or remove it")
        self.folder = folder.absolute()
        self._ends = ExitStack()
        self._chain: DevChain | None = None
        self._settings = dict(settings or {})
        self._url, self.coordinator_pid = "", 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._ends.close()

    @property
    def chain_url(self) -> str:
        """The chain's JSON-RPC endpoint."""
        if self._chain is None:
            raise UnavailableError("the stack is not started")
        return self._chain.url

    @property
    def coordinator_url(self) -> str:
        """The coordinator's URL."""
        return self._url

    @property
    def passphrase_file(self) -> Path:
        """One passphrase for all of this stack's key files."""
        return self.folder / "passphrase"

    @property
    def deployment(self) -> Path:
        """What ``rexis deploy`` wrote."""
        return self.folder / "deployment.json"

    def wallet(self, name: str) -> Path:
        """Wallet file of one role or worker."""
        return self.folder / "wallets" / f"{name}.json"

    def start(self) -> None:
        """Chain, wallets, contracts, coordinator."""
        from contracts.devchain import DevChain

        self.folder.mkdir(parents=True, exist_ok=True)
        write_file(self.passphrase_file, secrets.token_hex(16).encode() + b"\n", private=True)
        self._chain = DevChain.start()
        self._ends.callback(self._chain.stop)
        for role in ROLES:
            self.new_wallet(role)
        for role in ("owner", "coordinator"):
            self._chain.fund(self._address(role))
        self.rexis(
            "deploy", "--rpc", self.chain_url, "--wallet", str(self.wallet("owner")), "--out", str(self.deployment)
        )
        self._start_coordinator()

    def new_wallet(self, name: str) -> None:
        """Make a fresh random wallet."""
        from rexis.wallet import create_wallet

        self.wallet(name).parent.mkdir(mode=0o700, exist_ok=True)
        create_wallet(self.wallet(name), self.passphrase_file.read_text().strip())

    def start_worker(self, name: str, *, dishonest: str | None = None) -> subprocess.Popen[bytes]:
        """Start a worker process; a fault such as ``alter-outputs:0.25`` makes it cheat."""
        if not self.wallet(name).exists():
            self.new_wallet(name)
        arguments = [
            "worker", "run", "--coordinator", self.coordinator_url, "--rpc", self.chain_url,
            "--wallet", str(self.wallet(name)), "--name", name, "--cache", str(self.folder / "workers" / name),
        ]  # fmt: skip
        if dishonest is not None:
            arguments += ["--dishonest-for-tests-only", dishonest]
        return self.spawn(name, [*_REXIS, *arguments])

    def spawn(self, name: str, command: list[str], settings: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a command in the background; its output goes to ``logs/``, and it ends with the stack."""
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        with (logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**self.environment(), **(settings or {})},
                start_new_session=True,
            )
        self._ends.callback(stop, process)
        return process

    def rexis(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one ``rexis`` command to its end.

        Raises
        ------
        RexisError
            It failed and `check` is set; holds what it wrote to stderr.
        """
        done = subprocess.run(
            [*_REXIS, *arguments], capture_output=True, text=True, check=False, env=self.environment()
        )
        if check and done.returncode != 0:
            raise RexisError(f"`rexis {arguments[0]}` ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
        return done

    def environment(self) -> dict[str, str]:
        """Environment of this stack's commands: nothing of the caller's own rexis settings, but where to store."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("REXIS_")}
        return {
            **python_environment(inherited),
            "REXIS_PASSPHRASE": self.passphrase_file.read_text().strip(),
            "COLUMNS": "160",
        }

    def _start_coordinator(self) -> None:
        port = _free_port()
        settings = {
            "REXIS_PORT": str(port),
            "REXIS_DATA_DIR": str(self.folder / "coordinator"),
            "REXIS_RPC": self.chain_url,
            "REXIS_SUGGESTED_RPC": self.chain_url,
            "REXIS_DEPLOYMENT": str(self.deployment),
            "REXIS_WALLET": str(self.wallet("coordinator")),
            **{name: os.environ[name] for name in _STORES if name in os.environ},
        }
        process = self.spawn("coordinator", python("-m", "coordinator"), settings | self._settings)
        self.coordinator_pid = process.pid
        self._url = f"http://127.0.0.1:{port}"
        wait_for(f"{self._url}/healthz", process, self.folder / "logs" / "coordinator.log")

    def _address(self, name: str) -> Address:
        from rexis.wallet import wallet_address

        return wallet_address(self.wallet(name))


# `python -m` and not the console script, so that a stack also starts from a checkout's interpreter.
_REXIS = python("-c", "from rexis.cli.main import run; run()")


def stop(process: subprocess.Popen[bytes], *, kill: bool = False) -> int:
    """End a process: SIGTERM and patience, or ``kill -9``; returns its exit code."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a URL answers with 200, or say why it does not."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UnavailableError(f"process ended with {process.returncode}: {log.read_text()[-1500:].strip()}")
        try:
            if httpx.get(url, timeout=2.0, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise UnavailableError(f"{url} did not answer within {_START_S:g} s", hint=f"see {log}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- `rexis up` and `rexis down` -------------------------------------------------------------------------------


def up(out: Path, *, foreground: bool) -> None:
    """Start a development stack with a registered model, and leave it running; `foreground`: stay with it."""
    if foreground:
        _supervise(out)
        return
    _require_stopped(out)
    out = fresh_folder(out).absolute()
    log = out.with_name(out.name + ".log")
    with log.open("wb") as stream:
        supervisor = subprocess.Popen(
            [*_REXIS, "up", "--foreground", "--out", str(out)],
            stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True,
            env=python_environment(),
        )  # fmt: skip
    note(f"starting; progress is in {log} …")
    while supervisor.poll() is None and not (out / _READY).exists():
        time.sleep(0.2)
    if supervisor.poll() is not None:
        raise UnavailableError(f"the stack did not start: {log.read_text()[-1500:].strip()}")
    say((out / _READY).read_text().rstrip())


def down(out: Path) -> None:
    """Stop the stack that :func:`up` started; its files stay."""
    pid = _running(out)
    if pid is None:
        note(f"no stack is running in {out}")
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 2 * _STOP_S
    while _running(out) is not None:
        if time.monotonic() > deadline:
            raise UnavailableError(f"the stack's supervisor {pid} does not stop")
        time.sleep(0.1)
    say("stopped")


def _supervise(out: Path) -> None:
    from rexis.cli.demo import Demo

    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)
    with Stack(out) as stack:
        pid_file = stack.folder / _SUPERVISOR
        stack.folder.mkdir(parents=True, exist_ok=True)
        write_file(pid_file, f"{os.getpid()}\n".encode())
        try:
            run = Demo(stack)
            run.set_up()
            for name in ("worker-1", "worker-2"):
                stack.start_worker(name)
            text = "\n".join(
                (
                    "running; `make down` stops it. In a shell:",
                    f"  export REXIS_COORDINATOR={stack.coordinator_url} REXIS_RPC={stack.chain_url}",
                    f"  export REXIS_WALLET={stack.wallet('requester')}",
                    f"  export REXIS_PASSPHRASE=$(cat {stack.passphrase_file})",
                    f"  .venv/bin/rexis submit --dataset {run.dataset} --model {run.model_digest} --epoch 1"
                    " --tier sampled -k 8 --wait",
                    f"  API documentation: {stack.coordinator_url}/docs",
                )
            )
            say(text)
            write_file(stack.folder / _READY, text.encode() + b"\n")
            signal.pause()
        except KeyboardInterrupt:
            note("stopping")
        finally:
            pid_file.unlink()


def _running(out: Path) -> int | None:
    try:
        pid = int((out / _SUPERVISOR).read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid


def _require_stopped(out: Path) -> None:
    if _running(out) is not None:
        raise ConflictError(f"a stack is running in {out}", hint=f"`rexis down --out {out}` stops it")


def fresh_folder(out: Path) -> Path:
    """`out`, with what an earlier run left there moved to ``<out>.previous``."""
    if (out / "passphrase").exists():
        previous = out.with_name(out.name + ".previous")
        if previous.exists():
            shutil.rmtree(previous)
        out.rename(previous)
    return out
