"""What this process counts, for Prometheus. Labels have few values: no id, no address, nothing that a stranger chooses.

Counters and histograms are of one process: with several, add them (``sum``). What the database knows for all processes
is in :mod:`coordinator.gauges`.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

REGISTRY = CollectorRegistry(auto_describe=True)
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

_SHORT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_LONG = (0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1200, 3600)

HTTP_SECONDS = Histogram(
    "rexis_http_request_seconds",
    "Time from a request's first byte to its answer's last, long polls among them",
    ("method", "route"),
    buckets=_SHORT,
    registry=REGISTRY,
)
HTTP_REQUESTS = Counter(
    "rexis_http_requests", "Requests by route template and status", ("method", "route", "status"), registry=REGISTRY
)
STATE_CHANGES = Counter(
    "rexis_state_changes",
    "Committed changes of state; of a row that was made, from none",
    ("entity", "before", "after"),
    registry=REGISTRY,
)
COMPUTE_SECONDS = Histogram(
    "rexis_compute_seconds",
    "Time of running the model on a task, as its worker measured it; of accepted evidence",
    ("tier",),
    buckets=_LONG,
    registry=REGISTRY,
)
PROOF_SECONDS = Histogram(
    "rexis_proof_seconds",
    "Time of a task's proofs, as its worker measured it; of accepted evidence",
    ("tier",),
    buckets=_LONG,
    registry=REGISTRY,
)
CHECK_SECONDS = Histogram(
    "rexis_check_seconds", "Time of checking one piece of evidence here", ("tier",), buckets=_LONG, registry=REGISTRY
)
VERIFICATION_FAILURES = Counter(
    "rexis_verification_failures",
    "Evidence refused, by the step of the check that failed",
    ("step",),
    registry=REGISTRY,
)
VALIDATOR_VERDICTS = Counter(
    "rexis_validator_verdicts",
    "Verdicts that validators handed in, each on one statement; none: jobs of which one said that it signs nothing",
    ("verdict",),
    registry=REGISTRY,
)
ANCHOR_SECONDS = Histogram(
    "rexis_anchor_seconds",
    "Time from the acceptance of a job's last task to that of its anchor, of certified jobs",
    buckets=_LONG,
    registry=REGISTRY,
)
BLOB_BYTES = Counter("rexis_blob_bytes", "Bytes of blobs that passed over HTTP", ("direction",), registry=REGISTRY)
DUTY_ERRORS = Counter(
    "rexis_duty_errors", "Background work that failed and is tried again later", ("duty",), registry=REGISTRY
)
DUTY_HELD = Gauge("rexis_duty_held", "Whether this process has a duty; of all, one has", ("duty",), registry=REGISTRY)
EVENT_STREAMS = Gauge("rexis_event_streams", "Open streams of job events", registry=REGISTRY)
