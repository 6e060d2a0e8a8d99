"""Exact k nearest neighbours by blocked matrix products, proven row by row.

1. Float32 products screen: they keep k + 5 candidates per row, the row itself included.
2. True distances rank the candidates.
3. A row is proven if its k-th true distance is below the bound, rounding included, on the distance
   of every row that the screen dropped. Other rows are searched again among the rows around them
   (:mod:`.balls`).

The result equals that of a plain search, for every linear algebra library and number of threads.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from threading import Lock

import numpy as np

from d2cli.engine.checkpoints import NONE, Checkpoint, State
from d2cli.engine.threads import Progress, each, for_blocks, silent
from d2cli.graph.distances import keep_nearest, keep_nearest_across, nearest_of_all, rank_rows
from d2cli.graph.exact.balls import search_in_balls
from d2cli.graph.exact.screen import Candidates, Screen
from d2cli.graph.exact.sizes import (
    DEPTH,
    FEW_MEMBERS,
    FEW_ROWS,
    FEW_SERVED,
    PAIR_ROWS,
    QUERIES,
    SPARE,
)
from d2cli.graph.vectors import Group
from d2cli.runtime.arrays import Float32, Int32, Int64
from d2cli.runtime.floats.products import one_thread_per_product, product

#: Pairs of blocks between two checkpoints; all threads wait for each other there.
_TOGETHER = 512

#: neighbors (m, k) int32, rows of all vectors, and distances (m, k) float32.
Lists = tuple[Int32, Float32]


def exact_neighbors(
    group: Group, n_neighbors: int, *, threads: int = 1, progress: Progress = silent,
    stage: str = "neighbors", checkpoint: Checkpoint = NONE,
) -> Lists:  # fmt: skip
    """The k nearest other rows, within a group, of every row of the group.

    Args:
        group: n >= 1 rows of vectors as :func:`~d2cli.graph.vectors.prepare` returns them.
        n_neighbors: k >= 1. If n <= k, places stay empty.
        threads, progress: as for :func:`~d2cli.graph.build.build_graph`.
        stage: the name of the stage that `progress` is called with.
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
    width = min(n_neighbors + 1 + SPARE, screen.size)  # 1 for the row itself
    with one_thread_per_product():
        found, scores = candidates_of_all(screen, width, threads, progress, stage, checkpoint)
        return _proven(
            screen, rows, n_neighbors, lambda a, b: screen.listed(a, found[a:b], scores[a:b]),
            threads, progress, "proof", checkpoint, DEPTH,
        )  # fmt: skip


def exact_neighbors_of(
    rows: Int64, group: Group, n_neighbors: int, *, threads: int = 1,
    progress: Progress = silent, stage: str = "neighbors",
) -> Lists:  # fmt: skip
    """The k nearest rows of a group to each of `rows`, the row itself left out.

    `rows` (m,) are rows of all vectors, in the group or not; for the whole group,
    :func:`exact_neighbors` is faster. The other arguments, and the lists (m, k), are as there.
    """
    with one_thread_per_product():
        return _among(rows, group, n_neighbors, threads, DEPTH, progress, stage)


def _among(
    rows: Int64, group: Group, k: int, threads: int, depth: int, progress: Progress = silent,
    stage: str = "",
) -> Lists:  # fmt: skip
    """See :func:`exact_neighbors_of`; for `depth`, :func:`_proven`."""
    screen = Screen(group, threads, Group(group.vectors, rows))
    width = min(k + 1 + SPARE, screen.size)
    return _proven(
        screen, rows, k, lambda a, b: screen.candidates(rows[a:b], width), threads, progress, stage,
        NONE, depth,
    )  # fmt: skip


def tournament(blocks: int) -> Iterator[tuple[int, int]]:
    """All pairs of blocks: first each block with itself, then the rounds of the circle method.

    No two pairs of a round share a block, so threads seldom wait for the same lists.
    """
    yield from ((b, b) for b in range(blocks))
    ring = [*range(blocks + blocks % 2)]
    half = len(ring) // 2
    for _ in ring[1:]:
        for a, b in zip(ring[:half], reversed(ring[half:]), strict=True):
            if max(a, b) < blocks:
                yield min(a, b), max(a, b)
        ring = [ring[0], ring[-1], *ring[1:-1]]


