"""What demonstrations share: commands that are shown and run on a stack, and waiting for jobs."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rexis.cli.console import say
from rexis.cli.options import connect
from rexis.cli.stack import Stack
from rexis.protocol.digests import Digest
from rexis.protocol.errors import RexisError

_WAIT_S = 300.0
_POLL_S = 0.5


class Script:
    """A demonstration over one stack.

    Parameters
    ----------
    stack
        Not started yet.
    show
        Prints a line.
    """

    def __init__(self, stack: Stack, show: Callable[[str], None] = say) -> None:
        self.stack, self.show, self.folder = stack, show, stack.folder
        self._began = time.monotonic()

    def audit(self, certificate: Path, *options: str) -> int:
        """Verify a certificate as an auditor does; returns the exit code."""
        done = self.command(
            "verify", str(certificate), "--rpc", self.stack.chain_url,
            "--allow-development-srs", "--allow-development-chain", *options, check=False,
        )  # fmt: skip
        self.show_output(done)
        self.show(f"  exit code {done.returncode}")
        return done.returncode

    def heading(self, text: str) -> None:
        """Begin a part."""
        self.show("")
        self.show(f"── {time.monotonic() - self._began:5.1f} s ── {text}")

    def command(self, *arguments: str, check: bool = True, quiet: bool = False) -> subprocess.CompletedProcess[str]:
        """Show one ``rexis`` command and run it."""
        shown = list(arguments)
        for option in ("--coordinator", "--wallet", "--rpc", "--deployment"):  # `make up` prints them as variables
            if quiet and option in shown:
                del shown[shown.index(option) : shown.index(option) + 2]
        self.show("$ rexis " + self._short(" ".join(shown)))
        return self.stack.rexis(*arguments, check=check)

    def show_output(self, done: subprocess.CompletedProcess[str]) -> None:
        """Show what a command printed."""
        for line in (done.stdout + (done.stderr if done.returncode else "")).rstrip().splitlines():
            self.show("  " + self._short(line))

    def signed_by(self, role: str) -> list[str]:
        """Options that name the coordinator and a role's wallet."""
        return ["--coordinator", self.stack.coordinator_url, "--wallet", str(self.stack.wallet(role))]

    def wait(self, job_id: str, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Look at a job until it is as wanted; returns its last view."""
        deadline = time.monotonic() + _WAIT_S
        wallet, coordinator = self.stack.wallet("requester"), self.stack.coordinator_url
        with connect(coordinator, wallet, self.stack.passphrase_file) as client:
            while time.monotonic() < deadline:
                view = client.job(Digest.parse(job_id)).to_object()
                if until(view):
                    return view
                time.sleep(_POLL_S)
        raise RexisError(f"job {job_id} did not get there within {_WAIT_S:g} s", hint=f"see {self.folder}/logs")

    def _short(self, text: str) -> str:
        return text.replace(f"{self.folder}/", "").replace(f"{Path.cwd()}/", "")
