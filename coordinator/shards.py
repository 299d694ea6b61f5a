"""What a worker fetches of a dataset: its task's records, and nothing of the others'."""

from __future__ import annotations

from coordinator.catalogue import Catalogue
from coordinator.commitments import job_of
from coordinator.leases import require_open
from coordinator.store import Store
from rexis.protocol.circuit import Visibility
from rexis.protocol.errors import ConflictError
from rexis.protocol.parsing import Address


class Shards:
    """Records of leased tasks."""

    def __init__(self, store: Store, catalogue: Catalogue) -> None:
        self._store, self._catalogue = store, catalogue

    def read(self, lease_id: str, worker: Address) -> bytes:
        """A :class:`~rexis.protocol.tensors.Shard` as a blob, for who holds the lease.

        Raises
        ------
        LeaseError
            The lease is lost.
        ConflictError
            The records are private.
        """
        with self._store.reading() as session:
            lease = require_open(session, lease_id, worker)
            request, task = job_of(session, lease)
        if request.circuit.visibility == Visibility.HASHED:
            raise ConflictError("the records are not here", hint="only their owner's workers have them")
        inputs = self._catalogue.inputs(request.dataset_digest, request.policy.tier, request.circuit)
        return inputs.shard(task.start, task.count).to_bytes()
