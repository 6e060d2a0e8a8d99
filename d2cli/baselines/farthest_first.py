"""k-center greedy: each pick is the row that is farthest from all earlier picks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from d2cli.baselines import sizes
from d2cli.baselines.class_centres import means
from d2cli.defaults import METRIC, Metric
from d2cli.engine.threads import Progress, for_blocks, silent, thread_count
from d2cli.graph.distances import distance
from d2cli.graph.exact.screen import rounding
from d2cli.graph.vectors import Group, power_of_two_scale, prepare
from d2cli.runtime.jit import kernel
from d2cli.runtime.products import one_thread_per_product, product
from d2cli.selection.budgets import check_size
from d2cli.selection.heap import drop_top, heapify, sink


def k_center(
    embeddings: NDArray[np.floating],
    size: int,
    *,
    metric: Metric = METRIC,
    threads: int | None = None,
    progress: Progress = silent,
) -> NDArray[np.int64]:
    """k-center greedy (farthest-first traversal): each pick is farthest from all earlier picks.

    The first pick is the row nearest to the mean. Ties go to the lowest row. The largest distance
    from a row to its nearest pick is at most twice the optimum.

    Source: Sener, Savarese: Active learning for convolutional neural networks: a core-set approach,
    ICLR 2018, arXiv 1708.00489, algorithm 1; Gonzalez 1985.

    The order equals that of the plain loop. Time is O(n · size · d); working memory beside the
    embeddings is O(n).

    Args:
        embeddings: (n, d) floats, may be memory-mapped; not changed.
        size: number of rows to select, 1 … n.
        metric: ``cosine`` is Euclidean distance between unit vectors.
        threads: number of threads (default: every core); the result does not depend on it.
        progress: called with the stage, the picks done and `size`.

    Returns:
        (size,) int64, in the order of the picks. Every prefix is the selection of that size.
    """
    vectors = prepare(embeddings, metric, threads=threads)
    n = vectors.shape[0]
    check_size(size, 0, n)
    order = np.empty(size, np.int64)
    order[0] = _nearest_to(vectors, means(vectors, np.zeros(n, np.intp), 1)[0])
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
    not rule out. The result therefore does not depend on that rounding; see
    :mod:`d2cli.graph.exact.screen`.
    """

    def __init__(self, vectors: NDArray[np.floating], threads: int) -> None:
        self.vectors, self.threads = vectors, threads
        self.scale = power_of_two_scale(threads, Group(vectors))
        self.own = np.empty(vectors.shape[0])

        def measure(start: int, stop: int) -> None:
            block = self._block(slice(start, stop))
            self.own[start:stop] = np.einsum("ij,ij->i", block, block, dtype=np.float64)

        for_blocks(measure, self.own.size, sizes.ROWS, threads)
        reach = np.sqrt(self.own.max())
        self.error = rounding(vectors.shape[1]) * (np.sqrt(self.own) + reach) ** 2

    def _block(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        return (self.vectors[rows] * self.scale).astype(np.float32, copy=False)

    def compare(
        self, picks: NDArray[np.int64], picked: NDArray[np.bool_], nearest: NDArray[np.float32]
    ) -> None:
        """Lower `nearest` (n,) to the distance to these picks, for rows that are not picked."""
        points = self._block(picks)

        def lower(start: int, stop: int) -> None:
            products = product(self._block(slice(start, stop)), points.T)
            _lower(
                self.vectors, start, picks, products, self.own, self.error, self.scale,
                picked, nearest,
            )  # fmt: skip

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
