"""Tables of records in files: NumPy arrays and CSV in, predictions out."""

from __future__ import annotations

import csv
import io
import math
import shlex
import zipfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
import numpy.lib.format as npy_format
from numpy.typing import NDArray

from rexis.files import read_file, reader, write_file, writing
from rexis.protocol.errors import MalformedError, ResourceError, TensorError
from rexis.protocol.records import Floats
from rexis.protocol.rows import MappedRows, Rows, StoredRows, blocks
from rexis.protocol.tensors import check_records

if TYPE_CHECKING:
    from models.zoo import Manifest

_MAX_BYTES = 4 << 30
_MAX_NPY_HEADER = 64 << 10
_MAX_MANIFEST_BYTES = 16 << 20
# Standardised values lie within a few units of 0; raw laboratory values rarely do.
_SUSPICIOUS = 100.0
# What an input may hold: numbers, of which the first two are the records of a model with one input; ids, masks.
_DTYPES = (np.float32, np.float64, np.int64, np.int32, np.bool_)
# Version 3 is for structured types with names beyond Latin-1.
_NPY_HEADERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}


def read_manifest(path: Path) -> Manifest:
    """A zoo model's manifest, for its feature names, standardisation and class names."""
    from pydantic import ValidationError

    from models.zoo import Manifest

    try:
        return Manifest.model_validate_json(read_file(path, "manifest", max_bytes=_MAX_MANIFEST_BYTES))
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise MalformedError(f"{path} is not a model's manifest", field=where or None) from None


def read_records(path: Path, manifest: Manifest | None, drop: Collection[str] = ()) -> Floats:
    """As :func:`open_records`, in memory."""
    return np.asarray(open_records(path, manifest, drop)[:], dtype=np.float32)


def open_records(path: Path, manifest: Manifest | None, drop: Collection[str] = ()) -> Rows:
    """Records ``float32 [n, …]`` as the plain model takes them, from ``.npy``, or ``[n, d]`` from ``.csv``.

    Those of an ``.npy`` stay there: all are looked at once, and slices of them are read.

    Parameters
    ----------
    manifest
        With it, the file holds raw values, which are standardised; a CSV's columns are found by their names.
    drop
        Columns of a CSV that are no features: identifiers, labels.

    Raises
    ------
    TensorError, MalformedError
        Names the record (counted from 0) and the column at fault, never the value.
    """
    names = manifest.feature_names if manifest is not None else None
    values: Rows
    if path.suffix == ".csv":
        columns, values = _read_csv(read_file(path, "records file", max_bytes=_MAX_BYTES), path, names, drop)
    elif path.suffix == ".npy" and not drop:
        values = _open_npy(path)
        width = math.prod(values.shape[1:])
        columns = names if names is not None and len(names) == width else _numbered(width)
    elif path.suffix == ".npy":
        raise MalformedError(f"the columns of {path} have no names", field="drop", hint="only a .csv has")
    else:
        raise MalformedError(f"{path} is neither .npy nor .csv", hint="one row a record, one column a feature")

    def prepared(rows: NDArray[Any]) -> Floats:
        with np.errstate(over="ignore"):
            return rows.astype(np.float32) if manifest is None else manifest.standardise(rows)

    for start, block in blocks(values):
        _require_finite(block, columns, start)
        _require_finite(prepared(block), columns, start)
    return check_records(cast(Floats, MappedRows(values, prepared, np.dtype(np.float32))))


def read_targets(path: Path, classes: tuple[str, ...] | None = None) -> NDArray[Any]:
    """What records should give, ``[n, …]``: from ``.npy``, or from ``.csv`` with a header line; one column is ``[n]``.

    Parameters
    ----------
    classes
        With them, a CSV may hold names of classes, which become their numbers.

    Raises
    ------
    TensorError, MalformedError
        Names the record (counted from 0) and the column at fault, never the value.
    """
    data = read_file(path, "targets file", max_bytes=_MAX_BYTES)
    if path.suffix == ".npy":
        return _read_npy(data, path, (*_DTYPES, np.uint8), axes=1)
    if path.suffix != ".csv":
        raise MalformedError(f"{path} is neither .npy nor .csv", hint="one row a record")
    if classes is not None:
        numbers = {name: str(number) for number, name in enumerate(classes)}
        head, *lines = data.decode("utf-8-sig", "replace").splitlines()
        data = "\n".join([head, *(numbers.get(line.strip(), line) for line in lines)]).encode()
    values = _read_csv(data, path, None, ())[1]
    return values[:, 0] if values.shape[1] == 1 else values


