"""The training transcript: signed checkpoints, each with the root of the whole state, in one Merkle tree.

A state is every trainable tensor and what the optimiser remembers of it, by name: ``weight/<initialiser>``,
``exp_avg/<initialiser>``, … Frozen tensors are the base model's. See ``docs/protocol.md`` §6.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import FailFast, Field

from rexis.protocol.challenge import challenge_indices
from rexis.protocol.digests import ZERO_DIGEST, Digest, sha256, tensor_digest
from rexis.protocol.errors import EvidenceError, TensorError
from rexis.protocol.merkle import MerkleTree, merkle_root
from rexis.protocol.parsing import Address, AddressField, DigestField, HexBytes, Strict, UInt32, UInt64
from rexis.protocol.signing import require_signer
from rexis.protocol.statement import Statement
from rexis.protocol.tensors import load_tensors, save_tensors
from rexis.protocol.training import MAX_SEGMENTS, MAX_STEPS, TrainingPlan
from rexis.protocol.typed_data import Domain, Struct

WEIGHT = "weight"
MAX_EVIDENCE_BYTES = 96 << 20
MAX_STATE_HEADER = (1 << 20) + 8
"""Bytes of a state's blob beside its tensors, at most."""

_STATE_DOMAIN = b"rexis.state.v1\0"
_TENSOR_DOMAIN = b"rexis.state-tensor.v1\0"
_CHECKPOINT_DOMAIN = b"rexis.checkpoint.v1\0"

State = Mapping[str, NDArray[np.float32]]
"""Tensors by their names in the state."""


class Checkpoint(Struct):
    """What a worker says of the state that it reached, and signs.

    Attributes
    ----------
    index
        0 is the state before the first step.
    step, cursor
        Updates taken, and records used for them.
    state_root
        See :func:`state_root`.
    losses_digest
        SHA-256 of the losses of the steps since the last checkpoint, float32 little-endian, each before its update.
    model_digest
        SHA-256 of the state exported as an ONNX model. Of the last checkpoint only; else zero.
    previous
        ``hashStruct`` of the checkpoint before this one; zero for the first.
    worker
        Who took the steps to it.
    """

    task_id: DigestField
    index: UInt32
    step: UInt64
    cursor: UInt64
    state_root: DigestField
    losses_digest: DigestField
    model_digest: DigestField
    previous: DigestField
    worker: AddressField

    @property
    def digest(self) -> Digest:
        """``hashStruct``, by which the next one refers to it."""
        return Digest(self.hash_struct())


class SignedCheckpoint(Strict):
    """A checkpoint as it travels.

    Attributes
    ----------
    losses
        float32 little-endian, one for each step since the last checkpoint.
    state_digest
        SHA-256 of the blob that holds the state (:func:`pack_state`). A place to fetch it from, nothing more: what it
        must hold, the root says.
    signature
        The worker's, over the checkpoint's EIP-712 digest.
    """

    checkpoint: Checkpoint
    losses: Annotated[HexBytes, Field(max_length=4 * MAX_STEPS)]
    state_digest: DigestField
    signature: HexBytes


class Platform(Strict):
    """Where the steps were taken; on the same one a segment gives the same bits again.

    Attributes
    ----------
    device
        ``cpu``, or the GPU's name.
    threads
        Of one operator on the CPU.
    """

    torch: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9.+_-]+$")]
    device: Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9 .+_()/-]+$")]
    machine: Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9 .+_()@/-]+$")]
    threads: UInt32


class TrainingEvidence(Strict):
    """What a worker hands in for a training task: the statement about the transcript, and the transcript.

    The statement's output root is the transcript's. Which segments are re-executed, the challenge says; the states at
    their ends are the blobs that the transcript names.
    """

    LONG = ("transcript",)

    statement: Statement
    signature: HexBytes
    transcript: Annotated[list[SignedCheckpoint], Field(min_length=2, max_length=MAX_SEGMENTS + 1), FailFast()]
    platform: Platform
    compute_ms: UInt64


def state_names(plan: TrainingPlan) -> list[str]:
    """The names of a state's tensors, sorted."""
    return sorted(f"{slot}/{name}" for slot in (WEIGHT, *plan.optimiser.slots) for name in plan.trainable)


def initial_state(plan: TrainingPlan, weights: State) -> dict[str, NDArray[np.float32]]:
    """The state before the first step: the base model's weights by initialiser name, and zeros."""
    found = {f"{WEIGHT}/{name}": weights[name] for name in plan.trainable}
    zeros = {f"{slot}/{name}": np.zeros_like(weights[name]) for slot in plan.optimiser.slots for name in plan.trainable}
    return found | zeros


def weights_of(state: State) -> dict[str, NDArray[np.float32]]:
    """A state's weights by initialiser name."""
    prefix = f"{WEIGHT}/"
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def state_root(step: int, cursor: int, tensors: Mapping[str, Digest]) -> Digest:
    """The root of the tree over a state: where it stands, then each tensor's digest in the order of the names.

    Parameters
    ----------
    tensors
        :func:`~rexis.protocol.digests.tensor_digest` of each, by name.
    """
    head = _STATE_DOMAIN + step.to_bytes(8, "big") + cursor.to_bytes(8, "big")
    leaves = (_TENSOR_DOMAIN + digest + name.encode() for name, digest in sorted(tensors.items()))
    return merkle_root((head, *leaves))


def state_root_of(step: int, cursor: int, state: State) -> Digest:
    """:func:`state_root` of tensors."""
    return state_root(step, cursor, {name: tensor_digest(value) for name, value in state.items()})


def pack_state(state: State) -> bytes:
    """A state as a blob."""
    return save_tensors(**state)


