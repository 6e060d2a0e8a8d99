"""Final distances: of few candidates, exact, in the full dimension."""

from __future__ import annotations

import math

import numpy as np

from d2cli._jit import kernel


@kernel
def distance(a, b):
    """Euclidean distance of two vectors, rounded to float32.

    Differences are squared and added in float64, in four sums whose order never changes, so that
    the result does not depend on blocks or threads and is the same for (a, b) and (b, a).
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
def keep_nearest(row_distance, row, best_distances, best_rows):
    """Insert one candidate into a full-width list ascending by (distance, row), if it belongs."""
    k = best_rows.shape[0]
    p = k - 1
    if row_distance > best_distances[p] or (
        row_distance == best_distances[p] and 0 <= best_rows[p] < row
    ):
        return
    while p > 0 and (
        best_distances[p - 1] > row_distance
        or (best_distances[p - 1] == row_distance and best_rows[p - 1] > row)
    ):
        best_distances[p] = best_distances[p - 1]
        best_rows[p] = best_rows[p - 1]
        p -= 1
    best_distances[p] = row_distance
    best_rows[p] = row


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
                keep_nearest(
                    distance(vectors[i], vectors[j]), j, out_distances[r], out_neighbors[r]
                )


@kernel
def nearest_of_all(vectors, rows, out_neighbors, out_distances):
    """The k nearest of each of `rows` among all vectors, by looking at every one."""
    for r in range(rows.shape[0]):
        i = rows[r]
        out_neighbors[r, :] = -1
        out_distances[r, :] = np.inf
        for j in range(vectors.shape[0]):
            if j != i:
                keep_nearest(
                    distance(vectors[i], vectors[j]), j, out_distances[r], out_neighbors[r]
                )
