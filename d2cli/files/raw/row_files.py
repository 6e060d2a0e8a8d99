"""Rows of a matrix in files, read when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2cli.files.output.work_folder import Claim, StoredFile, WorkFolder
from d2cli.files.raw.numbers import FilePlace, OpenFile, bytes_of
from d2cli.files.regular import system_errors

#: Bytes of a buffer for rows that are converted or picked.
_BUFFER_BYTES = 1 << 22
#: Bytes between two rows up to which both are read at once, with the rows between them.
_GAP_BYTES = 1 << 16
#: The number of files that stay open; further files are opened for each read.
_OPEN_FILES = 256

Piece = tuple[int, int, NDArray[Any]]  # first row, first column, part of the matrix


class RawRows(NamedTuple):
    """Rows in C order in a file: where they begin, in bytes, and their type, of any byte order."""

    place: FilePlace
    offset: int
    rows: int
    dtype: np.dtype


class RowFiles:
    """A :class:`d2cli.engine.rows.RowReader` of rows that lie in several files, in order.

    Attributes:
        shape, dtype: of all rows: float32 or float64 in native byte order. Rows of other types are
            converted.
    """

    def __init__(
        self, pieces: Sequence[RawRows], width: int, dtype: np.dtype,
        work: Claim | None = None,
    ) -> None:  # fmt: skip
        """Open the files; :meth:`close` ends `work`. DataError if a file cannot be opened.

        `dtype` must hold the values of all `pieces`.
        """
        self.dtype = dtype.newbyteorder("=")
        self._pieces = [piece for piece in pieces if piece.rows]
        self._starts = np.cumsum([0, *(piece.rows for piece in self._pieces)], dtype=np.int64)
        self.shape = (int(self._starts[-1]), width)
        self._files: dict[FilePlace, OpenFile] = {}
        self._closing = ExitStack()
        if work is not None:
            self._closing.callback(work.end)
        try:
            places = list(dict.fromkeys(piece.place for piece in self._pieces))
            for place in places[:_OPEN_FILES]:
                with system_errors(place):
                    self._files[place] = self._closing.enter_context(place.open())
        except BaseException:
            self.close()
            raise

    def __getstate__(self) -> dict[str, Any]:
        """A copy in another process opens a file for each read, and ends nothing."""
        return {**vars(self), "_files": {}, "_closing": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """See :meth:`__getstate__`."""
        vars(self).update(state)
        self._closing = ExitStack()

    def read(self, start: int, stop: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The rows ``start … stop`` in C order: in `out`, (stop - start, d), or in a new array.

        Raises:
            DataError: if a file has become shorter.
        """
        out = np.empty((stop - start, self.shape[1]), self.dtype) if out is None else out
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
        with self._opened(piece.place) as file:
            if piece.dtype == self.dtype:
                file.read_into(out, offset)
                return
            step = max(1, _BUFFER_BYTES // max(1, row_bytes))
            convert = _conversion(piece.dtype, self.dtype)
            for start in range(0, len(out), step):
                place = out[start : start + step]
                stored = np.empty(place.shape, piece.dtype)
                file.read_into(stored, offset + start * row_bytes)
                convert(stored, place)

    @contextmanager
    def _opened(self, place: FilePlace) -> Iterator[OpenFile]:
        if place in self._files:
            yield self._files[place]
            return
        with system_errors(place):
            opened = place.open()
        with opened:
            yield opened

    def close(self) -> None:
        """Close the files, and remove those that were written for this reader."""
        self._files.clear()
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


def _conversion(stored: np.dtype, wanted: np.dtype) -> Callable[[NDArray[Any], NDArray[Any]], None]:
    """What writes an array of the one type into one of the other, both in C order."""
    if stored == np.float16 and stored.isnative and wanted == np.float32:
        from d2cli.runtime.floats.halves import widen  # noqa: PLC0415, loads the compiler

        return widen
    return lambda array, out: np.copyto(out, array)


def copy_rows(
    work: WorkFolder, name: str, pieces: Iterable[Piece], width: int, dtype: np.dtype, n: int
) -> RawRows:
    """Write the pieces of a matrix of about `n` rows to a file of `work`; returns what it holds.

    Pieces of some columns come in order of columns, and those of the same columns in order of rows.
    Raises OSError if a file cannot be written.
    """
    step = max(1, _BUFFER_BYTES // max(1, width * dtype.itemsize))
    rows, widths = 0, dict[int, int]()

    def converted(some: Iterable[Piece], column: int) -> Iterator[memoryview]:
        nonlocal rows
        rows = 0
        for _, _, block in some:
            rows, widths[column] = rows + len(block), block.shape[1]
            for start in range(0, len(block), step):
                with np.errstate(over="ignore"):  # the check of the values refuses infinities
                    yield bytes_of(np.ascontiguousarray(block[start : start + step], dtype))

    def joined(stack: ExitStack) -> Iterator[memoryview]:
        files = {c: stack.enter_context(work.open(f"{name} {c}")) for c in widths}
        for start in range(0, rows, step):
            whole = np.empty((min(step, rows - start), width), dtype)
            for column, part in widths.items():
                some = np.empty((len(whole), part), dtype)
                files[column].read_into(some, start * part * dtype.itemsize)
                whole[:, column : column + part] = some
            yield bytes_of(whole)

    size = n * width * dtype.itemsize
    for column, some in groupby(pieces, lambda piece: piece[1]):
        work.write(f"{name} {column}", converted(some, column), size=size)
    if [*widths.values()] == [width]:
        return RawRows(StoredFile(work, f"{name} 0"), 0, rows, dtype)
    with ExitStack() as stack:
        work.write(name, joined(stack), size=size)
    work.remove(f"{name} {column}" for column in widths)
    return RawRows(StoredFile(work, name), 0, rows, dtype)
