"""Counts changes of state once they are committed, whoever made them: one place sees every event that is written."""

from __future__ import annotations

from sqlalchemy import event
from sqlalchemy.orm import Session

from coordinator import metrics
from coordinator.states import RECORDED


def watch_events() -> None:
    """Begin to count; a second call changes nothing."""
    for name, listener in (("after_commit", _committed), ("after_soft_rollback", _rolled_back)):
        if not event.contains(Session, name, listener):
            event.listen(Session, name, listener)


def _committed(session: Session) -> None:
    for row in session.info.pop(RECORDED, ()):
        counter = metrics.STATE_CHANGES.labels(row["entity"], row["before"] or "none", row["after"])
        counter.inc(row["count"])


def _rolled_back(session: Session, _previous: object) -> None:
    session.info.pop(RECORDED, None)
