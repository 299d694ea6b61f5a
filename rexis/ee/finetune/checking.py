"""Shows, before anything is sent to a worker, that the loss and its gradients commute with the keys. Needs torch."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from rexis.ee.finetune.encrypting import TrainableModel
from rexis.ee.finetune.targets import encrypt_targets
from rexis.ee.keys import TensorKey
from rexis.ee.records import encrypt_records
from rexis.ee.stream import Floats
from rexis.protocol.errors import EncryptionError
from rexis.protocol.training_kinds import LossKind
from rexis.training.graph import Graph
from rexis.training.losses import loss_function

_RECORDS = 8
_TOLERANCE = 1e-4  # constants and records are rounded to float32; arithmetic is float64
_NOISE = 1e-11  # of a gradient that is 0 on paper

Gradients = dict[str, Floats]


def require_commuting(made: TrainableModel, records: NDArray[np.float32] | None = None) -> tuple[str, ...]:
    """One forward and one backward pass in the clear and under the keys, as a worker will compute them.

    Parameters
    ----------
    records
        Plain records ``[n, …]``; by default some at random.

    Returns
    -------
    idle
        Trained parameters whose gradient is rounding errors and nothing else.

    Raises
    ------
    EncryptionError
        The loss or a gradient is not what the keys make of the plain one.
    TrainingError
        An operator that training does not know.
    """
    key, loss = made.encrypted.key, made.description.loss
    assert key.output is not None and key.keyring is not None  # noqa: S101
    random = np.random.default_rng(0)
    inputs = _records(key.input, random) if records is None else records
    targets = _targets(loss, key.output, len(inputs), random)
    names = made.description.trainable
    plain_loss, plain = _pass(made.plain, names, loss, inputs, targets)
    hidden_loss, hidden = _pass(
        made.encrypted.model, names, loss, encrypt_records(key, inputs), encrypt_targets(loss, key.output, targets)
    )
    if abs(plain_loss - hidden_loss) > _TOLERANCE * max(abs(plain_loss), 1.0):
        raise EncryptionError(
            f"the loss under the keys is {hidden_loss:.6g}, in the clear {plain_loss:.6g}", field="loss"
        )
    total = math.sqrt(sum(float(np.vdot(each, each)) for each in plain.values()))
    for name in names:
        found = key.keyring.apply(hidden[name], key.layouts[name], invert=True)
        if not float(np.linalg.norm(found - plain[name])) <= _TOLERANCE * max(total, 1e-12):
            raise EncryptionError(
                f"the gradient of {name!r} under the keys is not what the keys make of the plain one", field=name
            )
    return tuple(name for name in names if 0.0 < float(np.linalg.norm(plain[name])) < _NOISE * total)


def _pass(
    model: bytes, names: list[str], loss: LossKind, inputs: NDArray[np.float32], targets: NDArray[np.generic]
) -> tuple[float, Gradients]:
    graph = Graph(model, names, floats=torch.float64)
    given = torch.from_numpy(inputs.astype(np.int64 if graph.integer_input else np.float64))
    wanted = torch.from_numpy(targets)
    value = loss_function(loss)(graph(given), wanted)
    value.backward()
    found: Gradients = {}
    for name, weight in graph.weights.items():
        found[name] = np.zeros(tuple(weight.shape)) if weight.grad is None else weight.grad.numpy()
    return float(value.detach()), found


def _records(key: TensorKey, random: np.random.Generator) -> NDArray[np.float32]:
    shape = (_RECORDS, *key.plain_shape)
    if key.tokens is not None:
        return random.integers(0, key.tokens, shape).astype(np.float32)
    if key.element != "float32":
        return random.integers(0, 2, shape).astype(np.float32)
    return random.normal(size=shape).astype(np.float32)


def _targets(loss: LossKind, key: TensorKey, count: int, random: np.random.Generator) -> NDArray[np.generic]:
    if loss == LossKind.CROSS_ENTROPY:
        return random.integers(0, key.shape[-1], (count, *key.shape[:-1]))
    return random.uniform(size=(count, *key.shape))
