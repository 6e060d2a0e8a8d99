"""Compares each row with the rows of the cells that it probes."""

import numpy as np

from d2cli.engine.threads import Progress, for_blocks, silent
from d2cli.graph.distances import LANES, below, ceiling, half_square_norms, insert
from d2cli.graph.ivf.cells import Cells, by_label
from d2cli.graph.ivf.sizes import CELL_QUERIES
from d2cli.runtime.arrays import Float32, Int32
from d2cli.runtime.jit import kernel, reordering_kernel
from d2cli.runtime.products import product

#: Most rows (of neighbouring cells) in one block. In a larger block, more rows probe the same cell.
_JOIN_ROWS = 16384


def search_cells(
    reduced: Float32, cells: Cells, size: int, threads: int, progress: Progress = silent
) -> tuple[Float32, Int32]:
    """Squared distances (n, size), ascending, and positions (n, size), of the nearest rows.

    These are the nearest in the cells that each row probes; empty places are +inf and -1.
    """
    n = len(reduced)
    halves = np.empty(n, np.float32)

    for_blocks(lambda a, b: half_square_norms(reduced[a:b], halves[a:b]), n, 8192, threads)
    join = _Join(reduced, halves, cells, size)
    blocks = 4 * -(-n // (4 * _JOIN_ROWS))  # so that two or four threads end at the same time
    for_blocks(join, n, -(-n // blocks), threads, progress, "search")
    return join.distances, join.positions


class _Workspace:
    """Buffers of one block."""

    def __init__(self, widest: int, width: int) -> None:
        self.targets = np.empty((widest, width), np.float32)
        self.halves = np.empty(widest + LANES, np.float32)
        self.queries = np.empty((CELL_QUERIES, width), np.float32)
        self.own = np.empty(CELL_QUERIES, np.float32)
        # LANES longer, because the last run of the last row reaches beyond its end.
        self.products = np.zeros(CELL_QUERIES * widest + LANES, np.float32)


class _Join:
    """Compares blocks of rows with the cells that they probe."""

    def __init__(self, reduced: Float32, halves: Float32, cells: Cells, size: int) -> None:
        self.reduced, self.halves, self.cells = reduced, halves, cells
        self.distances = np.full((len(reduced), size), np.inf, np.float32)
        self.positions = np.full((len(reduced), size), -1, np.int32)
        sizes = np.diff(cells.starts)
        self.widest = int(sizes.max())
        squares = 2.0 * np.add.reduceat(halves, cells.starts[:-1], dtype=np.float64) / sizes
        centre = np.square(cells.centres, dtype=np.float64).sum(axis=1)
        # Cells far from the origin are centred; float32 rounding errors would be too large.
        self.far = centre > 32 * (squares - centre)

    def __call__(self, start: int, stop: int) -> None:
        """Fill the lists of the rows whose cells begin at positions start … stop."""
        starts = self.cells.starts
        first, last = np.searchsorted(starts[:-1], (start, stop)).tolist()
        if first == last:
            return
        workspace = _Workspace(self.widest, self.reduced.shape[1])
        # The own cell comes first: its rows fill the lists, so that few other rows are inserted.
        for cell in range(first, last):
            own = np.arange(starts[cell], starts[cell + 1], dtype=np.int32)
            self._compare(workspace, cell, own)
        begin, end = starts[[first, last]].tolist()
        probes = self.cells.probes[begin:end, 1:]
        visitors, ends = by_label(probes.ravel(), len(starts) - 1)
        visitors = visitors // np.int32(max(1, probes.shape[1])) + np.int32(begin)
        for cell in np.flatnonzero(np.diff(ends)).tolist():
            self._compare(workspace, cell, visitors[ends[cell] : ends[cell + 1]])

    def _compare(self, workspace: _Workspace, cell: int, visitors: Int32) -> None:
        """Compare the rows at the positions `visitors` (ascending) with the rows of a cell."""
        first, last = self.cells.starts[cell : cell + 2].tolist()
        count = last - first
        near, near_halves = self.reduced[first:last], workspace.halves[: count + LANES]
        near_halves[count:] = np.inf
        far = self.far[cell]
        if far:
            centre, near = self.cells.centres[cell], workspace.targets[:count]
            members = np.arange(first, last, dtype=np.int32)
            _centred(self.reduced, members, centre, near, near_halves)
        else:
            near_halves[:count] = self.halves[first:last]
        for lo in range(0, len(visitors), CELL_QUERIES):
            mine = visitors[lo : lo + CELL_QUERIES]
            asking, own = workspace.queries[: len(mine)], workspace.own[: len(mine)]
            if far:
                _centred(self.reduced, mine, centre, asking, own)
            else:
                _gathered(self.reduced, self.halves, mine, asking, own)
            products = workspace.products
            product(asking, near.T, out=products[: len(mine) * count].reshape(len(mine), count))
            lists = self.distances, self.positions
            _admit(mine, own, first, near_halves, products, count, *lists)


@reordering_kernel
def _centred(reduced, which, centre, out, halves):
    """out[r] <- reduced[which[r]] - centre; halves[r] <- half of its squared norm."""
    for r in range(which.shape[0]):
        row, moved = reduced[which[r]], out[r]  # hoisted: numba would index them in each step
        total = np.float32(0)
        for t in range(centre.shape[0]):
            gap = row[t] - centre[t]
            moved[t] = gap
            total += gap * gap
        halves[r] = np.float32(0.5) * total


@kernel
def _gathered(reduced, halves, which, out, out_halves):
    """out[r] <- reduced[which[r]]; out_halves[r] <- halves[which[r]]."""
    for r in range(which.shape[0]):
        row, copy = reduced[which[r]], out[r]
        for t in range(row.shape[0]):
            copy[t] = row[t]
        out_halves[r] = halves[which[r]]


@kernel
def _admit(which, query_halves, first, target_halves, products, count, distances, positions):
    """Merge the `count` rows first, first + 1, … into the lists of the rows `which`.

    Since |x - y|²/2 = query half + target half - product, the score target half - product is
    compared with last entry / 2 - query half: one subtraction and one compare per candidate, which
    most candidates fail. `products` holds one row of scores per query, without gaps. The last run
    of a row reads beyond its end; target halves are +inf there.
    """
    spots, least = np.empty(LANES, np.int32), np.empty(LANES, np.float32)
    whole, most = count // LANES * LANES, distances.shape[1] + 1
    for q in range(which.shape[0]):
        i, own = which[q], query_halves[q]
        listed, rows = distances[i], positions[i]
        bound = np.float32(0.5) * listed[-1] - own
        if bound == np.inf and most <= LANES // 2 and whole:
            # An empty list: its bound is estimated. `most` counts the row itself.
            bound = ceiling(target_halves, products[q * count :], whole, most, least)
        for start in range(0, count, LANES):
            at = q * count + start
            run, half = products[at : at + LANES], target_halves[start : start + LANES]
            for s in range(below(half, run, bound, spots)):
                score = half[spots[s]] - run[spots[s]]
                candidate = first + start + spots[s]
                if score < bound and candidate != i:
                    square = max(np.float32(2) * (score + own), np.float32(0))
                    insert(listed, rows, square, candidate)
                    bound = min(bound, np.float32(0.5) * listed[-1] - own)
