"""Kernels for short lists of nearest rows.

Screening fills lists by float32 scores, ``|x|²/2 - q·x``, from matrix products. Ranking fills them
by true distances, which are computed in float64 in the full dimension.
"""

import math
from typing import Any

import numpy as np

from d2cli.graph.exact.sizes import COMPARED
from d2cli.graph.vectors import Group
from d2cli.runtime.arrays import Float32, Int32, Int64
from d2cli.runtime.jit import kernel, reordering_kernel
from d2cli.runtime.prefetch import prefetch_row

#: Scores handled together. Compilers turn a loop of 64 steps into vector instructions, but unroll a
#: loop of 16 or 32 into scalar ones first.
LANES = 64
#: Candidates whose vectors are prefetched.
AHEAD = 4
#: Numbers (32 MB) of the vectors that are gathered at once for ranking.
GATHERED = 1 << 23


@kernel
def insert(distances, rows, distance, row):
    """Insert into a full list ascending by (distance, row); the last entry is dropped.

    Callers pass `row` as int32, so that it is compiled once.
    """
    place = distances.shape[0] - 1
    while place > 0 and (
        distances[place - 1] > distance
        or (distances[place - 1] == distance and rows[place - 1] > row)
    ):
        distances[place], rows[place] = distances[place - 1], rows[place - 1]
        place -= 1
    distances[place], rows[place] = distance, row


@kernel
def below(halves, products, bound, spots):
    """spots[:count] <- the places of LANES scores halves - products below `bound`; returns count.

    Most runs of scores have none: a few vector compares reject such a run. In the others, places
    are gathered without branches, because the processor cannot predict them.
    """
    some = False
    for c in range(LANES):
        some |= halves[c] - products[c] < bound
    count = 0
    if some:
        for c in range(LANES):
            spots[count] = c
            count += halves[c] - products[c] < bound
    return count


@kernel
def ceiling(halves, products, whole, size, least):
    """A bound that is above at least `size` of the scores halves - products, and not many more.

    The first `whole` scores, a multiple of LANES, fall into LANES classes by their place modulo
    LANES. The bound is the size-th smallest minimum of a class. `least` (LANES,) is a buffer.
    """
    for c in range(LANES):
        least[c] = halves[c] - products[c]
    for start in range(LANES, whole, LANES):
        run, half = products[start : start + LANES], halves[start : start + LANES]
        for c in range(LANES):
            score = half[c] - run[c]
            least[c] = score if score < least[c] else least[c]
    bound = np.float32(np.inf)
    for a in range(LANES):
        mine, smaller = least[a], np.int32(0)
        for c in range(LANES):
            smaller += least[c] < mine
        # Equal minima count alike, so the bound may be one class too high but never too low.
        if smaller >= size - 1:
            bound = min(bound, mine)
    return bound + abs(bound) * np.float32(1e-6) + np.float32(1e-30)  # higher, because of "<"


@kernel
def keep_nearest(products, halves, first, best, rows):
    """Merge base rows first, first + 1, … into the lists of the queries.

    The score of query q and base row c is halves[c] - products[q, c] = |x|²/2 - q·x, which orders
    as the distance does. The lists best, rows (q, size) ascend by score and are changed in place.
    """
    whole = products.shape[1] // LANES * LANES
    spots, least = np.empty(LANES, np.int32), np.empty(LANES, np.float32)
    size = best.shape[1]
    for q in range(products.shape[0]):
        line, listed, numbers = products[q], best[q], rows[q]
        bound = listed[-1]
        if bound == np.inf and size <= LANES // 2 and whole >= 4 * LANES:
            bound = ceiling(halves, line, whole, size, least)
        for start in range(0, whole, LANES):
            run, half = line[start : start + LANES], halves[start : start + LANES]
            for s in range(below(half, run, bound, spots)):
                score = half[spots[s]] - run[spots[s]]
                if score < bound:
                    insert(listed, numbers, score, np.int32(first + start + spots[s]))
                    bound = min(bound, listed[-1])
        for c in range(whole, products.shape[1]):
            score = halves[c] - line[c]
            if score < bound:
                insert(listed, numbers, score, np.int32(first + c))
                bound = min(bound, listed[-1])


@kernel
def keep_nearest_across(products, halves, first, best, rows):
    """Merge the queries first, first + 1, … into the lists best, rows (c, size) of the base rows.

    As :func:`keep_nearest` of the transposed products, with the score halves[q] - products[q, c].
    """
    columns, size = products.shape[1], best.shape[1]
    whole = columns // LANES * LANES
    bounds, spots = best[:, size - 1].copy(), np.empty(LANES, np.int32)
    for q in range(products.shape[0]):
        line, half = products[q], halves[q]
        for start in range(0, whole, LANES):
            run, bound = line[start : start + LANES], bounds[start : start + LANES]
            some = False
            for c in range(LANES):
                some |= half - run[c] < bound[c]
            if not some:
                continue
            count = 0
            for c in range(LANES):
                spots[count] = start + c
                count += half - run[c] < bound[c]
            for s in range(count):
                c = spots[s]
                insert(best[c], rows[c], half - line[c], np.int32(first + q))
                bounds[c] = best[c, size - 1]
        for c in range(whole, columns):
            if half - line[c] < bounds[c]:
                insert(best[c], rows[c], half - line[c], np.int32(first + q))
                bounds[c] = best[c, size - 1]


