"""What the worker asks the chain, on a real node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from contracts.chain import Chain, Deployment
from contracts.devchain import DevChain, devchain
from provers.onchain import OnChain
from rexis.api import Info, Lease
from rexis.protocol.certificate import Commitment, Contracts
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import ChainError, NotFoundError
from rexis.protocol.parsing import ZERO_ADDRESS
from rexis.protocol.policy import Tier
from rexis.protocol.signing import address_of, new_account
from rexis.protocol.statement import JobRequest
from tests.unit.provers.fakes import CIRCUIT, make_dataset, make_lease

TASK, STATEMENT = sha256(b"task"), sha256(b"statement")


@pytest.fixture(scope="module")
def node() -> Iterator[DevChain]:
    with devchain(block_time_s=0.2) as chain:
        yield chain


@pytest.fixture(scope="module")
def owner(node: DevChain) -> Chain:
    """An account that owns models and commits, on a fresh deployment."""
    account = new_account()
    node.fund(address_of(account))
    chain = Chain.connect(node.url, account=account)
    chain.deploy_all()
    return chain


def info_of(deployment: Deployment, **changes: Any) -> Info:
    contracts = {"model_registry": deployment.model_registry, "certifier": deployment.certifier, **changes}
    return Info(
        version="0",
        domain=deployment.domain,
        contracts=Contracts(**contracts),
        coordinator=ZERO_ADDRESS,
        rpc_url=None,
        tiers=[Tier.COMMIT],
        max_blob_bytes=1,
    )


@pytest.fixture(scope="module")
def checks(node: DevChain, owner: Chain) -> OnChain:
    return OnChain.connect(node.url, info_of(owner.deployment))


@pytest.fixture
def lease() -> Lease:
    return make_lease(Tier.ZK, make_dataset(4), new_account())


def request_for(model: bytes, lease: Lease, **changes: Any) -> JobRequest:
    return lease.request.model_copy(update={"model_digest": sha256(model), **changes})


@pytest.mark.parametrize("contract", ["model_registry", "certifier"])
def test_a_coordinator_that_names_another_contract_is_left(node: DevChain, owner: Chain, contract: str) -> None:
    info = info_of(owner.deployment, **{contract: ZERO_ADDRESS})
    with pytest.raises(ChainError, match="this version's contract stands at"):
        OnChain.connect(node.url, info)


def test_a_model_must_be_registered(checks: OnChain, lease: Lease) -> None:
    with pytest.raises(NotFoundError):
        checks.require_model(request_for(b"unknown", lease))


def test_a_registered_model_passes_until_it_is_revoked(owner: Chain, checks: OnChain, lease: Lease) -> None:
    request = request_for(b"model", lease)
    owner.register(request.model_digest, request.key_epoch, CIRCUIT)
    checks.require_model(request)
    owner.revoke(request.model_digest, request.key_epoch)
    with pytest.raises(ChainError, match="revoked"):
        checks.require_model(request)


def test_the_circuit_must_be_the_registered_one_unless_none_is_used(
    owner: Chain, checks: OnChain, lease: Lease
) -> None:
    request = request_for(b"other circuit", lease)
    owner.register(request.model_digest, request.key_epoch, CIRCUIT.model_copy(update={"vk_digest": sha256(b"other")}))
    with pytest.raises(ChainError, match="not the one registered"):
        checks.require_model(request)
    commit = make_lease(Tier.COMMIT, make_dataset(4), new_account())
    assert commit.request.circuit == NO_CIRCUIT
    checks.require_model(request_for(b"other circuit", commit))


def test_a_challenge_must_follow_from_the_commitment(owner: Chain, checks: OnChain, lease: Lease) -> None:
    made, transaction = owner.commit(TASK, STATEMENT)
    request = lease.request.model_copy(update={"coordinator": owner.address})
    true = Commitment(
        attempt=made.attempt,
        block_number=made.block,
        challenge_block_hash=owner.block_hash(made.block + 1, wait_s=5),
        transaction=transaction.hash,
    )
    checks.require_challenge(request, TASK, STATEMENT, true)
    with pytest.raises(ChainError, match="has hash"):
        checks.require_challenge(request, TASK, STATEMENT, false(true, challenge_block_hash=sha256(b"ground")))
    with pytest.raises(ChainError, match="not the commitment"):
        checks.require_challenge(request, TASK, sha256(b"another statement"), true)
    with pytest.raises(ChainError, match="not the commitment"):
        checks.require_challenge(request, TASK, STATEMENT, false(true, block_number=made.block - 1))
    with pytest.raises(NotFoundError):
        checks.require_challenge(request, TASK, STATEMENT, false(true, attempt=2))


def false(commitment: Commitment, **changes: int | Digest) -> Commitment:
    return commitment.model_copy(update=changes)
