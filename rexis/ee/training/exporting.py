"""From a torch module to an ONNX model that can be compiled for training, and where its tensors stand in it."""

from __future__ import annotations

import copy
import io
import itertools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rexis.ee.graph import Graph
from rexis.ee.layout import Axis, Layout
from rexis.ee.training.losses import Loss
from rexis.protocol.errors import EncryptionError

OPSET = 17
_SEED = 0


@dataclass(frozen=True)
class Place:
    """Where a torch tensor stands among an ONNX model's constants.

    Attributes
    ----------
    constant
        Name of the constant.
    turn
        ``constant = transpose(tensor, turn)``, up to axes of length 1.
    """

    constant: str
    turn: tuple[int, ...]

    def stored(self, value: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """The tensor as the constant of `shape` holds it."""
        return np.transpose(value, self.turn).reshape(shape)

    def layout(self, shape: tuple[int, ...], constant: Layout, sizes: tuple[int, ...]) -> Layout:
        """The layout of the tensor of `shape`, from the layout and the axis lengths of the constant."""
        long = iter(axis for axis, size in zip(constant, sizes, strict=True) if size != 1)
        ones = iter(axis for axis, size in zip(constant, sizes, strict=True) if size == 1)
        found: dict[int, Axis] = {place: next(long) if shape[place] != 1 else next(ones, ()) for place in self.turn}
        return tuple(found[place] for place in range(len(shape)))


@dataclass(frozen=True)
class Exported:
    """A module as ONNX, with marks for weights: distinct random numbers, by which its tensors were found again.

    Attributes
    ----------
    model
        ONNX bytes. What they compile to depends on the graph alone, not on the marks.
    places
        Each floating-point parameter's and buffer's place, by its name in the module.
    shapes
        Of the constants.
    fixed
        Constants that the module's code makes, and that no tensor of the module holds.
    unused
        Floating-point buffers that the outputs do not depend on.
    """

    model: bytes = field(repr=False)
    places: dict[str, Place]
    shapes: dict[str, tuple[int, ...]]
    fixed: frozenset[str]
    unused: frozenset[str]

    def holding(self, tensors: Mapping[str, NDArray[Any]]) -> bytes:
        """The ONNX model with the module's tensors for its marks."""
        graph = Graph(self.model)
        for name, place in self.places.items():
            value = place.stored(tensors[name], self.shapes[place.constant])
            graph.exchange(place.constant, value.astype(np.float32))
        return graph.encoded()


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer by name, tied ones under each name, and also buffers that a state_dict leaves out."""
    parameters: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    return parameters | dict(module.named_buffers(remove_duplicate=False))


def export(module: nn.Module, example: Tensor, loss: Loss) -> Exported:
    """Export a module with its loss's head, and find its tensors among the constants.

    The exporter renames weights, transposes them and folds them into new constants, and shares equal ones. So it gets
    a copy of the module whose weights are random, and the constants are recognised by their values.

    Raises
    ------
    EncryptionError
        A parameter is used in no constant; or a parameter or buffer in several.
    """
    marked = copy.deepcopy(module).float()
    for each in marked.modules():
        for name, buffer in list(each.named_buffers(recurse=False)):
            each.register_buffer(name, buffer)  # persistent, or the exporter makes a constant of every use
    generator = torch.Generator().manual_seed(_SEED)
    with torch.no_grad():
        for tensor in dict.fromkeys(tensors_of(marked).values()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    marks = {name: tensor.detach().numpy() for name, tensor in tensors_of(marked).items() if tensor.is_floating_point()}
    parameters = frozenset(name for name, _ in marked.named_parameters(remove_duplicate=False))
    example = example.float() if example.is_floating_point() else example
    problem: EncryptionError | None = None
    # Folding makes constants of what the code computes; but it tears the uses of a tied weight apart.
    for folding in (True, False):
        model = _onnx(nn.Sequential(marked, loss.head), example, folding=folding)
        try:
            return _located(model, marks, parameters)
        except EncryptionError as error:
            problem = problem or error
    assert problem is not None  # noqa: S101
    raise problem


def _located(model: bytes, marks: Mapping[str, NDArray[np.float32]], parameters: frozenset[str]) -> Exported:
    graph = Graph(model)
    constants = {name: graph.stored(name) for name in graph.roots()}
    places: dict[str, Place] = {}
    for name, mark in marks.items():
        found = [
            Place(constant, turn)
            for constant, value in constants.items()
            if value.size == mark.size and (turn := _turn(mark, value)) is not None
        ]
        if not found and name not in parameters:
            continue
        if len(found) != 1:
            count = "no constant" if not found else f"{len(found)} constants"
            raise EncryptionError(
                f"parameter or buffer {name!r} stands in {count} of the exported model, not in one",
                field=name,
                hint="use each weight as it is, and remove weights that the outputs do not depend on",
            )
        places[name] = found[0]
    held = {place.constant for place in places.values()}
    shapes = {name: tuple(value.shape) for name, value in constants.items()}
    return Exported(model, places, shapes, frozenset(constants.keys() - held), frozenset(marks.keys() - places.keys()))


def _turn(mark: NDArray[np.float32], value: NDArray[Any]) -> tuple[int, ...] | None:
    """The transposition that makes `value` of `mark`, up to axes of length 1."""
    lengths = [size for size in value.shape if size != 1]
    for turn in itertools.permutations(range(mark.ndim)):
        turned = np.transpose(mark, turn)
        if [size for size in turned.shape if size != 1] == lengths and np.array_equal(turned.ravel(), value.ravel()):
            return turn
    return None


def _onnx(module: nn.Module, example: Tensor, *, folding: bool) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (example,),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=["records"],
            output_names=["outputs"],
            dynamic_axes={"records": {0: "batch"}, "outputs": {0: "batch"}},
            # Else the exporter folds a BatchNorm into the convolution before it.
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=folding,
        )
    return buffer.getvalue()