def read_inputs(path: Path) -> dict[str, NDArray[Any]]:
    """Records of several inputs as the plain model takes them, from ``.npz``: an array ``[n, …]`` for each name.

    Raises
    ------
    TensorError, MalformedError
        Names the input at fault, and the record (counted from 0), never the value.
    """
    found: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(read_file(path, "records file", max_bytes=_MAX_BYTES))) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MAX_BYTES:
                raise TensorError(f"{path} unpacks to more than {_MAX_BYTES} bytes", field="records")
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                found[name] = _read_npy(archive.read(member), f"{path}, input {name!r}", _DTYPES)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError):  # the others: unknown compression, a password
        raise MalformedError(f"{path} is not a NumPy archive", hint="write it with numpy.savez") from None
    if not found:
        raise TensorError(f"{path} holds no arrays", field="records")
    for name, values in found.items():
        finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        if not bool(finite.all()):
            raise TensorError(f"record {int(np.argmin(finite))} of input {name!r}: NaN or infinite", field=name)
    return found


def write_inputs(path: Path, records: Mapping[str, NDArray[Any]]) -> None:
    """Write encrypted records of several inputs as ``.npz``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, values in records.items():
            array = io.BytesIO()
            np.save(array, values)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), array.getvalue())
    write_file(path, buffer.getvalue())


def look_raw(records: Rows) -> bool:
    """Whether records look as if nobody had standardised them."""
    return any(bool((np.abs(block) > _SUSPICIOUS).any()) for _, block in blocks(records))


def write_predictions(
    path: Path, count: int, outputs: Iterable[Floats], first: int, class_names: tuple[str, ...] | None
) -> None:
    """Write decrypted outputs, readable by the owner only: ``.npy`` as they are, ``.csv`` with record numbers.

    Parameters
    ----------
    count
        How many records there are.
    outputs
        Blocks of them, in order.
    first
        Index in the dataset of the first record.
    class_names
        With them a CSV names its columns so, and says which is largest.
    """
    if path.suffix not in (".npy", ".csv"):
        raise MalformedError(f"{path} is neither .npy nor .csv")
    with writing(path, private=True) as stream:
        if path.suffix == ".npy":
            _write_npy(stream, count, outputs)
        else:
            _write_csv(stream, outputs, first, class_names)


def _write_npy(stream: BinaryIO, count: int, outputs: Iterable[Floats]) -> None:
    for number, block in enumerate(outputs):
        if number == 0:
            described = {"descr": "<f4", "fortran_order": False, "shape": (count, *block.shape[1:])}
            npy_format.write_array_header_1_0(stream, described)
        stream.write(np.ascontiguousarray(block, dtype="<f4").tobytes())


def _write_csv(stream: BinaryIO, outputs: Iterable[Floats], first: int, class_names: tuple[str, ...] | None) -> None:
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
    table = csv.writer(text, lineterminator="\n")
    names: tuple[str, ...] | None = None
    for block in outputs:
        rows = block.reshape(len(block), -1)
        if names is None:
            if class_names is not None and len(class_names) != rows.shape[1]:
                raise TensorError(f"the outputs have {rows.shape[1]} columns, the manifest {len(class_names)} classes")
            names = class_names or tuple(f"output_{i}" for i in range(rows.shape[1]))
            table.writerow(["record", *names] + (["prediction"] if class_names else []))
        for row in rows:
            prediction = [names[int(np.argmax(row))]] if class_names else []
            table.writerow([first, *(repr(float(value)) for value in row), *prediction])
            first += 1
    text.detach()


def _open_npy(path: Path) -> Rows:
    """The array in a file, whose rows stay there if they lie one after the other."""
    read, size = reader(path, "records file")
    shape, by_columns, dtype, offset = _npy_header(read(0, min(size, _MAX_NPY_HEADER)), size, path, _DTYPES[:2])
    if not by_columns:
        return StoredRows(read, offset, shape, dtype)
    if size > _MAX_BYTES:
        raise ResourceError(f"{path} is stored by columns and has {size} bytes", hint="save it in C order")
    values: NDArray[Any] = np.frombuffer(read(offset, size), dtype)
    return values.reshape(shape, order="F")


def _read_npy(data: bytes, path: Path | str, dtypes: tuple[type[np.generic], ...], axes: int = 2) -> NDArray[Any]:
    shape, by_columns, dtype, offset = _npy_header(data, len(data), path, dtypes, axes)
    values: NDArray[Any] = np.frombuffer(data, dtype, offset=offset)
    return values.reshape(shape, order="F" if by_columns else "C")


def _npy_header(
    data: bytes, size: int, path: Path | str, dtypes: tuple[type[np.generic], ...], axes: int = 2
) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """What the beginning of a file of `size` bytes says of its array, once it is known to fit the file."""
    stream = io.BytesIO(data)
    try:
        shape, by_columns, dtype = _NPY_HEADERS[npy_format.read_magic(stream)](stream)
    except Exception:  # NumPy evaluates a header as Python text, which can fail in any way
        hint = "is it truncated, or something else?"
        raise TensorError(f"{path} is not a NumPy array file", hint=hint) from None
    if dtype not in dtypes:
        names = " or ".join(each.__name__ for each in dtypes)
        raise TensorError(f"{path}: dtype is {dtype}, expected {names}", field="records")
    if len(shape) < axes or min(shape) < 1:
        expected = "[records, features…]" if axes > 1 else "[records, …]"
        raise TensorError(f"shape is {list(shape)}, expected {expected}", field="records")
    named, held = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if named != held:
        raise TensorError(
            f"{path} holds {held} bytes of values, its header names {named}", field="records", hint="is it truncated?"
        )
    return shape, by_columns, dtype, stream.tell()


def _read_csv(
    data: bytes, path: Path, wanted: tuple[str, ...] | None, drop: Collection[str]
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise MalformedError(f"{path} is not UTF-8 text", hint="save it as CSV UTF-8") from None
    lines = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [name.strip() for name in next(lines, [])]
        places = _places(header, wanted, path, drop)
        rows = [
            [_number(row, place, header, index, lines.line_num) for place in places]
            for index, row in enumerate(row for row in lines if row)
        ]
    except csv.Error as error:
        raise MalformedError(f"{path}, line {lines.line_num}: {error}") from None
    if not rows:
        raise TensorError(f"{path} holds no records below its header")
    return tuple(header[place] for place in places), np.asarray(rows, dtype=np.float64)


def _places(header: list[str], wanted: tuple[str, ...] | None, path: Path, drop: Collection[str]) -> list[int]:
    """Which columns to take, in the model's order."""
    if not header:
        raise MalformedError(f"{path} is empty", hint="the first line names the columns")
    if all(_is_number(name) for name in header):
        raise MalformedError(f"{path} has no header", hint="the first line names the columns")
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise MalformedError(f"{path} names column {twice!r} twice", field="header")
    other = next((mark for mark in ";\t|" if len(header) == 1 and mark in header[0]), None)
    if other is not None:
        raise MalformedError(
            f"{path} separates columns by {other!r}",
            field="header",
            hint="save it with commas, and with decimal points",
        )
    strangers = [name for name in drop if name not in header]
    if strangers:
        raise MalformedError(f"{path} has no column {strangers[0]!r} to leave out", field="drop")
    if wanted is None:
        return [place for place, name in enumerate(header) if name not in drop]
    missing = [name for name in wanted if name not in header]
    unknown = [name for name in header if name not in wanted and name not in drop]
    if missing or unknown:
        what = (
            f"lacks column {missing[0]!r}" if missing else f"has a column {unknown[0]!r} that the model does not take"
        )
        more = len(missing) + len(unknown) - 1
        raise MalformedError(
            f"{path} {what}" + (f" (and {more} more faults)" if more else ""),
            field="header",
            hint=None if missing else f"--drop {shlex.quote(unknown[0])} leaves it out",
        )
    return [header.index(name) for name in wanted]


