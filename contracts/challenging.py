"""What a challenge needs, looked at before anybody pays for it: the steps are those of ``Disputes.challenge``.

1. a statement that can be disputed: an evaluation, public inputs, a task of its job;
2. signed by its worker;
3. anchored, not too long ago;
4. its model was active then, with this very circuit;
5. whose proofs can be checked on this chain; of tier ``commit``: for which the worker's warranty covers that anchor;
6. a record of it, whose input the challenger holds;
7. that the Certifier did not certify, and that was not disputed before.

Of tier ``commit`` the challenger makes the proof, after all this: it is what costs most.
"""

from __future__ import annotations

from dataclasses import dataclass

from contracts.accountable import AccountableChain, DisputeState
from contracts.onchain import Anchored, AnchorProof
from contracts.warranties import Warranty
from rexis.protocol.anchored import AnchoredStatement
from rexis.protocol.circuit import Circuit, Visibility
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ChainError, ConflictError, MalformedError
from rexis.protocol.merkle import check_inclusion
from rexis.protocol.policy import Tier
from rexis.protocol.records import InputOpening, input_format
from rexis.protocol.statement import Kind, Statement, task_id


@dataclass(frozen=True)
class Prospect:
    """What a challenge would be about.

    Attributes
    ----------
    until
        The last block in which it can be made.
    locked
        How much of the worker's stake it would lock: what can be lost.
    tolerance
        Tier ``commit``: what the worker warrants, in units of 2^-outputScale of the circuit.
    """

    digest: Digest
    anchored: Anchored
    until: int
    locked: int
    tolerance: int | None = None


def check_challenge(
    chain: AccountableChain, found: AnchoredStatement, opening: InputOpening, circuit: Circuit | None = None
) -> Prospect:
    """Take the steps; the record is public for ever once it is challenged, so nothing is sent here.

    Parameters
    ----------
    circuit
        Tier ``commit``: the one that the model is registered with, of which the challenger makes the proof.

    Raises
    ------
    MalformedError, ConflictError, ChainError, SignatureError, MerkleError, NotFoundError
        The contract would refuse the challenge. Says why.
    """
    statement = found.statement
    judge = statement.circuit if circuit is None else circuit
    if found.domain != chain.deployment.domain:
        raise ChainError(f"the statement is for chain {found.domain.chain_id} or another log", field="domain")
    require_disputable(statement)  # 1
    digest = found.check()  # 2
    anchored = chain.check_inclusion(digest, place_of(found))  # 3
    until = anchored.block + chain.accountability.terms.challenge_period
    if chain.block_number() >= until:
        raise ConflictError(f"it could be challenged until block {until}, and that has passed")
    _require_registered(chain, statement, judge, anchored.block)  # 4
    tolerance = None
    if statement.tier == Tier.COMMIT:  # 5
        tolerance = require_warranted(chain, statement, anchored.block).tolerance
    elif not chain.is_admitted(judge.vka_digest):
        raise ConflictError(
            "nobody has shown this chain a proof of the circuit", hint="rexis disputes admit, with a certificate"
        )
    _require_held(statement, judge, opening)  # 6
    if chain.is_record_certified(digest, opening.index - statement.record_start):  # 7
        raise ConflictError(f"the Certifier has certified record {opening.index}")
    if (state := chain.dispute_of(digest, opening.index).state) != DisputeState.NONE:
        raise ConflictError(f"record {opening.index} was challenged before: {state.name.lower()}")
    stake = chain.stake_of(statement.worker)
    return Prospect(digest, anchored, until, min(stake.free, chain.accountability.terms.penalty), tolerance)


def require_disputable(statement: Statement) -> None:
    """Return if statements like this can be disputed at all.

    Raises
    ------
    ConflictError
        Another kind, tier or circuit.
    MalformedError
        No task of its job.
    """
    if statement.kind != Kind.EVALUATION or statement.circuit.visibility == Visibility.HASHED:
        raise ConflictError("trainings, and private records, cannot be disputed", hint="see docs/disputes.md")
    if statement.task_id != task_id(statement.job_id, statement.record_start, statement.record_count):
        raise MalformedError("is not the task's that the statement is about", field="statement.taskId")


def require_warranted(chain: AccountableChain, statement: Statement, anchored_at: int) -> Warranty:
    """The warranty that covers a statement of tier ``commit``, for the circuit that its model is registered with.

    Raises
    ------
    ConflictError
        The worker gave none, or it does not cover that anchor.
    NotFoundError
        The model is not registered.
    """
    circuit_hash = chain.registration(statement.model_digest, statement.key_epoch).circuit_hash
    found = chain.warranty_of(statement.worker, statement.model_digest, circuit_hash)
    if found is None:
        raise ConflictError(
            f"worker {statement.worker} gives no warranty for this model: its tier commit claims nothing that a proof "
            "could settle",
            hint="see docs/disputes.md",
        )
    if not found.covers(anchored_at):
        ends = "" if found.until is None else f" to {found.until}"
        raise ConflictError(
            f"the worker's warranty is about anchors of blocks from {found.since}{ends}, this one is of {anchored_at}"
        )
    return found


def place_of(found: AnchoredStatement) -> AnchorProof:
    """Where the statement stands, as contracts take it."""
    return AnchorProof(found.anchor.anchor_id, found.anchor.leaf_index, found.anchor.path)


def _require_registered(chain: AccountableChain, statement: Statement, circuit: Circuit, anchored_at: int) -> None:
    registered = chain.registration(statement.model_digest, statement.key_epoch)
    if registered.revoked_at is not None and registered.revoked_at <= anchored_at:
        raise ConflictError(f"the model was revoked in block {registered.revoked_at}, before the anchor")
    if not registered.has_circuit(circuit):
        raise ConflictError("its circuit is not the one that the model is registered with", field="circuit")
    if circuit.visibility != Visibility.PUBLIC:
        raise ConflictError("a circuit of hashed inputs settles no dispute", hint="see docs/disputes.md")


def _require_held(statement: Statement, circuit: Circuit, opening: InputOpening) -> None:
    if not statement.record_start <= opening.index < statement.record_start + statement.record_count:
        raise MalformedError(f"the statement is not about record {opening.index}", field="record")
    form = input_format(statement.tier, statement.circuit)
    if len(form.values(opening.input)) != circuit.input_length:
        raise MalformedError(f"the circuit takes {circuit.input_length} values a record", field="record")
    leaf = form.leaf(opening.salt, opening.input)
    check_inclusion(
        statement.input_root, statement.input_size, opening.index, leaf, opening.input_path, f"record {opening.index}"
    )
