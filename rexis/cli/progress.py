"""How a job looks on the screen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rexis.api import JobSummary, JobView, TaskState, TaskView
from rexis.cli.console import clean, note, stderr
from rexis.protocol.digests import Digest
from rexis.protocol.parsing import enum_name

_DONE = (TaskState.ACCEPTED, TaskState.ANCHORED)
_BAR = 20
_SHOWN_FAULTS = 5


def summary(view: JobView | JobSummary) -> str:
    """One line: state, tier, tasks, and the reason of a failure."""
    if isinstance(view, JobSummary):
        done, count = view.tasks_done, view.task_count
    else:
        done, count = sum(task.state in _DONE for task in view.tasks), len(view.tasks)
    request = view.request
    text = f"{view.state.value}  {enum_name(request.policy.tier)}  {request.record_count} records"
    text += f"  {done}/{count} tasks"
    return text + (f"  {view.reason}" if view.reason else "")


def job_table(view: JobView) -> Group:
    """A job with its tasks, and why they wait or failed."""
    table = Table(box=None, pad_edge=False)
    for column in ("records", "state", "worker", "progress", "note"):
        table.add_column(column, no_wrap=column != "note")
    for task in view.tasks:
        table.add_row(*(Text(clean(cell)) for cell in _cells(task)))
    return Group(Text(f"job {view.job_id}"), Text(clean(summary(view))), table)


@contextmanager
def following() -> Iterator[Callable[[JobView], None]]:
    """Yields a function that shows a job again and again: a live table, or lines where there is no terminal."""
    console = stderr()
    if not console.is_terminal:
        yield _changes()
        return
    with Live(console=console, refresh_per_second=4) as live:
        yield lambda view: live.update(job_table(view))


def _changes() -> Callable[[JobView], None]:
    last: dict[Digest, str] = {}

    def show(view: JobView) -> None:
        lines = {view.job_id: summary(view)}
        lines |= {task.task_id: "  " + "  ".join(cell for cell in _cells(task) if cell) for task in view.tasks}
        for name, line in lines.items():
            if last.get(name) != line:
                note(line)
        last.update(lines)

    return show


def _cells(task: TaskView) -> tuple[str, str, str, str, str]:
    worker = f"{task.worker[:8]}…" if task.worker else ""
    return (
        f"{task.start}–{task.start + task.count - 1}",
        task.state.value,
        worker,
        _bar(task),
        task.waiting or _faults(task),
    )


def _bar(task: TaskView) -> str:
    if task.progress is None or task.state != TaskState.LEASED:
        return ""
    stage, done, total = task.progress.stage.value, task.progress.done, task.progress.total
    if total == 0:
        return stage
    full = _BAR * min(done, total) // total
    return f"{'━' * full}{'╌' * (_BAR - full)} {stage} {done}/{total}"


def _faults(task: TaskView) -> str:
    shown = [f"{fault.worker[:8]}… {fault.code}: {fault.detail}" for fault in task.faults[-_SHOWN_FAULTS:]]
    return "; ".join(shown)
