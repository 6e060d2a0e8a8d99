"""A field: one named array of n rows in one file, independent of the file's format."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import DataError
from d2cli.files.raw.numbers import read_numbers

#: Bytes that are read at a time, approximately.
BLOCK_BYTES = 1 << 24
#: Bytes that are read of a CSV or plain text file if it is skimmed.
SKIMMED_BYTES = 1 << 18


class Field(ABC):
    """One array in one file.

    Attributes:
        path, name: the file, and the array's name; empty if the file holds one unnamed array.
        where: both, for messages.
        n, shape: the number of rows, and (n,), (n, d) or any other shape; known without reading
            the data. The second length of a column of lists is 0: :meth:`width` finds it.
        dtype: NumPy's type of the values; object for values that are neither numbers nor text.
        is_text, is_number: whether the values are strings; whether they are numbers or booleans.
        refusal: why the field cannot be read; raised when the field is chosen.
        exact: whether `n` is counted; if not, it is estimated from the beginning of the file.
        width_shows_late: whether the width of a row is known only from the data.
        axes_of_row: the number of axes of a row before a table's lists of lists became one list.
        integers: whether the rows are lists of whole numbers, whatever `dtype` they are read as.
        stored_dtype: NumPy's type of the values as the file stores them.
        text_numbers: whether the values are numbers in text, where the type of floats is not seen.
        declared: whether the file gives the type of values that NumPy has no type for.
        from_table: whether the file is a table, whose other columns can be ids.
        notices: what the user should know about how the values are read.
    """

    refusal: DataError | None = None
    exact = True
    width_shows_late = False
    axes_of_row = 1
    integers = False
    text_numbers = False
    declared = False
    from_table = False
    notices: tuple[str, ...] = ()

    def __init__(self, path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.path, self.name, self.shape, self.dtype = path, name, shape, dtype
        self.where = f"{path}: {name}" if name else str(path)
        self.n = shape[0] if shape else 0
        self.stored_dtype = dtype
        self.is_text, self.is_number = dtype.kind in "US", dtype.kind in "fiub"

    @property
    def key_names(self) -> tuple[str, ...]:
        """The names of the columns or members that it is made of; empty for a plain array."""
        return (self.name,) if self.name else ()

    def place(self, row: int) -> str:
        """The file, the field and the row, for messages."""
        return f"{self.where}: row {row}"

    @property
    def type_name(self) -> str:
        """The type of the values, for messages."""
        kind = {"U": "text", "S": "text"}.get(self.dtype.kind, str(self.dtype))
        return kind if len(self.shape) == 1 else f"{kind} {self.shape}"

    @property
    def files(self) -> list[Path]:
        """The files whose content stands for the field's in the provenance."""
        return [self.path]

    @property
    def disk_bytes(self) -> int:
        """Bytes of the file on disk."""
        return self.path.stat().st_size

    def width(self) -> int:
        """The number of values in a row. For a column of lists this reads the first rows."""
        return math.prod(self.shape[1:])

    def header_width(self) -> int:
        """The number of values in a row as the header gives it; reads no data."""
        return math.prod(self.shape[1:])

    def id_bytes(self) -> float:
        """Mean bytes of a value that is used as an id; reads no data."""
        return 16.0 if self.is_text else 8.0  # the usual length of a text

    def buffer_bytes(self, by_rows: bool) -> int:
        """Bytes of the buffers of :meth:`blocks` if `by_rows`, else of :meth:`pieces`."""
        return 0

    def mapped(self) -> NDArray[Any] | None:
        """The whole array, memory-mapped; None if the file cannot be mapped."""
        return None

    @abstractmethod
    def blocks(self) -> Iterator[NDArray[Any]]:
        """The rows in order, in blocks. A block may be a view; the next one may overwrite it."""

    def numbered_blocks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """(first row, block) for each of :meth:`blocks`."""
        start = 0
        for block in self.blocks():
            yield start, block
            start += len(block)

    def pieces(self) -> Iterator[tuple[int, int, NDArray[Any]]]:
        """(first row, first column, part of the array), in the order that is cheapest to read."""
        return ((start, 0, block) for start, block in self.numbered_blocks())

    def layers(self, wanted: range) -> Iterator[tuple[int, int, NDArray[Any]]]:
        """(layer, first row, block of rows) along the first of three axes, in order.

        An array of two axes is one layer. `wanted` are consecutive layers; others are skipped.
        """
        return ((0, start, block) for start, block in self.numbered_blocks() if 0 in wanted)

    def arrays(self) -> Iterator[pa.Array]:
        """A one-dimensional field, text or numbers, in pieces; nulls are kept."""
        return (pa.array(np.ascontiguousarray(block)) for block in self.blocks())

    def column(self, nulls: bool = False) -> pa.Array:
        """A one-dimensional field, text or numbers, as one Arrow array.

        Nulls are refused (DataError) unless `nulls` is true.
        """
        blocks = [np.ascontiguousarray(block) for block in self.blocks()]
        return pa.array(np.concatenate(blocks) if blocks else np.empty(0, self.dtype))

    def spans(self, rows: int, width: int) -> Iterator[tuple[int, int]]:
        """(start, stop) of blocks of about :data:`BLOCK_BYTES` of `rows` of `width` values."""
        step = max(1, BLOCK_BYTES // max(1, self.dtype.itemsize * width))
        for start in range(0, rows, step):
            yield start, min(start + step, rows)


class MappedField(Field):
    """An array that lies in a file as NumPy lays it out in memory; it is memory-mapped.

    The caller has checked that the file is long enough.

    Attributes:
        offset, fortran: where the array begins, in bytes, and whether it is in column order.
    """

    def __init__(
        self, path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype, offset: int,
        fortran: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(path, name, shape, dtype)
        self.offset, self.fortran = offset, fortran

    @property
    def is_plain(self) -> bool:
        """Whether it is in C order and native byte order, so that kernels can use it directly."""
        return not self.fortran and self.dtype.isnative

    @property
    def mapped_bytes(self) -> int:
        """Bytes of the array on disk."""
        return 0 if self.dtype.hasobject else math.prod(self.shape) * self.dtype.itemsize

    def mapped(self) -> NDArray[Any]:
        """The array, memory-mapped; nothing is read."""
        if not math.prod(self.shape):
            return np.empty(self.shape, self.dtype)
        order: Any = "F" if self.fortran else "C"
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape, order)

    def blocks(self) -> Iterator[NDArray[Any]]:
        # Read and not mapped: pages of a map stay in the memory of this process.
        width = math.prod(self.shape[1:])
        for start, stop in self.spans(self.n, width):
            if not self.fortran:
                yield self._read(start * width, (stop - start, *self.shape[1:]))
                continue
            columns = np.empty((width, stop - start), self.dtype)
            for column, place in enumerate(columns):
                place[:] = self._read(column * self.n + start, place.shape)
            yield columns.T.reshape((stop - start, *self.shape[1:]), order="F")

    def _read(self, first: int, shape: tuple[int, ...]) -> NDArray[Any]:
        """Consecutive numbers of the file, from the number `first` on."""
        return read_numbers(self.path, self.dtype, shape, self.offset + first * self.dtype.itemsize)

    def layers(self, wanted: range) -> Iterator[tuple[int, int, NDArray[Any]]]:
        rows, width = self.shape[-2:]
        whole = self.mapped().reshape(-1, rows, width) if self.fortran else None
        for layer in wanted:
            for start, stop in self.spans(rows, width):
                if whole is not None:
                    yield layer, start, whole[layer, start:stop]
                    continue
                # Each block has its own map, so that the pages of earlier blocks can leave memory.
                skipped = (layer * rows + start) * width * self.dtype.itemsize
                at, shape = self.offset + skipped, (stop - start, width)
                yield layer, start, np.memmap(self.path, self.dtype, "r", at, shape)
