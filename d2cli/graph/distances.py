"""Final distances: of few candidates, exact, in the full dimension."""

from __future__ import annotations

import math

import numpy as np

from d2cli.graph.lists import insert
from d2cli.runtime.jit import kernel, reordering_kernel
from d2cli.runtime.prefetch import prefetch_row

#: Candidates whose vectors are fetched before they are needed.
_AHEAD = 4


@reordering_kernel
def distance(a, b):
    """Euclidean distance of two vectors, rounded to float32.

    Differences are squared and added in float64. In which order is left to the compiler, which can
    then add several at a time; float32 keeps 24 of 53 bits, so that the order does not show.
    """
    total = 0.0
    for c in range(a.shape[0]):
        gap = np.float64(a[c]) - np.float64(b[c])
        total += gap * gap
    return np.float32(math.sqrt(total))


@kernel
def _keep(length, row, distances, rows):
    """Insert into a full-width list ascending by (distance, row), if it belongs there."""
    last = distances.shape[0] - 1
    if length < distances[last] or (length == distances[last] and row < rows[last]):
        insert(distances, rows, length, row)


@kernel
def rerank(vectors, rows, candidates, out_neighbors, out_distances):
    """The k nearest of each row's candidates by true distance.

    `rows` (m,) are the rows of `vectors` that `candidates` (m, c) belong to; candidates are row
    numbers without repeats, or -1; a row's own number is passed over. Writes out_* (m, k).
    """
    count = candidates.shape[1]
    lengths = np.empty(count, np.float32)
    for r in range(rows.shape[0]):
        i, mine = rows[r], candidates[r]
        # All at once: with nothing to decide in between, memory is fetched while sums are made.
        vector = vectors[i]
        for p in range(count):
            prefetch_row(vectors, mine[min(p + _AHEAD, count - 1)])
            lengths[p] = distance(vector, vectors[max(mine[p], 0)])
        nearest, shortest = out_neighbors[r], out_distances[r]
        nearest[:] = -1
        shortest[:] = np.inf
        for p in range(count):
            if mine[p] >= 0 and mine[p] != i:
                _keep(lengths[p], mine[p], shortest, nearest)


@kernel
def nearest_of_all(vectors, rows, among, out_neighbors, out_distances):
    """The k nearest of each of `rows` among the rows `among`, by looking at every one."""
    for r in range(rows.shape[0]):
        i = rows[r]
        out_neighbors[r, :] = -1
        out_distances[r, :] = np.inf
        for j in among:
            if j != i:
                _keep(distance(vectors[i], vectors[j]), j, out_distances[r], out_neighbors[r])
