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

from d2cli.checkpoints import NONE, Checkpoint
from d2cli.neighbors._lists import half_square_norms, keep_nearest
from d2cli.neighbors.distances import nearest_of_all, rerank
from d2cli.neighbors.vectors import Group, block_rows, power_of_two_scale
from d2cli.parallel import Progress, for_blocks, silent
from d2cli.products import one_thread_per_product, product

#: Rows of one product: queries by base. The product, 1 MB, stays in a core's own cache.
_QUERIES, _BASE = 256, 1024
#: Candidates that screening keeps beyond k; the second time for rows that the first left unproven.
_SPARE = (4, 64)
#: Of at most so many numbers the scaled and centred blocks are kept: 32 MB.
_KEPT_NUMBERS = 1 << 23
#: Rows whose mean is taken for the centre.
_CENTRE_ROWS = 256
_FLOAT32_STEP = 2.0**-24


def exact_neighbors(
    vectors: NDArray[np.floating],
    n_neighbors: int,
    *,
    rows: NDArray[np.int64] | None = None,
    among: NDArray[np.int64] | None = None,
    threads: int = 1,
    progress: Progress = silent,
    stage: str = "neighbors",
    checkpoint: Checkpoint = NONE,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k nearest other rows of every row, or of some, among all rows, or among some.

    Args:
        vectors: (n, d) float32 or float64 as :func:`~d2cli.neighbors.vectors.prepare` returns them.
        n_neighbors: k >= 1; places beyond what can be listed stay empty.
        rows: (m,) the rows to search for; all where None.
        among: the rows that can be listed, ascending, at least one; all where None.
        threads: how many threads share the rows; the result does not depend on it.
        checkpoint: keeps the blocks that are done.

    Returns:
        neighbors (m, k) int32 and distances (m, k) float32 as in
        :class:`~d2cli.graph.KnnGraph`. Working memory is at most 32 MB, and 2 MB a thread.
    """
    n = vectors.shape[0]
    rows = np.arange(n) if rows is None else rows
    m, k = rows.size, n_neighbors
    neighbors = np.empty((m, k), np.int32)
    distances = np.empty((m, k), np.float32)
    finished = np.zeros(-(-m // _QUERIES), np.bool_)
    if (state := checkpoint.load("exact")) is not None:
        neighbors, distances, finished = (state[x] for x in ("neighbors", "distances", "finished"))
    screen = _Screen(Group(vectors, among), Group(vectors, rows), threads)
    widths = [min(k + 1 + spare, screen.size) for spare in _SPARE]

    def search(start: int, stop: int) -> None:
        if not finished[start // _QUERIES]:
            find(start, stop)
            finished[start // _QUERIES] = True

    def find(start: int, stop: int) -> None:
        queries, found, lengths = rows[start:stop], neighbors[start:stop], distances[start:stop]
        unproven = np.arange(stop - start)
        for width in widths:
            candidates, missed_from = screen.candidates(queries[unproven], width)
            nearest, shortest = found[unproven], lengths[unproven]
            rerank(vectors, queries[unproven], candidates, nearest, shortest)
            found[unproven], lengths[unproven] = nearest, shortest
            if width == screen.size:
                return
            unproven = unproven[~(shortest[:, -1] < missed_from)]
            if not unproven.size:
                return
        nearest, shortest = found[unproven], lengths[unproven]
        nearest_of_all(vectors, queries[unproven], screen.group.all_rows(), nearest, shortest)
        found[unproven], lengths[unproven] = nearest, shortest

    def report(stage: str, done: int, total: int) -> None:
        progress(stage, done, total)
        # What is finished is looked at first: blocks that end meanwhile are not said to be.
        checkpoint.save(
            "exact",
            lambda: {"finished": finished.copy(), "neighbors": neighbors, "distances": distances},
        )

    with one_thread_per_product():
        for_blocks(search, m, _QUERIES, threads, report, stage)
    return neighbors, distances


class _Screen:
    """Finds candidates by ``|x|²/2 - q·x`` in float32, on blocks that are scaled and centred where
    that helps.

    A row is the nearest candidate to itself; ranking by true distance drops it.
    """

    def __init__(self, group: Group, asking: Group, threads: int) -> None:
        self.group, self.size = group, len(group)
        vectors, d = group.vectors, group.vectors.shape[1]
        others = () if group.rows is None or asking.rows is group.rows else (asking,)
        self.scale = power_of_two_scale(threads, group, *others)
        # Any centre will do; in the type of the vectors each subtraction rounds once.
        some = group.take(np.arange(0, self.size, -(-self.size // _CENTRE_ROWS))) * self.scale
        centre = some.mean(axis=0, dtype=np.float64)
        spread = np.square(some - centre).sum(axis=1).max()
        # Rows around the origin are as good as centred.
        self.centre = None if centre @ centre <= spread else centre.astype(vectors.dtype)
        self.kept = None
        if self.size * d <= _KEPT_NUMBERS:
            self.kept = self._centred(group.block(0, self.size))
        self.halves = np.empty(self.size, np.float32)

        def measure(start: int, stop: int) -> None:
            half_square_norms(self._block(start, stop), self.halves[start:stop])

        for_blocks(measure, self.size, block_rows(d), threads)
        self.reach = float(2 * self.halves.max()) ** 0.5

    def _centred(self, rows: NDArray[np.floating]) -> NDArray[np.float32]:
        if self.scale != 1.0:
            rows = rows * self.scale
        if self.centre is not None:
            rows = rows - self.centre
        return rows.astype(np.float32, copy=False)

    def _block(self, start: int, stop: int) -> NDArray[np.float32]:
        if self.kept is not None:
            return self.kept[start:stop]
        return self._centred(self.group.block(start, stop))

    def candidates(
        self, queries: NDArray[np.int64], width: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """`width` candidates of each query, and the distance below which none was missed."""
        n, d = self.size, self.group.vectors.shape[1]
        q = self._centred(self.group.vectors[queries])
        found = np.full((queries.size, width), -1, np.int32)
        values = np.full((queries.size, width), np.inf, np.float32)
        room = np.empty(queries.size * min(_BASE, n), np.float32)
        for start in range(0, n, _BASE):
            base = self._block(start, start + _BASE)
            # Cut from the front: a product with gaps between its rows is slower.
            block = room[: q.shape[0] * base.shape[0]].reshape(q.shape[0], base.shape[0])
            product(q, base.T, out=block)
            keep_nearest(block, self.halves[start : start + _BASE], start, values, found)
        own = np.einsum("ij,ij->i", q, q, dtype=np.float64)
        # Rounding of a d-term dot product, of the squares and of the inputs themselves, bounded
        # by (d + 8) steps of the largest magnitude that occurs (Higham 2002, section 3.1).
        error = (d + 8) * _FLOAT32_STEP * (np.sqrt(own) + self.reach) ** 2
        least = own + 2.0 * values[:, -1] - error
        # Distances compare as rounded to float32: one more step on each side.
        missed_from = np.sqrt(np.maximum(least, 0.0)) / self.scale * (1 - 4 * _FLOAT32_STEP)
        return self.group.listed(found), missed_from
