"""One rule for each ONNX operator: which keys commute with it, and how its constants change.

To add an operator, write a rule in the module of its kind; to add a group, see :mod:`rexis.ee.groups`.
"""

from rexis.ee.rules import attention, einsum, elementwise, linear, normalise, reduce, reshape, resize, select
from rexis.ee.rules.base import PLAIN, RULES, Acceptance, Carried, Folding, OffsetMisfit, Rule, rule_for

__all__ = ["PLAIN", "RULES", "Acceptance", "Carried", "Folding", "OffsetMisfit", "Rule", "rule_for"]

_ = (
    attention,
    einsum,
    elementwise,
    linear,
    normalise,
    reduce,
    reshape,
    resize,
    select,
)  # importing them registers their rules
