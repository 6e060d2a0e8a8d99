"""Rows of a matrix in files, read when they are needed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2cli.files.output.work_files import WorkFiles
from d2cli.files.raw.numbers import read_into
from d2cli.files.regular import system_errors

#: Bytes of a buffer for rows that are converted or picked.
_BUFFER_BYTES = 1 << 22
#: Bytes between two rows up to which both are read at once, with the rows between them.
_GAP_BYTES = 1 << 16
#: The number of files that stay open; further files are opened for each read.
_OPEN_FILES = 256

_ROWS = "rows"

Piece = tuple[int, int, NDArray[Any]]  # first row, first column, part of the matrix


class RawRows(NamedTuple):
    """Rows in C order in a file: where they begin, in bytes, and their type, of any byte order."""

    path: Path
    offset: int
    rows: int
    dtype: np.dtype


class RowFiles:
    """A :class:`d2cli.engine.storage.RowReader` of rows that lie in several files, in order.

    Attributes:
        shape, dtype: of all rows. The dtype has the native byte order, and rows of other types are
            converted.
    """

    def __init__(
        self, pieces: Sequence[RawRows], width: int, dtype: np.dtype,
        work: WorkFiles | None = None,
    ) -> None:  # fmt: skip
        """Open the files; `work` is ended by :meth:`close`. DataError if a file cannot be opened.

        `dtype` must hold the values of all `pieces`.
        """
        self.dtype = dtype.newbyteorder("=")
        self._pieces = [piece for piece in pieces if piece.rows]
        self._starts = np.cumsum([0, *(piece.rows for piece in self._pieces)], dtype=np.int64)
        self.shape = (int(self._starts[-1]), width)
        self._handles: dict[Path, int] = {}
        self._closing = ExitStack()
        if work is not None:
            self._closing.callback(work.end)
        try:
            for path in list(dict.fromkeys(piece.path for piece in self._pieces))[:_OPEN_FILES]:
                with system_errors(path):
                    self._handles[path] = os.open(path, os.O_RDONLY)
                self._closing.callback(os.close, self._handles[path])
        except BaseException:
            self.close()
            raise

    def __getstate__(self) -> dict[str, Any]:
        """A copy in another process opens a file for each read, and ends nothing."""
        return {**vars(self), "_handles": {}, "_closing": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """See :meth:`__getstate__`."""
        vars(self).update(state)
        self._closing = ExitStack()

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """The rows ``start … stop`` as a new array in C order.

        Raises:
            DataError: if a file has become shorter.
        """
        out = np.empty((stop - start, self.shape[1]), self.dtype)
        row = start
        while row < stop:
            at = self._piece_of(row)
            end = min(stop, int(self._starts[at + 1]))
            self._fill(out[row - start : end - start], at, row)
            row = end
        return out

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """(m, d) the `rows`, in their order, which is any; a row may be listed several times.

        Raises:
            IndexError: if a number is no row.
            DataError: if a file has become shorter.
        """
        out = np.empty((rows.size, self.shape[1]), self.dtype)
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        if rows.size and not 0 <= ascending[0] <= ascending[-1] < self.shape[0]:
            raise IndexError(f"rows must be 0 … {self.shape[0] - 1}")
        for a, b in self._runs(ascending):
            first, last = int(ascending[a]), int(ascending[b - 1])
            block = np.empty((last + 1 - first, self.shape[1]), self.dtype)
            self._fill(block, self._piece_of(first), first)
            out[order[a:b]] = block[ascending[a:b] - first]
        return out

    def _runs(self, ascending: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """(from, to) of the places of rows that are read together: near rows of one piece."""
        piece_of = np.searchsorted(self._starts, ascending, side="right")
        apart = (np.diff(ascending) - 1) * self._row_bytes > _GAP_BYTES
        ends = np.flatnonzero(apart | (np.diff(piece_of) > 0)) + 1
        most = max(1, _BUFFER_BYTES // self._row_bytes)
        a = 0
        for end in [*ends.tolist(), ascending.size] if ascending.size else []:
            while a < end:
                b = min(end, int(np.searchsorted(ascending, ascending[a] + most)))
                yield a, b
                a = b

    @property
    def _row_bytes(self) -> int:
        return max(1, self.shape[1] * self.dtype.itemsize)

    def _piece_of(self, row: int) -> int:
        return int(np.searchsorted(self._starts, row, side="right")) - 1

    def _fill(self, out: NDArray[Any], at: int, first: int) -> None:
        """Read rows from `first` on, all of piece `at`."""
        piece = self._pieces[at]
        row_bytes = self.shape[1] * piece.dtype.itemsize
        offset = piece.offset + (first - int(self._starts[at])) * row_bytes
        with self._opened(piece.path) as handle:
            if piece.dtype == self.dtype:
                read_into(handle, out, offset, piece.path)
                return
            step = max(1, _BUFFER_BYTES // max(1, row_bytes))
            for start in range(0, len(out), step):
                place = out[start : start + step]
                stored = np.empty(place.shape, piece.dtype)
                read_into(handle, stored, offset + start * row_bytes, piece.path)
                place[:] = stored

    @contextmanager
    def _opened(self, path: Path) -> Iterator[int]:
        if path in self._handles:
            yield self._handles[path]
            return
        with system_errors(path):
            handle = os.open(path, os.O_RDONLY)
        try:
            yield handle
        finally:
            os.close(handle)

    def close(self) -> None:
        """Close the files, and remove those that were written for this reader."""
        self._handles.clear()
        self._closing.close()

    def __enter__(self) -> RowFiles:
        """Closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        """Close the files."""
        self.close()


def copy_rows(work: WorkFiles, pieces: Iterable[Piece], width: int, dtype: np.dtype) -> int:
    """Append the pieces of a matrix to the file of :func:`copied`; returns the number of rows.

    Pieces of some columns come in order of columns, and those of the same columns in order of rows.
    """
    step = max(1, _BUFFER_BYTES // max(1, width * dtype.itemsize))
    rows, widths = 0, {}
    for _, column, block in pieces:
        rows = len(block) if column not in widths else rows + len(block)
        widths[column] = block.shape[1]
        name = _ROWS if block.shape[1] == width else f"columns {column}"
        for start in range(0, len(block), step):
            with np.errstate(over="ignore"):  # the check of the values refuses infinities
                work.append(name, np.ascontiguousarray(block[start : start + step], dtype))
    if width not in widths.values():
        for start in range(0, rows, step):
            whole = np.empty((min(step, rows - start), width), dtype)
            for column, part in widths.items():
                place = whole[:, column : column + part]
                found = work.read(f"columns {column}", dtype, start * part, place.size)
                place[:] = found.reshape(place.shape)
            work.append(_ROWS, whole)
        for column in widths:
            work.drop(f"columns {column}")
    return rows


def copied(work: WorkFiles, shape: tuple[int, int], dtype: np.dtype) -> RowFiles:
    """A reader of the rows that were copied; `work` belongs to it afterwards."""
    where = work.path(_ROWS)
    return RowFiles([RawRows(where, 0, shape[0], dtype)], shape[1], dtype, work)
