"""Approximate neighbours from an inverted file of cells, refined by neighbours of neighbours.

Rows are turned onto their principal axes and cut to as many as their neighbours need; grouped into
cells around k-means centres; each row is compared, by matrix products, with the rows of the few
cells nearest to it (found by groups of cells where there are many, and the group by an HNSW index
where there are very many); the lists that result are improved along their own links; and the best
candidates are ranked by true distance.

How many axes, cells and passes that takes is decided by measuring on rows whose neighbours are
known. Nothing depends on the number of threads: products have fixed shapes and run on one thread
each, and every kernel writes only the rows of its block.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.checkpoints import NONE, Checkpoint, State
from d2cli.engine.threads import Progress, for_blocks, silent
from d2cli.graph.distances import rerank
from d2cli.graph.ivf.cell_search import search_cells
from d2cli.graph.ivf.cells import arrange
from d2cli.graph.ivf.reduce import principal_axes, reduce_dimensions
from d2cli.graph.ivf.refine import Hoods, exchange, hop
from d2cli.graph.ivf.routing import choose_probes, fit_centres
from d2cli.graph.recall import Truth
from d2cli.graph.vectors import Group, power_of_two_scale
from d2cli.runtime.products import one_thread_per_product

#: What the stages may lose, in parts of the recall that may be lost in all. Passes along the links
#: find most of what the cells missed, so cells may lose far more than the whole.
_LOST_BY_REDUCING = 0.15
#: Dimensions are enough when true neighbours are among so many beyond k.
_AMONG = 10
_LEFT_TO_HOPS, _MOST_LEFT_TO_HOPS = 7.0, 0.16
#: Aimed above the target by about half the standard error of the rows measured, but by no more than
#: this part of what may be lost.
_SPARE, _MOST_SPARE = 0.0025, 0.25
#: A pass that gains less than this part is the last, and there are no more than so many.
_LEAST_GAIN, _MOST_PASSES = 0.12, 8
#: Neighbours carried beyond k for true distances to choose from; and how many of a row's nearest,
#: and of the rows nearest to it, a pass follows: when passes gain no more, the next number. Where
#: one effort does not reach the target the next is made; recalls above _STRICT begin with the
#: second.
_EFFORTS, _STRICT = ((6, (12, 16)), (20, (18, 24)), (30, (36,))), 0.97
#: Rows ranked by true distance in one go.
_RANK_BLOCK = 2048


def ivf_neighbors(
    group: Group,
    n_neighbors: int,
    *,
    recall: float,
    truth: Truth,
    seed: int,
    threads: int,
    progress: Progress = silent,
    checkpoint: Checkpoint = NONE,
) -> tuple[NDArray[np.int32], NDArray[np.float32], dict[str, object]]:
    """The k nearest of every row, approximately.

    Args:
        group: n > n_neighbors + 1 rows, all distinct.
        recall: the recall@k to aim at.
        truth: exact neighbours, in numbers of the group, of some rows to aim with.
        seed: of the samples that axes and centres are fitted to.
        checkpoint: keeps the lists after the search and after each pass.

    Returns:
        neighbors (n, k) int32, as rows, and distances (n, k) float32 as in
        :class:`~d2cli.graph.knn_graph.KnnGraph`, and the settings found. Memory: one float32 copy of the
        reduced vectors, and about 20·(k + 10) + 24·10 bytes a row.
    """
    n, k = len(group), n_neighbors
    rng = np.random.default_rng(seed)
    lost = 1.0 - recall
    efforts = _EFFORTS[1:] if recall > _STRICT else _EFFORTS
    with one_thread_per_product():
        principal = principal_axes(group, power_of_two_scale(threads, group), rng, threads)
        wanted = 1.0 - _LOST_BY_REDUCING * lost
        carried = min(k + _AMONG, n - 1)
        reduced = reduce_dimensions(group, principal, truth, carried, wanted, threads)
        router = fit_centres(reduced, rng, seed, threads)
        wanted = 1.0 - min(_LEFT_TO_HOPS * lost, _MOST_LEFT_TO_HOPS)
        probes = choose_probes(router, reduced, truth, wanted, recall)
        cells = arrange(reduced, router, probes, k + 1)
        place = np.empty(n, np.int64)
        place[cells.order] = np.arange(n)
        known = place[truth.rows]
        row_at = group.rows_at(cells.order).astype(np.int32, copy=False)
        judged = group.rows_at(truth.rows)

        def measure(positions: NDArray[np.int32]) -> float:
            found = _ranked(group.vectors, row_at, positions[known], judged, k)
            return truth.recall(found[1])

        at = checkpoint.load("ivf")
        begin = 0 if at is None else int(at["effort"])
        for effort, (margin, reaches) in enumerate(efforts[begin:], begin):
            size = min(k + margin, n - 1)
            if at is None:
                distances, positions = search_cells(reduced, cells, size, threads, progress)
                exchange(distances, positions, threads)
                hoods, reached, passes, widened = None, measure(positions), 0, 0
            else:
                distances, positions, hoods = (
                    at["distances"],
                    at["positions"],
                    Hoods.of(at["known"]),
                )
                reached, passes, widened = (
                    float(at["reached"]),
                    int(at["passes"]),
                    int(at["widened"]),
                )
                at = None
            while True:
                checkpoint.save(
                    "ivf",
                    partial(_state, effort, distances, positions, hoods, reached, passes, widened),
                )
                enough = reached >= recall + min(_SPARE, _MOST_SPARE * lost)
                if enough or passes == _MOST_PASSES or widened == len(reaches):
                    break
                hoods = Hoods(positions, reaches[widened], hoods, threads)
                hop(reduced, cells, hoods, distances, positions, threads, progress)
                exchange(distances, positions, threads)
                passes += 1
                before, reached = reached, measure(positions)
                if reached - before < _LEAST_GAIN * lost:
                    # Nothing has been followed yet as far as the next reach goes.
                    widened, hoods = widened + 1, None
            del distances, hoods
            if reached >= recall:
                break

        neighbors, lengths = np.empty((n, k), np.int32), np.empty((n, k), np.float32)

        def rank(start: int, stop: int) -> None:
            rows, to = row_at[start:stop].astype(np.int64), cells.order[start:stop]
            neighbors[to], lengths[to] = _ranked(
                group.vectors, row_at, positions[start:stop], rows, k
            )

        for_blocks(rank, n, _RANK_BLOCK, threads, progress, "rank")
    settings: dict[str, object] = {
        "dimensions": reduced.shape[1],
        "cells": len(cells.centres),
        "probes": cells.probes.shape[1],
        "list_size": size,
        "passes": passes,
    }
    return neighbors, lengths, settings


def _state(effort, distances, positions, hoods, reached, passes, widened) -> State:
    """What it takes to go on before the next exchange."""
    return {
        "effort": np.int64(effort),
        "distances": distances,
        "positions": positions,
        "known": np.empty((0, 0), np.int32) if hoods is None else hoods.known,
        "reached": np.float64(reached),
        "passes": np.int64(passes),
        "widened": np.int64(widened),
    }


def _ranked(
    vectors: NDArray[np.floating],
    row_at: NDArray[np.int32],
    listed: NDArray[np.int32],
    rows: NDArray[np.int64],
    k: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k nearest rows at the positions `listed` (m, size) for `rows` (m,), by true distance."""
    candidates = np.where(listed < 0, np.int32(-1), row_at[listed])
    neighbors = np.empty((len(rows), k), np.int32)
    distances = np.empty((len(rows), k), np.float32)
    rerank(vectors, rows, candidates, neighbors, distances)
    return neighbors, distances
