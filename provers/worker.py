"""The worker's loop: lease, do, hand in; and again.

A worker keeps nothing that matters. What it has on disk are caches (blobs by digest, keys, finished proofs), so that
``kill -9`` costs time only: the lease runs out, somebody leases the task again, and finished proofs are not made twice.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Self

from contracts.onchain import require_deployment
from provers.cache import BlobCache, ProofCache, make_private_folder
from provers.circuit import DEFAULT_PROVERS, Circuits, provable_tiers
from provers.dishonest import parse_fault, piece_fault
from provers.display import Display, log, show
from provers.executor import OnnxExecutor, best_provider
from provers.helper import Helper
from provers.keeper import Held, LeaseKeeper, Stop, StopRequested
from provers.onchain import ChainChecks, OnChain, Unchecked
from provers.onsite import WITHHELD, OwnDatasets
from provers.options import WorkerOptions
from provers.pieces import CoordinatorBoard
from provers.task import CircuitFiles, RecordProver, Task, check_lease, read_dataset
from provers.tiers import TIERS, TierProver
from rexis.api import Info, Lease, Piece, Stage, VerdictView, WorkerRegistration
from rexis.client import RexisClient
from rexis.protocol.certificate import Commitment
from rexis.protocol.circuit import Visibility
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ChainError, LeaseError, RexisError, UnavailableError
from rexis.protocol.statement import Statement
from rexis.protocol.tensors import pack_outputs
from rexis.transport import Retry

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_CHALLENGE_POLL_S = 5.0
# Few tries inside one call: the loop and the keeper try again themselves, and notice a stop in between.
_RETRY = Retry(attempts=2)

__all__ = ["WorkerOptions", "run_worker"]


def run_worker(options: WorkerOptions) -> None:
    """Work until SIGTERM or SIGINT; a second signal ends the process at once.

    Raises
    ------
    RexisError
        The worker cannot start: wrong options, another deployment than the pinned one, not admitted.
        Once started, nothing but a signal ends it.
    """
    stop = Stop()
    with ExitStack() as stack:
        display = stack.enter_context(show())
        stack.enter_context(_signals(stop))
        client = stack.enter_context(
            RexisClient(options.coordinator, options.account, domain=options.domain, retry=_RETRY)
        )
        stack.enter_context(Worker(options, client, stop, display)).run()


class Worker:
    """One worker on one coordinator.

    Parameters
    ----------
    client
        Signed in as ``options.account``.
    stop
        Set by the signal handlers.
    chain
        Default: over the node that `options` name.
    """

    def __init__(
        self,
        options: WorkerOptions,
        client: RexisClient,
        stop: Stop,
        display: Display,
        chain: ChainChecks | None = None,
    ) -> None:
        self._options, self._client, self._stop, self._display, self._chain = options, client, stop, display, chain
        self._fault = parse_fault(options.dishonest) if options.dishonest else None
        folder = make_private_folder(options.cache)
        self._blobs = BlobCache(folder / "blobs", max_bytes=options.cache_bytes, fetch=client.download_blob)
        self._proofs = ProofCache(folder / "proofs", max_bytes=options.proof_cache_bytes)
        self._circuits = Circuits(
            make_private_folder(folder / "keys"),
            options.memory_bytes,
            options.proof_seconds,
            options.provers or DEFAULT_PROVERS,
        )
        self._helper = Helper(
            client,
            self._circuits,
            self._blobs,
            self._proofs,
            stop,
            display,
            finish=options.finish,
            fault=piece_fault(options.dishonest) if options.dishonest else None,
        )
        self._own = OwnDatasets(options.onsite, options.onsite_requester or client.address)
        self._info: Info | None = None
        self._pause = _FIRST_PAUSE_S
        if self._fault is not None:
            log.warning("this worker is DISHONEST (%s): for tests and the demo only", options.dishonest)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._circuits.close()

    def run(self) -> None:
        """Lease and work until told to stop; while there is no task, help with others'."""
        registered = False
        while not self._stop.requested:
            try:
                if not registered:
                    self._register()
                    registered = True
                lease = self._client.lease(self._options.wait_seconds)
                idle = lease is None and not self._stop.requested and not self._own
                piece = self._client.piece() if idle else None
            except UnavailableError as error:
                self._back_off(error)
                continue
            except RexisError as error:
                if self._info is None:  # never admitted: the person who started the worker has to act
                    raise
                registered = False  # for example a coordinator that lost its database
                self._back_off(error)
                continue
            if (lease is None or self.serve(lease)) and (piece is None or self._help(piece)):
                self._pause = _FIRST_PAUSE_S
            else:
                self._wait()  # what broke one task may break the next: do not burn through the queue
        log.info("stopped")

    def _help(self, piece: Piece) -> bool:
        info, chain = self._pinned()
        return self._helper.serve(piece, info.domain, chain)

    def serve(self, lease: Lease) -> bool:
        """Do one task; whatever goes wrong with it ends the task, not the worker.

        Returns
        -------
        bool
            False if the task failed here or its evidence was refused.
        """
        name = f"records {lease.start}–{lease.start + lease.count - 1} of job {lease.request.job_id(lease.domain)}"
        log.info("leased %s, tier %s", name, lease.request.policy.tier.name.lower())
        held = Held(
            f"records {lease.start}–{lease.start + lease.count - 1}",
            lease.count,
            lease.heartbeat_seconds,
            lambda progress: self._client.heartbeat(lease.lease_id, progress),
        )
        try:
            with LeaseKeeper(held, self._stop, finish=self._options.finish, display=self._display) as keeper:
                try:
                    verdict = self._do(lease, keeper)
                except (RexisError, OSError):
                    keeper.check()  # a task that was interrupted fails in all kinds of ways: say why it ended
                    raise
        except StopRequested:
            self._tell(lambda: self._client.release(lease.lease_id), "give the lease back")
            log.info("gave %s back", name)
            return True
        except LeaseError as error:
            log.warning("dropped %s: %s", name, error)
            return True
        except RexisError as error:
            log.error("failed %s: %s", name, error)
            self._fail(lease, error.code, str(error))
        except Exception as error:
            log.exception("failed %s", name)
            self._fail(lease, "internal", f"the worker failed: {type(error).__name__}")
        else:
            return _log_verdict(name, verdict)
        finally:
            self._blobs.done()
        return False

    def _do(self, lease: Lease, keeper: LeaseKeeper) -> VerdictView:
        keeper.at(Stage.FETCH, 0, lease.count)
        info, chain = self._pinned()
        check_lease(lease, info.domain)
        keeper.patiently(lambda: chain.require_model(lease.request))
        private = self._own.requested(lease.request)
        model = self._get(lease.request.model_digest, keeper)
        dataset = private or read_dataset(self._get(lease.request.dataset_digest, keeper), lease.request)
        task = Task(
            lease=lease,
            account=self._options.account,
            dataset=dataset,
            executor=OnnxExecutor(model, batch_size=self._options.batch_size),
            open_circuit=lambda: self._open_circuit(lease, model, keeper),
            proofs=self._proofs,
            commit=lambda statement: self._commit(lease, statement, keeper, chain),
            at=keeper.at,
            # Private records go nowhere. (Their circuits have one segment, so that there is nothing to share either.)
            board=None if private else CoordinatorBoard(self._client, self._blobs, lease.lease_id, keeper),
        )
        prover = self._prover(task)
        prover.prepare()
        computed = prover.compute()
        evidence = prover.evidence(computed)
        keeper.at(Stage.UPLOAD, 0, lease.count)
        keeper.finish()
        outputs = pack_outputs(computed.outputs)
        keeper.patiently(lambda: self._client.upload_blob(outputs))
        return keeper.patiently(lambda: self._client.evidence(lease.lease_id, evidence))

    def _prover(self, task: Task) -> TierProver:
        honest = TIERS[task.request.policy.tier](task)
        return honest if self._fault is None else self._fault(task, honest)

    def _open_circuit(self, lease: Lease, model: Path, keeper: LeaseKeeper) -> RecordProver:
        circuit = lease.request.circuit
        settings = self._get(circuit.settings_digest, keeper)
        srs = self._get(circuit.srs_digest, keeper)
        keeper.on_interrupt(self._circuits.kill)
        files = CircuitFiles(model, settings, srs)
        return self._circuits.open(
            circuit, files, keeper.check, lambda done, total: keeper.at(Stage.SETUP, done, total)
        )

    def _get(self, digest: Digest, keeper: LeaseKeeper) -> Path:
        return keeper.patiently(lambda: self._blobs.get(digest, keeper.check))

    def _commit(self, lease: Lease, statement: Statement, keeper: LeaseKeeper, chain: ChainChecks) -> Commitment:
        """Hand the commitment in and wait for its challenge."""
        keeper.patiently(lambda: self._client.commitment(lease.lease_id, statement))
        while True:
            found = keeper.patiently(lambda: self._client.challenge(lease.lease_id, wait_seconds=_CHALLENGE_POLL_S))
            if found is not None:
                break
        commitment, digest = found.commitment, lease.domain.digest(statement)
        keeper.patiently(lambda: chain.require_challenge(lease.request, statement.task_id, digest, commitment))
        return commitment

    def _register(self) -> None:
        """Pin the deployment (once) and announce the worker."""
        if self._info is None:
            info = self._client.info()
            self._chain = self._chain or _connect(self._options, info)
        else:
            info = self._info
        self._client.register_worker(
            WorkerRegistration(
                name=self._options.name,
                provider=best_provider(),
                tiers=list(self._options.tiers or provable_tiers()),
                memory_bytes=self._circuits.memory_bytes,
                datasets=self._own.digests,
                requester=self._own.owner if self._own.digests else None,
            )
        )
        self._info = info
        log.info(
            "worker %s (%s) at %s; chain %d, EvidenceLog %s",
            self._options.name,
            self._client.address,
            self._client.url,
            info.domain.chain_id,
            info.domain.verifying_contract,
        )

    def _pinned(self) -> tuple[Info, ChainChecks]:
        if self._info is None or self._chain is None:
            raise UnavailableError("the worker is not registered")
        return self._info, self._chain

    def _back_off(self, error: RexisError) -> None:
        log.warning("%s; trying again within %.0f s", error, self._pause)
        self._wait()

    def _wait(self) -> None:
        """Longer each time, with jitter so that many workers do not come back at once."""
        self._stop.wait(self._pause * random.uniform(0.5, 1.0))  # noqa: S311
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_S)

    def _fail(self, lease: Lease, code: str, detail: str) -> None:
        if lease.request.circuit.visibility == Visibility.HASHED:
            code, detail = WITHHELD
        self._tell(lambda: self._client.fail(lease.lease_id, code, detail), "report the failure")

    def _tell(self, call: Callable[[], None], what: str) -> None:
        """Tell the coordinator something that it would also find out by itself, when the lease runs out."""
        try:
            call()
        except RexisError as error:
            log.warning("could not %s: %s", what, error)


def _connect(options: WorkerOptions, info: Info) -> ChainChecks:
    if options.rpc_url is not None:
        return OnChain.connect(options.rpc_url, info)
    if options.trust_coordinator_rpc:
        if info.rpc_url is None:
            raise ChainError("the coordinator suggests no chain node", hint="give one that you trust: --rpc")
        log.warning("the coordinator's chain node is trusted: models and challenges are what it says")
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
    """Let SIGTERM and SIGINT request a stop; a second one does what it does by default."""
    wanted = (signal.SIGTERM, signal.SIGINT)

    def request(number: int, frame: FrameType | None) -> None:
        stop.requested = True
        for each in wanted:
            signal.signal(each, signal.SIG_DFL)

    before = {each: signal.signal(each, request) for each in wanted}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _log_verdict(name: str, verdict: VerdictView) -> bool:
    if verdict.accepted:
        log.info("accepted: %s", name)
        return True
    reason = next((step for step in verdict.steps if step.status == "failed"), None)
    log.error("refused: %s: %s", name, f"{reason.name}: {reason.detail}" if reason else "no reason given")
    return False
