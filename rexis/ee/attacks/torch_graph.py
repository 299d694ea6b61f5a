"""An encrypted or plain ONNX model as somebody trains it: in torch, with gradients for every stored weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from rexis.ee.attacks.target import NotApplicableError
from rexis.protocol.errors import UnavailableError

try:
    import torch
except ImportError as error:
    raise UnavailableError("gradient inversion needs torch", hint="pip install 'rexis[models]'") from error


class Network:
    """An ONNX graph in torch, float64, with gradients for every stored float constant of more than one element."""

    def __init__(self, model: bytes) -> None:
        graph = onnx.load_model_from_string(model).graph
        self.nodes: list[onnx.NodeProto] = list(graph.node)
        self.operators = _operators()
        unknown = sorted({node.op_type for node in self.nodes} - {*self.operators, "Constant"})
        if unknown:
            raise NotApplicableError(f"no gradient for {', '.join(unknown)} here")
        self.output = graph.output[0].name
        stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        stored |= {
            node.output[0]: numpy_helper.to_array(node.attribute[0].t)
            for node in self.nodes
            if node.op_type == "Constant"
        }
        self.input = next(value.name for value in graph.input if value.name not in stored)
        self.constants = {}
        for name, array in stored.items():
            tensor = torch.from_numpy(array.astype(np.float64 if array.dtype.kind == "f" else array.dtype))
            learned = array.dtype.kind == "f" and array.size > 1
            self.constants[name] = tensor.requires_grad_() if learned else tensor
        self.weights = {name: each for name, each in self.constants.items() if each.requires_grad}

    def __call__(self, record: Any) -> Any:
        return self.values(record)[self.output]

    def values(self, record: Any) -> dict[str, Any]:
        """Every value by name, on a batch of records."""
        found = {**self.constants, self.input: record}
        for node in self.nodes:
            if node.op_type != "Constant":
                found[node.output[0]] = self.run(node, found)
        return found

    def run(self, node: onnx.NodeProto, values: dict[str, Any]) -> Any:
        """One operator."""
        given = [values[name] if name else None for name in node.input]
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        return self.operators[node.op_type](attributes, *given)

    def gradient(self, record: Any, *, create_graph: bool = False) -> dict[str, Any]:
        """Of the squared distance of one record's outputs from 1, for each weight that it reaches."""
        loss = ((self(record) - 1.0) ** 2).mean()
        made = torch.autograd.grad(loss, list(self.weights.values()), create_graph=create_graph, allow_unused=True)
        return {name: each for name, each in zip(self.weights, made, strict=True) if each is not None}


def _operators() -> dict[str, Callable[..., Any]]:
    from torch.nn import functional

    def gemm(a: dict[str, Any], x: Any, w: Any, b: Any = None) -> Any:
        product = a.get("alpha", 1.0) * x @ (w.T if a.get("transB", 0) else w)
        return product if b is None else product + a.get("beta", 1.0) * b

    def conv(a: dict[str, Any], x: Any, w: Any, b: Any = None) -> Any:
        rank = w.ndim - 2
        pads = a.get("pads", [0] * 2 * rank)
        run = (functional.conv1d, functional.conv2d, functional.conv3d)[rank - 1]
        return run(
            x, w, b, a.get("strides", [1] * rank), list(pads[:rank]), a.get("dilations", [1] * rank), a.get("group", 1)
        )

    def norm(a: dict[str, Any], x: Any, scale: Any, bias: Any = None) -> Any:
        centred = x - x.mean(-1, keepdim=True)
        found = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + a.get("epsilon", 1e-5)) * scale
        return found if bias is None else found + bias

    def batch_norm(a: dict[str, Any], x: Any, scale: Any, bias: Any, mean: Any, var: Any) -> Any:
        shape = (1, -1, *(1 for _ in range(x.ndim - 2)))
        wide = scale / torch.sqrt(var + a.get("epsilon", 1e-5))
        return (x - mean.view(shape)) * wide.view(shape) + bias.view(shape)

    def cut(a: dict[str, Any], x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
        where = [slice(None)] * x.ndim
        axes = range(len(starts)) if axes is None else axes.tolist()
        steps = [1] * len(starts) if steps is None else steps.tolist()
        for axis, start, end, step in zip(axes, starts.tolist(), ends.tolist(), steps, strict=True):
            where[axis] = slice(start, min(end, x.shape[axis]), step)
        return x[tuple(where)]

    def mean(a: dict[str, Any], x: Any, axes: Any = None) -> Any:
        chosen = a["axes"] if axes is None else axes.tolist()
        return x.mean(dim=tuple(chosen), keepdim=bool(a.get("keepdims", 1)))

    def reshape(a: dict[str, Any], x: Any, shape: Any) -> Any:
        return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape.tolist())])

    def gather(a: dict[str, Any], x: Any, index: Any) -> Any:
        axis = a.get("axis", 0)
        if index.ndim > 1 and axis == 0:
            return x[index.long()]
        return x.select(axis, int(index)) if index.ndim == 0 else x.index_select(axis, index)

    return {
        "Gemm": gemm,
        "Conv": conv,
        "LayerNormalization": norm,
        "BatchNormalization": batch_norm,
        "Slice": cut,
        "ReduceMean": mean,
        "Reshape": reshape,
        "MatMul": lambda a, x, y: x @ y,
        "Add": lambda a, x, y: x + y,
        "Sub": lambda a, x, y: x - y,
        "Mul": lambda a, x, y: x * y,
        "Div": lambda a, x, y: x / y,
        "Pow": lambda a, x, y: x**y,
        "Neg": lambda a, x: -x,
        "Sqrt": lambda a, x: torch.sqrt(x),
        "Relu": lambda a, x: torch.relu(x),
        "Sigmoid": lambda a, x: torch.sigmoid(x),
        "Tanh": lambda a, x: torch.tanh(x),
        "Erf": lambda a, x: torch.erf(x),
        "Softmax": lambda a, x: torch.softmax(x, a.get("axis", -1)),
        "Transpose": lambda a, x: x.permute(*a["perm"]),
        "Concat": lambda a, *x: torch.cat(x, a["axis"]),
        "Flatten": lambda a, x: x.flatten(a.get("axis", 1)),
        "Gather": gather,
        "Cast": lambda a, x: x.long() if a["to"] == onnx.TensorProto.INT64 else x,
        "GlobalAveragePool": lambda a, x: x.mean(dim=tuple(range(2, x.ndim)), keepdim=True),
        "Identity": lambda a, x: x,
    }
