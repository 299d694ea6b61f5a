"""Deployments as documents; public instances from openings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from contracts.onchain import FIELD, Deployment, public_instances, require_deployment, vka_digest
from rexis.protocol.certificate import Contracts
from rexis.protocol.digests import ZERO_DIGEST, Digest
from rexis.protocol.errors import ChainError, MalformedError
from rexis.protocol.parsing import ZERO_ADDRESS
from rexis.protocol.records import Opening

TINY = json.loads((Path(__file__).parents[2] / "vectors/protocol/halo2_tiny.json").read_text())


def _deployment() -> Deployment:
    return Deployment.on(31337)


def _opening(inputs: list[int], outputs: list[int]) -> Opening:
    return Opening(
        index=0,
        salt=ZERO_DIGEST,
        input=np.array(inputs, dtype=">i8").tobytes(),
        input_path=[],
        output=np.array(outputs, dtype=">i8").tobytes(),
        output_path=[],
    )


def test_deployment_survives_json() -> None:
    deployment = _deployment()
    assert Deployment.from_json(deployment.to_json()) == deployment


@pytest.mark.parametrize(
    "change",
    [
        {"chainId": "31337"},
        {"evidenceLog": str(Deployment.on(1).model_registry)},
        {"certifier": str(ZERO_ADDRESS)},
        {"evidenceLog": "0x" + "ab" * 20},  # no checksum
        {"proxy": "0x" + "0" * 40},
    ],
)
def test_deployment_refuses_what_is_not_one(change: dict[str, object]) -> None:
    with pytest.raises(MalformedError):
        Deployment.from_object({**_deployment().to_object(), **change})


def test_deployment_refuses_a_missing_address() -> None:
    document = _deployment().to_object()
    del document["certifier"]
    with pytest.raises(MalformedError):
        Deployment.from_object(document)


def test_domain_is_the_evidence_logs() -> None:
    deployment = _deployment()
    assert deployment.domain.verifying_contract == deployment.evidence_log
    assert deployment.domain.chain_id == 31337


def test_a_deployment_is_the_same_on_every_chain() -> None:
    assert Deployment.on(1).to_object() == {**Deployment.on(31337).to_object(), "chainId": 1}


@pytest.mark.parametrize("field", ["domain.verifyingContract", "contracts.modelRegistry", "contracts.certifier"])
def test_contracts_of_others_are_refused_without_a_node(field: str) -> None:
    deployment = _deployment()
    named = Contracts(model_registry=deployment.model_registry, certifier=deployment.certifier)
    assert require_deployment(deployment.domain, named) == deployment
    domain = deployment.domain
    if field == "domain.verifyingContract":
        domain = domain.model_copy(update={"verifying_contract": ZERO_ADDRESS})
    elif field == "contracts.modelRegistry":
        named = named.model_copy(update={"model_registry": ZERO_ADDRESS})
    else:
        named = named.model_copy(update={"certifier": ZERO_ADDRESS})
    with pytest.raises(ChainError) as caught:
        require_deployment(domain, named)
    assert caught.value.field == field


def test_public_instances_are_those_of_the_real_proof() -> None:
    opening = _opening([int(x) for x in TINY["inputs"]], [int(x) for x in TINY["outputs"]])
    assert public_instances(opening.input, opening.output) == [int(word, 16) for word in TINY["instances"]]


def test_public_instances_at_the_edges_of_int64() -> None:
    opening = _opening([-(2**63), 2**63 - 1], [-1])
    assert public_instances(opening.input, opening.output) == [FIELD - 2**63, 2**63 - 1, FIELD - 1]


def test_vka_digest_is_keccak_of_all_words() -> None:
    words = [Digest.parse(word) for word in TINY["vka"]]
    assert vka_digest(words) != vka_digest(words[:-1])
    assert str(vka_digest([])) == "0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"  # keccak256("")