def _number(row: list[str], place: int, header: list[str], index: int, line: int) -> float:
    where = f"record {index} (line {line})"
    if len(row) != len(header):
        raise TensorError(f"{where} has {len(row)} values, the header names {len(header)}")
    try:
        return _parsed(row[place])
    except ValueError:
        what = "is empty" if not row[place].strip() else "is not a number"
        raise TensorError(f"{where}, column {header[place]!r}: {what}", hint="remove or impute such values") from None


def _require_finite(values: NDArray[Any], columns: tuple[str, ...], first: int = 0) -> None:
    finite = np.isfinite(values.reshape(len(values), -1))
    if not bool(finite.all()):
        index, column = (int(place) for place in np.argwhere(~finite)[0])
        raise TensorError(
            f"record {first + index}, column {columns[column]!r}: NaN, infinite or beyond float32",
            hint="remove or impute such values",
        )


def _numbered(width: int) -> tuple[str, ...]:
    return tuple(str(place) for place in range(width))


def _is_number(text: str) -> bool:
    try:
        _parsed(text)
    except ValueError:
        return False
    return True


def _parsed(text: str) -> float:
    """A decimal number. Python's other spellings are none: ``1_000`` may be a slip as well as a thousand."""
    if "_" in text or not text.isascii():
        raise ValueError
    return float(text)
