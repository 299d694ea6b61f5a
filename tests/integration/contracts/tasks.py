"""Honest and dishonest tasks around the real proof in halo2_tiny.json, signed and anchored."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from eth_account.signers.local import LocalAccount

from contracts.chain import AnchorProof, Chain
from contracts.onchain import vka_digest
from rexis.protocol.circuit import Circuit, Visibility
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.merkle import MerkleTree
from rexis.protocol.policy import Tier
from rexis.protocol.records import Opening, TaskTrees, dequantise
from rexis.protocol.signing import address_of, new_account, sign_digest
from rexis.protocol.statement import Kind, Statement, task_id

TINY = json.loads((Path(__file__).parents[2] / "vectors/protocol/halo2_tiny.json").read_text())
PROOF = bytes.fromhex(TINY["proof"][2:])
VKA = [Digest.parse(word) for word in TINY["vka"]]
SIZE, START, COUNT = 3, 1, 2
CIRCUIT = Circuit(
    vk_digest=sha256(b"vk"),
    vka_digest=vka_digest(VKA),
    srs_digest=sha256(b"srs"),
    settings_digest=sha256(b"settings"),
    visibility=Visibility.PUBLIC,
    input_scale=TINY["inputScale"],
    output_scale=TINY["outputScale"],
    input_length=len(TINY["inputs"]),
    output_length=len(TINY["outputs"]),
)


@dataclass(frozen=True)
class Task:
    """A worker's task, anchored. `openings` has one for each record, with the committed outputs."""

    statement: Statement
    digest: Digest
    signature: bytes
    anchor: AnchorProof
    openings: list[Opening]


def make_task(chain: Chain, tier: Tier, *, worker: LocalAccount | None = None, altered: int = 0) -> Task:
    """A task of two records with the values of the real proof; `altered` is added to an output of the second."""
    worker = worker or new_account()
    model = Digest(np.random.default_rng().bytes(32))
    chain.register(model, 1, CIRCUIT)
    inputs = np.array([[int(x) for x in TINY["inputs"]]] * SIZE, dtype=np.int64)
    outputs = np.array([[int(x) for x in TINY["outputs"]]] * COUNT, dtype=np.int64)
    outputs[1, 0] += altered
    salts = np.random.default_rng(1).integers(0, 256, (SIZE, 32), dtype=np.uint8)
    trees = TaskTrees(tier, CIRCUIT, dequantise(inputs, CIRCUIT.input_scale), salts, START, outputs)
    job = sha256(b"job", model)
    statement = Statement(
        version=1,
        job_id=job,
        task_id=task_id(job, START, COUNT),
        kind=Kind.EVALUATION,
        model_digest=model,
        key_epoch=1,
        circuit=CIRCUIT,
        input_root=trees.input_root,
        input_size=SIZE,
        output_root=trees.output_root,
        record_start=START,
        record_count=COUNT,
        tier=tier,
        policy_digest=sha256(b"policy"),
        worker=address_of(worker),
        nonce=sha256(b"lease"),
    )
    digest = chain.deployment.domain.digest(statement)
    tree = MerkleTree([sha256(b"another"), digest])
    anchored, _ = chain.anchor(tree.root, len(tree))
    return Task(
        statement=statement,
        digest=digest,
        signature=sign_digest(worker, digest),
        anchor=AnchorProof(anchored.anchor_id, 1, tree.path(1)),
        openings=[trees.open(START + i) for i in range(COUNT)],
    )
