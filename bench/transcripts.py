"""Write ``docs/transcripts.md``: what operators and requesters see, by running it: ``python -m bench.transcripts``.

A development stack is started, and every command and request of the page is made against it. Ids, times and ports
differ from run to run.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from rexis.cli.demo import Demo
from rexis.cli.stack import Stack, stop
from rexis.client import RexisClient
from rexis.wallet import load_wallet

PAGE = Path(__file__).resolve().parent.parent / "docs" / "transcripts.md"
_HEAD = """# What it looks like

Written by `make transcripts` (`python -m bench.transcripts`) against a stack of real processes on one machine: anvil,
a coordinator, a worker. Nothing is edited but the length of long output (…). Of Grafana there is no picture: it does
not run where this was made.
"""
_METRICS = (
    "rexis_queue_tasks",
    "rexis_jobs_open",
    "rexis_leases_open",
    "rexis_anchor_lag",
    "rexis_state_changes_total",
    "rexis_compute_seconds_count",
    "rexis_gas_spent",
    "rexis_duty_held",
)
_WORKER_METRICS = ("rexis_worker_tasks", "rexis_worker_step_seconds_sum", "rexis_worker_coordinator_up")
_LINES = 40


class _Stack(Stack):
    """A stack whose processes serve metrics and log JSON."""

    def environment(self) -> dict[str, str]:
        """See :class:`Stack`."""
        return {**super().environment(), "REXIS_METRICS_PORT": "0", "REXIS_LOG_FORMAT": "json"}


@dataclass
class Page:
    """The page while it is written."""

    stack: Stack
    text: str = _HEAD

    def section(self, title: str, words: str) -> None:
        """A heading, and what is to be seen below it."""
        self.text += f"\n## {title}\n\n{words}\n"

    def show(self, command: str, output: str) -> None:
        """A command with what it printed."""
        lines = output.rstrip().splitlines()
        shown = lines if len(lines) <= _LINES else [*lines[:_LINES], "…"]
        body = "\n".join(line.rstrip() for line in shown).replace(str(self.stack.folder), "stack-out")
        self.text += f"\n```\n$ {command}\n{body}\n```\n"

    def rexis(self, *arguments: str, to_coordinator: bool = True) -> str:
        """Run a command, show it and its output; returns standard output."""
        where = ["--coordinator", self.stack.coordinator_url, "--wallet", str(self.stack.wallet("requester"))]
        done = self.stack.rexis(*arguments, *(where if to_coordinator else []), check=False)
        words = " ".join(arguments).replace(str(self.stack.folder), "stack-out")
        self.show(f"rexis {words}", done.stdout + done.stderr)
        return done.stdout


def main() -> int:
    """Write the page; returns the exit status."""
    with tempfile.TemporaryDirectory() as folder, _Stack(Path(folder) / "stack-out") as stack:
        PAGE.write_text(_page(stack), encoding="utf-8")
    print(f"wrote {PAGE.name}")
    return 0


def _page(stack: Stack) -> str:
    demo = Demo(stack)
    demo.set_up()
    worker = stack.start_worker("worker-1")
    page = Page(stack)
    url = stack.coordinator_url

    page.section("A job", "`--wait` follows the coordinator's events; on a terminal it shows a bar instead of lines.")
    model = ["--dataset", str(demo.dataset), "--model", str(demo.model_digest), "--epoch", "1", "--tier", "commit"]
    job = page.rexis("submit", *model, "--shard-size", "50", "--wait").split()[0]
    page.rexis("status", job)
    page.rexis("job", "history", job, "--record", "0")

    page.section(
        "Its events", "The same as it goes over the wire; `Last-Event-ID` takes it up where a connection broke."
    )
    page.show(f"curl -H 'Authorization: Bearer …' {url}/v1/jobs/{job[:10]}…/events", _events(stack, job))

    page.section("Health", "Whether requests should come to this coordinator.")
    page.show(f"curl {url}/readyz", httpx.get(f"{url}/readyz").text)

    page.section("Metrics", "A part of what Prometheus scrapes.")
    for name, wanted in (("coordinator", _METRICS), ("worker-1", _WORKER_METRICS)):
        place = _metrics_at(stack.folder / "logs" / f"{name}.log")
        found = [line for line in httpx.get(f"{place}/metrics").text.splitlines() if line.startswith(wanted)]
        page.show(f"curl {place}/metrics", "\n".join(found))

    page.section("Logs", "One JSON object a line: a request of the coordinator, a task of the worker.")
    for name, wanted in (("coordinator", "/evidence"), ("worker-1", "accepted")):
        lines = (stack.folder / "logs" / f"{name}.log").read_text().splitlines()
        page.show(f"grep {wanted} stack-out/logs/{name}.log", next(line for line in lines if wanted in line))

    page.section("A worker", "What it is doing.")
    cache = str(stack.folder / "workers" / "worker-1")
    page.rexis("worker", "status", "--cache", cache, to_coordinator=False)
    stop(worker)

    page.section("A backup", "While the coordinator runs.")
    data = ["--data", str(stack.folder / "coordinator")]
    page.rexis("coordinator", "backup", "--out", str(stack.folder / "copies"), *data, to_coordinator=False)
    return page.text


def _events(stack: Stack, job: str) -> str:
    """A finished job's stream."""
    account = load_wallet(stack.wallet("requester"), stack.passphrase_file.read_text().strip())
    with RexisClient(stack.coordinator_url, account) as client:
        client.login()
        with client.event_stream(f"/v1/jobs/{job}/events", 0) as chunks:
            return b"".join(chunks).decode()


def _metrics_at(log: Path) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = re.search(r"metrics at (http://[\d.:]+)", log.read_text())
        if found is not None:
            return found[1]
        time.sleep(0.1)
    raise SystemExit(f"no metrics in {log}")


if __name__ == "__main__":
    sys.exit(main())
