"""Final distances: of few candidates, exact, in the full dimension."""

from __future__ import annotations

import math

import numpy as np

from d2cli._jit import kernel
from d2cli.neighbors._lists import insert


@kernel
def distance(a, b):
    """Euclidean distance of two vectors, rounded to float32.

    Differences are squared and added in float64, in four sums (one alone would wait for each
    addition to finish) whose order never changes, so that the result does not depend on blocks or
    threads and is the same for (a, b) and (b, a).
    """
    d = a.shape[0]
    s0 = s1 = s2 = s3 = 0.0
    whole = d - d % 4
    for c in range(0, whole, 4):
        d0 = np.float64(a[c]) - np.float64(b[c])
        d1 = np.float64(a[c + 1]) - np.float64(b[c + 1])
        d2 = np.float64(a[c + 2]) - np.float64(b[c + 2])
        d3 = np.float64(a[c + 3]) - np.float64(b[c + 3])
        s0 += d0 * d0
        s1 += d1 * d1
        s2 += d2 * d2
        s3 += d3 * d3
    for c in range(whole, d):
        d0 = np.float64(a[c]) - np.float64(b[c])
        s0 += d0 * d0
    return np.float32(math.sqrt((s0 + s1) + (s2 + s3)))


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
    for r in range(rows.shape[0]):
        i = rows[r]
        out_neighbors[r, :] = -1
        out_distances[r, :] = np.inf
        for p in range(candidates.shape[1]):
            j = candidates[r, p]
            if j >= 0 and j != i:
                _keep(distance(vectors[i], vectors[j]), j, out_distances[r], out_neighbors[r])


@kernel
def nearest_of_all(vectors, rows, out_neighbors, out_distances):
    """The k nearest of each of `rows` among all vectors, by looking at every one."""
    for r in range(rows.shape[0]):
        i = rows[r]
        out_neighbors[r, :] = -1
        out_distances[r, :] = np.inf
        for j in range(vectors.shape[0]):
            if j != i:
                _keep(distance(vectors[i], vectors[j]), j, out_distances[r], out_neighbors[r])
