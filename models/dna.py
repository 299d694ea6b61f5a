"""A 1-D convolutional network that tells which 9-mers the human genome uses as 5' splice sites.

Token embedding, two convolutions with SiLU, and a linear head over all places, since each place has its own meaning.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.training import Recipe

TOKENS, WIDTH, HIDDEN = 9, 16, 32


class SpliceCNN(nn.Module):
    """``[batch, 9]`` nucleotide numbers (A, C, G, U), as float32, to ``[batch, 2]`` logits."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(4, WIDTH)
        self.conv1 = nn.Conv1d(WIDTH, HIDDEN, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(HIDDEN, HIDDEN, kernel_size=3, padding=1)
        self.hidden = nn.Linear(HIDDEN * TOKENS, HIDDEN)
        self.head = nn.Linear(HIDDEN, 2)

    def forward(self, records: Tensor) -> Tensor:
        x = self.embedding(records.long()).transpose(1, 2)
        x = nn.functional.silu(self.conv1(x))
        x = nn.functional.silu(self.conv2(x))
        return self.head(nn.functional.silu(self.hidden(x.view(-1, HIDDEN * TOKENS))))


RECIPE = Recipe(
    name="dna",
    modality="sequences (DNA/RNA)",
    task="used as a 5' splice site or not; two logits, argmax decides",
    network=SpliceCNN,
    epochs=8,
    learning_rate=3e-3,
    weight_decay=0.05,
    batch=256,
)
