"""What each tier's evidence holds, checked with the protocol's own functions."""

from __future__ import annotations

import numpy as np
import pytest

from provers.task import Task
from provers.tiers import TIERS
from provers.tiers.computed import Computed, fixed_point_errors
from rexis.protocol.challenge import challenge_indices
from rexis.protocol.digests import sha256
from rexis.protocol.errors import TensorError
from rexis.protocol.evidence import Evidence
from rexis.protocol.policy import Tier
from rexis.protocol.records import check_opening
from rexis.protocol.signing import address_of, require_signer
from rexis.protocol.tensors import pack_outputs, unpack_outputs
from tests.unit.provers.conftest import MakeTask
from tests.unit.provers.fakes import WEIGHTS, FakeCircuit, make_commitment, proof_text


def done(task: Task) -> tuple[Computed, Evidence]:
    """Take the three steps, and check what holds at every tier."""
    prover = TIERS[task.request.policy.tier](task)
    prover.prepare()
    computed = prover.compute()
    evidence = prover.evidence(computed)
    statement = evidence.statement
    require_signer(task.lease.domain.digest(statement), evidence.signature, address_of(task.account), "statement")
    assert statement == task.statement(statement.output_root)
    assert evidence.outputs_digest == sha256(pack_outputs(computed.outputs))
    assert [opening.index for opening in evidence.openings] == [proof.index for proof in evidence.proofs]
    assert Evidence.from_json(evidence.to_json()) == evidence
    return computed, evidence


def proved_as_opened(task: Task, evidence: Evidence) -> list[bool]:
    """For each proof, whether it is about the record as it is opened."""
    statement = evidence.statement
    found = []
    for opening, proof in zip(evidence.openings, evidence.proofs, strict=True):
        inputs, outputs = check_opening(
            opening,
            tier=statement.tier,
            circuit=statement.circuit,
            input_root=statement.input_root,
            input_size=statement.input_size,
            output_root=statement.output_root,
            start=statement.record_start,
            count=statement.record_count,
        )
        found.append(proof.proofs == [proof_text(inputs, outputs)])
    return found


def test_commit_claims_the_models_float_outputs(make_task: MakeTask) -> None:
    task = make_task(Tier.COMMIT)
    computed, evidence = done(task)
    np.testing.assert_allclose(computed.outputs, task.records @ WEIGHTS, rtol=1e-6)
    assert evidence.proofs == []
    assert evidence.measured.max_abs_error_e9 == 0
    unpack_outputs(pack_outputs(computed.outputs), count=8, fixed=False)


def test_zk_proves_every_record(make_task: MakeTask) -> None:
    task = make_task(Tier.ZK)
    computed, evidence = done(task)
    assert proved_as_opened(task, evidence) == [True] * 8
    assert computed.outputs.dtype == np.int64
    unpack_outputs(pack_outputs(computed.outputs), count=8, fixed=True)


def test_sampled_proves_the_challenge(make_task: MakeTask) -> None:
    task = make_task(Tier.SAMPLED, count=40, sample_size=3)
    _, evidence = done(task)
    digest = task.lease.domain.digest(evidence.statement)
    expected = challenge_indices(digest, make_commitment().challenge_block_hash, 0, 40, 3)
    assert [proof.index for proof in evidence.proofs] == expected
    assert proved_as_opened(task, evidence) == [True] * 3


def test_the_distance_to_the_float_model_is_measured(make_task: MakeTask) -> None:
    task = make_task(Tier.ZK)
    computed, evidence = done(task)
    difference = computed.outputs * 2.0**-14 - task.records @ WEIGHTS
    assert evidence.measured.max_abs_error_e9 == pytest.approx(np.abs(difference).max() * 1e9, rel=1e-3)
    assert 0 < evidence.measured.rms_error_e9 < evidence.measured.max_abs_error_e9 < 10**8
    assert evidence.measured.provider.endswith("ExecutionProvider")


def test_errors_of_a_known_case() -> None:
    largest, rms = fixed_point_errors(np.array([[4, 8]]), 2, np.array([[1.0, 1.0]], dtype=np.float32))
    assert (largest, rms) == (1.0, pytest.approx(0.5**0.5))


def test_finished_proofs_are_not_made_again(make_task: MakeTask, circuit: FakeCircuit) -> None:
    """A restarted worker: another lease, another wallet, the same records."""
    _, first = done(make_task(Tier.ZK))
    _, second = done(make_task(Tier.ZK))
    assert len(circuit.proved) == 8
    assert second.proofs == first.proofs
    assert second.statement != first.statement


def test_a_circuit_of_another_model_is_noticed(make_task: MakeTask, circuit: FakeCircuit) -> None:
    task = make_task(Tier.ZK)
    circuit.outputs = lambda records: np.zeros((len(records), 5), dtype=np.int64)  # type: ignore[method-assign]
    prover = TIERS[Tier.ZK](task)
    prover.prepare()
    with pytest.raises(TensorError, match="2 values a record"):
        prover.compute()
