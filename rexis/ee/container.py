"""An ONNX file apart from its large constants, so that a large model is in memory once, or not at all.

Protobuf gives memory back only with a whole message, and encodes a message into a copy. So the large constants are
taken out when a model is opened: as arrays, or, where they lie in a file of their own (ONNX "external data"), as maps
of that file. What is left is small. :meth:`Container.encoded` puts the file together again from pieces, for the
encoding of a message is the concatenation of its fields, in any order (Protocol Buffers, "Encoding").
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rexis.files import read_file
from rexis.protocol.digests import Digest, digest_stream, sha256
from rexis.protocol.errors import EncryptionError, MalformedError, NotFoundError, UnavailableError

try:
    import onnx
    from onnx import numpy_helper
    from onnx.external_data_helper import ExternalDataInfo, set_external_data
except ImportError as error:
    raise UnavailableError("compiling a model needs onnx", hint="pip install 'rexis[ee]'") from error

Model: TypeAlias = onnx.ModelProto | bytes | Path
"""A model in memory, an ONNX file's bytes, or its path. Only a path can name files of external data."""

Constant = NDArray[np.float32]

LARGE = 4096  # elements; what is smaller stays in the message, where shape inference reads it
MAX_BYTES = (2 << 30) - 1  # of a protobuf message
_ALIGNMENT = 4096  # bytes, so that a runtime can map a constant from its file
_STORED_AS = np.dtype("<f4")
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9  # fields of ModelProto, GraphProto, TensorProto
_DELIMITED = 2  # the wire type of messages and bytes


