"""Edges in CSR form from lists of nearest neighbours."""

from __future__ import annotations

import numpy as np

from d2cli.defaults import EdgeRule
from d2cli.graph.knn_graph import Edges, KnnGraph
from d2cli.limits import check_choice
from d2cli.runtime.jit import kernel

_SHORT_ROW = 64  #: rows of up to about this many edges are sorted by plain insertion


def edges_of(
    graph: KnnGraph, rule: EdgeRule = "union", left_out: np.ndarray | None = None
) -> Edges:
    """The edges of a graph under one rule.

    Args:
        graph: n rows, k listed neighbours each; not changed.
        rule: ``union``: i and j are neighbours if i lists j or j lists i; if both do and the
            distances differ, the smaller distance counts. ``directed``: the neighbours of i are
            the rows that i lists. ``mutual``: both list each other. Others are a UsageError.
        left_out: (n,) bool, rows whose edges are dropped.

    Returns:
        The edges. The arrays are views of arrays with room for all 2·n·k listed edges (``union``)
        or n·k (the others). Memory beyond the result is O(n), or O(n·k) for ``mutual``.
    """
    check_choice("edges", rule, EdgeRule)
    keep = np.ones(graph.n, np.bool_) if left_out is None else ~left_out
    union = rule == "union"
    indptr = _offsets(graph.neighbors, keep, union)
    indices, lengths = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)
    _fill(graph.neighbors, graph.distances, keep, union, indptr, indices, lengths)
    if rule == "mutual":
        _mark_one_sided(indptr, indices, lengths)
    size = compact(indptr, indices, lengths)
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
                    indices[cursor[i]], lengths[cursor[i]] = j, distances[i, p]
                    cursor[i] += 1
                    if both_ways:
                        indices[cursor[j]], lengths[cursor[j]] = i, distances[i, p]
                        cursor[j] += 1
    for i in range(n):
        sort_row(indices[indptr[i] : indptr[i + 1]], lengths[indptr[i] : indptr[i + 1]])


@kernel
def sort_row(indices, lengths):
    """Sort one row in place by (index, length), by Shell's method: a hub has up to n edges."""
    m, gap = indices.shape[0], 1
    while gap * _SHORT_ROW < m:
        gap = 3 * gap + 1
    while gap > 0:
        for at in range(gap, m):
            index, length = indices[at], lengths[at]
            p = at - gap
            while p >= 0 and (indices[p] > index or (indices[p] == index and lengths[p] > length)):
                indices[p + gap], lengths[p + gap] = indices[p], lengths[p]
                p -= gap
            indices[p + gap], lengths[p + gap] = index, length
        gap //= 3


@kernel
def _mark_one_sided(indptr, indices, lengths):
    """Set `indices` to -1 for every edge whose reverse is missing. Rows are sorted by neighbour."""
    kept = np.empty_like(indices)  # marks go to a copy: the search reads the unmarked lists
    for i in range(indptr.shape[0] - 1):
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            reverse = indptr[j] + np.searchsorted(indices[indptr[j] : indptr[j + 1]], i)
            found = reverse < indptr[j + 1] and indices[reverse] == i
            kept[e] = j if found else -1
            if found and lengths[reverse] < lengths[e]:
                lengths[e] = lengths[reverse]
    indices[:] = kept


@kernel
def compact(indptr, indices, lengths):
    """Remove marked and repeated edges in place; returns the number of edges that remain.

    Of repeated edges the first stays, which is the shortest.
    """
    n = indptr.shape[0] - 1
    size, start = 0, indptr[0]
    for i in range(n):
        stop, indptr[i] = indptr[i + 1], size
        for e in range(start, stop):
            j = indices[e]
            if j >= 0 and (size == indptr[i] or indices[size - 1] != j):
                indices[size], lengths[size] = j, lengths[e]
                size += 1
        start = stop
    indptr[n] = size
    return size
