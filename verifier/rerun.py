"""The child process that runs a stranger's model: ``python -m verifier.rerun <memory limit> <seconds>``.

stdin: the length of the model (u64 little-endian), the model's ONNX bytes, the records as ``.npy``. stdout: the outputs
as ``.npy``. A refusal is exit code 3 with the reason on stderr, a lack of memory exit code 4.
"""

from __future__ import annotations

import io
import os
import resource
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.onnx_model import require_plain_model
from circuits.process import lower_limit
from rexis.protocol.errors import RexisError, TensorError

REFUSED, NO_MEMORY = 3, 4
_MAX_OUTPUT_BYTES = 1 << 28
_OUT_OF_MEMORY = ("alloc", "out of memory")  # parts of what ONNX Runtime and C++ say


def run(model: bytes, records: NDArray[np.float32]) -> NDArray[np.float32]:
    """Outputs ``[n, m]`` of the model for records ``[n, ...]``, from the file's bytes alone.

    Raises
    ------
    TensorError
        The model is refused, or does not run on the records.
    MemoryError
        It takes more than this process may have.
    """
    require_plain_model(model)
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        node = session.get_inputs()[0]
        shape = [dim if isinstance(dim, int) else -1 for dim in node.shape[1:]]
        rows = records.reshape(len(records), *shape) if -1 not in shape else records
        step = node.shape[0] if isinstance(node.shape[0], int) and node.shape[0] > 0 else len(rows)
        rows = np.concatenate([rows, np.repeat(rows[-1:], -len(rows) % step, axis=0)])  # a fixed batch is a whole one
        parts: list[Any] = [session.run(None, {node.name: rows[i : i + step]})[0] for i in range(0, len(rows), step)]
        outputs: NDArray[np.float32] = np.concatenate(parts)[: len(records)].reshape(len(records), -1)
    except Exception as error:  # ONNX Runtime's errors share no public base class
        if isinstance(error, MemoryError) or any(word in str(error).lower() for word in _OUT_OF_MEMORY):
            raise MemoryError from None
        raise TensorError(f"the encrypted model does not run on the opened records: {error}") from None
    if outputs.dtype != np.float32 or outputs.nbytes > _MAX_OUTPUT_BYTES:
        raise TensorError(f"the encrypted model gives {outputs.size} values of type {outputs.dtype}")
    return outputs


def main() -> int:
    """Serve one run."""
    memory_limit, seconds = int(sys.argv[1]), int(sys.argv[2])
    lower_limit(resource.RLIMIT_AS, memory_limit)
    lower_limit(resource.RLIMIT_CPU, seconds * (os.cpu_count() or 1))  # ends it also if the parent was killed
    lower_limit(resource.RLIMIT_CORE, 0)
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # ONNX Runtime prints
    length = int.from_bytes(sys.stdin.buffer.read(8), "little")
    try:
        model = sys.stdin.buffer.read(length)
        outputs = run(model, np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False))
    except MemoryError:
        return NO_MEMORY
    except RexisError as error:
        sys.stderr.write(error.message)
        return REFUSED
    made = io.BytesIO()
    np.save(made, outputs, allow_pickle=False)
    answer.write(made.getvalue())
    answer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
