"""The two greedy loops, compiled. Both give exactly the order of the plain loop.

Both change `u` in place: whatever is picked sends its message to its neighbours. The scores of what
was picked before mean nothing any more. `eligible` says who may be picked, `quota` how many of each
class; what is picked or found in a full class becomes ineligible. Ties go to the lowest row.

Messages that are clamped never raise a score, so a node's place in the queue can be put right when
it is reached, not when it falls: that is :func:`lazy_picks`. Unclamped ones can raise scores, and
then a heap must follow each change: :func:`heap_picks`.
"""

from __future__ import annotations

import numpy as np

from d2cli.messages.forward import weight
from d2cli.runtime.jit import borrowing_kernel, kernel
from d2cli.runtime.prefetch import prefetch, prefetch_once
from d2cli.selection.heap import ARITY, drop_top, fall, rise
from d2cli.selection.queue import BUCKETS, belongs, filled, heaped, opened, put_right

#: Edges in a line of memory.
_LINE = 16
#: Buckets whose rows' edges are fetched before they are needed.
_BUCKETS_AHEAD = 2


@borrowing_kernel
def _picked(k, gain, eligible, klass, quota, order, gains, count):
    """Write k down as pick `count`, unless its class is full; whether it was. Its turn is over."""
    eligible[k] = False
    own = klass[k] if klass.shape[0] else 0
    if quota[own] <= 0:
        return False
    quota[own] -= 1
    order[count] = k
    gains[count] = gain
    return True


@borrowing_kernel
def _send(indptr, indices, distances, u, k, message, gamma, sigma, squared):
    """The reverse message of k to all its neighbours."""
    for e in range(indptr[k], indptr[k + 1]):
        prefetch(u, indices[e])
    for e in range(indptr[k], indptr[k + 1]):
        u[indices[e]] -= weight(distances[e], gamma, sigma, squared) * message


@borrowing_kernel
def _ask_for_edges(edges, queue, shelf, b):
    """Have the edges of what will probably be picked from bucket b of a shelf fetched."""
    if b < BUCKETS:
        for place in range(queue.workspace.firsts[b], queue.workspace.firsts[b + 1]):
            i = queue.workspace.rows[place]
            if belongs(queue, i, shelf, b):
                first = edges.indptr[i]
                for line in range(first, first + 2 * _LINE, _LINE):
                    prefetch_once(edges.indices, line)
                    prefetch_once(edges.distances, line)


@borrowing_kernel
def lazy_picks(
    edges, u, bits, least, gamma, sigma, squared, eligible, klass, quota, order, gains, workspace
):
    """Pick while the best score is above `least` and `order` has room; returns how many.

    Clamped messages only, and `least` is at least 0. `bits` is `u` seen as int64. `klass` may be
    empty: one for all. Messages reach what is picked, too: nobody looks at its score any more, and
    nobody has to ask.

    Rows, their edges and neighbours lie anywhere in memory, and fetching them is most of the work:
    so they are asked for some time before they are looked at.
    """
    indptr, indices, distances = edges.indptr, edges.indices, edges.distances
    queue = filled(workspace, u, bits, least, eligible)
    count = 0
    for shelf in range(workspace.ends.shape[0]):
        if not opened(queue, shelf, indptr):
            continue
        for b in range(_BUCKETS_AHEAD):
            _ask_for_edges(edges, queue, shelf, b)
        for b in range(BUCKETS):
            _ask_for_edges(edges, queue, shelf, b + _BUCKETS_AHEAD)
            size = heaped(queue, shelf, b)
            while size > 0:
                if count == order.shape[0]:
                    return count
                k, value = workspace.heap[0], workspace.values[0]
                if u[k] != value:
                    size = put_right(queue, shelf, b, size)
                    continue
                size = drop_top(workspace.values, workspace.heap, size)
                if _picked(k, value, eligible, klass, quota, order, gains, count):
                    count += 1
                    _send(indptr, indices, distances, u, k, value, gamma, sigma, squared)
    return count


@kernel
def silent_picks(ranked, u, eligible, klass, quota, order, gains, count):
    """Go on from pick `count` through rows that send nothing, in the given order."""
    for at in range(ranked.shape[0]):
        if count == order.shape[0]:
            break
        k = ranked[at]
        if _picked(k, u[k], eligible, klass, quota, order, gains, count):
            count += 1
    return count


@kernel
def heap_picks(edges, u, gamma, sigma, squared, eligible, picked, klass, quota, order, gains):
    """Pick until `order` is full or nobody is left; returns how many. Any messages.

    A 4-ary heap that knows where each node stands, so that a score that changes moves at once.
    """
    n = u.shape[0]
    heap = np.empty(n, np.int32)
    place = np.full(n, -1, np.int32)
    size = 0
    for i in range(n):
        if eligible[i]:
            heap[size] = i
            place[i] = size
            size += 1
    for start in range((size - 2) // ARITY, -1, -1):
        fall(heap, place, u, size, start, heap[start])
    count = 0
    while size > 0 and count < order.shape[0]:
        k = heap[0]
        place[k] = -1
        size -= 1
        if size > 0:
            fall(heap, place, u, size, 0, heap[size])
        if not _picked(k, u[k], eligible, klass, quota, order, gains, count):
            continue
        picked[k] = True
        count += 1
        message = u[k]
        for e in range(edges.indptr[k], edges.indptr[k + 1]):
            j = edges.indices[e]
            if picked[j]:
                continue
            u[j] -= weight(edges.distances[e], gamma, sigma, squared) * message
            if place[j] >= 0:
                fall(heap, place, u, size, rise(heap, place, u, place[j], j), j)
    return count
