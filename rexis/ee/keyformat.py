"""An EE key as bytes: strict JSON for its structure, safetensors for its arrays. Secret; ``keyfile`` encrypts it."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load, save

from rexis.ee.groups import KINDS, AxisKey
from rexis.ee.keys import DATA_SECRET_BYTES, EEKey, KeyPart, Padding, TensorKey
from rexis.ee.layout import Axis, Element, Factor, Keyring, Layout
from rexis.ee.stream import Floats
from rexis.protocol.errors import EncryptionError, MalformedError
from rexis.protocol.parsing import DigestField, HexBytes, Strict, canonical_json

MAX_KEY_BYTES = 1 << 30
_STRUCTURE = "rexis.ee.key"

_Int = Annotated[int, Field(strict=True, ge=0)]
_Positive = Annotated[int, Field(strict=True, ge=1)]
_Action = Annotated[int, Field(strict=True, ge=-1, le=1)]
_Axis = list[tuple[_Int, _Action]]


class _Element(Strict):
    """One element of a keyring; its keys' arrays are tensors ``<element>/<key>/<array>``."""

    kind: Literal["dense", "monomial"]
    size: Annotated[int, Field(strict=True, ge=1)]
    members: Annotated[list[_Int], Field(min_length=1)]
    actions: list[_Action]
    index: list[_Int]


class _Keyring(Strict):
    sizes: list[tuple[_Int, _Int | None]]
    segments: list[tuple[_Int, list[_Axis]]]
    elements: list[_Element]


class _Tensor(Strict):
    """A tensor key; offset and shift are tensors ``<place>/offset`` and ``<place>/shift``.

    The place is ``output``, or ``input`` and the number of the input, from 0 on.
    """

    element: Literal["float32", "int64", "int32", "bool"]
    shape: list[_Int]
    layout: list[_Axis]
    vocabulary: _Axis | None
    decoys: tuple[_Positive, _Positive] | None = None  # axis and count; left out where there are none


class _Input(_Tensor):
    name: Annotated[str, Field(min_length=1)]


class _Key(Strict):
    """Version 3: inputs by name. Version 2 had one, version 1 was for dense networks."""

    format: Literal["rexis.ee.key"]
    version: Literal[3]
    part: Literal["full", "encrypt", "decrypt", "label"]
    key_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    epoch: Annotated[int, Field(strict=True, ge=1)]
    model_digest: DigestField
    data_secret: Annotated[HexBytes, Field(min_length=DATA_SECRET_BYTES, max_length=DATA_SECRET_BYTES)] | None
    keyring: _Keyring
    layouts: dict[str, list[_Axis]]
    inputs: list[_Input]
    output: _Tensor | None


def write_key(key: EEKey) -> bytes:
    """A key as bytes.

    Raises
    ------
    EncryptionError
        It is larger than :func:`read_key` takes.
    """
    sides = {f"input{number}": each for number, each in enumerate(key.inputs.values())}
    if key.output is not None:
        sides["output"] = key.output
    keyring = key.keyring or _joined([each.keyring for each in sides.values()])
    arrays: dict[str, Floats] = {}
    for number, element in enumerate(keyring.elements):
        for which, one in enumerate(element.keys):
            arrays |= {f"{number}/{which}/{name}": values for name, values in one.arrays().items()}
    for place, tensor in sides.items():
        for what, values in (("offset", tensor.offset), ("shift", tensor.shift)):
            if values is not None:
                arrays[f"{place}/{what}"] = np.ascontiguousarray(values)
    document = {
        "format": _STRUCTURE,
        "version": 3,
        "part": str(key.part),
        "keyId": key.key_id,
        "epoch": key.epoch,
        "modelDigest": str(key.model_digest),
        "dataSecret": None if key.data_secret is None else "0x" + key.data_secret.hex(),
        "keyring": {
            "sizes": [[variable, size] for variable, size in sorted(keyring.sizes.items())],
            "segments": [[v, [_written(axis) for axis in axes]] for v, axes in sorted(keyring.segments.items())],
            "elements": [
                {
                    "kind": element.keys[0].kind,
                    "size": element.keys[0].size,
                    "members": list(element.members),
                    "actions": list(element.actions),
                    "index": list(element.index),
                }
                for element in keyring.elements
            ],
        },
        "layouts": {name: [_written(axis) for axis in layout] for name, layout in key.layouts.items()},
        "inputs": [_tensor(each) | {"name": name} for name, each in key.inputs.items()],
        "output": None if key.output is None else _tensor(key.output),
    }
    text = canonical_json(document).decode()
    data: bytes = save(arrays, metadata={_STRUCTURE: text})
    if len(data) > MAX_KEY_BYTES:
        raise EncryptionError(f"the key has {len(data)} bytes, over the limit of {MAX_KEY_BYTES}")
    return data


