"""Small networks of every kind that the compiler claims, as torch modules, and their export to ONNX."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head self-attention with separate projections; causal, rotary, or with fewer keys and values if wanted."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        causal: bool = False,
        rotary: int = 0,
        style: str = "half",
        bias: bool = True,
        few: int = 0,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.size, self.causal, self.few, self.style = heads, width // heads, causal, few or heads, style
        self.inner = nn.ModuleList([RMSNorm(self.size) if norm else nn.Identity() for _ in range(2)])
        small = self.size * self.few
        self.q, self.k, self.v, self.out = (nn.Linear(width, wide, bias=bias) for wide in (width, small, small, width))
        if rotary:
            angles = torch.arange(rotary)[:, None] / 100 ** (torch.arange(self.size // 2) * 2 / self.size)[None]
            if style == "half":
                angles = torch.cat([angles, angles], -1)
            elif style == "interleaved":
                angles = angles.repeat_interleave(2, -1)
            elif style == "partial":
                angles = angles[:, : self.size // 4].repeat(1, 2)
            if style == "computed":
                self.register_buffer("steps", 1 / 100 ** (torch.arange(self.size // 2) * 2 / self.size))
            else:
                self.register_buffer("cos", angles.cos())
                self.register_buffer("sin", angles.sin())
        self.rotary = rotary

    def turned(self, x: Tensor) -> Tensor:
        if not self.rotary:
            return x
        half = self.size // 2
        if self.style == "computed":  # as transformers' language models do
            angles = torch.arange(x.shape[-2]).float()[:, None] * self.steps
            angles = torch.cat([angles, angles], -1)
            return x * angles.cos() + torch.cat([-x[..., half:], x[..., :half]], -1) * angles.sin()
        if self.style == "partial":
            x, rest = x[..., :half], x[..., half:]
            low, high = x.chunk(2, -1)
            return torch.cat([x * self.cos + torch.cat([-high, low], -1) * self.sin, rest], -1)
        if self.style == "interleaved":
            turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
            return x * self.cos + turned * self.sin
        if self.style == "split":
            low, high = x[..., :half], x[..., half:]
            return torch.cat([low * self.cos - high * self.sin, high * self.cos + low * self.sin], -1)
        if self.style == "complex":
            low, high = x.unflatten(-1, (half, 2)).unbind(-1)
            made = torch.stack([low * self.cos - high * self.sin, low * self.sin + high * self.cos], -1)
            return made.flatten(-2)
        return x * self.cos + torch.cat([-x[..., half:], x[..., :half]], -1) * self.sin

    def forward(self, x: Tensor) -> Tensor:
        _, tokens, width = x.shape
        q = self.q(x).view(-1, tokens, self.heads, self.size).transpose(1, 2)
        k, v = (each(x).view(-1, tokens, self.few, self.size).transpose(1, 2) for each in (self.k, self.v))
        q, k = self.inner[0](q), self.inner[1](k)
        if 1 < self.few < self.heads:
            shape = (-1, self.few, self.heads // self.few, tokens, self.size)
            k, v = (each[:, :, None].expand(shape).reshape(-1, self.heads, tokens, self.size) for each in (k, v))
        scores = self.turned(q) @ self.turned(k).transpose(-1, -2) / math.sqrt(self.size)
        if self.causal:
            scores = scores + torch.full((tokens, tokens), -1e4).triu(1)
        mixed = scores.softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(-1, tokens, width))


class RMSNorm(nn.Module):
    """Root mean square normalisation, written out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class WrittenLayerNorm(nn.Module):
    """Layer normalisation, written out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(width) + 0.5), nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * self.weight + self.bias


class Gated(nn.Module):
    """SwiGLU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(width, hidden), nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """A pre-normalised transformer block."""

    def __init__(self, width: int, mixer: nn.Module, norm: Callable[[int], nn.Module], inner: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.mixer, self.inner = norm(width), norm(width), mixer, inner

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixer(self.first(x))
        return x + self.inner(self.second(x))


class PostBlock(Block):
    """A post-normalised one."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x + self.mixer(x))
        return self.second(x + self.inner(x))


class LayerScale(nn.Module):
    """A residual block of an MLP whose branch is scaled, one gain a feature."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(width), mlp(width, 2 * width)
        self.gain = nn.Parameter(torch.rand(width) * 0.5 + 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gain * self.inner(self.norm(x))


class ConvNeXt(nn.Module):
    """Patch stem, and blocks of a depthwise convolution, a norm and an MLP over the last axis, and a LayerScale."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 2, 2), nn.Linear(8, 3)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm, self.inner = nn.LayerNorm(8), mlp(8, 16)
        self.gain, self.last = nn.Parameter(torch.rand(8, 1, 1) * 0.5 + 0.1), nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        inner = self.inner(self.norm(self.depth(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        x = x + self.gain * inner
        return self.head(self.last(x.mean((2, 3))))


class UNet(nn.Module):
    """Down by pooling, up by a transposed convolution, a skip by concatenation, and resizing at the end."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.first, self.down = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.up, self.head = nn.ConvTranspose2d(8, 6, 2, 2), nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = torch.relu(self.first(x))
        x = torch.relu(self.down(functional.max_pool2d(skip, 2)))
        x = self.head(torch.cat([skip, self.up(x)], 1))
        return functional.interpolate(x, scale_factor=2, mode=self.mode)


class Mixer(nn.Module):
    """MLP-Mixer: an MLP over patches, then one over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 3)
        self.first, self.second, self.last = (nn.LayerNorm(16) for _ in range(3))
        self.patches, self.channels = mlp(16, 24), mlp(16, 24)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = x + self.patches(self.first(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.channels(self.second(x))
        return self.head(self.last(x).mean(1))


class TorchAttention(nn.Module):
    """torch's own multi-head attention: one packed projection, taken apart by a reshape."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.MultiheadAttention(16, 4, batch_first=True), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(x, x, x, need_weights=False)[0])


class Products(Attention):
    """Attention by torch's fused function, or by einsum."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__(16, 4)
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (each(x).view(-1, 7, 4, 4) for each in (self.q, self.k, self.v))
        if self.fused:
            q, k, v = (each.transpose(1, 2) for each in (q, k, v))
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
        else:
            mixed = torch.einsum("bhts,bshd->bthd", torch.einsum("bthd,bshd->bhts", q, k).softmax(-1), v)
        return self.out(mixed.flatten(2))


def groups2d(groups: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.GroupNorm(groups, 8), nn.SiLU(), nn.ConvTranspose2d(8, 8, 2, 2, groups=groups),
        nn.ReLU(), nn.Conv2d(8, 2, 1),
    )  # fmt: skip


def shuffled() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.PixelShuffle(2), nn.ReLU(), nn.Conv2d(2, 4, 1), nn.PixelUnshuffle(2), nn.Conv2d(16, 2, 1)
    )


def mlp(width: int, hidden: int, activation: nn.Module | None = None) -> nn.Module:
    return nn.Sequential(nn.Linear(width, hidden), activation or nn.GELU(), nn.Linear(hidden, width))


class Sequence(nn.Module):
    """Features of tokens → positions → blocks → norm → mean → classes."""

    def __init__(self, features: int, tokens: int, width: int, blocks: list[nn.Module], norm: nn.Module | None) -> None:
        super().__init__()
        self.embed, self.place = nn.Linear(features, width), nn.Parameter(torch.randn(tokens, width) * 0.1)
        self.blocks, self.norm, self.head = nn.Sequential(*blocks), norm or nn.Identity(), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.embed(x) + self.place)).mean(1))


class ViT(nn.Module):
    """Patch stem, class token, blocks, head on the class token."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, 4)
        self.token, self.place = nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 17, 16))
        self.blocks = nn.Sequential(*(Block(16, Attention(16, 4), nn.LayerNorm, mlp(16, 32)) for _ in range(2)))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.place
        return self.head(self.norm(self.blocks(x))[:, 0])


