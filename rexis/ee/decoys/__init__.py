"""Decoys: input features of fresh noise, and hidden neurons that are split, before a model is encrypted.

A step from graph to graph that runs before the compiler. It is the only option of EE that changes shapes, so that the
encrypted model is slower than the plain one; the leakage card says by how much.

What it is worth, measured in ``docs/ee-leakage.md``: on the wire, equal records stop having equal ciphertexts. A worker
has the model, which gives both kinds of decoy away: the first weight does not see the noise (its null space *is* the
noise), and the halves of a neuron have parallel weights. An attack that looks for them gets what it gets without.
"""

from rexis.ee.decoys.axes import HiddenAxis, Part, hidden_axes, input_axis
from rexis.ee.decoys.widen import Decoys, SplitAxis, Widening, widen

__all__ = ["Decoys", "HiddenAxis", "Part", "SplitAxis", "Widening", "hidden_axes", "input_axis", "widen"]
