"""Fits the centres of cells and finds the centres nearest to a row."""

from __future__ import annotations

from itertools import pairwise

import hnswlib
import numpy as np
from numpy.typing import NDArray

from d2cli.engine.threads import for_blocks
from d2cli.graph.distances import half_square_norms, keep_nearest
from d2cli.graph.ivf.grouping import average, by_label, halved
from d2cli.graph.ivf.sizes import cell_count
from d2cli.graph.recall import Truth
from d2cli.runtime.products import product

#: Rows per cell that the centres are fitted to.
_SAMPLE_PER_CELL = 12
#: Rounds of k-means.
_FITTING_ROUNDS = 3
#: While centres are fitted, a cell of more than _CUT · _SAMPLE_PER_CELL sampled rows is cut.
_CUT = 2
#: Leading dimensions in which centres are fitted and rows are routed.
_ROUTE_WIDTH = 96
#: Leading dimensions in the index of groups.
_INDEX_WIDTH = 16
#: With more cells than this, a row is routed to a group of cells first.
_FEW_CELLS = 1024
#: Most cells in a group.
_GROUP = 8
#: Cells around the middle of a group that a row is compared with.
_AROUND = 256
#: With more groups than this, an HNSW index finds the group of a row.
_FEW_GROUPS = 1024
_HNSW_M, _HNSW_EF_CONSTRUCTION, _HNSW_EF = 8, 40, 3
#: Rows routed by one matrix product.
_ROUTE_ROWS = 256
#: Groups whose rows are routed in one block.
_ROUTE_GROUPS = 16
#: With fewer probes, cells hardly overlap, and no links lead from one cell to the next.
_FEWEST_PROBES = 4
_MOST_PROBES = 32
#: Share of the missed neighbours that :func:`~d2cli.graph.ivf.refine.exchange` finds; 0.2 to 0.4
#: were measured.
_EXCHANGED = 0.27
#: A pass along the links costs about as much as this many more probes.
_PASS_IN_PROBES = 2


class Router:
    """Finds the cells whose centres (cells, w) are nearest to a row in its first w dimensions.

    With at most _FEW_CELLS cells, a row is compared with all centres. With more, it is routed to a
    group of cells (approximately the one with the nearest middle) and compared with the _AROUND
    centres nearest to that middle. The cost per row is then constant, and nearly all of the nearest
    centres are found.
    """

    def __init__(self, centres: NDArray[np.float32], seed: int, threads: int) -> None:
        self.centres, self.seed, self.threads = centres, seed, threads
        self._all = _Targets(centres)
        self._groups = _Groups(self._all, seed, threads) if len(centres) > _FEW_CELLS else None

    def over(self, centres: NDArray[np.float32]) -> Router:
        """A router to other centres with the same options."""
        return Router(centres, self.seed, self.threads)

    def route(self, rows: NDArray[np.float32], probes: int) -> NDArray[np.int32]:
        """The nearest cells (n, probes) of rows (n, m), nearest first. Needs probes <= cells."""
        if self._groups is None:
            return self._all.of_all(rows, probes, self.threads)
        groups, routed = self._groups, np.empty((len(rows), probes), np.int32)
        width = self.centres.shape[1]
        order, starts = by_label(groups.about_nearest(rows), len(groups.around))

        def find(start: int, stop: int) -> None:
            for group in range(start, stop):
                near = groups.around[group]
                targets = self._all.part(near)
                for lo in range(starts[group], starts[group + 1], _ROUTE_ROWS):
                    mine = order[lo : min(lo + _ROUTE_ROWS, starts[group + 1])]
                    routed[mine] = near[targets.nearest(rows[mine, :width], probes)]

        for_blocks(find, len(groups.around), _ROUTE_GROUPS, self.threads)
        return routed


class _Targets:
    """Points (count, w) that rows are compared with by matrix products."""

    def __init__(self, points: NDArray[np.float32]) -> None:
        self.points = points
        self._halves = np.empty(len(points), np.float32)
        half_square_norms(points, self._halves)

    def part(self, which: NDArray[np.int32]) -> _Targets:
        """The points `which`."""
        return _Targets(self.points[which])

    def nearest(self, rows: NDArray[np.float32], size: int) -> NDArray[np.int32]:
        """The points (n, size) nearest to rows (n, m), nearest first."""
        found = np.zeros((len(rows), size), np.int32)
        scores = np.full(found.shape, np.inf, np.float32)
        products = product(rows[:, : self.points.shape[1]], self.points.T)
        keep_nearest(products, self._halves, 0, scores, found)
        return found

    def in_any_order(self, rows: NDArray[np.float32], size: int) -> NDArray[np.int32]:
        """The same in any order, which is faster for a `size` of hundreds."""
        scores = self._halves - product(rows, self.points.T)
        return np.argpartition(scores, size - 1, axis=1)[:, :size].astype(np.int32)

    def of_all(self, rows: NDArray[np.float32], size: int, threads: int) -> NDArray[np.int32]:
        """The same as :meth:`nearest`, in blocks of rows."""
        found = np.empty((len(rows), size), np.int32)

        def find(start: int, stop: int) -> None:
            found[start:stop] = self.nearest(rows[start:stop], size)

        for_blocks(find, len(rows), _ROUTE_ROWS, threads)
        return found