class Tokens(nn.Module):
    """Token ids, as float32 numbers, through an embedding."""

    def __init__(self, *, causal: bool = False) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(20, 16), nn.Parameter(torch.randn(12, 16))
        self.block = Block(16, Attention(16, 4, causal=causal), nn.LayerNorm, mlp(16, 32))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.norm(self.block(self.embed(ids.long()) + self.place)).mean(1))


class Graph(nn.Module):
    """Two rounds of mean aggregation; the adjacency is constant, or the last columns of each record."""

    def __init__(self, *, constant: bool) -> None:
        super().__init__()
        if constant:
            self.register_buffer("near", torch.rand(6, 6))
        self.constant = constant
        self.first, self.second, self.head = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        near, x = (self.near, x) if self.constant else (x[..., 5:], x[..., :5])
        x = torch.relu(self.first(near @ x))
        x = torch.relu(self.second(near @ x) + x)
        return self.head(x.mean(1))


class Residual2d(nn.Module):
    """Convolutions with batch normalisation and a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1))
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.body(x))
        x = functional.max_pool2d(torch.relu(self.grouped(self.depth(x))), 2)
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Fused(nn.Module):
    """Query, key and value from one projection, cut by chunk or by view."""

    def __init__(self, *, view: bool) -> None:
        super().__init__()
        self.view, self.qkv, self.out = view, nn.Linear(16, 48), nn.Linear(16, 16)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        made = self.qkv(self.norm(x))
        if self.view:
            q, k, v = made.view(-1, 7, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            q, k, v = (each.view(-1, 7, 4, 4).transpose(1, 2) for each in made.chunk(3, -1))
        mixed = (q @ k.transpose(-1, -2) / 2).softmax(-1) @ v
        return self.head((x + self.out(mixed.transpose(1, 2).reshape(-1, 7, 16))).mean(1))


def encoder(**options: object) -> nn.Module:
    """torch's own encoder layer."""
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.0, **options)  # type: ignore[arg-type]
    return nn.Sequential(nn.Linear(5, 16), layer, Mean(), nn.Linear(16, 3))


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def conv1d() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 8, 5, stride=2, padding=2), nn.GELU(), nn.Conv1d(8, 8, 3), nn.SiLU(), nn.AvgPool1d(2),
        nn.Flatten(), nn.Linear(8 * 7, 4),
    )  # fmt: skip


