"""``rexis demo-dispute``: two workers are challenged about one record, and the one that lied loses a part of its stake.

A chain, the contracts and the proofs are real; coordinator and encryption are left out, since a dispute asks neither.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from eth_account.signers.local import LocalAccount

from circuits.artefacts import CircuitCache
from circuits.build import ProvingCircuit, build_circuit
from circuits.process import EzklProcess
from circuits.profile import profile_for
from circuits.proving import Prover
from circuits.srs import ensure_development_srs
from contracts.accountability import Terms
from contracts.accountable import AccountableChain
from contracts.chain import AnchorProof, RevertError
from contracts.devchain import DevChain, devchain
from models.zoo import held_out, load_model_bytes
from rexis.cli.console import say
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.merkle import MerkleTree
from rexis.protocol.parsing import ZERO_ADDRESS
from rexis.protocol.policy import Tier
from rexis.protocol.records import Floats, Integers, TaskTrees, quantise
from rexis.protocol.signing import address_of, new_account, sign_digest
from rexis.protocol.statement import Kind, Statement, task_id

MODEL = "breast_cancer"
RECORDS, ALTERED = 16, 5
ETHER = 10**18
STAKE, PENALTY, BOND = 3 * ETHER, ETHER, ETHER // 10
REWARD_BPS = 4000
BLOCKS = 300  # to challenge and to answer


@dataclass(frozen=True)
class Bench:
    """What everybody has: the model's circuit, and the records (here: the worker and the challenger)."""

    model: Digest
    circuit: ProvingCircuit
    prover: Prover
    records: Floats
    salts: np.ndarray[tuple[int, int], np.dtype[np.uint8]]

    @property
    def integers(self) -> Integers:
        """The records in fixed point, ``[n, input_length]``."""
        return quantise(self.records, self.circuit.artefacts.description.input_scale)


@dataclass(frozen=True)
class Task:
    """A worker's signed and anchored statement, and what it committed to."""

    statement: Statement
    digest: Digest
    signature: bytes
    anchor: AnchorProof
    outputs: Integers
    trees: TaskTrees


@dataclass(frozen=True)
class Outcome:
    """Who has what afterwards, in wei."""

    honest_stake: int
    honest_earned: int
    dishonest_stake: int
    challenger_earned: int


def demo_dispute(out: Path, show: Callable[[str], None] = say) -> Outcome:
    """Run both disputes on a chain of this machine; `out` keeps SRS and keys for the next time."""
    began = time.monotonic()

    def heading(text: str) -> None:
        show(f"── {time.monotonic() - began:5.1f} s ── {text}")

    with devchain(block_time_s=0.2) as dev, EzklProcess() as ezkl:
        heading(f"keys of the zoo's {MODEL}, contracts, and one proof that admits its circuit to disputes")
        bench = _bench(out, ezkl)
        owner = _node(dev, new_account())
        owner.deploy_all()
        manifest = owner.deploy_accountability(_terms(owner))
        vka = bench.circuit.artefacts.vka
        owner.register(bench.model, 1, bench.circuit.artefacts.description)
        owner.register_vka(vka)
        accounts = [new_account() for _ in range(3)]
        honest, liar, challenger = (_node(dev, account) for account in accounts)
        for node in (honest, liar, challenger):
            node.discover()
            node.attach_accountability(manifest)
        (out / "accountability.json").write_bytes(manifest.to_json())
        right = bench.prover.outputs(bench.integers)
        example = _task(owner, accounts[0], bench, right)
        first = bench.prover.prove(bench.integers[0])
        owner.admit_circuit(example.trees.open(0), first.proofs[0], vka)
        show(f"  manifest in {out / 'accountability.json'}")

        heading(f"two workers stake {STAKE // ETHER} ether each and answer for {RECORDS} records")
        wrong = right.copy()
        wrong[ALTERED] = wrong[ALTERED][::-1]
        tasks = {}
        for name, node, account, outputs in (
            ("honest", honest, accounts[0], right),
            ("liar", liar, accounts[1], wrong),
        ):
            node.stake(STAKE)
            tasks[name] = _task(owner, account, bench, outputs)
            show(f"  {name}: statement {tasks[name].digest}, anchored")
        differing = np.flatnonzero((tasks["liar"].outputs != bench.prover.outputs(bench.integers)).any(axis=1))
        show(f"  a holder of the records computes the circuit's integers again: record {differing.tolist()} differs")

        heading(f"both are challenged about record {ALTERED}, with a bond of {BOND / ETHER} ether each")
        for task in tasks.values():
            sent = challenger.challenge(task.statement, task.signature, task.anchor, task.trees.open(ALTERED))
            show(f"  challenge: {sent.gas_used:,} gas")

        heading("both answer with a proof of what the circuit computes")
        proof = bench.prover.prove(bench.integers[ALTERED]).proofs[0]
        sent = honest.answer(tasks["honest"].statement, tasks["honest"].trees.open(ALTERED), proof, vka)
        show(f"  honest: accepted, {sent.gas_used:,} gas")
        try:
            liar.answer(tasks["liar"].statement, tasks["liar"].trees.open(ALTERED), proof, vka)
        except RevertError as error:
            show(f"  liar: {error.message}")

        heading(f"{BLOCKS} blocks later the other dispute is closed")
        dev.mine(BLOCKS + 1)
        challenger.close(tasks["liar"].digest, ALTERED)
        found = Outcome(
            honest_stake=owner.stake_of(honest.address).amount,
            honest_earned=owner.owed("Disputes", ZERO_ADDRESS, honest.address),
            dishonest_stake=owner.stake_of(liar.address).amount,
            challenger_earned=owner.owed("Disputes", ZERO_ADDRESS, challenger.address) - 2 * BOND,
        )
        show(f"  honest: stake {found.honest_stake / ETHER} ether, earned the bond, {found.honest_earned / ETHER}")
        show(f"  liar: stake {found.dishonest_stake / ETHER} ether, {owner.reputation_of(liar.address)}")
        show(f"  challenger: {found.challenger_earned / ETHER:+} ether, two bonds paid, one come back with a reward")
    return found


