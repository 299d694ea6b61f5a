"""A small MLP with LayerNorm and GELU that predicts how far a patient's diabetes has got a year later."""

from __future__ import annotations

from torch import Tensor, nn

from models.training import Recipe

FEATURES, WIDTH = 10, 32


class DiabetesMLP(nn.Module):
    """``[batch, 10]`` standardised measurements to ``[batch, 1]`` progression, on the data's scale of 25 to 346."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(FEATURES, WIDTH), nn.LayerNorm(WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH), nn.GELU()
        )
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, records: Tensor) -> Tensor:
        return self.head(self.body(records))


RECIPE = Recipe(
    name="diabetes",
    modality="tabular",
    task="disease progression one year after baseline; regression",
    network=DiabetesMLP,
    epochs=30,
    learning_rate=2e-3,
    weight_decay=1.0,
    batch=32,
    standardise="feature",
)
