"""One rule for each ONNX operator: which keys commute with it, and how its constants change.

To add an operator, write a rule in the module of its kind; to add a group, see :mod:`rexis.ee.groups`.
"""

from rexis.ee.rules import elementwise, linear, normalise, reduce, reshape, select
from rexis.ee.rules.base import PLAIN, RULES, Acceptance, Carried, Folding, OffsetMisfit, Rule, rule_for

__all__ = ["PLAIN", "RULES", "Acceptance", "Carried", "Folding", "OffsetMisfit", "Rule", "rule_for"]

_ = (elementwise, linear, normalise, reduce, reshape, select)  # importing them registers their rules
