"""The two greedy loops, compiled. Both give exactly the order of the plain loop.

Both change `u` in place: whatever is picked sends its message to its neighbours. The scores of what
was picked before mean nothing any more. `eligible` says who may be picked, `quota` how many of each
class; what is picked or found in a full class becomes ineligible. Ties go to the lowest row.

Messages that are clamped never raise a score, so a node's place in the queue can be put right when
it is reached, not when it falls: that is :func:`lazy_picks`. Unclamped ones can raise scores, and
then a heap must follow each change: :func:`heap_picks`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2cli._jit import kernel
from d2cli._prefetch import prefetch, prefetch_once
from d2cli.messages import weight

#: Buckets reach this many octaves below the largest score; all that is smaller shares the last.
_OCTAVES = 20
#: An octave has up to 2**16 buckets, fewer where there are fewer nodes to fill them.
_FINEST = 16
_MANTISSA_BITS = 52
#: Edges in a line of memory.
_LINE = 16


@kernel
def _send(indptr, indices, distances, u, k, message, gamma, sigma, squared):
    """The reverse message of k to all its neighbours."""
    for e in range(indptr[k], indptr[k + 1]):
        prefetch(u, indices[e])
    for e in range(indptr[k], indptr[k + 1]):
        u[indices[e]] -= weight(distances[e], gamma, sigma, squared) * message


@kernel
def _fineness(n):
    """log2 of the buckets of an octave, so that there are about as many buckets as nodes."""
    fine = 0
    while fine < _FINEST and n >> (fine + 5):
        fine += 1
    return fine


@kernel
def _bucket(bits, top, fine):
    """The bucket of a score, from its bits: those of positive doubles rise with their value."""
    return min((top - bits) >> (_MANTISSA_BITS - fine), (_OCTAVES << fine) - 1)


@kernel
def _before(value_a, row_a, value_b, row_b):
    """Whether a is picked before b."""
    return value_a > value_b or (value_a == value_b and row_a < row_b)


@kernel
def sink(values, rows, size, hole, value, row):
    """Put (value, row) into a binary heap whose place `hole` is free, at or below that place."""
    while True:
        child = 2 * hole + 1
        if child >= size:
            break
        right = child + 1
        if right < size and _before(values[right], rows[right], values[child], rows[child]):
            child = right
        if not _before(values[child], rows[child], value, row):
            break
        values[hole] = values[child]
        rows[hole] = rows[child]
        hole = child
    values[hole] = value
    rows[hole] = row


class Queue(NamedTuple):
    """Room for the queue of :func:`lazy_picks`, each (n,). Kept from one run to the next.

    Attributes:
        waiting: int32, rows in the order of the buckets that they are first put into.
        following: int32, of a row that went on to another bucket, the next row there.
        values, rows: float64 and int32, the heap of one bucket.
    """

    waiting: NDArray[np.int32]
    following: NDArray[np.int32]
    values: NDArray[np.float64]
    rows: NDArray[np.int32]

    @classmethod
    def of(cls, n: int) -> Queue:
        """For n rows. Made here and not in the kernel: NumPy asks for large pages of memory."""
        return cls(np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n), np.empty(n, np.int32))


@kernel
def _sorted_in(waiting, starts, u, bits, least, eligible, top, fine):
    """Put all that may be picked into `waiting` by bucket; bucket b's begin at starts[b]."""
    # Kept one place late while they are counted, so that filling moves them to where they belong.
    starts[:] = 0
    for i in range(u.shape[0]):
        if eligible[i] and u[i] > least:
            starts[_bucket(bits[i], top, fine) + 2] += 1
    for b in range(starts.shape[0] - 2):
        starts[b + 2] += starts[b + 1]
    for i in range(u.shape[0]):
        if eligible[i] and u[i] > least:
            b = _bucket(bits[i], top, fine)
            waiting[starts[b + 1]] = i
            starts[b + 1] += 1


