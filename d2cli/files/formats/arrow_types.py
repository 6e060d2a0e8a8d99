"""Arrow types: which are read as numbers or text, and how their values become arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from d2cli.errors import DataError

#: Arrow types that are text. Parquet gives text as binary if its writer set no type.
_TEXT = ("string", "large_string", "string_view")
_BINARY = ("binary", "large_binary", "binary_view")
#: Bytes of a UUID, and where its canonical text has dashes.
_UUID_BYTES, _DASHES = 16, (8, 12, 16, 20)
_HEX = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), "S2")


class RowType(NamedTuple):
    """One row of a column.

    Attributes:
        value: the Arrow type of one value.
        lengths: the lengths of the lists around it, from the outside in; 0 for lists whose length
            is known only from the data.
        axes: the number of axes of one row, such as 2 of a matrix.
    """

    value: pa.DataType
    lengths: tuple[int, ...]
    axes: int

    @property
    def late(self) -> bool:
        """Whether a length is known only from the data."""
        return 0 in self.lengths


def row_type(kind: pa.DataType) -> RowType:
    """What one row of a column of this type holds: one value, a list, or a list of lists."""
    lengths: list[int] = []
    axes = 0
    while True:
        if isinstance(kind, pa.FixedShapeTensorType):  # stored as one list
            axes += len(kind.shape) - 1
        kind = _storage(kind)
        if pa.types.is_fixed_size_list(kind):
            lengths.append(kind.list_size)
        elif _is_list(kind):
            lengths.append(0)
        else:
            return RowType(kind, tuple(lengths), axes + len(lengths))
        kind = kind.value_type


def numpy_type(kind: pa.DataType) -> np.dtype:
    """NumPy's type of one value: 'U' for text; object for types that are not read."""
    kind = _storage(kind)
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if str(kind) in (*_TEXT, *_BINARY) or pa.types.is_fixed_size_binary(kind):
        return np.dtype("U")
    if pa.types.is_decimal(kind):
        return np.dtype(np.float64 if kind.scale else np.int64)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return pa.array([], kind).to_numpy(zero_copy_only=False).dtype
    return np.dtype(object)


