"""How a job looks on the screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from rexis.api import JobChange, JobProgress, JobSummary, JobView, TaskState, TaskView
from rexis.cli.console import clean, note, stderr
from rexis.cli.curve import Curve
from rexis.protocol.parsing import enum_name
from rexis.protocol.training import BILLION
from rexis.watching import Watcher

_BAR = 20
_SHOWN_FAULTS = 5
_SHOWN_TASKS = 64
_BAD_ENDS = ("refused", "gave-up", "expired")


def summary(view: JobView | JobSummary) -> str:
    """One line: state, tier, tasks, and the reason of a failure."""
    if isinstance(view, JobSummary):
        done, count = view.tasks_done, view.task_count
    else:
        done, count = view.counts.done, view.counts.total
    request, training = view.request, view.training if isinstance(view, JobView) else None
    text = f"{view.state.value}  {enum_name(request.policy.tier)}  {request.record_count} records"
    text += f"  {done}/{count} tasks"
    if training is not None:
        loss = "" if training.loss_e9 is None else f", loss {training.loss_e9 / BILLION:.4g}"
        text += f"  {training.step}/{training.steps} steps{loss}"
    return text + (f"  {view.reason}" if view.reason else "")


def job_table(view: JobView) -> Group:
    """A job with its tasks, and why they wait or failed."""
    table = Table(box=None, pad_edge=False)
    for column in ("records", "state", "worker", "progress", "note"):
        table.add_column(column, no_wrap=column != "note")
    for task in view.tasks:
        table.add_row(*(Text(clean(cell)) for cell in cells(task)))
    left = view.counts.total - len(view.tasks)
    rest = [Text(f"and {left} more tasks: rexis job tasks {view.job_id}")] if left > 0 else []
    return Group(Text(f"job {view.job_id}"), Text(clean(summary(view))), table, *rest)


@dataclass(frozen=True)
class Follower(Watcher):
    """Shows a job while it runs, and once more when it has ended."""

    def show(self, view: JobView) -> None:
        """The job with its tasks, as lines."""
        note(summary(view))
        for task in view.tasks[:_SHOWN_TASKS]:
            note("  " + "  ".join(cell for cell in cells(task) if cell))
        if len(view.tasks) > _SHOWN_TASKS:
            note(f"  … and {len(view.tasks) - _SHOWN_TASKS} more tasks: `rexis status {view.job_id}`")


class _Bars(Progress):
    """Bars, and above them the losses of a training."""

    curve: Curve | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        """See :class:`rich.progress.Progress`."""
        if self.curve is not None:
            yield Text("\n".join(self.curve.lines()))
        yield from super().get_renderables()


@contextmanager
def following(curve: Curve | None = None) -> Iterator[Follower]:
    """Yields what to tell of a job that runs: a bar on a terminal, lines where there is none.

    Parameters
    ----------
    curve
        Of a training: its losses so far. Shown as it grows.
    """
    console = stderr()
    if not console.is_terminal:
        yield Follower(_say_change, _changed_lines())
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with _Bars(*columns, console=console, transient=True) as bars:
        bars.curve = curve
        bar = bars.add_task("waiting", total=None)

        def on_progress(progress: JobProgress) -> None:
            done, total = progress.done, progress.tasks
            if curve is not None:
                curve.follow(progress)
                done, total = _steps(progress) or (done, total)
            bars.update(bar, description=_state(progress), completed=done, total=total)

        yield Follower(_say_change, on_progress)


def change_line(change: JobChange) -> str:
    """One change of state, for a person."""
    what = change.entity if change.start is None else f"{change.entity} of record {change.start}"
    if change.count > 1:
        what = f"{change.count} {change.entity}s"
    states = f"{change.before} → {change.after}" if change.before else change.after
    return clean(f"{change.at}  {what}: {states}  ({change.reason})")


def _say_change(change: JobChange) -> None:
    """Only what is out of the ordinary: a job of a million tasks has millions of changes."""
    if change.entity == "lease" and change.after in _BAD_ENDS:
        note(f"  record {change.start}: a worker's lease {change.after}: {change.reason}")


def _changed_lines() -> Callable[[JobProgress], None]:
    last = ""

    def show(progress: JobProgress) -> None:
        nonlocal last
        line = f"{_state(progress)}  {progress.done}/{progress.tasks} tasks"
        if line != last:
            note(line)
        last = line

    return show


def _steps(progress: JobProgress) -> tuple[int, int] | None:
    """How far a training is, and of how many steps; None while no worker has it."""
    found = [(lease.progress.done, lease.progress.total) for lease in progress.leases]
    return found[0] if found else None


def _state(progress: JobProgress) -> str:
    stages = Counter(lease.progress.stage.value for lease in progress.leases)
    at_work = ", ".join(f"{count} {stage}" for stage, count in sorted(stages.items()))
    losses = [lease.progress.loss_e9 for lease in progress.leases if lease.progress.loss_e9 is not None]
    if losses:  # of the one worker that has a training
        at_work += f", step {progress.leases[0].progress.done}, loss {losses[0] / BILLION:.4g}"
    return progress.state.value + (f" ({at_work})" if at_work else "")


def cells(task: TaskView) -> tuple[str, str, str, str, str]:
    """Records, state, worker, progress, and why it waits or failed."""
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
