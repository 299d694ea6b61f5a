"""Records that evidence opens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class OpenedRecord:
    """An opened record, whose values both trees commit to.

    Attributes
    ----------
    index
        Absolute index in the dataset.
    inputs, outputs
        In the task's encoding: float32, or int64 fixed point. Of private inputs there is their hash alone, one integer.
    """

    index: int
    inputs: NDArray[Any]
    outputs: NDArray[Any]
