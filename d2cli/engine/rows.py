"""Where rows come from that do not fit in memory; :mod:`d2cli.files.raw.row_files` reads them."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class RowReader(Protocol):
    """Rows of a matrix that are read when they are needed, and are not in memory before.

    Attributes:
        shape, dtype: (n, d), and the type of the numbers: float32 or float64 in native byte order.
    """

    shape: tuple[int, int]
    dtype: np.dtype

    def read(self, start: int, stop: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The rows ``start … stop`` in C order, (stop - start, d): in `out`, or in a new array."""

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """A new array of some `rows`, (m, d), in their order; a row may be listed several times."""
