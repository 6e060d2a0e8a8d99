"""Exact k nearest neighbours by blocked matrix products, certified row by row.

Products in float32 screen: they keep, for each row, somewhat more candidates than k. True
distances then rank those. A row whose k-th true distance lies below anything that screening could
have missed, its rounding error included, is proven; the few others are searched one vector at a
time. So the result is that of a plain search whatever the linear algebra library rounds to, and
whatever the number of threads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from d2cli.neighbors._lists import half_square_norms, keep_smallest
from d2cli.neighbors.distances import nearest_of_all, rerank
from d2cli.neighbors.vectors import block_rows, power_of_two_scale
from d2cli.parallel import Progress, for_blocks, silent

#: Rows of one product: queries by base. The product, 8 MB, stays in a core's share of the cache.
_QUERIES, _BASE = 1024, 2048
#: Of few queries more blocks are made, so that threads have something to share.
_FEW, _FEW_QUERIES = 2048, 384
#: Candidates that screening keeps beyond k.
_SPARE = 16
_FLOAT32_STEP = 2.0**-24


def exact_neighbors(
    vectors: NDArray[np.floating],
    n_neighbors: int,
    *,
    rows: NDArray[np.int64] | None = None,
    threads: int = 1,
    progress: Progress = silent,
    stage: str = "neighbors",
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k nearest other rows of every row, or of some.

    Args:
        vectors: (n, d) float32 or float64 as :func:`~d2cli.neighbors.vectors.prepare` returns them.
        n_neighbors: k >= 1; places beyond n - 1 stay empty.
        rows: (m,) the rows to search for; all where None.
        threads: how many threads share the rows; the result does not depend on it.

    Returns:
        neighbors (m, k) int32 and distances (m, k) float32 as in
        :class:`~d2cli.graph.KnnGraph`. Working memory is about 12 MB a thread.
    """
    n = vectors.shape[0]
    rows = np.arange(n) if rows is None else rows
    m, k = rows.size, n_neighbors
    neighbors = np.empty((m, k), np.int32)
    distances = np.empty((m, k), np.float32)
    screen = _Screen(vectors)
    width = min(k + 1 + _SPARE, n)

    def search(start: int, stop: int) -> None:
        queries = rows[start:stop]
        candidates, missed_from = screen.candidates(queries, width)
        found, lengths = neighbors[start:stop], distances[start:stop]
        rerank(vectors, queries, candidates, found, lengths)
        if width < n:
            unproven = np.flatnonzero(~(lengths[:, -1] < missed_from))
            if unproven.size:
                again, longer = np.empty((unproven.size, k), np.int32), lengths[unproven]
                nearest_of_all(vectors, queries[unproven], again, longer)
                found[unproven], lengths[unproven] = again, longer

    with threadpool_limits(1):  # threads are ours; each product runs on one
        block = _QUERIES if m > _FEW else _FEW_QUERIES
        for_blocks(search, m, block, threads, progress, stage)
    return neighbors, distances


class _Screen:
    """Finds candidates by ``|x|²/2 - q·x`` in float32, on centred and scaled blocks.

    A row is the nearest candidate to itself; ranking by true distance drops it.
    """

    def __init__(self, vectors: NDArray[np.floating]) -> None:
        self.vectors = vectors
        n, d = vectors.shape
        self.scale = power_of_two_scale(vectors)
        step = block_rows(d)
        total = np.zeros(d)
        for start in range(0, n, step):
            total += (vectors[start : start + step] * self.scale).sum(axis=0, dtype=np.float64)
        # Any centre will do; in the type of the vectors each subtraction rounds once.
        self.centre = (total / n).astype(vectors.dtype)
        self.halves = np.empty(n, np.float32)
        for start in range(0, n, step):
            block = self._block(vectors[start : start + step])
            half_square_norms(block, self.halves[start : start + step])
        self.reach = float(2 * self.halves.max()) ** 0.5

    def _block(self, rows: NDArray[np.floating]) -> NDArray[np.float32]:
        return (rows * self.scale - self.centre).astype(np.float32, copy=False)

    def candidates(
        self, queries: NDArray[np.int64], width: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """`width` candidates of each query, and the distance below which none was missed."""
        n, d = self.vectors.shape
        q = self._block(self.vectors[queries])
        found = np.full((queries.size, width), -1, np.int32)
        values = np.full((queries.size, width), np.inf, np.float32)
        product = np.empty((queries.size, min(_BASE, n)), np.float32)
        for start in range(0, n, _BASE):
            base = self._block(self.vectors[start : start + _BASE])
            block = np.matmul(q, base.T, out=product[:, : base.shape[0]])
            np.subtract(self.halves[start : start + _BASE], block, out=block)
            keep_smallest(block, start, values, found)
        own = np.einsum("ij,ij->i", q, q, dtype=np.float64)
        # Rounding of a d-term dot product, of the squares and of the inputs themselves, bounded
        # by (d + 8) steps of the largest magnitude that occurs (Higham 2002, section 3.1).
        error = (d + 8) * _FLOAT32_STEP * (np.sqrt(own) + self.reach) ** 2
        least = own + 2.0 * values[:, -1] - error
        # Distances compare as rounded to float32: one more step on each side.
        missed_from = np.sqrt(np.maximum(least, 0.0)) / self.scale * (1 - 4 * _FLOAT32_STEP)
        return found, missed_from
