"""The plainest check there is: an auditor with the encrypted model and all encrypted records runs them again."""

from __future__ import annotations

from collections.abc import Callable

from bench.costs.checks import Checks, WrongResult
from bench.costs.clock import repeated
from bench.costs.result import PeerCost, Spread
from bench.costs.scene import Job, Scene
from bench.costs.scope import Scope
from bench.costs.task import TaskRun, run_task, verified
from provers.dishonest import parse_fault
from rexis.protocol.digests import sha256
from rexis.protocol.errors import EvidenceError
from rexis.protocol.evidence import Evidence
from rexis.protocol.policy import Tier
from rexis.protocol.records import TaskTrees
from verifier.reexecute import check_reexecution

NAME = "re-execution"
_BLOCK = sha256(b"the block that draws which records are opened: here all of them")


def measure(scene: Scene, scope: Scope, checks: Checks) -> PeerCost:
    """Open every record of one task of tier ``commit`` and run it again, as ``rexis verify --reexecute`` does."""
    records = scope.tasks[0]
    job = scene.job(Tier.COMMIT, records, records, None)
    honest, lying = run_task(job), run_task(job, fault=parse_fault("alter-outputs:1"))
    again = _checker(scene, job, honest)
    about, took = f"{scene.name}, {records} records", Spread.computed(0.0)
    with checks.that("re-execution agrees with an honest worker", about) as seen:
        seen(again())
        took = repeated(again, scope.repeats, scope.cell_seconds)
    with checks.that("re-execution finds one altered output", about) as seen:
        try:
            _checker(scene, job, lying)()
        except EvidenceError as error:
            seen(error.message)
        else:
            raise WrongResult("it found nothing")
    return PeerCost(
        peer=NAME,
        model=scene.name,
        shows="every output is what the encrypted model gives, to an auditor who holds it and all encrypted records",
        hides="what EE hides, from the auditor too",
        work=Spread.computed(honest.inference / records),
        verify=Spread(took.median / records, took.low / records, took.high / records, took.runs),
        sent_bytes=len(job.dataset.to_bytes()) / records,
        note=f"{records} records in one go, with the start of the process that runs them",
    )


def _checker(scene: Scene, job: Job, run: TaskRun) -> Callable[[], str]:
    """What an auditor does with a certificate that opens all records."""
    opened = _with_all_open(job, run)
    context = job.context(_BLOCK)
    return lambda: check_reexecution(job.request, scene.encrypted, [verified(opened, context)], job.lease.count)


def _with_all_open(job: Job, run: TaskRun) -> Evidence:
    """As the coordinator completes it after the anchor."""
    request, dataset, count = job.request, job.dataset, job.lease.count
    trees = TaskTrees(Tier.COMMIT, request.circuit, dataset.records, dataset.salts, 0, run.computed.outputs)
    return run.evidence.model_copy(update={"openings": [trees.open(index) for index in range(count)]})
