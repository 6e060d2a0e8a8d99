"""Exact k nearest neighbours by blocked matrix products, proven row by row.

1. Float32 products screen: they keep k + 5 candidates per row, the row itself included.
2. True distances rank the candidates.
3. A row is proven if its k-th true distance is below the bound, rounding included, on the distance
   of every row that the screen dropped. Other rows are screened again with more candidates, and
   then searched by brute force.

The result equals that of a plain search, whatever the linear algebra library rounds to and whatever
the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.checkpoints import NONE, Checkpoint, State
from d2cli.engine.threads import Progress, for_blocks, silent
from d2cli.graph.distances import nearest_of_all, rerank
from d2cli.graph.exact.pairs import candidates_of_all
from d2cli.graph.exact.screen import Candidates, Screen
from d2cli.graph.exact.sizes import FEW_ROWS, QUERIES, SPARE, SPARE_AGAIN
from d2cli.graph.vectors import Group
from d2cli.runtime.products import one_thread_per_product

#: neighbors (m, k) int32, rows of all vectors, and distances (m, k) float32.
Lists = tuple[NDArray[np.int32], NDArray[np.float32]]


def exact_neighbors(
    group: Group,
    n_neighbors: int,
    *,
    threads: int = 1,
    progress: Progress = silent,
    stage: str = "neighbors",
    checkpoint: Checkpoint = NONE,
) -> Lists:
    """The k nearest other rows, within a group, of every row of the group.

    Args:
        group: n >= 1 rows of vectors as :func:`~d2cli.graph.vectors.prepare` returns them.
        n_neighbors: k >= 1. If n <= k, places stay empty.
        threads: number of threads. The result does not depend on it.
        checkpoint: stores the lists of candidates, later the lists of proven rows.

    Returns:
        neighbors (n, k) int32, rows of all vectors, and distances (n, k) float32, as in
        :class:`~d2cli.graph.knn_graph.KnnGraph`. Working memory:
        :func:`d2cli.graph.exact.sizes.among_themselves`.
    """
    rows = group.all_rows()
    if len(group) <= FEW_ROWS:
        return exact_neighbors_of(
            rows, group, n_neighbors, threads=threads, progress=progress, stage=stage
        )
    screen = Screen(group, threads)
    width = _width(screen, n_neighbors, SPARE)
    with one_thread_per_product():
        found, scores = candidates_of_all(
            screen, width, threads, progress=progress, stage=stage, checkpoint=checkpoint
        )

        def first(start: int, stop: int) -> Candidates:
            return screen.listed(start, found[start:stop], scores[start:stop])

        return _proven(screen, rows, n_neighbors, first, threads, progress, "proof", checkpoint)


def exact_neighbors_of(
    rows: NDArray[np.int64],
    group: Group,
    n_neighbors: int,
    *,
    threads: int = 1,
    progress: Progress = silent,
    stage: str = "neighbors",
) -> Lists:
    """The k nearest rows of a group to each of `rows`, the row itself left out.

    Args:
        rows: (m,) rows of all vectors, inside or outside of the group. If they are the whole group,
            :func:`exact_neighbors` is faster.
        group: as for :func:`exact_neighbors`.

    Returns:
        neighbors and distances (m, k), as for :func:`exact_neighbors`.
    """
    screen = Screen(group, threads, Group(group.vectors, rows))
    width = _width(screen, n_neighbors, SPARE)

    def first(start: int, stop: int) -> Candidates:
        return screen.candidates(rows[start:stop], width)

    with one_thread_per_product():
        return _proven(screen, rows, n_neighbors, first, threads, progress, stage, NONE)


def _width(screen: Screen, k: int, spare: int) -> int:
    """Candidates per row: k, the row itself and `spare` more."""
    return min(k + 1 + spare, screen.size)


def _proven(
    screen: Screen,
    rows: NDArray[np.int64],
    k: int,
    first: Callable[[int, int], Candidates],
    threads: int,
    progress: Progress,
    stage: str,
    checkpoint: Checkpoint,
) -> Lists:
    """The nearest of each row; ``first(start, stop)`` returns the candidates of a block of rows."""
    neighbors = np.empty((rows.size, k), np.int32)
    distances = np.empty((rows.size, k), np.float32)
    finished = np.zeros(-(-rows.size // QUERIES), np.bool_)
    if (kept := checkpoint.load("proof")) is not None:
        neighbors, distances, finished = (kept[x] for x in ("neighbors", "distances", "finished"))

    def search(start: int, stop: int) -> None:
        if finished[start // QUERIES]:
            return
        queries, found, lengths = rows[start:stop], neighbors[start:stop], distances[start:stop]
        unproven = _rank(screen, queries, first(start, stop), found, lengths)
        if unproven.size:
            found[unproven], lengths[unproven] = _look_again(screen, queries[unproven], k)
        finished[start // QUERIES] = True

    def state() -> State:
        # `finished` is copied first: a block that ends while the lists are written counts as open.
        return {"finished": finished.copy(), "neighbors": neighbors, "distances": distances}

    def report(stage: str, done: int, total: int) -> None:
        progress(stage, done, total)
        checkpoint.save("proof", state)

    for_blocks(search, rows.size, QUERIES, threads, report, stage)
    return neighbors, distances


def _rank(
    screen: Screen,
    queries: NDArray[np.int64],
    candidates: Candidates,
    found: NDArray[np.int32],
    lengths: NDArray[np.float32],
) -> NDArray[np.int64]:
    """Write the nearest candidates to found, lengths (m, k); return which queries are unproven."""
    numbers, missed_from = candidates
    rerank(screen.group.vectors, queries, numbers, found, lengths)
    return np.flatnonzero(~(lengths[:, -1] < missed_from) & ~np.isposinf(missed_from))


def _look_again(screen: Screen, queries: NDArray[np.int64], k: int) -> Lists:
    """The nearest of queries that `SPARE` candidates left unproven."""
    found, lengths = np.empty((queries.size, k), np.int32), np.empty((queries.size, k), np.float32)
    candidates = screen.candidates(queries, _width(screen, k, SPARE_AGAIN))
    unproven = _rank(screen, queries, candidates, found, lengths)
    if unproven.size:
        nearest, shortest = found[unproven], lengths[unproven]
        among = screen.group.all_rows()
        nearest_of_all(screen.group.vectors, queries[unproven], among, nearest, shortest)
        found[unproven], lengths[unproven] = nearest, shortest
    return found, lengths
