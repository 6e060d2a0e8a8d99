"""Redundancy: distances from selected rows to the nearest other selected row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import Metric
from d2cli.engine.threads import thread_count
from d2cli.evaluation.selections import RANDOM_SEEDS, check_selection, random_rows, sample_rows
from d2cli.graph.exact.search import exact_neighbors, exact_neighbors_of
from d2cli.graph.vectors import Group, prepare


@dataclass(frozen=True)
class Redundancy:
    """Summary of the distances from selected rows to the nearest *other* selected row.

    Attributes:
        median: the median distance, in units of the metric; inf for a single row.
        share: the share of the selected rows whose distance is at most `threshold`.
        threshold: the median distance from a row of the full set to its nearest other row, so that
            `share` is at least 1/2 for the full set.
    """

    median: float
    share: float
    threshold: float

    @classmethod
    def of(cls, distances: NDArray[np.floating], threshold: float) -> Redundancy:
        """Summarise (m,) distances from :func:`nearest_other`, m >= 1."""
        wide = np.asarray(distances, np.float64)
        return cls(float(np.median(wide)), float((wide <= threshold).mean()), threshold)


def nearest_other(
    embeddings: NDArray[np.floating], selected: NDArray[np.integer] | None = None, *,
    metric: Metric, rows: NDArray[np.integer] | None = None, threads: int | None = None,
) -> NDArray[np.float32]:  # fmt: skip
    """Compute the distance from each selected row to the nearest other selected row.

    Arguments and errors are those of :func:`~d2cli.evaluation.coverage.nearest_selected`, except
    `selected`: None for the full set, and `rows` (m,): selected rows; None for all in their order.
    Returns (m,) float32; +inf if only one row is selected.
    """
    vectors = prepare(embeddings, metric, threads=threads)
    n, threads = vectors.shape[0], thread_count(threads)
    kept = None if selected is None else check_selection(selected, n)
    group = Group(vectors, None if kept is None else np.sort(kept))
    whole = group.all_rows()
    measured = whole if kept is None else kept
    if rows is not None:
        measured = check_selection(rows, n, "rows")
    if not np.array_equal(np.sort(measured), whole):
        return exact_neighbors_of(measured, group, 1, threads=threads)[1][:, 0]
    _, lengths = exact_neighbors(group, 1, threads=threads)
    return lengths[np.searchsorted(whole, measured), 0]


def redundancy_threshold(
    embeddings: NDArray[np.floating], *, metric: Metric, rows: NDArray[np.integer] | None = None,
    threads: int | None = None,
) -> float:  # fmt: skip
    """Compute the median distance from a row (one of `rows`, if given) to its nearest other row."""
    lengths = nearest_other(embeddings, metric=metric, rows=rows, threads=threads)
    return float(np.median(lengths.astype(np.float64)))


def random_redundancy(
    embeddings: NDArray[np.floating], size: int, threshold: float, *, metric: Metric,
    most: int | None = None, threads: int | None = None,
) -> list[Redundancy]:  # fmt: skip
    """Measure the random selections of :func:`~d2cli.evaluation.coverage.random_distances`.

    At most `most` rows of each are measured (None: all), drawn at random.
    """
    vectors = prepare(embeddings, metric, threads=threads)
    found = []
    for seed in range(RANDOM_SEEDS):
        drawn = random_rows(vectors.shape[0], size, seed=seed)
        rows = drawn if most is None else drawn[sample_rows(size, most, seed)]
        lengths = nearest_other(vectors, drawn, metric="euclidean", rows=rows, threads=threads)
        found.append(Redundancy.of(lengths, threshold))
    return found
