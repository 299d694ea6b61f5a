"""Operators that change the size of space: Resize, Upsample, DepthToSpace, SpaceToDepth."""

from __future__ import annotations

from rexis.ee.graph import Node
from rexis.ee.layout import Axis
from rexis.ee.plan import Plan
from rexis.ee.rules.base import STATIC, Acceptance, Rule, layout_of, rule


@rule("Resize", "Upsample")
class ResizeRule(Rule):
    """Interpolation is linear and treats channels alike: they keep any key. Axes that change their size are shown."""

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        if node.attributes.get("coordinate_transformation_mode") in (b"tf_crop_and_resize", "tf_crop_and_resize"):
            raise node.refuse("it crops, and fills what lies outside with a number", hint="crop with Slice")
        layout = list(layout_of(node.inputs[0], node, plan))
        for name in node.inputs[1:]:
            view = plan.graph.view(name) if name else None
            if view is not None and view.root not in plan.pinned:
                plan.pin(view.root, plan.graph.stored(view.root).shape)
            elif name and view is None and name not in plan.graph.integers:
                raise node.refuse(f"its input {name!r} is computed", hint=STATIC)
        before, after = plan.graph.shape(node.inputs[0]) or (), plan.graph.shape(node.output)
        if after is None:
            raise node.refuse(f"the shape of its output {node.output!r} is not known", hint=STATIC)
        for place, size in enumerate(after):
            if size == before[place]:
                continue
            if size is None:
                raise node.refuse(f"axis {node.output}/{place} is open", hint=STATIC)
            plan.show([layout[place]], node, "space")
            layout[place] = plan.fresh(size) if size > 1 else ()
            plan.show([layout[place]], node, "space")
        plan.layouts[node.output] = tuple(layout)


@rule("DepthToSpace", "SpaceToDepth")
class BlocksRule(Rule):
    """Squares of pixels become channels, or channels squares: axes are cut and multiplied out, nothing is mixed."""

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        records, channels, rows, columns = layout_of(node.inputs[0], node, plan)
        size = int(node.attributes["blocksize"])
        if node.op == "SpaceToDepth":
            (high, down), (wide, along) = (
                plan.split(axis, [(plan.size(axis) or 0) // size, size], node) for axis in (rows, columns)
            )
            plan.layouts[node.output] = (records, (*down, *along, *channels), high, wide)
            return
        inner = (plan.size(channels) or 0) // size**2
        if node.attributes.get("mode", b"DCR") in (b"DCR", "DCR"):
            down, along, kept = plan.split(channels, [size, size, inner], node)
        else:
            kept, down, along = plan.split(channels, [inner, size, size], node)
        made: tuple[Axis, ...] = (records, kept, (*rows, *down), (*columns, *along))
        plan.layouts[node.output] = made
