"""A 3-D patch model that measures how much grey and white matter a cube of an MR volume holds.

A stem of 4 voxel cubes (8 mm) and a transformer block with the tanh GELU; the patches are averaged for the head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.layers import MLP, Attention, Block
from models.training import Recipe

SIDE, PATCH, WIDTH, HEADS = 12, 4, 48, 4
TOKENS = (SIDE // PATCH) ** 3


class VolumeTransformer(nn.Module):
    """``[batch, 1, 12, 12, 12]`` standardised intensities to ``[batch, 2]`` shares between 0 and 1."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(1, WIDTH, kernel_size=PATCH, stride=PATCH)
        self.position = nn.Parameter(0.02 * torch.randn(1, TOKENS, WIDTH))
        self.block = Block(
            Attention(TOKENS, WIDTH, HEADS),
            MLP(WIDTH, 3 * WIDTH, approximate="tanh"),
            (nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)),
        )
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, records: Tensor) -> Tensor:
        x = self.stem(records).view(-1, WIDTH, TOKENS).transpose(1, 2) + self.position
        return self.head(self.norm(self.block(x)).mean(dim=1))


RECIPE = Recipe(
    name="volume",
    modality="volumetric imaging (MR)",
    task="shares of grey and white matter in a 24 mm cube; regression",
    network=VolumeTransformer,
    epochs=12,
    learning_rate=2e-3,
    weight_decay=0.05,
    standardise="whole",
)
