"""The breast cancer MLP with squares in place of ReLU: what CKKS, which only adds and multiplies, can evaluate.

Same widths, optimiser, seed and selection as :mod:`models.breast_cancer`. Two things differ, because x² has no upper
bound on its slope: records are clipped (by the data owner, before encryption), and weights start small with hidden
biases of 1, so that each unit starts out near ``(1 + wx)² ≈ 1 + 2wx``. That keeps activations within two digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.breast_cancer import WIDTHS, build_network, export_onnx, select, train
from models.training import one_thread
from models.zoo import training_split

CLIP = 3.0  # standard deviations
WEIGHT_SCALE = 0.3 / np.sqrt(2)  # of the He-uniform weights; among 0.3, 0.5 and 1 over sqrt(2) the best validation loss

Floats = NDArray[np.float32]
Layer = tuple[Floats, Floats]  # weights [in, out], bias [out]


class Square(nn.Module):
    """x ↦ x²."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x


@dataclass(frozen=True)
class SquareMlp:
    """A trained network: its ONNX file, its layers, and the weight decay and steps that validation chose."""

    onnx: bytes
    layers: tuple[Layer, ...]
    weight_decay: float
    steps: int


def clipped(records: Floats) -> Floats:
    """Standardised records, at most :data:`CLIP` standard deviations from the mean."""
    return np.clip(records, -CLIP, CLIP)


def architecture(seed: int) -> nn.Sequential:
    """Linear-Square-Linear-Square-Linear, float64, drawn from `seed` alone."""
    network = build_network(seed)
    for index, layer in enumerate(network):
        if not isinstance(layer, nn.Linear):
            network[index] = Square()
            continue
        with torch.no_grad():
            layer.weight.mul_(WEIGHT_SCALE)
            layer.bias.fill_(0.0 if layer.out_features == WIDTHS[-1] else 1.0)
    return network


def trained() -> SquareMlp:
    """Select and train on the training split alone; seconds on one core."""
    records, labels = training_split("breast_cancer")
    inputs = clipped(records).astype(np.float64)
    with one_thread():
        weight_decay, steps, _ = select(inputs, labels, architecture=architecture)
        network, _ = train(inputs, labels, weight_decay=weight_decay, steps=steps, architecture=architecture)
        onnx = export_onnx(network)  # rounds the weights to float32
    layers = tuple(
        (layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in network if hasattr(layer, "weight")
    )
    return SquareMlp(onnx, layers, weight_decay, steps)
