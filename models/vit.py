"""A vision transformer that tells grey from white matter at the middle of an MR image patch.

Patch stem, learned positions, two pre-norm blocks with LayerNorm and exact GELU, mean over the patches.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.layers import MLP, Attention, Block
from models.training import Recipe

SIDE, PATCH, WIDTH, HEADS, BLOCKS = 24, 6, 64, 4, 2
TOKENS = (SIDE // PATCH) ** 2


class ViT(nn.Module):
    """``[batch, 1, 24, 24]`` intensities in units of the training spread to ``[batch, 3]`` logits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, WIDTH, kernel_size=PATCH, stride=PATCH)
        self.position = nn.Parameter(0.02 * torch.randn(1, TOKENS, WIDTH))
        self.blocks = nn.ModuleList(
            Block(Attention(TOKENS, WIDTH, HEADS), MLP(WIDTH, 2 * WIDTH), (nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)))
            for _ in range(BLOCKS)
        )
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, records: Tensor) -> Tensor:
        x = self.stem(records).view(-1, WIDTH, TOKENS).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(dim=1))


RECIPE = Recipe(
    name="vit",
    modality="2-D imaging (MR)",
    task="tissue at the middle of a sagittal T1 window; three logits, argmax decides",
    network=ViT,
    epochs=10,
    learning_rate=2e-3,
    weight_decay=0.05,
    standardise="whole",
)