def read_key(data: bytes) -> EEKey:
    """The key that :func:`write_key` wrote.

    Raises
    ------
    MalformedError, EncryptionError
        The bytes are not a key, or describe an impossible one. The messages quote nothing of the content.
    """
    if len(data) > MAX_KEY_BYTES:
        raise MalformedError(f"a key of {len(data)} bytes, over the limit of {MAX_KEY_BYTES}")
    text, arrays = _opened(data)
    document = _Key.from_json(text)
    sizes = dict(document.keyring.sizes)
    segments = {variable: tuple(_axis(axis) for axis in axes) for variable, axes in document.keyring.segments}
    grouped: dict[str, dict[str, Floats]] = {}
    for name, values in arrays.items():
        lead, _, last = name.rpartition("/")
        grouped.setdefault(lead, {})[last] = values
    elements = tuple(_element(number, each, sizes, grouped) for number, each in enumerate(document.keyring.elements))
    keyring = Keyring(sizes, segments, elements)
    inputs = {
        each.name: _tensor_key(f"input{number}", each, keyring, arrays) for number, each in enumerate(document.inputs)
    }
    if len(inputs) < len(document.inputs):
        raise EncryptionError("two inputs of the key have one name")
    output = None if document.output is None else _tensor_key("output", document.output, keyring, arrays)
    _require_sides(KeyPart(document.part), inputs, output)
    return EEKey(
        key_id=document.key_id,
        epoch=document.epoch,
        model_digest=document.model_digest,
        part=KeyPart(document.part),
        inputs=inputs,
        output=output,
        keyring=keyring if document.part == "full" else None,
        layouts={name: _layout(layout) for name, layout in document.layouts.items()},
        data_secret=document.data_secret,
    )


def _opened(data: bytes) -> tuple[bytes, dict[str, Floats]]:
    length = int.from_bytes(data[:8], "little")
    try:
        arrays = load(data)
        header = _Header.from_json(_header_text(data, length))
    except (SafetensorError, ValueError, MalformedError):
        raise MalformedError("not an EE key") from None
    return header.metadata[_STRUCTURE].encode() if _STRUCTURE in header.metadata else b"", arrays


class _Header(Strict):
    metadata: dict[str, str]


def _header_text(data: bytes, length: int) -> bytes:
    """The metadata of a safetensors file, which its NumPy reader drops (format: huggingface/safetensors)."""
    import json

    header = json.loads(data[8 : 8 + length])
    return canonical_json({"metadata": header.get("__metadata__", {})})


