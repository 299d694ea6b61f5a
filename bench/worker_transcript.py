"""The transcripts of `rexis worker` in docs/operations.md, made by running the commands beside a stack (`rexis up`).

``python -m bench.worker_transcript`` prints them; with ``--write`` they replace those in the page; ``--stack DIR``
takes a stack that runs already. What was shown at another time or on another machine differs in figures and addresses.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_REXIS = [sys.executable, "-c", "from rexis.cli.main import run; run()"]
_PAGE = Path(__file__).resolve().parents[1] / "docs" / "operations.md"
_BEGIN, _END = "<!-- made by: python -m bench.worker_transcript --write -->", "<!-- end -->"
_SHOWN_AS = "stack-out"
_PATIENCE_S = 300.0


class Shell:
    """Runs commands with a stack's settings, and remembers what they showed.

    Parameters
    ----------
    stack
        Folder of a running stack.
    """

    def __init__(self, stack: Path) -> None:
        self.stack, self.lines = stack, list[str]()
        ready = (stack / "ready").read_text()
        found = {name: re.search(rf"{name}=(\S+)", ready) for name in ("REXIS_COORDINATOR", "REXIS_RPC")}
        self.environment = {
            **os.environ,
            **{name: match[1] for name, match in found.items() if match},
            "REXIS_PASSPHRASE": (stack / "passphrase").read_text().strip(),
            "COLUMNS": "200",
        }
        submit = re.search(r"rexis (submit .*?) --wait", ready)
        assert submit is not None
        self.submit = shlex.split(submit[1])

    def show(self, *arguments: str) -> str:
        """Run a command and keep what it printed."""
        done = self.run(*arguments)
        shown = shlex.join(["rexis", *arguments]).replace(str(self.stack), _SHOWN_AS)
        self.lines += [f"$ {shown}", *done.stdout.rstrip().replace(str(self.stack), _SHOWN_AS).splitlines(), ""]
        return done.stdout

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command; one that fails ends this."""
        return subprocess.run(
            [*_REXIS, *arguments], env=self.environment, text=True, check=True, stdout=subprocess.PIPE
        )


def transcripts(shell: Shell) -> str:
    """Check, status with a task under way, drain, bench. The stack is left without workers."""
    wallet, cache = str(shell.stack / "wallets" / "worker-1.json"), str(shell.stack / "workers" / "worker-1")
    shell.show("worker", "check", "--wallet", wallet, "--cache", cache, "--models", "breast_cancer,omics,ecg")
    shell.run("worker", "drain", "--cache", str(shell.stack / "workers" / "worker-2"))  # so that the other gets the job
    shell.environment["REXIS_WALLET"] = str(shell.stack / "wallets" / "requester.json")
    shell.run(*shell.submit)
    _wait_for_a_task(shell, cache)
    shell.show("worker", "status", "--cache", cache)
    shell.show("worker", "drain", "--cache", cache)
    shell.show("worker", "bench", "--cache", cache, "--models", "breast_cancer,ecg", "--prove", "breast_cancer")
    return "\n".join(shell.lines).rstrip()


def _wait_for_a_task(shell: Shell, cache: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while '"stage": "prove"' not in (shown := _status(shell, cache)):
        assert time.monotonic() < deadline, f"worker-1 got no task: {shown}"
        time.sleep(0.1)


def _status(shell: Shell, cache: str) -> str:
    command = [*_REXIS, "worker", "status", "--cache", cache, "--json"]
    return subprocess.run(command, env=shell.environment, text=True, check=False, stdout=subprocess.PIPE).stdout


@contextmanager
def _stack(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="rexis-transcript-") as folder:
        out = Path(folder) / "stack"
        subprocess.run([*_REXIS, "up", "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
        try:
            yield out
        finally:
            subprocess.run([*_REXIS, "down", "--out", str(out)], check=True)


def main() -> None:
    """Print the transcripts, or put them into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--stack", type=Path)
    options = parser.parse_args()
    with _stack(options.stack) as stack:
        text = transcripts(Shell(stack))
    if not options.write:
        sys.stdout.write(text + "\n")
        return
    before, found, rest = _PAGE.read_text().partition(_BEGIN)
    _, ends, after = rest.partition(_END)
    assert found and ends, f"{_PAGE} has no place for it"
    _PAGE.write_text(f"{before}{_BEGIN}\n\n```console\n{text}\n```\n\n{_END}{after}")


if __name__ == "__main__":
    main()
