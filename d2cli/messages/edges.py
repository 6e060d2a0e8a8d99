"""Edges in CSR form from lists of nearest neighbours."""

from __future__ import annotations

import numpy as np

from d2cli.defaults import EdgeRule, choices
from d2cli.errors import UsageError
from d2cli.graph.knn_graph import Edges, KnnGraph
from d2cli.runtime.jit import kernel

#: Rows of at most this many edges are sorted by insertion, longer ones by heap sort.
_INSERTION_MOST = 64


def edges_of(
    graph: KnnGraph, rule: EdgeRule = "union", left_out: np.ndarray | None = None
) -> Edges:
    """The edges of a graph under one rule.

    Args:
        graph: n rows, k listed neighbours each; not changed.
        rule: ``union``: i and j are neighbours if i lists j or j lists i; if both do and the
            distances differ, the smaller distance counts. ``directed``: the neighbours of i are
            the rows that i lists. ``mutual``: both list each other.
        left_out: (n,) bool, rows whose edges are dropped.

    Returns:
        The edges; `indices` ascend within each row. Memory beyond the result is O(n), or
        O(n·k) for ``mutual``. The arrays are views of arrays with room for all 2·n·k listed edges
        (``union``) or n·k (the others).

    Raises:
        UsageError: for an unknown rule.
    """
    if rule not in choices(EdgeRule):
        raise UsageError(f"edges must be one of {', '.join(choices(EdgeRule))}, not {rule!r}")
    keep = np.ones(graph.n, np.bool_) if left_out is None else ~left_out
    neighbors, distances = graph.neighbors, graph.distances
    union = rule == "union"
    indptr = _offsets(neighbors, keep, union)
    indices = np.empty(indptr[-1], np.int32)
    lengths = np.empty(indptr[-1], np.float32)
    _fill(neighbors, distances, keep, union, indptr, indices, lengths)
    if rule == "mutual":
        _mark_one_sided(indptr, indices, lengths)
    size = _compact(indptr, indices, lengths)
    return Edges(indptr, indices[:size], lengths[:size])


@kernel
def _offsets(neighbors, keep, both_ways):
    """`indptr` with room for every listed edge, and for its reverse if `both_ways`."""
    n, k = neighbors.shape
    indptr = np.zeros(n + 1, np.int64)
    for i in range(n):
        if keep[i]:
            for p in range(k):
                j = neighbors[i, p]
                if j >= 0 and keep[j]:
                    indptr[i + 1] += 1
                    if both_ways:
                        indptr[j + 1] += 1
    for i in range(n):
        indptr[i + 1] += indptr[i]
    return indptr


@kernel
def _fill(neighbors, distances, keep, both_ways, indptr, indices, lengths):
    """Write every edge into the room of its row, then sort each row by (neighbour, distance)."""
    n, k = neighbors.shape
    cursor = indptr[:n].copy()
    for i in range(n):
        if keep[i]:
            for p in range(k):
                j = neighbors[i, p]
                if j >= 0 and keep[j]:
                    indices[cursor[i]] = j
                    lengths[cursor[i]] = distances[i, p]
                    cursor[i] += 1
                    if both_ways:
                        indices[cursor[j]] = i
                        lengths[cursor[j]] = distances[i, p]
                        cursor[j] += 1
    for i in range(n):
        _sort_row(indices[indptr[i] : indptr[i + 1]], lengths[indptr[i] : indptr[i + 1]])


@kernel
def _sort_row(indices, lengths):
    """Sort one row in place by (index, length)."""
    m = indices.shape[0]
    if m > _INSERTION_MOST:  # a hub: insertion sort is quadratic in the degree
        for start in range(m // 2 - 1, -1, -1):
            _sift(indices, lengths, start, m)
        for end in range(m - 1, 0, -1):
            indices[0], indices[end] = indices[end], indices[0]
            lengths[0], lengths[end] = lengths[end], lengths[0]
            _sift(indices, lengths, 0, end)
        return
    for at in range(1, m):
        index, length = indices[at], lengths[at]
        p = at - 1
        while p >= 0 and (indices[p] > index or (indices[p] == index and lengths[p] > length)):
            indices[p + 1] = indices[p]
            lengths[p + 1] = lengths[p]
            p -= 1
        indices[p + 1] = index
        lengths[p + 1] = length


@kernel
def _sift(indices, lengths, start, end):
    """Restore the max-heap of ``[start, end)`` after a change at `start`."""
    index, length = indices[start], lengths[start]
    hole = start
    while True:
        child = 2 * hole + 1
        if child >= end:
            break
        right = child + 1
        if right < end and (
            indices[right] > indices[child]
            or (indices[right] == indices[child] and lengths[right] > lengths[child])
        ):
            child = right
        if indices[child] < index or (indices[child] == index and lengths[child] <= length):
            break
        indices[hole] = indices[child]
        lengths[hole] = lengths[child]
        hole = child
    indices[hole] = index
    lengths[hole] = length


@kernel
def _mark_one_sided(indptr, indices, lengths):
    """Set `indices` to -1 for every edge whose reverse is missing. Rows are sorted by neighbour.

    Marks go to a copy first, because the search for a reverse edge reads the unmarked lists.
    """
    n = indptr.shape[0] - 1
    kept = np.empty_like(indices)
    for i in range(n):
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            low, high = indptr[j], indptr[j + 1]
            while low < high:
                middle = (low + high) // 2
                if indices[middle] < i:
                    low = middle + 1
                else:
                    high = middle
            found = low < indptr[j + 1] and indices[low] == i
            kept[e] = j if found else -1
            if found and lengths[low] < lengths[e]:
                lengths[e] = lengths[low]
    indices[:] = kept


@kernel
def _compact(indptr, indices, lengths):
    """Remove marked and repeated edges; of repeated ones the first, which is the shortest, stays.

    Changes all three arrays in place. Returns the number of edges that remain.
    """
    n = indptr.shape[0] - 1
    size = 0
    start = indptr[0]
    for i in range(n):
        stop = indptr[i + 1]
        indptr[i] = size
        for e in range(start, stop):
            j = indices[e]
            if j < 0 or (size > indptr[i] and indices[size - 1] == j):
                continue
            indices[size] = j
            lengths[size] = lengths[e]
            size += 1
        start = stop
    indptr[n] = size
    return size
