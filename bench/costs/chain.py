"""Gas of every kind of transaction, on a development chain: anvil with the contracts that rexis deploys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.costs.checks import Checks, WrongResult, require
from bench.costs.proof_parts import single_proofs
from bench.costs.result import AnchorCost, Certified, ChainCost
from bench.costs.task import TaskRun
from circuits.build import ProvingCircuit
from contracts.chain import AnchorProof, Chain
from contracts.devchain import devchain
from contracts.node import RevertError
from rexis.protocol.circuit import Circuit
from rexis.protocol.digests import Digest
from rexis.protocol.errors import MerkleError
from rexis.protocol.merkle import MerkleTree
from rexis.protocol.signing import address_of, new_account

_BLOCK_S = 0.2


@dataclass(frozen=True)
class Proved:
    """A model's circuit, and evidence of tier ``zk`` made with it."""

    model: str
    circuit: ProvingCircuit
    run: TaskRun

    @property
    def described(self) -> Circuit:
        """What is registered."""
        return self.circuit.artefacts.description


def measure(batches: Sequence[int], proved: Sequence[Proved], checks: Checks) -> ChainCost:
    """Send one transaction of each kind, and let the contracts check what can be checked.

    Raises
    ------
    UnavailableError
        There is no anvil here.
    """
    with devchain(block_time_s=_BLOCK_S) as node:
        account = new_account()
        node.fund(address_of(account))
        chain = Chain.connect(node.url, account=account)
        chain.deploy_all()
        chain.anchor(_random(), 1)  # the first one also writes to an empty slot, which no later one does
        anchors = [_anchor(chain, batch, checks) for batch in batches]
        _, commit = chain.commit(_random(), _random())
        models = [
            _certified(chain, each, proofs, checks)
            for each in proved
            if (proofs := single_proofs(each.run.evidence)) is not None
        ]
        register = chain.register(_random(), 1, proved[0].described).gas_used if proved else None
        return ChainCost(commit.gas_used, register, anchors, models)


def _anchor(chain: Chain, batch: int, checks: Checks) -> AnchorCost:
    tree = MerkleTree([digest := _random(), *(_random() for _ in range(batch - 1))])
    anchored, sent = chain.anchor(tree.root, batch)
    proof = AnchorProof(anchored.anchor_id, 0, tree.path(0))
    with checks.that("an anchored statement is found on chain, another one is not", f"anchor of {batch}"):
        chain.check_inclusion(digest, proof)
        try:
            chain.check_inclusion(_random(), proof)
        except MerkleError:
            pass
        else:
            raise WrongResult("a statement that is not there was found")
    return AnchorCost(batch, sent.gas_used)


def _certified(chain: Chain, proved: Proved, proofs: Sequence[bytes], checks: Checks) -> Certified:
    evidence, vka = proved.run.evidence, proved.circuit.artefacts.vka
    statement = evidence.statement
    chain.register(statement.model_digest, statement.key_epoch, proved.described)
    registered = chain.register_vka(vka)
    digest = chain.deployment.domain.digest(statement)
    tree = MerkleTree([digest])
    anchored, _ = chain.anchor(tree.root, 1)
    anchor = AnchorProof(anchored.anchor_id, 0, tree.path(0))

    def certify(position: int, proof: bytes) -> int:
        opening = evidence.openings[position]
        return chain.certify_record(statement, evidence.signature, anchor, opening, proof, vka).gas_used

    gas: list[int] = []
    with checks.that("a forged proof is refused by the Certifier", proved.model) as seen:
        seen(_reverts(lambda: certify(0, bytes([proofs[0][0] ^ 1]) + proofs[0][1:])))
    with checks.that("the Certifier certifies every record of a zk task", proved.model):
        gas += [certify(position, proof) for position, proof in enumerate(proofs)]
        require(chain.is_certified(digest), "it did not")
    first, following = [*gas, None, None][:2]
    return Certified(proved.model, registered.gas_used if registered else None, first, following)


def _reverts(act: Callable[[], object]) -> str:
    try:
        act()
    except RevertError as error:
        require(error.name == "ProofRejected", f"refused as {error.name}")
        return error.message
    raise WrongResult("it was accepted")


def _random() -> Digest:
    return Digest(np.random.default_rng().bytes(32))
