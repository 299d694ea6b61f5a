"""The faults do what they say, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from provers.dishonest import AlterOutputs, parse_fault
from provers.task import Task
from provers.tiers import TIERS
from provers.tiers.computed import Computed
from rexis.protocol.errors import MalformedError, SignatureError
from rexis.protocol.evidence import Evidence
from rexis.protocol.policy import Tier
from rexis.protocol.signing import address_of, require_signer
from tests.unit.provers.conftest import MakeTask
from tests.unit.provers.test_tiers import proved_as_opened


def cheat(fault: str, task: Task) -> tuple[Computed, Evidence]:
    prover = parse_fault(fault)(task, TIERS[task.request.policy.tier](task))
    prover.prepare()
    computed = prover.compute()
    return computed, prover.evidence(computed)


def signed_by_worker(task: Task, evidence: Evidence) -> bool:
    digest = task.lease.domain.digest(evidence.statement)
    try:
        require_signer(digest, evidence.signature, address_of(task.account), "statement")
    except SignatureError:
        return False
    return True


@pytest.mark.parametrize(("fault", "altered"), [("alter-outputs:0.25", 2), ("alter-outputs:3", 3)])
def test_altered_outputs_are_committed_but_cannot_be_proved(make_task: MakeTask, fault: str, altered: int) -> None:
    task = make_task(Tier.ZK)
    _, evidence = cheat(fault, task)
    fits = proved_as_opened(task, evidence)  # the openings lead to the committed root
    assert fits.count(False) == altered
    assert signed_by_worker(task, evidence)


def test_alterations_change_only_the_chosen_rows(make_task: MakeTask) -> None:
    task = make_task(Tier.COMMIT)
    computed, _ = cheat("alter-outputs:2", task)
    changed = ~np.isclose(computed.outputs, task.executor.run(task.records)).all(axis=1)
    assert np.flatnonzero(changed).tolist() == AlterOutputs(task, TIERS[Tier.COMMIT](task), 2.0).rows()


def test_more_alterations_than_records_alter_all(make_task: MakeTask) -> None:
    task = make_task(Tier.COMMIT)
    assert AlterOutputs(task, TIERS[Tier.COMMIT](task), 100.0).rows() == list(range(8))


def test_foreign_signature(make_task: MakeTask) -> None:
    task = make_task(Tier.ZK)
    _, evidence = cheat("foreign-signature", task)
    assert not signed_by_worker(task, evidence)
    assert all(proved_as_opened(task, evidence))


def test_wrong_statement(make_task: MakeTask) -> None:
    task = make_task(Tier.ZK)
    _, evidence = cheat("wrong-statement", task)
    assert signed_by_worker(task, evidence)
    assert evidence.statement != task.statement(evidence.statement.output_root)
    assert evidence.statement.task_id != task.statement(evidence.statement.output_root).task_id


@pytest.mark.parametrize("fault", ["swap-proofs", "garbage-proofs"])
def test_proofs_of_nothing_that_is_opened(make_task: MakeTask, fault: str) -> None:
    task = make_task(Tier.ZK)
    _, evidence = cheat(fault, task)
    assert signed_by_worker(task, evidence)
    assert not any(proved_as_opened(task, evidence))


@pytest.mark.parametrize(
    "text",
    ["", "alter-outputs", "alter-outputs:0", "alter-outputs:1.5", "alter-outputs:nan", "swap-proofs:1", "honest"],
)
def test_unknown_faults_are_refused(text: str) -> None:
    with pytest.raises(MalformedError, match="no fault"):
        parse_fault(text)
