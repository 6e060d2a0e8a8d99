"""A field: one named array of n rows in one file, whatever the file's format."""

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

#: About how much is read at a time.
BLOCK_BYTES = 1 << 24


class Field(ABC):
    """One array in one file.

    Attributes:
        path: the file.
        name: what it is called in the file; empty where the file is just this array.
        shape: (n,) or (n, d) or whatever else is there; known without reading the data. The width
            of a list column is not: it is 0 until :meth:`width` has looked.
        dtype: NumPy's type of the values; object stands for anything that is no number or text.
        refusal: why the field cannot be read, to be raised once it is known that it is meant.
    """

    refusal: DataError | None = None
    #: Whether the width of a row shows only in the data.
    width_shows_late = False

    def __init__(self, path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.path, self.name, self.shape, self.dtype = path, name, shape, dtype

    @property
    def n(self) -> int:
        """How many rows."""
        return self.shape[0] if self.shape else 0

    @property
    def where(self) -> str:
        """The file, and the field if it has a name, for messages."""
        return f"{self.path}: {self.name}" if self.name else str(self.path)

    @property
    def is_text(self) -> bool:
        """Whether the values are strings."""
        return self.dtype.kind in "US"

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers or booleans."""
        return self.dtype.kind in "fiub"

    def width(self) -> int:
        """How many values a row has; for a column of lists this reads the first rows."""
        return math.prod(self.shape[1:])

    def mapped(self) -> NDArray[Any] | None:
        """The whole array, if it can be had without reading it."""
        return None

    @abstractmethod
    def blocks(self) -> Iterator[NDArray[Any]]:
        """The rows in order, some at a time. A block may be a view and is valid until the next."""

    def pieces(self) -> Iterator[tuple[int, int, NDArray[Any]]]:
        """(first row, first column, part of the array), in whatever order costs least."""
        start = 0
        for block in self.blocks():
            yield start, 0, block
            start += block.shape[0]

    def layers(self, wanted: range) -> Iterator[tuple[int, int, NDArray[Any]]]:
        """(layer, first row, some rows) along the first of three axes, in order.

        What has two axes is one layer. `wanted` are consecutive layers; others are passed over.
        """
        start = 0
        for block in self.blocks() if 0 in wanted else ():
            yield 0, start, block
            start += block.shape[0]

    def column(self) -> pa.Array:
        """The whole of a one-dimensional field as one Arrow array, text or numbers, no nulls."""
        blocks = [np.ascontiguousarray(block) for block in self.blocks()]
        return pa.array(np.concatenate(blocks) if blocks else np.empty(0, self.dtype))

    def spans(self) -> Iterator[tuple[int, int]]:
        """(start, stop) of blocks of about :data:`BLOCK_BYTES`."""
        row = max(1, self.dtype.itemsize * math.prod(self.shape[1:]))
        step = max(1, BLOCK_BYTES // row)
        for start in range(0, self.n, step):
            yield start, min(start + step, self.n)
