"""The queue of the clamped greedy loop, compiled: buckets of nearly equal scores, on shelves.

A row waits where its score was when it was put there. Scores only fall, so it is put right when it
is reached, not when its score changes. What is touched often is small: rows wait for a whole shelf
of buckets, in chunks that are written and read as they lie in memory; only those of the shelf that
is being emptied are sorted into its buckets, and only those of one bucket into a heap.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2cli.runtime.jit import borrowing_kernel
from d2cli.runtime.prefetch import prefetch
from d2cli.selection.heap import drop_top, heapify, sink

#: Buckets reach this many octaves below the largest score; all that is smaller shares the last.
_OCTAVES = 20
#: An octave has up to 2**16 buckets, fewer where there are fewer nodes to fill them.
_FINEST = 16
_MANTISSA_BITS = 52
#: log2 of the buckets of a shelf, and how many these are.
_SHELF = 7
BUCKETS = 1 << _SHELF
#: Numbers of a chunk, as many as a line of memory holds: the full one before it, then rows.
_CHUNK = 16
#: Rows whose scores are fetched before they are looked at.
_ROWS_AHEAD = 16


class Workspace(NamedTuple):
    """Memory for a queue of n rows, kept from one run to the next.

    Attributes:
        ends: (shelves,) int64, where in `chunks` the next row of a shelf goes.
        chunks: int32, rows that wait for a shelf: room for all, and for one begun chunk a shelf.
        spare: (2,) int64, the first of the chunks that were read, and how many were ever used.
        firsts: (BUCKETS + 2,) int32, where the open shelf's buckets begin in `rows`.
        heads: (BUCKETS + 1,) int32, where their links begin; the last of them are free places.
        rows, links: (n,) int32, a place for each row of the open shelf. The rows of a bucket lie
            together; those that come from earlier buckets of the shelf hang on each other.
        values, heap: (n,) float64 and int32, the heap of one bucket: scores, and whose.
    """

    ends: NDArray[np.int64]
    chunks: NDArray[np.int32]
    spare: NDArray[np.int64]
    firsts: NDArray[np.int32]
    heads: NDArray[np.int32]
    rows: NDArray[np.int32]
    links: NDArray[np.int32]
    values: NDArray[np.float64]
    heap: NDArray[np.int32]

    @classmethod
    def of(cls, n: int) -> Workspace:
        """For n rows."""
        shelves = ((_OCTAVES << _fineness(n)) - 1 >> _SHELF) + 1

        def workspace(size: int) -> NDArray[np.int32]:
            return np.empty(size, np.int32)

        return cls(
            ends=np.empty(shelves, np.int64),
            chunks=workspace((n // (_CHUNK - 1) + shelves) * _CHUNK),
            spare=np.empty(2, np.int64),
            firsts=workspace(BUCKETS + 2),
            heads=workspace(BUCKETS + 1),
            rows=workspace(n),
            links=workspace(n),
            values=np.empty(n),
            heap=workspace(n),
        )


class Queue(NamedTuple):
    """A queue that is being emptied, from the shelf with the highest scores on.

    Attributes:
        room: see there.
        scores: (n,) float64, which fall meanwhile; rows at or below `least` >= 0 drop out.
        bits: (n,) int64, the same memory: the bits of positive doubles rise with their value.
        top: the highest bits.
        fine: log2 of the buckets of an octave.
    """

    workspace: Workspace
    scores: NDArray[np.float64]
    bits: NDArray[np.int64]
    least: float
    top: np.int64
    fine: int


@borrowing_kernel
def _fineness(n):
    """log2 of the buckets of an octave, so that there are about as many buckets as nodes."""
    fine = 0
    while fine < _FINEST and n >> (fine + 5):
        fine += 1
    return fine


@borrowing_kernel
def _bucket(queue, row):
    """The bucket of a row's score, counted from the highest of all shelves."""
    fallen = (queue.top - queue.bits[row]) >> (_MANTISSA_BITS - queue.fine)
    return min(fallen, (_OCTAVES << queue.fine) - 1)


@borrowing_kernel
def filled(workspace, scores, bits, least, eligible):
    """The queue of all rows that may be picked (`eligible`) and whose score is above `least`."""
    top = np.int64(0)
    for i in range(scores.shape[0]):
        if eligible[i] and scores[i] > least and bits[i] > top:
            top = bits[i]
    queue = Queue(workspace, scores, bits, least, top, _fineness(scores.shape[0]))
    workspace.ends[:] = 0
    workspace.spare[0], workspace.spare[1] = -1, 0
    for i in range(scores.shape[0]):
        if eligible[i] and scores[i] > least:
            _shelve(workspace, i, _bucket(queue, i) >> _SHELF)
    return queue


