"""Rows that a screen cannot prove are searched again among the rows around them.

A screen's rounding errors grow with a row's distance from the centre of all rows, so it cannot tell
apart the rows of a cluster that is a thousand times smaller. A *ball* around an unproven row p:

1. Its radius R is beyond what rounding errors hide. It *serves* the unproven rows q whose nearest
   rows it contains: ``|p - q| + r <= R``, where r is the k-th distance found so far for q.
2. One more product finds its members: the rows that are within R, or that the screen cannot prove
   to be farther.
3. Members are searched as a group of their own, with their own centre. A group of few rows is
   searched by brute force.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.threads import each, for_blocks
from d2cli.graph.distances import distance
from d2cli.graph.exact.screen import Screen
from d2cli.graph.exact.sizes import BALLS, BASE_ROWS, BLUR, LIGHT_PAIRS, SERVED_TOGETHER
from d2cli.graph.vectors import Group
from d2cli.runtime.arrays import Bools, Float32, Floats, Int64
from d2cli.runtime.floats.products import product
from d2cli.runtime.jit import kernel

#: The number of a ball, the places of the rows it serves, and its number of members.
Ball = tuple[int, Int64, int]
#: Searches a ball: its members, which of the rows it serves, and the number of threads.
Solve = Callable[[Group, Int64, int], object]

#: Covers the rounding of distances to float32, denormals included.
_ROUNDED, _LEAST = 1 + 2.0**-22, 2.0**-149
#: Dimensions that are compared first.
_FIRST = 16


def search_in_balls(
    screen: Screen, rows: Int64, last: Float32, unproven: Bools, solve: Solve, threads: int,
    ended: Callable[[], object],
) -> None:  # fmt: skip
    """Call ``solve(members, served, threads)`` so that each unproven row is served once.

    Args:
        screen: of the group that is searched.
        rows: (m,), rows of all vectors. `served` are places in it.
        last: (m,), the distance of the k-th nearest row found so far.
        unproven: (m,), cleared where rows have been served.
        ended: called after each round of balls.
    """
    waiting = np.flatnonzero(unproven)
    while waiting.size:
        some = waiting[:SERVED_TOGETHER]
        asking = screen.group.vectors[rows[some]]
        needed = last[some] * _ROUNDED + _LEAST
        radii = np.sqrt(np.square(needed) + BLUR * np.square(screen.blur(asking)))
        radii = np.maximum(radii, needed)
        ball = np.full(some.size, -1)
        centres = np.full(BALLS, -1)
        count = _cover(asking, needed, radii, centres, ball)
        chosen = centres[:count]
        marks = _members(screen, asking[chosen], radii[chosen], threads)
        sizes = np.zeros(count, np.int64)
        _count(marks, sizes)
        light: list[Ball] = []
        heavy: list[Ball] = []
        for b in range(count):
            served, size = some[ball == b], int(sizes[b])
            (light if served.size * size <= LIGHT_PAIRS else heavy).append((b, served, size))

        def search(one: Ball, threads: int = 1, marks: Int64 = marks) -> None:
            b, served, size = one
            numbers = np.empty(size, np.int64)
            _list(marks, b, numbers)
            solve(Group(screen.group.vectors, screen.group.rows_at(numbers)), served, threads)

        if light:
            each(search, light, threads, lambda _: None)
        for one in heavy:
            search(one, threads)
        unproven[some[ball >= 0]] = False
        waiting = np.concatenate([some[ball < 0], waiting[SERVED_TOGETHER:]])
        ended()


def _members(screen: Screen, centres: Floats, radii: NDArray[np.float64], threads: int) -> Int64:
    """(n,): bit b of a row is set if ball b may contain it."""
    queries, limits = screen.limits(centres, radii)
    marks = np.zeros(screen.size, np.int64)

    def mark(start: int, stop: int) -> None:
        products = product(queries, screen.block(start, stop).T)
        _mark(products, screen.halves[start:stop], limits, marks[start:stop])

    for_blocks(mark, screen.size, BASE_ROWS, threads)
    return marks


@kernel
def _cover(vectors, needed, radii, centres, ball):
    """Choose balls until all rows are served or `centres` is full; return the number of balls.

    The first row (m, d) that no ball serves is the centre of the next. ball[q] <- the ball that
    serves row q, or -1. `needed` (m,) are distances that contain the nearest of each row.
    """
    count = 0
    for p in range(vectors.shape[0]):
        if ball[p] >= 0:
            continue
        if count == centres.shape[0]:
            break
        centres[count], ball[p] = p, count
        for q in range(p + 1, vectors.shape[0]):
            room = radii[p] - needed[q]
            # Most rows are too far away in the first few dimensions.
            if ball[q] < 0 and distance(vectors[p, :_FIRST], vectors[q, :_FIRST]) <= room:
                apart = np.float64(distance(vectors[p], vectors[q]))
                if apart * _ROUNDED + _LEAST <= room:
                    ball[q] = count
        count += 1
    return count


@kernel
def _mark(products, halves, limits, marks):
    """Set bit b of marks[c] where the score halves[c] - products[b, c] is at most limits[b]."""
    for b in range(products.shape[0]):
        line, limit, bit = products[b], limits[b], np.int64(1) << np.int64(b)
        for c in range(line.shape[0]):
            marks[c] |= bit if halves[c] - line[c] <= limit else np.int64(0)


@kernel
def _count(marks, sizes):
    """sizes[b] <- the number of rows with bit b."""
    for c in range(marks.shape[0]):
        if marks[c] != 0:
            for b in range(sizes.shape[0]):
                sizes[b] += (marks[c] >> b) & 1


@kernel
def _list(marks, b, numbers):
    """Numbers <- the rows with bit b."""
    filled = 0
    for c in range(marks.shape[0]):
        if (marks[c] >> b) & 1:
            numbers[filled] = c
            filled += 1
