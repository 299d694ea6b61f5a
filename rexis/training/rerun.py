"""Steps of a training taken again, from a committed state: what verifying a segment is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rexis.protocol.digests import Digest
from rexis.protocol.training import TrainingPlan
from rexis.protocol.transcript import State, state_root_of
from rexis.training.session import Losses, Trainer


@dataclass(frozen=True)
class Rerun:
    """A segment as it was re-executed.

    Attributes
    ----------
    segment
        It lies between checkpoints `segment` and `segment` + 1.
    before, after
        The state at its start, which was given, and at its end.
    root
        Of the state at its end: on the same platform the committed one, bit by bit.
    losses
        Of its steps.
    """

    segment: int
    before: State
    after: State
    root: Digest
    losses: Losses


class Rerunner:
    """Re-executes segments of one training; the parameters, and what is refused, are those of a `Trainer`."""

    def __init__(
        self, model: bytes, plan: TrainingPlan, records: NDArray[np.float32], *, device: str = "cpu", threads: int = 1
    ) -> None:
        self._plan = plan
        self._trainer = Trainer(model, plan, records, device=device, threads=threads)

    def run(self, segment: int, before: State) -> Rerun:
        """Take a segment's steps again from the state at its start.

        Raises
        ------
        TensorError, TrainingError
            Not a state of this training, or it does not lead anywhere.
        """
        first, last = self._plan.step_of(segment), self._plan.step_of(segment + 1)
        self._trainer.load(first, before)
        losses = self._trainer.advance(last - first)
        after = self._trainer.state()
        root = state_root_of(last, last * self._plan.batch_size, after)
        return Rerun(segment, before, after, root, losses)