def unpack_state(blob: bytes, plan: TrainingPlan) -> dict[str, NDArray[np.float32]]:
    """A state back from a blob; which one it is, only its root tells.

    Raises
    ------
    TensorError
        Not a state of this plan.
    """
    found = load_tensors(blob, [set(state_names(plan))], "state")
    for name, value in found.items():
        if value.dtype != np.float32 or not bool(np.isfinite(value).all()):
            raise TensorError("is not float32, or holds NaN or infinity", field=name)
    return found


def losses_of(signed: SignedCheckpoint) -> NDArray[np.float32]:
    """The losses that belong to a checkpoint.

    Raises
    ------
    EvidenceError
        Their digest is another one, or they are not finite.
    """
    if len(signed.losses) % 4 or sha256(signed.losses) != signed.checkpoint.losses_digest:
        raise EvidenceError("the losses are not those that were signed", field="losses")
    found = np.frombuffer(signed.losses, dtype="<f4").astype(np.float32)
    if not bool(np.isfinite(found).all()):
        raise EvidenceError("a loss is NaN or infinite", field="losses")
    return found


def transcript_tree(checkpoints: Sequence[Checkpoint]) -> MerkleTree:
    """The tree over a transcript."""
    return MerkleTree([_CHECKPOINT_DOMAIN + checkpoint.digest for checkpoint in checkpoints])


def check_next(
    signed: SignedCheckpoint, previous: Checkpoint | None, plan: TrainingPlan, task: Digest, domain: Domain
) -> None:
    """A checkpoint is signed, and follows the one before it as the plan says.

    Raises
    ------
    EvidenceError
        Another task, index, step or cursor, no link to the one before, or as many losses as there are not steps.
    SignatureError
        Not signed by the worker that it names.
    """
    here = signed.checkpoint
    index = 0 if previous is None else previous.index + 1
    step = plan.step_of(index)
    taken = step - plan.step_of(index - 1) if index else 0
    expected = {
        "taskId": (here.task_id, task),
        "index": (here.index, index),
        "step": (here.step, step),
        "cursor": (here.cursor, step * plan.batch_size),
        "previous": (here.previous, ZERO_DIGEST if previous is None else previous.digest),
    }
    for field, (found, wanted) in expected.items():
        if found != wanted:
            raise EvidenceError(f"checkpoint {index}: is {found}, expected {wanted}", field=f"checkpoint.{field}")
    if index > plan.segments:
        raise EvidenceError(f"checkpoint {index} lies beyond the last, {plan.segments}", field="checkpoint.index")
    if (here.model_digest != ZERO_DIGEST) != (index == plan.segments):
        raise EvidenceError("the last checkpoint names its model, and no other does", field="checkpoint.modelDigest")
    if len(losses_of(signed)) != taken:
        raise EvidenceError(f"checkpoint {index}: {len(signed.losses) // 4} losses of {taken} steps", field="losses")
    require_signer(domain.digest(here), signed.signature, here.worker, f"checkpoint {index}")


def check_transcript(
    transcript: Sequence[SignedCheckpoint], plan: TrainingPlan, task: Digest, domain: Domain
) -> Digest:
    """A whole transcript: every checkpoint follows the one before; returns its root.

    Raises
    ------
    EvidenceError, SignatureError
        See :func:`check_next`; or checkpoints are missing.
    """
    previous: Checkpoint | None = None
    for signed in transcript:
        check_next(signed, previous, plan, task, domain)
        previous = signed.checkpoint
    if len(transcript) != plan.segments + 1:
        raise EvidenceError(f"{len(transcript)} checkpoints, the plan has {plan.segments + 1}", field="transcript")
    return transcript_tree([signed.checkpoint for signed in transcript]).root


def hand_overs(transcript: Sequence[SignedCheckpoint]) -> list[tuple[int, Address]]:
    """From which checkpoint on each worker went on, the first one's first."""
    found: list[tuple[int, Address]] = []
    for signed in transcript:
        if not found or found[-1][1] != signed.checkpoint.worker:
            found.append((signed.checkpoint.index, signed.checkpoint.worker))
    return found


def challenged_segments(plan: TrainingPlan, statement: Digest, block_hash: Digest, sample_size: int) -> list[int]:
    """The segments to re-execute, ascending: segment i lies between checkpoints i and i + 1."""
    return challenge_indices(statement, block_hash, 0, plan.segments, sample_size)


def deviations(before: State, committed: State, again: State) -> dict[str, tuple[float, float]]:
    """How far the committed end of a segment lies from the one that re-executing it gave, in Euclidean norms.

    Weights and each of the optimiser's slots are taken as one vector each: where weights move little, a wrong learning
    rate must not hide behind moments that move much.

    Returns
    -------
    dict
        Of ``weight`` and of each slot: the distance relative to the length of the segment's own way, `again` less
        `before`, and relative to the length of the vector itself.
    """
    found = {}
    for slot in sorted({name.split("/", 1)[0] for name in again}):
        names = [name for name in again if name.startswith(f"{slot}/")]
        ends = {name: again[name].astype(np.float64) for name in names}
        gap = _norm(end - committed[name] for name, end in ends.items())
        way = _norm(end - before[name] for name, end in ends.items())
        size = _norm(ends.values())
        found[slot] = _ratio(gap, way), _ratio(gap, size)
    return found


def _ratio(gap: float, whole: float) -> float:
    if gap == 0.0:
        return 0.0
    return gap / whole if whole else math.inf


def _norm(parts: Iterable[NDArray[np.float64]]) -> float:
    return math.sqrt(sum(float(np.vdot(part, part)) for part in parts))