@reordering_kernel
def square_distance(a, b):
    """Squared Euclidean distance of two float32 vectors, for screening."""
    total = np.float32(0)
    for t in range(a.shape[0]):
        gap = a[t] - b[t]
        total += gap * gap
    return total


@reordering_kernel
def half_square_norms(vectors, out):
    """out[r] <- |vectors[r]|² / 2; float32 (n, m) -> (n,)."""
    for r in range(vectors.shape[0]):
        total = np.float32(0)
        for t in range(vectors.shape[1]):
            total += vectors[r, t] * vectors[r, t]
        out[r] = np.float32(0.5) * total


@reordering_kernel
def distance(a, b):
    """Euclidean distance of two vectors, summed in float64 and rounded to float32.

    The compiler chooses the order of the sum; rounding to 24 of 53 bits hides the order.
    """
    total = 0.0
    for c in range(a.shape[0]):
        gap = np.float64(a[c]) - np.float64(b[c])
        total += gap * gap
    return np.float32(math.sqrt(total))


@kernel
def keep(length, row, distances, rows):
    """Insert into a list ascending by (distance, row), if (length, row) is below its last entry."""
    last = distances.shape[0] - 1
    if length < distances[last] or (length == distances[last] and row < rows[last]):
        insert(distances, rows, length, row)


@kernel
def rerank(vectors, rows, candidates, out_neighbors, out_distances):
    """The k nearest candidates of each row by true distance, written to out_* (m, k).

    `rows` (m,) are rows of the vectors (n, d); `candidates` (m, c) too, without repeats, or -1. A
    row's own number is ignored.
    """
    count = candidates.shape[1]
    lengths = np.empty(count, np.float32)
    for r in range(rows.shape[0]):
        i, mine = rows[r], candidates[r]
        # A loop without branches: vectors are fetched while sums are computed.
        vector = vectors[i]
        for p in range(count):
            prefetch_row(vectors, mine[min(p + AHEAD, count - 1)])
            lengths[p] = distance(vector, vectors[max(mine[p], 0)])
        nearest, shortest = out_neighbors[r], out_distances[r]
        nearest[:], shortest[:] = -1, np.inf
        for p in range(count):
            if mine[p] >= 0 and mine[p] != i:
                keep(lengths[p], mine[p], shortest, nearest)


@kernel
def _merge_nearest(queries, rows, base, others, out_neighbors, out_distances):
    """Merge `base` (c, d), the vectors of the rows `others` (c,), into the lists of the queries.

    `queries` (m, d) are the vectors of `rows` (m,). A row's own number is ignored.
    """
    for r in range(rows.shape[0]):
        i, query, nearest, shortest = rows[r], queries[r], out_neighbors[r], out_distances[r]
        for c in range(others.shape[0]):
            if others[c] != i:
                keep(distance(query, base[c]), others[c], shortest, nearest)


def nearest_of_all(rows: Int64, group: Group, k: int) -> tuple[Int32, Float32]:
    """The k nearest rows of a group to each of `rows` (m,) of all vectors, by brute force.

    Returns:
        neighbors (m, k), -1 for none, and distances (m, k).
    """
    neighbors = np.full((rows.size, k), -1, np.int32)
    distances = np.full((rows.size, k), np.inf, np.float32)
    queries = group.vectors[rows]
    for start in range(0, len(group), COMPARED):
        stop = min(start + COMPARED, len(group))
        others = group.rows_at(np.arange(start, stop)).astype(np.int32)
        _merge_nearest(queries, rows, group.block(start, stop), others, neighbors, distances)
    return neighbors, distances


def rank_rows(vectors: Any, rows: Int64, candidates: Int32, k: int) -> tuple[Int32, Float32]:
    """The k nearest candidates of each row by true distance, as :func:`rerank` finds them.

    `vectors` (n, d) need not be an array: ``vectors[rows]`` must return one. `rows` are (m,),
    `candidates` (m, c).

    Returns:
        neighbors (m, k), -1 for none, and distances (m, k).
    """
    m, c = candidates.shape
    neighbors, distances = np.empty((m, k), np.int32), np.empty((m, k), np.float32)
    if isinstance(vectors, np.ndarray):
        rerank(vectors, rows, candidates, neighbors, distances)
        return neighbors, distances
    step = max(1, GATHERED // ((c + 1) * vectors.shape[1]))
    for start in range(0, m, step):
        some = slice(start, start + step)
        # Numbers ascend as the rows do, so ties are decided alike.
        known = np.unique(np.concatenate([rows[some], candidates[some].ravel()]))
        known = known[known >= 0]
        wanted = np.searchsorted(known, candidates[some]).astype(np.int32)
        wanted[candidates[some] < 0] = -1
        found = neighbors[some]
        rerank(vectors[known], np.searchsorted(known, rows[some]), wanted, found, distances[some])
        found[:] = np.where(found < 0, -1, known[found])
    return neighbors, distances