def _element(
    number: int, element: _Element, sizes: dict[int, int | None], arrays: dict[str, dict[str, Floats]]
) -> Element:
    known = [sizes.get(each) for each in (*element.members, *element.index)]
    if None in known or len(element.actions) != len(element.members):
        raise EncryptionError("an element of the keyring names a variable that is not there")
    width = math.prod(size or 1 for size in known[: len(element.members)])
    count = math.prod(size or 1 for size in known[len(element.members) :])
    if width != element.size:
        raise EncryptionError("an element of the keyring has another size than its variables")
    kind, keys = KINDS[element.kind], []
    for which in range(count):
        mine = arrays.get(f"{number}/{which}", {})
        if any(values.dtype != np.float64 for values in mine.values()):
            raise EncryptionError("an array of an axis key is not float64")
        keys.append(kind.from_arrays(element.size, mine))
    return Element(tuple(element.members), tuple(element.actions), tuple(element.index), tuple[AxisKey, ...](keys))


def _require_sides(part: KeyPart, inputs: dict[str, TensorKey], output: TensorKey | None) -> None:
    if bool(inputs) == (part == KeyPart.DECRYPT) or (output is None) != (part == KeyPart.ENCRYPT):
        raise EncryptionError(f"a key of part {part} has other sides than that")


def _tensor_key(name: str, side: _Tensor, keyring: Keyring, arrays: dict[str, Floats]) -> TensorKey:
    layout = _layout(side.layout)
    vocabulary = None if side.vocabulary is None else _axis(side.vocabulary)
    axes = layout if vocabulary is None else (*layout, vocabulary)
    variables = _inside([factor.variable for axis in axes for factor in axis], keyring)
    if any(variable not in keyring.sizes for variable in variables):
        raise EncryptionError(f"the {name} key names a variable that is not there")
    if len(layout) != len(side.shape) + 1 or any(
        keyring.size(axis) != size for axis, size in zip(layout[1:], side.shape, strict=True)
    ):
        raise EncryptionError(f"the {name} key has another shape than its axes")
    decoys = None if side.decoys is None else Padding(*side.decoys)
    if decoys is not None and (decoys.axis >= len(layout) or side.shape[decoys.axis - 1] <= decoys.count):
        raise EncryptionError(f"the {name} key has more decoys than features")
    found = {what: arrays.get(f"{name}/{what}") for what in ("offset", "shift")}
    for values in found.values():
        fits = values is None or (
            values.ndim == len(layout)
            and bool(np.isfinite(values).all())
            and all(have in (1, want) for have, want in zip(values.shape, (1, *side.shape), strict=True))
        )
        if not fits:
            raise EncryptionError(f"an offset of the {name} key has the wrong shape or is not finite")
    return TensorKey(
        tuple(side.shape),
        layout,
        keyring.only(variables),
        found["offset"],
        found["shift"],
        vocabulary,
        side.element,
        decoys,
    )


def _inside(variables: list[int], keyring: Keyring) -> list[int]:
    """Variables, and those in their segments."""
    found: list[int] = []
    while variables:
        variable = variables.pop()
        if variable in keyring.segments:
            variables += [factor.variable for axis in keyring.segments[variable] for factor in axis]
        found.append(variable)
    return found


def _joined(keyrings: list[Keyring]) -> Keyring:
    elements = tuple(dict.fromkeys(element for keyring in keyrings for element in keyring.elements))
    return Keyring(
        {variable: size for keyring in keyrings for variable, size in keyring.sizes.items()},
        {variable: axes for keyring in keyrings for variable, axes in keyring.segments.items()},
        elements,
    )


def _tensor(key: TensorKey) -> dict[str, object]:
    written: dict[str, object] = {
        "element": key.element,
        "shape": list(key.shape),
        "layout": [_written(axis) for axis in key.layout],
        "vocabulary": None if key.vocabulary is None else _written(key.vocabulary),
    }
    return written if key.decoys is None else written | {"decoys": [key.decoys.axis, key.decoys.count]}


def _written(axis: Axis) -> list[list[int]]:
    return [[factor.variable, factor.action] for factor in axis]


def _axis(axis: _Axis) -> Axis:
    return tuple(Factor(variable, action) for variable, action in axis)


def _layout(layout: list[_Axis]) -> Layout:
    return tuple(_axis(axis) for axis in layout)
