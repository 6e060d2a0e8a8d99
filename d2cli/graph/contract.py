"""The kernel that checks the contract of :class:`~d2cli.graph.knn_graph.KnnGraph`."""

import numpy as np

from d2cli.runtime.arrays import Float32, Int32
from d2cli.runtime.jit import kernel

_OUT_OF_RANGE, _SELF, _BAD_DISTANCE, _UNSORTED, _REPEATED, _NOT_AT_END = range(6)
_FAULTS = {
    _OUT_OF_RANGE: "lists a neighbour that is no row of the graph",
    _SELF: "lists itself as a neighbour",
    _BAD_DISTANCE: "has a distance that is negative, NaN or infinite",
    _UNSORTED: "is not sorted by distance with ties by row number",
    _REPEATED: "lists a neighbour twice",
    _NOT_AT_END: "has a missing place (-1, +inf) before a neighbour, or only half of one",
}


def first_fault(neighbors: Int32, distances: Float32) -> tuple[int, str] | None:
    """The first row of lists (n, k) that breaks the contract and what is wrong with it, or None."""
    row, fault = _first_fault(neighbors, distances)
    return None if row < 0 else (int(row), _FAULTS[fault])


@kernel
def _first_fault(neighbors, distances):
    """(row, fault) of the first row that breaks the contract, or (-1, 0)."""
    n, k = neighbors.shape
    listed_by = np.full(n, -1, np.int32)
    for i in range(n):
        ended = False
        for p in range(k):
            j, d = neighbors[i, p], distances[i, p]
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
            if p > 0:
                before = distances[i, p - 1]
                if d < before or (d == before and j < neighbors[i, p - 1]):
                    return i, _UNSORTED
            if listed_by[j] == i:
                return i, _REPEATED
            listed_by[j] = i
    return -1, 0
