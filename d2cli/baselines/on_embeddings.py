"""Baselines that use embeddings. Arguments are described in :mod:`d2cli.baselines`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from d2cli.baselines import sizes
from d2cli.defaults import METRIC, Metric
from d2cli.engine.threads import Progress, for_blocks, silent, thread_count
from d2cli.errors import DataError
from d2cli.graph.distances import distance
from d2cli.graph.exact.screen import rounding
from d2cli.graph.vectors import Group, block_rows, power_of_two_scale, prepare
from d2cli.runtime.floats.products import one_thread_per_product, product
from d2cli.runtime.jit import kernel
from d2cli.selection.budgets import check_size
from d2cli.selection.heap import drop_top, heapify, sink


def moderate(
    embeddings: NDArray[np.floating], size: int, labels: ArrayLike | None = None, *,
    metric: Metric = METRIC,
) -> NDArray[np.int64]:  # fmt: skip
    """Moderate coreset: rows at a medium distance from the centre of their class.

    d_i is the distance from row i to the mean of its class. The selected rows have the smallest
    |d_i - median(d)|, smallest first; ties go to the lowest row.

    Source: Xia, Liu, Yu, Shen, Han, Liu: Moderate coreset: a universal method of data selection
    for real-world data-efficient deep learning, ICLR 2023, section 3.
    """
    vectors = prepare(embeddings, metric)
    n = vectors.shape[0]
    check_size(size, 0, n)
    values = np.zeros(n, np.int8) if labels is None else np.asarray(labels)
    if values.shape != (n,):
        raise DataError(f"labels must be ({n},), not {values.shape}", argument="labels")
    names, classes = np.unique(values, return_inverse=True)
    centres = _means(vectors, classes, names.size)
    distances = np.empty(n)
    step = block_rows(vectors.shape[1])
    for start in range(0, n, step):
        gap = vectors[start : start + step] - centres[classes[start : start + step]]
        distances[start : start + step] = np.sqrt(np.einsum("ij,ij->i", gap, gap))
    off = np.abs(distances - np.median(distances))
    return np.argsort(off, kind="stable")[:size]


def _means(
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


def k_center(
    embeddings: NDArray[np.floating], size: int, *, metric: Metric = METRIC,
    threads: int | None = None, progress: Progress = silent,
) -> NDArray[np.int64]:  # fmt: skip
    """k-center greedy (farthest-first traversal): each pick is farthest from all earlier picks.

    The first pick is the row nearest to the mean. Ties go to the lowest row. The largest distance
    from a row to its nearest pick is at most twice the optimum. Rows are returned in the order of
    the picks, which equals that of the plain loop; every prefix is the selection of that size.
    Time is O(n · size · d), working memory O(n). `progress` is called with the picks done.

    Source: Sener, Savarese: Active learning for convolutional neural networks: a core-set approach,
    ICLR 2018, arXiv 1708.00489, algorithm 1; Gonzalez 1985.
    """
    vectors = prepare(embeddings, metric, threads=threads)
    n = vectors.shape[0]
    check_size(size, 0, n)
    order = np.empty(size, np.int64)
    order[0] = _nearest_to(vectors, _means(vectors, np.zeros(n, np.intp), 1)[0])
    screen = _Screen(vectors, thread_count(threads))
    nearest = np.full(n, np.inf, np.float32)
    picked = np.zeros(n, np.bool_)
    start, stop = 0, 1
    while stop < size:
        # Matrix products compare every row with one block of picks. Within the next block,
        # `_pick` compares only rows that may be the farthest, one pair at a time.
        picked[order[start:stop]] = True
        screen.compare(order[start:stop], picked, nearest)
        start, stop = stop, min(size, stop + sizes.PICKS)
        rows = np.flatnonzero(~picked)
        _pick(vectors, nearest[rows], rows, order, start, stop)
        progress("k-center", stop, size)
    return order


@kernel
def _nearest_to(vectors, point):
    """Return the row nearest to a point, ties to the lowest row."""
    best, least = 0, np.float32(np.inf)
    for i in range(vectors.shape[0]):
        length = distance(vectors[i], point)
        if length < least:
            best, least = i, length
    return best


@kernel
def _pick(vectors, values, rows, order, start, stop):
    """Write picks `start` … `stop` to `order`. Changes `values` and `rows`.

    `values` (m,) are the distances of `rows` (m,) to the picks before `start`. Distances only fall,
    so the top of the heap is the farthest row once it was compared with every pick.
    """
    size = rows.shape[0]
    compared = np.full(vectors.shape[0], start, np.int64)
    heapify(values, rows, size)
    for count in range(start, stop):
        while compared[rows[0]] < count:
            i, least = rows[0], values[0]
            for c in range(compared[i], count):
                least = min(least, distance(vectors[i], vectors[order[c]]))
            compared[i] = count
            sink(values, rows, size, 0, least, i)
        order[count] = rows[0]
        size = drop_top(values, rows, size)


class _Screen:
    """Screens pairs of rows and picks by float32 matrix products.

    The true distance is computed for every pair that the product, within its rounding error, does
    not rule out (:mod:`d2cli.graph.exact.screen`), so results do not depend on that rounding.
    """

    def __init__(self, vectors: NDArray[np.floating], threads: int) -> None:
        self.vectors, self.threads = vectors, threads
        self.scale = power_of_two_scale(threads, Group(vectors))
        self.own = np.empty(vectors.shape[0])

        def measure(start: int, stop: int) -> None:
            block = self._block(slice(start, stop))
            self.own[start:stop] = np.einsum("ij,ij->i", block, block, dtype=np.float64)

        for_blocks(measure, self.own.size, sizes.ROWS, threads)
        lengths = np.sqrt(self.own)
        self.error = rounding(vectors.shape[1]) * (lengths + lengths.max()) ** 2

    def _block(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        return (self.vectors[rows] * self.scale).astype(np.float32, copy=False)

    def compare(
        self, picks: NDArray[np.int64], picked: NDArray[np.bool_], nearest: NDArray[np.float32]
    ) -> None:
        """Lower `nearest` (n,) to the distance to these picks, for rows that are not picked."""
        points = self._block(picks)

        def lower(start: int, stop: int) -> None:
            products = product(self._block(slice(start, stop)), points.T)
            _lower(self.vectors, start, picks, products, self.own, self.error, self.scale,
                   picked, nearest)  # fmt: skip

        with one_thread_per_product():
            for_blocks(lower, nearest.size, sizes.ROWS, self.threads)


@kernel
def _lower(vectors, start, picks, product, own, error, scale, picked, nearest):
    """Lower `nearest` for a block of rows by the pairs that `product` does not rule out."""
    for r in range(product.shape[0]):
        i = start + r
        if picked[i]:
            continue
        least = nearest[i]
        limit = (np.float64(least) * scale) ** 2 + error[i]
        for c in range(picks.shape[0]):
            square = own[i] + own[picks[c]] - 2.0 * np.float64(product[r, c])
            if not square > limit:
                least = min(least, distance(vectors[i], vectors[picks[c]]))
                limit = (np.float64(least) * scale) ** 2 + error[i]
        nearest[i] = least
