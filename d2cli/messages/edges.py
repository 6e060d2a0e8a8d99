"""From nearest-neighbour lists to the edges along which messages travel."""

from __future__ import annotations

import numpy as np

from d2cli.defaults import EdgeRule, choices
from d2cli.errors import UsageError
from d2cli.graph.knn_graph import Edges, KnnGraph
from d2cli.runtime.jit import kernel


def edges_of(graph: KnnGraph, edges: EdgeRule = "union", drop: np.ndarray | None = None) -> Edges:
    """The neighbours of every row under one rule.

    Args:
        graph: n rows, k listed neighbours each; not changed.
        edges: ``union``: i and j are neighbours if either lists the other (where the two
            lists disagree on the distance, the smaller holds); ``directed``: the neighbours of i
            are those that i lists; ``mutual``: both list each other.
        drop: (n,) bool, rows to leave out, with every edge that touches them.

    Returns:
        The edges, `indices` ascending within each row. Working memory beyond the result is of the
        order of n; the result of ``union`` is a view into arrays sized for 2·n·k edges.

    Raises:
        UsageError: for an unknown rule.
    """
    if edges not in choices(EdgeRule):
        raise UsageError(f"edges must be one of {', '.join(choices(Edges))}, not {edges!r}")
    keep = np.ones(graph.n, np.bool_) if drop is None else ~drop
    neighbors, distances = graph.neighbors, graph.distances
    union = edges == "union"
    indptr = _room(neighbors, keep, union)
    indices = np.empty(indptr[-1], np.int32)
    lengths = np.empty(indptr[-1], np.float32)
    _fill(neighbors, distances, keep, union, indptr, indices, lengths)
    if edges == "mutual":
        _drop_one_sided(indptr, indices, lengths)
    size = _close_up(indptr, indices, lengths)
    return Edges(indptr, indices[:size], lengths[:size])


@kernel
def _room(neighbors, keep, both_ways):
    """Indptr with room for every listed edge, and for its return where `both_ways`."""
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
    """Put every edge into its row's room, then sort each row by neighbour, then by distance."""
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
    """Sort one row in place by (index, length): insertion where short, heap sort where long."""
    m = indices.shape[0]
    if m > 64:  # a hub, listed by many: insertion would be quadratic in its degree
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
    """Restore the max-heap below `start`."""
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
def _drop_one_sided(indptr, indices, lengths):
    """Mark with -1 every edge whose return is not there. Rows are sorted by neighbour.

    Marks are written to a copy, since an edge must be judged by the lists as they were.
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
            there = low < indptr[j + 1] and indices[low] == i
            kept[e] = j if there else -1
            if there and lengths[low] < lengths[e]:
                lengths[e] = lengths[low]
    indices[:] = kept


@kernel
def _close_up(indptr, indices, lengths):
    """Drop marked and repeated edges (the first, shortest one stays) by moving the rest down.

    Changes all three arrays in place; returns how many edges are left.
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
