"""Arrays that a package reads in chunks: what HDF5 and zarr have in common."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import DataError
from d2cli.files.formats.fields import BLOCK_BYTES, Field


class ChunkedField(Field):
    """An array whose rows are read in multiples of its chunks."""

    def __init__(
        self,
        path: Path,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype,
        chunks: tuple[int, ...],
    ) -> None:
        super().__init__(path, name, shape, dtype)
        self._chunks = chunks

    @abstractmethod
    def parts(self, places: Iterator[tuple[Any, ...]]) -> Iterator[NDArray[Any]]:
        """The parts of the array at `places`, which are indices; opens the file once."""

    def _steps(self, rows: int, rows_of_chunk: int, width: int) -> Iterator[tuple[int, int]]:
        step = max(1, BLOCK_BYTES // max(1, self.dtype.itemsize * width))
        step = max(step // max(1, rows_of_chunk), 1) * max(1, rows_of_chunk)
        for start in range(0, rows, step):
            yield start, min(start + step, rows)

    def buffer_bytes(self, by_rows: bool) -> int:
        """A block, and a chunk of rows if that is larger; packed and unpacked."""
        widest = self._chunks[0] * math.prod(self.shape[1:]) * max(self.dtype.itemsize, 1)
        return 2 * max(BLOCK_BYTES, min(widest, math.prod(self.shape) * self.dtype.itemsize))

    def blocks(self) -> Iterator[NDArray[Any]]:
        steps = self._steps(self.n, self._chunks[0], math.prod(self.shape[1:]))
        yield from self.parts((slice(start, stop),) for start, stop in steps)

    def layers(self, wanted: range) -> Iterator[tuple[int, int, NDArray[Any]]]:
        if len(self.shape) == 2:
            yield from super().layers(wanted)
            return
        _, rows, width = self.shape
        places = [
            (layer, start, stop)
            for layer in wanted
            for start, stop in self._steps(rows, self._chunks[1], width)
        ]
        parts = self.parts((layer, slice(start, stop)) for layer, start, stop in places)
        for (layer, start, _), part in zip(places, parts, strict=True):
            yield layer, start, part


def refuse_unwritten(field: Field) -> None:
    """Mark an array that was never written: it would be read as zeros."""
    says = "holds no data: it was created and never written"
    field.refusal = DataError(f"{field.where}: {says}")
