"""The entry point: help, exit codes, errors without tracebacks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import typer

from rexis.cli.main import app
from rexis.protocol.errors import RexisError

from .conftest import Cli

# Modules that only extras bring. `--help` must not need them.
_EXTRAS = (
    "onnx", "onnxruntime", "web3", "ezkl", "fastapi", "sqlmodel", "torch", "psutil", "uvicorn", "obstore", "sklearn",
)  # fmt: skip


def commands(group: typer.Typer, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for command in group.registered_commands:
        assert command.callback is not None
        yield (*path, command.name or command.callback.__name__.replace("_", "-"))
    for child in group.registered_groups:
        assert child.name is not None
        assert child.typer_instance is not None
        yield from commands(child.typer_instance, (*path, child.name))


ALL = list(commands(app))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help(cli: Cli, path: tuple[str, ...]) -> None:
    ran = cli.ok(*path, "--help")
    assert f"Usage: rexis {' '.join(path)}".strip() in ran.out
    assert ran.err == ""


def test_help_needs_core_dependencies_only() -> None:
    script = f"""
import sys
for name in {_EXTRAS!r}:
    sys.modules[name] = None
from rexis.cli.main import main
for path in {[list(path) for path in ALL]!r}:
    assert main([*path, "--help"]) == 0
heavy = [name for name in ("numpy", "httpx", "eth_account") if name in sys.modules]
assert heavy == [], heavy
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_verifier_loads_nothing_that_signs() -> None:
    script = "import sys; import verifier.certificate; assert 'eth_account' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_missing_extra_says_which() -> None:
    script = """
import sys
sys.modules["onnx"] = None
from rexis.cli.main import main
sys.exit(main(["keygen", "--model", "a", "--key", "b", "--out", "c"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 1
    assert done.stderr == "error: compiling a model needs onnx (hint: pip install 'rexis[ee]')\n"


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["submit"], ["status", "not-a-digest", "--coordinator", "http://x", "--wallet", "w"]],
)
def test_wrong_usage_is_2(cli: Cli, arguments: list[str]) -> None:
    ran = cli(*arguments)
    assert (ran.code, ran.out) == (2, "")


@pytest.mark.parametrize(
    "nodes",
    [[], ["--rpc", "http://x", "--unchecked-chain"], ["--trust-coordinator-rpc", "--unchecked-chain"]],
)
def test_a_worker_is_told_which_chain_node_to_believe(cli: Cli, nodes: list[str]) -> None:
    ran = cli("worker", "run", "--coordinator", "http://x", "--wallet", "none", *nodes)
    assert ran.code == 2
    assert "--trust-coordinator-rpc" in ran.err


class TestFaults:
    """Whatever a command raises, a person sees one line."""

    @pytest.fixture
    def failing(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException]]:
        raised: list[BaseException] = []

        def fail(*arguments: object) -> None:
            raise raised[0]

        monkeypatch.setattr("rexis.wallet.wallet_address", fail)
        yield raised

    @pytest.mark.parametrize(
        ("fault", "code", "text"),
        [
            (RexisError("wrong", field="a.b", hint="do c"), 1, "error: a.b: wrong (hint: do c)\n"),
            (RexisError("evil \x1b[2J\nname"), 1, "error: evil �[2J�name\n"),
            (PermissionError(13, "Permission denied", "f"), 1, "error: Permission denied: f\n"),
            (KeyboardInterrupt(), 130, ""),
            (BrokenPipeError(32, "Broken pipe"), 1, ""),
        ],
    )
    def test_one_line(self, cli: Cli, failing: list[BaseException], fault: BaseException, code: int, text: str) -> None:
        failing.append(fault)
        ran = cli("wallet", "show", "file")
        assert (ran.code, ran.err) == (code, text)

    def test_our_own_fault_shows_no_values(
        self, cli: Cli, failing: list[BaseException], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        failing.append(ValueError("private key 0xabc"))
        ran = cli("wallet", "show", "file")
        assert ran.code == 1
        assert ran.err.startswith("error: internal fault: ValueError")
        assert "0xabc" not in ran.err
        monkeypatch.setenv("REXIS_DEBUG", "1")
        with pytest.raises(ValueError, match="private key"):
            cli("wallet", "show", "file")


def test_broken_pipe() -> None:
    """`rexis --help | true`."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", "from rexis.cli.main import run; run()", "--help"],
        stdout=write, stderr=subprocess.PIPE, check=False, timeout=60,
    )  # fmt: skip
    os.close(write)
    assert done.stderr == b""
