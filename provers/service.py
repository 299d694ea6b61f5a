"""One task from its lease to its verdict. Several may be served at a time, from as many threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from provers import metrics
from provers.dishonest import parse_fault
from provers.display import log
from provers.errand import Errand, Surroundings
from provers.keeper import Held, LeaseKeeper, StopRequested
from provers.kept import KeptStatement, is_disputable
from provers.metrics import step
from provers.onchain import ChainChecks
from provers.onsite import WITHHELD
from provers.pieces import CoordinatorBoard
from provers.site import Desk
from provers.status import Ending
from provers.task import CircuitFiles, RecordProver, Task, check_lease, read_shard
from provers.tiers import TIERS, TierProver
from provers.warranted import require_near
from rexis.api import Lease, Stage, VerdictView
from rexis.protocol.circuit import Visibility
from rexis.protocol.digests import Digest
from rexis.protocol.errors import LeaseError, RexisError
from rexis.protocol.evidence import Evidence
from rexis.protocol.onsite import PrivateDataset
from rexis.protocol.parsing import enum_name
from rexis.protocol.policy import Tier
from rexis.protocol.records import Floats, Integers
from rexis.protocol.signing import address_of, sign_digest
from rexis.protocol.statement import Statement, task_id
from rexis.protocol.tensors import Dataset, Shard, pack_outputs
from rexis.protocol.typed_data import Domain
from rexis.telemetry import traces
from rexis.telemetry.logs import bound


@dataclass(frozen=True)
class Service:
    """Does tasks.

    Attributes
    ----------
    domain, chain
        What the worker pinned when it started.
    """

    around: Surroundings
    domain: Domain
    chain: ChainChecks

    def serve(self, lease: Lease) -> Ending:
        """Do one task; whatever goes wrong with it ends the task, not the worker."""
        job_id, tier = lease.request.job_id(lease.domain), enum_name(lease.request.policy.tier)
        ids = {"job_id": str(job_id), "task_id": str(task_id(job_id, lease.start, lease.count))}
        worker = address_of(self.around.options.account)
        with (
            bound(lease_id=lease.lease_id, worker=worker, **ids),
            traces.span("task", lease.trace, tier=tier, records=lease.count, worker=worker, **ids),
            metrics.TASKS_RUNNING.track_inprogress(),
        ):
            ending = self._serve(lease, job_id)
            traces.annotate(ending=ending.value)
        metrics.TASKS.labels(tier, ending.value).inc()
        self.around.board.ended(ending)
        return ending

    def _serve(self, lease: Lease, job_id: Digest) -> Ending:
        name = f"records {lease.start}–{lease.start + lease.count - 1} of job {job_id}"
        around, client = self.around, self.around.client
        log.info("leased %s, tier %s", name, lease.request.policy.tier.name.lower())
        total = lease.count if lease.plan is None else lease.plan.steps
        held = Held(name, total, lease.heartbeat_seconds, lambda progress: client.heartbeat(lease.lease_id, progress))
        around.board.begin(name, job_id, lease.request.policy.tier)
        try:
            with LeaseKeeper(held, around.stop, finish=around.options.finish, display=around.board) as keeper:
                try:
                    verdict = self._errand(lease, keeper).run()
                except (RexisError, OSError):
                    keeper.check()  # a task that was interrupted fails in all kinds of ways: say why it ended
                    raise
        except StopRequested:
            self._tell(lambda: client.release(lease.lease_id), "give the lease back")
            log.info("gave %s back", name)
            return Ending.GIVEN_BACK
        except LeaseError as error:
            log.warning("dropped %s: %s", name, error)
            return Ending.LOST
        except RexisError as error:
            log.error("failed %s: %s", name, error)
            self._fail(lease, error.code, str(error))
        except Exception as error:
            log.exception("failed %s", name)
            self._fail(lease, "internal", f"the worker failed: {type(error).__name__}")
        else:
            return _log_verdict(name, verdict)
        return Ending.FAILED

    def _errand(self, lease: Lease, keeper: LeaseKeeper) -> Errand:
        if lease.plan is None:
            return EvaluationErrand(self.around, self.domain, self.chain, lease, keeper)
        from provers.training import TrainingErrand  # torch

        return TrainingErrand(self.around, self.domain, self.chain, lease, keeper)

    def _fail(self, lease: Lease, code: str, detail: str) -> None:
        if lease.request.circuit.visibility == Visibility.HASHED:
            code, detail = WITHHELD
        self._tell(lambda: self.around.client.fail(lease.lease_id, code, detail), "report the failure")

    def _tell(self, call: Callable[[], None], what: str) -> None:
        """Tell the coordinator something that it would also find out by itself, when the lease runs out."""
        try:
            call()
        except RexisError as error:
            log.warning("could not %s: %s", what, error)


@dataclass
class EvaluationErrand(Errand):
    """Fetch, check, compute, prove, hand in."""

    def work(self) -> VerdictView:
        """See :class:`provers.errand.Errand`."""
        with self.around.site.desk(self.keeper.check) as desk:
            self.keeper.on_interrupt(desk.kill)
            return self._do(desk)

    def _do(self, desk: Desk) -> VerdictView:
        lease, keeper, around, chain = self.lease, self.keeper, self.around, self.chain
        keeper.at(Stage.FETCH, 0, lease.count)
        check_lease(lease, self.domain)
        with step("fetch"):
            keeper.patiently(lambda: chain.require_model(lease.request))
            private = around.own.requested(lease.request)
            model = self.get(lease.request.model_digest)
            dataset = private or read_shard(keeper.patiently(lambda: around.client.shard(lease.lease_id)), lease)
        task = Task(
            lease=lease,
            account=around.options.account,
            dataset=dataset,
            executor=desk.executor(model),
            open_circuit=lambda: self._open_circuit(desk, model),
            proofs=around.proofs,
            commit=self.commit,
            at=keeper.at,
            # Private records go nowhere. (Their circuits have one segment, so that there is nothing to share either.)
            board=None if private else CoordinatorBoard(around.client, self.blobs, lease.lease_id, keeper),
            keep=lambda statement, outputs: self._keep(desk, statement, outputs, dataset, model),
        )
        prover = self._prover(task)
        with step("setup"):
            prover.prepare()
        with step("run"):
            computed = prover.compute()
        with step("prove"):
            evidence = prover.evidence(computed)
        keeper.at(Stage.UPLOAD, 0, lease.count)
        keeper.finish()
        outputs = pack_outputs(computed.outputs)
        with step("upload"):
            keeper.patiently(lambda: around.client.upload_blob(outputs))
        with step("hand-in"):
            return self._hand_in(evidence)

    def _keep(
        self,
        desk: Desk,
        statement: Statement,
        outputs: Integers | Floats,
        dataset: Shard | Dataset | PrivateDataset,
        model: Path,
    ) -> None:
        """Keep what a challenge of the statement would be answered from."""
        around, circuit = self.around, statement.circuit
        if around.kept is None or not isinstance(dataset, Shard) or not is_disputable(statement):
            return
        signature = sign_digest(around.options.account, self.domain.digest(statement))
        kept = KeptStatement(domain=self.domain, statement=statement, signature=signature, vka=self.lease.vka)
        if statement.tier == Tier.COMMIT:
            warranted = self._require_as_warranted(
                desk, statement, np.asarray(outputs, dtype=np.float32), dataset, model
            )
            around.kept.keep(kept, dataset if warranted else None, outputs)
            return
        files = [(digest, self.get(digest)) for digest in (circuit.settings_digest, circuit.srs_digest)]
        around.kept.keep(kept, dataset, outputs, [(statement.model_digest, model), *files])

    def _require_as_warranted(
        self, desk: Desk, statement: Statement, outputs: Floats, shard: Shard, model: Path
    ) -> bool:
        """Whether a warranty covers a statement of tier ``commit``, which keeps to it then."""
        keeper, warranties, count = self.keeper, self.around.warranties, len(outputs)
        found = None if warranties is None else keeper.patiently(lambda: warranties.about(statement))
        if warranties is None or found is None:
            return False
        warranty, circuit_hash = found
        kept = warranties.circuits.get(circuit_hash)
        files = CircuitFiles(model, kept.settings, kept.srs)
        prover = desk.open(kept.circuit, files, lambda done, total: keeper.at(Stage.COMMIT, 0, count))
        apart = require_near(
            prover,
            kept.circuit,
            shard.records,
            outputs,
            warranty.tolerance,
            start=statement.record_start,
            at=lambda done: keeper.at(Stage.COMMIT, done, count),
        )
        log.info("outputs lie within %d units of what the circuit gives, %d are warranted", apart, warranty.tolerance)
        return True

    def _hand_in(self, evidence: Evidence) -> VerdictView:
        around = self.around
        verdict = self.keeper.patiently(lambda: around.client.evidence(self.lease.lease_id, evidence))
        if verdict.accepted:
            around.board.took(evidence.measured.compute_ms, evidence.measured.prove_ms)
        return verdict

    def _prover(self, task: Task) -> TierProver:
        honest, dishonest = TIERS[task.request.policy.tier](task), self.around.options.dishonest
        return honest if dishonest is None else parse_fault(dishonest)(task, honest)

    def _open_circuit(self, desk: Desk, model: Path) -> RecordProver:
        circuit = self.lease.request.circuit
        files = CircuitFiles(model, self.get(circuit.settings_digest), self.get(circuit.srs_digest))
        return desk.open(circuit, files, lambda done, total: self.keeper.at(Stage.SETUP, done, total))


def _log_verdict(name: str, verdict: VerdictView) -> Ending:
    if verdict.accepted:
        log.info("accepted: %s", name)
        return Ending.ACCEPTED
    reason = next((one for one in verdict.steps if one.status == "failed"), None)
    log.error("refused: %s: %s", name, f"{reason.name}: {reason.detail}" if reason else "no reason given")
    return Ending.REFUSED
