"""Normalisations: layer, root mean square, batch, instance and group."""

from __future__ import annotations

from rexis.ee.graph import Node
from rexis.ee.groups import AVERAGING, ISOMETRY, MONOMIAL, Power
from rexis.ee.layout import ORDER
from rexis.ee.plan import Plan
from rexis.ee.rules.base import Acceptance, Carried, Folding, Rule, keyed, layout_of, rule
from rexis.ee.stream import Floats


@rule("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
class LayerNormRule(Rule):
    """``y = γ (x − mean) / std + β`` along the last axes.

    ``(x − mean) / std`` commutes with orthogonal keys that fix the all-ones vector; without the mean (RMS), with all
    orthogonal keys (Ashkboos et al. 2024, QuaRot). γ and β go into the weights behind, where all readers are linear;
    otherwise the key is a permutation, and they are permuted.
    """

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        if len(node.outputs) > 1:
            raise node.refuse(
                f"its mean or deviation, {node.outputs[1]!r}, is read", hint="export without these outputs"
            )
        layout = layout_of(node.inputs[0], node, plan)
        axis = int(node.attributes.get("axis", -1)) % len(layout)
        along, others = layout[axis:], layout[:axis]
        plan.restrict(keyed(along), AVERAGING if node.op == "LayerNormalization" else ISOMETRY, node)
        plan.keep_together(keyed(along))
        plan.restrict(keyed(others), Power.PERMUTE, node)
        parameters = [] if self._neutral(node, plan) else [name for name in node.inputs[1:3] if name]
        if parameters and self._gain(node, accepts):
            plan.gains.add(node.output)
            for name in parameters:
                plan.join(layout_of(name, node, plan)[-1], along[-1], node)
        else:
            if parameters:
                plan.restrict(keyed(along), Power.PERMUTE, node)
            for name in parameters:
                for theirs, ours in zip(reversed(layout_of(name, node, plan)), reversed(along), strict=False):
                    plan.join(theirs, ours, node)
        plan.layouts[node.output] = layout

    @staticmethod
    def _neutral(node: Node, plan: Plan) -> bool:
        """Whether γ is 1 and β 0 and both stay so: torch writes them out where a normalisation has no parameters."""
        names = [name for name in node.inputs[1:3] if name]
        if not all((view := plan.graph.view(name)) is not None and view.root in plan.pinned for name in names):
            return False
        return all(bool((plan.graph.seen(name) == 1.0 - place).all()) for place, name in enumerate(names))

    @staticmethod
    def _gain(node: Node, accepts: Acceptance) -> bool:
        graph = accepts.graph
        parameters = [name for name in node.inputs[1:3] if name]
        own = all(graph.view(name) is not None and graph.uses(name) == 1 for name in parameters)
        one = all(len(graph.shape(name) or ()) == 1 for name in parameters)
        last = (graph.shape(node.output) or (None,))[-1]
        fits = all((graph.shape(name) or (None,))[-1] == last for name in parameters)
        return (
            bool(parameters)
            and own
            and one
            and fits
            and accepts.folds_onwards(node.output, shifted=len(parameters) > 1)
        )

    def magnitude(self, node: Node, folding: Folding) -> float:
        return max((folding.magnitude(name) for name in node.inputs[1:2] if name), default=1.0)

    def fold(self, node: Node, folding: Folding) -> None:
        if node.output not in folding.plan.gains:
            super().fold(node, folding)
            return
        rank = len(folding.graph.shape(node.output) or ())

        def wide(parameter: Floats) -> Floats:
            return parameter.reshape((1,) * (rank - 1) + (-1,))

        gain = folding.graph.seen(node.inputs[1])
        folding.store(node, node.inputs[1], gain * 0.0 + 1.0)
        bias = node.input(2)
        if bias is None:
            folding.settle(node.output, Carried(wide(gain), None, None))
            return
        drawn = folding.fresh_offset(node.output)
        shift = folding.graph.seen(bias)
        folding.store(node, bias, shift * 0.0 if drawn is None else drawn.reshape(-1))
        folding.settle(node.output, Carried(wide(gain), wide(shift), drawn))


@rule("BatchNormalization")
class BatchNormRule(Rule):
    """An affine map of each channel, whose parameters move with the channel: β and mean scaled, γ and variance not."""

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        if node.attributes.get("training_mode", 0) or len(node.outputs) > 1:
            raise node.refuse("it is in training mode", hint="export the model in evaluation mode")
        layout = layout_of(node.inputs[0], node, plan)
        plan.restrict([layout[1]], MONOMIAL, node)
        for axis in keyed(layout[2:]):
            plan.restrict([axis], AVERAGING, node)
        for place, relation in ((1, ORDER), (2, 1), (3, 1), (4, ORDER)):
            plan.join(layout_of(node.inputs[place], node, plan)[0], layout[1], node, relation)
        plan.layouts[node.output] = layout


@rule("InstanceNormalization")
class InstanceNormRule(Rule):
    """Normalises each channel over space: space is summed over, channels move with their parameters."""

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        layout = layout_of(node.inputs[0], node, plan)
        plan.restrict(keyed(layout[2:]), Power.PERMUTE, node)
        plan.keep_together(keyed(layout[2:]))
        plan.restrict(keyed([layout[1]]), Power.PERMUTE, node)
        for name in node.inputs[1:3]:
            plan.join(layout_of(name, node, plan)[0], layout[1], node)
        plan.layouts[node.output] = layout


@rule("GroupNormalization")
class GroupNormRule(Rule):
    """Normalises groups of channels over channels and space: groups, channels in them and space are permuted."""

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        layout = layout_of(node.inputs[0], node, plan)
        groups, channels = int(node.attributes["num_groups"]), plan.size(layout[1]) or 0
        across, within = plan.split(layout[1], [groups, channels // groups], node)
        plan.restrict(keyed([across, within, *layout[2:]]), Power.PERMUTE, node)
        plan.keep_together(keyed([within, *layout[2:]]))
        for name in node.inputs[1:3]:
            plan.join(layout_of(name, node, plan)[0], layout[1], node)
        plan.layouts[node.output] = layout

    def magnitude(self, node: Node, folding: Folding) -> float:
        return folding.magnitude(node.inputs[1])
