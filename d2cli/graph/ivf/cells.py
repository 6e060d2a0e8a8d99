"""Cells: fits their centres, routes rows to the nearest centres and sorts the rows by cell."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import hnswlib
import numpy as np

from d2cli.engine.threads import for_blocks
from d2cli.graph.distances import half_square_norms, keep_nearest
from d2cli.graph.ivf.sizes import LARGEST, SMALLEST_MEAN, cell_count
from d2cli.graph.recall import Truth
from d2cli.runtime.arrays import Float32, Int32
from d2cli.runtime.jit import kernel
from d2cli.runtime.products import product

#: Rows per cell that the centres are fitted to.
_SAMPLE_PER_CELL = 12
#: With more cells than this, a row is routed to a group of at most 8 cells first.
_FEW_CELLS = 1024
#: With more groups than this, an HNSW index finds the group of a row.
_FEW_GROUPS = 1024
#: Cells around the middle of a group that a row is compared with.
_AROUND = 256
#: Rows routed by one matrix product.
_ROUTE_ROWS = 256
#: With fewer probes, cells hardly overlap, and no links lead from one cell to the next.
_FEWEST_PROBES = 4
_MOST_PROBES = 32
#: Share of the missed neighbours that :func:`~d2cli.graph.ivf.refine.exchange` finds; 0.2 to 0.4
#: were measured.
_EXCHANGED = 0.27
#: A pass along the links costs about as much as this many more probes.
_PASS_IN_PROBES = 2


class Cells(NamedTuple):
    """Rows sorted by cell. A *position* is the place of a row in that order."""

    order: Int32  # (n,), the row at each position
    starts: Int32  # (cells + 1,); cell c has the positions starts[c] … starts[c + 1]
    centres: Float32  # (cells, m)
    probes: Int32  # (n, p), the cells that the row at each position probes, its own first

    @property
    def of_position(self) -> Int32:
        """The cell of each position, (n,) int32."""
        return np.repeat(np.arange(len(self.centres), dtype=np.int32), np.diff(self.starts))


class Router:
    """Finds the cells whose centres (cells, w) are nearest to a row in its first w dimensions.

    With more than _FEW_CELLS cells, a row is routed to a group of cells (approximately the one with
    the nearest middle) and compared with the _AROUND centres nearest to that middle. The cost per
    row is then constant, and nearly all of the nearest centres are found.
    """

    def __init__(self, centres: Float32, seed: int, threads: int) -> None:
        self.centres, self.seed, self.threads = centres, seed, threads
        self._all = _Targets(centres)
        self._groups = _Groups(self._all, seed, threads) if len(centres) > _FEW_CELLS else None

    def route(self, rows: Float32, probes: int) -> Int32:
        """The nearest cells (n, probes) of rows (n, m), nearest first. Needs probes <= cells."""
        if self._groups is None:
            return self._all.nearest_in_blocks(rows, probes, self.threads)
        around, routed = self._groups.around, np.empty((len(rows), probes), np.int32)
        width = self.centres.shape[1]
        order, starts = by_label(self._groups.about_nearest(rows), len(around))

        def find(start: int, stop: int) -> None:
            for group in range(start, stop):
                near = around[group]
                targets = _Targets(self.centres[near])
                for lo in range(starts[group], starts[group + 1], _ROUTE_ROWS):
                    mine = order[lo : min(lo + _ROUTE_ROWS, starts[group + 1])]
                    routed[mine] = near[targets.nearest(rows[mine, :width], probes)]

        for_blocks(find, len(around), 16, self.threads)
        return routed


class _Targets:
    """Points (count, w) that rows are compared with by matrix products."""

    def __init__(self, points: Float32) -> None:
        self.points, self.halves = points, np.empty(len(points), np.float32)
        half_square_norms(points, self.halves)

    def nearest(self, rows: Float32, size: int) -> Int32:
        """The points (n, size) nearest to rows (n, m), nearest first."""
        found = np.zeros((len(rows), size), np.int32)
        scores = np.full(found.shape, np.inf, np.float32)
        products = product(rows[:, : self.points.shape[1]], self.points.T)
        keep_nearest(products, self.halves, 0, scores, found)
        return found

    def nearest_in_blocks(self, rows: Float32, size: int, threads: int) -> Int32:
        """The same in blocks of rows."""
        found = np.empty((len(rows), size), np.int32)

        def find(start: int, stop: int) -> None:
            found[start:stop] = self.nearest(rows[start:stop], size)

        for_blocks(find, len(rows), _ROUTE_ROWS, threads)
        return found


class _Groups:
    """Groups of near centres; `around` (groups, _AROUND) lists those nearest to each middle."""

    def __init__(self, targets: _Targets, seed: int, threads: int) -> None:
        centres, self._threads = targets.points, threads
        order, starts = halved(centres, np.arange(len(centres)), 8)
        middles = np.empty((len(starts) - 1, centres.shape[1]), np.float32)
        average(centres[order], starts, middles)
        self._middles, self._index = _Targets(middles), None
        if len(middles) > _FEW_GROUPS:
            leading = np.ascontiguousarray(middles[:, :16])
            self._index = hnswlib.Index("l2", leading.shape[1])
            self._index.init_index(len(leading), M=8, ef_construction=40, random_seed=seed)
            # One thread, because the index depends on the order of insertion.
            self._index.add_items(leading, num_threads=1)
            self._index.set_ef(3)
        size = min(_AROUND, len(centres))
        self.around = np.empty((len(middles), size), np.int32)

        def look_around(start: int, stop: int) -> None:
            scores = targets.halves - product(middles[start:stop], centres.T)
            self.around[start:stop] = np.argpartition(scores, size - 1, axis=1)[:, :size]

        for_blocks(look_around, len(middles), _ROUTE_ROWS, threads)

    def about_nearest(self, rows: Float32) -> Int32:
        """The group (n,) whose middle is nearest to each of rows (n, m), approximately."""
        if self._index is None:
            return self._middles.nearest_in_blocks(rows, 1, self._threads)[:, 0]
        index, found = self._index, np.empty(len(rows), np.int32)

        def find(start: int, stop: int) -> None:
            asking = rows[start:stop, : index.dim]
            found[start:stop] = index.knn_query(asking, 1, num_threads=1)[0][:, 0]

        for_blocks(find, len(rows), _ROUTE_ROWS, self._threads)
        return found


def fit_centres(reduced: Float32, rng: np.random.Generator, seed: int, threads: int) -> Router:
    """A router to centres fitted by k-means on a sample, in the 96 leading dimensions.

    Near centres have near numbers.
    """
    n, count = len(reduced), cell_count(len(reduced))
    size = min(n, _SAMPLE_PER_CELL * count)
    sample = reduced[np.sort(rng.choice(n, size, replace=False)), :96]
    centres = sample[rng.choice(len(sample), count, replace=False)]
    for _ in range(3):
        nearest = Router(centres, seed, threads).route(sample, 1)[:, 0]
        order, starts = by_label(nearest, len(centres))
        order, starts = _cut(sample, order, starts, 2 * _SAMPLE_PER_CELL)
        sample = sample[order]
        centres = np.empty((len(starts) - 1, sample.shape[1]), np.float32)
        average(sample, starts, centres)
    by_place, _ = halved(centres, np.arange(len(centres)), 1)
    return Router(centres[by_place], seed, threads)


def _cut(points: Float32, order: Int32, starts: Int32, most: int) -> tuple[Int32, Int32]:
    """Cut groups as :func:`by_label` returns them to at most `most` rows, and drop empty ones."""
    members, sizes = [], []
    for first, last in pairwise(starts.tolist()):
        if last > first:  # a group of at most `most` rows stays one part, in its order
            mine, ends = halved(points, order[first:last], most)
            members.append(mine)
            sizes.extend(np.diff(ends).tolist())
    return np.concatenate(members), np.cumsum([0, *sizes], dtype=np.int32)


def choose_probes(
    router: Router, reduced: Float32, truth: Truth, wanted: float, recall: float
) -> int:
    """The smallest number of cells that hold the share `wanted` of the true neighbours.

    Passes along the links find the others. If up to _PASS_IN_PROBES more cells reach `recall`
    without a pass, that number is used.
    """
    most = min(_MOST_PROBES, len(router.centres))
    looked = router.route(reduced[truth.rows], most)
    near = truth.neighbors
    own = router.route(reduced[near.ravel()], 1)[:, 0].reshape(near.shape)
    held = np.cumsum((looked[:, None, :] == own[:, :, None]).mean(axis=(0, 1)))
    found = 1.0 - (1.0 - held) * (1.0 - _EXCHANGED)
    probes = max(1 + int(np.count_nonzero(held < wanted)), _FEWEST_PROBES)
    alone = 1 + int(np.count_nonzero(found < recall))
    return min(alone if probes < alone <= probes + _PASS_IN_PROBES else probes, most)


def arrange(reduced: Float32, router: Router, probes: int, fewest: int) -> Cells:
    """Even out the sizes of the cells and sort the rows by cell; permutes `reduced` in place.

    Each row probes `probes` cells. They hold at least `fewest` rows, the row itself included.
    """
    probes, seed, threads = min(probes, len(router.centres)), router.seed, router.threads
    routed = router.route(reduced, probes)
    label, centres, renumbered = _even_out(reduced, router, routed[:, 0], -(-fewest // probes))
    probes = min(probes, len(centres))
    routed = renumbered[routed[:, :probes]]
    stale = np.flatnonzero((routed < 0).any(axis=1))
    if len(stale):
        among = Router(centres, seed, threads)
        routed[stale] = among.route(reduced[stale, : centres.shape[1]], probes)
    _own_first(label, routed)
    order, starts = by_label(label, len(centres))
    means = np.empty((len(centres), reduced.shape[1]), np.float32)

    for_blocks(lambda a, b: _permute(reduced[:, a:b], order), reduced.shape[1], 64, threads)
    for_blocks(
        lambda a, b: average(reduced, starts[a : b + 1], means[a:b]), len(centres), 32, threads
    )
    return Cells(order, starts, means, routed[order])


def _even_out(
    reduced: Float32, router: Router, label: Int32, least: int
) -> tuple[Int32, Float32, Int32]:
    """Dissolve cells of fewer than `least` rows and cut cells of more than LARGEST times the mean.

    The cost of a cell is quadratic in its size. K-means leaves a large cell where float32 scores
    cannot tell rows apart. Returns the new cell of each row (n,), the new centres, and the new
    number of each old cell (cells,), -1 if the cell was dissolved or cut.
    """
    n, (count, width) = len(reduced), router.centres.shape
    sizes = np.bincount(label, minlength=count)
    large = LARGEST * max(n // count, SMALLEST_MEAN)
    lasting = np.flatnonzero(sizes >= min(least, sizes.max()))
    homeless = np.flatnonzero(np.isin(label, lasting, invert=True, kind="table"))
    label = label.copy()
    if len(homeless):
        among = Router(router.centres[lasting], router.seed, router.threads)
        label[homeless] = lasting[among.route(reduced[homeless, :width], 1)[:, 0]]
    order, starts = by_label(label, count)
    renumbered = np.full(count, -1, np.int32)
    centres: list[Float32] = []
    for cell in lasting:
        mine = order[starts[cell] : starts[cell + 1]]
        if len(mine) <= large:
            renumbered[cell] = label[mine] = len(centres)
            centres.append(router.centres[cell])
            continue
        parts, ends = halved(reduced, mine, large // 2)
        for part in np.split(parts, ends[1:-1]):
            label[part] = len(centres)
            centres.append(reduced[part, :width].mean(axis=0))
    return label, np.array(centres), renumbered


@kernel
def _own_first(label, routed):
    """Move each row's own cell to the front; if it is not listed, it replaces the last cell."""
    for i in range(routed.shape[0]):
        at = 0
        while at < routed.shape[1] - 1 and routed[i, at] != label[i]:
            at += 1
        for a in range(at, 0, -1):
            routed[i, a] = routed[i, a - 1]
        routed[i, 0] = label[i]


