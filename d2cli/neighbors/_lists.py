"""Kernels for short lists of nearest rows, and for the scores that fill them."""

from __future__ import annotations

import numpy as np

from d2cli._jit import kernel, reordering_kernel

#: float32 numbers in one 512-bit register; scans advance by it.
LANES = 16


@kernel
def insert(distances, rows, distance, row):
    """Insert into a list ascending by (distance, row); its last entry falls off."""
    place = distances.shape[0] - 1
    while place > 0 and (
        distances[place - 1] > distance
        or (distances[place - 1] == distance and rows[place - 1] > row)
    ):
        distances[place] = distances[place - 1]
        rows[place] = rows[place - 1]
        place -= 1
    distances[place] = distance
    rows[place] = row


@kernel
def keep_smallest(scores, first, best, rows):
    """Merge scores (q, b) of the rows first … into the lists best, rows (q, size), ascending."""
    whole = scores.shape[1] // LANES * LANES
    for q in range(scores.shape[0]):
        line = scores[q]
        bound = best[q, -1]
        for start in range(0, whole, LANES):
            # Nearly every run of scores has none below the bound: one vector compare drops it.
            run = line[start : start + LANES]
            below = np.int32(0)
            for c in range(LANES):
                below += np.int32(run[c] < bound)
            if below:
                for c in range(LANES):
                    if run[c] < bound:
                        insert(best[q], rows[q], run[c], first + start + c)
                        bound = best[q, -1]
        for c in range(whole, scores.shape[1]):
            if line[c] < bound:
                insert(best[q], rows[q], line[c], first + c)
                bound = best[q, -1]


@reordering_kernel
def square_distance(a, b):
    """Squared Euclidean distance of two float32 vectors, for screening."""
    total = np.float32(0)
    for t in range(a.shape[0]):
        gap = a[t] - b[t]
        total += gap * gap
    return total


@reordering_kernel
def half_square_norms(vectors, out):
    """out[r] <- |vectors[r]|² / 2; float32 (n, m) -> (n,)."""
    for r in range(vectors.shape[0]):
        total = np.float32(0)
        for t in range(vectors.shape[1]):
            total += vectors[r, t] * vectors[r, t]
        out[r] = np.float32(0.5) * total
