"""On-chain certification with a real ezkl proof, from a statement and openings that Python made."""

from __future__ import annotations

from dataclasses import replace

import pytest

from circuits.cost import Total
from circuits.field import instances_from
from circuits.planning import CERTIFY_FIRST, certify_gas
from contracts.chain import Chain, RevertError
from contracts.evm import LocalVerifier
from contracts.onchain import vka_digest
from rexis.protocol.policy import Tier
from rexis.protocol.signing import new_account, sign_digest
from tests.integration.contracts.tasks import PROOF, TINY, VKA, Task, make_task


@pytest.fixture
def task(chain: Chain) -> Task:
    """An honest worker's: both its records hold the values of the real proof."""
    return make_task(chain, Tier.ZK)


def _certify(chain: Chain, task: Task, index: int = 0, proof: bytes = PROOF) -> int:
    sent = chain.certify_record(task.statement, task.signature, task.anchor, task.openings[index], proof, VKA)
    return sent.gas_used


def test_certify_every_record_with_the_real_proof(chain: Chain, task: Task) -> None:
    digest = chain.deployment.domain.digest(task.statement)
    chain.register_vka(VKA)
    assert chain.is_vka_registered(vka_digest(VKA))
    assert chain.register_vka(VKA) is None  # idempotent

    assert _certify(chain, task, 0) < 1_500_000
    assert (chain.certified_count(digest), chain.is_certified(digest)) == (1, False)
    assert chain.is_record_certified(digest, 0)
    assert not chain.is_record_certified(digest, 1)
    with pytest.raises(RevertError) as caught:
        _certify(chain, task, 0)
    assert caught.value.name == "AlreadyCertified"

    _certify(chain, task, 1)
    assert (chain.certified_count(digest), chain.is_certified(digest)) == (2, True)


def test_a_plan_names_the_gas_of_a_certification(chain: Chain, task: Task) -> None:
    pytest.importorskip("pyrevm")
    instances = instances_from([int(x) for x in TINY["inputs"]], [int(x) for x in TINY["outputs"]])
    verify = LocalVerifier(VKA).verify(PROOF, instances)
    assert verify.accepted
    chain.register_vka(VKA)
    record = Total(needed_bytes=0, cpu_seconds=0.0, proof_bytes=0, gas=verify.gas, instances=len(instances))
    nodes = sum(map(len, (task.anchor.path, task.openings[1].input_path, task.openings[1].output_path)))
    first, following = _certify(chain, task, 0), _certify(chain, task, 1)
    assert following == pytest.approx(certify_gas(record, nodes), rel=0.01)
    assert 0 < first - following < 2 * CERTIFY_FIRST


def test_forged_evidence_is_refused_by_name(chain: Chain, task: Task) -> None:
    chain.register_vka(VKA)
    opening = task.openings[0]
    flipped = bytes([PROOF[0] ^ 1]) + PROOF[1:]
    false_output = opening.model_copy(update={"output": bytes(len(opening.output))})
    false_input = opening.model_copy(update={"input": opening.input[:-1] + b"\x00"})
    other = sign_digest(new_account(), chain.deployment.domain.digest(task.statement))
    forged = {
        "OutputNotInTree": replace(task, openings=[false_output]),
        "InputNotInTree": replace(task, openings=[false_input]),
        "WrongSigner": replace(task, signature=other),
        "NotAnchored": replace(task, anchor=replace(task.anchor, leaf_index=0)),
        "UnknownAnchor": replace(task, anchor=replace(task.anchor, anchor_id=10**6)),
    }
    for name, case in forged.items():
        with pytest.raises(RevertError) as caught:
            _certify(chain, case)
        assert caught.value.name == name
    with pytest.raises(RevertError) as caught:
        _certify(chain, task, proof=flipped)
    assert caught.value.name == "ProofRejected"

    chain.revoke(task.statement.model_digest, 1)
    with pytest.raises(RevertError) as caught:
        _certify(chain, task)
    assert caught.value.name == "ModelNotActive"
