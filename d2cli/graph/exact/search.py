"""Exact k nearest neighbours by blocked matrix products, certified row by row.

Products in float32 screen: they keep, for each row, somewhat more candidates than k. True
distances then rank those. A row whose k-th true distance lies below anything that screening could
have missed, its rounding error included, is proven; the few others are searched one vector at a
time. So the result is that of a plain search whatever the linear algebra library rounds to, and
whatever the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.checkpoints import NONE, Checkpoint, State
from d2cli.engine.threads import Progress, for_blocks, silent
from d2cli.graph.distances import nearest_of_all, rerank
from d2cli.graph.exact.pairs import candidates_of_all
from d2cli.graph.exact.screen import QUERIES, Candidates, Screen
from d2cli.graph.vectors import Group
from d2cli.runtime.products import one_thread_per_product

#: Candidates that screening keeps beyond k; the second time for rows that the first left unproven.
_SPARE = (4, 64)

#: So few rows each search for themselves: they are done before threads would have met.
_FEW_ROWS = 1024

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
    """The k nearest other rows of every row of a group, within it.

    Args:
        group: n >= 1 rows of vectors as :func:`~d2cli.graph.vectors.prepare` returns them.
        n_neighbors: k >= 1; places beyond what can be listed stay empty.
        threads: how many threads share the work; the result does not depend on it.
        checkpoint: keeps the lists of candidates as they grow, and then the rows that are proven.

    Returns:
        neighbors (n, k) int32, rows of all vectors, and distances (n, k) float32 as in
        :class:`~d2cli.graph.knn_graph.KnnGraph`. Working memory is 8 (k + 5) bytes a row, at most 32 MB, and
        for each thread 2 MB and, of wide rows, 1,024 scaled and centred.
    """
    screen, rows = Screen(group, threads), group.all_rows()
    if len(group) <= _FEW_ROWS:
        return _one_by_one(screen, rows, n_neighbors, threads, progress, stage)
    width = _widths(screen, n_neighbors)[0]
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
    """The k nearest rows of a group to each of some rows, itself left out.

    Args:
        rows: (m,) of all vectors, whether in the group or not.
        group: as for :func:`exact_neighbors`, which is quicker where `rows` are the group.

    Returns:
        As there, (m, k).
    """
    screen = Screen(group, threads, Group(group.vectors, rows))
    return _one_by_one(screen, rows, n_neighbors, threads, progress, stage)


def _widths(screen: Screen, k: int) -> list[int]:
    return [min(k + 1 + spare, screen.size) for spare in _SPARE]


def _one_by_one(
    screen: Screen,
    rows: NDArray[np.int64],
    k: int,
    threads: int,
    progress: Progress,
    stage: str,
) -> Lists:
    """Each row with candidates that are sought for it alone."""
    width = _widths(screen, k)[0]

    def first(start: int, stop: int) -> Candidates:
        return screen.candidates(rows[start:stop], width)

    with one_thread_per_product():
        return _proven(screen, rows, k, first, threads, progress, stage, NONE)


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
    """The nearest of each row, from what ``first(start, stop)`` finds for a block of them."""
    neighbors = np.empty((rows.size, k), np.int32)
    distances = np.empty((rows.size, k), np.float32)
    finished = np.zeros(-(-rows.size // QUERIES), np.bool_)
    if (kept := checkpoint.load("proof")) is not None:
        neighbors, distances, finished = (kept[x] for x in ("neighbors", "distances", "finished"))

    def search(start: int, stop: int) -> None:
        if not finished[start // QUERIES]:
            find(start, stop)
            finished[start // QUERIES] = True

    def find(start: int, stop: int) -> None:
        queries, found, lengths = rows[start:stop], neighbors[start:stop], distances[start:stop]
        unproven = _rank(screen, queries, first(start, stop), found, lengths)
        if unproven.size:
            found[unproven], lengths[unproven] = _look_again(screen, queries[unproven], k)

    def state() -> State:
        # What is finished is looked at first: blocks that end meanwhile are not said to be.
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
    """Write the nearest of the candidates to found, lengths (m, k); which queries may have nearer
    rows than those.
    """
    numbers, missed_from = candidates
    rerank(screen.group.vectors, queries, numbers, found, lengths)
    return np.flatnonzero(~(lengths[:, -1] < missed_from) & ~np.isposinf(missed_from))


def _look_again(screen: Screen, queries: NDArray[np.int64], k: int) -> Lists:
    """The nearest of rows that few candidates left unproven."""
    found, lengths = np.empty((queries.size, k), np.int32), np.empty((queries.size, k), np.float32)
    candidates = screen.candidates(queries, _widths(screen, k)[1])
    unproven = _rank(screen, queries, candidates, found, lengths)
    if unproven.size:
        nearest, shortest = found[unproven], lengths[unproven]
        everyone = screen.group.all_rows()
        nearest_of_all(screen.group.vectors, queries[unproven], everyone, nearest, shortest)
        found[unproven], lengths[unproven] = nearest, shortest
    return found, lengths
