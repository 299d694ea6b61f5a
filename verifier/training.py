"""Checks a training task's evidence, for coordinator and auditor alike. Nothing that the worker sent is believed.

Step 7 is that of the list in :mod:`verifier.certificate`; the others are of trainings only:

 7. Statement: follows from the signed request; its output root is the transcript's; signed by its worker.
21. Plan: it is the one that the request pins.
22. Transcript: each checkpoint follows the one before as the plan says, and is signed by the worker that it names; who
    took over from whom is told.
23. First state: the base model's weights, and zeros.
24. Trained model: the base model's graph with the last state's weights has the digest that the last checkpoint names.
25. Dataset: its records have the committed root, and the plan's length.
26. Segments: those that the block after the commitment drew (tier ``sampled``), or that a checker chose itself, are
    taken again from the committed state at their start. Their end has the same bits, or lies within the tolerance.

23 to 25 need files that evidence names by digest, 26 PyTorch besides; what is missing leaves a step unchecked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import EvidenceError, TrainingError
from rexis.protocol.parsing import Address
from rexis.protocol.policy import Policy, Tier
from rexis.protocol.records import input_root
from rexis.protocol.sampling import survival
from rexis.protocol.tensors import Dataset
from rexis.protocol.training import BILLION, TrainingPlan, TrainingRequest
from rexis.protocol.transcript import (
    Platform,
    SignedCheckpoint,
    State,
    TrainingEvidence,
    challenged_segments,
    check_transcript,
    deviations,
    hand_overs,
    initial_state,
    losses_of,
    state_root_of,
    unpack_state,
    weights_of,
)
from rexis.protocol.typed_data import Domain
from rexis.training.exporting import export_checkpoint, initial_weights
from verifier.evidence import require_statement
from verifier.report import Verdict
from verifier.retraining import Retraining
from verifier.tiers.sampled import chances

BASE_MODEL = "base model"
STATEMENT, PLAN, TRANSCRIPT, FIRST_STATE, TRAINED_MODEL, DATASET, SEGMENTS = 7, 21, 22, 23, 24, 25, 26
# What a mean over a batch in float32 may differ by on another platform, against the loss, or 1 if that is smaller.
_LOSS_FLOOR = 1e-6


class Files(Protocol):
    """Where files are that evidence names by digest."""

    def read(self, what: str, digest: Digest) -> bytes:
        """The bytes with this digest; `what` they are is for messages.

        Raises
        ------
        UnavailableError, DigestMismatchError
            There is no such file, or it is another one.
        """
        ...


@dataclass(frozen=True)
class TrainingContext:
    """What the checker knows about a training task from elsewhere than its worker.

    Attributes
    ----------
    domain, request
        Of the job; the request's signature has been checked.
    plan
        Said to be the one that the request pins.
    worker, nonce
        Of the lease; None for an auditor, who knows no lease.
    block_hash
        Hash of the block after the commitment; tier ``sampled`` only.
    files
        Base model, dataset and states.
    more_segments
        Segments to take again beside those that the tier asks for.
    """

    domain: Domain
    request: TrainingRequest
    plan: TrainingPlan
    worker: Address | None
    nonce: Digest | None
    block_hash: Digest | None
    files: Files
    more_segments: Sequence[int] = ()


def walk_training(evidence: TrainingEvidence, context: TrainingContext, verdict: Verdict) -> None:
    """Take the steps; raises ``StepFailed`` at the first that fails."""
    request, plan, transcript = context.request, context.plan, evidence.transcript
    with verdict.step(STATEMENT, "statement and worker's signature") as notes:
        digest = require_statement(
            evidence.statement,
            evidence.signature,
            request,
            context.domain,
            start=0,
            count=request.record_count,
            worker=context.worker,
            nonce=context.nonce,
        )
        notes.say(f"statement {digest} signed by {evidence.statement.worker}")

    with verdict.step(PLAN, "training plan") as notes:
        if plan.digest != request.plan_digest:
            raise EvidenceError(f"has digest {plan.digest}, the request pins {request.plan_digest}", field="plan")
        notes.say(_plan(plan))

    with verdict.step(TRANSCRIPT, "transcript") as notes:
        _check_transcript(evidence, context)
        notes.say(f"{len(transcript)} checkpoints under {evidence.statement.output_root}; {_workers(transcript)}")

    base: bytes | None = None
    with verdict.step(FIRST_STATE, "first state") as notes:
        base = context.files.read(BASE_MODEL, request.model_digest)
        _check_first_state(base, transcript[0], plan)
        notes.say("is the base model's weights, and zeros")

    with verdict.step(TRAINED_MODEL, "trained model") as notes:
        base = base or context.files.read(BASE_MODEL, request.model_digest)
        notes.say(_check_trained_model(base, transcript[-1], context))

    data: Dataset | None = None
    with verdict.step(DATASET, "dataset") as notes:
        data = _dataset(context)
        notes.say(f"{len(data)} records of {plan.row_length} values under {request.input_root}")

    again = sorted({*_drawn(context, digest), *context.more_segments})
    if again:
        with verdict.step(SEGMENTS, "segments taken again") as notes:
            base = base or context.files.read(BASE_MODEL, request.model_digest)
            records = (data or _dataset(context)).records
            with Retraining.started(base, plan, records, evidence.platform) as retraining:
                notes.say(_check_segments(again, base, retraining, evidence, context))


def shows(evidence: TrainingEvidence, plan: TrainingPlan, policy: Policy, *, attempt: int, own: int) -> str:
    """What passing shows, in a sentence that claims no more.

    Parameters
    ----------
    attempt
        Which commitment of the task it was.
    own
        Segments that the checker drew itself.
    """
    count = plan.segments
    made = f"model {evidence.transcript[-1].checkpoint.model_digest} out of {evidence.statement.model_digest}"
    sampled = policy.tier == Tier.SAMPLED
    sample = min(policy.sample_size, count) if sampled else own
    if sample == 0:
        who = _workers(evidence.transcript)
        return f"{who} signed that {plan.steps} steps made {made}; nothing is shown of the steps"
    within = (
        f"within the tolerance, {policy.rel_tolerance_e9 / BILLION:.2g} of their way or "
        f"{policy.abs_tolerance_e9 / BILLION:.2g} of their size"
    )
    if max(sample, own) == count:
        return f"all {count} segments that made {made}, taken again, are {within}"
    tries = attempt if sampled else 1
    examples = chances(count, lambda altered: survival(count, altered, sample, tries), tries, also=1)
    return (
        f"{sample} of {count} segments that made {made}, taken again, are {within}; {examples}; one is enough to put "
        "another model in this one's place"
    )


def _plan(plan: TrainingPlan) -> str:
    return (
        f"{plan.steps} steps of {plan.batch_size} records with {plan.optimiser.kind}, "
        f"{len(plan.trainable)} tensors trained, {plan.segments} segments"
    )


def _check_transcript(evidence: TrainingEvidence, context: TrainingContext) -> None:
    """Step 22."""
    statement, last = evidence.statement, evidence.transcript[-1].checkpoint
    root = check_transcript(evidence.transcript, context.plan, statement.task_id, context.domain)
    if root != statement.output_root:
        raise EvidenceError(
            f"the transcript has root {root}, the statement says {statement.output_root}", field="statement.outputRoot"
        )
    if last.worker != statement.worker:
        raise EvidenceError(
            f"the statement is {statement.worker}'s, the last checkpoint {last.worker}'s", field="statement.worker"
        )


def _workers(transcript: Sequence[SignedCheckpoint]) -> str:
    """Who took which segments."""
    first, *others = hand_overs(transcript)
    later = "".join(f", from segment {index - 1} on {worker}" for index, worker in others)
    return f"worker {first[1]}{later}"


def _check_first_state(base: bytes, first: SignedCheckpoint, plan: TrainingPlan) -> None:
    """Step 23."""
    root = state_root_of(0, 0, _first_state(base, plan))
    if root != first.checkpoint.state_root:
        raise EvidenceError(
            f"has root {first.checkpoint.state_root}, the base model's weights and zeros have {root}",
            field="transcript.0.checkpoint.stateRoot",
        )


def _first_state(base: bytes, plan: TrainingPlan) -> State:
    return initial_state(plan, initial_weights(base, plan.trainable))


def _check_trained_model(base: bytes, last: SignedCheckpoint, context: TrainingContext) -> str:
    """Step 24."""
    state = _state(last, context)
    found, claimed = sha256(export_checkpoint(base, weights_of(state))), last.checkpoint.model_digest
    if found != claimed:
        raise EvidenceError(
            f"is said to be {claimed}, the base model with the last state's weights is {found}",
            field=f"transcript.{last.checkpoint.index}.checkpoint.modelDigest",
        )
    return f"{found} is the base model with the last state's weights"


def _state(signed: SignedCheckpoint, context: TrainingContext) -> State:
    """The state at a checkpoint, which has the root that was signed."""
    here = signed.checkpoint
    state = unpack_state(context.files.read(f"state {here.index}", signed.state_digest), context.plan)
    root = state_root_of(here.step, here.cursor, state)
    if root != here.state_root:
        raise EvidenceError(
            f"state {here.index} has root {root}, its checkpoint says {here.state_root}",
            field=f"transcript.{here.index}.stateDigest",
        )
    return state


def _dataset(context: TrainingContext) -> Dataset:
    """Step 25."""
    request, plan = context.request, context.plan
    data = Dataset.from_bytes(context.files.read("dataset", request.dataset_digest))
    if len(data) != request.input_size:
        raise EvidenceError(f"has {len(data)} records, the request says {request.input_size}", field="dataset")
    if data.records[0].size != plan.row_length:
        raise EvidenceError(f"has {data.records[0].size} values a record, the plan {plan.row_length}", field="dataset")
    root = input_root(request.policy.tier, request.circuit, data.records, data.salts)
    if root != request.input_root:
        raise EvidenceError(f"has root {root}, the request says {request.input_root}", field="dataset")
    return data


def _drawn(context: TrainingContext, statement: Digest) -> list[int]:
    """The segments that the tier asks for."""
    policy = context.request.policy
    if policy.tier != Tier.SAMPLED:
        return []
    if context.block_hash is None:
        raise EvidenceError("no commitment: a sample needs a block that came after it", field="commitment")
    return challenged_segments(context.plan, statement, context.block_hash, policy.sample_size)


def _check_segments(
    segments: Sequence[int], base: bytes, retraining: Retraining, evidence: TrainingEvidence, context: TrainingContext
) -> str:
    """Step 26."""
    worst = [_check_segment(segment, base, retraining, evidence, context) for segment in segments]
    close = [ways for ways in worst if ways is not None]
    text = f"{_some(segments)} of {context.plan.segments}: {len(worst) - len(close)} end with the same bits"
    if close:
        way, size = (max(parts) for parts in zip(*close, strict=True))
        text += f", {len(close)} within the tolerance, by at most {way:.3g} of their way or {size:.3g} of their size"
    here, there = retraining.platform, evidence.platform
    return f"{text}; on {_place(here)}" + ("" if here == there else f", trained on {_place(there)}")


def _check_segment(
    segment: int, base: bytes, retraining: Retraining, evidence: TrainingEvidence, context: TrainingContext
) -> tuple[float, float] | None:
    """How far the committed end lies from the one found: of its way and of its size. None if it has the same bits."""
    start, end = evidence.transcript[segment], evidence.transcript[segment + 1]
    here, policy = end.checkpoint, context.request.policy
    before = _state(start, context) if segment else _first_state(base, context.plan)
    name, field = f"segment {segment}, of worker {here.worker}", f"transcript.{here.index}.checkpoint"
    try:
        again = retraining.segment(segment, before, here.state_root)
    except TrainingError as error:
        raise EvidenceError(f"{name}: cannot be taken again: {error.message}", field=f"{field}.stateRoot") from error
    found = _distances(before, end, again.state, context) if again.state is not None else {}
    for slot, (way, size) in found.items():
        if way * BILLION > policy.rel_tolerance_e9 and size * BILLION > policy.abs_tolerance_e9:
            raise EvidenceError(
                f"{name}: taken again, {slot} ends {way:.3g} of its way and {size:.3g} of its size from what was "
                f"committed; the policy allows {policy.rel_tolerance_e9 / BILLION:g} and "
                f"{policy.abs_tolerance_e9 / BILLION:g}",
                field=f"{field}.stateRoot",
            )
    gaps = np.abs(losses_of(end).astype(np.float64) - again.losses) / np.maximum(1.0, np.abs(again.losses))
    if gaps.max() > max(policy.rel_tolerance_e9 / BILLION, policy.abs_tolerance_e9 / BILLION, _LOSS_FLOOR):
        raise EvidenceError(
            f"{name}: the loss of its step {int(gaps.argmax())} was {again.losses[gaps.argmax()]:.6g}, not "
            f"{losses_of(end)[gaps.argmax()]:.6g} as was signed",
            field=f"{field}.lossesDigest",
        )
    return (max(way for way, _ in found.values()), max(size for _, size in found.values())) if found else None


def _distances(
    before: State, end: SignedCheckpoint, again: State, context: TrainingContext
) -> dict[str, tuple[float, float]]:
    """Of each slot of the optimiser and of the weights."""
    here, committed = end.checkpoint, _state(end, context)
    for name, value in again.items():
        if committed[name].shape != value.shape:
            raise EvidenceError(f"{name} has another shape", field=f"transcript.{here.index}.stateDigest")
    return deviations(before, committed, again)


def _some(segments: Sequence[int]) -> str:
    shown = ", ".join(map(str, segments[:8]))
    return f"segments {shown}" + (f" and {len(segments) - 8} more" if len(segments) > 8 else "")


def _place(platform: Platform) -> str:
    return f"{platform.device} ({platform.machine}, {platform.threads} threads, torch {platform.torch})"