def patch3d() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 16, 4, 4), nn.ReLU(), nn.Conv3d(16, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )


def autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 2, 2), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Tanh(), nn.ConvTranspose2d(4, 8, 2, 2), nn.ReLU(),
        nn.Conv2d(8, 1, 1),
    )  # fmt: skip


def block(**options: object) -> nn.Module:
    return Block(16, Attention(16, 4, **options), nn.LayerNorm, mlp(16, 32))  # type: ignore[arg-type]


def sequence(*blocks: nn.Module, norm: nn.Module | None = None) -> nn.Module:
    return Sequence(5, 7, 16, list(blocks), norm)


def with_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(9, 16), nn.LayerNorm(16), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))


def activations() -> nn.Module:
    kinds = (
        *(nn.Sigmoid(), nn.Tanh(), nn.SiLU(), nn.GELU("tanh"), nn.PReLU(8), nn.LeakyReLU()),
        *(nn.Hardswish(), nn.Softplus(), nn.ELU()),
    )
    return nn.Sequential(*(each for kind in kinds for each in (nn.Linear(8, 8), kind)), nn.Linear(8, 1))


def llama() -> nn.Module:
    blocks = [Block(16, Attention(16, 4, bias=False, rotary=7), RMSNorm, Gated(16, 24)) for _ in range(2)]
    return sequence(*blocks, norm=RMSNorm(16))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp with layer norm": (with_norm, (9,)),
    "activations": (activations, (8,)),
    "softmax at the end": (lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.Softmax(-1)), (6,)),
    "transformer": (lambda: sequence(block(), block(), norm=nn.LayerNorm(16)), (7, 5)),
    "transformer without bias": (lambda: sequence(block(bias=False)), (7, 5)),
    "causal": (lambda: sequence(block(causal=True)), (7, 5)),
    "rotary": (lambda: sequence(block(rotary=7)), (7, 5)),
    "U-Net, nearest": (lambda: UNet("nearest"), (2, 8, 8)),
    "U-Net, bilinear": (lambda: UNet("bilinear"), (2, 8, 8)),
    "Mixer": (Mixer, (3, 16, 16)),
    "torch attention": (TorchAttention, (7, 16)),
    "fused attention": (lambda: Products(fused=True), (7, 16)),
    "einsum attention": (lambda: Products(fused=False), (7, 16)),
    "groups": (lambda: groups2d(4), (2, 8, 8)),
    "groups of one": (lambda: groups2d(8), (2, 8, 8)),
    "pixel shuffle": (shuffled, (2, 8, 8)),
    "norm, flattened": (
        lambda: nn.Sequential(nn.Linear(5, 16), nn.LayerNorm(16), nn.Flatten(), nn.Linear(112, 3)),
        (7, 5),
    ),
    "layer scale": (lambda: sequence(LayerScale(16), LayerScale(16), norm=nn.LayerNorm(16)), (7, 5)),
    "ConvNeXt": (ConvNeXt, (3, 8, 8)),
    "rotary, interleaved": (lambda: sequence(block(rotary=7, style="interleaved")), (7, 5)),
    "rotary, split": (lambda: sequence(block(rotary=7, style="split")), (7, 5)),
    "rotary, complex": (lambda: sequence(block(rotary=7, style="complex")), (7, 5)),
    "rotary, partial": (lambda: sequence(block(rotary=7, style="partial")), (7, 5)),
    "rotary, computed": (lambda: sequence(block(rotary=7, style="computed")), (7, 5)),
    "rotary, normed": (lambda: sequence(block(rotary=7, norm=True)), (7, 5)),
    "rotary, grouped": (lambda: sequence(block(rotary=7, few=2)), (7, 5)),
    "grouped keys and values": (lambda: sequence(block(few=2)), (7, 5)),
    "shared keys and values": (lambda: sequence(block(few=1)), (7, 5)),
    "llama": (llama, (7, 5)),
    "written norms": (
        lambda: sequence(Block(16, Attention(16, 4), WrittenLayerNorm, mlp(16, 32)), norm=WrittenLayerNorm(16)),
        (7, 5),
    ),
    "post-norm": (lambda: sequence(PostBlock(16, Attention(16, 4), nn.LayerNorm, mlp(16, 32))), (7, 5)),
    "fused by chunk": (lambda: Fused(view=False), (7, 16)),
    "fused by view": (lambda: Fused(view=True), (7, 16)),
    "torch encoder, pre-norm": (lambda: encoder(norm_first=True), (7, 5)),
    "torch encoder, post-norm": (lambda: encoder(norm_first=False), (7, 5)),
    "ViT": (ViT, (3, 16, 16)),
    "tokens": (Tokens, (12,)),
    "causal tokens": (lambda: Tokens(causal=True), (12,)),
    "constant adjacency": (lambda: Graph(constant=True), (6, 5)),
    "adjacency in the record": (lambda: Graph(constant=False), (6, 11)),
    "residual CNN": (Residual2d, (2, 8, 8)),
    "conv1d": (conv1d, (2, 32)),
    "patch3d": (patch3d, (1, 8, 8, 8)),
    "autoencoder": (autoencoder, (1, 8, 8)),
}  # fmt: skip


def exported(name: str, *, dynamo: bool = False, opset: int | None = None) -> tuple[bytes, Tensor]:
    """A network with random weights as ONNX with an open batch axis, and some records for it."""
    make, shape = NETWORKS[name]
    torch.manual_seed(3)
    network = make().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    records = torch.randint(0, 20, (9, *shape)).float() if "tokens" in name else torch.randn(9, *shape)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            batch = torch.export.Dim("batch")
            program = torch.onnx.export(
                network, (records[:2],), dynamo=True, dynamic_shapes=({0: batch},), verbose=False, opset_version=opset
            )
            program.save(buffer)
        else:
            torch.onnx.export(
                network, (records[:2],), buffer, dynamo=False, opset_version=opset or 17, input_names=["records"],
                output_names=["outputs"], dynamic_axes={"records": {0: "batch"}, "outputs": {0: "batch"}},
            )  # fmt: skip
    return buffer.getvalue(), records
