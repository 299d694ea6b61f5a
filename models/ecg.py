"""A 1-D patch transformer that tells the phase of the heartbeat at the middle of an ECG window.

Patch stem, two pre-norm blocks in the style of today's language models (RMSNorm, rotary positions, gated SiLU), then
one linear head over all patches.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.datasets import ECG_WINDOW
from models.layers import Attention, Block, GatedMLP, RMSNorm
from models.training import Recipe

PATCH, WIDTH, HEADS, BLOCKS = 16, 32, 4, 2
TOKENS = ECG_WINDOW // PATCH


class ECGTransformer(nn.Module):
    """``[batch, 1, 320]`` scaled samples at 360 Hz to ``[batch, 4]`` logits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, WIDTH, kernel_size=PATCH, stride=PATCH)
        self.blocks = nn.ModuleList(
            Block(
                Attention(TOKENS, WIDTH, HEADS, rotary=True),
                GatedMLP(WIDTH, 2 * WIDTH),
                (RMSNorm(WIDTH), RMSNorm(WIDTH)),
            )
            for _ in range(BLOCKS)
        )
        self.norm = RMSNorm(WIDTH)
        self.head = nn.Linear(TOKENS * WIDTH, 4)

    def forward(self, records: Tensor) -> Tensor:
        x = self.stem(records).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).reshape(-1, TOKENS * WIDTH))


RECIPE = Recipe(
    name="ecg",
    modality="biosignals (ECG)",
    task="phase of the heartbeat at the window's middle; four logits, argmax decides",
    network=ECGTransformer,
    epochs=6,
    learning_rate=2e-3,
    weight_decay=1.0,
)
