"""Why a pending task is not placed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from coordinator.times import rfc3339
from rexis.protocol.digests import Digest
from rexis.protocol.parsing import Address, enum_name
from rexis.protocol.policy import Tier
from rexis.protocol.statement import Kind

_TRAINS = "training-"


@dataclass(frozen=True)
class Candidate:
    """A worker, as placement sees it.

    `tiers` are its services, `trusted` those in which it may take a task's last attempt, `datasets` the private ones
    that it holds (:func:`private_records`), `modalities` what it takes, everything if there are none. Until
    `barred_until` it gets nothing; `full` says that it has as many leases as it may.
    """

    address: str
    tiers: frozenset[str]
    trusted: frozenset[str]
    online: bool
    memory_bytes: int
    datasets: frozenset[str] = frozenset()
    gpu_bytes: int = 0
    modalities: frozenset[str] = frozenset()
    barred_until: int | None = None
    full: bool = False


def service_of(kind: Kind, tier: Tier) -> str:
    """What a task needs its worker to do, and what workers are matched and trusted by: the tier's name for evaluations,
    with ``training-`` before it for trainings.
    """
    return _TRAINS + enum_name(tier) if kind == Kind.TRAINING else enum_name(tier)


def is_training(service: str) -> bool:
    """Whether tasks of a service are trainings."""
    return service.startswith(_TRAINS)


def tiers_of(services: Sequence[str], kind: Kind) -> list[Tier]:
    """The tiers among a worker's services for one kind of task."""
    return [tier for tier in Tier if service_of(kind, tier) in services]


def _does(service: str) -> str:
    """For a person: what a worker of a service does."""
    return (
        f"trains for tier {service.removeprefix(_TRAINS)}" if service.startswith(_TRAINS) else f"proves tier {service}"
    )


def private_records(dataset: Digest, requester: Address) -> str:
    """How tasks and workers name private records: whoever has seen the hashes can ask about them, too, but the worker
    that holds the records serves one requester only, and would count as having failed everybody else's tasks.
    """
    return f"{requester}/{dataset}"


def waiting_reason(
    tier: str,
    needed_bytes: int,
    workers: Sequence[Candidate],
    excluded: Collection[str],
    *,
    last: bool,
    private: str | None = None,
    gpu_bytes: int = 0,
    modality: str | None = None,
    first: str | None = None,
) -> str:
    """The reason, for a person.

    Parameters
    ----------
    tier
        The service that the task needs (:func:`service_of`).
    needed_bytes
        Memory that its proofs take by the estimate; 0 without proofs.
    excluded
        Workers that do not get the task again.
    last
        The task has one attempt left.
    private
        The records that only their owner's workers have (:func:`private_records`); None if the records travel.
    gpu_bytes, modality
        What the job asks for besides.
    first
        What comes before the task when a worker is free.
    """
    workers = [one for one in workers if (private in one.datasets if private else not one.datasets)]
    if private and not workers:
        return "no worker holds the records for this requester: their owner runs `rexis worker run --onsite FILE`"
    if not workers:
        return "no worker registered"
    fitting = [worker for worker in workers if tier in worker.tiers]
    if not fitting:
        return f"no worker {_does(tier)}"
    fitting = [worker for worker in fitting if modality is None or modality in (worker.modalities or (modality,))]
    if not fitting:
        return f"no worker of tier {tier} takes {modality}"
    equipped = [worker for worker in fitting if worker.gpu_bytes >= gpu_bytes]
    if not equipped:
        largest = max(worker.gpu_bytes for worker in fitting)
        return f"no worker has a GPU with {gpu_bytes >> 20} MiB, the largest has {largest >> 20} MiB"
    fitting = equipped
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
    left = [worker for worker in left if worker.online]
    if not left:
        return f"every worker {fits} is offline"
    times = [worker.barred_until for worker in left if worker.barred_until is not None]
    if len(times) == len(left):
        return f"every worker {fits} is left out for its faults, the first until {rfc3339(min(times))}"
    waits = "waiting for a free worker"
    if all(worker.full for worker in left if worker.barred_until is None):
        waits = f"{waits}: every one {fits} has as many leases as it may"
    return f"{waits}; {first}" if first else waits
