"""An encrypted or plain ONNX model as somebody trains it: in torch, with gradients for every stored weight."""

from __future__ import annotations

from typing import Any

from rexis.ee.attacks.target import NotApplicableError
from rexis.protocol.errors import TrainingError, UnavailableError

try:
    import torch
except ImportError as error:
    raise UnavailableError("gradient inversion needs torch", hint="pip install 'rexis[models]'") from error

from rexis.training.graph import Graph


class Network(Graph):
    """The graph that workers train, in float64 and with every value at hand."""

    def __init__(self, model: bytes) -> None:
        try:
            super().__init__(model, floats=torch.float64, fusing=False)
        except TrainingError as error:
            raise NotApplicableError(error.message) from error

    def gradient(self, record: Any, *, create_graph: bool = False) -> dict[str, Any]:
        """Of the squared distance of one record's outputs from 1, for each weight that it reaches."""
        loss = ((self(record) - 1.0) ** 2).mean()
        made = torch.autograd.grad(loss, list(self.weights.values()), create_graph=create_graph, allow_unused=True)
        return {name: each for name, each in zip(self.weights, made, strict=True) if each is not None}