class ConstantsFile:
    """A new file that encrypted constants go to as they are made: the external data of the encrypted model.

    Parameters
    ----------
    path
        Where to write. Must not exist.
    location
        The name that the model refers to it by, in its own folder.
    """

    def __init__(self, path: Path, location: str) -> None:
        self.path, self._location = path, location
        self._stream = path.open("xb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def digest(self) -> Digest:
        """SHA-256 of what was written."""
        with self.path.open("rb") as stream:
            return digest_stream(stream)

    def restart(self) -> None:
        """Forget what was written."""
        self._stream.seek(0)
        self._stream.truncate()

    def append(self, tensor: onnx.TensorProto, value: Constant) -> Constant:
        """Write a tensor's values, let the tensor refer to them, and map them from the file."""
        offset = -(-self._stream.tell() // _ALIGNMENT) * _ALIGNMENT
        self._stream.seek(offset)
        self._stream.write(_raw(value))
        self._stream.flush()
        tensor.ClearField("raw_data")
        tensor.raw_data = b"external"  # what set_external_data asks for
        set_external_data(tensor, self._location, offset=offset, length=value.nbytes)
        tensor.ClearField("raw_data")
        return np.memmap(self.path, _STORED_AS, "r", offset, value.shape)


class Container:
    """A model's message without its large float32 initializers, and these by name.

    Parameters
    ----------
    model
        What to open. Not changed.
    file
        Where exchanged constants go, if not into memory.

    Attributes
    ----------
    message
        The model; large initializers have no data.
    constants
        Their values, read-only.

    Raises
    ------
    MalformedError
        Not an ONNX model, or its external data is not where it says, or not in the model's folder.
    NotFoundError
        There is no such file.
    """

    def __init__(self, model: Model, file: ConstantsFile | None = None) -> None:
        self.message, self.constants = _apart(parsed(model), model.parent if isinstance(model, Path) else None)
        self._file = file

    def exchange(self, name: str, tensor: onnx.TensorProto, value: Constant, *, plain: bool) -> None:
        """Put another value of the same shape and dtype in a stored tensor's place. The old one is let go.

        A `plain` value never goes into the file, which is public and keeps all that was ever written to it.
        """
        if name not in self.constants:
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
        elif self._file is not None and not plain:
            self.constants[name] = self._file.append(tensor, value)
        else:
            self.constants[name] = value

    def encoded(self) -> bytes:
        """The ONNX file: all of it, or the small one that names the file of constants.

        Raises
        ------
        EncryptionError
            It would be larger than a protobuf message can be.
        """
        if self._file is not None:
            return _encoded(self.message)
        graph, around = onnx.GraphProto(), onnx.ModelProto()
        graph.CopyFrom(self.message.graph)
        graph.ClearField("initializer")
        around.CopyFrom(self.message)
        around.ClearField("graph")
        start, middle = _encoded(around), _encoded(graph)
        parts = [(_encoded(tensor), self.constants.get(tensor.name)) for tensor in self.message.graph.initializer]
        sizes = [len(head) + (0 if value is None else _field_size(value.nbytes)) for head, value in parts]
        size = len(middle) + sum(_field_size(inner) for inner in sizes)
        if len(start) + _field_size(size) > MAX_BYTES:
            raise EncryptionError(
                f"the model would have {size / 1e9:.1f} GB, and an ONNX file has at most {MAX_BYTES / 1e9:.1f} GB",
                field="model",
                hint="keep its constants in a file of their own (--external-data)",
            )
        out = io.BytesIO()
        out.write(start + _tag(_GRAPH) + _varint(size) + middle)
        for (head, value), inner in zip(parts, sizes, strict=True):
            out.write(_tag(_INITIALIZER) + _varint(inner) + head)
            if value is not None:
                out.write(_tag(_RAW_DATA) + _varint(value.nbytes))
                out.write(_raw(value))
        return out.getvalue()

    def digest(self, encoded: bytes) -> Digest:
        """What :func:`model_digest` gives for the files."""
        return sha256(encoded) if self._file is None else sha256(encoded, self._file.digest())


def model_digest(model: bytes | Path) -> Digest:
    """SHA-256 of an ONNX file; with external data, of the file and the SHA-256 of each file it names, in name order.

    Raises
    ------
    MalformedError, NotFoundError
        As for :class:`Container`.
    """
    if isinstance(model, bytes):
        return sha256(model)
    data = _read(model)
    names = sorted({ExternalDataInfo(each).location for each in _tensors(parsed(data)) if is_external(each)})
    digests = []
    for name in names:
        with _beside(model.parent, name).open("rb") as stream:
            digests.append(digest_stream(stream))
    return sha256(data, *digests)


def whole(model: Model) -> onnx.ModelProto:
    """A copy of a model's message with all of its data in memory, that of other files too.

    Raises
    ------
    MalformedError, NotFoundError
        As for :class:`Container`.
    """
    made = onnx.ModelProto()
    made.CopyFrom(parsed(model))
    for tensor in _tensors(made):
        if is_external(tensor):
            _load(tensor, model.parent if isinstance(model, Path) else None)
    return made


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor's values lie in another file."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def _apart(model: onnx.ModelProto, folder: Path | None) -> tuple[onnx.ModelProto, dict[str, Constant]]:
    """A copy of a message without its large initializers, and these."""
    made = onnx.ModelProto()
    for described, value in model.ListFields():
        if described.name != "graph":
            _copy(made, described.name, value)
    made.graph.SetInParent()
    for described, value in model.graph.ListFields():
        if described.name != "initializer":
            _copy(made.graph, described.name, value)
    constants: dict[str, Constant] = {}
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and prod(tensor.dims) > LARGE:
            constants[tensor.name] = _values(tensor, folder)
            made.graph.initializer.add(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
        else:
            made.graph.initializer.append(tensor)
    for tensor in _tensors(made):
        if is_external(tensor) and tensor.name not in constants:
            _load(tensor, folder)
    return made, constants


def _copy(message: object, name: str, value: object) -> None:
    field = getattr(message, name)
    if hasattr(field, "extend"):
        field.extend(value)
    elif hasattr(field, "CopyFrom"):
        field.CopyFrom(value)
    else:
        setattr(message, name, value)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Initializers, and the tensors of Constant nodes."""
    yield from model.graph.initializer
    for node in model.graph.node:
        yield from (each.t for each in node.attribute if each.type == onnx.AttributeProto.TENSOR)


def _values(tensor: onnx.TensorProto, folder: Path | None) -> Constant:
    """The values of a float32 tensor, read-only: of its own, or a map of its file."""
    if is_external(tensor):
        path, offset, length = _place(tensor, folder)
        if length != prod(tensor.dims) * _STORED_AS.itemsize:
            raise _misfit(tensor.name)
        return np.memmap(path, _STORED_AS, "r", offset, tuple(tensor.dims))
    try:
        found: Constant = numpy_helper.to_array(tensor)
    except ValueError:
        raise _misfit(tensor.name) from None
    found.flags.writeable = False
    return found


def _load(tensor: onnx.TensorProto, folder: Path | None) -> None:
    path, offset, length = _place(tensor, folder)
    with path.open("rb") as stream:
        stream.seek(offset)
        data = stream.read(length)
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    tensor.raw_data = data


def _place(tensor: onnx.TensorProto, folder: Path | None) -> tuple[Path, int, int]:
    """The file of a tensor's values, and where in it they start and how many bytes they have."""
    if folder is None:
        raise EncryptionError(
            f"constant {tensor.name!r} lies in another file",
            field=tensor.name,
            hint="give the model's path, or save the model as one file",
        )
    try:
        info = ExternalDataInfo(tensor)
    except ValueError:
        raise _misfit(tensor.name) from None
    path = _beside(folder, info.location)
    size, offset = path.stat().st_size, info.offset or 0
    length = size - offset if info.length is None else info.length
    if length < 0 or offset + length > size:
        raise MalformedError(f"constant {tensor.name!r} reaches beyond its file {info.location!r}", field=tensor.name)
    return path, offset, length


def _beside(folder: Path, location: str) -> Path:
    """A regular file in (or below) a model's folder. A model may not name others: it would read them."""
    home = folder.resolve()
    path = (home / location).resolve()
    if not location or not path.is_relative_to(home):
        raise MalformedError(
            f"the model names the file {location!r}, which is outside its folder",
            field="model",
            hint="keep the model and its data in one folder",
        )
    if not path.is_file():
        raise NotFoundError(f"the model names the file {location!r}, and there is none beside it", field="model")
    return path


def _misfit(name: str) -> MalformedError:
    return MalformedError(f"constant {name!r} has another size than its shape says", field=name)


def parsed(given: Model) -> onnx.ModelProto:
    """A model's message; external data is not read."""
    if isinstance(given, onnx.ModelProto):
        return given
    data = _read(given) if isinstance(given, Path) else given
    try:
        return onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's DecodeError, which onnx does not re-export
        raise MalformedError("these bytes are not an ONNX model", field="model") from error


def _read(path: Path) -> bytes:
    return read_file(path, "model", max_bytes=MAX_BYTES)


def _raw(value: Constant) -> memoryview:
    return np.ascontiguousarray(value, _STORED_AS).data.cast("B")


def _encoded(message: onnx.ModelProto | onnx.GraphProto | onnx.TensorProto) -> bytes:
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def _tag(field: int) -> bytes:
    return bytes([field << 3 | _DELIMITED])


def _field_size(length: int) -> int:
    """Bytes of a field with a tag below 128 and so many bytes of content."""
    return 1 + len(_varint(length)) + length


def _varint(number: int) -> bytes:
    """Base 128, lowest digit first."""
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])
