"""Gradient inversion: a training record rebuilt from the gradient it made, in the clear and under EE."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from rexis.ee.attacks.target import NotApplicableError, Result, Target
from rexis.ee.stream import Floats
from rexis.protocol.errors import UnavailableError

RECORDS = 2
_STEPS = 40
_MAX_CALLS = 45
_MAX_ELEMENTS = 800
_NOTHING = 0.05


def gradient_inversion(target: Target) -> Result:
    """Find the record whose gradient is the one that was seen (batch of one, squared loss, target known).

    Behind a first layer ``W x + b`` the record is ``∂L/∂W`` divided by ``∂L/∂b``, exactly. Elsewhere a dummy record is
    moved by L-BFGS until its gradient fits, from the public mean on.

    Knows: the model that trains (plain, or encrypted), one record's gradient and its target. Metric: R² of the rebuilt
    record about the public mean. Ceiling: the same in the clear. Floor: 0. Under EE what comes out is the *ciphertext*
    (``detail.ciphertext``: how well), which is as safe as the input key and no safer: every other attack goes on from
    there. Applies to models of numbers made of the operators in the table below.

    Sources: L. Zhu et al., Deep leakage from gradients, NeurIPS 2019; L. Phong et al., IEEE TIFS 13(5), 2018 (exact for
    dense layers); J. Geiping et al., Inverting gradients, NeurIPS 2020.
    """
    if len(target.graph.inputs) > 1:
        raise NotApplicableError("this search rebuilds the records of models with one input")
    if target.is_tokens:
        raise NotApplicableError("records are tokens, along which no gradient runs")
    if math.prod(target.records.shape[1:]) > _MAX_ELEMENTS:
        raise NotApplicableError(f"records of more than {_MAX_ELEMENTS} elements take too long here")
    chosen = target.records[target.random("gradients").permutation(len(target.records))[:RECORDS]]
    secret = target.encrypt(chosen)
    public = target.encrypt(target.public).mean(axis=0)
    mean = target.public.mean(axis=0)
    clear = _inverted(target, target.plain, chosen, mean)
    if _score(chosen, clear, mean) < _NOTHING:
        raise NotApplicableError(
            "this search does not rebuild the model's records in the clear either: nothing is shown"
        )
    hidden = _inverted(target, target.encrypted.model, secret, public)
    value, ceiling, ciphertext = (
        _score(truth, guess, around)
        for truth, guess, around in ((chosen, hidden, mean), (chosen, clear, mean), (secret, hidden, public))
    )
    return Result(
        name="gradient_inversion",
        metric="R² of the record",
        value=value,
        ceiling=max(ceiling, value),
        floor=0.0,
        attacker_knows="the model that trains, one record's gradient and its target",
        says=f"A gradient gives {ceiling:.0%} of its record in the clear; under EE {value:.0%}, and "
        f"{ciphertext:.0%} of its ciphertext.",
        detail={"ciphertext": ciphertext, "records": len(chosen)},
    )


def _score(truth: NDArray[np.floating], guess: Floats, mean: NDArray[np.floating]) -> float:
    spread = float(((truth - mean) ** 2).sum())
    return max(0.0, 1.0 - float(((truth - guess) ** 2).sum()) / spread)


def _inverted(target: Target, model: bytes, records: NDArray[np.floating], start: NDArray[np.floating]) -> Floats:
    try:
        import torch
    except ImportError as error:
        raise UnavailableError("gradient inversion needs torch", hint="pip install 'rexis[models]'") from error
    network = _Network(model)
    dense = network.first_dense(target)
    found = []
    for record in records:
        seen = _gradient(network, torch.tensor(record[None], dtype=torch.float64))
        if dense is not None:
            weight, bias, turned = dense
            by_weight, by_bias = seen[weight], seen[bias]
            rows = by_weight if turned else by_weight.T
            found.append(((by_bias @ rows) / (by_bias @ by_bias)).detach().numpy().reshape(record.shape))
            continue
        dummy = torch.tensor(start[None], dtype=torch.float64, requires_grad=True)
        scale = sum(float((each**2).sum()) for each in seen.values())
        search = torch.optim.LBFGS(
            [dummy], max_iter=_STEPS, max_eval=_MAX_CALLS, history_size=20, line_search_fn="strong_wolfe"
        )

        def closure(search: Any = search, dummy: Any = dummy, seen: Any = seen, scale: float = scale) -> Any:
            search.zero_grad()
            made = _gradient(network, dummy, create_graph=True)
            loss = sum(((made[name] - seen[name]) ** 2).sum() for name in seen) / scale
            loss.backward()
            return loss

        search.step(closure)
        found.append(dummy.detach().numpy()[0])
    return np.stack(found)


def _gradient(network: _Network, record: Any, *, create_graph: bool = False) -> dict[str, Any]:
    import torch

    output = network(record)
    loss = ((output - 1.0) ** 2).mean()
    weights = network.weights
    made = torch.autograd.grad(loss, list(weights.values()), create_graph=create_graph, allow_unused=True)
    return {name: each for name, each in zip(weights, made, strict=True) if each is not None}


class _Network:
    """An ONNX graph in torch, float64, with gradients for every stored float constant of more than one element."""

    def __init__(self, model: bytes) -> None:
        import torch

        graph = onnx.load_model_from_string(model).graph
        self.nodes = list(graph.node)
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
        values = {**self.constants, self.input: record}
        for node in self.nodes:
            if node.op_type != "Constant":
                given = [values[name] if name else None for name in node.input]
                attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
                values[node.output[0]] = self.operators[node.op_type](attributes, *given)
        return values[self.output]

    def first_dense(self, target: Target) -> tuple[str, str, bool] | None:
        """Names of weight and bias of a dense layer on the records, and whether it is stored transposed."""
        first = target.graph.computing[0]
        if first.op == "Gemm" and len(first.inputs) == 3 and first.inputs[0] == target.input:
            weight, bias = first.inputs[1:]
            if weight in self.weights and bias in self.weights:
                return weight, bias, bool(first.attributes.get("transB", 0))
        return None


def _operators() -> dict[str, Callable[..., Any]]:
    import torch
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
        "Gather": lambda a, x, i: (
            x.select(a.get("axis", 0), int(i)) if i.ndim == 0 else x.index_select(a.get("axis", 0), i)
        ),
        "GlobalAveragePool": lambda a, x: x.mean(dim=tuple(range(2, x.ndim)), keepdim=True),
        "Identity": lambda a, x: x,
    }