class _Groups:
    """Groups of near centres, and the search for the group of a row.

    Attributes:
        around: (groups, _AROUND) int32, the centres nearest to the middle of a group, unsorted.
    """

    def __init__(self, targets: _Targets, seed: int, threads: int) -> None:
        centres, self._threads = targets.points, threads
        order, starts = halved(centres, np.arange(len(centres)), _GROUP)
        middles = np.empty((len(starts) - 1, centres.shape[1]), np.float32)
        average(centres[order], starts, middles)
        self._middles = _Targets(middles)
        self._index = None
        if len(middles) > _FEW_GROUPS:
            leading = np.ascontiguousarray(middles[:, :_INDEX_WIDTH])
            self._index = hnswlib.Index("l2", leading.shape[1])
            self._index.init_index(
                len(leading), M=_HNSW_M, ef_construction=_HNSW_EF_CONSTRUCTION, random_seed=seed
            )
            # One thread, because the index depends on the order of insertion.
            self._index.add_items(leading, num_threads=1)
            self._index.set_ef(_HNSW_EF)
        size = min(_AROUND, len(centres))
        self.around = np.empty((len(middles), size), np.int32)

        def look_around(start: int, stop: int) -> None:
            self.around[start:stop] = targets.in_any_order(middles[start:stop], size)

        for_blocks(look_around, len(middles), _ROUTE_ROWS, threads)

    def about_nearest(self, rows: NDArray[np.float32]) -> NDArray[np.int32]:
        """The group (n,) whose middle is nearest to each of rows (n, m), approximately."""
        if self._index is None:
            return self._middles.of_all(rows, 1, self._threads)[:, 0]
        index, found = self._index, np.empty(len(rows), np.int32)

        def find(start: int, stop: int) -> None:
            asking = rows[start:stop, : index.dim]
            found[start:stop] = index.knn_query(asking, 1, num_threads=1)[0][:, 0]

        for_blocks(find, len(rows), _ROUTE_ROWS, self._threads)
        return found


def fit_centres(
    reduced: NDArray[np.float32], rng: np.random.Generator, seed: int, threads: int
) -> Router:
    """A router to centres fitted by k-means on a sample; near centres have near numbers."""
    n = len(reduced)
    count = cell_count(n)
    size = min(n, _SAMPLE_PER_CELL * count)
    sample = reduced[np.sort(rng.choice(n, size, replace=False)), :_ROUTE_WIDTH]
    centres = sample[rng.choice(len(sample), count, replace=False)]
    for _ in range(_FITTING_ROUNDS):
        nearest = Router(centres, seed, threads).route(sample, 1)[:, 0]
        order, starts = by_label(nearest, len(centres))
        order, starts = _cut(sample, order, starts, _CUT * _SAMPLE_PER_CELL)
        sample = sample[order]
        centres = np.empty((len(starts) - 1, sample.shape[1]), np.float32)
        average(sample, starts, centres)
    by_place, _ = halved(centres, np.arange(len(centres)), 1)
    return Router(centres[by_place], seed, threads)


def _cut(
    points: NDArray[np.float32], order: NDArray[np.int32], starts: NDArray[np.int32], most: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Cut groups as :func:`by_label` returns them to at most `most` rows, and drop empty ones."""
    members, sizes = [], []
    for first, last in pairwise(starts.tolist()):
        if last - first > most:
            mine, ends = halved(points, order[first:last], most)
            members.append(mine)
            sizes.extend(np.diff(ends).tolist())
        elif first < last:
            members.append(order[first:last])
            sizes.append(last - first)
    return np.concatenate(members), np.cumsum([0, *sizes], dtype=np.int32)


def choose_probes(
    router: Router, reduced: NDArray[np.float32], truth: Truth, wanted: float, recall: float
) -> int:
    """The number of cells to probe.

    This is the smallest number that holds the share `wanted` of the true neighbours; passes along
    the links find the others. If up to _PASS_IN_PROBES more probes reach `recall` without a pass,
    the number that does is used.
    """
    most = min(_MOST_PROBES, len(router.centres))
    looked = router.route(reduced[truth.rows], most)
    near = truth.neighbors
    own = router.route(reduced[near.ravel()], 1)[:, 0].reshape(near.shape)
    held = np.cumsum((looked[:, None, :] == own[:, :, None]).mean(axis=(0, 1)))
    found = 1.0 - (1.0 - held) * (1.0 - _EXCHANGED)
    probes = 1 + int(np.count_nonzero(held < wanted))
    alone = 1 + int(np.count_nonzero(found < recall))
    probes = max(probes, _FEWEST_PROBES)
    return min(alone if probes < alone <= probes + _PASS_IN_PROBES else probes, most)
