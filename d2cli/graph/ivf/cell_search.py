"""The search of cells: each row against the rows of the cells that it looks into."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.threads import Progress, for_blocks, silent
from d2cli.graph.ivf.cells import Cells
from d2cli.graph.ivf.grouping import by_label
from d2cli.graph.lists import LANES, below, ceiling, half_square_norms, insert
from d2cli.runtime.jit import kernel, reordering_kernel
from d2cli.runtime.products import product

#: Rows (of neighbouring cells) searched by one worker, at most: the more, the more of them look
#: into the same cell. And those multiplied with a cell at once.
_JOIN_ROWS, _QUERIES = 16384, 512
#: Workers' shares are alike, and as many as this or a multiple: two or four threads end together.
_EVEN = 4
#: Rows of a cell whose centre's square is at most so many times their spread are compared as they
#: are: float32 tells their distances apart. Rows farther from the origin are centred first.
_NEAR_ORIGIN = 32
#: Rows measured by one worker.
_MEASURED_ROWS = 8192


def search_cells(
    reduced: NDArray[np.float32], cells: Cells, size: int, threads: int, progress: Progress = silent
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The nearest positions in the cells that each row looks into.

    Returns squared distances (n, size) and positions (n, size), ascending; what a short list lacks
    is infinitely far and -1.
    """
    n = len(reduced)
    distances = np.full((n, size), np.inf, np.float32)
    positions = np.full((n, size), -1, np.int32)
    halves = np.empty(n, np.float32)

    def measure(start: int, stop: int) -> None:
        half_square_norms(reduced[start:stop], halves[start:stop])

    for_blocks(measure, n, _MEASURED_ROWS, threads)
    joint = _Join(reduced, halves, cells, distances, positions)
    shares = _EVEN * -(-n // (_EVEN * _JOIN_ROWS))
    for_blocks(joint, n, -(-n // shares), threads, progress, "search")
    return distances, positions


class _Join:
    """Compares blocks of rows with the cells that they look into."""

    def __init__(
        self,
        reduced: NDArray[np.float32],
        halves: NDArray[np.float32],
        cells: Cells,
        distances: NDArray[np.float32],
        positions: NDArray[np.int32],
    ) -> None:
        self.reduced, self.halves, self.cells = reduced, halves, cells
        self.distances, self.positions = distances, positions
        sizes = np.diff(cells.starts)
        self.widest = int(sizes.max())
        squares = 2.0 * np.add.reduceat(halves, cells.starts[:-1], dtype=np.float64) / sizes
        centre = np.square(cells.centres, dtype=np.float64).sum(axis=1)
        self.far = centre > _NEAR_ORIGIN * (squares - centre)

    def __call__(self, start: int, stop: int) -> None:
        """Fill the lists of the rows of the cells that begin in start … stop."""
        cells = self.cells
        starts = cells.starts
        first, last = np.searchsorted(starts[:-1], (start, stop)).tolist()
        if first == last:
            return
        room = _Room(self.widest, self.reduced.shape[1])
        # A row's own cell first: it leaves few of the other cells' rows near enough to insert.
        for cell in range(first, last):
            begin, end = int(starts[cell]), int(starts[cell + 1])
            self._compare(room, cell, np.arange(begin, end, dtype=np.int32))
        begin, end = int(starts[first]), int(starts[last])
        probes = cells.probes[begin:end, 1:]
        visitors, ends = by_label(probes.ravel(), len(starts) - 1)
        visitors = visitors // np.int32(max(1, probes.shape[1])) + np.int32(begin)
        for cell in np.flatnonzero(np.diff(ends)).tolist():
            self._compare(room, cell, visitors[ends[cell] : ends[cell + 1]])

    def _compare(self, room: _Room, cell: int, visitors: NDArray[np.int32]) -> None:
        """Compare the rows at the positions `visitors`, ascending, with the rows of a cell."""
        first, last = self.cells.starts[cell : cell + 2].tolist()
        count = last - first
        near, near_halves = self.reduced[first:last], room.halves[: count + LANES]
        near_halves[count:] = np.inf
        far = self.far[cell]
        if far:
            centre, near = self.cells.centres[cell], room.targets[:count]
            members = np.arange(first, last, dtype=np.int32)
            _centred(self.reduced, members, centre, near, near_halves)
        else:
            near_halves[:count] = self.halves[first:last]
        for lo in range(0, len(visitors), _QUERIES):
            mine = visitors[lo : lo + _QUERIES]
            asking, own = room.queries[: len(mine)], room.own[: len(mine)]
            if far:
                _centred(self.reduced, mine, centre, asking, own)
            else:
                _gathered(self.reduced, self.halves, mine, asking, own)
            scores = room.products[: len(mine) * count].reshape(len(mine), count)
            product(asking, near.T, out=scores)
            _admit(
                mine, own, first, near_halves, room.products, count, self.distances, self.positions
            )


class _Room:
    """What one worker works in."""

    def __init__(self, widest: int, width: int) -> None:
        self.targets = np.empty((widest, width), np.float32)
        self.halves = np.empty(widest + LANES, np.float32)
        self.queries = np.empty((_QUERIES, width), np.float32)
        self.own = np.empty(_QUERIES, np.float32)
        # One run of scores longer: the last run of the last row reaches beyond it.
        self.products = np.zeros(_QUERIES * widest + LANES, np.float32)


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
def _gathered(reduced, halves, which, out, out_halves):
    """out[r] <- reduced[which[r]], and likewise the halves of their squared norms."""
    for r in range(which.shape[0]):
        row, copy = reduced[which[r]], out[r]
        for t in range(row.shape[0]):
            copy[t] = row[t]
        out_halves[r] = halves[which[r]]


@kernel
def _admit(which, query_halves, first, target_halves, products, count, distances, positions):
    """Put into the lists of `which` the `count` rows first … nearer than their last entries.

    |x-y|²/2 = query half + target half - product, so target half - product is compared with what
    the last entry leaves: one subtraction and compare a candidate, which nearly all fail. Products
    follow each other row by row; the last run of a row reaches into the next, or into what is left
    free, where infinite target halves make nothing near.
    """
    spots, least = np.empty(LANES, np.int32), np.empty(LANES, np.float32)
    whole, most = count // LANES * LANES, distances.shape[1] + 1
    for q in range(which.shape[0]):
        i = which[q]
        own = query_halves[q]
        listed, rows = distances[i], positions[i]
        bound = np.float32(0.5) * listed[-1] - own
        if bound == np.inf and most <= LANES // 2 and whole:
            # Of an empty list, which the row itself does not enter.
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
