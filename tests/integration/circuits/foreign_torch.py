"""Small networks of ezkl's examples that torch's exporter writes as graphs of many operators."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


class Recurrent(nn.Module):
    """A recurrent layer whose last step is the output."""

    def __init__(self, layer: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.layer = layer(3, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0][:, -1]


class Convolutional(nn.Module):
    """Convolutions, then dense layers, as LeNet has them; `pool` between."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 3, 3, stride=2)
        self.dense = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv1(x))
        x = functional.relu(self.conv2(x))
        return self.dense(x.flatten(1))


class Residual(nn.Module):
    """A block of a ResNet with its batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (
            nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, bias=False), nn.BatchNorm2d(2)) for _ in range(2)
        )
        self.head = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(x + self.two(functional.relu(self.one(x))))
        return self.head(x.mean(dim=(2, 3)))


class Attention(nn.Module):
    """Self-attention over four places, heads and scores written out, with a causal mask."""

    def __init__(self, width: int = 4, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.register_buffer("mask", torch.tril(torch.ones(4, 4)))

    def forward(self, x: Tensor) -> Tensor:
        batch, places, width = x.shape
        q, k, v = (
            each.view(batch, places, self.heads, width // self.heads).transpose(1, 2)
            for each in self.project(x).split(width, dim=2)
        )
        scores = q @ k.transpose(-2, -1) / (width // self.heads) ** 0.5
        scores = scores.masked_fill(self.mask == 0, -10.0).softmax(dim=-1)
        return self.out((scores @ v).transpose(1, 2).reshape(batch, places, width))


class Block(nn.Module):
    """A transformer's block: attention, norms, and an MLP with GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.norm1, self.norm2 = Attention(), nn.LayerNorm(4), nn.LayerNorm(4)
        self.mlp = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return (x + self.mlp(self.norm2(x))).mean(dim=1)


class Tree(nn.Module):
    """A decision tree as products of comparisons (Hummingbird's "GEMM" form)."""

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.register_buffer("a", torch.eye(6)[:, :3].contiguous())
        self.register_buffer("b", torch.randn(3, generator=random))
        self.register_buffer("c", torch.tensor([[1.0, 1, -1, -1], [1, -1, 0, 0], [0, 0, 1, -1]]))
        self.register_buffer("d", torch.tensor([2.0, 1, 1, 0]))
        self.register_buffer("e", torch.randn(4, 2, generator=random))

    def forward(self, x: Tensor) -> Tensor:
        decisions = (x @ self.a < self.b).float()
        return (decisions @ self.c == self.d).float() @ self.e


class Trend(nn.Module):
    """A linear forecast from a series' moving average and its rest (LTSF's DLinear)."""

    def __init__(self) -> None:
        super().__init__()
        self.average, self.trend, self.rest = nn.AvgPool1d(3, stride=1), nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        front, end = x[:, :1], x[:, -1:]
        trend = self.average(torch.cat([front, x, end], dim=1).unsqueeze(1)).squeeze(1)
        return self.trend(trend) + self.rest(x - trend)


class Called(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _generator() -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.LeakyReLU(0.2), nn.Linear(8, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4))
    )


def _variable() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3), nn.LogSoftmax(dim=1)
    )


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "torch_mlp": (lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3), nn.Sigmoid()), (1, 4)),
    "torch_linear_regression": (lambda: nn.Linear(5, 1), (1, 5)),
    "torch_conv_fc": (Convolutional, (1, 1, 8, 8)),
    "torch_residual": (Residual, (1, 2, 4, 4)),
    "torch_variable_cnn": (_variable, (1, 1, 6, 6)),
    "torch_mnist_gan": (_generator, (1, 4)),
    "torch_rnn": (lambda: Recurrent(nn.RNN), (1, 3, 3)),
    "torch_gru": (lambda: Recurrent(nn.GRU), (1, 3, 3)),
    "torch_lstm": (lambda: Recurrent(nn.LSTM), (1, 3, 3)),
    "torch_self_attention": (Attention, (1, 4, 4)),
    "torch_transformer_block": (Block, (1, 4, 4)),
    "torch_layernorm": (lambda: nn.LayerNorm(6), (1, 6)),
    "torch_gelu": (nn.GELU, (1, 6)),
    "torch_hard_swish": (nn.Hardswish, (1, 6)),
    "torch_celu": (nn.CELU, (1, 6)),
    "torch_selu": (nn.SELU, (1, 6)),
    "torch_mish": (nn.Mish, (1, 6)),
    "torch_softsign": (nn.Softsign, (1, 6)),
    "torch_pixel_unshuffle": (lambda: nn.PixelUnshuffle(2), (1, 1, 4, 4)),
    "torch_decision_tree": (Tree, (1, 6)),
    "torch_ltsf": (Trend, (1, 8)),
    "torch_var": (lambda: Called(lambda x: x.var(dim=1, keepdim=True)), (1, 6)),
    "torch_std": (lambda: Called(lambda x: x.std(dim=1, keepdim=True)), (1, 6)),
    "torch_logsumexp": (lambda: Called(lambda x: x.logsumexp(dim=1, keepdim=True)), (1, 6)),
    "torch_norm": (lambda: Called(lambda x: x.norm(dim=1, keepdim=True)), (1, 6)),
    "torch_tril": (lambda: Called(lambda x: x.tril()), (1, 4, 4)),
    "torch_remainder": (lambda: Called(lambda x: x % 0.5), (1, 6)),
    "torch_masked_fill": (lambda: Called(lambda x: x.masked_fill(x > 0.5, 0.0)), (1, 6)),
    "torch_upsample": (lambda: nn.Upsample(scale_factor=2), (1, 1, 3, 3)),
    "torch_interpolate": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), (1, 1, 3, 3)),
    "torch_adaptive_pool": (lambda: nn.AdaptiveAvgPool2d(1), (1, 2, 4, 4)),
    "torch_prelu": (lambda: nn.PReLU(3), (1, 3, 4)),
}


def _multihead() -> Callable[[Tensor], Tensor]:
    layer = nn.MultiheadAttention(4, 2, batch_first=True).eval()
    for weight in layer.parameters():
        weight.requires_grad_(False)
    return lambda x: layer(x, x, x, need_weights=False)[0]


def exported(name: str) -> bytes:
    """The network as an ONNX file; its batch axis is ``batch_size``, as in ezkl's examples."""
    make, shape = MODULES[name]
    torch.manual_seed(0)
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            make().eval(),
            (torch.randn(shape),),
            stream,
            dynamo=False,
            opset_version=17,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {0: "batch_size"}, "output": {0: "batch_size"}},
        )
    return stream.getvalue()
