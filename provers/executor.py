"""Runs an encrypted model over records. ONNX Runtime on the best provider that is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from circuits.onnx_model import require_plain_model
from provers.device import AUTO, Device, Provider
from rexis.protocol.errors import TensorError
from rexis.protocol.records import Floats

DEFAULT_BATCH = 256


class Executor(Protocol):
    """Something that evaluates one model."""

    @property
    def provider(self) -> str:
        """What it runs on, as it stands in the evidence (letters and digits)."""
        ...

    def run(self, records: Floats) -> Floats:
        """Outputs ``[n, …]`` of records ``[n, …]``, finite float32."""
        ...


def best_provider(device: Device = AUTO) -> str:
    """The provider that a session here really gets.

    ``onnxruntime-gpu`` names CUDA as available also where there is no GPU or no driver, and then falls back to the CPU:
    only a session shows it.

    Raises
    ------
    UnavailableError
        CUDA was chosen and does not come up.
    """
    axes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", axes[:1], axes[1:])
    probe = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = _session(probe.SerializeToString(), device.providers(ort.get_available_providers()), threads=1)
    return device.require(str(session.get_providers()[0]))


def _session(model: str | bytes, providers: list[Provider], *, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.use_deterministic_compute = True
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    return ort.InferenceSession(model, options, providers=providers)


class OnnxExecutor:
    """An ONNX model with one input and one output, first axis the batch.

    Parameters
    ----------
    model
        The ONNX file. Comes from a stranger: see :func:`circuits.onnx_model.require_plain_model`.
    batch_size
        Records per run, where the model leaves the batch axis open.
    device
        Where to run it.
    threads
        CPU threads; 0 leaves the choice to ONNX Runtime.

    Raises
    ------
    TensorError
        Not a model that can be run, or one with external data or control flow.
    UnavailableError
        CUDA was chosen and does not come up.
    """

    def __init__(
        self, model: Path, *, batch_size: int = DEFAULT_BATCH, device: Device = AUTO, threads: int = 0
    ) -> None:
        require_plain_model(model.read_bytes())
        providers = device.providers(ort.get_available_providers())
        try:
            self._session = _session(str(model), providers, threads=threads)
        except Exception as error:  # ONNX Runtime's errors share no public base class
            raise TensorError(f"the encrypted model cannot be loaded: {error}", field="model") from error
        device.require(self.provider)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise TensorError(
                f"the model has {len(inputs)} inputs and {len(outputs)} outputs, expected one of each", field="model"
            )
        self._input = inputs[0].name
        fixed = inputs[0].shape[0] if inputs[0].shape else None
        self._step = fixed if isinstance(fixed, int) and fixed > 0 else batch_size
        self._is_fixed = isinstance(fixed, int)
        self._record_shape = [dim if isinstance(dim, int) else None for dim in inputs[0].shape[1:]]

    @property
    def provider(self) -> str:
        """The provider that the session really uses."""
        return str(self._session.get_providers()[0])

    def run(self, records: Floats) -> Floats:
        """Outputs ``[n, …]`` (``[n, 1]`` for a scalar a record).

        Raises
        ------
        TensorError
            The records do not fit the model, the run fails, or an output is NaN or infinite.
        """
        rows = self._fit(records)
        parts = [self._run_batch(rows[start : start + self._step]) for start in range(0, len(rows), self._step)]
        outputs = np.concatenate(parts)
        if outputs.ndim == 1:
            outputs = outputs[:, None]
        finite = np.isfinite(outputs.reshape(len(outputs), -1)).all(axis=1)
        if not bool(finite.all()):
            raise TensorError(f"the model's output for record {int(np.argmin(finite))} of the task is not finite")
        return outputs

    def _fit(self, records: Floats) -> Floats:
        if None in self._record_shape:
            return records
        shape = [int(dim) for dim in self._record_shape if dim is not None]
        if int(np.prod(shape)) != int(np.prod(records.shape[1:])):
            raise TensorError(f"records have shape {list(records.shape[1:])}, the model takes {shape}", field="records")
        return records.reshape(len(records), *shape)

    def _run_batch(self, batch: Floats) -> Floats:
        count = len(batch)
        if self._is_fixed and count < self._step:
            batch = np.concatenate([batch, np.repeat(batch[-1:], self._step - count, axis=0)])
        try:
            found: Any = self._session.run(None, {self._input: batch})[0]
        except Exception as error:  # ONNX Runtime's errors share no public base class
            raise TensorError(f"the encrypted model does not run on the records: {error}", field="records") from error
        if not isinstance(found, np.ndarray) or found.dtype != np.float32 or len(found) != len(batch):
            raise TensorError("the model's output is not float32 with one row a record", field="model")
        return found[:count]
