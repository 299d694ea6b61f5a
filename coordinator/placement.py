"""Why a pending task is not placed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """A worker, as placement sees it.

    `trusted` are the tiers in which it may take a task's last attempt, `datasets` the private ones that it holds.
    """

    address: str
    tiers: frozenset[str]
    trusted: frozenset[str]
    online: bool
    memory_bytes: int
    datasets: frozenset[str] = frozenset()


def waiting_reason(
    tier: str,
    needed_bytes: int,
    workers: Sequence[Candidate],
    excluded: Collection[str],
    *,
    last: bool,
    private: str | None = None,
) -> str:
    """The reason, for a person.

    Parameters
    ----------
    tier
        Name of the task's tier.
    needed_bytes
        Memory that its proofs take by the estimate; 0 without proofs.
    excluded
        Workers that do not get the task again.
    last
        The task has one attempt left.
    private
        The dataset whose records only its owner's workers have; None if the records travel.
    """
    workers = [one for one in workers if (private in one.datasets if private else not one.datasets)]
    if private and not workers:
        return "no worker holds the records: their owner runs `rexis worker run --onsite FILE`"
    if not workers:
        return "no worker registered"
    fitting = [worker for worker in workers if tier in worker.tiers]
    if not fitting:
        return f"no worker proves tier {tier}"
    roomy = [worker for worker in fitting if worker.memory_bytes >= needed_bytes]
    fits, need = "that fits", f"needs about {-(-needed_bytes >> 20)} MiB"
    if len(roomy) < len(fitting):
        largest = max(worker.memory_bytes for worker in fitting)
        fits = f"with enough memory (the task {need}, {len(roomy)} of {len(fitting)} have that)"
        if not roomy:
            return f"no worker has enough memory: the task {need}, the largest worker has {largest >> 20} MiB"
    left = [worker for worker in roomy if worker.address not in excluded]
    if not left:
        return f"every worker {fits} has failed this task"
    if last:
        left = [worker for worker in left if tier in worker.trusted]
        if not left:
            return f"the last attempt is kept for a worker whose evidence of tier {tier} was accepted before"
    if not any(worker.online for worker in left):
        return f"every worker {fits} is offline"
    return "waiting for a free worker"
