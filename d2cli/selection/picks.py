"""The greedy loops, compiled. Each gives exactly the order of the plain loop.

All change `u`, `eligible`, `quota`, `order` and `gains` in place:

- `u`: (n,) float64 scores; a pick lowers its neighbours. Scores of picked rows have no meaning.
- `eligible`: (n,) bool, rows that can be picked; a row that is picked, or whose class is full,
  becomes ineligible.
- `klass`, `quota`: the class of each row, and how many picks each class still takes. An empty
  `klass` means one class.
- `order`, `gains`: the picks and their scores. Ties go to the lowest row.
- `purse`: what the picks of each class may cost (:class:`Purse`).

Clamped messages never raise a score, so a lazy queue is exact (:func:`lazy_picks`). Unclamped
messages can raise scores and need a heap that follows every change (:func:`heap_picks`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2cli.messages.forward import weight
from d2cli.runtime.jit import borrowing_kernel, kernel
from d2cli.runtime.prefetch import prefetch, prefetch_once
from d2cli.selection.heap import ARITY, drop_top, fall, rise
from d2cli.selection.queue import fill_queue, in_bucket, open_bucket, open_shelf, requeue_top
from d2cli.selection.sizes import BUCKETS

_LINE = 16  #: edges per cache line of 64 bytes
_BUCKETS_AHEAD = 2  #: how many buckets ahead edges are prefetched


class Purse(NamedTuple):
    """Limits of the cost of the picks. A class ends at its first row that would exceed its limit.

    The loops stop when no class takes a pick any more. Sums are in float64, in the order of the
    picks.
    """

    cost: NDArray[np.float64]  # (n,) of each row; empty: there are no limits
    limit: NDArray[np.float64]  # (C,) for the picks of each class
    spent: NDArray[np.float64]  # (C,) so far; changes in place
    room: NDArray[np.int64]  # (1,) the sum of `quota` if there are limits, else above 0


#: No limits. Loops do not change it.
NO_LIMITS = Purse(np.empty(0), np.empty(0), np.empty(0), np.ones(1, np.int64))


@borrowing_kernel
def _record_pick(k, gain, eligible, klass, quota, order, gains, count, purse):
    """Record row k as pick `count` if its class takes it; returns whether it was recorded."""
    eligible[k] = False
    own = klass[k] if klass.shape[0] else 0
    if quota[own] <= 0:
        return False
    if purse.cost.shape[0]:
        spent = purse.spent[own] + purse.cost[k]
        if spent > purse.limit[own]:
            purse.room[0] -= quota[own]
            quota[own] = 0
            return False
        purse.spent[own] = spent
        purse.room[0] -= 1
    quota[own] -= 1
    order[count], gains[count] = k, gain
    return True


@borrowing_kernel
def _prefetch_edges(edges, queue, shelf, b):
    """Prefetch the edges of the rows in bucket b of the open shelf, which are likely picks."""
    if b < BUCKETS:
        for place in range(queue.workspace.firsts[b], queue.workspace.firsts[b + 1]):
            i = queue.workspace.rows[place]
            if in_bucket(queue, i, shelf, b):
                first = edges.indptr[i]
                for line in range(first, first + 2 * _LINE, _LINE):
                    prefetch_once(edges.indices, line)
                    prefetch_once(edges.distances, line)


@borrowing_kernel
def lazy_picks(
    edges, u, bits, least, gamma, sigma, squared, eligible, klass, quota, order, gains, purse,
    workspace,
):  # fmt: skip
    """Pick while the best score is above `least` >= 0 and `order` has room; clamped messages only.

    Rows, edges and neighbours are scattered in memory and cache misses dominate the time, so they
    are prefetched. Picked rows receive messages too: a test would cost more than the message.
    `bits` is `u` viewed as int64. `workspace` is for n rows. Returns the number of picks.
    """
    indptr, indices, distances = edges.indptr, edges.indices, edges.distances
    queue = fill_queue(workspace, u, bits, least, eligible)
    count = 0
    for shelf in range(workspace.ends.shape[0]):
        if not open_shelf(queue, shelf, indptr):
            continue
        for b in range(_BUCKETS_AHEAD):
            _prefetch_edges(edges, queue, shelf, b)
        for b in range(BUCKETS):
            _prefetch_edges(edges, queue, shelf, b + _BUCKETS_AHEAD)
            size = open_bucket(queue, shelf, b)
            while size > 0:
                if count == order.shape[0] or purse.room[0] == 0:
                    return count
                k, value = workspace.heap[0], workspace.values[0]
                if u[k] != value:
                    size = requeue_top(queue, shelf, b, size)
                    continue
                size = drop_top(workspace.values, workspace.heap, size)
                if _record_pick(k, value, eligible, klass, quota, order, gains, count, purse):
                    count += 1
                    for e in range(indptr[k], indptr[k + 1]):
                        prefetch(u, indices[e])
                    for e in range(indptr[k], indptr[k + 1]):
                        u[indices[e]] -= weight(distances[e], gamma, sigma, squared) * value
    return count


@kernel
def silent_picks(ranked, u, eligible, klass, quota, order, gains, purse, count):
    """Pick in the order `ranked`, without messages, after `count` picks; returns the new count."""
    for at in range(ranked.shape[0]):
        if count == order.shape[0] or purse.room[0] == 0:
            break
        k = ranked[at]
        if _record_pick(k, u[k], eligible, klass, quota, order, gains, count, purse):
            count += 1
    return count


@kernel
def heap_picks(
    edges, u, gamma, sigma, squared, eligible, picked, klass, quota, order, gains, purse
):
    """Pick until `order` is full or no row can be picked; returns the number of picks.

    For messages of any sign: a row moves in the indexed heap whenever its score changes. `picked`
    marks picked rows, which receive no messages; it is changed in place.
    """
    heap = np.flatnonzero(eligible).astype(np.int32)
    size, place = heap.size, np.full(u.shape[0], -1, np.int32)
    for at in range(size):
        place[heap[at]] = at
    for start in range((size - 2) // ARITY, -1, -1):
        fall(heap, place, u, size, start, heap[start])
    count = 0
    while size > 0 and count < order.shape[0] and purse.room[0] > 0:
        k, message = heap[0], u[heap[0]]
        place[k] = -1
        size -= 1
        if size > 0:
            fall(heap, place, u, size, 0, heap[size])
        if not _record_pick(k, message, eligible, klass, quota, order, gains, count, purse):
            continue
        picked[k] = True
        count += 1
        for e in range(edges.indptr[k], edges.indptr[k + 1]):
            j = edges.indices[e]
            if not picked[j]:
                u[j] -= weight(edges.distances[e], gamma, sigma, squared) * message
                if place[j] >= 0:
                    fall(heap, place, u, size, rise(heap, place, u, place[j], j), j)
    return count
