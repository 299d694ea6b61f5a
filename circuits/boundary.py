"""What goes into a model and what comes out: one record, one output. Everything else is refused by name, before ezkl.

A circuit has fixed sizes. The axis that counts records becomes 1, whatever its name is; other open axes have no size
until somebody gives one (:func:`with_sizes`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from circuits.onnx_model import element, parsed, require_one_input
from rexis.protocol.errors import TensorError

_BATCH, _UNNAMED = "batch", "batch_size"  # the zoo's name; what ezkl calls an axis without one
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")  # what tract reads as a symbol
_FLOAT32, _INTEGERS = 1, (6, 7)  # TensorProto.DataType
_FEWEST_IDS = 2  # where no table shows how many there are
_NO_SIZE = "`rexis circuits estimate` and `tune` fix it with --axis {name}=SIZE; or export the model with a size"


@dataclass(frozen=True)
class Boundary:
    """The input and the output of a model that a circuit can be made of.

    Attributes
    ----------
    input, output
        Their names.
    shape
        Of the input; None for the open axis that counts records.
    """

    input: str
    output: str
    shape: tuple[int | None, ...]

    @property
    def given(self) -> tuple[int, ...]:
        """Shape of the input of one proof."""
        return tuple(1 if size is None else size for size in self.shape)

    @property
    def record_shape(self) -> tuple[int, ...]:
        """Shape of what one proof is about, without the axis that counts records if there is one."""
        return self.given[1:] if self.counts_records else self.given

    @property
    def counts_records(self) -> bool:
        """Whether the first axis is one that counts records, and a proof is about one record."""
        return len(self.shape) > 1 and self.shape[0] in (None, 1)


def boundary_of(model: bytes) -> Boundary:
    """Read a model's input and output.

    Raises
    ------
    TensorError
        Several inputs or outputs, or of other types than float32; an axis without a size, apart from the first.
    """
    require_one_input(model)
    graph = parsed(model).graph
    (given,) = _inputs(graph)
    if not given.type.tensor_type.shape.dim:
        raise TensorError(f"input {given.name!r} has no shape", field=given.name, hint="export the model with one")
    if not graph.node:
        raise TensorError("the model has no operators", field="model")
    _require_one_output(graph)
    sizes: list[int | None] = []
    for axis, dim in enumerate(given.type.tensor_type.shape.dim):
        sizes.append(dim.dim_value if dim.HasField("dim_value") else None)
        _require_size(given.name, axis, dim.dim_param, sizes[-1])
    return Boundary(given.name, graph.output[0].name, tuple(sizes))


def variables_of(model: bytes) -> list[list[str | int]]:
    """ezkl's run argument ``variables``: the axis that counts records is 1.

    The name is that of the model's axis; ``batch`` where it has a size, so that settings do not depend on it.
    """
    for value in _inputs(parsed(model).graph):
        dims = value.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value"):
            return [[dims[0].dim_param or _UNNAMED, 1]]
    return [[_BATCH, 1]]


def require_one_record(boundary: Boundary) -> None:
    """Refuse a circuit that no job can use: a proof is about one record, and the first axis counts records.

    Raises
    ------
    TensorError
        The first axis is no batch, or one of several records.
    """
    if not boundary.counts_records:
        raise TensorError(
            f"input {boundary.input!r} has shape {list(boundary.given)}, so that one proof is about all of it at once; "
            "jobs prove record by record",
            field=boundary.input,
            hint="export it as [batch, …] with an open first axis, or with 1",
        )


def vocabulary_of(model: bytes) -> int | None:
    """How many token ids a model tells apart that casts its one input to integers; None if it takes numbers.

    ezkl casts nothing: such an input must have scale 0, so that an id is an integer in the circuit too.
    """
    graph = parsed(model).graph
    names = {value.name for value in _inputs(graph)}
    readers = [node for node in graph.node if not names.isdisjoint(node.input)]
    if not readers or any(not _casts_to_integers(node) for node in readers):
        return None
    sizes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    ids = {name for node in readers for name in node.output}
    tables = [
        sizes[node.input[0]][0]
        for node in graph.node
        if node.op_type == "Gather" and node.input[1] in ids and sizes.get(node.input[0])
    ]
    return min(tables, default=_FEWEST_IDS)


def with_sizes(model: bytes, sizes: Mapping[str, int]) -> bytes:
    """The model with its named axes fixed to sizes.

    Raises
    ------
    TensorError
        The model has no axis of such a name; with those that it has.
    """
    proto = parsed(model)
    graph = proto.graph
    dims = [dim for value in graph.input for dim in value.type.tensor_type.shape.dim]
    open_axes = {dim.dim_param for dim in dims if dim.dim_param}
    for name in sizes:
        if name not in open_axes:
            raise TensorError(
                f"no input has an open axis {name!r}; there are: {', '.join(sorted(open_axes)) or 'none'}", field="axis"
            )
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]
    fixed: bytes = proto.SerializeToString(deterministic=True)
    return fixed


def _casts_to_integers(node: Any) -> bool:
    return node.op_type == "Cast" and any(each.name == "to" and each.i in _INTEGERS for each in node.attribute)


def _inputs(graph: Any) -> list[Any]:
    stored = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in stored]


def _require_size(name: str, axis: int, symbol: str, size: int | None) -> None:
    if size is not None and size < 1:
        raise TensorError(f"axis {axis} of input {name!r} has size {size}", field=name)
    if size is None and axis > 0:
        raise TensorError(
            f"axis {axis} of input {name!r} has no size{f', only the name {symbol!r}' if symbol else ''}; "
            "only the first axis, which counts records, may be open",
            field=name,
            hint=_NO_SIZE.format(name=symbol) if symbol else "export the model with a size",
        )
    if size is None and symbol and not _SYMBOL.match(symbol):
        raise TensorError(
            f"the first axis of input {name!r} is called {symbol!r}, which ezkl cannot read",
            field=name,
            hint="call it batch",
        )


def _require_one_output(graph: Any) -> None:
    if len(graph.output) != 1:
        raise TensorError(
            f"jobs run models with one output, since one is committed for a record; this one has {len(graph.output)}: "
            f"{', '.join(value.name for value in graph.output)}",
            field="model",
            hint="export it with the output that is wanted, or with one that joins them (Concat)",
        )
    output = graph.output[0]
    kind = output.type.tensor_type.elem_type
    if kind in (0, _FLOAT32):  # 0: the file does not say
        return
    maker = next((node for node in graph.node if output.name in node.output), None)
    made = f" of node {maker.name or output.name!r} ({maker.op_type})" if maker is not None else ""
    raise TensorError(
        f"outputs are committed as float32; {output.name!r}{made} is {element(kind)}",
        field=output.name,
        hint="export it with a Cast to float32 at its end",
    )
