"""What the database says about all coordinators together: the queue, leases, anchors. Read when Prometheus asks.

Every process exports the same figures, so take the largest (``max``), not the sum. A scrape costs at most a twentieth
of the time, however long the queue is: figures are kept for twenty times as long as reading them took.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, select

from coordinator.store import Store
from coordinator.tables import (
    AnchorRow,
    AnchorState,
    JobRow,
    LeaseRow,
    Outcome,
    TaskRow,
    TransactionRow,
    TransactionStatus,
    WorkerRow,
)
from coordinator.times import Clock
from rexis.api import JobState, TaskState

_KEPT_S = 5.0
_SHARE = 20
_UNSETTLED = (AnchorState.PLANNED, AnchorState.SENT)
_UNDER_WAY = (TransactionStatus.OPEN, TransactionStatus.MINED, TransactionStatus.LOST, TransactionStatus.FAILED)
_OPEN_JOBS = (JobState.QUEUED, JobState.RUNNING, JobState.ANCHORING)
_log = logging.getLogger(__name__)


class StateGauges(Collector):
    """A collector over the store.

    Parameters
    ----------
    offline_ms
        A worker that was silent for so long is offline.
    timer
        Seconds; for tests.
    """

    def __init__(
        self, store: Store, clock: Clock, offline_ms: int, timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._clock, self._offline_ms, self._timer = store, clock, offline_ms, timer
        self._reading = threading.Lock()
        self._found: list[GaugeMetricFamily] = []
        self._until = float("-inf")

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: so that registering asks no database."""
        return ()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The figures, at most some seconds old. Of a database that does not answer, only that it does not."""
        with self._reading:
            if self._timer() >= self._until:
                begun = self._timer()
                self._found = self._read()
                took = self._timer() - begun
                self._until = begun + max(_KEPT_S, _SHARE * took)
            return list(self._found)

    def _read(self) -> list[GaugeMetricFamily]:
        try:
            with self._store.reading() as session:
                found = self._figures(session)
        except SQLAlchemyError as error:
            _log.warning("no figures from the database: %s", type(error).__name__)
            return [_one("rexis_database_up", "Whether the database answered the last scrape", 0)]
        pool = self._store.connections()
        return [
            _one("rexis_database_up", "Whether the database answered the last scrape", 1),
            _by("rexis_database_connections", "Connections of this process's pool", "state", pool),
            *found,
        ]

    def _figures(self, session: Session) -> list[GaugeMetricFamily]:
        now = self._clock()
        depth: dict[str, float] = {}
        oldest: dict[str, float] = {}
        waiting = (
            select(TaskRow.tier, func.count(), func.min(TaskRow.submitted_at))
            .where(col(TaskRow.state) == TaskState.PENDING)
            .group_by(TaskRow.tier)
        )
        for tier, count, since in session.exec(waiting):
            depth[tier], oldest[tier] = count, max(0, now - since) / 1000
        accepted = session.exec(
            select(func.count(), func.min(TaskRow.accepted_at)).where(col(TaskRow.state) == TaskState.ACCEPTED)
        ).one()
        lag = 0 if accepted[1] is None else max(0, now - accepted[1]) / 1000
        jobs = session.exec(
            select(JobRow.state, func.count()).where(col(JobRow.state).in_(_OPEN_JOBS)).group_by(JobRow.state)
        ).all()
        online = func.count().filter(col(WorkerRow.last_seen) > now - self._offline_ms)
        sent = session.exec(
            select(TransactionRow.purpose, func.sum(TransactionRow.gas_used), func.sum(TransactionRow.cost_gwei))
            .where(col(TransactionRow.gas_used).is_not(None))
            .group_by(TransactionRow.purpose)
        ).all()
        under_way = session.exec(
            select(TransactionRow.status, func.count())
            .where(col(TransactionRow.status).in_(_UNDER_WAY))
            .group_by(TransactionRow.status)
        ).all()
        return [
            _by("rexis_gas_spent", "Gas of mined transactions", "kind", {kind: int(gas or 0) for kind, gas, _ in sent}),
            _by("rexis_gas_cost_gwei", "What they cost", "kind", {kind: int(cost or 0) for kind, _, cost in sent}),
            _by("rexis_transactions", "Transactions that are not final", "status", {str(s): n for s, n in under_way}),
            _by("rexis_queue_tasks", "Tasks that wait for a worker", "tier", depth),
            _by("rexis_queue_oldest_seconds", "How long the oldest waiting task was submitted ago", "tier", oldest),
            _one("rexis_leases_open", "Open leases", _count(session, LeaseRow, col(LeaseRow.outcome) == Outcome.OPEN)),
            _by("rexis_jobs_open", "Jobs that have not ended", "state", {str(JobState(s)): n for s, n in jobs}),
            _one(
                "rexis_validation_waiting_jobs",
                "Jobs that wait for validators",
                _count(
                    session, JobRow, (col(JobRow.state) == JobState.ANCHORING) & col(JobRow.draft_digest).is_not(None)
                ),
            ),
            _one("rexis_workers_online", "Workers that were heard of lately", session.exec(select(online)).one()),
            _one("rexis_anchor_waiting_statements", "Accepted statements without an anchor", accepted[0]),
            _one("rexis_anchor_lag_seconds", "How long ago the oldest of these was accepted; 0 without any", lag),
            _one(
                "rexis_anchors_unsettled",
                "Anchors that were begun and are not on chain yet",
                _count(session, AnchorRow, col(AnchorRow.state).in_(_UNSETTLED)),
            ),
        ]


def _count(session: Session, table: type[LeaseRow | AnchorRow | JobRow], condition: object) -> int:
    return session.exec(select(func.count()).select_from(table).where(condition)).one()  # type: ignore[arg-type]


def _one(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _by(name: str, text: str, label: str, values: dict[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, figure in values.items():
        family.add_metric([value], figure)
    return family
