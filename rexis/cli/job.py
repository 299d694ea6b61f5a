"""Commands about one job: watching it, what became of it, why it waits, its tasks, trying again, ending it."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rexis.cli.console import clean, emit, note, say
from rexis.cli.options import Coordinator, Json, PassphraseFile, Wallet, connect, digest
from rexis.cli.requester import JobId, cancel, watch
from rexis.protocol.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rexis.api import Event, TaskView, TranscriptView, Waiting
    from rexis.protocol.parsing import Address

app = typer.Typer(
    help="One job: watch it, its history, why it waits, its tasks; try again, or end it.", no_args_is_help=True
)
app.command()(cancel)
app.command()(watch)

_SHOWN = 10_000
_Record = Annotated[
    int | None, typer.Option("--record", min=0, metavar="N", help="Only the task that begins with this record.")
]


@app.command()
def history(
    job: JobId,
    coordinator: Coordinator,
    wallet: Wallet,
    record: _Record = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many changes, the oldest.")] = _SHOWN,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Show each change of state of a job, its tasks, leases and evidence: when, why, and on whose behalf."""
    from rexis.cli.console import stdout

    job_id = digest(job, "JOB")
    with connect(coordinator, wallet, passphrase_file) as client:
        found = list(islice(client.history(job_id, start=record), limit + 1))
    events = found[:limit]
    if as_json:
        emit([event.to_object() for event in events])
    else:
        stdout().print(_events_table(events))
    if len(found) > limit:
        note(f"and more: the first {limit} are shown, see --limit")


@app.command()
def curve(
    job: JobId,
    coordinator: Coordinator,
    wallet: Wallet,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the losses there: .svg or .csv."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Show the losses of a training so far, as its workers signed them."""
    from rexis.cli.curve import Curve
    from rexis.files import write_file

    if out is not None and out.suffix not in (".svg", ".csv"):
        raise typer.BadParameter("ends neither in .svg nor in .csv", param_hint="--out")
    job_id = digest(job, "JOB")
    with connect(coordinator, wallet, passphrase_file) as client:
        transcript = client.transcript(job_id)
    found = Curve.of(transcript)
    if out is not None:
        text = found.svg(f"loss of job {job_id}") if out.suffix == ".svg" else found.csv()
        write_file(out, text.encode(), overwrite=True)
    if as_json:
        emit([signed.to_object() for signed in transcript.checkpoints])
        return
    for line in found.lines() or ["no losses yet"]:
        say(line)
    workers = ", ".join(f"from checkpoint {index} worker {worker}" for index, worker in _workers(transcript))
    say(f"{len(transcript.checkpoints)} of {transcript.plan.segments + 1} checkpoints; {workers or 'no worker yet'}")


@app.command()
def why(
    name: Annotated[str, typer.Argument(metavar="JOB|TASK", help="The job's or the task's id.")],
    coordinator: Coordinator,
    wallet: Wallet,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Say why a job, or one task, is waiting."""
    wanted = digest(name, "JOB|TASK")
    with connect(coordinator, wallet, passphrase_file) as client:
        try:
            found: Waiting | TaskView = client.waiting(wanted)
            reason = client.job(wanted).reason
        except NotFoundError:
            found, reason = client.task(wanted), None
    if as_json:
        emit(found.to_object())
        return
    lines = [f"job: {reason}"] if reason else []
    if hasattr(found, "groups"):
        lines += [f"{one.count} task(s): {one.reason}{_starts(one.starts)}" for one in found.groups]
    else:
        lines += [f"{found.state.value}: {found.waiting}" if found.waiting else found.state.value]
    for line in lines or ["nothing waits"]:
        say(clean(line))


@app.command()
def tasks(
    job: JobId,
    coordinator: Coordinator,
    wallet: Wallet,
    state: Annotated[str | None, typer.Option(metavar="STATE", help="Only those in this state.")] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """List all tasks of a job, one a line."""
    from rexis.api import TaskState
    from rexis.cli.progress import cells

    if state is not None and state not in list(TaskState):
        raise typer.BadParameter(f"one of {', '.join(TaskState)}", param_hint="--state")
    job_id, after, found = digest(job, "JOB"), None, []
    with connect(coordinator, wallet, passphrase_file) as client:
        while True:
            page = client.job_tasks(job_id, after, state=TaskState(state) if state else None)
            if as_json:
                found += [task.to_object() for task in page.tasks]
            for task in page.tasks if not as_json else ():
                say(clean("  ".join(cell for cell in (str(task.task_id), *cells(task)) if cell)))
            after = page.next
            if after is None:
                break
    if as_json:
        emit(found)


@app.command()
def retry(
    job: JobId, coordinator: Coordinator, wallet: Wallet, passphrase_file: PassphraseFile = None, as_json: Json = False
) -> None:
    """Have what failed in a job, or was quarantined, tried again. What was accepted stays."""
    job_id = digest(job, "JOB")
    with connect(coordinator, wallet, passphrase_file) as client:
        view = client.retry_job(job_id)
    if as_json:
        emit(view.to_object())
        return
    say(f"{view.job_id}  {view.state.value}  {view.counts.pending} tasks are tried again or wait")


def _workers(transcript: TranscriptView) -> list[tuple[int, Address]]:
    from rexis.protocol.transcript import hand_overs

    return hand_overs(transcript.checkpoints)


def _starts(starts: Sequence[int]) -> str:
    return f" (from record {', '.join(map(str, starts))}{', …' if len(starts) > 9 else ''})" if starts else ""


def _events_table(events: Sequence[Event]):  # type: ignore[no-untyped-def]  # a Rich table
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in ("time", "what", "change", "by", "reason"):
        table.add_column(column, no_wrap=column != "reason")
    for event in events:
        what = event.entity if event.start is None else f"{event.entity} {event.start}"
        if event.start is None and event.entity != "job":
            what = f"{event.count} {event.entity}s"
        change = f"{event.before} → {event.after}" if event.before else event.after
        actor = f"{event.actor[:8]}…" if event.actor else "coordinator"
        table.add_row(*(Text(clean(cell)) for cell in (event.at, what, change, actor, event.reason)))
    return table
