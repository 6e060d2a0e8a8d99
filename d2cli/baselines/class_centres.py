"""Moderate coreset, from embeddings and optional labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from d2cli.defaults import METRIC, Metric
from d2cli.errors import DataError
from d2cli.graph.vectors import block_rows, prepare
from d2cli.selection.budgets import check_size


def moderate(
    embeddings: NDArray[np.floating],
    size: int,
    labels: ArrayLike | None = None,
    *,
    metric: Metric = METRIC,
) -> NDArray[np.int64]:
    """Moderate coreset: rows at a medium distance from the centre of their class.

    d_i is the distance from row i to the mean of its class. The selected rows have the smallest
    |d_i - median(d)|; ties go to the lowest row.

    Source: Xia, Liu, Yu, Shen, Han, Liu: Moderate coreset: a universal method of data selection
    for real-world data-efficient deep learning, ICLR 2023, section 3.

    Args:
        embeddings: (n, d) floats, may be memory-mapped; not changed.
        size: number of rows to select, 1 … n.
        labels: (n,) the class of each row; None: one class.
        metric: ``cosine`` is Euclidean distance between unit vectors.

    Returns:
        (size,) int64, smallest difference first.
    """
    vectors = prepare(embeddings, metric)
    n = vectors.shape[0]
    check_size(size, 0, n)
    values = np.zeros(n, np.int8) if labels is None else np.asarray(labels)
    if values.shape != (n,):
        raise DataError(f"labels must be ({n},), not {values.shape}", argument="labels")
    names, classes = np.unique(values, return_inverse=True)
    centres = means(vectors, classes, names.size)
    distances = np.empty(n)
    step = block_rows(vectors.shape[1])
    for start in range(0, n, step):
        gap = vectors[start : start + step] - centres[classes[start : start + step]]
        distances[start : start + step] = np.sqrt(np.einsum("ij,ij->i", gap, gap))
    off = np.abs(distances - np.median(distances))
    return np.argsort(off, kind="stable")[:size]


def means(
    vectors: NDArray[np.floating], classes: NDArray[np.intp], count: int
) -> NDArray[np.float64]:
    """Return the mean of each class, (count, d) float64, summed block by block."""
    sums = np.zeros((count, vectors.shape[1]))
    step = block_rows(vectors.shape[1])
    for start in range(0, vectors.shape[0], step):
        here = classes[start : start + step]
        order = np.argsort(here, kind="stable")
        present, first = np.unique(here[order], return_index=True)
        block = vectors[start : start + step][order].astype(np.float64)
        sums[present] += np.add.reduceat(block, first, axis=0)
    return sums / np.bincount(classes, minlength=count)[:, None]
