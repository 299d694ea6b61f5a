"""Training one model as its plan says, step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import TensorError, TrainingError, UnavailableError
from rexis.protocol.training import BILLION, Optimiser, TrainingPlan, batch_records
from rexis.protocol.training_kinds import LossKind, OptimiserKind
from rexis.protocol.transcript import WEIGHT, State, state_names, state_root_of, weights_of

try:
    import torch
    from torch import Tensor
except ImportError as error:
    raise UnavailableError("training needs torch and onnx", hint="pip install 'rexis[training]'") from error

from rexis.training.exporting import export_checkpoint
from rexis.training.faults import refusing
from rexis.training.graph import Graph
from rexis.training.losses import loss_function
from rexis.training.platforms import reproducible, require_device

_TRILLION = 10**12

Losses = NDArray[np.float32]


@dataclass(frozen=True)
class Snapshot:
    """A state as it stood after a step; training goes on meanwhile.

    Attributes
    ----------
    step, cursor
        Updates taken, and records used for them.
    """

    step: int
    cursor: int
    _tensors: Mapping[str, Tensor]
    _ready: Any = None

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The state's tensors. From a GPU they are fetched beside the kernels that are running."""
        if self._ready is None:
            return {name: each.numpy() for name, each in self._tensors.items()}
        beside = torch.cuda.Stream()
        with torch.cuda.stream(beside):
            beside.wait_event(self._ready)
            found = {name: each.to("cpu", non_blocking=True) for name, each in self._tensors.items()}
        beside.synchronize()
        return {name: each.numpy() for name, each in found.items()}


class Trainer:
    """A model, a dataset and a state that goes from step to step. The same steps give the same bits.

    Parameters
    ----------
    model
        The base model, ONNX bytes.
    plan
        How it is trained.
    records
        float32 ``[n, row]``: the dataset, each row an input and then a target.
    device, threads
        Where: ``cpu`` or ``cuda``; and on how many threads a CPU does one operator.
    floats
        What is computed in. Anything but float32 is a reference, whose states nobody commits.

    Raises
    ------
    MalformedError, TrainingError
        The model cannot be trained as the plan says, or does not go with the records.
    TensorError
        The rows are not the plan's, or targets are no class numbers.
    MemoryError
        It takes more than there is.
    """

    def __init__(
        self,
        model: bytes,
        plan: TrainingPlan,
        records: NDArray[np.float32],
        *,
        device: str = "cpu",
        threads: int = 1,
        floats: torch.dtype = torch.float32,
    ) -> None:
        self.plan, self.model, self.threads = plan, model, threads
        self.device = require_device(device)
        self.graph = Graph(model, plan.trainable, floats=floats, device=device)
        self.step_count = 0
        self._count = len(records)
        self._inputs, self._targets = _split(plan, records, integer_input=self.graph.integer_input)
        self._loss = loss_function(plan.loss)
        self._weights = [self.graph.weights[name] for name in plan.trainable]
        self._optimiser = _optimiser(plan.optimiser, self._weights)
        self._slots = {
            f"{slot}/{name}": torch.zeros_like(weight)
            for name, weight in zip(plan.trainable, self._weights, strict=True)
            for slot in plan.optimiser.slots
        }
        self._set_optimiser()
        self._require_fit()

    @property
    def cursor(self) -> int:
        """Records used so far."""
        return self.step_count * self.plan.batch_size

    @property
    def root(self) -> Digest:
        """The state's root."""
        return state_root_of(self.step_count, self.cursor, self.state())

    def step(self) -> float:
        """One step; returns the loss before its update."""
        return float(self.advance(1)[0])

    def advance(self, count: int) -> Losses:
        """Some steps; returns the loss of each, before its update.

        Raises
        ------
        TrainingError
            A loss is NaN or infinite; or the device has no reproducible way to do an operator.
        """
        first = self.step_count
        if first + count > self.plan.steps:
            raise TrainingError(f"the plan has {self.plan.steps} steps, {first} are taken", field="steps")
        with reproducible(self.threads):
            losses = [self._one() for _ in range(count)]
            found: Losses = torch.stack(losses).cpu().numpy() if losses else np.empty(0, np.float32)
        wrong = ~np.isfinite(found)
        if wrong.any():
            raise TrainingError(
                f"the loss of step {first + int(wrong.argmax())} is {found[wrong][0]}",
                field="plan",
                hint="lower the learning rate, warm up, or clip gradients",
            )
        return found

    def snapshot(self, into: Snapshot | None = None) -> Snapshot:
        """The state as it is now, copied where it lies.

        Parameters
        ----------
        into
            One of this trainer that nobody needs any more: its memory is used again. Fresh memory for a large state
            takes longer than the copy.
        """
        tensors = {f"{WEIGHT}/{name}": self.graph.weights[name].detach() for name in self.plan.trainable} | self._slots
        names = state_names(self.plan)
        copies = into._tensors if into is not None else {name: torch.empty_like(tensors[name]) for name in names}
        for name in names:
            copies[name].copy_(tensors[name])
        ready = None
        if self.device.type == "cuda":
            ready = torch.cuda.Event()
            ready.record()
        return Snapshot(self.step_count, self.cursor, copies, ready)

    def state(self) -> dict[str, NDArray[np.float32]]:
        """The state as it is now, by the names of :func:`~rexis.protocol.transcript.state_names`."""
        return self.snapshot().arrays()

    def load(self, step: int, state: State) -> None:
        """Go on from a state.

        Raises
        ------
        TensorError
            Not a state of this plan and model.
        """
        if set(state) != set(state_names(self.plan)):
            raise TensorError("these are not the tensors of this plan's state", field="state")
        with torch.no_grad():
            for name, value in state.items():
                slot, _, weight = name.partition("/")
                tensor = self.graph.weights[weight] if slot == WEIGHT else self._slots[name]
                if value.dtype != np.float32 or value.shape != tuple(tensor.shape):
                    raise TensorError(f"is not float32 {list(tensor.shape)}", field=name)
                tensor.copy_(torch.from_numpy(np.ascontiguousarray(value)))
        self.step_count = step
        self._set_optimiser()

    def export(self) -> bytes:
        """The state as an ONNX model."""
        return export_checkpoint(self.model, weights_of(self.state()))

    @property
    def model_digest(self) -> Digest:
        """SHA-256 of :meth:`export`."""
        return sha256(self.export())

    def _one(self) -> Tensor:
        rows = torch.from_numpy(batch_records(self.plan, self._count, self.step_count))
        rate = self.plan.learning_rate(self.step_count)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad()
        with self._refusing():
            loss = self._loss(self.graph(self._batch(self._inputs, rows)), self._batch(self._targets, rows))
            loss.backward()
        if self.plan.optimiser.clip_norm_e9:
            torch.nn.utils.clip_grad_norm_(self._weights, self.plan.optimiser.clip_norm_e9 / BILLION)
        self._optimiser.step()
        self.step_count += 1
        return loss.detach()

    def _batch(self, values: Tensor, rows: Tensor) -> Tensor:
        chosen = values.index_select(0, rows)
        dtype = self.graph.floats if chosen.is_floating_point() else chosen.dtype
        return chosen.to(self.device, dtype, non_blocking=True)

    def _set_optimiser(self) -> None:
        """The optimiser's own memory, which are our tensors: it is never in a state of not having begun."""
        for name, weight in zip(self.plan.trainable, self._weights, strict=True):
            own = {slot: self._slots[f"{slot}/{name}"] for slot in self.plan.optimiser.slots}
            if self.plan.optimiser.kind != OptimiserKind.SGD:
                own["step"] = torch.tensor(float(self.step_count), device=self.device)
            self._optimiser.state[weight] = own

    def _require_fit(self) -> None:
        """One batch forward and one backward, before anything is promised: all that can be wrong with a model shows."""
        rows = torch.arange(min(self.plan.batch_size, self._count))
        with reproducible(self.threads):
            with self._refusing():
                outputs = self.graph(self._batch(self._inputs, rows))
            expected = list(self._targets.shape[1:])
            if self.plan.loss == LossKind.CROSS_ENTROPY:
                classes, shape = outputs.shape[-1], list(outputs.shape[1:-1])
                if int(self._targets.min()) < 0 or int(self._targets.max()) >= classes:
                    raise TensorError(f"targets are not class numbers from 0 to {classes - 1}", field="records")
            else:
                shape = list(outputs.shape[1:])
            if shape != expected or len(outputs) != len(rows):
                raise TrainingError(
                    f"the model gives outputs {list(outputs.shape)}, which targets {expected} do not go with",
                    field="plan.targetShape",
                )
            with self._refusing():
                loss = self._loss(outputs, self._batch(self._targets, rows))
                found = torch.autograd.grad(loss, self._weights, allow_unused=True)
        for name, gradient in zip(self.plan.trainable, found, strict=True):
            if gradient is None:
                raise TrainingError(f"the loss does not depend on {name!r}", field="plan.trainable")

    def _refusing(self) -> AbstractContextManager[None]:
        return refusing(f"fails in step {self.step_count}")


