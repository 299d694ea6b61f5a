"""What torch raises, told apart: the model is at fault, or this machine has too little room for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rexis.protocol.errors import TrainingError

# Of torch and onnx, on graphs that nobody's exporter wrote.
_FAULTS = (
    AttributeError,
    IndexError,
    KeyError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    ZeroDivisionError,
)
_OUT_OF_MEMORY = ("alloc", "out of memory", "not enough memory")  # parts of what torch says


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Say of the model, in words, what torch raises inside.

    Raises
    ------
    TrainingError
        "the model <what>: <reason>".
    MemoryError
        It takes more than there is here, which says nothing against it.
    """
    try:
        yield
    except _FAULTS as error:
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        if any(word in reason.lower() for word in _OUT_OF_MEMORY):
            raise MemoryError(f"the model {what}: {reason}") from error
        raise TrainingError(f"the model {what}: {reason}", field="model") from error
