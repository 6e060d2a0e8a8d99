"""Lazy bucket queue of the clamped greedy loop, compiled.

A row stays in the bucket of an outdated, higher score and is moved when that bucket is opened.
Scores only fall, so no row is found too late.

- *Bucket*: the rows whose scores share the exponent and the first bits of the mantissa. An octave
  (one exponent) has 2^fine buckets. Buckets are numbered from the highest score down.
- *Shelf*: BUCKETS consecutive buckets. A row first waits for its shelf, in chunks of CHUNK numbers.
- When a shelf is opened, its rows are sorted into its buckets; when a bucket is reached, its rows
  go into a binary heap. So the memory that is accessed at random stays small.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2cli.runtime.jit import borrowing_kernel
from d2cli.runtime.prefetch import prefetch
from d2cli.selection.heap import drop_top, heapify, sink
from d2cli.selection.sizes import BUCKETS, CHUNK, OCTAVES, SHELF, fineness, workspace_arrays

_MANTISSA_BITS = 52  #: of a float64
_ROWS_AHEAD = 16  #: how many rows ahead scores are prefetched

_fineness = borrowing_kernel(fineness)


class Workspace(NamedTuple):
    """Memory of a queue of n rows, reused from run to run; sizes: :func:`workspace_arrays`.

    A chunk holds the number of the previous chunk of its shelf (or of the list of free chunks), or
    -1, and then rows. Rows that are moved to a later bucket of the open shelf are in linked lists
    of places in `rows`.
    """

    ends: NDArray[np.int64]  # per shelf, the place in `chunks` after its last row
    chunks: NDArray[np.int32]  # of all shelves: room for n rows and one begun chunk per shelf
    spare: NDArray[np.int64]  # the first free chunk, or -1; the number of chunks ever used
    firsts: NDArray[np.int32]  # where the buckets of the open shelf begin in `rows`
    heads: NDArray[np.int32]  # per bucket, the head of its list, or -1; the last: free places
    rows: NDArray[np.int32]  # the rows of the open shelf, sorted by bucket
    links: NDArray[np.int32]  # per place in `rows`, the next place in its list
    values: NDArray[np.float64]  # the heap of the open bucket: scores
    heap: NDArray[np.int32]  # the rows of that heap

    @classmethod
    def of(cls, n: int) -> Workspace:
        """Memory for n rows, not initialised."""
        arrays = workspace_arrays(n).items()
        return cls(**{name: np.empty(length, dtype) for name, (length, dtype) in arrays})


class Queue(NamedTuple):
    """A queue of rows, emptied from the shelf with the highest scores down."""

    workspace: Workspace
    scores: NDArray[np.float64]  # may fall meanwhile
    bits: NDArray[np.int64]  # a view of `scores`: bits of positive doubles ascend with their values
    least: float  # at least 0; rows with scores at or below it leave the queue
    top: np.int64  # the bits of the highest score
    fine: int  # log2 of the buckets per octave


@borrowing_kernel
def _bucket(queue, row):
    """The number of the bucket of a row's score, counted over all shelves."""
    fallen = (queue.top - queue.bits[row]) >> (_MANTISSA_BITS - queue.fine)
    return min(fallen, (OCTAVES << queue.fine) - 1)


@borrowing_kernel
def fill_queue(workspace, scores, bits, least, eligible):
    """The queue of all `eligible` rows whose score is above `least`."""
    top = np.int64(0)
    for i in range(scores.shape[0]):
        if eligible[i] and scores[i] > least and bits[i] > top:
            top = bits[i]
    queue = Queue(workspace, scores, bits, least, top, _fineness(scores.shape[0]))
    workspace.ends[:] = 0
    workspace.spare[0], workspace.spare[1] = -1, 0
    for i in range(scores.shape[0]):
        if eligible[i] and scores[i] > least:
            _shelve(workspace, i, _bucket(queue, i) >> SHELF)
    return queue


@borrowing_kernel
def _shelve(workspace, row, shelf):
    """Append a row to the chunks of a shelf."""
    end = workspace.ends[shelf]
    if end % CHUNK == 0:  # the shelf has no chunk, or its last one is full
        chunk = workspace.spare[0]
        if chunk >= 0:
            workspace.spare[0] = workspace.chunks[chunk * CHUNK]
        else:
            chunk = workspace.spare[1]
            workspace.spare[1] += 1
        workspace.chunks[chunk * CHUNK] = end // CHUNK - 1
        end = chunk * CHUNK + 1
    workspace.chunks[end] = row
    workspace.ends[shelf] = end + 1


