"""Kernels for short lists of nearest rows, and for the scores that fill them."""

from __future__ import annotations

import numpy as np

from d2cli.runtime.jit import kernel, reordering_kernel

#: Scores looked at together. Compilers turn a loop of constant length into vector instructions,
#: but one of 16 or 32 into as many scalar ones first.
LANES = 64


@kernel
def insert(distances, rows, distance, row):
    """Insert into a list ascending by (distance, row); its last entry falls off."""
    place = distances.shape[0] - 1
    while place > 0 and (
        distances[place - 1] > distance
        or (distances[place - 1] == distance and rows[place - 1] > row)
    ):
        distances[place] = distances[place - 1]
        rows[place] = rows[place - 1]
        place -= 1
    distances[place] = distance
    rows[place] = row


@kernel
def below(halves, products, bound, spots):
    """Where scores halves - products, LANES of them, are below the bound: spots[:count]; count.

    Nearly every run of scores has none: a few vector compares drop it. Where there are some they
    are gathered without branches, which no processor could predict.
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
    """A bound that at least `size` of the scores halves - products stay below, and few others.

    In each of LANES classes of scores the least is found; the size-th of those is the bound.
    Works in `least` (LANES,).
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
        # Of equals each counts the same, so that the bound may be a class too high, never too low.
        if smaller >= size - 1:
            bound = min(bound, mine)
    # A little more, since scores have to stay below.
    return bound + abs(bound) * np.float32(1e-6) + np.float32(1e-30)


@kernel
def keep_nearest(products, halves, first, best, rows):
    """Merge the rows first … into the lists best, rows (q, size), ascending by score.

    The score halves[c] - products[q, c], that is |x|²/2 - q·x, orders as the distance does.
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
                    insert(listed, numbers, score, first + start + spots[s])
                    bound = min(bound, listed[-1])
        for c in range(whole, products.shape[1]):
            score = halves[c] - line[c]
            if score < bound:
                insert(listed, numbers, score, first + c)
                bound = min(bound, listed[-1])


@kernel
def keep_nearest_across(products, halves, first, best, rows):
    """The same with the sides changed: merge the rows first … into the lists of the columns.

    The score of row q for column c is halves[q] - products[q, c]; lists are best, rows (c, size).
    A row is held against as many lists at once as one list is against rows elsewhere, so nothing
    has to be transposed.
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
                insert(best[c], rows[c], half - line[c], first + q)
                bounds[c] = best[c, size - 1]
        for c in range(whole, columns):
            if half - line[c] < bounds[c]:
                insert(best[c], rows[c], half - line[c], first + q)
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
