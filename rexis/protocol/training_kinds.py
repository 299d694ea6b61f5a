"""The names that training plans choose from. Needs nothing to import, so that command-line options can have them."""

from __future__ import annotations

from enum import StrEnum


class LossKind(StrEnum):
    """What is minimised, as a mean over the batch; see :class:`rexis.ee.training.Loss`."""

    CROSS_ENTROPY = "cross-entropy"
    SQUARED = "squared-error"
    BINARY = "binary-cross-entropy"


class OptimiserKind(StrEnum):
    """An update rule, as PyTorch defines it."""

    SGD = "sgd"
    ADAM = "adam"
    ADAMW = "adamw"


class ScheduleKind(StrEnum):
    """How the learning rate goes on after warming up."""

    CONSTANT = "constant"
    LINEAR = "linear"
    COSINE = "cosine"


class KeyPower(StrEnum):
    """Something that keys of trainable tensors do; :class:`rexis.ee.groups.Power` has the same."""

    PERMUTE = "permute"
    SIGN = "sign"
    SCALE = "scale"
    MIX = "mix"
    PLANE = "plane"
