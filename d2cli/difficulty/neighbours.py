"""Scores from the lists of nearest neighbours of a kNN graph."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from d2cli.difficulty import sizes
from d2cli.errors import DataError
from d2cli.graph.knn_graph import MISSING, KnnGraph


def knn_distance(graph: KnnGraph) -> NDArray[np.float64]:
    """Compute the distance from each row to its k-th nearest neighbour, a measure of sparsity.

    For a row that lists fewer than k neighbours (in a small class) the last of them counts.

    Source: Ramaswamy, Rastogi, Shim, "Efficient algorithms for mining outliers from large data
    sets", SIGMOD 2000. Its inverse, to the power of the dimension, estimates the density
    (Loftsgaarden, Quesenberry 1965).

    Returns (n,) float64, high = hard; 0 for rows that the graph excludes. Raises a DataError for
    any other row that lists no neighbour.
    """
    counts = _listed(graph)
    last = graph.distances[np.arange(graph.n), np.maximum(counts - 1, 0)]
    return np.where(counts > 0, last.astype(np.float64), 0.0)


def label_disagreement(graph: KnnGraph, labels: ArrayLike) -> NDArray[np.float64]:
    """Compute the share of each row's listed neighbours that have another label.

    `labels` (n,) are numbers or text. Nearest-neighbour editing finds mislabelled examples by this
    score (Wilson, "Asymptotic properties of nearest neighbor rules using edited data", 1972).

    Returns (n,) float64 in 0 … 1, otherwise as :func:`knn_distance`. Raises a DataError also for
    labels that are not (n,).
    """
    values = np.asarray(labels)
    if values.shape != (graph.n,):
        raise DataError(f"labels must be ({graph.n},), not {values.shape}", argument="labels")
    codes = np.unique(values, return_inverse=True)[1]
    counts, others = _listed(graph), np.empty(graph.n, np.int64)
    step = max(1, sizes.LISTED_NEIGHBORS // graph.n_neighbors)
    for start in range(0, graph.n, step):
        lists = graph.neighbors[start : start + step]
        differ = codes[lists] != codes[start : start + step, None]
        others[start : start + step] = np.count_nonzero(differ & (lists != MISSING), axis=1)
    return others / np.maximum(counts, 1)


def _listed(graph: KnnGraph) -> NDArray[np.int64]:
    """Count each row's listed neighbours; refuse a row without any that is not excluded."""
    counts = np.count_nonzero(graph.neighbors != MISSING, axis=1)
    alone = counts == 0
    if graph.excluded is not None:
        alone &= ~graph.excluded
    if alone.any():
        raise DataError(
            "lists no neighbour, so it has no score",
            "it may be alone in its class: build the graph without --within, or exclude the row",
            argument="graph", row=int(np.argmax(alone)),
        )  # fmt: skip
    return counts
