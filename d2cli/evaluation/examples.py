"""Which rows to look at: those that say most about a selection."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def most_covering(
    which: NDArray[np.integer], selected: NDArray[np.int64], most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Selected rows that are the nearest selected of the most measured rows, themselves included.

    Args:
        which: (m,) the nearest selected of each measured row.
        selected: (N,) row numbers, ascending.
        most: how many at most.

    Returns:
        rows, the widest first with ties to the lowest row, and how many each covers. Rows that
        cover nothing but themselves are left out.
    """
    counts = np.bincount(np.searchsorted(selected, which), minlength=selected.size)
    order = np.argsort(-counts, kind="stable")[:most]
    order = order[counts[order] > 1]
    return selected[order], counts[order]


def highest(rows: NDArray[np.int64], values: NDArray[np.floating], most: int) -> NDArray[np.int64]:
    """Places of the highest of `values` (m,), ties to the lowest of `rows` (m,)."""
    return np.lexsort((rows, -values))[:most]