@borrowing_kernel
def _shelve(workspace, row, shelf):
    """Let a row wait for a shelf."""
    end = workspace.ends[shelf]
    if end % _CHUNK == 0:  # none is begun: the last one, if any, is full
        chunk = workspace.spare[0]
        if chunk >= 0:
            workspace.spare[0] = workspace.chunks[chunk * _CHUNK]
        else:
            chunk = workspace.spare[1]
            workspace.spare[1] += 1
        workspace.chunks[chunk * _CHUNK] = end // _CHUNK - 1
        end = chunk * _CHUNK + 1
    workspace.chunks[end] = row
    workspace.ends[shelf] = end + 1


@borrowing_kernel
def _collected(workspace, shelf):
    """Write the rows that wait for a shelf to ``room.links``, and free its chunks; how many."""
    end, count = workspace.ends[shelf], 0
    chunk = (end - 1) // _CHUNK
    while chunk >= 0:
        for at in range(chunk * _CHUNK + 1, end):
            workspace.links[count] = workspace.chunks[at]
            count += 1
        previous = np.int64(workspace.chunks[chunk * _CHUNK])
        workspace.chunks[chunk * _CHUNK] = workspace.spare[0]
        workspace.spare[0] = chunk
        chunk, end = previous, (previous + 1) * _CHUNK
    return count


@borrowing_kernel
def opened(queue, shelf, indptr):
    """Sort the rows that still belong to a shelf into its buckets; whether any waited for it.

    Those that have fallen further wait on for the shelf of their score. Where the others' edges
    begin is asked for, too: it will be needed soon.
    """
    workspace, scores = queue.workspace, queue.scores
    waiting, firsts = workspace.links, workspace.firsts
    count = _collected(workspace, shelf)
    if count == 0:
        return False
    # Kept two places late while they are counted: filling moves them on by one.
    firsts[:] = 0
    workspace.heads[:] = -1
    base = (shelf << _SHELF) - 2
    staying = 0
    for at in range(count):
        prefetch(scores, waiting[min(at + _ROWS_AHEAD, count - 1)])
        i = waiting[at]
        if scores[i] > queue.least:
            b = _bucket(queue, i)
            if b >> _SHELF == shelf:
                waiting[staying] = i
                staying += 1
                firsts[b - base] += 1
                prefetch(indptr, i)
            else:
                _shelve(workspace, i, b >> _SHELF)
    for b in range(BUCKETS):
        firsts[b + 2] += firsts[b + 1]
    for at in range(staying):
        i = waiting[at]
        b = _bucket(queue, i) - base - 1
        workspace.rows[firsts[b]] = i
        firsts[b] += 1
    return True


@borrowing_kernel
def belongs(queue, row, shelf, b):
    """Whether a row's score is still that of bucket b of a shelf."""
    return queue.scores[row] > queue.least and _bucket(queue, row) == (shelf << _SHELF) + b


@borrowing_kernel
def heaped(queue, shelf, b):
    """Put all that belongs to bucket b of the open shelf into the heap; how many.

    What waited for the bucket and belongs further on is put there.
    """
    workspace, here, size = queue.workspace, (shelf << _SHELF) + b, 0
    place, at = workspace.heads[b], workspace.firsts[b]
    while True:
        if place >= 0:
            mine, place = place, workspace.links[place]
        elif at < workspace.firsts[b + 1]:
            mine = at
            at += 1
        else:
            break
        i = workspace.rows[mine]
        score = queue.scores[i]
        if score > queue.least:
            now = _bucket(queue, i)
            if now == here:
                workspace.values[size], workspace.heap[size] = score, i
                size += 1
                _hang(workspace, mine, BUCKETS)
            elif now >> _SHELF == shelf:
                _hang(workspace, mine, b + now - here)
            else:
                _shelve(workspace, i, now >> _SHELF)
    heapify(workspace.values, workspace.heap, size)
    return size


@borrowing_kernel
def _hang(workspace, place, b):
    """Link a place to those of bucket b, or to the free ones."""
    workspace.links[place] = workspace.heads[b]
    workspace.heads[b] = place


@borrowing_kernel
def put_right(queue, shelf, b, size):
    """Put the top of the heap of bucket b where its score belongs now; how many are left."""
    workspace, here = queue.workspace, (shelf << _SHELF) + b
    i = workspace.heap[0]
    score = queue.scores[i]
    if score > queue.least:
        now = _bucket(queue, i)
        if now == here:
            sink(workspace.values, workspace.heap, size, 0, score, i)
            return size
        if now >> _SHELF == shelf:
            place = workspace.heads[BUCKETS]  # one is free: that of a row of the heap
            workspace.heads[BUCKETS] = workspace.links[place]
            workspace.rows[place] = i
            _hang(workspace, place, b + now - here)
        else:
            _shelve(workspace, i, now >> _SHELF)
    return drop_top(workspace.values, workspace.heap, size)
