"""Centres of cells, and the way from a row to the centres nearest to it."""

from __future__ import annotations

import math
from itertools import pairwise

import hnswlib
import numpy as np
from numpy.typing import NDArray

from d2cli.engine.threads import for_blocks
from d2cli.graph.ivf.grouping import average, by_label, halved
from d2cli.graph.lists import half_square_norms, keep_nearest
from d2cli.graph.recall import Truth
from d2cli.runtime.products import product

#: Rows per cell on average: a little less than √n / 2, at least and at most so many.
_ROOTS, _SMALLEST_MEAN, _LARGEST_MEAN = 2.2, 32, 320
#: Rows per cell that the centres are fitted to, and how often they are moved.
_SAMPLE_PER_CELL, _FITTING_ROUNDS = 12, 3
#: Cells that draw more than so many times that are cut, as they would cost their size squared.
_CUT = 2
#: Leading dimensions that centres are fitted and rows are routed in; and that the index sees.
_ROUTE_WIDTH, _INDEX_WIDTH = 96, 16
#: Where there are more cells than this a row is led to a group of cells first.
_FEW_CELLS = 1024
#: Cells in a group, at most; and how many around its middle a row is then compared with.
_GROUP, _AROUND = 8, 256
#: An HNSW index leads to a group where there are more of them than this.
_FEW_GROUPS = 1024
_HNSW_M, _HNSW_EF_CONSTRUCTION, _HNSW_EF = 8, 40, 3
#: Rows routed by one matrix product, and groups whose rows one worker routes on.
_ROUTE_ROWS, _ROUTE_GROUPS = 256, 16
#: With fewer probes cells hardly overlap, and no path leads from one to the next.
_FEWEST_PROBES, _MOST_PROBES = 4, 32
#: Of the neighbours that a row misses, the share that finds the row, and is exchanged; 0.2 to 0.4
#: were seen.
_EXCHANGED = 0.27
#: A pass along the links costs about as much as so many cells more.
_PASS_IN_PROBES = 2


class Router:
    """Finds the cells whose centres (cells, w) are nearest to a row in its first w dimensions.

    Few centres are all compared with. Many are grouped: a row is led to the group whose middle is
    about nearest, and compared with the centres around it. So it costs the same however many there
    are, and finds nearly all of the nearest.
    """

    def __init__(self, centres: NDArray[np.float32], seed: int, threads: int) -> None:
        self.centres, self.seed, self.threads = centres, seed, threads
        self._all = _Targets(centres)
        self._groups = _Groups(self._all, seed, threads) if len(centres) > _FEW_CELLS else None

    def over(self, centres: NDArray[np.float32]) -> Router:
        """A router to other centres, made as this one is."""
        return Router(centres, self.seed, self.threads)

    def route(self, rows: NDArray[np.float32], probes: int) -> NDArray[np.int32]:
        """The nearest cells (n, probes) of rows (n, m), nearest first; probes <= the cells."""
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
    """Points (count, w) that rows are compared with, by matrix products."""

    def __init__(self, points: NDArray[np.float32]) -> None:
        self.points = points
        self._halves = np.empty(len(points), np.float32)
        half_square_norms(points, self._halves)

    def part(self, which: NDArray[np.int32]) -> _Targets:
        """Some of them."""
        return _Targets(self.points[which])

    def nearest(self, rows: NDArray[np.float32], size: int) -> NDArray[np.int32]:
        """The numbers (n, size) of those nearest to rows (n, m), nearest first."""
        found = np.zeros((len(rows), size), np.int32)
        scores = np.full(found.shape, np.inf, np.float32)
        products = product(rows[:, : self.points.shape[1]], self.points.T)
        keep_nearest(products, self._halves, 0, scores, found)
        return found

    def in_any_order(self, rows: NDArray[np.float32], size: int) -> NDArray[np.int32]:
        """The same for many places: lists of hundreds are found quicker than they are sorted."""
        scores = self._halves - product(rows, self.points.T)
        return np.argpartition(scores, size - 1, axis=1)[:, :size].astype(np.int32)

    def of_all(self, rows: NDArray[np.float32], size: int, threads: int) -> NDArray[np.int32]:
        """The same of many rows."""
        found = np.empty((len(rows), size), np.int32)

        def find(start: int, stop: int) -> None:
            found[start:stop] = self.nearest(rows[start:stop], size)

        for_blocks(find, len(rows), _ROUTE_ROWS, threads)
        return found


class _Groups:
    """Centres put together by place, and the way from a row to a group.

    Attributes:
        around: (groups, _AROUND) int32, the centres nearest to a group's middle, in any order.
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
            # One thread: the links of a concurrent build depend on who comes first.
            self._index.add_items(leading, num_threads=1)
            self._index.set_ef(_HNSW_EF)
        size = min(_AROUND, len(centres))
        self.around = np.empty((len(middles), size), np.int32)

        def look_around(start: int, stop: int) -> None:
            self.around[start:stop] = targets.in_any_order(middles[start:stop], size)

        for_blocks(look_around, len(middles), _ROUTE_ROWS, threads)

    def about_nearest(self, rows: NDArray[np.float32]) -> NDArray[np.int32]:
        """For each of rows (n, m) the group (n,) whose middle is nearest, or about so."""
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
    """Centres by k-means on a sample, near ones close in number; and the way to them."""
    n = len(reduced)
    count = max(round(_ROOTS * math.sqrt(n)), n // _LARGEST_MEAN)
    count = max(1, min(count, n // _SMALLEST_MEAN))
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
    """Groups of rows, as :func:`by_label` returns them, none empty and none of more than `most`."""
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
    """How many cells to look into.

    The fewest that hold the share `wanted` of the true neighbours, so that passes along the links
    can find the others; or a few more where they lead to the share `recall` without a pass.
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
