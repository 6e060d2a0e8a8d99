"""The clamped greedy loop in rounds of local maxima: rows in any order, in threads.

A row that is above all its unfinished neighbours (higher score; of equal scores the lower row) has
its final score: rows that send to it later would have to be above it. So rows can be finished in
any order. Messages are subtracted in the order of the picks, so that scores and picks are those of
:func:`d2cli.selection.picks.lazy_picks`, bit by bit. Unclamped messages may raise scores and are
not possible.

State of a row (`w`), one number, so that a thread never reads half of a change:

- above 0: unfinished; an upper bound of its final score. Subtracting fewer messages gives no less,
  with rounding too.
- below 0: finished; the final score is ``-w``.
- 0: takes no part, because it may not be picked or its score has fallen to 0.

Which rows a thread finds finished depends on timing. The final scores do not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2cli.messages.forward import weight
from d2cli.runtime.jit import borrowing_kernel, kernel
from d2cli.selection.heap import before

_SHORT = 64  #: up to about this many finished neighbours are sorted by plain insertion


class Limits(NamedTuple):
    """Down to which score rows are admitted, that is, may be finished."""

    klass: NDArray[np.int32]  # (n,) the class of each row; empty: one class
    bound: NDArray[np.float64]  # (C,) scores above it are admitted
    last: NDArray[np.int64]  # (C,) of scores equal to it, the rows up to this one are admitted


@borrowing_kernel
def admitted(score, row, limits):
    """Whether a row with this score is admitted."""
    own = limits.klass[row] if limits.klass.shape[0] else 0
    bound = limits.bound[own]
    return score > bound or (score == bound and row <= limits.last[own])


@kernel
def widest(edges):
    """The largest number of neighbours of a row."""
    most = 0
    for p in range(edges.indptr.shape[0] - 1):
        most = max(most, edges.indptr[p + 1] - edges.indptr[p])
    return most


@kernel
def begin(u, eligible, klass, quota, w):
    """Write the state of each row before any is finished."""
    for i in range(u.shape[0]):
        own = klass[i] if klass.shape[0] else 0
        w[i] = u[i] if eligible[i] and u[i] > 0 and quota[own] > 0 else 0.0


@kernel
def admit(w, limits, start, stop, rows):
    """Write the admitted unfinished rows of ``start … stop``; returns their number."""
    count = 0
    for i in range(start, stop):
        if w[i] > 0 and admitted(w[i], i, limits):
            rows[count] = i
            count += 1
    return count


@kernel
def class_bounds(w, members, starts, quota, bound, last):
    """Write the score and the row of the quota-th highest row of each class.

    Finished and unfinished rows count. A class without enough rows has the bound 0. `members` are
    all rows, ascending within each class, and class c has those from ``starts[c]`` to
    ``starts[c + 1]``.
    """
    for c in range(quota.shape[0]):
        rows = members[starts[c] : starts[c + 1]]
        scores = np.abs(w[rows])
        bound[c], last[c] = 0.0, w.shape[0]
        if 0 < quota[c] < np.count_nonzero(scores):
            at = scores.shape[0] - quota[c]
            bound[c] = np.partition(scores, at)[at]
            ties = quota[c] - np.count_nonzero(scores > bound[c])
            for p in range(rows.shape[0]):
                if scores[p] == bound[c]:
                    ties -= 1
                    if ties == 0:
                        last[c] = rows[p]
                        break


@kernel
def left_of_classes(w, klass, quota):
    """(C,) how many rows each class still takes beside its finished rows."""
    left = quota.copy()
    for i in range(w.shape[0]):
        if w[i] < 0:
            left[klass[i]] -= 1
    return left


@kernel
def close_classes(w, klass, left):
    """Take the unfinished rows of classes out that take no row any more."""
    for i in range(w.shape[0]):
        if w[i] > 0 and left[klass[i]] <= 0:
            w[i] = 0.0


@borrowing_kernel
def _sort(values, rows, lengths, size):
    """Sort the first `size` places in the order of the picks, by Shell's method."""
    gap = 1
    while gap * _SHORT < size:
        gap = 3 * gap + 1
    while gap > 0:
        for at in range(gap, size):
            value, row, length = values[at], rows[at], lengths[at]
            p = at - gap
            while p >= 0 and before(value, row, values[p], rows[p]):
                values[p + gap], rows[p + gap], lengths[p + gap] = values[p], rows[p], lengths[p]
                p -= gap
            values[p + gap], rows[p + gap], lengths[p + gap] = value, row, length
        gap //= 3


@borrowing_kernel
def _lowered(score, values, rows, lengths, size, gamma, sigma, squared):
    """The `score` after the messages of `size` finished neighbours, in the order of the picks."""
    _sort(values, rows, lengths, size)
    for at in range(size):
        score -= weight(lengths[at], gamma, sigma, squared) * values[at]
    return score


@kernel
def advance(edges, active, count, most, u, w, blocker, limits, gamma, sigma, squared):
    """Go through active rows once, and finish those that are above their unfinished neighbours.

    A row whose score falls below the limits is not finished, and no longer active.

    Args:
        active, count: the active rows. Those that stay active are moved to the front.
        most: :func:`widest` of the edges.
        u, w: (n,) float64, scores before any pick, and states (see above), changed in place.
        blocker: (n,) int32, an unfinished neighbour that was above the row, or -1. While that is
            so, the row need not be looked at.

    Returns:
        How many rows stay active, and how many states have changed.
    """
    values, rows, lengths = np.empty(most), np.empty(most, np.int32), np.empty(most, np.float32)
    left = changed = 0
    for at in range(count):
        i = active[at]
        bound, b = w[i], blocker[i]
        if b >= 0:
            above = w[b]
            if above > 0 and before(above, b, bound, i):
                active[left] = i
                left += 1
                continue
        size, above, b = 0, 0.0, np.int32(-1)
        for e in range(edges.indptr[i], edges.indptr[i + 1]):
            j = edges.indices[e]
            state = w[j]  # read once: another thread may change it
            if state < 0:
                values[size], rows[size], lengths[size] = -state, j, edges.distances[e]
                size += 1
            elif state > 0 and (b < 0 or before(state, j, above, b)):
                above, b = state, j
        score = _lowered(u[i], values, rows, lengths, size, gamma, sigma, squared)
        if score <= 0 or not admitted(score, i, limits):
            w[i] = score if score > 0 else 0.0
            changed += 1
        elif b >= 0 and before(above, b, score, i):
            if score != bound:
                w[i] = score
                changed += 1
            blocker[i] = b
            active[left] = i
            left += 1
        else:
            w[i] = -score
            changed += 1
    return left, changed


@kernel
def settle(edges, start, stop, most, u, w, gamma, sigma, squared):
    """Write the scores of the unfinished rows ``start … stop`` after all messages into `u`."""
    values, rows, lengths = np.empty(most), np.empty(most, np.int32), np.empty(most, np.float32)
    for i in range(start, stop):
        if w[i] >= 0:
            size = 0
            for e in range(edges.indptr[i], edges.indptr[i + 1]):
                j = edges.indices[e]
                if w[j] < 0:
                    values[size], rows[size], lengths[size] = -w[j], j, edges.distances[e]
                    size += 1
            u[i] = _lowered(u[i], values, rows, lengths, size, gamma, sigma, squared)
