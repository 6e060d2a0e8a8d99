"""Improves lists by neighbours of neighbours, in the reduced space.

A form of NN-descent (Dong, Moses, Li 2011) whose result does not depend on threads: each row
gathers candidates from lists that do not change during the pass, and writes only its own list.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.threads import Progress, for_blocks, silent
from d2cli.graph.distances import AHEAD, insert, square_distance
from d2cli.graph.ivf.cells import Cells
from d2cli.runtime.arrays import Float32, Int32
from d2cli.runtime.jit import kernel
from d2cli.runtime.prefetch import prefetch_row

#: Slots of the hash table of candidates already met, a power of two.
_SEEN = 2048
#: Rows refined in one block.
_BLOCK = 4096
#: Parts of the rows when lists are inverted.
_PARTS = 8
#: A path leads from a row to its a-th link and on to the b-th link of that row (a, b >= 1). It is
#: followed if a · b <= _PATHS · links per row. On WordNet, with 24 links, these are less than half
#: of the paths and lead to more than 80 % of the improvements.
_PATHS = 4
#: `Hoods.known` before the first pass.
NO_LINKS = np.empty((0, 0), np.int32)


class Hoods:
    """The links of every row: the rows it lists and rows that list it, before one pass.

    Attributes:
        known: (n, 2·reach) int32 positions: the nearest rows, then the rows that list this one;
            -1 for empty places.
        fresh: (n, 2·reach) bool, whether the link is new since the pass before. Only paths with a
            fresh link are followed.
    """

    def __init__(self, positions: Int32, reach: int, before: Int32, threads: int) -> None:
        """Link each row to the `reach` nearest; `before` is `known` of the pass before."""
        n, near = len(positions), positions[:, :reach]
        self.known = known = np.full((n, 2 * reach), -1, np.int32)
        self.fresh = fresh = np.ones((n, 2 * reach), np.bool_)
        ranks = np.ascontiguousarray(near.T)  # each part reads all of it

        def follow(start: int, stop: int) -> None:
            known[start:stop, : near.shape[1]] = near[start:stop]
            _list_followers(ranks, start, known[start:stop, reach:])
            if before.size:
                _note_fresh(before[start:stop], known[start:stop], fresh[start:stop])

        for_blocks(follow, n, -(-n // _PARTS), threads)


@kernel
def _list_followers(followed, start, followers):
    """followers[j] <- the first rows i with start + j in followed[:, i], by (rank, i)."""
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


def exchange(distances: Float32, positions: Int32, threads: int) -> None:
    """Offer every row to the rows that it lists, without computing a distance.

    The lists (n, size) are changed in place and stay ascending.
    """
    n, part = len(distances), -(-len(distances) // _PARTS)
    farthest = distances[:, -1].copy()
    offers: list[tuple[NDArray[Any], ...]] = [()] * -(-n // _BLOCK)

    def collect(start: int, stop: int) -> None:
        lists = distances[start:stop], positions[start:stop]
        offers[start // _BLOCK] = _offers(*lists, farthest, start, part)

    def accept(start: int, stop: int) -> None:
        for ends, target, rows, squares in offers:
            mine = slice(*ends[start // part : start // part + 2])
            _accept(target[mine], rows[mine], squares[mine], distances, positions)

    for_blocks(collect, n, _BLOCK, threads)  # collects all offers before any list changes
    for_blocks(accept, n, part, threads)


@kernel
def _offers(distances, positions, farthest, first, part):
    """The entries of the lists of rows first, first + 1, … that are nearer than farthest[entry].

    Returns ends, and target, rows, squares (offers,): a row, offered to a target that it lists at a
    squared distance. Offers to targets in part p are at ends[p]:ends[p + 1].
    """
    # Counts are stored two places late, so that filling moves the ends into place.
    ends = np.zeros(_PARTS + 2, np.int64)
    for i in range(positions.shape[0]):
        for a in range(positions.shape[1]):
            j = positions[i, a]
            if j >= 0 and distances[i, a] < farthest[j]:
                ends[j // part + 2] += 1
    for p in range(_PARTS):
        ends[p + 2] += ends[p + 1]
    target, rows = np.empty(ends[-1], np.int32), np.empty(ends[-1], np.int32)
    squares = np.empty(ends[-1], np.float32)
    for i in range(positions.shape[0]):
        for a in range(positions.shape[1]):
            j = positions[i, a]
            if j >= 0 and distances[i, a] < farthest[j]:
                p = j // part + 1
                target[ends[p]], rows[ends[p]], squares[ends[p]] = j, first + i, distances[i, a]
                ends[p] += 1
    return ends, target, rows, squares


@kernel
def _accept(target, rows, squares, distances, positions):
    for offer in range(target.shape[0]):
        j = target[offer]
        if squares[offer] < distances[j, -1] and not _holds(positions[j], rows[offer]):
            insert(distances[j], positions[j], squares[offer], rows[offer])


def hop(
    reduced: Float32, cells: Cells, hoods: Hoods, distances: Float32, positions: Int32,
    threads: int, progress: Progress = silent,
) -> None:  # fmt: skip
    """One pass: improve the lists in place by the links of each row's links."""
    links = hoods.known, hoods.fresh, cells.of_position, cells.probes, len(cells.centres)

    def walk(start: int, stop: int) -> None:
        _hop(reduced, start, stop, *links, distances, positions)

    for_blocks(walk, len(reduced), _BLOCK, threads, progress, "refine")


@kernel
def _hop(reduced, start, stop, known, fresh, cell_of, probes, n_cells, distances, positions):
    seen, looked_into = np.empty(_SEEN, np.int32), np.full(n_cells, -1, np.int32)
    most = known.shape[1] * known.shape[1]
    # One place more: gathering without branches writes a candidate before it is counted.
    met, squares = np.empty(most + 1, np.int32), np.empty(most, np.float32)
    for i in range(start, stop):
        seen[:] = -1
        for a in range(probes.shape[1]):
            looked_into[probes[i, a]] = i
        count = _meet(i, known, fresh, cell_of, looked_into, seen, met)
        # A loop without branches: vectors are fetched while sums are computed.
        row = reduced[i]
        for c in range(count):
            prefetch_row(reduced, met[min(c + AHEAD, count - 1)])
            squares[c] = square_distance(row, reduced[met[c]])
        listed, rows = distances[i], positions[i]
        for c in range(count):
            if squares[c] < listed[-1] and not _holds(rows, met[c]):
                insert(listed, rows, squares[c], met[c])


@kernel
def _meet(i, known, fresh, cell_of, looked_into, seen, met):
    """Write the candidates of row i to met[:count] and return count.

    They are gathered without branches, which the processor could not predict, repeats included.
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
            # i was compared with all rows of the cells that it probes, i included.
            compared = looked_into[cell_of[max(candidate, 0)]] == i
            met[gathered] = candidate
            gathered += (candidate >= 0) & (mine_new | new[b]) & (not compared)
    count = 0
    for c in range(gathered):
        candidate = met[c]
        # The table is lossy: a candidate may be compared twice, which is harmless.
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
