"""A 30-64-64-2 ReLU network that tells malignant from benign breast masses, and everything that makes it.

``rexis zoo train breast_cancer`` selects, trains and exports in seconds on one CPU core. Nothing looks at the held-out
quarter before the metrics:
the standardisation, the weight decay and the number of steps all come from the training split.

Training runs in float64 on one thread, and only the finished weights are rounded to float32. The differences between
CPUs and BLAS builds (about 1e-15) then vanish in the rounding, so that the same torch gives the same file.
"""

from __future__ import annotations

import io
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn

from models.datasets import breast_cancer
from models.training import Build, describe, one_thread, predict
from models.zoo import Standardisation

NAME = "breast_cancer"
SEED = 20_261_101
WIDTHS = (30, 64, 64, 2)
FOLDS = 5
OPSET = 17
LEARNING_RATE = 3e-3
MAX_STEPS = 160
CHECK_EVERY = 10  # steps between two looks at the validation loss
WEIGHT_DECAYS = (0.3, 1.0, 3.0, 10.0)

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
Architecture = Callable[[int], nn.Sequential]  # seed -> a fresh float64 network


def build_network(seed: int) -> nn.Sequential:
    """Linear-ReLU-Linear-ReLU-Linear, He-uniform weights and zero biases, float64, drawn from `seed` alone."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(WIDTHS):
        layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out, dtype=torch.float64)
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def log_loss(network: nn.Sequential, records: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy in nats."""
    return nn.functional.cross_entropy(network(records), labels)


def train(
    records: Array,
    labels: Labels,
    *,
    weight_decay: float,
    steps: int,
    watch: tuple[Array, Labels] | None = None,
    architecture: Architecture = build_network,
) -> tuple[nn.Sequential, list[float]]:
    """Full-batch AdamW for `steps` steps.

    Returns
    -------
    network
        The trained float64 network.
    curve
        Log loss on `watch` after every :data:`CHECK_EVERY` steps; empty without `watch`.
    """
    network = architecture(SEED)
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=weight_decay, foreach=False)
    batch, targets = torch.from_numpy(records), torch.from_numpy(labels)
    curve: list[float] = []
    for step in range(1, steps + 1):
        optimiser.zero_grad()
        log_loss(network, batch, targets).backward()
        optimiser.step()
        if watch is not None and step % CHECK_EVERY == 0:
            with torch.no_grad():
                curve.append(float(log_loss(network, torch.from_numpy(watch[0]), torch.from_numpy(watch[1]))))
    return network, curve


def select(records: Array, labels: Labels, *, architecture: Architecture = build_network) -> tuple[float, int, float]:
    """Weight decay and number of steps with the lowest cross-validated log loss, and that loss.

    Only the training split comes in here. Each fold is standardised by its own training part.
    """
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(records, labels))
    best = (0.0, 0, float("inf"))
    for weight_decay in WEIGHT_DECAYS:
        curves = []
        for fit, check in folds:
            mean, std = records[fit].mean(axis=0), records[fit].std(axis=0)
            watch = ((records[check] - mean) / std, labels[check])
            fitted = (records[fit] - mean) / std
            _, curve = train(
                fitted,
                labels[fit],
                weight_decay=weight_decay,
                steps=MAX_STEPS,
                watch=watch,
                architecture=architecture,
            )
            curves.append(curve)
        mean_curve = np.mean(curves, axis=0)
        turn = int(mean_curve.argmin())
        if mean_curve[turn] < best[2]:
            best = (weight_decay, (turn + 1) * CHECK_EVERY, float(mean_curve[turn]))
    return best


def export_onnx(network: nn.Sequential) -> bytes:
    """The float32 network as ONNX: three Gemm and two Relu nodes, batch axis ``batch`` left open."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about dynamo=False, which keeps plain Gemm and Relu
        torch.onnx.export(
            network.float().eval(),
            (torch.zeros(1, WIDTHS[0]),),
            buffer,
            dynamo=False,
            input_names=["records"],
            output_names=["logits"],
            dynamic_axes={"records": {0: "batch"}, "logits": {0: "batch"}},
            opset_version=OPSET,
        )
    return buffer.getvalue()


def build() -> Build:
    """Make the model from nothing but the data and this file."""
    data = breast_cancer()
    records, labels = data.records[~data.held_out], data.labels[~data.held_out]
    with one_thread():
        weight_decay, steps, cv_loss = select(records, labels)
        mean, std = records.mean(axis=0), records.std(axis=0)
        network, _ = train((records - mean) / std, labels, weight_decay=weight_decay, steps=steps)
        onnx = export_onnx(network)
        standardisation = Standardisation(mean=tuple(mean.tolist()), std=tuple(std.tolist()))
        logits = predict(network, standardisation.apply(data.records))
    training: dict[str, Any] = {
        "widths": list(WIDTHS),
        "seed": SEED,
        "optimiser": "AdamW, full batch, float64",
        "learning_rate": LEARNING_RATE,
        "weight_decay": weight_decay,
        "steps": steps,
        "selection": f"lowest {FOLDS}-fold cross-validated log loss on the training split",
        "cross_validated_log_loss": cv_loss,
    }
    task = "binary classification of breast masses from nuclear measurements; two logits, argmax decides"
    return Build(onnx, describe(NAME, "tabular", task, data, onnx, logits, standardisation, training, output="logits"))
