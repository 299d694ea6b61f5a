"""Einsum, by its labels: each is summed over, counted along, or passed."""

from __future__ import annotations

import string

from rexis.ee.graph import Node
from rexis.ee.groups import AVERAGING, Power
from rexis.ee.layout import DUAL, Axis
from rexis.ee.plan import Plan
from rexis.ee.rules.base import APART, Acceptance, Folding, Rule, keyed, layout_of, rule
from rexis.ee.rules.linear import product_magnitude


@rule("Einsum")
class EinsumRule(Rule):
    """A sum of products over labels, of one or two operands.

    A label of both operands that is not in the output is contracted, as in a MatMul: dual keys. One of both that stays
    counts products: permutations. One of a single operand passes, or is summed: keys that keep sums.
    """

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        layouts = [layout_of(name, node, plan) for name in node.inputs]
        operands, result = labels(node, [len(layout) for layout in layouts])
        if len(operands) > 2:
            raise node.refuse(f"it multiplies {len(operands)} operands at once", hint="write it as products of two")
        axes = [dict(zip(names, layout, strict=True)) for names, layout in zip(operands, layouts, strict=True)]
        for place, names in enumerate(operands):
            if len(set(names)) < len(names):
                raise node.refuse(f"operand {node.inputs[place]!r} has a label twice", "no key keeps a diagonal apart")
        found: dict[str, Axis] = {}
        for label in dict.fromkeys("".join(operands)):
            here = [each[label] for each in axes if label in each]
            if plan.batch in here and (label not in result or any(axis != plan.batch for axis in here)):
                raise plan.refuse(node, here, f"label {label!r} sums over the batch axis, or pairs it", APART)
            if len({plan.size(axis) for axis in here}) > 1:
                raise plan.refuse(node, here, f"label {label!r} is broadcast", "expand the operand, or use MatMul")
            found[label] = here[0]
            if len(here) == 2 and label not in result:
                plan.join(here[1], here[0], node, DUAL)
            elif len(here) == 2:
                plan.join(here[1], here[0], node)
                plan.restrict(keyed(here[:1]), Power.PERMUTE, node)
            elif label not in result:
                plan.restrict(keyed(here), AVERAGING, node)
        for label, summed in found.items():
            if label not in result:  # what is beside a sum must have one key all along it
                plan.keep_together([summed], [axis for other, axis in found.items() if other != label])
        if any(label not in found for label in result):
            raise node.refuse(f"{node.output!r} has a label that no operand has", hint="correct the equation")
        plan.layouts[node.output] = tuple(found[label] for label in result)

    def magnitude(self, node: Node, folding: Folding) -> float:
        if len(node.inputs) != 2:
            return super().magnitude(node, folding)
        shapes = [folding.graph.shape(name) or () for name in node.inputs]
        operands, result = labels(node, [len(shape) for shape in shapes])
        sizes = dict(zip("".join(operands), (size or 1 for shape in shapes for size in shape), strict=True))
        terms = 1
        for label, size in sizes.items():
            terms *= 1 if label in result else size
        return product_magnitude(node, folding, inside=terms)


def labels(node: Node, ranks: list[int]) -> tuple[list[str], str]:
    """The labels of each operand and of the output, one letter an axis; an ellipsis gets letters of its own."""
    equation = node.attributes["equation"]
    text = (equation.decode() if isinstance(equation, bytes) else str(equation)).replace(" ", "")
    left, arrow, right = text.partition("->")
    operands = left.split(",")
    if len(operands) != len(ranks):
        raise node.refuse(f"its equation {text!r} is for {len(operands)} operands", hint="correct the equation")
    free = [letter for letter in string.ascii_letters if letter not in text]
    missing = [rank - len(names.replace("...", "")) for names, rank in zip(operands, ranks, strict=True)]
    most = max((count for names, count in zip(operands, missing, strict=True) if "..." in names), default=0)
    letters = "".join(free[:most])
    full = [names.replace("...", letters[most - count :]) for names, count in zip(operands, missing, strict=True)]
    if not arrow:
        once = sorted(label for label in set(left) if label.isalpha() and left.count(label) == 1)
        right = ("..." if "..." in left else "") + "".join(once)
    if any(len(names) != rank for names, rank in zip(full, ranks, strict=True)):
        raise node.refuse(f"its equation {text!r} does not fit operands of {ranks} axes", hint="correct the equation")
    return full, right.replace("...", letters)
