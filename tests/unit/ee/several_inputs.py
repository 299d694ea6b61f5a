"""Small networks with several inputs, as torch modules, and their export to ONNX."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.unit.ee.torch_networks import mlp

RECORDS, NODES, FEATURES, TOKENS, WIDTH = 9, 7, 5, 6, 16
Arrays = dict[str, NDArray[np.generic]]


class GraphConvolution(nn.Module):
    """``ReLU(A X W + b)`` twice, with an adjacency that is an input; normalised by the nodes' degrees if wanted."""

    def __init__(self, *, normalised: bool) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(FEATURES, WIDTH), nn.Linear(WIDTH, 8), nn.Linear(8, 3)
        self.normalised = normalised

    def forward(self, features: Tensor, adjacency: Tensor) -> Tensor:
        if self.normalised:
            adjacency = adjacency / adjacency.sum(-1, keepdim=True)
        hidden = self.first(adjacency @ features).relu()
        return self.head(self.second(adjacency @ hidden).relu().mean(1))


class GraphAttention(nn.Module):
    """Attention over neighbours only: scores of other pairs are replaced where the edge mask says so."""

    def __init__(self) -> None:
        super().__init__()
        self.value, self.head = nn.Linear(FEATURES, WIDTH), nn.Linear(WIDTH, 3)
        self.source, self.target = nn.Linear(WIDTH, 1), nn.Linear(WIDTH, 1)

    def forward(self, features: Tensor, edges: Tensor) -> Tensor:
        value = self.value(features)
        scores = nn.functional.leaky_relu(self.target(value) + self.source(value).transpose(1, 2), 0.2)
        weights = scores.masked_fill(~edges, float("-inf")).softmax(-1)
        return self.head(nn.functional.elu(weights @ value).sum(1))


class MaskedAttention(nn.Module):
    """Four heads; scores of padded tokens are masked in one of the ways that people write."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (each(x).view(-1, TOKENS, 4, WIDTH // 4).transpose(1, 2) for each in (self.q, self.k, self.v))
        scores = q @ k.transpose(-1, -2) / math.sqrt(WIDTH // 4)
        here = mask[:, None, None, :]
        if self.how == "added":
            scores = scores + (1.0 - here.to(x.dtype)) * -1e4
        elif self.how == "equal":
            scores = scores.masked_fill(here == 0, -1e4)
        else:
            scores = scores.masked_fill(~here, float("-inf"))
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, TOKENS, WIDTH))


class Encoder(nn.Module):
    """Pre-normalised transformer over features or token ids, with a padding mask and a mean over what is not padded."""

    def __init__(self, how: str, *, tokens: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, WIDTH) if tokens else nn.Linear(FEATURES, WIDTH)
        self.place = nn.Parameter(torch.randn(TOKENS, WIDTH) * 0.1)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))
        self.mixer, self.inner, self.head = MaskedAttention(how), mlp(WIDTH, 32), nn.Linear(WIDTH, 3)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        x = self.embed(values) + self.place
        x = x + self.mixer(self.norms[0](x), mask)
        x = self.norms[2](x + self.inner(self.norms[1](x)))
        kept = mask.to(x.dtype)[:, :, None]
        return self.head((x * kept).sum(1) / kept.sum(1))


class TwoTowers(nn.Module):
    """A small CNN on an image and an MLP on a table, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(2, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.table = nn.Sequential(nn.Linear(FEATURES, 8), nn.GELU())
        self.head = nn.Sequential(nn.Linear(6 + 8, 12), nn.ReLU(), nn.Linear(12, 3))

    def forward(self, image: Tensor, table: Tensor) -> Tensor:
        return self.head(torch.cat([self.image(image), self.table(table)], 1))


class TwoVocabularies(nn.Module):
    """Token ids and segment ids, each with an embedding of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.word, self.segment, self.head = nn.Embedding(20, WIDTH), nn.Embedding(4, WIDTH), mlp(WIDTH, 8)

    def forward(self, words: Tensor, segments: Tensor) -> Tensor:
        return self.head(self.word(words) + self.segment(segments)).mean(1)


@dataclass
class Case:
    """A network and the names of its inputs."""

    make: Callable[[], nn.Module]
    inputs: dict[str, Callable[[], Tensor]]


def padding() -> Tensor:
    return torch.arange(TOKENS) < torch.randint(1, TOKENS + 1, (RECORDS, 1))


def adjacency() -> Tensor:
    edges = torch.rand(RECORDS, NODES, NODES) * (torch.rand(RECORDS, NODES, NODES) < 0.4)
    return edges + torch.eye(NODES)


def nodes() -> Tensor:
    return torch.randn(RECORDS, NODES, FEATURES)


def sequence() -> Tensor:
    return torch.randn(RECORDS, TOKENS, FEATURES)


def words() -> Tensor:
    return torch.randint(0, 20, (RECORDS, TOKENS))


CASES: dict[str, Case] = {
    "GCN": Case(lambda: GraphConvolution(normalised=False), {"features": nodes, "adjacency": adjacency}),
    "normalised GCN": Case(lambda: GraphConvolution(normalised=True), {"features": nodes, "adjacency": adjacency}),
    "GAT": Case(GraphAttention, {"features": nodes, "edges": lambda: adjacency() > 0}),
    "float mask": Case(lambda: Encoder("added"), {"values": sequence, "mask": lambda: padding().float()}),
    "int mask": Case(lambda: Encoder("equal"), {"values": sequence, "mask": lambda: padding().long()}),
    "bool mask": Case(lambda: Encoder("infinite"), {"values": sequence, "mask": padding}),
    "tokens and mask": Case(lambda: Encoder("equal", tokens=True), {"values": words, "mask": lambda: padding().long()}),
    "two towers": Case(
        TwoTowers, {"image": lambda: torch.randn(RECORDS, 2, 9, 9), "table": lambda: torch.randn(RECORDS, FEATURES)}
    ),
    "two vocabularies": Case(
        TwoVocabularies, {"words": words, "segments": lambda: torch.randint(0, 4, (RECORDS, TOKENS))}
    ),
}


def exported(name: str, *, dynamo: bool = False) -> tuple[bytes, Arrays]:
    """A network with random weights as ONNX with an open batch axis, and some records for it."""
    torch.manual_seed(5)
    case = CASES[name]
    network = case.make().eval()
    records = {each: make() for each, make in case.inputs.items()}
    given, names = tuple(each[:2] for each in records.values()), list(records)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            batch = torch.export.Dim("batch")
            shapes = tuple({0: batch} for _ in names)
            torch.onnx.export(
                network, given, dynamo=True, dynamic_shapes=shapes, input_names=names, verbose=False
            ).save(buffer)  # fmt: skip
        else:
            torch.onnx.export(
                network, given, buffer, dynamo=False, opset_version=17, input_names=names, output_names=["outputs"],
                dynamic_axes={each: {0: "batch"} for each in (*names, "outputs")},
            )  # fmt: skip
    return buffer.getvalue(), {each: tensor.numpy() for each, tensor in records.items()}


def run_inputs(model: bytes, records: Arrays) -> NDArray[np.float32]:
    """Outputs of a model in ONNX Runtime, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    outputs: NDArray[np.float32] = session.run(None, dict(records))[0]
    return outputs
