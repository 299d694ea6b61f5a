"""A deployment seen from a fork of its chain, as operators rehearse against a live one: nothing has to be deployed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contracts.chain import Chain, Deployment
from contracts.devchain import DevChain
from contracts.node import RevertError
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import sha256
from rexis.protocol.merkle import MerkleTree
from rexis.protocol.signing import address_of, new_account

BEFORE, AFTER = MerkleTree([sha256(b"before the fork")]), MerkleTree([sha256(b"after the fork")])
MODEL = sha256(b"a model that a fork goes on with")


@pytest.fixture
def fork(chain: Chain, dev: DevChain) -> Iterator[DevChain]:
    """A chain that goes on by itself from the newest block, after a model was registered and a root anchored."""
    chain.register(MODEL, 1, NO_CIRCUIT)
    chain.anchor(BEFORE.root, 1)
    made = DevChain.launch(["--mnemonic-random", "--fork-url", dev.url])
    yield made
    made.stop()


def test_contracts_and_their_state_are_found_on_a_fork_and_go_on_there(
    chain: Chain, fork: DevChain, deployment: Deployment
) -> None:
    account = new_account()
    fork.fund(address_of(account))
    rehearsal = Chain.connect(fork.url, account=account)
    assert rehearsal.discover() == deployment
    assert rehearsal.owner_of(MODEL) == chain.address
    assert rehearsal.missing() == []

    with pytest.raises(RevertError, match="NotModelOwner"):
        rehearsal.revoke(MODEL, 1)
    rehearsal.register(sha256(b"of the fork"), 1, NO_CIRCUIT)
    made, _ = rehearsal.anchor(AFTER.root, 1)
    assert (made.root, made.submitter) == (AFTER.root, rehearsal.address)
    assert rehearsal.anchor_of(made.anchor_id - 1).root == BEFORE.root, (
        "the fork's first anchor follows the chain's last"
    )

    again, _ = chain.anchor(BEFORE.root, 1)
    assert again.anchor_id == made.anchor_id, "the chain itself saw nothing of the fork"
