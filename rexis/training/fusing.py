"""Several nodes as the one torch operation that they were exported from: fewer passes over memory, and as fast.

Fused calls round as torch's own do, which is not always as the nodes one by one do. All who train fuse alike.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from rexis.training.operators import Node

_CLOSE = 1e-6


def fused(nodes: list[Node], constants: Mapping[str, Tensor], output: str) -> list[Node]:
    """The graph with fused nodes (``FusedLinear``, …) for what they stand for.

    Parameters
    ----------
    nodes
        In their order. Intermediate values of a fused node are no longer there.
    constants
        Stored tensors by name.
    output
        Stays.
    """
    return _Fusing(nodes, constants, output).made()


class _Fusing:
    def __init__(self, nodes: list[Node], constants: Mapping[str, Tensor], output: str) -> None:
        self.nodes, self.constants = nodes, constants
        self.makers = {name: node for node in nodes for name in node.outputs}
        self.uses = Counter(name for node in nodes for name in node.inputs)
        self.uses[output] += 1

    def made(self) -> list[Node]:
        dropped: set[int] = set()
        found: dict[int, Node] = {}
        for node in self.nodes:
            matched = self.linear(node) or self.gelu(node) or self.tanh_gelu(node) or self.silu(node)
            if matched is not None:
                op, inputs, inner = matched
                found[id(node)] = replace(node, op=op, inputs=inputs, attributes={})
                dropped |= {id(each) for each in inner}
        return [found.get(id(node), node) for node in self.nodes if id(node) not in dropped]

    def only(self, name: str, op: str) -> Node | None:
        """The node that a value comes from, if it is one of this kind and nobody else reads the value."""
        node = self.makers.get(name)
        return node if node is not None and node.op == op and self.uses[name] == 1 else None

    def number(self, name: str) -> float | None:
        found = self.constants.get(name)
        return float(found) if found is not None and found.numel() == 1 and found.is_floating_point() else None

    def times(self, node: Node | None, factor: float) -> str | None:
        """What a node multiplies with this number."""
        return self._other(node, "Mul", factor)

    def plus(self, node: Node | None, term: float) -> str | None:
        return self._other(node, "Add", term)

    def _other(self, node: Node | None, op: str, number: float) -> str | None:
        if node is None or node.op != op:
            return None
        for name, other in (node.inputs, reversed(node.inputs)):
            found = self.number(name)
            if found is not None and math.isclose(found, number, rel_tol=_CLOSE):
                return other
        return None

    def beside(self, node: Node, op: str) -> tuple[str, Node] | None:
        """A binary node's operands, one of which an operator of this kind makes for it alone."""
        for name, other in (node.inputs, reversed(node.inputs)):
            inner = self.only(name, op)
            if inner is not None:
                return other, inner
        return None

    def linear(self, node: Node) -> tuple[str, tuple[str, ...], list[Node]] | None:
        """``x @ W + b`` with stored W ``[in, out]`` and b ``[out]``."""
        if node.op != "Add" or (found := self.beside(node, "MatMul")) is None:
            return None
        bias, product = found
        weight = self.constants.get(product.inputs[1])
        added = self.constants.get(bias)
        if weight is None or added is None or weight.ndim != 2 or added.shape != weight.shape[1:]:
            return None
        return "FusedLinear", (*product.inputs, bias), [product]

    def gelu(self, node: Node) -> tuple[str, tuple[str, ...], list[Node]] | None:
        """``0.5 · (x · (1 + erf(x / √2)))``."""
        product = self.only(self.times(node, 0.5) or "", "Mul")
        if product is None or (found := self.beside(product, "Add")) is None:
            return None
        x, one = found
        erf = self.only(self.plus(one, 1.0) or "", "Erf")
        inner = None if erf is None else self.only(erf.inputs[0], "Div")
        if erf is None or inner is None or inner.inputs[0] != x:
            return None
        scale = self.number(inner.inputs[1])
        if scale is None or not math.isclose(scale, math.sqrt(2.0), rel_tol=_CLOSE):
            return None
        return "FusedGelu", (x,), [product, one, erf, inner]

    def tanh_gelu(self, node: Node) -> tuple[str, tuple[str, ...], list[Node]] | None:
        """``0.5 · (x · (1 + tanh(√(2/π) · (x + 0.044715 · (x · (x · x))))))``."""
        product = self.only(self.times(node, 0.5) or "", "Mul")
        if product is None or (found := self.beside(product, "Add")) is None:
            return None
        x, one = found
        tanh = self.only(self.plus(one, 1.0) or "", "Tanh")
        scaled = None if tanh is None else self.only(tanh.inputs[0], "Mul")
        total = self.only(self.times(scaled, math.sqrt(2.0 / math.pi)) or "", "Add")
        if tanh is None or scaled is None or total is None or (inside := self.beside(total, "Mul")) is None:
            return None
        again, term = inside
        cube = self.only(self.times(term, 0.044715) or "", "Mul")
        if again != x or cube is None or (powers := self.beside(cube, "Mul")) is None:
            return None
        last, square = powers
        if last != x or square.inputs != (x, x):
            return None
        return "FusedTanhGelu", (x,), [product, one, tanh, scaled, total, term, cube, square]

    def silu(self, node: Node) -> tuple[str, tuple[str, ...], list[Node]] | None:
        """``x · sigmoid(x)``."""
        if node.op != "Mul" or (found := self.beside(node, "Sigmoid")) is None:
            return None
        x, gate = found
        return ("FusedSilu", (x,), [gate]) if gate.inputs == (x,) else None
