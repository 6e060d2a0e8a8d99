"""Coverage: how far the rows of a set are from what was selected of it.

The mean is what Zheng et al. ("Coverage-centric Coreset Selection for High Pruning Rates", ICLR
2023) call AUCpr; the largest is the radius that k-center selection makes small.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import Metric
from d2cli.engine.threads import Progress, silent, thread_count
from d2cli.errors import DataError, UsageError
from d2cli.graph.exact.search import exact_neighbors_of
from d2cli.graph.vectors import Group, prepare

#: Random selections that a measure is held against.
RANDOM_SEEDS = 5


@dataclass(frozen=True)
class Coverage:
    """Distances to the nearest selected row, in units of the metric: small is good."""

    mean: float
    p95: float
    max: float

    @classmethod
    def of(cls, distances: NDArray[np.floating]) -> Coverage:
        """Of (m,) distances, at least one; the percentile interpolates linearly."""
        wide = np.asarray(distances, np.float64)
        return cls(float(wide.mean()), float(np.quantile(wide, 0.95)), float(wide.max()))


def nearest_selected(
    embeddings: NDArray[np.floating],
    selected: NDArray[np.integer],
    *,
    metric: Metric,
    rows: NDArray[np.integer] | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Each row's nearest selected row, and how far it is.

    A selected row is its own nearest, at 0; among others ties go to the lowest row. Exact: blocked
    matrix products screen, true distances decide (:mod:`d2cli.graph.exact.search`).

    Args:
        embeddings: (n, d) float16, float32 or float64; may be memory-mapped; not changed. Whoever
            measures several selections can prepare them once
            (:func:`d2cli.graph.vectors.prepare`) and then say ``euclidean`` here.
        selected: (N,) row numbers, at least one, none twice, in any order.
        metric: ``euclidean``, or ``cosine``: Euclidean distance between unit vectors.
        rows: (m,) the rows to measure, none twice; all n where None.
        threads: how many to use (default: every core); the result does not depend on it.
        progress: called with the stage, and how many rows are done of how many.

    Returns:
        distances (m,) float32 and row numbers (m,) int32. Working memory is 16 bytes a row and
        about 12 MB a thread.

    Raises:
        DataError: for embeddings that cannot be used, or a selection that is none of their rows.
    """
    vectors = prepare(embeddings, metric, threads=threads)
    n = vectors.shape[0]
    kept = check_selection(selected, n)
    measured = np.arange(n) if rows is None else check_selection(rows, n, "rows")
    which = measured.astype(np.int32)
    distances = np.zeros(measured.size, np.float32)
    is_kept = np.zeros(n, np.bool_)
    is_kept[kept] = True
    others = np.flatnonzero(~is_kept[measured])
    if others.size:
        neighbors, lengths = exact_neighbors_of(
            measured[others], Group(vectors, np.flatnonzero(is_kept)), 1,
            threads=thread_count(threads), progress=progress, stage="coverage",
        )  # fmt: skip
        which[others], distances[others] = neighbors[:, 0], lengths[:, 0]
    return distances, which


def random_coverage(
    embeddings: NDArray[np.floating],
    size: int,
    *,
    metric: Metric,
    seeds: int = RANDOM_SEEDS,
    rows: NDArray[np.integer] | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> list[Coverage]:
    """The coverage of random selections of `size` rows, one for each seed 0 … `seeds` - 1.

    Arguments and errors are as in :func:`nearest_selected`.
    """
    distances = random_distances(
        embeddings, size, metric=metric, seeds=seeds, rows=rows, threads=threads, progress=progress
    )
    return [Coverage.of(found) for found in distances]


def random_distances(
    embeddings: NDArray[np.floating],
    size: int,
    *,
    metric: Metric,
    seeds: int = RANDOM_SEEDS,
    rows: NDArray[np.integer] | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> Iterator[NDArray[np.float32]]:
    """The distances behind :func:`random_coverage`, (m,) for each seed."""
    vectors = prepare(embeddings, metric, threads=threads)
    for seed in range(seeds):
        drawn = random_rows(vectors.shape[0], size, seed)
        yield nearest_selected(
            vectors, drawn, metric="euclidean", rows=rows, threads=threads, progress=progress
        )[0]


def random_rows(n: int, size: int, seed: int) -> NDArray[np.int64]:
    """`size` of n rows without replacement, ascending; the same for the same seed.

    Raises:
        UsageError: unless 1 <= size <= n.
    """
    if not 1 <= size <= n:
        raise UsageError(f"{size:,} of {n:,} rows cannot be drawn")
    return np.sort(np.random.default_rng(seed).choice(n, size, replace=False))


def sample_rows(n: int, most: int, seed: int) -> NDArray[np.int64]:
    """All of n rows or, of more than `most`, so many drawn at random, ascending.

    Drawn by a stream of its own: the rows on which random selections are measured must have
    nothing to do with the rows that :func:`random_rows` draws by the same seed.
    """
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng((seed, 1)).choice(n, most, replace=False))


def check_selection(
    selected: NDArray[np.integer], n: int, argument: str = "selected"
) -> NDArray[np.int64]:
    """Row numbers as int64, refused unless they are rows of n, at least one, and none twice."""
    rows = np.asarray(selected)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise DataError(
            f"{argument} must be one-dimensional row numbers, not {rows.shape} {rows.dtype}",
            argument=argument,
        )
    if not rows.size:
        raise DataError(f"{argument} holds no rows", argument=argument)
    if rows.min() < 0 or rows.max() >= n:
        at = int(np.argmax((rows < 0) | (rows >= n)))
        raise DataError(f"{rows[at]} is none of {n:,} rows", argument=argument, row=at)
    rows = rows.astype(np.int64)
    seen = np.zeros(n, np.bool_)
    seen[rows] = True
    if int(np.count_nonzero(seen)) != rows.size:
        first = np.unique(rows, return_index=True)[1]
        again = int(np.setdiff1d(np.arange(rows.size), first)[0])
        raise DataError(f"row {rows[again]} is selected twice", argument=argument, row=again)
    return rows
