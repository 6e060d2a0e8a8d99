"""Every method of the comparison, by name, on arrays. A high score is better. Without torch."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from d2cli import prepare_edges, select, utility
from d2cli.baselines import coverage_centric, highest, random_rows
from d2cli.defaults import Transform
from d2cli.evaluation.lift import lift
from methods import Arrays

Recorded = dict[str, Any]


def choose(
    method: str, arrays: Arrays, size: int, settings: dict[str, Any]
) -> tuple[np.ndarray, Recorded]:
    """Return (size,) rows, ascending, and values to record with the result.

    Methods: ``random``; ``highest``: highest scores; ``ccs``: coverage-centric selection after the
    share `cutoff` of the lowest scores is cut; ``deduplicated``: highest scores without
    near-duplicates; ``d2``: D2 with a lift that is kept.
    """
    noted: Recorded = {}
    if method == "random":
        rows = random_rows(len(arrays.scores), size, seed=arrays.seed)
    elif method == "highest":
        rows = highest(arrays.scores, size)
    elif method == "ccs":
        rows = coverage_centric(-arrays.scores, size, seed=arrays.seed, **settings)
    elif method == "deduplicated":
        rows, noted = deduplicated(arrays, size, **settings)
    elif method == "d2":
        rows, noted = d2(arrays, size, **settings)
    else:
        raise ValueError(method)
    return np.sort(rows), noted


def d2(
    arrays: Arrays, size: int, *, keep_lift: float, transform: Transform
) -> tuple[np.ndarray, Recorded]:
    """``d2prune select --higher-is better --keep-lift --score-transform``, on arrays."""
    edges, sigma = prepare_edges(arrays.graph())
    quality = utility(arrays.scores, "better", transform)
    kept = select(edges, quality, size, bandwidth=sigma, keep_lift=keep_lift, threads=1)
    return kept.order, {"gamma_reverse": kept.gamma_reverse}


def deduplicated(arrays: Arrays, size: int, *, keep_lift: float) -> tuple[np.ndarray, Recorded]:
    """Rows by score, without those that are near a kept row; the lift is at least `keep_lift`.

    Rows are taken from the highest score on. A row is left out if it lies within a distance r of a
    row that was taken and that is its neighbour in the graph (in either direction). The largest r
    with `size` rows and that lift is used.
    """
    edges, _ = prepare_edges(arrays.graph())
    ranked = np.argsort(-arrays.scores, kind="stable")
    radii = np.unique(edges.distances)

    def taken(radius: float) -> np.ndarray:
        rows = np.empty(size, np.int64)
        count = _walk(edges.indptr, edges.indices, edges.distances, ranked, radius, rows)
        return rows[:count]

    def accepts(radius: float) -> bool:
        rows = taken(radius)
        return len(rows) == size and lift(arrays.scores, rows) >= keep_lift

    low, high = -1, len(radii)  # radii[low] is accepted (none: nothing is left out)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if accepts(radii[middle]) else (low, middle)
    radius = float(radii[low]) if low >= 0 else -1.0
    return taken(radius), {"radius": radius}


@numba.njit
def _walk(indptr, indices, distances, ranked, radius, rows):
    """Write the rows that are taken to `rows`, and return how many; at most its length."""
    left_out = np.zeros(ranked.shape[0], np.bool_)
    count = 0
    for row in ranked:
        if count == rows.shape[0]:
            break
        if left_out[row]:
            continue
        rows[count] = row
        count += 1
        for e in range(indptr[row], indptr[row + 1]):
            if distances[e] <= radius:
                left_out[indices[e]] = True
    return count