@borrowing_kernel
def _unshelve(workspace, shelf):
    """Move the rows of a shelf to ``workspace.links``, free its chunks; returns the row count."""
    end, count = workspace.ends[shelf], 0
    chunk = (end - 1) // CHUNK
    while chunk >= 0:
        for at in range(chunk * CHUNK + 1, end):
            workspace.links[count] = workspace.chunks[at]
            count += 1
        previous = np.int64(workspace.chunks[chunk * CHUNK])
        workspace.chunks[chunk * CHUNK] = workspace.spare[0]
        workspace.spare[0] = chunk
        chunk, end = previous, (previous + 1) * CHUNK
    return count


@borrowing_kernel
def open_shelf(queue, shelf, indptr):
    """Sort the rows of a shelf into its buckets; returns whether any row waited for the shelf.

    Rows whose scores have fallen below the shelf move on to the shelf of their score. `indptr` of
    the others is prefetched, because their edges are needed soon.
    """
    workspace, scores = queue.workspace, queue.scores
    waiting, firsts = workspace.links, workspace.firsts
    count = _unshelve(workspace, shelf)
    if count == 0:
        return False
    # Counting sort. Counts are kept two places late, because filling shifts the starts by one.
    firsts[:] = 0
    workspace.heads[:] = -1
    base = (shelf << SHELF) - 2
    staying = 0
    for at in range(count):
        prefetch(scores, waiting[min(at + _ROWS_AHEAD, count - 1)])
        i = waiting[at]
        if scores[i] > queue.least:
            b = _bucket(queue, i)
            if b >> SHELF == shelf:
                waiting[staying] = i
                staying += 1
                firsts[b - base] += 1
                prefetch(indptr, i)
            else:
                _shelve(workspace, i, b >> SHELF)
    for b in range(BUCKETS):
        firsts[b + 2] += firsts[b + 1]
    for at in range(staying):
        i = waiting[at]
        b = _bucket(queue, i) - base - 1
        workspace.rows[firsts[b]] = i
        firsts[b] += 1
    return True


@borrowing_kernel
def in_bucket(queue, row, shelf, b):
    """Whether a row's score still belongs to bucket b of a shelf."""
    return queue.scores[row] > queue.least and _bucket(queue, row) == (shelf << SHELF) + b


@borrowing_kernel
def open_bucket(queue, shelf, b):
    """Build the heap of bucket b of the open shelf; returns its size.

    Rows of the bucket whose scores have fallen below it move on to the bucket of their score.
    """
    workspace, here, size = queue.workspace, (shelf << SHELF) + b, 0
    place, at = workspace.heads[b], workspace.firsts[b]
    while place >= 0 or at < workspace.firsts[b + 1]:
        if place >= 0:
            mine, place = place, workspace.links[place]
        else:
            mine, at = at, at + 1
        i = workspace.rows[mine]
        score = queue.scores[i]
        if score > queue.least:
            now = _bucket(queue, i)
            if now == here:
                workspace.values[size], workspace.heap[size] = score, i
                size += 1
                _link(workspace, mine, BUCKETS)
            elif now >> SHELF == shelf:
                _link(workspace, mine, b + now - here)
            else:
                _shelve(workspace, i, now >> SHELF)
    heapify(workspace.values, workspace.heap, size)
    return size


@borrowing_kernel
def _link(workspace, place, b):
    """Put a place at the head of the list of bucket b, or of the free places (b = BUCKETS)."""
    workspace.links[place] = workspace.heads[b]
    workspace.heads[b] = place


@borrowing_kernel
def requeue_top(queue, shelf, b, size):
    """Move the top of the heap of bucket b to where its score belongs; returns the heap's size."""
    workspace, here = queue.workspace, (shelf << SHELF) + b
    i = workspace.heap[0]
    score = queue.scores[i]
    if score > queue.least:
        now = _bucket(queue, i)
        if now == here:
            sink(workspace.values, workspace.heap, size, 0, score, i)
            return size
        if now >> SHELF == shelf:
            place = workspace.heads[BUCKETS]  # free places exist: the heap's rows left theirs
            workspace.heads[BUCKETS] = workspace.links[place]
            workspace.rows[place] = i
            _link(workspace, place, b + now - here)
        else:
            _shelve(workspace, i, now >> SHELF)
    return drop_top(workspace.values, workspace.heap, size)
