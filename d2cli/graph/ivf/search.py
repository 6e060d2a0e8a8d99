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

from functools import partial

import numpy as np

from d2cli.engine.checkpoints import Checkpoint
from d2cli.engine.threads import Progress, for_blocks
from d2cli.graph.distances import rerank
from d2cli.graph.ivf.cell_search import search_cells
from d2cli.graph.ivf.cells import arrange, choose_probes, fit_centres
from d2cli.graph.ivf.reduce import reduce_dimensions
from d2cli.graph.ivf.refine import NO_LINKS, Hoods, exchange, hop
from d2cli.graph.ivf.sizes import EFFORTS, STRICT
from d2cli.graph.recall import ApproximateLists, Truth
from d2cli.graph.settings import SearchSettings
from d2cli.graph.vectors import Group
from d2cli.runtime.arrays import Float32, Int32, Int64
from d2cli.runtime.decisions import Decision
from d2cli.runtime.products import one_thread_per_product

#: The probed cells may miss a share of min(_LEFT_TO_HOPS · (1 - recall), _MOST_LEFT_TO_HOPS) of the
#: true neighbours; passes along the links find most of these.
_LEFT_TO_HOPS, _MOST_LEFT_TO_HOPS = 7.0, 0.16


def ivf_neighbors(
    group: Group, settings: SearchSettings, truth: Truth, progress: Progress, checkpoint: Checkpoint
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
    vectors, seed, threads = group.vectors, settings.seed, settings.threads
    rng = np.random.default_rng(seed)
    lost = 1.0 - recall
    near, held = 1.0 - 0.15 * lost, 1.0 - min(_LEFT_TO_HOPS * lost, _MOST_LEFT_TO_HOPS)
    least_gain = 0.12 * lost  # a pass that gains less is the last with its reach
    # Aim higher by half the standard error of the aiming sample, or a quarter of the allowed loss.
    aim = recall + min(0.0025, 0.25 * lost)
    efforts = EFFORTS[1:] if recall > STRICT else EFFORTS
    with one_thread_per_product():
        # True neighbours must be among the k + 10 nearest in the reduced space.
        reduced = reduce_dimensions(group, truth, min(k + 10, n - 1), near, rng, threads)
        router = fit_centres(reduced, rng, seed, threads)
        probes = choose_probes(router, reduced, truth, held, recall)
        cells = arrange(reduced, router, probes, k + 1)
        sample = np.argsort(cells.order)[truth.rows]  # positions
        row_at = group.rows_at(cells.order).astype(np.int32, copy=False)

        def ranked(listed: Int32, rows: Int64) -> tuple[Int32, Float32]:
            """The k nearest of the positions `listed` (m, size) to each of `rows` (m,)."""
            candidates = np.where(listed < 0, np.int32(-1), row_at[listed])
            lists = np.empty((len(rows), k), np.int32), np.empty((len(rows), k), np.float32)
            rerank(vectors, rows, candidates, *lists)
            return lists

        def measure(positions: Int32) -> float:
            return truth.recall(ranked(positions[sample], group.rows_at(truth.rows))[1])

        at = checkpoint.load("ivf")
        begin = 0 if at is None else int(at["effort"])
        for effort, (margin, reaches) in enumerate(efforts[begin:], begin):
            size = min(k + margin, n - 1)
            if at is None:
                distances, positions = search_cells(reduced, cells, size, threads, progress)
                exchange(distances, positions, threads)
                known, reached, passes, widened = NO_LINKS, measure(positions), 0, 0
            else:
                distances, positions, known = at["distances"], at["positions"], at["known"]
                reached, passes, widened = (at[x].item() for x in ("reached", "passes", "widened"))
                at = None
            while True:
                checkpoint.save("ivf", partial(
                    dict, effort=np.int64(effort), distances=distances, positions=positions,
                    known=known, reached=np.float64(reached), passes=np.int64(passes),
                    widened=np.int64(widened),
                ))  # fmt: skip
                if reached >= aim or passes == 8 or widened == len(reaches):
                    break
                hoods = Hoods(positions, reaches[widened], known, threads)
                hop(reduced, cells, hoods, distances, positions, threads, progress)
                exchange(distances, positions, threads)
                before, reached = reached, measure(positions)
                known, passes = hoods.known, passes + 1
                del hoods  # frees `fresh`
                if reached - before < least_gain:
                    widened, known = widened + 1, NO_LINKS  # all links of the next reach are fresh
            del distances, known
            if reached >= recall:
                break

        neighbors, lengths = np.empty((n, k), np.int32), np.empty((n, k), np.float32)

        def rank(start: int, stop: int) -> None:
            rows, to = row_at[start:stop].astype(np.int64), cells.order[start:stop]
            neighbors[to], lengths[to] = ranked(positions[start:stop], rows)

        for_blocks(rank, n, 2048, threads, progress, "rank")
    axes = f"fewest that keep {near:.4f} of the true neighbours near"
    probed = f"fewest cells per row that hold {held:.3f} of the true neighbours, at least 4"
    passed = f"until a sample reaches the recall or a pass gains less than {least_gain:.4f}"
    recalls = {"recall": reached, "recall_target": recall, "sample_rows": len(truth.rows)}
    decisions = (
        Decision("dimensions", reduced.shape[1], axes, {"all": vectors.shape[1]}),
        Decision("cells", len(cells.centres), "2.2·√n, of 32 to 320 rows on average", {"n": n}),
        Decision("probes", cells.probes.shape[1], probed),
        Decision("list_size", size, "k + 6 (recall above 0.97: k + 20), or more", {"k": k}),
        Decision("passes", passes, passed, recalls),
    )
    return neighbors, lengths, decisions