def _split(plan: TrainingPlan, records: NDArray[np.float32], *, integer_input: bool) -> tuple[Tensor, Tensor]:
    """Inputs and targets of all records."""
    if records.dtype != np.float32 or records.shape != (len(records), plan.row_length) or not len(records):
        raise TensorError(f"records are not float32 [n, {plan.row_length}], as the plan says", field="records")
    width = math.prod(plan.input_shape)
    inputs = torch.from_numpy(np.ascontiguousarray(records[:, :width])).reshape(-1, *plan.input_shape)
    targets = torch.from_numpy(np.ascontiguousarray(records[:, width:])).reshape(-1, *plan.target_shape)
    if integer_input:
        inputs = _whole(inputs, "inputs")
    return inputs, _whole(targets, "targets") if plan.loss == LossKind.CROSS_ENTROPY else targets


def _whole(values: Tensor, what: str) -> Tensor:
    if not bool((values == values.round()).all()):
        raise TensorError(f"{what} are not whole numbers", field="records")
    return values.long()


def _optimiser(how: Optimiser, weights: list[Tensor]) -> torch.optim.Optimizer:
    """The fused kernels go over memory once, element by element, in no order that could change a bit."""
    common = {"lr": how.learning_rate_e9 / BILLION, "weight_decay": how.weight_decay_e9 / BILLION, "fused": True}
    if how.kind == OptimiserKind.SGD:
        return torch.optim.SGD(weights, momentum=how.momentum_e9 / BILLION, nesterov=how.nesterov, **common)
    kind = torch.optim.Adam if how.kind == OptimiserKind.ADAM else torch.optim.AdamW
    betas = (how.beta1_e9 / BILLION, how.beta2_e9 / BILLION)
    return kind(weights, betas=betas, eps=how.epsilon_e12 / _TRILLION, **common)
