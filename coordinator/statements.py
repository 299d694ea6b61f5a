"""Accepted statements with their places on chain, task by task: before there is a certificate, and without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.blobs import Blobs
from coordinator.placement import is_training
from coordinator.places import Places
from coordinator.store import Store
from coordinator.tables import TaskRow
from rexis.api import TaskState
from rexis.protocol.anchored import AnchoredStatement
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ConflictError
from rexis.protocol.evidence import MAX_EVIDENCE_BYTES, Evidence
from rexis.protocol.parsing import Address
from rexis.protocol.transcript import MAX_EVIDENCE_BYTES as MAX_TRAINING_BYTES
from rexis.protocol.transcript import TrainingEvidence
from rexis.protocol.typed_data import Domain

if TYPE_CHECKING:
    from coordinator.views import Views


class Statements:
    """What disputes and payments are about."""

    def __init__(self, store: Store, blobs: Blobs, views: Views, domain: Domain) -> None:
        self._store, self._blobs, self._views, self._domain = store, blobs, views, domain
        self._places = Places()

    def of(self, caller: Address, task_id: Digest, *, anybodys: bool = False) -> AnchoredStatement:
        """The statement of a task, for its requester and the workers that had it, or for anybody.

        Raises
        ------
        NotFoundError, ForbiddenError
            No such task, or somebody else's.
        ConflictError
            It is not anchored yet.
        """
        state = self._views.task(caller, task_id, anybodys=anybodys).state
        if state != TaskState.ANCHORED:
            raise ConflictError(f"the task is {state.value}: its statement is not anchored", hint="later")
        return self.read(task_id)

    def read(self, task_id: Digest) -> AnchoredStatement:
        """The same of an anchored task, for the coordinator itself."""
        with self._store.reading() as session:
            task = session.get_one(TaskRow, str(task_id))
            anchor = self._places.of(session, task.task_id)
        blob = self._blobs.read(Digest.parse(task.evidence_digest), "evidence")
        evidence: Evidence | TrainingEvidence
        if is_training(task.tier):
            evidence = TrainingEvidence.from_json(blob, max_bytes=MAX_TRAINING_BYTES)
        else:
            evidence = Evidence.from_json(blob, max_bytes=MAX_EVIDENCE_BYTES)
        return AnchoredStatement(
            domain=self._domain, statement=evidence.statement, signature=evidence.signature, anchor=anchor
        )
