"""The worker's loop: lease, do, hand in; and again. Several tasks side by side, as many as its site has places for.

A worker keeps nothing that matters. What it has on disk are caches (blobs by digest, keys, finished proofs), so that
``kill -9`` costs time only: the lease runs out, somebody leases the task again, and finished proofs are not made twice.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from contracts.onchain import require_deployment
from provers import metrics
from provers.answering import Answerer, Watch, connect_disputes
from provers.cache import BlobCache, ProofCache, make_private_folder
from provers.circuit import DEFAULT_PROVERS, DEFAULT_TASKS, LocalSite, provable_tiers
from provers.dishonest import parse_fault
from provers.display import Display, log, show
from provers.errand import Surroundings
from provers.helper import Helper
from provers.keeper import Stop
from provers.kept import Kept
from provers.onchain import ChainChecks, OnChain, Unchecked
from provers.onsite import OwnDatasets
from provers.options import WorkerOptions
from provers.service import Service
from provers.site import Site
from provers.status import Ending, StatusBoard, WorkerState, WorkerStatus, now, published
from provers.warranted import WarrantedCircuits, Warranties
from rexis.api import MAX_LEASES, Info, Lease, WorkerRegistration
from rexis.client import RexisClient
from rexis.protocol.errors import ChainError, ResourceError, RexisError, UnavailableError
from rexis.protocol.policy import Tier
from rexis.protocol.signing import address_of
from rexis.suggested import require_suggestable
from rexis.telemetry import traces
from rexis.telemetry.exposition import served_metrics
from rexis.transport import Retry

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_TICK_S = 0.1
# What is free on the machine is told again when it has changed by so much, no more often than this.
_MEMORY_CHANGE = 0.1
_MEMORY_EVERY_S = 60.0
# Few tries inside one call: the loop and the keeper try again themselves, and notice a stop in between.
_RETRY = Retry(attempts=2)
_TRAINED = (Tier.COMMIT, Tier.SAMPLED)
_GOOD = frozenset({Ending.ACCEPTED, Ending.GIVEN_BACK, Ending.LOST, Ending.HELPED})

__all__ = ["WorkerOptions", "run_worker"]


def run_worker(options: WorkerOptions) -> None:
    """Work until SIGTERM or SIGINT (which give the tasks back) or SIGUSR1 (which finishes them first).

    A second SIGTERM or SIGINT ends the process at once.

    Raises
    ------
    RexisError
        The worker cannot start: wrong options, another deployment than the pinned one, not admitted.
        Once started, nothing but a signal ends it.
    """
    stop = Stop()
    traces.start("rexis-worker")
    with ExitStack() as stack:
        stack.callback(traces.stop)
        display = stack.enter_context(show())
        stack.enter_context(served_metrics(metrics.REGISTRY, options.metrics_host, options.metrics_port, log))
        site = open_site(options)
        stack.callback(site.close)
        stack.enter_context(_signals(stop))  # after Ray's own
        client = stack.enter_context(
            RexisClient(options.coordinator, options.account, domain=options.domain, retry=_RETRY)
        )
        worker = Worker(options, client, stop, display, site)
        stack.enter_context(published(make_private_folder(options.cache), worker.status))
        worker.run()


def open_site(options: WorkerOptions) -> Site:
    """Where the options say that the computing is done."""
    if options.ray is not None:
        from provers.ray_cluster import RaySite

        return RaySite(
            options.ray,
            options.memory_bytes,
            options.proof_seconds,
            options.tasks,
            options.device,
            options.batch_size,
        )
    return LocalSite(
        make_private_folder(make_private_folder(options.cache) / "keys"),
        options.memory_bytes,
        options.proof_seconds,
        options.provers or DEFAULT_PROVERS,
        options.tasks or DEFAULT_TASKS,
        options.device,
        options.batch_size,
    )


class Worker:
    """One worker on one coordinator.

    Parameters
    ----------
    client
        Signed in as ``options.account``.
    stop
        Set by the signal handlers.
    site
        Where the computing is done; stays the caller's to close.
    chain
        Default: over the node that `options` name.
    """

    def __init__(
        self,
        options: WorkerOptions,
        client: RexisClient,
        stop: Stop,
        display: Display,
        site: Site,
        chain: ChainChecks | None = None,
    ) -> None:
        self._options, self._client, self._stop, self._site, self._chain = options, client, stop, site, chain
        folder = make_private_folder(options.cache)
        self._around = Surroundings(
            options=options,
            client=client,
            stop=stop,
            board=StatusBoard(display),
            site=site,
            blobs=lambda: BlobCache(folder / "blobs", max_bytes=options.cache_bytes, fetch=client.download_blob),
            proofs=ProofCache(folder / "proofs", max_bytes=options.proof_cache_bytes),
            own=OwnDatasets(options.onsite, options.onsite_requester or address_of(options.account)),
            kept=_kept(options, folder),
            warranties=_warranties(options, folder),
        )
        self._tiers = list(options.tiers or provable_tiers())
        self._trains = _trained_tiers(options)
        self._info: Info | None = None
        self._announced: tuple[int, float] | None = None  # memory, and when it was told
        self._pause = _FIRST_PAUSE_S
        self._started_at = now()
        self._running: set[Future[Ending]] = set()
        if options.dishonest is not None:
            parse_fault(options.dishonest)
            log.warning("this worker is DISHONEST (%s): for tests and the demo only", options.dishonest)

    def run(self) -> None:
        """Lease and work until told to stop; while there is no task, help with others'."""
        with ThreadPoolExecutor(self._site.tasks, thread_name_prefix="task") as threads, self._watching():
            while not self._stop.leaving():
                if not (self._collect() and self._take(threads)):
                    self._wait()  # what broke one task may break the next: do not burn through the queue
            if self._running:
                log.info("%s %d tasks", "ending" if self._stop.requested else "finishing", len(self._running))
        log.info("stopped")

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Answer challenges for the length of a ``with`` block, if the worker was told to."""
        around, manifest, kept = self._around, self._options.disputes, self._around.kept
        if manifest is None or kept is None:
            yield
            return
        letters = make_private_folder(self._options.cache / "letters" / address_of(self._options.account))
        chain = connect_disputes(self._options.rpc_url, manifest, self._options.account)
        answerer = Answerer(chain, kept, self._site, around.proofs, letters, self._stop.check)
        watch = Watch(chain, kept, answerer, self._client, self._stop)
        thread = threading.Thread(target=watch.run, name="challenges", daemon=True)
        thread.start()
        log.info("challenges at %s are answered; %d MiB kept for that", manifest.disputes, kept.bytes >> 20)
        try:
            yield
        finally:
            thread.join()

    def status(self) -> WorkerStatus:
        """What the worker is doing, from any thread."""
        board = self._around.board
        tasks, (compute_ms, prove_ms) = board.tasks, board.times
        return WorkerStatus(
            pid=os.getpid(),
            name=self._options.name,
            address=address_of(self._options.account),
            coordinator=self._options.coordinator,
            started_at=self._started_at,
            updated_at=now(),
            state=self._state(busy=bool(tasks)),
            site=self._site.describe(),
            provider=self._site.provider,
            tiers=self._tiers,
            memory_bytes=self._site.memory_bytes,
            taken_bytes=self._site.taken_bytes,
            at_once=self._site.tasks,
            tasks=tasks,
            endings=board.endings,
            compute_ms=compute_ms,
            prove_ms=prove_ms,
        )

    def _state(self, *, busy: bool) -> WorkerState:
        if self._stop.requested:
            return WorkerState.STOPPING
        if self._stop.draining:
            return WorkerState.DRAINING
        if self._announced is None:
            return WorkerState.STARTING
        return WorkerState.WORKING if busy else WorkerState.IDLE

    def _collect(self) -> bool:
        """Take up what tasks have ended, waiting for one if there is no place free; False if one went wrong."""
        full = len(self._running) == self._site.tasks
        ended, self._running = wait(self._running, _TICK_S if full else 0, FIRST_COMPLETED)
        endings = [future.result() for future in ended]
        if endings and all(ending in _GOOD for ending in endings):
            self._pause = _FIRST_PAUSE_S
        return all(ending in _GOOD for ending in endings)

    def _take(self, threads: ThreadPoolExecutor) -> bool:
        """Ask for work for the free places, and begin it; False if the coordinator was of no use."""
        free = self._site.tasks - len(self._running)
        if not free or self._stop.leaving():
            return True
        try:
            self._announce()
            if self._around.kept is not None and self._around.kept.full():
                raise ResourceError("what is kept for disputes fills its place", hint="--keep, or wait")
            service, helper = self._services()
            leases = self._leases(free)
            idle = not leases and not self._running and not self._stop.leaving() and not self._around.own
            piece = self._client.piece() if idle else None
            metrics.COORDINATOR_UP.set(1)
        except UnavailableError as error:
            metrics.COORDINATOR_UP.set(0)
            self._back_off(error)
            return False
        except RexisError as error:
            if self._info is None:  # never admitted: the person who started the worker has to act
                raise
            self._announced = None  # for example a coordinator that lost its database
            self._back_off(error)
            return False
        if self._stop.leaving():
            self._give_back(leases)
            return True
        for lease in leases:
            self._running.add(threads.submit(service.serve, lease))
        if piece is not None:
            self._running.add(threads.submit(helper.serve, piece))
        if not leases and piece is None:
            self._pause = _FIRST_PAUSE_S
        return True

    def _give_back(self, leases: list[Lease]) -> None:
        """What came while the worker was told to take no more."""
        for lease in leases:
            try:
                self._client.release(lease.lease_id)
            except RexisError as error:
                log.warning("could not give a lease back: %s", error)

    def _leases(self, most: int) -> list[Lease]:
        return self._client.leases(most, self._options.wait_seconds)

    def _announce(self) -> None:
        """Pin the deployment (once), and tell the coordinator what this worker can do, again if that has changed."""
        memory, at = self._site.memory_bytes, time.monotonic()
        if self._announced is not None:
            told, told_at = self._announced
            if self._running or at < told_at + _MEMORY_EVERY_S or abs(memory - told) <= _MEMORY_CHANGE * told:
                return
        info = self._info or self._client.info()
        self._chain = self._chain or _connect(self._options, info)
        own = self._around.own
        self._client.register_worker(
            WorkerRegistration(
                name=self._options.name,
                provider=self._site.provider,
                tiers=self._tiers,
                trains=self._trains,
                memory_bytes=memory,
                gpu_memory_bytes=self._site.gpu_memory_bytes,
                slots=min(self._site.tasks, MAX_LEASES),
                datasets=own.digests,
                requester=own.owner if own.digests else None,
            )
        )
        self._info, self._announced = info, (memory, at)
        log.info(
            "worker %s (%s) at %s; chain %d, EvidenceLog %s; %s, %d MiB, %d tasks side by side",
            self._options.name,
            self._client.address,
            self._client.url,
            info.domain.chain_id,
            info.domain.verifying_contract,
            self._site.describe(),
            memory >> 20,
            self._site.tasks,
        )

    def _services(self) -> tuple[Service, Helper]:
        if self._info is None or self._chain is None:
            raise UnavailableError("the worker is not registered")
        domain = self._info.domain
        return Service(self._around, domain, self._chain), Helper(self._around, domain, self._chain)

    def _back_off(self, error: RexisError) -> None:
        log.warning("%s; trying again within %.0f s", error, self._pause)

    def _wait(self) -> None:
        """Longer each time, with jitter so that many workers do not come back at once."""
        self._stop.wait(self._pause * random.uniform(0.5, 1.0))  # noqa: S311
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_S)


def _trained_tiers(options: WorkerOptions) -> list[Tier]:
    """Tiers in which a worker trains; they ask for the same of it.

    Raises
    ------
    UnavailableError
        It was told to train, and cannot.
    """
    able = options.ray is None and all(find_spec(name) is not None for name in ("torch", "onnx"))
    if options.trains and not able:
        raise UnavailableError(
            "training needs torch, and not a Ray cluster", field="trains", hint="pip install 'rexis[models]'"
        )
    wanted = able if options.trains is None else options.trains
    return [tier for tier in _TRAINED if options.tiers is None or tier in options.tiers] if wanted else []


def _kept(options: WorkerOptions, folder: Path) -> Kept | None:
    if options.disputes is None:
        return None
    return Kept(folder, address_of(options.account), max_bytes=options.kept_bytes)


def _warranties(options: WorkerOptions, folder: Path) -> Warranties | None:
    manifest = options.disputes
    if manifest is None:
        return None
    connect = lambda: connect_disputes(options.rpc_url, manifest, options.account)  # noqa: E731
    return Warranties(connect, WarrantedCircuits(folder))


def _connect(options: WorkerOptions, info: Info) -> ChainChecks:
    if options.rpc_url is not None:
        return OnChain.connect(options.rpc_url, info)
    if options.trust_coordinator_rpc:
        if info.rpc_url is None:
            raise ChainError("the coordinator suggests no chain node", hint="give one that you trust: --rpc")
        log.warning("the coordinator's chain node is trusted: models and challenges are what it says")
        require_suggestable(info.rpc_url, options.coordinator)
        return OnChain.connect(info.rpc_url, info)
    if options.unchecked_chain:
        require_deployment(info.domain, info.contracts)
        log.warning("models and challenges are NOT CHECKED on chain")
        return Unchecked()
    raise ChainError(
        "no chain node to check models and challenges on",
        hint="give one that you trust: --rpc; else --trust-coordinator-rpc or --unchecked-chain",
    )


@contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    """Let SIGTERM and SIGINT request a stop, a second one of which does what it does by default; SIGUSR1 drains."""
    ending = (signal.SIGTERM, signal.SIGINT)

    def request(number: int, frame: FrameType | None) -> None:
        stop.requested = True
        for each in ending:
            signal.signal(each, signal.SIG_DFL)

    def drain(number: int, frame: FrameType | None) -> None:
        stop.draining = True

    before = {each: signal.signal(each, request) for each in ending}
    before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, drain)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