@kernel
def _permute(rows, order):
    """Rows <- rows[order] in place, cycle by cycle."""
    n, m = rows.shape
    done = np.zeros(n, np.bool_)
    held = np.empty(m, np.float32)
    for first in range(n):
        if done[first]:
            continue
        held[:] = rows[first]
        to = first
        while order[to] != first:
            rows[to] = rows[order[to]]
            done[to] = True
            to = order[to]
        rows[to] = held
        done[to] = True


@kernel
def by_label(labels, count):
    """Sort rows by their labels (n,) 0 … count - 1.

    Returns order (n,), the rows by (label, row), and starts (count + 1,), where each label begins.
    """
    # Counts are stored two places late, so that filling `order` moves the starts into place.
    starts = np.zeros(count + 2, np.int32)
    for i in range(labels.shape[0]):
        starts[labels[i] + 2] += 1
    for c in range(count):
        starts[c + 2] += starts[c + 1]
    order = np.empty(labels.shape[0], np.int32)
    for i in range(labels.shape[0]):
        order[starts[labels[i] + 1]] = i
        starts[labels[i] + 1] += 1
    return order, starts[: count + 1]


@kernel
def average(points, starts, means):
    """means[c] <- the mean of points[starts[c]:starts[c + 1]], summed in order in float64."""
    sums = np.empty(points.shape[1], np.float64)
    for c in range(means.shape[0]):
        sums[:] = 0
        for i in range(starts[c], starts[c + 1]):
            row = points[i]
            for t in range(row.shape[0]):
                sums[t] += row[t]
        for t in range(sums.shape[0]):
            means[c, t] = sums[t] / (starts[c + 1] - starts[c])


@kernel
def halved(points, members, most):
    """Split the members (m,), m >= 1, of the points (n, d) into parts of at most `most` rows.

    They are split recursively at the median of their widest coordinate. Returns order (m,), the
    members part by part, and starts (parts + 1,).
    """
    order = members.astype(np.int32)
    starts = np.zeros(order.size + 1, np.int32)
    first = parts = 0
    waiting = [order.size]  # a stack of the ends of right halves that are not split yet
    while waiting:
        last = waiting[-1]
        if last - first <= most:
            parts += 1
            starts[parts] = last
            first = waiting.pop()
            continue
        mine = order[first:last]
        widest, reach = 0, np.float32(-1)
        for t in range(points.shape[1]):
            low = high = points[mine[0], t]
            for i in mine:
                low, high = min(low, points[i, t]), max(high, points[i, t])
            if high - low > reach:
                widest, reach = t, high - low
        along = np.empty(mine.size, points.dtype)
        for r in range(mine.size):
            along[r] = points[mine[r], widest]
        order[first:last] = mine[np.argsort(along, kind="mergesort")]
        waiting.append(first + mine.size // 2)
    return order, starts[: parts + 1]
