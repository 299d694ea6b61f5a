"""A two-layer graph network that names a blood cell by its expression and its neighbours'.

A record packs the graph and the expression: ``[10 cells, 10 weights + 64 genes]``. Each layer adds a cell's own linear
map to one of its weighted neighbourhood, ``relu(X U + A X V)``; the head reads the first cell.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.training import Recipe

CELLS, GENES, WIDTH, TYPES = 10, 64, 32, 10


class GraphLayer(nn.Module):
    """``relu(X U + A X V)`` over ``X [batch, cells, width]`` and weights ``A [batch, cells, cells]``."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.own = nn.Linear(width, out)
        self.neighbours = nn.Linear(width, out, bias=False)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return (self.own(x) + weights @ self.neighbours(x)).relu()


class CellGraph(nn.Module):
    """``[batch, 10, 10 + 64]`` weights and scaled expression to ``[batch, 10]`` logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = GraphLayer(GENES, WIDTH)
        self.layer2 = GraphLayer(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, TYPES)

    def forward(self, records: Tensor) -> Tensor:
        weights, x = records[..., :CELLS], records[..., CELLS:]
        x = self.layer2(self.layer1(x, weights), weights)
        return self.head(x[:, 0])


RECIPE = Recipe(
    name="omics",
    modality="single-cell omics",
    task="type of a neighbourhood's first cell; ten logits, argmax decides",
    network=CellGraph,
    epochs=40,
    learning_rate=2e-3,
    weight_decay=3.0,
)
