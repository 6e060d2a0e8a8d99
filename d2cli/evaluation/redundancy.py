"""Redundancy: how close what was selected is to itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import Metric
from d2cli.engine.threads import Progress, silent, thread_count
from d2cli.evaluation.coverage import (
    RANDOM_SEEDS,
    check_selection,
    random_rows,
    sample_rows,
)
from d2cli.graph.exact.search import exact_neighbors, exact_neighbors_of
from d2cli.graph.vectors import Group, prepare


@dataclass(frozen=True)
class Redundancy:
    """How close selected rows are to the nearest *other* selected row.

    Attributes:
        median: the median of those distances, in units of the metric; inf for a single row.
        share: of the selected rows, those whose distance is at most `threshold`.
        threshold: the median distance of a row of the full set to its nearest other row. So the
            full set itself has a share of one half or, with ties, more; a selection that keeps
            nothing twice has a share of 0.
    """

    median: float
    share: float
    threshold: float

    @classmethod
    def of(cls, distances: NDArray[np.floating], threshold: float) -> Redundancy:
        """Of (m,) distances from :func:`nearest_other`, at least one."""
        wide = np.asarray(distances, np.float64)
        return cls(float(np.median(wide)), float((wide <= threshold).mean()), threshold)


def nearest_other(
    embeddings: NDArray[np.floating],
    selected: NDArray[np.integer] | None = None,
    *,
    metric: Metric,
    rows: NDArray[np.integer] | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """The distance of each selected row to the nearest other selected row.

    Args:
        embeddings: (n, d), as in :func:`~d2cli.evaluation.coverage.nearest_selected`.
        selected: (N,) row numbers, none twice; the full set where None.
        metric: ``euclidean`` or ``cosine``.
        rows: (m,) the selected rows to measure; all of them, in their order, where None.
        threads: how many to use (default: every core); the result does not depend on it.
        progress: called with the stage, and how many rows are done of how many.

    Returns:
        (m,) float32; +inf where nothing else is selected.

    Raises:
        DataError: for embeddings that cannot be used, or a selection that is none of their rows.
    """
    vectors = prepare(embeddings, metric, threads=threads)
    n = vectors.shape[0]
    kept = None if selected is None else check_selection(selected, n)
    group = Group(vectors, None if kept is None else np.sort(kept))
    threads, everyone = thread_count(threads), group.all_rows()
    measured = everyone if kept is None else kept
    if rows is not None:
        measured = check_selection(rows, n, "rows")
    if not np.array_equal(np.sort(measured), everyone):
        _, lengths = exact_neighbors_of(
            measured, group, 1, threads=threads, progress=progress, stage="redundancy"
        )
        return lengths[:, 0]
    _, lengths = exact_neighbors(group, 1, threads=threads, progress=progress, stage="redundancy")
    return lengths[np.searchsorted(everyone, measured), 0]


def redundancy_threshold(
    embeddings: NDArray[np.floating],
    *,
    metric: Metric,
    rows: NDArray[np.integer] | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> float:
    """The median distance of a row of the full set (or of some rows) to its nearest other row."""
    lengths = nearest_other(
        embeddings, metric=metric, rows=rows, threads=threads, progress=progress
    )
    return float(np.median(lengths.astype(np.float64)))


def random_redundancy(
    embeddings: NDArray[np.floating],
    size: int,
    threshold: float,
    *,
    metric: Metric,
    seeds: int = RANDOM_SEEDS,
    most: int | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> list[Redundancy]:
    """The redundancy of random selections of `size` rows, one for each seed 0 … `seeds` - 1.

    `most` is how many rows of each are measured (all where None); they are as random as the
    selection is.
    """
    vectors = prepare(embeddings, metric, threads=threads)
    found = []
    for seed in range(seeds):
        drawn = random_rows(vectors.shape[0], size, seed)
        rows = drawn if most is None else drawn[sample_rows(size, most, seed)]
        lengths = nearest_other(
            vectors, drawn, metric="euclidean", rows=rows, threads=threads, progress=progress
        )
        found.append(Redundancy.of(lengths, threshold))
    return found
