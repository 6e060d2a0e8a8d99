"""Coverage: distances from the rows of a set to the nearest selected row.

Their mean is AUCpr of Zheng et al. ("Coverage-centric Coreset Selection for High Pruning Rates",
ICLR 2023). Their maximum is the radius that k-center selection minimises.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import Metric
from d2cli.engine.threads import thread_count
from d2cli.evaluation.selections import RANDOM_SEEDS, check_selection, random_rows
from d2cli.graph.exact.search import exact_neighbors_of
from d2cli.graph.vectors import Group, prepare


@dataclass(frozen=True)
class Coverage:
    """Summary of the distances to the nearest selected row, in units of the metric; low is good."""

    mean: float
    p95: float
    max: float

    @classmethod
    def of(cls, distances: NDArray[np.floating]) -> Coverage:
        """Summarise (m,) distances, m >= 1; the percentile interpolates linearly."""
        wide = np.asarray(distances, np.float64)
        return cls(float(wide.mean()), float(np.quantile(wide, 0.95)), float(wide.max()))


def nearest_selected(
    embeddings: NDArray[np.floating], selected: NDArray[np.integer], *, metric: Metric,
    rows: NDArray[np.integer] | None = None, threads: int | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:  # fmt: skip
    """Find each row's nearest selected row.

    A selected row is its own nearest, at distance 0. Ties go to the lowest row. The distances are
    exact. Working memory is 16 bytes per row and about 12 MB per thread. Embeddings or row numbers
    that cannot be used raise a DataError.

    Args:
        embeddings: (n, d) float16, float32 or float64; may be memory-mapped; not changed. To
            measure several selections, call :func:`d2cli.graph.vectors.prepare` once and pass its
            result with the metric ``euclidean``.
        selected: (N,) row numbers, N >= 1, in any order, each at most once.
        metric: ``euclidean``, or ``cosine``: Euclidean distance between unit vectors.
        rows: (m,) the rows to measure, each at most once; None: all n.
        threads: number of threads (default: every core); the result does not depend on it.

    Returns:
        distances (m,) float32 and row numbers (m,) int32.
    """
    vectors = prepare(embeddings, metric, threads=threads)
    n, threads = vectors.shape[0], thread_count(threads)
    is_kept = np.zeros(n, np.bool_)
    is_kept[check_selection(selected, n)] = True
    measured = np.arange(n) if rows is None else check_selection(rows, n, "rows")
    which, distances = measured.astype(np.int32), np.zeros(measured.size, np.float32)
    others = np.flatnonzero(~is_kept[measured])
    if others.size:
        group = Group(vectors, np.flatnonzero(is_kept))
        neighbors, lengths = exact_neighbors_of(measured[others], group, 1, threads=threads)
        which[others], distances[others] = neighbors[:, 0], lengths[:, 0]
    return distances, which


def most_covering(
    which: NDArray[np.integer], selected: NDArray[np.int64], most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the selected rows that are the nearest selected row of the most measured rows.

    `which` (m,) is the nearest selected row of each measured row; `selected` (N,) ascends. Returns
    at most `most` rows and their counts, highest first, ties to the lowest row; no counts below 2.
    """
    counts = np.bincount(np.searchsorted(selected, which), minlength=selected.size)
    order = np.argsort(-counts, kind="stable")[:most]
    order = order[counts[order] > 1]
    return selected[order], counts[order]


def random_distances(
    embeddings: NDArray[np.floating], size: int, *, metric: Metric,
    rows: NDArray[np.integer] | None = None, threads: int | None = None,
) -> Iterator[NDArray[np.float32]]:  # fmt: skip
    """Yield the distances (m,) of a random selection of `size` rows for each of the RANDOM_SEEDS.

    Arguments and errors are those of :func:`nearest_selected`.
    """
    vectors = prepare(embeddings, metric, threads=threads)
    for seed in range(RANDOM_SEEDS):
        drawn = random_rows(vectors.shape[0], size, seed=seed)
        yield nearest_selected(vectors, drawn, metric="euclidean", rows=rows, threads=threads)[0]
