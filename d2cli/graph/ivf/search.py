"""Approximate neighbours from an inverted file of cells, refined by neighbours of neighbours.

1. Rows are projected on their first principal axes.
2. Rows are grouped into cells around k-means centres.
3. Each row is compared, by matrix products, with the rows of the few cells nearest to it.
4. Passes along the links of the lists improve them.
5. True distances rank the best candidates.

The numbers of axes, probes and passes are chosen by measurement on rows whose neighbours are known.
The result does not depend on the number of threads: products have fixed shapes and run on one
thread each, and every kernel writes only the rows of its block.
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
from d2cli.graph.ivf.sizes import EFFORTS, STRICT
from d2cli.graph.recall import ApproximateLists, Truth
from d2cli.graph.settings import SearchSettings
from d2cli.graph.vectors import Group, power_of_two_scale
from d2cli.runtime.decisions import Decision
from d2cli.runtime.products import one_thread_per_product

#: Share of the allowed loss, 1 - recall, that the reduction of dimensions may take.
_LOST_BY_REDUCING = 0.15
#: True neighbours must be among the k + _AMONG nearest in the reduced space.
_AMONG = 10
#: The probed cells may miss a share of min(_LEFT_TO_HOPS · (1 - recall), _MOST_LEFT_TO_HOPS) of the
#: true neighbours; passes along the links find most of these.
_LEFT_TO_HOPS, _MOST_LEFT_TO_HOPS = 7.0, 0.16
#: Added to the target recall: about half the standard error of the aiming sample.
_SPARE = 0.0025
#: Upper bound of _SPARE, as a share of 1 - recall.
_MOST_SPARE = 0.25
#: A pass that gains less than this share of 1 - recall is the last with its reach.
_LEAST_GAIN = 0.12
#: Most passes of one effort.
_MOST_PASSES = 8
#: Rows ranked by true distance in one block.
_RANK_BLOCK = 2048


def ivf_neighbors(
    group: Group,
    settings: SearchSettings,
    truth: Truth,
    progress: Progress = silent,
    checkpoint: Checkpoint = NONE,
) -> ApproximateLists:
    """The k nearest neighbours of every row of a group, approximately.

    Args:
        group: n > n_neighbors + 1 rows, all distinct.
        settings: of these, n_neighbors, recall, seed and threads.
        truth: exact neighbours of some rows, in numbers of the group.
        checkpoint: stores the lists after the search of the cells and after each pass.

    Returns:
        The lists. Memory: :func:`d2cli.graph.ivf.sizes.search_cells`.
    """
    n, k, recall = len(group), settings.n_neighbors, settings.recall
    seed, threads = settings.seed, settings.threads
    rng = np.random.default_rng(seed)
    lost = 1.0 - recall
    efforts = EFFORTS[1:] if recall > STRICT else EFFORTS
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
            return truth.recall(_ranked(group.vectors, row_at, positions[known], judged, k)[1])

        at = checkpoint.load("ivf")
        begin = 0 if at is None else int(at["effort"])
        for effort, (margin, reaches) in enumerate(efforts[begin:], begin):
            size = min(k + margin, n - 1)
            if at is None:
                distances, positions = search_cells(reduced, cells, size, threads, progress)
                exchange(distances, positions, threads)
                hoods, reached, passes, widened = None, measure(positions), 0, 0
            else:
                distances, positions = at["distances"], at["positions"]
                hoods, reached = Hoods.of(at["known"]), float(at["reached"])
                passes, widened = int(at["passes"]), int(at["widened"])
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
                    # All links of the next reach are fresh.
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
    held = min(_LEFT_TO_HOPS * lost, _MOST_LEFT_TO_HOPS)
    axes = f"fewest that keep {1 - _LOST_BY_REDUCING * lost:.4f} of the true neighbours near"
    probed = f"fewest cells per row that hold {1 - held:.3f} of the true neighbours, at least 4"
    passed = f"until a sample reaches the recall or a pass gains less than {_LEAST_GAIN * lost:.4f}"
    recalls = {"recall": reached, "recall_target": recall, "sample_rows": len(truth.rows)}
    decisions = (
        Decision("dimensions", reduced.shape[1], axes, {"all": group.vectors.shape[1]}),
        Decision("cells", len(cells.centres), "2.2·√n, of 32 to 320 rows on average", {"n": n}),
        Decision("probes", cells.probes.shape[1], probed),
        Decision("list_size", size, "k + 6 (recall above 0.97: k + 20), or more", {"k": k}),
        Decision("passes", passes, passed, recalls),
    )
    return neighbors, lengths, decisions


def _state(effort, distances, positions, hoods, reached, passes, widened) -> State:
    """The state between two passes."""
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
    """The k nearest of the positions `listed` (m, size) to each of `rows` (m,) by true distance."""
    candidates = np.where(listed < 0, np.int32(-1), row_at[listed])
    neighbors = np.empty((len(rows), k), np.int32)
    distances = np.empty((len(rows), k), np.float32)
    rerank(vectors, rows, candidates, neighbors, distances)
    return neighbors, distances