def _terms(governance: AccountableChain) -> Terms:
    return Terms(
        governance=governance.address,
        token=ZERO_ADDRESS,
        bond=BOND,
        penalty=PENALTY,
        reward_bps=REWARD_BPS,
        treasury=governance.address,
        challenge_period=BLOCKS,
        response_window=BLOCKS,
        validator_delay=BLOCKS,
        validator_min_stake=ETHER,
        threshold_bps=6666,
    )


def _node(dev: DevChain, account: LocalAccount) -> AccountableChain:
    dev.fund(address_of(account))
    return AccountableChain.connect(dev.url, account=account)


def _bench(folder: Path, ezkl: EzklProcess) -> Bench:
    profile, model = profile_for(MODEL), load_model_bytes(MODEL)
    srs = ensure_development_srs(profile.logrows, folder / "srs")
    circuit = build_circuit(model, profile, srs, CircuitCache(folder / "keys"), ezkl)
    salts = np.frombuffer(secrets.token_bytes(32 * RECORDS), dtype=np.uint8).reshape(RECORDS, 32)
    return Bench(sha256(model), circuit, Prover(circuit, ezkl), held_out(MODEL)[0][:RECORDS], salts)


def _task(coordinator: AccountableChain, worker: LocalAccount, bench: Bench, outputs: Integers) -> Task:
    circuit = bench.circuit.artefacts.description
    trees = TaskTrees(Tier.SAMPLED, circuit, bench.records, bench.salts, 0, outputs)
    job = Digest(secrets.token_bytes(32))
    statement = Statement(
        version=1,
        job_id=job,
        task_id=task_id(job, 0, RECORDS),
        kind=Kind.EVALUATION,
        model_digest=bench.model,
        key_epoch=1,
        circuit=circuit,
        input_root=trees.input_root,
        input_size=RECORDS,
        output_root=trees.output_root,
        record_start=0,
        record_count=RECORDS,
        tier=Tier.SAMPLED,
        policy_digest=sha256(b"the demo's policy"),
        worker=address_of(worker),
        nonce=Digest(secrets.token_bytes(32)),
    )
    digest = coordinator.deployment.domain.digest(statement)
    tree = MerkleTree([digest])
    anchored, _ = coordinator.anchor(tree.root, len(tree))
    anchor = AnchorProof(anchored.anchor_id, 0, tree.path(0))
    return Task(statement, digest, sign_digest(worker, digest), anchor, outputs, trees)
