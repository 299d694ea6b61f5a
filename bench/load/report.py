"""The figures as a table, as JSON and as a plot."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.load.measure import Run


@dataclass
class Report:
    """All runs of one command.

    Attributes
    ----------
    limits
        Tasks a second that the bare database takes, by database and tasks a transaction.
    plans
        How each database finds the next task in the longest queue.
    """

    command: str
    runs: list[Run] = field(default_factory=list)
    limits: dict[str, dict[int, float]] = field(default_factory=dict)
    plans: dict[str, str] = field(default_factory=dict)

    def to_object(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "command": self.command,
            "machine": {
                "cores": psutil.cpu_count(),
                "memoryGib": round(psutil.virtual_memory().total / (1 << 30)),
                "python": platform.python_version(),
                "loadAverage": psutil.getloadavg(),
            },
            "runs": [run.to_object() for run in self.runs],
            "bareTasksPerSecond": self.limits,
            "plans": self.plans,
        }

    def text(self) -> str:
        """For a terminal."""
        lines = [
            f"{'run':<46} {'tasks/s':>8} {'p99 ms':>8} {'of bare':>8} {'MiB first…last':>16}"
            "  cores: coord. workers machine  coord. ms/task"
        ]
        for run in self.runs:
            memory = f"{_settled(run)[0]:.0f} … {_settled(run)[1]:.0f}"
            lines.append(
                f"{run.name:<46} {run.rate:>8.1f} {run.every_call.p99:>8.1f} {self._of_bare(run):>8} {memory:>16}"
                f"  {run.cpu['coordinators']:>13.2f} {run.cpu['workers']:>7.2f} {run.cpu['machine']:>7.2f}"
                f"  {run.cpu_ms:>14.2f}"
            )
        for database, limits in self.limits.items():
            shown = ", ".join(f"{limit:.0f} at {size} a transaction" for size, limit in limits.items())
            lines.append(f"bare {database}: tasks/s {shown}")
        for run in self.runs:
            lines.append(f"\n{run.name}: {run.tasks} tasks in {run.seconds:g} s, {run.certified} jobs certified")
            if run.rows is not None and run.commits is not None:
                lines.append(
                    f"  a task: {run.rows.inserted:.1f} rows inserted, {run.rows.updated:.1f} updated, "
                    f"{run.commits:.2f} transactions (reads and the bench's own among them)"
                )
            for route, found in run.latencies.items():
                lines.append(
                    f"  {route:<40} {found.calls:>7} calls  p50 {found.p50:>7.1f}  p95 {found.p95:>7.1f}"
                    f"  p99 {found.p99:>7.1f}  most {found.most:>7.1f} ms"
                )
            lines += [f"  trouble, {count} times: {what}" for what, count in run.troubles.items()]
        for database, plan in self.plans.items():
            lines.append(f"\nthe next task of the long queue, {database}:\n" + _indented(plan))
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """``load.json`` and ``load.svg``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "load.json").write_text(json.dumps(self.to_object(), indent=1))
        (folder / "load.txt").write_text(self.text() + "\n")
        self._plot(folder / "load.svg")

    def _of_bare(self, run: Run) -> str:
        for database, limits in self.limits.items():
            if run.name.startswith(database) and limits:
                size = max(limits) if "at a time" in run.name else min(limits)
                return f"{run.rate / limits[size]:.2f}"
        return ""

    def _plot(self, file: Path) -> None:
        import matplotlib as mpl

        mpl.use("svg")
        from matplotlib import pyplot as plt

        figure, (tasks, memory) = plt.subplots(1, 2, figsize=(11, 4))
        for run in self.runs:
            tasks.plot([at for at, _ in run.anchored], [count for _, count in run.anchored], label=run.name)
            memory.plot(run.memory_mib, label=run.name)
        tasks.set(title="anchored tasks", xlabel="seconds", ylabel="tasks")
        memory.set(title="coordinators' memory", xlabel="seconds", ylabel="MiB", ylim=(0, None))
        tasks.legend(fontsize="x-small")
        figure.tight_layout()
        figure.savefig(file)
        plt.close(figure)


def _settled(run: Run) -> tuple[float, float]:
    """Mean memory of the second and of the last tenth of a run: the first one warms caches up."""
    tenth = max(1, len(run.memory_mib) // 10)
    first, last = run.memory_mib[tenth : 2 * tenth] or run.memory_mib, run.memory_mib[-tenth:]
    return sum(first) / len(first), sum(last) / len(last)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
