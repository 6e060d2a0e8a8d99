"""Better lists by neighbours of neighbours, in the reduced space.

What NN-descent does (Dong, Moses, Li 2011), in a form whose result does not depend on threads: each
row gathers candidates from lists as they were, and writes its own list only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.threads import Progress, for_blocks, silent
from d2cli.graph.ivf.cells import Cells
from d2cli.graph.lists import insert, square_distance
from d2cli.runtime.jit import kernel
from d2cli.runtime.prefetch import prefetch_row

#: Slots of a row's memory of candidates met, a power of two.
_SEEN = 2048
#: Rows refined by one worker, and into how many parts all rows fall when lists are turned around.
_BLOCK, _PARTS = 4096, 8
#: Candidates whose vectors are fetched before they are needed.
_AHEAD = 4
#: A path leads from a row to the a-th that it knows, and on to the b-th that this one knows. It is
#: followed where a · b, counted from 1, is at most so many times the number of rows known: of 24²
#: paths that is less than half, which on WordNet lead to more than eight in ten of what is found.
_PATHS = 4


class Hoods:
    """Who a row knows: its nearest rows, and rows that it is nearest to, at one moment.

    Attributes:
        known: (n, 2·reach) int32 positions, the nearest first, -1 where there are fewer.
        fresh: (n, 2·reach) bool, not known at the moment before: only paths with something fresh
            need to be followed.
    """

    def __init__(
        self, positions: NDArray[np.int32], reach: int, before: Hoods | None, threads: int
    ) -> None:
        n = len(positions)
        near = positions[:, :reach]
        self.known = known = np.full((n, 2 * reach), -1, np.int32)
        self.fresh = fresh = np.ones((n, 2 * reach), np.bool_)
        ranks = np.ascontiguousarray(near.T)  # read once for each part

        def follow(start: int, stop: int) -> None:
            known[start:stop, : near.shape[1]] = near[start:stop]
            _list_followers(ranks, start, known[start:stop, reach:])
            if before is not None:
                _note_fresh(before.known[start:stop], known[start:stop], fresh[start:stop])

        for_blocks(follow, n, _part(n), threads)

    @classmethod
    def of(cls, known: NDArray[np.int32]) -> Hoods | None:
        """The moment before, of which only `known` is kept; None where there was none."""
        if not known.size:
            return None
        before = cls.__new__(cls)
        before.known, before.fresh = known, np.empty((0, 0), np.bool_)
        return before


def _part(n: int) -> int:
    """Rows of one of _PARTS parts."""
    return max(1, -(-n // _PARTS))


@kernel
def _list_followers(followed, start, followers):
    """followers[j] <- the first rows i with start + j in followed[:, i].

    Those that rank it highest come first. Followed (ranks, n), followers (count, reach).
    """
    count, reach = followers.shape
    filled = np.zeros(count, np.int32)
    for rank in range(followed.shape[0]):
        nearest = followed[rank]
        for i in range(nearest.shape[0]):
            j = nearest[i] - start
            if 0 <= j < count and filled[j] < reach:
                followers[j, filled[j]] = i
                filled[j] += 1


@kernel
def _note_fresh(before, now, fresh):
    for i in range(now.shape[0]):
        for a in range(now.shape[1]):
            for b in range(before.shape[1]):
                if now[i, a] == before[i, b]:
                    fresh[i, a] = False


def exchange(distances: NDArray[np.float32], positions: NDArray[np.int32], threads: int) -> None:
    """Offer every row to the rows that it lists, which may not have met it.

    Changes the lists (n, size) in place; they stay ascending. No distance is computed.
    """
    n = len(distances)
    part = _part(n)
    farthest = distances[:, -1].copy()
    offers: list[tuple[NDArray[Any], ...]] = [()] * -(-n // _BLOCK)

    def collect(start: int, stop: int) -> None:
        found = _offers(distances[start:stop], positions[start:stop], farthest, start, part)
        offers[start // _BLOCK] = found

    def accept(start: int, stop: int) -> None:
        for ends, whom, rows, squares in offers:
            mine = slice(*ends[start // part : start // part + 2])
            _accept(whom[mine], rows[mine], squares[mine], distances, positions)

    for_blocks(collect, n, _BLOCK, threads)  # all of them before any list changes
    for_blocks(accept, n, part, threads)


@kernel
def _offers(distances, positions, farthest, first, part):
    """Which of the rows first … list whom nearer than farthest[whom].

    Returns whom, rows and squares (offers,), those to part p of all rows at ends[p]:ends[p + 1].
    """
    # Kept one place late while they are counted, so that filling moves them to where they belong.
    ends = np.zeros(_PARTS + 2, np.int64)
    for i in range(positions.shape[0]):
        for a in range(positions.shape[1]):
            j = positions[i, a]
            if j >= 0 and distances[i, a] < farthest[j]:
                ends[j // part + 2] += 1
    for p in range(_PARTS):
        ends[p + 2] += ends[p + 1]
    whom, rows = np.empty(ends[-1], np.int32), np.empty(ends[-1], np.int32)
    squares = np.empty(ends[-1], np.float32)
    for i in range(positions.shape[0]):
        for a in range(positions.shape[1]):
            j = positions[i, a]
            if j >= 0 and distances[i, a] < farthest[j]:
                p = j // part + 1
                whom[ends[p]], rows[ends[p]], squares[ends[p]] = j, first + i, distances[i, a]
                ends[p] += 1
    return ends, whom, rows, squares


@kernel
def _accept(whom, rows, squares, distances, positions):
    for offer in range(whom.shape[0]):
        j = whom[offer]
        if squares[offer] < distances[j, -1] and not _holds(positions[j], rows[offer]):
            insert(distances[j], positions[j], squares[offer], rows[offer])


def hop(
    reduced: NDArray[np.float32],
    cells: Cells,
    hoods: Hoods,
    distances: NDArray[np.float32],
    positions: NDArray[np.int32],
    threads: int,
    progress: Progress = silent,
) -> None:
    """Improve the lists, in place, by the neighbours of each row's neighbours."""
    known, fresh, cell_of = hoods.known, hoods.fresh, cells.of_position
    n_cells = len(cells.centres)

    def walk(start: int, stop: int) -> None:
        _hop(
            reduced, start, stop, known, fresh, cell_of, cells.probes, n_cells, distances, positions
        )

    for_blocks(walk, len(reduced), _BLOCK, threads, progress, "refine")