def type_name(kind: pa.DataType) -> str:
    """A type as messages show it: ``list<int8>``, not ``list<element: int8>``."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return f"tensor<{type_name(kind.value_type)}>{list(kind.shape)}"
    if isinstance(kind, pa.BaseExtensionType):
        return str(kind.extension_name)
    if pa.types.is_fixed_size_list(kind):
        return f"fixed_size_list<{type_name(kind.value_type)}>[{kind.list_size}]"
    if _is_list(kind):
        name = str(kind).partition("<")[0]
        return f"{name}<{type_name(kind.value_type)}>"
    if pa.types.is_dictionary(kind):
        return f"dictionary<{type_name(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return "struct"
    return str(kind).partition("<")[0] if pa.types.is_nested(kind) else str(kind)


def leaves(field: pa.Field) -> Iterator[tuple[tuple[str, ...], pa.DataType]]:
    """(path, type) of a column; of a struct, of each of its fields, however deep."""
    if not pa.types.is_struct(field.type):
        yield (field.name,), field.type
        return
    for at in range(field.type.num_fields):
        for path, kind in leaves(field.type.field(at)):
            yield (field.name, *path), kind


def leaf(batch: pa.RecordBatch, path: tuple[str, ...]) -> pa.Array:
    """The values of a column or of a field of a struct; null where a struct around it is null."""
    values = batch.column(path[0])  # by name, because parquet also reads "name.part"
    for name in path[1:]:
        values = pc.struct_field(values, name)
    return values


def plain(values: pa.Array) -> pa.Array:
    """Values as integers, floats, booleans or text; nulls are kept.

    Dictionaries are decoded. Decimals become integers if their type has no fraction, else float64.
    UUIDs become their canonical text. Other binary values become text if all are UTF-8, else
    hexadecimal digits.

    Raises:
        pa.ArrowInvalid: for a decimal that int64 cannot hold.
    """
    kind = values.type
    if isinstance(values, pa.ExtensionArray):
        uuid = getattr(kind, "extension_name", "") == "arrow.uuid"
        return _hexadecimal(values.storage) if uuid else plain(values.storage)
    if pa.types.is_dictionary(kind):
        words = plain(values.dictionary)
        if str(words.type) == "string_view":  # Arrow cannot take from views
            words = words.cast(pa.large_string())
        return words.take(values.indices)  # a dictionary can contain a null
    if pa.types.is_decimal(kind):
        return values.cast(pa.float64() if kind.scale else pa.int64())
    if str(kind) in _BINARY or pa.types.is_fixed_size_binary(kind):
        return _text(values)
    return values


def numbers(values: pa.Array) -> NDArray[Any]:
    """:func:`plain` numbers as an array; a null is NaN. A view if nothing has to be converted."""
    if values.null_count and pa.types.is_boolean(values.type):
        values = values.cast(pa.uint8())
    return values.to_numpy(zero_copy_only=False)


def first_lengths(values: pa.Array, depth: int) -> tuple[int, ...] | None:
    """The lengths of the first list, of the first list inside it, …; None if there is none."""
    if not depth:
        return ()
    filled = _bare(values).drop_null()
    if not len(filled):
        return None
    length = pc.list_value_length(filled.slice(0, 1))[0].as_py()
    inner = first_lengths(filled.flatten(), depth - 1)
    return (length, *(inner or (0,) * (depth - 1)))


def list_matrix(
    lists: pa.Array, lengths: int | tuple[int, ...], where: str, start: int = 0, nulls: bool = False
) -> NDArray[Any]:
    """Lists of numbers as a matrix, one row each; without a copy if there are no nulls.

    Args:
        lists: (n,) lists, or lists of lists, …
        lengths: the length of each list, from the outside in. Other lengths are refused.
        where, start: the place of the first list, for messages.
        nulls: whether a null becomes NaN; if not, it is refused. A list that is null becomes a row
            of NaN.

    Raises:
        DataError: naming the row.
    """
    if isinstance(lengths, int):
        lengths = (lengths,)
    if not nulls:
        refuse_nulls(lists, where, start)
        inner = plain(_bare(lists).flatten())
        if inner.null_count:
            row, column = divmod(first_null(inner), lengths[0])
            raise DataError(f"{where}: row {start + row}, column {column} is null")
    return _rows(lists, lengths, lambda row: f"{where}: row {start + row}")


def _rows(values: pa.Array, lengths: tuple[int, ...], place: Callable[[int], str]) -> NDArray[Any]:
    """:func:`list_matrix` at one depth; `place` names the row of a value by its number."""
    if not lengths:
        return numbers(plain(values))
    values, width, filled = _bare(values), lengths[0], None
    if values.null_count:
        filled = values.is_valid().to_numpy(zero_copy_only=False)
        values = values.drop_null()

    def outer(row: int) -> str:
        return place(row if filled is None else int(np.flatnonzero(filled)[row]))

    if not pa.types.is_fixed_size_list(values.type):
        found = pc.list_value_length(values).to_numpy()
        if (found != width).any():
            row = int(np.argmax(found != width))
            says = f"has {found[row]} values, the rows before have {width}"
            raise DataError(f"{outer(row)} {says}")
    inner = _rows(values.flatten(), lengths[1:], lambda at: outer(at // width))
    matrix = inner.reshape(len(values), math.prod(lengths))
    if filled is None:
        return matrix
    floating = matrix.dtype if matrix.dtype.kind == "f" else np.result_type(matrix, np.float32)
    whole = np.full((len(filled), matrix.shape[1]), np.nan, floating)
    whole[filled] = matrix
    return whole


def one_array(pieces: Iterable[pa.Array], where: str, kind: pa.DataType, nulls: bool) -> pa.Array:
    """The pieces of a column of type `kind` as one array; a null is refused unless `nulls`."""
    found, start = [], 0
    for values in pieces:
        if not nulls:
            refuse_nulls(values, where, start)
        found.append(values)
        start += len(values)
    # Binary values of one piece can be UTF-8 by chance.
    if len({values.type for values in found}) > 1:
        found = [values.cast(pa.large_string()) for values in found]
    return pa.concat_arrays(found) if found else pa.array([], kind)


def refuse_nulls(values: pa.Array | pa.ChunkedArray, where: str, start: int = 0) -> None:
    """Refuse a null; `where` and `start` as of :func:`list_matrix`."""
    if values.null_count:
        raise DataError(f"{where}: row {start + first_null(values)} is null")


def first_null(values: pa.Array | pa.ChunkedArray) -> int:
    """The place of the first null."""
    return int(pc.index(values.is_null(), True).as_py())


def _is_list(kind: pa.DataType) -> bool:
    """Whether values are lists whose length is not part of the type."""
    return str(kind).startswith(("list<", "large_list<", "list_view<", "large_list_view<"))


def _storage(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _bare(values: pa.Array) -> pa.Array:
    """Values of an extension type as what they are stored as."""
    return values.storage if isinstance(values, pa.ExtensionArray) else values


def _text(values: pa.Array) -> pa.Array:
    """Binary values as text: as they are if all are UTF-8, else hexadecimal."""
    binary = values
    if str(values.type) != "large_binary":
        binary = values.cast(pa.large_binary())
    try:
        return binary.cast(pa.large_string())
    except pa.ArrowInvalid:
        return _hexadecimal(values)


def _hexadecimal(values: pa.Array) -> pa.Array:
    """Binary values as hexadecimal digits; of 16 bytes, as UUIDs are written."""
    if not pa.types.is_fixed_size_binary(values.type):
        digits = [None if value is None else value.hex() for value in values.to_pylist()]
        return pa.array(digits, pa.large_string())
    width = values.type.byte_width
    raw = np.frombuffer(values.buffers()[1] or b"", np.uint8)
    raw = raw[values.offset * width : (values.offset + len(values)) * width]
    characters = _HEX[raw].view(np.uint8).reshape(len(values), 2 * width)
    if width == _UUID_BYTES:
        characters = np.insert(characters, _DASHES, ord("-"), axis=1)
    offsets = np.arange(len(values) + 1, dtype=np.int64) * characters.shape[1]
    buffers = pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(characters))
    text = pa.LargeStringArray.from_buffers(len(values), *buffers)
    if values.null_count:
        text = pc.if_else(values.is_valid(), text, pa.scalar(None, pa.large_string()))
    return text
