"""Runs :mod:`verifier.service.judge`: each certificate in a process of its own (:mod:`verifier.confined`)."""

from __future__ import annotations

from verifier.confined import Bounds, run_confined
from verifier.service.documents import Finding, StepView
from verifier.service.judge import Task


def judge(task: Task, certificate: bytes, bounds: Bounds) -> Finding:
    """Verify a certificate, and say what was found. Blocks.

    A process that crashed, had no room or took too long has found nothing, neither way: the result is ``undecided``,
    with the steps that were taken.
    """
    ended = run_confined("verifier.service.judge", bounds, task.to_json(), certificate)
    frames = ended.frames
    if frames and b'"result"' in frames[-1]:
        finding = Finding.from_json(frames[-1])
        return finding.model_copy(update={"steps": [StepView.from_json(frame) for frame in frames[:-1]]})
    steps = [StepView.from_json(frame) for frame in frames]
    return Finding(result="undecided", steps=steps, shows=[], error=ended.early)
