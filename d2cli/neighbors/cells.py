"""Cells of near rows: how rows are grouped, which cells each looks into, and their search."""

from __future__ import annotations

import math
from dataclasses import dataclass

import hnswlib
import numpy as np
from numpy.typing import NDArray

from d2cli._jit import kernel, reordering_kernel
from d2cli.neighbors._lists import LANES, below, half_square_norms, insert, keep_nearest
from d2cli.neighbors.recall import Truth
from d2cli.parallel import Progress, for_blocks, silent

#: Cells per √n: routing costs n·cells, searching n·probes·n/cells.
_CELLS_PER_ROOT = 2.0
#: Rows per cell on average, at least; and at most: where there are that many cells, an index makes
#: the cost of routing nearly independent of how many.
_SMALLEST_MEAN, _LARGEST_MEAN = 32, 320
#: A cell of more than this many times the average is cut.
_LARGEST = 4
#: Rows per cell that the centres are fitted to, and how often they are moved.
_SAMPLE_PER_CELL, _FITTING_ROUNDS = 12, 3
#: Rows routed by one matrix product.
_ROUTE_ROWS = 256
#: With fewer probes cells hardly overlap, and no path leads from one to the next.
_FEWEST_PROBES, _MOST_PROBES = 4, 32
#: Leading dimensions that centres are fitted and rows are routed in.
_ROUTE_WIDTH = 64
#: With more cells than this an HNSW index finds a row's nearest cells.
_HNSW_CELLS = 2048
_HNSW_M, _HNSW_EF_CONSTRUCTION = 16, 100
#: Width of that index's search: at least, and for each cell that is asked for.
_HNSW_EF, _HNSW_EF_PER_PROBE = 10, 2
#: Columns permuted by one worker.
_PERMUTED_COLUMNS = 32
#: Rows (of neighbouring cells) searched by one worker, and those multiplied with a cell at once.
_JOIN_ROWS, _QUERIES = 8192, 512


class Router:
    """Finds the cells whose centres (cells, w) are nearest to a row in its first w dimensions."""

    def __init__(self, centres: NDArray[np.float32], seed: int, threads: int) -> None:
        self.centres, self.seed, self.threads = centres, seed, threads
        self._halves = np.empty(len(centres), np.float32)
        half_square_norms(centres, self._halves)
        self._index = None
        if len(centres) > _HNSW_CELLS:
            self._index = hnswlib.Index("l2", centres.shape[1])
            self._index.init_index(
                len(centres), M=_HNSW_M, ef_construction=_HNSW_EF_CONSTRUCTION, random_seed=seed
            )
            # One thread: the links of a concurrent build depend on who comes first.
            self._index.add_items(centres, num_threads=1)

    def over(self, centres: NDArray[np.float32]) -> Router:
        """A router to other centres, made as this one is."""
        return Router(centres, self.seed, self.threads)

    def route(
        self, rows: NDArray[np.float32], probes: int, which: NDArray[np.integer] | None = None
    ) -> NDArray[np.int32]:
        """The nearest cells (n, probes) of rows (n, m), or of rows[which], nearest first."""
        count = len(rows) if which is None else len(which)
        routed = np.zeros((count, probes), np.int32)
        if self._index is not None:
            self._index.set_ef(max(_HNSW_EF, _HNSW_EF_PER_PROBE * probes))

        def find(start: int, stop: int) -> None:
            asking = rows[start:stop] if which is None else rows[which[start:stop]]
            asking = asking[:, : self.centres.shape[1]]
            if self._index is not None:
                routed[start:stop] = self._index.knn_query(asking, probes, num_threads=1)[0]
                return
            nearest = np.full((len(asking), probes), np.inf, np.float32)
            keep_nearest(asking @ self.centres.T, self._halves, 0, nearest, routed[start:stop])

        for_blocks(find, count, _ROUTE_ROWS, self.threads)
        return routed


@dataclass(frozen=True)
class Cells:
    """Rows grouped by cell. Positions number the rows in that grouping.

    Attributes:
        order: (n,) int32, the row at each position.
        starts: (cells + 1,) int32, where a cell's positions begin.
        centres: (cells, m) float32.
        probes: (n, p) int32, by position, the cells looked into.
    """

    order: NDArray[np.int32]
    starts: NDArray[np.int32]
    centres: NDArray[np.float32]
    probes: NDArray[np.int32]

    @property
    def of_position(self) -> NDArray[np.int32]:
        """The cell (n,) of each position."""
        return np.repeat(np.arange(len(self.centres), dtype=np.int32), np.diff(self.starts))


