"""The kernel that checks the contract of :class:`~d2cli.graph.knn_graph.KnnGraph`."""

import numpy as np

from d2cli.runtime.arrays import Bools, Float32, Int32
from d2cli.runtime.jit import kernel

_OUT_OF_RANGE, _SELF, _BAD_DISTANCE, _UNSORTED, _REPEATED, _NOT_AT_END = range(6)
_EXCLUDED_LISTS, _LISTS_EXCLUDED = 6, 7
_FAULTS = {
    _OUT_OF_RANGE: "lists a neighbour that is no row of the graph",
    _SELF: "lists itself as a neighbour",
    _BAD_DISTANCE: "has a distance that is negative, NaN or infinite",
    _UNSORTED: "is not sorted by distance with ties by row number",
    _REPEATED: "lists a neighbour twice",
    _NOT_AT_END: "has a missing place (-1, +inf) before a neighbour, or only half of one",
    _EXCLUDED_LISTS: "is excluded but lists neighbours",
    _LISTS_EXCLUDED: "lists an excluded row",
}


def first_fault(
    neighbors: Int32, distances: Float32, excluded: Bools | None = None, first: int = 0,
    n: int | None = None,
) -> tuple[int, str] | None:  # fmt: skip
    """The first row that breaks the contract and what is wrong with it, or None.

    Args:
        neighbors, distances: (m, k) the lists of the rows from `first` on.
        excluded: (n,) bool, of all rows.
        n: the number of all rows; None: m.
    """
    n = len(neighbors) if n is None else n
    masked = np.empty(0, np.bool_) if excluded is None else excluded
    row, fault = _first_fault(neighbors, distances, masked, first, n)
    return None if row < 0 else (int(row), _FAULTS[fault])


@kernel
def _first_fault(neighbors, distances, excluded, first, n):
    """(row, fault) of the first row that breaks the contract, or (-1, 0)."""
    m, k = neighbors.shape
    # A hash table of the neighbours of one row: a place is taken if it was marked for this row.
    size = 1
    while size < 2 * k:
        size *= 2
    listed, marked_for = np.empty(size, np.int32), np.full(size, -1, np.int32)
    for p in range(m):
        i = first + p
        ended = False
        for q in range(k):
            j, d = neighbors[p, q], distances[p, q]
            if j == -1:
                if d != np.inf:
                    return i, _NOT_AT_END
                ended = True
                continue
            if ended:
                return i, _NOT_AT_END
            if j < 0 or j >= n:
                return i, _OUT_OF_RANGE
            if j == i:
                return i, _SELF
            if not (d >= 0.0 and d < np.inf):
                return i, _BAD_DISTANCE
            if q > 0:
                before = distances[p, q - 1]
                if d < before or (d == before and j < neighbors[p, q - 1]):
                    return i, _UNSORTED
            at = j & (size - 1)
            while marked_for[at] == p:
                if listed[at] == j:
                    return i, _REPEATED
                at = (at + 1) & (size - 1)
            listed[at], marked_for[at] = j, p
            if excluded.size:
                if excluded[i]:
                    return i, _EXCLUDED_LISTS
                if excluded[j]:
                    return i, _LISTS_EXCLUDED
    return -1, 0
