"""Following a job: by the coordinator's events where they come, by asking now and then where they do not."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

from rexis.api import JobChange, JobProgress, JobState, JobView, LeaseProgress, TaskState
from rexis.client import RexisClient
from rexis.protocol.digests import Digest
from rexis.protocol.errors import AuthError, ForbiddenError, MalformedError, ResourceError, RexisError, UnavailableError

_MAX_LINE = 1 << 20
_PAUSE_S = 1.0
_DONE = (TaskState.ACCEPTED, TaskState.ANCHORED)
_ENDED = (JobState.CERTIFIED, JobState.FAILED)


@dataclass(frozen=True)
class ServerEvent:
    """One server-sent event; `number` is what a stream is taken up after, if it has one."""

    kind: str
    data: bytes
    number: int | None


@dataclass(frozen=True)
class Watcher:
    """Who is told: of each change once, and how far the job is."""

    on_change: Callable[[JobChange], None]
    on_progress: Callable[[JobProgress], None]


def watch_job(
    client: RexisClient,
    job_id: Digest,
    watcher: Watcher,
    *,
    poll_seconds: float = _PAUSE_S,
    patience_seconds: float = 300.0,
) -> JobView:
    """Wait until a job is certified or failed, and return it.

    A stream that breaks is taken up where it broke. A coordinator or proxy that gives none is asked again and again.

    Parameters
    ----------
    patience_seconds
        How long the coordinator may be out of reach (restarted, upgraded) before that counts as an error.

    Raises
    ------
    NotFoundError, ForbiddenError
        No such job, or somebody else's.
    UnavailableError
        The coordinator stayed out of reach.
    """
    after, reached, streams = 0, time.monotonic(), True
    while True:
        try:
            if streams:
                with closing(job_events(client, job_id, after)) as events:
                    for event in events:
                        reached = time.monotonic()
                        after = after if event.number is None else event.number
                        if _tell(watcher, event):
                            return client.job(job_id)
            view = client.job(job_id)
        except UnavailableError:
            if time.monotonic() - reached > patience_seconds:
                raise
        except (AuthError, ForbiddenError):
            raise
        except RexisError:
            if not streams:
                raise
            streams = False  # an older coordinator, a proxy that has its own mind, too many streams
            continue
        else:
            reached = time.monotonic()
            watcher.on_progress(progress_of(view))
            if view.state in _ENDED:
                return view
        time.sleep(poll_seconds)


def job_events(client: RexisClient, job_id: Digest, after: int = 0) -> Generator[ServerEvent, None, None]:
    """A job's events after number `after`, until the coordinator ends the stream.

    Raises
    ------
    UnavailableError
        The connection broke: go on after the last number.
    """
    with client.event_stream(f"/v1/jobs/{job_id}/events", after) as lines:
        yield from parse_events(lines)


def parse_events(chunks: Iterator[bytes]) -> Iterator[ServerEvent]:
    """Events of a ``text/event-stream`` (HTML standard, 9.2.6) in UTF-8. Comments and unknown fields are left out.

    Raises
    ------
    ResourceError
        An event without end.
    """
    kind, number = "message", None
    data: list[bytes] = []
    size = 0
    for line in _lines(chunks):
        if not line:
            if data:
                yield ServerEvent(kind, b"\n".join(data), number)
            kind, number, data, size = "message", None, [], 0
            continue
        size += len(line)
        if size > _MAX_LINE:
            raise ResourceError(f"an event of more than {_MAX_LINE} bytes")
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            kind = value.decode("utf-8", "replace")
        elif name == b"data":
            data.append(value)
        elif name == b"id" and value.isdigit():
            number = int(value[:18])


def progress_of(view: JobView) -> JobProgress:
    """How far a job is, of its view."""
    leases = [
        LeaseProgress(start=task.start, progress=task.progress)
        for task in view.tasks
        if task.state == TaskState.LEASED and task.progress is not None
    ]
    return JobProgress(
        state=view.state,
        tasks=len(view.tasks),
        leased=sum(task.state == TaskState.LEASED for task in view.tasks),
        done=sum(task.state in _DONE for task in view.tasks),
        leases=leases,
    )


def _tell(watcher: Watcher, event: ServerEvent) -> bool:
    """Pass an event on; returns whether it says that the job has ended."""
    if event.kind == "change":
        watcher.on_change(JobChange.from_json(event.data, max_bytes=_MAX_LINE))
    elif event.kind in ("progress", "end"):
        watcher.on_progress(JobProgress.from_json(event.data, max_bytes=_MAX_LINE))
    return event.kind == "end"


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Lines that end with LF or CR LF. What follows the last end is not one: it was cut off."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > _MAX_LINE:
            raise MalformedError(f"a line of more than {_MAX_LINE} bytes in the stream of events")
        for line in whole:
            yield line.removesuffix(b"\r")
