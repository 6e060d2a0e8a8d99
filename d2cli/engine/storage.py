"""Where arrays go that do not fit in memory, and where rows come from that do not.

Numerical code names arrays; :mod:`d2cli.files.output.work_files` keeps them in files.
:mod:`d2cli.files.raw.row_files` reads rows.
"""

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Store(Protocol):
    """Keeps one-dimensional arrays by name, outside the memory of this process."""

    def append(self, name: str, array: NDArray[Any]) -> None:
        """Add numbers at the end of an array; the first call begins it."""

    def reserve(self, names: Iterable[str]) -> None:
        """Make room for arrays that tasks store with :meth:`put`, also in other processes."""

    def put(self, name: str, array: NDArray[Any]) -> None:
        """Store an array whole under a reserved name. The same array may be stored again."""

    def read(self, name: str, dtype: Any, start: int = 0, count: int = -1) -> NDArray[Any]:
        """A copy of `count` numbers from place `start` on; -1: all that follow. Empty if unknown.

        `dtype` is a NumPy dtype, that of the numbers that were appended.
        """

    def drop(self, name: str) -> None:
        """Forget an array; none of this name is no error."""


class RowReader(Protocol):
    """Rows of a matrix that are read when they are needed, and are not in memory before.

    Attributes:
        shape, dtype: (n, d), and the type of the numbers: floats in native byte order.
    """

    shape: tuple[int, int]
    dtype: np.dtype

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """The rows ``start … stop``: a new array in C order, (stop - start, d)."""

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """A new array of some `rows`, (m, d), in their order; a row may be listed several times."""


class InMemory:
    """A store that keeps arrays in memory, for tests and small data."""

    def __init__(self) -> None:
        """An empty store."""
        self._held: dict[str, list[NDArray[Any]]] = {}

    def append(self, name: str, array: NDArray[Any]) -> None:
        """See :class:`Store`."""
        self._held.setdefault(name, []).append(array.copy())

    def reserve(self, names: Iterable[str]) -> None:
        """See :class:`Store`."""

    def put(self, name: str, array: NDArray[Any]) -> None:
        """See :class:`Store`."""
        self._held[name] = [array.copy()]

    def read(self, name: str, dtype: Any, start: int = 0, count: int = -1) -> NDArray[Any]:
        """See :class:`Store`."""
        pieces = self._held.get(name, [])
        whole = np.concatenate(pieces) if pieces else np.empty(0, dtype)
        return whole[start:] if count < 0 else whole[start : start + count]

    def drop(self, name: str) -> None:
        """See :class:`Store`."""
        self._held.pop(name, None)
