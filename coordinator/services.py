"""The coordinator's parts, put together."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from eth_account.signers.local import LocalAccount

from contracts.onchain import Deployment
from coordinator.access import Access
from coordinator.anchoring import Anchoring
from coordinator.auth import Auth
from coordinator.bell import Bell
from coordinator.blobs import Blobs
from coordinator.catalogue import Catalogue
from coordinator.certificates import Certificates
from coordinator.certifying import Certifying
from coordinator.chain import ChainLink, Ledger
from coordinator.commitments import Commitments
from coordinator.evidence import Intake
from coordinator.jobs import Jobs, Limits, Place
from coordinator.leases import Leases, Terms
from coordinator.pieces import Pieces
from coordinator.settings import Settings
from coordinator.standing import Rules
from coordinator.store import Store
from coordinator.times import Clock, wall_clock
from coordinator.workers import Workers
from rexis.protocol.signing import address_of
from verifier.evidence import checkable_tiers

_CHECKS_AT_ONCE = 2
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Coordinator:
    """Everything that the HTTP routes and the background loops use.

    Parameters
    ----------
    deployment, account
        The contracts, and the account whose transactions and seals count.
    chain, clock
        For tests: another chain or clock than the real ones.
    """

    def __init__(
        self,
        settings: Settings,
        deployment: Deployment,
        account: LocalAccount,
        *,
        chain: Callable[[], Ledger] | None = None,
        clock: Clock = wall_clock,
    ) -> None:
        self.settings, self.deployment = settings, deployment
        self.address = address_of(account)
        self.tiers = checkable_tiers()
        self.troubles: dict[str, str] = {}
        self.bell = Bell()
        self._chain = chain or ChainLink(settings.rpc, deployment, account)

        # Checks of proofs and keys, each in a child process of its own with gigabytes.
        self._checking = ThreadPoolExecutor(_CHECKS_AT_ONCE, "checking")

        domain = deployment.domain
        members = None if settings.members is None else frozenset(settings.members)
        self._store = store = Store(settings.database)
        self.blobs = blobs = Blobs(settings.blob_url, settings.data_dir, settings.max_blob_bytes)
        self.access = Access(store)
        self.auth = Auth(store, clock, domain.chain_id, members)
        rules = Rules(settings.max_task_faults, closed=members is not None)
        self.workers = Workers(store, clock, _ms(settings.worker_seconds), closed=rules.closed)
        self.catalogue = Catalogue(store, blobs, self.access, self._chain, self._checking, domain)
        self.jobs = Jobs(
            store,
            blobs,
            clock,
            self.access,
            self.catalogue,
            self.workers,
            Place(domain, self.address, self.tiers),
            Limits(settings.max_certified_records),
            rules,
            self.troubles,
        )
        terms = Terms(
            lease_ms=_ms(settings.lease_seconds),
            stalled_ms=_ms(settings.stalled_seconds),
            most_ms=_ms(settings.max_lease_seconds),
            at_a_time=settings.max_leases,
            heartbeat_seconds=settings.heartbeat_seconds,
        )
        self.leases = Leases(store, clock, self.workers, domain, rules, terms)
        self.pieces = Pieces(
            store,
            blobs,
            self.access,
            clock,
            self.catalogue,
            self.workers,
            self.leases,
            domain,
            terms,
            self._checking,
        )
        self.commitments = Commitments(store, self._chain, self.leases, domain, settings.confirmations)
        self.intake = Intake(
            store,
            blobs,
            self.access,
            clock,
            self.catalogue,
            self.leases,
            self.commitments,
            domain,
            self._checking,
            settings.lease_seconds / 4,
        )
        self.anchoring = Anchoring(store, self._chain, clock, _ms(settings.anchor_seconds))
        self.certifying = Certifying(store, blobs, self._chain)
        self.certificates = Certificates(
            store,
            blobs,
            clock,
            self._chain,
            self.catalogue,
            self.commitments,
            deployment,
            account,
            self._checking,
            settings.confirmations,
        )

    def close(self) -> None:
        """Release threads and connections."""
        self._checking.shutdown(cancel_futures=True)
        self._store.close()

    def authority(self, requested: str) -> tuple[str, str]:
        """Host that sign-in messages name, and its URL.

        Only a name that is ours: otherwise somebody could have us write a message that another site passes on.
        """
        settings = self.settings
        if settings.public_url is not None:
            return urlsplit(settings.public_url).netloc, settings.public_url
        ours = {f"{name}:{settings.port}" for name in (*_LOOPBACK, settings.host)}
        name = requested if requested in ours else f"{settings.host}:{settings.port}"
        return name, f"http://{name}"


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
