"""A transformer encoder that tells antimicrobial peptides from others by their residues.

Token embedding, learned positions, two pre-norm blocks with LayerNorm and ReLU; padding is kept out of the attention by
a large negative bias looked up by token, and the head reads the ``<cls>`` token.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.datasets import PEPTIDE_VOCABULARY
from models.layers import Attention, Block
from models.training import Recipe

TOKENS, WIDTH, HEADS, BLOCKS = 51, 48, 4, 2


class PeptideEncoder(nn.Module):
    """``[batch, 51]`` token numbers, as float32, to ``[batch, 2]`` logits."""

    def __init__(self) -> None:
        super().__init__()
        words = len(PEPTIDE_VOCABULARY)
        self.embedding = nn.Embedding(words, WIDTH)
        nn.init.normal_(self.embedding.weight, std=0.3)
        self.position = nn.Parameter(0.1 * torch.randn(1, TOKENS, WIDTH))
        padding = torch.zeros(words, 1)
        padding[PEPTIDE_VOCABULARY.index("<pad>")] = -1e4
        self.register_buffer("padding", padding)
        self.blocks = nn.ModuleList(
            Block(
                Attention(TOKENS, WIDTH, HEADS),
                nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH)),
                (nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)),
            )
            for _ in range(BLOCKS)
        )
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, records: Tensor) -> Tensor:
        tokens = records.long()
        bias = nn.functional.embedding(tokens, self.padding).view(-1, 1, 1, TOKENS)
        x = self.embedding(tokens) + self.position
        for block in self.blocks:
            x = block(x, bias)
        return self.head(self.norm(x[:, 0]))


RECIPE = Recipe(
    name="peptide",
    modality="sequences (protein)",
    task="antimicrobial or not; two logits, argmax decides",
    network=PeptideEncoder,
    epochs=10,
    learning_rate=1e-3,
    weight_decay=2.0,
)
