"""A training task: torch takes the steps, a thread beside it hashes, uploads and signs what they led to.

Only here does a worker need torch. Steps have no say in what is checked: the plan is the one that the requester signed,
the records have the root that it signed, and the model's digest is on chain.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from provers.cache import make_private_folder
from provers.device import Device, Kind
from provers.dishonest import training_fault
from provers.display import log
from provers.errand import Errand
from provers.metrics import step
from provers.task import check_lease, read_dataset
from rexis.api import Stage, VerdictView
from rexis.files import read_file
from rexis.protocol.digests import ZERO_DIGEST, Digest, require_digest, sha256
from rexis.protocol.errors import ConflictError, EvidenceError
from rexis.protocol.policy import Tier
from rexis.protocol.signing import address_of, sign_digest
from rexis.protocol.statement import Statement, statement_for, task_id
from rexis.protocol.training import TrainingPlan, loss_e9
from rexis.protocol.transcript import (
    Checkpoint,
    SignedCheckpoint,
    TrainingEvidence,
    check_next,
    initial_state,
    state_root_of,
    transcript_tree,
    unpack_state,
    weights_of,
)
from rexis.training.checkpoints import Checkpoints, Committed
from rexis.training.exporting import export_checkpoint, initial_weights
from rexis.training.platforms import this_platform
from rexis.training.session import Losses, Trainer

_MAX_MODEL_BYTES = (2 << 30) - 1
_TICK_S = 0.1
# Steps between two looks at whether the task goes on, and how long they should take together.
_AT_ONCE, _MOMENT_S = 256, 0.5
_STALE_S = 24 * 3600
# How torch computes is set for the whole process.
_ONE_AT_A_TIME = threading.Lock()


def torch_device(device: Device) -> str:
    """What torch calls the device that a worker was told to use."""
    if device.kind == Kind.CPU or (device.kind == Kind.AUTO and not torch.cuda.is_available()):
        return "cpu"
    return f"cuda:{device.index}"


@dataclass
class TrainingErrand(Errand):
    """Trains from the last checkpoint that there is, to the end."""

    def work(self) -> VerdictView:
        """See :class:`provers.errand.Errand`."""
        lease, keeper, plan = self.lease, self.keeper, self.lease.plan
        if plan is None:
            raise ConflictError("a training without a plan", field="plan")
        keeper.at(Stage.FETCH, 0, plan.steps)
        check_lease(lease, self.domain)
        with step("fetch"):
            keeper.patiently(lambda: self.chain.require_model(lease.request))
            path = self.get(lease.request.model_digest)
            model = read_file(path, "model", max_bytes=_MAX_MODEL_BYTES)
            require_digest(model, lease.request.model_digest, "model")
            records = read_dataset(self.get(lease.request.dataset_digest), lease.request).records
        with self._turn():
            begun = time.monotonic()
            with step("setup"):
                trainer = Trainer(model, self._taken(plan), records, device=self.device, threads=self.threads)
                transcript = self._resume(trainer, plan)
            with step("train"):
                self._train(trainer, transcript)
            spent = round(1000 * (time.monotonic() - begun))
        return self._hand_in(transcript, spent)

    def _taken(self, plan: TrainingPlan) -> TrainingPlan:
        """The plan; of a dishonest worker another one."""
        dishonest = self.around.options.dishonest
        fault = training_fault(dishonest) if dishonest else None
        return plan if fault is None else fault(plan)

    @property
    def device(self) -> str:
        """What torch computes on."""
        return torch_device(self.around.options.device)

    @property
    def threads(self) -> int:
        """Of one operator on the CPU."""
        return max(1, (os.cpu_count() or 1) // self.around.site.tasks)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until no other training runs in this process."""
        while not _ONE_AT_A_TIME.acquire(timeout=_TICK_S):
            self.keeper.check()
        try:
            yield
        finally:
            _ONE_AT_A_TIME.release()

    def _resume(self, trainer: Trainer, plan: TrainingPlan) -> list[SignedCheckpoint]:
        """Look at what earlier workers signed, and load the state that they reached."""
        lease, previous = self.lease, None
        for signed in lease.transcript:
            check_next(signed, previous, plan, self._task_id, lease.domain)
            previous = signed.checkpoint
        if previous is None:
            return []
        last, first = lease.transcript[-1], lease.transcript[0].checkpoint
        base = initial_state(plan, initial_weights(trainer.model, plan.trainable))
        if first.state_root != state_root_of(0, 0, base):
            raise EvidenceError("the transcript does not begin at the base model", field="transcript")
        blob = self.get(last.state_digest).read_bytes()
        state = unpack_state(blob, plan)
        if state_root_of(previous.step, previous.cursor, state) != previous.state_root:
            raise EvidenceError(f"the state of checkpoint {previous.index} is not the signed one", field="transcript")
        trainer.load(previous.step, state)
        log.info("goes on from checkpoint %d of worker %s, step %d", previous.index, previous.worker, previous.step)
        return list(lease.transcript)

    def _train(self, trainer: Trainer, transcript: list[SignedCheckpoint]) -> None:
        """Take the steps that are left; the next ones run while the last interval's end is handed in."""
        plan, first = trainer.plan, max(1, len(transcript))

        def commit(made: Committed) -> None:
            transcript.append(self._checkpoint(made, transcript[-1].checkpoint if transcript else None, trainer))
            made.blob.unlink()

        with self._folder() as folder, Checkpoints(folder, commit) as beside:
            if not transcript:
                beside.submit(trainer.snapshot(), np.empty(0, np.float32))
            for index in range(first, plan.segments + 1):
                losses = self._steps(trainer, plan.step_of(index) - trainer.step_count)
                beside.submit(trainer.snapshot(beside.spare()), losses)

    def _steps(self, trainer: Trainer, count: int) -> Losses:
        """Some steps, as many at once as take a moment together: in between, the task may have to end."""
        parts: list[Losses] = []
        left, at_once = count, 1
        while left:
            begun = time.monotonic()
            parts.append(trainer.advance(min(at_once, left)))
            left -= len(parts[-1])
            at_once = min(2 * at_once, _AT_ONCE) if time.monotonic() - begun < _MOMENT_S else max(1, at_once // 2)
            self.keeper.at(Stage.COMPUTE, trainer.step_count, trainer.plan.steps, loss_e9(float(parts[-1][-1])))
        return np.concatenate(parts)

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """A folder for states, which goes afterwards; those of workers that were killed go after a day."""
        states = make_private_folder(self.around.options.cache / "states")
        for left in states.iterdir():
            if time.time() - left.stat().st_mtime > _STALE_S:
                shutil.rmtree(left, ignore_errors=True)
        with TemporaryDirectory(dir=states) as folder:
            yield Path(folder)

    def _checkpoint(self, made: Committed, previous: Checkpoint | None, trainer: Trainer) -> SignedCheckpoint:
        """Upload a state, sign it, hand it in."""
        around, lease, keeper = self.around, self.lease, self.keeper
        client, index = around.client, 0 if previous is None else previous.index + 1
        keeper.patiently(lambda: client.upload_blob(made.blob))
        model_digest = ZERO_DIGEST
        if index == trainer.plan.segments:
            trained = export_checkpoint(trainer.model, weights_of(made.state))
            model_digest = keeper.patiently(lambda: client.upload_blob(trained))
        here = Checkpoint(
            task_id=self._task_id,
            index=index,
            step=made.step,
            cursor=made.cursor,
            state_root=made.root,
            losses_digest=sha256(made.losses),
            model_digest=model_digest,
            previous=ZERO_DIGEST if previous is None else previous.digest,
            worker=address_of(around.options.account),
        )
        signed = SignedCheckpoint(
            checkpoint=here,
            losses=made.losses,
            state_digest=made.state_digest,
            signature=sign_digest(around.options.account, lease.domain.digest(here)),
        )
        keeper.patiently(lambda: client.checkpoint(lease.lease_id, signed))
        return signed

    def _hand_in(self, transcript: list[SignedCheckpoint], spent_ms: int) -> VerdictView:
        around, lease, keeper = self.around, self.lease, self.keeper
        statement = self._statement(transcript)
        if lease.request.policy.tier == Tier.SAMPLED:
            self.commit(statement)
        evidence = TrainingEvidence(
            statement=statement,
            signature=sign_digest(around.options.account, lease.domain.digest(statement)),
            transcript=transcript,
            platform=this_platform(self.device, self.threads),
            compute_ms=spent_ms,
        )
        keeper.finish()
        with step("hand-in"):
            verdict = keeper.patiently(lambda: around.client.training_evidence(lease.lease_id, evidence))
        if verdict.accepted:
            around.board.took(spent_ms, 0)
        return verdict

    def _statement(self, transcript: list[SignedCheckpoint]) -> Statement:
        lease = self.lease
        return statement_for(
            lease.request,
            lease.domain,
            start=lease.start,
            count=lease.count,
            output_root=transcript_tree([signed.checkpoint for signed in transcript]).root,
            worker=address_of(self.around.options.account),
            nonce=lease.nonce,
        )

    @property
    def _task_id(self) -> Digest:
        return task_id(self.lease.request.job_id(self.lease.domain), self.lease.start, self.lease.count)
