"""What a worker counts, for Prometheus. Labels have few values: no id, no address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

from rexis.telemetry import traces

REGISTRY = CollectorRegistry(auto_describe=True)
ProcessCollector(registry=REGISTRY)

_LONG = (0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1200, 3600)

TASKS = Counter("rexis_worker_tasks", "Tasks by how they ended here", ("tier", "outcome"), registry=REGISTRY)
TASKS_RUNNING = Gauge("rexis_worker_tasks_running", "Tasks that are being done", registry=REGISTRY)
STEP_SECONDS = Histogram(
    "rexis_worker_step_seconds", "Time of one step of one task", ("step",), buckets=_LONG, registry=REGISTRY
)
CHALLENGES = Counter(
    "rexis_worker_challenges", "Challenges of this worker's statements, by what became of them", ("outcome",),
    registry=REGISTRY,
)  # fmt: skip
COORDINATOR_UP = Gauge("rexis_worker_coordinator_up", "Whether the coordinator answered last", registry=REGISTRY)


@contextmanager
def step(name: str) -> Iterator[None]:
    """One step of a task: timed, and a span of its job's trace."""
    with traces.span(name), STEP_SECONDS.labels(name).time():
        yield