def candidates_of_all(
    screen: Screen, width: int, threads: int, progress: Progress, stage: str, checkpoint: Checkpoint
) -> tuple[Int32, Float32]:
    """The `width` best candidates of each row by the scores of `screen`; the row itself is one.

    Each product of two blocks is used for the rows of both. If several rows tie for the last place
    of a list, any of them may get it. Returns numbers within the group and scores, both (n, width),
    ascending by score.
    """
    n, blocks, met = screen.size, -(-screen.size // PAIR_ROWS), 0
    found, scores = np.full((n, width), -1, np.int32), np.full((n, width), np.inf, np.float32)
    if (kept := checkpoint.load("pairs")) is not None:
        found, scores, met = kept["found"], kept["scores"], int(kept["met"])
    writing = [Lock() for _ in range(blocks)]

    def state() -> State:
        return {"found": found, "scores": scores, "met": np.int64(met)}

    def meet(pair: tuple[int, int]) -> None:
        a, b = (slice(block * PAIR_ROWS, min((block + 1) * PAIR_ROWS, n)) for block in pair)
        here = screen.block(a.start, a.stop)
        # NumPy recognises A @ A.T and computes only half of this symmetric product.
        there = here if a == b else screen.block(b.start, b.stop)
        products = product(here, there.T)
        with writing[pair[0]]:
            keep_nearest(products, screen.halves[b], b.start, scores[a], found[a])
        if a != b:
            with writing[pair[1]]:
                keep_nearest_across(products, screen.halves[a], a.start, scores[b], found[b])

    def ended(pair: tuple[int, int]) -> None:
        nonlocal met
        met += 1
        progress(stage, n * met // (blocks * (blocks + 1) // 2), n)

    pairs = islice(tournament(blocks), met, None)
    while together := [*islice(pairs, _TOGETHER)]:
        each(meet, together, threads, ended)
        checkpoint.save("pairs", state)
    return found, scores


def _proven(
    screen: Screen, rows: Int64, k: int, first: Callable[[int, int], Candidates], threads: int,
    progress: Progress, stage: str, checkpoint: Checkpoint, depth: int,
) -> Lists:  # fmt: skip
    """The nearest of each row; ``first(start, stop)`` returns the candidates of a block of rows.

    Rows that they leave unproven are searched again in balls, `depth` times within each other.
    """
    neighbors, distances = np.empty((rows.size, k), np.int32), np.empty((rows.size, k), np.float32)
    finished = np.zeros(-(-rows.size // QUERIES), np.bool_)
    unproven = np.zeros(rows.size, np.bool_)
    if (kept := checkpoint.load("proof")) is not None:
        neighbors, distances = kept["neighbors"], kept["distances"]
        finished, unproven = kept["finished"], kept["unproven"]

    def search(start: int, stop: int) -> None:
        if finished[start // QUERIES]:
            return
        some = slice(start, stop)
        candidates, missed_from = first(start, stop)
        found, lengths = rank_rows(screen.group.vectors, rows[some], candidates, k)
        neighbors[some], distances[some] = found, lengths
        unproven[some] = ~(lengths[:, -1] < missed_from) & ~np.isposinf(missed_from)
        finished[start // QUERIES] = True

    def search_ball(members: Group, served: Int64, threads: int) -> None:
        few = len(members) <= FEW_MEMBERS or served.size <= FEW_SERVED
        if few or not depth or len(members) == screen.size:
            lists = nearest_of_all(rows[served], members, k)
        else:
            lists = _among(rows[served], members, k, threads, depth - 1)
        neighbors[served], distances[served] = lists

    def state() -> State:
        # `finished` is copied first: a block that ends while the lists are written counts as open.
        copied = finished.copy()
        return {
            "finished": copied, "unproven": unproven, "neighbors": neighbors,
            "distances": distances,
        }  # fmt: skip

    def report(stage: str, done: int, total: int) -> None:
        settled = np.repeat(finished, QUERIES)[: rows.size] & ~unproven
        progress(stage, int(settled.sum()), total)
        checkpoint.save("proof", state)

    for_blocks(search, rows.size, QUERIES, threads, report, stage)
    search_in_balls(
        screen, rows, distances[:, -1], unproven, search_ball, threads,
        lambda: report(stage, rows.size, rows.size),
    )  # fmt: skip
    return neighbors, distances