@kernel
def lazy_picks(
    edges, u, bits, least, gamma, sigma, squared, eligible, klass, quota, order, gains, queue
):
    """Pick while the best score is above `least` and `order` has room; returns how many.

    Clamped messages only, and `least` is at least 0. `bits` is `u` seen as int64. `klass` may be
    empty: one for all. Messages reach what is picked, too: nobody looks at its score any more, and
    nobody has to ask.

    A queue in buckets of nearly equal scores, from the highest down. A node waits in the bucket of
    the score that it had when it was put there. Reached, it goes on to the bucket of its present
    score, or, if that is still here, into a small heap which settles the order within the bucket.

    Nodes, their edges and neighbours lie anywhere in memory, and fetching them is most of the work:
    so those of a whole bucket are asked for before the first is looked at.
    """
    indptr, indices, distances = edges.indptr, edges.indices, edges.distances
    waiting, following, values, rows = queue
    top = np.int64(0)
    for i in range(u.shape[0]):
        if eligible[i] and u[i] > least and bits[i] > top:
            top = bits[i]
    fine = _fineness(u.shape[0])
    head = np.full(_OCTAVES << fine, -1, np.int32)
    starts = np.empty(head.shape[0] + 2, np.int32)
    _sorted_in(waiting, starts, u, bits, least, eligible, top, fine)
    count = 0
    for b in range(head.shape[0]):
        met = 0
        for at in range(starts[b], starts[b + 1]):
            rows[met] = waiting[at]
            prefetch(u, rows[met])
            met += 1
        i = head[b]
        while i >= 0:
            rows[met] = i
            prefetch(u, i)
            met += 1
            i = following[i]
        size = 0
        for at in range(met):
            i = rows[at]
            if u[i] > least:
                now = _bucket(bits[i], top, fine)
                if now > b:
                    following[i] = head[now]
                    head[now] = i
                else:
                    values[size] = u[i]
                    rows[size] = i
                    prefetch(indptr, i)
                    size += 1
        for at in range(size):
            first = indptr[rows[at]]
            for line in range(first, first + 2 * _LINE, _LINE):
                prefetch_once(indices, line)
                prefetch_once(distances, line)
        for start in range(size // 2 - 1, -1, -1):
            sink(values, rows, size, start, values[start], rows[start])
        while size > 0:
            if count == order.shape[0]:
                return count
            k = rows[0]
            value = u[k]
            if value == values[0]:
                eligible[k] = False
                own = klass[k] if klass.shape[0] else 0
                if quota[own] > 0:
                    quota[own] -= 1
                    order[count] = k
                    gains[count] = value
                    count += 1
                    _send(indptr, indices, distances, u, k, value, gamma, sigma, squared)
            elif value > least:
                now = _bucket(bits[k], top, fine)
                if now == b:
                    sink(values, rows, size, 0, value, k)
                    continue
                following[k] = head[now]
                head[now] = k
            size -= 1
            sink(values, rows, size, 0, values[size], rows[size])
    return count


@kernel
def silent_picks(ranked, u, eligible, klass, quota, order, gains, count):
    """Go on from pick `count` through rows that send nothing, in the given order."""
    for at in range(ranked.shape[0]):
        if count == order.shape[0]:
            break
        k = ranked[at]
        eligible[k] = False
        own = klass[k] if klass.shape[0] else 0
        if quota[own] > 0:
            quota[own] -= 1
            order[count] = k
            gains[count] = u[k]
            count += 1
    return count


_ARITY = 4


@kernel
def _rise(heap, place, u, hole, k):
    """Put k into the indexed heap at `hole` or above it; returns where."""
    while hole > 0:
        parent = (hole - 1) // _ARITY
        p = heap[parent]
        if not _before(u[k], k, u[p], p):
            break
        heap[hole] = p
        place[p] = hole
        hole = parent
    heap[hole] = k
    place[k] = hole
    return hole


@kernel
def _fall(heap, place, u, size, hole, k):
    """Put k into the indexed heap at `hole` or below it."""
    while True:
        first = _ARITY * hole + 1
        if first >= size:
            break
        best = first
        for child in range(first + 1, min(first + _ARITY, size)):
            if _before(u[heap[child]], heap[child], u[heap[best]], heap[best]):
                best = child
        c = heap[best]
        if not _before(u[c], c, u[k], k):
            break
        heap[hole] = c
        place[c] = hole
        hole = best
    heap[hole] = k
    place[k] = hole


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
    for start in range((size - 2) // _ARITY, -1, -1):
        _fall(heap, place, u, size, start, heap[start])
    count = 0
    while size > 0 and count < order.shape[0]:
        k = heap[0]
        eligible[k] = False
        place[k] = -1
        size -= 1
        if size > 0:
            _fall(heap, place, u, size, 0, heap[size])
        own = klass[k] if klass.shape[0] else 0
        if quota[own] == 0:
            continue
        quota[own] -= 1
        picked[k] = True
        order[count] = k
        gains[count] = u[k]
        count += 1
        message = u[k]
        for e in range(edges.indptr[k], edges.indptr[k + 1]):
            j = edges.indices[e]
            if picked[j]:
                continue
            u[j] -= weight(edges.distances[e], gamma, sigma, squared) * message
            if place[j] >= 0:
                _fall(heap, place, u, size, _rise(heap, place, u, place[j], j), j)
    return count
