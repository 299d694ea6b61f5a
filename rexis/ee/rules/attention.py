"""Fused attention, as exporters write it from opset 23."""

from __future__ import annotations

from rexis.ee.graph import Node
from rexis.ee.groups import NONE, Power
from rexis.ee.layout import DUAL, Axis, Layout
from rexis.ee.plan import Plan
from rexis.ee.rules.base import Acceptance, Folding, Rule, keyed, layout_of, rule


@rule("Attention")
class AttentionRule(Rule):
    """``softmax(Q Kᵀ s + mask) V`` for each head.

    Heads are permuted, and so are tokens, unless the mask is causal by attribute: then their order is shown. Queries
    and keys carry duals; values carry a key of their own.
    """

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        if any(node.input(place) is not None for place in (4, 5, 6)) or len(node.outputs) > 1:
            raise node.refuse(
                "it has a cache of keys and values, or its scores are read", hint="export without a cache"
            )
        given = [layout_of(name, node, plan) for name in node.inputs[:3]]
        flat = len(given[0]) == 3
        query, key, value = (self._cut(node, plan, layout, place) for place, layout in enumerate(given))
        heads, groups = query[1], key[1]
        plan.join(value[1], groups, node)
        plan.join(value[2], key[2], node)
        plan.join(key[3], query[3], node, DUAL)
        plan.keep_together([query[3]], [*query[:3], *key[:3]])
        if plan.size(heads) != plan.size(groups):  # each key serves several queries, one after another
            few = plan.size(groups) or 1
            outer, within = plan.split(heads, [few, (plan.size(heads) or 1) // few], node)
            plan.restrict([within], Power.PERMUTE, node)
            plan.join(groups, outer, node)
        else:
            plan.join(groups, heads, node)
        plan.restrict(keyed([heads, groups, query[2], key[2]]), Power.PERMUTE, node)
        plan.keep_together(keyed([key[2]]))
        if node.attributes.get("is_causal", 0):
            plan.show(keyed([query[2], key[2]]), node, "order of tokens")
        mask = node.input(3)
        if mask is not None:
            scores = (query[0], heads, query[2], key[2])
            theirs = layout_of(mask, node, plan)
            for axis, ours in zip(reversed(theirs), reversed(scores), strict=False):
                if plan.size(axis) == 1:
                    plan.restrict([axis], NONE, node)
                else:
                    plan.join(axis, ours, node)
        made: Layout = (query[0], heads, query[2], value[3])
        plan.layouts[node.output] = (made[0], made[2], (*made[1], *made[3])) if flat else made

    def magnitude(self, node: Node, folding: Folding) -> float:
        return folding.magnitude(node.inputs[2])

    @staticmethod
    def _cut(node: Node, plan: Plan, layout: Layout, place: int) -> tuple[Axis, ...]:
        """Batch, heads, tokens, features of the query (0), the key or the value."""
        if len(layout) == 4:
            return layout
        heads = int(node.attributes["kv_num_heads" if place else "q_num_heads"])
        across, within = plan.split(layout[2], [heads, (plan.size(layout[2]) or 1) // heads], node)
        return layout[0], across, layout[1], within
