"""Fields that no file holds as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import DataError
from d2cli.files.formats.fields import BLOCK_BYTES, Field


class ConstantField(Field):
    """The value that a folder ``name=value`` gives to the n rows of a file in it; None is null."""

    def __init__(self, path: Path, name: str, n: int, value: int | str | None) -> None:
        dtype = np.dtype(np.int64) if isinstance(value, int) else np.dtype("U")
        super().__init__(path, name, (n,), dtype)
        self.value = value
        if value is None:
            says = "is null: the folder is __HIVE_DEFAULT_PARTITION__"
            self.refusal = DataError(f"{self.where} {says}", "leave this folder out with a glob")

    def blocks(self) -> Iterator[NDArray[Any]]:
        for start, stop in self.spans(self.n, 1):
            yield np.full(stop - start, self.value)


class JoinedField(Field):
    """Several matrices of one file, side by side: image and text embeddings, for example.

    Attributes:
        parts: the matrices, in the order of their columns.
        unit: whether the part of each row is scaled to unit length, so that all parts have the same
            weight. A row with a part of length 0 is then all zeros: it has no direction.
    """

    def __init__(self, parts: Sequence[Field]) -> None:
        """Join matrices of the same file; DataError if they differ in rows."""
        first = parts[0]
        for part in parts:
            if part.n != first.n:
                raise DataError(f"{part.where}: has {part.n:,} rows, {first.where} has {first.n:,}")
        late = any(part.width_shows_late for part in parts)
        width = 0 if late else sum(part.width() for part in parts)
        dtype = np.result_type(np.float32, *(part.dtype for part in parts))
        super().__init__(first.path, " + ".join(p.name for p in parts), (first.n, width), dtype)
        self.parts, self.unit, self.width_shows_late = tuple(parts), False, late
        self.exact = all(part.exact for part in parts)
        self.from_table = any(part.from_table for part in parts)
        self.notices = tuple(notice for part in parts for notice in part.notices)
        self._zeros: dict[int, Field] = {}

    @property
    def key_names(self) -> tuple[str, ...]:
        return tuple(part.name for part in self.parts)

    def width(self) -> int:
        return sum(part.width() for part in self.parts)

    def header_width(self) -> int:
        return sum(part.header_width() for part in self.parts)

    def buffer_bytes(self, by_rows: bool) -> int:
        return sum(part.buffer_bytes(by_rows) + 2 * BLOCK_BYTES for part in self.parts)

    def place(self, row: int) -> str:
        """The row, in the part that is the first of length 0 if one was found there."""
        return f"{self._zeros.get(row, self).where}: row {row}"

    def blocks(self) -> Iterator[NDArray[Any]]:
        streams = [part.blocks() for part in self.parts]
        rests: list[NDArray[Any] | None] = [None for _ in streams]
        start = 0
        while True:
            rests = [
                rest if rest is not None and len(rest) else next(stream, None)
                for rest, stream in zip(rests, streams, strict=True)
            ]
            there = [rest for rest in rests if rest is not None]
            if len(there) < len(rests):
                break
            rows = min(len(rest) for rest in there)
            yield self._joined([rest[:rows] for rest in there], start)
            rests = [rest[rows:] for rest in there]
            start += rows
        if any(len(rest) for rest in there):
            raise DataError(f"{self.where}: only {start:,} rows could be read of all parts")

    def _joined(self, parts: list[NDArray[Any]], start: int) -> NDArray[Any]:
        """The next rows, from row `start`."""
        out = np.empty((len(parts[0]), sum(part.shape[1] for part in parts)), self.dtype)
        zero = np.zeros(len(out), np.bool_)
        column = 0
        for part, values in zip(self.parts, parts, strict=True):
            place = out[:, column : column + values.shape[1]]
            column += values.shape[1]
            with np.errstate(over="ignore", invalid="ignore"):  # the check of the values refuses
                place[:] = values
                if self.unit:
                    lengths = _make_unit(place, values)
                    self._zeros.update(
                        {
                            start + row: part
                            for row in np.flatnonzero((lengths == 0) & ~zero).tolist()
                        }
                    )
                    zero |= lengths == 0
        out[zero] = 0
        return out


def _make_unit(out: NDArray[Any], values: NDArray[Any]) -> NDArray[np.float64]:
    """Write rows scaled to unit length into `out`; returns their largest absolute values, (n,)."""
    rows = values.astype(np.float64)
    largest = np.abs(rows).max(axis=1, initial=0.0)
    rows /= np.where(largest > 0, largest, 1.0)[:, None]  # so that no square underflows
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    out[:] = rows / np.where(norms > 0, norms, 1.0)[:, None]
    return largest
