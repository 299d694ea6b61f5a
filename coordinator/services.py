"""The coordinator's parts, put together."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from urllib.parse import urlsplit

from anyio import CapacityLimiter, to_thread
from eth_account.signers.local import LocalAccount

from contracts.accountability import Accountability
from contracts.onchain import Deployment
from coordinator.access import Access
from coordinator.anchor_log import AnchorLog
from coordinator.anchoring import Anchoring
from coordinator.audit import Audit
from coordinator.auth import Auth
from coordinator.batches import BatchIntake
from coordinator.bell import Bell
from coordinator.blobs import Blobs
from coordinator.catalogue import Catalogue
from coordinator.certificates import Certificates
from coordinator.certifying import Certifying
from coordinator.chain import ChainLink, Ledger
from coordinator.checkpoints import Checkpoints
from coordinator.commitments import Commitments
from coordinator.duties import Duties
from coordinator.evidence import Intake
from coordinator.garbage import Garbage
from coordinator.gauges import StateGauges
from coordinator.inventory import Inventory
from coordinator.jobs import Jobs, Limits, Place
from coordinator.judging import Judge
from coordinator.leases import Leases, Terms
from coordinator.limits import Limits as RateLimits
from coordinator.lineage import Lineages
from coordinator.outbox import Outbox, Patience
from coordinator.payments import Payments
from coordinator.pieces import Pieces
from coordinator.progress import JobStreams
from coordinator.quotas import Quotas
from coordinator.readiness import Check, Checks, Pulse
from coordinator.relay import Relay
from coordinator.roles import Members
from coordinator.settings import Settings
from coordinator.shards import Shards
from coordinator.standing import Rules
from coordinator.statements import Statements
from coordinator.store import Store
from coordinator.times import Clock, wall_clock
from coordinator.tracing import Ending
from coordinator.training import Trainings, trainable_tiers
from coordinator.training_evidence import TrainingIntake
from coordinator.trees import Trees
from coordinator.troubles import Troubles
from coordinator.uploads import Terms as UploadTerms
from coordinator.uploads import Uploads
from coordinator.validating import Validating
from coordinator.validation import Validations
from coordinator.views import Views
from coordinator.workers import Workers
from rexis.protocol.signing import address_of
from rexis.web.limits import Buckets
from verifier.evidence import checkable_tiers

_CHECKS_AT_ONCE = 2
_TURNS_AT_ONCE = 2
_GWEI = 10**9
# A round may wait for receipts, or for a certificate's own check.
_LONGEST_ROUND_S = 600.0
_Result = TypeVar("_Result")
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Coordinator:
    """Everything that the HTTP routes and the background loops use.

    Parameters
    ----------
    deployment, account
        The contracts, and the account whose transactions and seals count.
    chain, clock
        For tests: another chain or clock than the real ones.
    accountability
        Of the validators whose verdicts jobs may ask for, and of the escrow by which they may be paid.
    """

    def __init__(
        self,
        settings: Settings,
        deployment: Deployment,
        account: LocalAccount,
        *,
        chain: Callable[[], Ledger] | None = None,
        clock: Clock = wall_clock,
        accountability: Accountability | None = None,
    ) -> None:
        self.settings, self.deployment, self.accountability = settings, deployment, accountability
        self.address = address_of(account)
        self.tiers, self.trains = checkable_tiers(), trainable_tiers()
        self.bell = Bell()
        self._turns = CapacityLimiter(_TURNS_AT_ONCE)
        cap = None if settings.max_fee_gwei is None else int(settings.max_fee_gwei * _GWEI)
        nodes = [settings.rpc, *settings.fallback_rpcs]
        self._chain = chain or ChainLink(nodes, deployment, account, cap, accountability)

        # Checks of proofs and keys, each in a child process of its own with gigabytes.
        self._checking = ThreadPoolExecutor(_CHECKS_AT_ONCE, "checking")

        domain = deployment.domain
        self._store = store = Store(
            settings.database, connections=settings.database_connections, migrate=settings.migrate
        )
        self.duties = Duties(store)
        self.troubles = Troubles(store, clock)
        self.relay = Relay(settings.database, self.bell)
        self.blobs = blobs = Blobs(
            settings.blob_url,
            settings.data_dir,
            settings.max_blob_bytes,
            cache_bytes=settings.blob_cache_bytes,
            expect=Inventory(store, clock).expect,
        )
        self.garbage = Garbage(store, blobs, clock, settings.retention)
        quotas = Quotas(settings.max_stored_bytes, settings.max_unfinished_jobs, settings.max_daily_records)
        self.access = Access(store, quotas, clock)
        self.limits = RateLimits(
            Buckets(settings.requests_per_second, settings.request_burst),
            Buckets(settings.stranger_requests_per_second, settings.stranger_burst),
        )
        self.uploads = Uploads(
            store,
            blobs,
            self.access,
            clock,
            UploadTerms(_ms(settings.upload_seconds), settings.max_uploads, settings.max_staged_bytes),
        )
        self.audit = Audit(store)
        self.members = members = Members(store, clock, settings.named_members(), settings.operators)
        self.auth = Auth(store, clock, domain.chain_id, members, _ms(settings.token_seconds))
        rules = Rules(
            settings.max_task_faults,
            closed=members.closed,
            max_vanished=settings.max_task_vanished,
            barred_ms=_ms(settings.barred_seconds),
            retry_ms=_ms(settings.retry_seconds),
            max_retry_ms=_ms(settings.max_retry_seconds),
        )
        self.workers = Workers(store, clock, _ms(settings.worker_seconds), settings.max_leases, rules)
        trees = Trees(settings.data_dir / "cache" / "trees", settings.blob_cache_bytes)
        self.catalogue = Catalogue(store, blobs, self.access, self._chain, self._checking, domain, trees, clock)
        self.lineages = Lineages(store)
        self.shards = Shards(store, self.catalogue)
        self.escrow = accountability.job_escrow if accountability is not None else None
        self.quorum = accountability.validator_quorum if accountability is not None else None
        self.validations = Validations(store, blobs, clock, self._chain, domain, accountability)
        self.views = Views(store, clock, self.workers, rules, self.troubles, accountability)
        self.jobs = Jobs(
            store,
            blobs,
            clock,
            self.access,
            self.catalogue,
            Place(domain, self.address, self.tiers, self.quorum, self.escrow),
            Limits(
                settings.max_certified_records,
                settings.max_validated_statements,
                _ms(settings.priority_seconds),
                quotas,
            ),
            self.views,
            Trainings(blobs, self.catalogue),
        )
        terms = Terms(
            lease_ms=_ms(settings.lease_seconds),
            stalled_ms=_ms(settings.stalled_seconds),
            most_ms=_ms(settings.max_lease_seconds),
            at_a_time=settings.max_leases,
            heartbeat_seconds=settings.heartbeat_seconds,
        )
        self.leases = Leases(store, clock, self.workers, domain, rules, terms)
        self.checkpoints = Checkpoints(store, blobs, self.access, clock, self.leases, domain, terms)
        self.pieces = Pieces(
            store,
            blobs,
            self.access,
            clock,
            self.catalogue,
            self.workers,
            self.leases,
            domain,
            rules,
            terms,
            self._checking,
        )
        patience = Patience(settings.confirmations, _ms(settings.stuck_seconds))
        self.outbox = outbox = Outbox(store, self._chain, clock, self.address, patience)
        self.commitments = Commitments(store, clock, self._chain, outbox, self.leases, domain, settings.confirmations)
        judge = Judge(blobs, self.catalogue, domain)
        self.batches = BatchIntake(store, blobs, clock, self.leases, judge, domain)
        self.intake = Intake(
            store,
            blobs,
            self.access,
            clock,
            self.catalogue,
            self.leases,
            self.commitments,
            judge,
            domain,
            self._checking,
            settings.lease_seconds / 4,
        )
        self.training_intake = TrainingIntake(
            store,
            blobs,
            clock,
            self.leases,
            self.commitments,
            domain,
            self._checking,
            settings.lease_seconds / 4,
            self.catalogue.owner_of,
        )
        self.streams = JobStreams(store, self.views, self.bell, settings.max_streams)
        self.gauges = StateGauges(store, clock, _ms(settings.worker_seconds))
        self.pulse = Pulse(_LONGEST_ROUND_S)
        self.readiness = Checks(
            [
                Check("database", store.ping, needed=True, kept_s=2.0),
                Check("blobs", blobs.probe, needed=True, kept_s=30.0),
                Check("duties", self.pulse.check, needed=True, kept_s=2.0),
                Check("chain", self._reach_chain, needed=False, kept_s=10.0),
            ]
        )
        self.anchoring = Anchoring(
            store,
            self._chain,
            outbox,
            clock,
            _ms(settings.anchor_seconds),
            _ms(settings.anchor_interval_seconds),
        )
        self.anchor_log = AnchorLog(store, domain, account)
        self.certifying = Certifying(store, blobs, clock, self._chain, outbox, settings.confirmations)
        self.validating = Validating(store, clock, self._chain, outbox, rules, accountability, settings.confirmations)
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
        self.statements = statements = Statements(store, blobs, self.views, domain)
        self.payments = Payments(store, self._chain, outbox, statements, accountability)
        self.ending = Ending(store, self.certificates)

    async def in_turn(self, work: Callable[..., _Result], *arguments: object) -> _Result:
        """Do work that leases or records tasks in a thread, a few requests at a time and in the order they came.

        More at a time would not be faster: their transactions follow one another, and every thread that runs takes the
        interpreter from the one that the others wait for.
        """
        return await to_thread.run_sync(work, *arguments, limiter=self._turns)

    def _reach_chain(self) -> None:
        self._chain().block_number()

    def close(self) -> None:
        """Release threads and connections."""
        self.readiness.close()
        self._checking.shutdown(cancel_futures=True)
        self.batches.close()
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
        return name, f"{'http' if settings.tls_cert is None else 'https'}://{name}"


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
