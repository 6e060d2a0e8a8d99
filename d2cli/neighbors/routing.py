"""Centres of cells, and the way from a row to the centres nearest to it."""

from __future__ import annotations

import math
from functools import cached_property
from itertools import chain, pairwise

import hnswlib
import numpy as np
from numpy.typing import NDArray

from d2cli.neighbors._lists import half_square_norms, keep_nearest
from d2cli.neighbors.grouping import by_label, halved
from d2cli.neighbors.recall import Truth
from d2cli.parallel import for_blocks

#: Rows per cell on average: about √n / 2, at least and at most so many.
_ROOTS, _SMALLEST_MEAN, _LARGEST_MEAN = 2.0, 32, 320
#: Rows per cell that the centres are fitted to, and how often they are moved.
_SAMPLE_PER_CELL, _FITTING_ROUNDS = 12, 3
#: Cells that draw more than so many times that are cut, as they would cost their size squared.
_CUT = 2
#: Leading dimensions that centres are fitted and rows are routed in; and that the index sees.
_ROUTE_WIDTH, _INDEX_WIDTH = 96, 32
#: Where there are many, a row is compared with so many centres around the one it was led to.
_AROUND = 256
#: Rows routed by one matrix product, and cells whose rows one worker routes on.
_ROUTE_ROWS, _ROUTE_CELLS = 256, 16
#: With more cells than this an HNSW index leads to the first.
_HNSW_CELLS = 2048
_HNSW_M, _HNSW_EF_CONSTRUCTION, _HNSW_EF = 8, 40, 6
#: With fewer probes cells hardly overlap, and no path leads from one to the next.
_FEWEST_PROBES, _MOST_PROBES = 4, 32
#: A pass along the links costs about as much as so many cells more.
_PASS_IN_PROBES = 2


class Router:
    """Finds the cells whose centres (cells, w) are nearest to a row in its first w dimensions.

    Few centres are all compared with. Of many an index finds about the nearest, and those around
    it are compared with: a row then costs the same however many there are.
    """

    def __init__(self, centres: NDArray[np.float32], seed: int, threads: int) -> None:
        self.centres, self.seed, self.threads = centres, seed, threads
        self._halves = np.empty(len(centres), np.float32)
        half_square_norms(centres, self._halves)
        self._index = None
        if len(centres) > _HNSW_CELLS:
            leading = np.ascontiguousarray(centres[:, :_INDEX_WIDTH])
            self._index = hnswlib.Index("l2", leading.shape[1])
            self._index.init_index(
                len(centres), M=_HNSW_M, ef_construction=_HNSW_EF_CONSTRUCTION, random_seed=seed
            )
            # One thread: the links of a concurrent build depend on who comes first.
            self._index.add_items(leading, num_threads=1)
            self._index.set_ef(_HNSW_EF)

    def over(self, centres: NDArray[np.float32]) -> Router:
        """A router to other centres, made as this one is."""
        return Router(centres, self.seed, self.threads)

    def nearest(self, rows: NDArray[np.float32]) -> NDArray[np.int32]:
        """About the nearest cell (n,) of rows (n, m): of many cells, one of the nearest."""
        if self._index is None:
            return self._among_all(rows, 1)[:, 0]
        index, found = self._index, np.empty(len(rows), np.int32)

        def find(start: int, stop: int) -> None:
            asking = rows[start:stop, : index.dim]
            found[start:stop] = index.knn_query(asking, 1, num_threads=1)[0][:, 0]

        for_blocks(find, len(rows), _ROUTE_ROWS, self.threads)
        return found

    def route(self, rows: NDArray[np.float32], probes: int) -> NDArray[np.int32]:
        """The nearest cells (n, probes) of rows (n, m), nearest first; probes <= the cells."""
        if self._index is None:
            return self._among_all(rows, probes)
        routed = np.empty((len(rows), probes), np.int32)
        around = self._around
        order, starts = by_label(self.nearest(rows), len(self.centres))

        def find(start: int, stop: int) -> None:
            for cell in range(start, stop):
                mine, near = order[starts[cell] : starts[cell + 1]], around[cell]
                asking = rows[mine, : self.centres.shape[1]]
                routed[mine] = near[
                    self._compare(asking, self.centres[near], self._halves[near], probes)
                ]

        for_blocks(find, len(self.centres), _ROUTE_CELLS, self.threads)
        return routed

    @cached_property
    def _around(self) -> NDArray[np.int32]:
        """The cells (cells, _AROUND) nearest to each cell, itself among them, in any order."""
        size = min(_AROUND, len(self.centres))
        around = np.empty((len(self.centres), size), np.int32)

        def find(start: int, stop: int) -> None:
            scores = self._halves - self.centres[start:stop] @ self.centres.T
            around[start:stop] = np.argpartition(scores, size - 1, axis=1)[:, :size]

        for_blocks(find, len(self.centres), _ROUTE_ROWS, self.threads)
        return around

    def _among_all(self, rows: NDArray[np.float32], size: int) -> NDArray[np.int32]:
        found = np.empty((len(rows), size), np.int32)

        def find(start: int, stop: int) -> None:
            asking = rows[start:stop, : self.centres.shape[1]]
            found[start:stop] = self._compare(asking, self.centres, self._halves, size)

        for_blocks(find, len(rows), _ROUTE_ROWS, self.threads)
        return found

    @staticmethod
    def _compare(
        asking: NDArray[np.float32],
        centres: NDArray[np.float32],
        halves: NDArray[np.float32],
        size: int,
    ) -> NDArray[np.int32]:
        """The numbers of the nearest `size` of `centres` for each of `asking`."""
        found = np.zeros((len(asking), size), np.int32)
        nearest = np.full(found.shape, np.inf, np.float32)
        keep_nearest(asking @ centres.T, halves, 0, nearest, found)
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
        order, starts = by_label(Router(centres, seed, threads).nearest(sample), len(centres))
        groups = [order[a:b] for a, b in pairwise(starts.tolist()) if a < b]
        parts = chain.from_iterable(halved(sample, g, _CUT * _SAMPLE_PER_CELL) for g in groups)
        centres = np.array([sample[part].mean(axis=0) for part in parts])
    by_place = np.concatenate(halved(centres, np.arange(len(centres)), 1))
    return Router(centres[by_place], seed, threads)


def choose_probes(
    router: Router, reduced: NDArray[np.float32], truth: Truth, wanted: float, recall: float
) -> int:
    """How many cells to look into.

    The fewest that hold the share `wanted` of the true neighbours, so that passes along the links
    can find the others; or a few more where they hold the share `recall` without a pass.
    """
    most = min(_MOST_PROBES, len(router.centres))
    looked = router.route(reduced[truth.rows], most)
    near = truth.neighbors
    own = router.route(reduced[near.ravel()], 1)[:, 0].reshape(near.shape)
    held = np.cumsum((looked[:, None, :] == own[:, :, None]).mean(axis=(0, 1)))
    probes, alone = (1 + int(np.count_nonzero(held < share)) for share in (wanted, recall))
    probes = max(probes, _FEWEST_PROBES)
    return min(alone if probes < alone <= probes + _PASS_IN_PROBES else probes, most)
