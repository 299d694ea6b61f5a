"""Training of an ONNX model's constants, as a plan says: what a worker does, and what a verifier does again.

The graph is run by torch, from the model's own bytes and with no code but ours (:mod:`rexis.training.graph`). Only
modules that compute need torch; what is about the model's bytes (:mod:`rexis.training.exporting`) does not. See
``docs/training.md``.
"""
