"""What the zoo's transformers share: attention, blocks and position, each as plain linear maps and a softmax.

Every shape but the batch's is fixed, so that an exported graph has no shape arithmetic in it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention over ``[batch, tokens, width]``; with `rotary`, queries and keys are turned by place.

    Rotary positions: J. Su et al., RoFormer, 2021 (halves, not neighbouring pairs, as in GPT-NeoX).
    """

    def __init__(self, tokens: int, width: int, heads: int, *, rotary: bool = False) -> None:
        super().__init__()
        self.shape = (-1, tokens, heads, width // heads)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.rotary = rotary
        half = width // heads // 2
        angle = torch.outer(torch.arange(tokens), 100.0 ** (-torch.arange(half) / half)).repeat(1, 2)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Attend; `bias` ``[batch, 1, 1, tokens]`` is added to the scores of each token as a key."""
        q, k, v = (project(x).view(self.shape).transpose(1, 2) for project in (self.query, self.key, self.value))
        if self.rotary:
            q, k = self.turn(q), self.turn(k)
        scores = q @ k.transpose(2, 3) * (1 / math.sqrt(self.shape[-1]))
        if bias is not None:
            scores = scores + bias
        mixed = scores.softmax(dim=-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(-1, self.shape[1], self.shape[2] * self.shape[3]))

    def turn(self, x: Tensor) -> Tensor:
        """Turn each pair of ``[batch, heads, tokens, depth]`` by its token's angle."""
        half = self.shape[-1] // 2
        turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
        return x * self.cos + turned * self.sin


class RMSNorm(nn.Module):
    """``gain * x / rms(x)`` over the last axis, written out, as exporters of opset 17 have no node for it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x / torch.sqrt((x * x).mean(dim=-1, keepdim=True) + 1e-5) * self.gain


class MLP(nn.Module):
    """Two linear maps with a GELU between: exact, or the tanh form."""

    def __init__(self, width: int, hidden: int, *, approximate: str = "none") -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.act = nn.GELU(approximate=approximate)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.act(self.up(x)))


class GatedMLP(nn.Module):
    """``down(silu(gate(x)) * up(x))``, without biases (N. Shazeer, GLU variants improve transformer, 2020)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """Pre-norm transformer block: ``x + attention(norm(x))``, then ``x + mlp(norm(x))``."""

    def __init__(self, attention: Attention, mlp: nn.Module, norms: tuple[nn.Module, nn.Module]) -> None:
        super().__init__()
        self.attention, self.mlp = attention, mlp
        self.norm1, self.norm2 = norms

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        x = x + self.attention(self.norm1(x), bias)
        return x + self.mlp(self.norm2(x))