@kernel
def _hop(reduced, start, stop, known, fresh, cell_of, probes, n_cells, distances, positions):
    seen = np.empty(_SEEN, np.int32)
    looked_into = np.full(n_cells, -1, np.int32)
    most = known.shape[1] * known.shape[1]
    # One place more: what is gathered without a branch is written before it is known to count.
    met, squares = np.empty(most + 1, np.int32), np.empty(most, np.float32)
    for i in range(start, stop):
        seen[:] = -1
        for a in range(probes.shape[1]):
            looked_into[probes[i, a]] = i
        count = _meet(i, known, fresh, cell_of, looked_into, seen, met)
        # All at once: with nothing to decide in between, memory is fetched while sums are made.
        row = reduced[i]
        for c in range(count):
            prefetch_row(reduced, met[min(c + _AHEAD, count - 1)])
            squares[c] = square_distance(row, reduced[met[c]])
        listed, rows = distances[i], positions[i]
        for c in range(count):
            if squares[c] < listed[-1] and not _holds(rows, met[c]):
                insert(listed, rows, squares[c], met[c])


@kernel
def _meet(i, known, fresh, cell_of, looked_into, seen, met):
    """Put into met[:count] the rows to compare row i with, and return count.

    Most of those whom its acquaintances know are none, and no processor could predict which: so
    what is left is gathered without branches, and only then looked at for repeats.
    """
    for a in range(known.shape[1]):
        prefetch_row(known, known[i, a])
        prefetch_row(fresh, known[i, a])
    gathered = 0
    for a in range(known.shape[1]):
        j = known[i, a]
        if j < 0:
            continue
        theirs, new, mine_new = known[j], fresh[j], fresh[i, a]
        for b in range(min(theirs.shape[0], _PATHS * known.shape[1] // (a + 1))):
            candidate = theirs[b]
            # The search of the cells has compared i with all rows of these, itself included.
            compared = looked_into[cell_of[max(candidate, 0)]] == i
            met[gathered] = candidate
            gathered += (candidate >= 0) & (mine_new | new[b]) & (not compared)
    count = 0
    for c in range(gathered):
        candidate = met[c]
        # A lossy memory: two candidates that share a slot may be met twice, no harm done.
        slot = candidate & (_SEEN - 1)
        if seen[slot] != candidate and candidate != i:
            seen[slot] = candidate
            met[count] = candidate
            count += 1
    return count


@kernel
def _holds(positions, wanted):
    found = False
    for a in range(positions.shape[0]):
        found |= positions[a] == wanted
    return found