def fit_centres(
    reduced: NDArray[np.float32], rng: np.random.Generator, seed: int, threads: int
) -> Router:
    """Centres by k-means on a sample, near ones close in number; and the way to them."""
    n = len(reduced)
    count = max(round(_CELLS_PER_ROOT * math.sqrt(n)), n // _LARGEST_MEAN)
    count = max(1, min(count, n // _SMALLEST_MEAN))
    size = min(n, _SAMPLE_PER_CELL * count)
    sample = reduced[np.sort(rng.choice(n, size, replace=False)), :_ROUTE_WIDTH]
    centres = sample[rng.choice(len(sample), count, replace=False)]
    for _ in range(_FITTING_ROUNDS):
        label = Router(centres, seed, threads).route(sample, 1)[:, 0]
        sizes = np.bincount(label, minlength=count)
        used = sizes > 0
        firsts = (np.cumsum(sizes) - sizes)[used]
        sums = np.add.reduceat(sample[np.argsort(label, kind="stable")], firsts, axis=0)
        centres[used] = sums / sizes[used, None]
    return Router(centres[np.concatenate(_halved(centres, np.arange(count), 1))], seed, threads)


def _halved(
    points: NDArray[np.float32], members: NDArray[np.int64], most: int
) -> list[NDArray[np.int64]]:
    """`members` cut at the median of their widest coordinate, again and again, to `most` a part."""
    if len(members) <= most:
        return [members]
    mine = points[members]
    along = mine[:, np.argmax(np.ptp(mine, axis=0))]
    members = members[np.argsort(along, kind="stable")]
    middle = len(members) // 2
    return _halved(points, members[:middle], most) + _halved(points, members[middle:], most)


def choose_probes(router: Router, reduced: NDArray[np.float32], truth: Truth, wanted: float) -> int:
    """The fewest cells to look into that hold the share `wanted` of the true neighbours."""
    most = min(_MOST_PROBES, len(router.centres))
    looked = router.route(reduced[truth.rows], most)
    near = truth.neighbors
    held = router.route(reduced[near.ravel()], 1)[:, 0].reshape(near.shape)
    at = (looked[:, None, :] == held[:, :, None]).mean(axis=(0, 1))
    enough = np.flatnonzero(np.cumsum(at) >= wanted)
    return max(int(enough[0]) + 1, min(_FEWEST_PROBES, most)) if len(enough) else most


def arrange(reduced: NDArray[np.float32], router: Router, probes: int, fewest: int) -> Cells:
    """Group the rows by cell once the cells' sizes are evened out; permutes `reduced` in place.

    Every row then has at least `fewest` rows, itself among them, in the cells it looks into.
    """
    probes = min(probes, len(router.centres))
    routed = router.route(reduced, probes)
    label, centres, renumbered = _even_out(reduced, router, routed[:, 0], -(-fewest // probes))
    probes = min(probes, len(centres))
    routed = renumbered[routed[:, :probes]]
    stale = np.flatnonzero((routed < 0).any(axis=1))
    if len(stale):
        routed[stale] = router.over(centres).route(reduced, probes, stale)
    order = np.argsort(label, kind="stable").astype(np.int32)
    starts = np.zeros(len(centres) + 1, np.int32)
    np.cumsum(np.bincount(label, minlength=len(centres)), out=starts[1:])

    def permute(start: int, stop: int) -> None:
        _permute(reduced[:, start:stop], order)

    for_blocks(permute, reduced.shape[1], _PERMUTED_COLUMNS, router.threads)
    sums = np.add.reduceat(reduced, starts[:-1])
    means = (sums / np.diff(starts)[:, None]).astype(np.float32)
    return Cells(order, starts, means, routed[order])


def _even_out(
    reduced: NDArray[np.float32], router: Router, label: NDArray[np.int32], least: int
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32]]:
    """Dissolve the cells of fewer than `least` rows and cut those of far more than the average.

    Returns each row's new cell (n,), the new centres, and the new number (cells,) of each old
    cell, -1 if it is not what it was. Cutting keeps a clump, however tight, from costing its size
    squared: k-means cannot part rows that its float32 scores cannot tell apart.
    """
    n, count = len(reduced), len(router.centres)
    sizes = np.bincount(label, minlength=count)
    large = _LARGEST * max(n // count, _SMALLEST_MEAN)
    lasting = np.flatnonzero(sizes >= min(least, sizes.max()))
    homeless = np.flatnonzero(~np.isin(label, lasting))
    label = label.copy()
    if len(homeless):
        nearest = router.over(router.centres[lasting]).route(reduced, 1, homeless)[:, 0]
        label[homeless] = lasting[nearest]
    grouped = np.split(np.argsort(label, kind="stable"), np.cumsum(np.bincount(label))[:-1])
    renumbered = np.full(count, -1, np.int32)
    centres: list[NDArray[np.float32]] = []
    for cell in lasting:
        if len(grouped[cell]) <= large:
            renumbered[cell] = len(centres)
            label[grouped[cell]] = len(centres)
            centres.append(router.centres[cell])
            continue
        for part in _halved(reduced, grouped[cell], large // 2):
            label[part] = len(centres)
            centres.append(reduced[part, : router.centres.shape[1]].mean(axis=0))
    return label, np.array(centres), renumbered


@kernel
def _permute(rows, order):
    """Rows <- rows[order] without a second copy, cycle by cycle."""
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


def search_cells(
    reduced: NDArray[np.float32], cells: Cells, size: int, threads: int, progress: Progress = silent
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The nearest positions in the cells that each row looks into.

    Returns squared distances (n, size) and positions (n, size), ascending; what a short list lacks
    is infinitely far and -1.
    """
    n, m = reduced.shape
    distances = np.full((n, size), np.inf, np.float32)
    positions = np.full((n, size), -1, np.int32)
    widest = int(np.diff(cells.starts).max())
    wide = widest + LANES

    def join(start: int, stop: int) -> None:
        targets, target_halves = np.empty((widest, m), np.float32), np.empty(wide, np.float32)
        queries, query_halves = np.empty((_QUERIES, m), np.float32), np.empty(_QUERIES, np.float32)
        products = np.zeros(_QUERIES * widest + LANES, np.float32)
        # A row's nearest cell first: it leaves few of the other cells' rows near enough to insert.
        for columns in (cells.probes[:, :1], cells.probes[:, 1:]):
            visitors, ends = _visitors(columns, start, stop, len(cells.centres))
            for cell in np.flatnonzero(np.diff(ends[:-1])):
                first, centre = cells.starts[cell], cells.centres[cell]
                members = np.arange(first, cells.starts[cell + 1], dtype=np.int32)
                near = targets[: len(members)]
                _centred(reduced, members, centre, near, target_halves)
                target_halves[len(near) : len(near) + LANES] = np.inf
                for lo in range(ends[cell], ends[cell + 1], _QUERIES):
                    mine = visitors[lo : min(lo + _QUERIES, ends[cell + 1])]
                    asking = queries[: len(mine)]
                    _centred(reduced, mine, centre, asking, query_halves)
                    scores = products[: len(mine) * len(near)].reshape(len(mine), len(near))
                    np.matmul(asking, near.T, out=scores)
                    _admit(
                        mine, query_halves, first, target_halves, products, len(near),
                        distances, positions,
                    )  # fmt: skip

    for_blocks(join, n, _JOIN_ROWS, threads, progress, "search")
    return distances, positions


@kernel
def _visitors(probes, start, stop, n_cells):
    """Positions start … stop by the cells they look into: of cell c at ends[c]:ends[c+1]."""
    # Kept one place late while they are counted, so that filling moves them to where they belong.
    ends = np.zeros(n_cells + 2, np.int32)
    for i in range(start, stop):
        for a in range(probes.shape[1]):
            ends[probes[i, a] + 2] += 1
    for c in range(n_cells):
        ends[c + 2] += ends[c + 1]
    visitors = np.empty((stop - start) * probes.shape[1], np.int32)
    for i in range(start, stop):
        for a in range(probes.shape[1]):
            c = probes[i, a]
            visitors[ends[c + 1]] = i
            ends[c + 1] += 1
    return visitors, ends


@reordering_kernel
def _centred(reduced, which, centre, out, halves):
    """out[r] <- reduced[which[r]] - centre, and halves[r] half its squared norm."""
    for r in range(which.shape[0]):
        row, moved = reduced[which[r]], out[r]  # named once, or each step would look them up again
        total = np.float32(0)
        for t in range(centre.shape[0]):
            gap = row[t] - centre[t]
            moved[t] = gap
            total += gap * gap
        halves[r] = np.float32(0.5) * total


@kernel
def _admit(which, query_halves, first, target_halves, products, count, distances, positions):
    """Put into the lists of `which` the `count` rows first … nearer than their last entries.

    |x-y|²/2 = query half + target half - product, so target half - product is compared with what
    the last entry leaves: one subtraction and compare a candidate, which nearly all fail. Products
    follow each other row by row; the last run of a row reaches into the next, or into what is left
    free, where infinite target halves make nothing near.
    """
    spots = np.empty(LANES, np.int32)
    for q in range(which.shape[0]):
        i = which[q]
        own = query_halves[q]
        listed, rows = distances[i], positions[i]
        bound = np.float32(0.5) * listed[-1] - own
        for start in range(0, count, LANES):
            at = q * count + start
            run, half = products[at : at + LANES], target_halves[start : start + LANES]
            for s in range(below(half, run, bound, spots)):
                score = half[spots[s]] - run[spots[s]]
                candidate = first + start + spots[s]
                if score < bound and candidate != i:
                    square = max(np.float32(2) * (score + own), np.float32(0))
                    insert(listed, rows, square, candidate)
                    bound = np.float32(0.5) * listed[-1] - own
