"""One lease, while it lasts: what evaluations and trainings have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from provers.cache import BlobCache, ProofCache
from provers.keeper import LeaseKeeper, Stop
from provers.kept import Kept
from provers.metrics import step
from provers.onchain import ChainChecks
from provers.onsite import OwnDatasets
from provers.options import WorkerOptions
from provers.site import Site
from provers.status import StatusBoard
from provers.warranted import Warranties
from rexis.api import Lease, VerdictView
from rexis.client import RexisClient
from rexis.protocol.certificate import Commitment
from rexis.protocol.digests import Digest
from rexis.protocol.statement import Statement
from rexis.protocol.typed_data import Domain

_CHALLENGE_POLL_S = 5.0


@dataclass(frozen=True)
class Surroundings:
    """What all tasks of a worker share.

    Attributes
    ----------
    client
        Signed in as ``options.account``.
    blobs
        Makes a view of the blob cache for one task, which holds what that task uses.
    kept, warranties
        What the worker answers challenges from, and what it said of its tier ``commit``; None if it answers none.
    """

    options: WorkerOptions
    client: RexisClient
    stop: Stop
    board: StatusBoard
    site: Site
    blobs: Callable[[], BlobCache]
    proofs: ProofCache
    own: OwnDatasets
    kept: Kept | None = None
    warranties: Warranties | None = None


@dataclass
class Errand(ABC):
    """A task from its lease to its verdict.

    Attributes
    ----------
    domain, chain
        What the worker pinned when it started.
    """

    around: Surroundings
    domain: Domain
    chain: ChainChecks
    lease: Lease
    keeper: LeaseKeeper
    blobs: BlobCache = field(init=False)

    def __post_init__(self) -> None:
        self.blobs = self.around.blobs()

    def run(self) -> VerdictView:
        """Fetch, check, compute, hand in."""
        try:
            return self.work()
        finally:
            self.blobs.done()

    @abstractmethod
    def work(self) -> VerdictView:
        """What :meth:`run` does, while the blobs that it asks for stay."""

    def get(self, digest: Digest) -> Path:
        """A blob, from the cache or the coordinator."""
        return self.keeper.patiently(lambda: self.blobs.get(digest, self.keeper.check))

    def commit(self, statement: Statement) -> Commitment:
        """Hand the commitment in and wait for its challenge."""
        client, keeper, lease = self.around.client, self.keeper, self.lease
        with step("commit"):
            keeper.patiently(lambda: client.commitment(lease.lease_id, statement))
            while True:
                found = keeper.patiently(lambda: client.challenge(lease.lease_id, wait_seconds=_CHALLENGE_POLL_S))
                if found is not None:
                    break
        commitment, digest, chain = found.commitment, lease.domain.digest(statement), self.chain
        keeper.patiently(lambda: chain.require_challenge(lease.request, statement.task_id, digest, commitment))
        return commitment
