"""An input as a whole: the files behind one option, which field of them is meant, and its rows."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from d2cli.defaults import MAX_ROWS
from d2cli.errors import DataError
from d2cli.files.choice import NO_IDS, Role, Wanted, choose, find_ids
from d2cli.files.formats.fields import Field
from d2cli.files.formats.numpy_files import npy_fields, npz_fields
from d2cli.files.formats.tables import ColumnField, FamilyField, TableFile, arrow_errors
from d2cli.files.paths import Format, expand, sniff
from d2cli.runtime.room import room

#: Of several kinds of file in one folder, the first that has the field: arrays before metadata.
_KINDS: tuple[Format, ...] = ("npy", "npz", "parquet", "arrow", "arrow-stream", "csv")

FieldsOf = Callable[[Path, Format], list[Field]]


@dataclass(frozen=True)
class Source:
    """The rows behind one option, in order: one field a file.

    Attributes:
        role: what the rows are.
        option: the option's name on the command line, without dashes.
        parts: one field for each file.
        id_parts: each file's ids; empty where the files carry none.
    """

    role: Role
    option: str
    parts: list[Field]
    id_parts: list[Field] = field(default_factory=list)

    @property
    def n(self) -> int:
        """Rows in all."""
        return sum(part.n for part in self.parts)

    @property
    def paths(self) -> list[Path]:
        """The files, in order, each once."""
        return list(dict.fromkeys(part.path for part in self.parts))

    @property
    def name(self) -> str:
        """What to call the input in a message."""
        first = self.parts[0].where
        return first if len(self.parts) == 1 else f"{first} … ({len(self.parts)} files)"

    @property
    def has_columns(self) -> bool:
        """Whether the files are tables, which might carry ids."""
        return any(isinstance(part, ColumnField | FamilyField) for part in self.parts)

    def place(self, row: int | None) -> str:
        """The file and the row in it, for messages."""
        if row is None:
            return self.name
        ends = list(accumulate(part.n for part in self.parts))
        at = bisect_right(ends, row)
        return f"{self.parts[at].where}: row {row - (ends[at - 1] if at else 0)}"

    def matrix(self) -> NDArray[np.floating]:
        """All rows, (n, d): memory-mapped where one ``.npy`` holds them, else one copy.

        The copy is float64 where a file is, otherwise float32.
        """
        if len(self.parts) == 1:
            mapped = self.parts[0].mapped()
            if mapped is not None:
                return mapped
        filled = [part for part in self.parts if part.n]  # an empty shard has no width
        width = filled[0].width()
        for part in filled:
            if part.width() != width:
                raise DataError(
                    f"{part.where}: rows have {part.width()} values, those of "
                    f"{filled[0].where} have {width}"
                )
        types = {part.dtype.newbyteorder("=") for part in self.parts}
        unusable = [t for t in types if t.kind != "f"]
        common = np.result_type(np.float32, *types) if not unusable else unusable[0]
        return self._gather((self.n, width), common)

    def vector(self) -> NDArray[np.float64]:
        """All rows as float64, (n,)."""
        return self._gather((self.n,), np.dtype(np.float64))

    def _gather(self, shape: tuple[int, ...], dtype: np.dtype) -> NDArray[Any]:
        out = room(shape, dtype, self.name)
        start = 0
        for part in self.parts:
            rows = 0
            for first, column, block in part.pieces():
                rows = first + block.shape[0]
                if start + rows > shape[0]:
                    raise DataError(f"{part.where}: has more rows than the {part.n:,} it claims")
                place = out[start + first : start + rows]
                if block.ndim == 2:
                    place = place[:, column : column + block.shape[1]]
                with np.errstate(over="ignore"):  # an infinity is refused where values are checked
                    place[:] = block
            start += rows
        if start != shape[0]:
            raise DataError(f"{self.name}: {start:,} rows were read where {shape[0]:,} were said")
        return out

    def column(self) -> pa.Array:
        """All rows of a one-dimensional field, text or numbers."""
        return _joined(self.parts)

    def id_values(self) -> pa.Array | None:
        """What the id column holds, repeats and all, or None."""
        return _joined(self.id_parts) if self.id_parts else None

    def ids(self) -> pa.Array | None:
        """Every row's id, or None.

        Raises:
            DataError: if an id stands twice.
        """
        ids = self.id_values()
        if ids is not None:
            check_unique(ids, self.place)
        return ids


def _joined(parts: list[Field]) -> pa.Array:
    """The columns of several files as one."""
    arrays = []
    for part in parts:
        with arrow_errors(part.where):
            arrays.append(broadened(part.column()))
    for part, array in zip(parts, arrays, strict=True):
        if array.type != arrays[0].type:
            raise DataError(
                f"{part.where}: is {array.type}, and {arrays[0].type} in {parts[0].path}"
            )
    return pa.concat_arrays(arrays)


def broadened(values: pa.Array) -> pa.Array:
    """Integers as int64 (uint64 where they need it) and text as large_string, to be compared."""
    kind = values.type
    if pa.types.is_uint64(kind) and len(values) and pc.max(values).as_py() >= 1 << 63:
        return values
    if pa.types.is_integer(kind):
        return values.cast(pa.int64())
    return values if pa.types.is_boolean(kind) else values.cast(pa.large_string())


def check_unique(ids: pa.Array, place: Callable[[int], str]) -> None:
    """Refuse an id that stands twice; `place` says where a row is."""
    _, first, times = np.unique(_codes(ids), return_index=True, return_counts=True)
    if (times > 1).any():
        again = int(first[np.argmax(times > 1)])
        raise DataError(
            f"{place(again)}: the id {ids[again].as_py()!r} stands {int(times.max())} times",
            f"ids must be unique; --id-column {NO_IDS} joins by row instead",
        )


def _codes(values: pa.Array) -> NDArray[Any]:
    """Numbers that are equal where the values are."""
    return values.dictionary_encode().indices.to_numpy(zero_copy_only=False)


def open_source(
    arguments: list[str],
    role: Role,
    option: str,
    key: str | None = None,
    id_column: str | None = None,
    *,
    key_option: str | None = "",
    fields_of: FieldsOf | None = None,
) -> Source:
    """Find the files, and the field of each that is meant. Reads headers only, except of CSV.

    Args:
        arguments: paths, folders and globs, in order.
        role, key, id_column: what is looked for, see :class:`~d2cli.files.choice.Wanted`.
        option: the option that it was given by, without dashes.
        key_option: the option that takes the key; by default ``{option}-key``.
        fields_of: what finds every field of one file; by default :func:`file_fields`.

    Raises:
        DataError: where a file cannot be used, naming it.
    """
    key_option = f"{option}-key" if key_option == "" else key_option
    wanted = Wanted(role, key_option, key, id_column)
    parts: list[Field] = []
    id_parts: list[Field] = []
    for argument in arguments:
        for fields in _one_kind(expand([argument], option), wanted, fields_of or file_fields):
            parts.append(choose(fields, wanted))
            id_parts.extend(find_ids(fields, id_column))
    if id_parts and len(id_parts) != len(parts):
        raise DataError(f"{parts[0].path}: only some files of --{option} carry {id_parts[0].name}")
    source = Source(role, option, parts, id_parts)
    if source.n == 0:
        raise DataError(f"{source.name}: there are no rows")
    if source.n > MAX_ROWS:
        raise DataError(f"{source.name}: {source.n:,} rows are more than {MAX_ROWS:,}")
    return source


def file_fields(path: Path, kind: Format) -> list[Field]:
    """Every field of one file."""
    if kind == "npy":
        return npy_fields(path)
    if kind == "npz":
        return npz_fields(path)
    return TableFile(path, kind).fields()


def _one_kind(files: list[Path], wanted: Wanted, fields_of: FieldsOf) -> Iterator[list[Field]]:
    """The fields of each file; of a folder with several kinds, the first kind that will do."""
    by_kind: dict[Format, list[Path]] = {}
    for path in files:
        by_kind.setdefault(sniff(path), []).append(path)
    kinds = [kind for kind in _KINDS if kind in by_kind]
    for kind in kinds[:-1]:
        fields = fields_of(by_kind[kind][0], kind)
        try:
            choose(fields, wanted)
        except DataError:
            continue
        kinds = [kind]
        break
    for path in by_kind[kinds[-1]]:
        yield fields_of(path, kinds[-1])


@dataclass(frozen=True)
class Reordered:
    """A source seen in the order of a frame: row i is row ``rows[i]`` of the source."""

    source: Source
    rows: NDArray[np.int64]

    def place(self, row: int | None) -> str:
        """The file and the row in it, for messages."""
        return self.source.place(None if row is None else int(self.rows[row]))


@contextmanager
def blame(**inputs: Source | Reordered | str | None) -> Iterator[None]:
    """Put the file's name in front of what numerical code says of its arguments."""
    try:
        yield
    except DataError as error:
        origin = inputs.get(error.argument or "")
        if origin is None:
            raise
        if isinstance(origin, str):
            place = origin if error.row is None else f"{origin}: row {error.row}"
        else:
            place = origin.place(error.row)
        raise DataError(f"{place}: {error.message}", error.hint) from error
