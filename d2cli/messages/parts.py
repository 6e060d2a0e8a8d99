"""Edges in parts of consecutive rows: one part in memory, or many in a store.

Parts hold about PART_EDGES edges each, so they depend on the graph alone. A store is filled in two
steps, each of which reads and writes whole ranges: reverse edges are sent to the part of their row,
and then the edges of each part are put together. The edges are those of
:func:`d2cli.messages.edges.edges_of`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import EdgeRule
from d2cli.engine.storage import Store
from d2cli.graph.knn_graph import Edges
from d2cli.graph.lists import NeighborLists, ranges
from d2cli.limits import check_choice
from d2cli.messages.edges import compact, sort_row
from d2cli.messages.sizes import PART_EDGES
from d2cli.runtime.jit import kernel


@dataclass(frozen=True)
class EdgeParts:
    """The edges of n rows, in parts.

    Attributes:
        starts: (parts + 1,) the first row of each part, and n.
        sizes: (parts,) the number of edges of each part.
        whole: all edges, if they are in memory; then there is one part.
        store: what holds the parts otherwise.
        room: bytes of edges that may be in memory at one time; at least one part is.
    """

    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    whole: Edges | None = None
    store: Store | None = None
    room: int = 0

    @property
    def n(self) -> int:
        """The number of rows."""
        return self.starts[-1]

    @property
    def count(self) -> int:
        """The number of edges, each counted at both its rows."""
        return sum(self.sizes)

    def __len__(self) -> int:
        """The number of parts."""
        return len(self.sizes)

    def load(self, part: int) -> Edges:
        """The edges of the rows of a part; row ``starts[part]`` has the place 0 in `indptr`."""
        if self.whole is not None:
            return self.whole
        assert self.store is not None
        first, size = sum(self.sizes[:part]), self.sizes[part]
        return Edges(
            self._indptr(part),
            self.store.read("indices", np.int32, first, size),
            self.store.read("distances", np.float32, first, size),
        )

    def loaded(self) -> Iterator[tuple[int, Edges]]:
        """The first row of each part, and its edges; one part after the other."""
        for part in range(len(self)):
            yield self.starts[part], self.load(part)

    def degrees(self) -> NDArray[np.int32]:
        """(n,) the number of neighbours of each row."""
        found = np.empty(self.n, np.int32)
        for part, (a, b) in enumerate(pairwise(self.starts)):
            found[a:b] = np.diff(self._indptr(part))
        return found

    def _indptr(self, part: int) -> NDArray[np.int64]:
        if self.whole is not None:
            return self.whole.indptr
        assert self.store is not None
        a, b = self.starts[part : part + 2]
        return self.store.read("indptr", np.int64, a + part, b - a + 1)


def in_parts(edges: Edges | EdgeParts) -> EdgeParts:
    """Edges in memory as one part; parts are returned as they are."""
    if isinstance(edges, EdgeParts):
        return edges
    return EdgeParts((0, edges.indptr.size - 1), (edges.indices.size,), whole=edges)


def stored_edges(
    graph: NeighborLists, rule: EdgeRule, left_out: NDArray[np.bool_] | None, store: Store,
    room: int = 0,
) -> EdgeParts:  # fmt: skip
    """The edges of a graph, put into a store; graph, rule and left_out as of ``edges_of``.

    Memory is O(n), and that of a part. `store` must be new.
    """
    check_choice("edges", rule, EdgeRule)
    n = graph.n
    keep = np.ones(n, np.bool_) if left_out is None else ~left_out
    both, room_of = rule != "directed", np.zeros(n, np.int32)
    for first, neighbors, _ in ranges(graph):
        _count(neighbors, keep, first, both, room_of)
    starts = _bounds(room_of)
    if both:
        for first, neighbors, distances in ranges(graph):
            _send_reverse(store, neighbors, distances, keep, first, starts)
    sizes = []
    for part, (a, b) in enumerate(pairwise(starts)):
        sent = store.read(f"reverse {part}", np.int32).reshape(-1, 3)
        store.drop(f"reverse {part}")
        indptr = np.zeros(b - a + 1, np.int64)
        np.cumsum(room_of[a:b], out=indptr[1:])
        indices, lengths = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)
        _fill(*graph.rows(a, b), keep, a, sent, indptr, indices, lengths)
        if rule == "mutual":
            _keep_twice(indptr, indices)
        size = int(compact(indptr, indices, lengths))
        for name, array in Edges(indptr, indices[:size], lengths[:size])._asdict().items():
            store.append(name, array)
        sizes.append(size)
    return EdgeParts(tuple(starts), tuple(sizes), store=store, room=room)


def _bounds(room_of: NDArray[np.int32]) -> list[int]:
    """The first row of each part, and n: parts of at most PART_EDGES edges, or of one row."""
    before = np.concatenate([[0], np.cumsum(room_of, dtype=np.int64)])
    starts, n = [0], room_of.size
    while starts[-1] < n:
        a = starts[-1]
        fits = int(np.searchsorted(before, before[a] + PART_EDGES, side="right")) - 1
        starts.append(min(n, max(fits, a + 1)))
    return starts


@kernel
def _count(neighbors, keep, first, both_ways, room_of):
    """Add the listed edges of rows from `first` on, and their reverses, to the room of each row."""
    for p in range(neighbors.shape[0]):
        if keep[first + p]:
            for j in neighbors[p]:
                if j >= 0 and keep[j]:
                    room_of[first + p] += 1
                    if both_ways:
                        room_of[j] += 1


def _send_reverse(store, neighbors, distances, keep, first, starts):
    """Append the reverse of each listed edge, as (row, neighbour, distance), to its part."""
    bounds = np.array(starts, np.int64)
    sent, ends = _by_part(neighbors, distances, keep, first, bounds)
    before = 0
    for part, end in enumerate(ends.tolist()):
        if end > before:
            store.append(f"reverse {part}", sent[before:end].reshape(-1))
        before = end


@kernel
def _by_part(neighbors, distances, keep, first, bounds):
    """Reverse edges (m, 3) sorted by part, distances as their bits, and where each part ends."""
    parts = bounds.shape[0] - 1
    bits, ends = distances.view(np.int32), np.zeros(parts, np.int64)
    for p in range(neighbors.shape[0]):
        if keep[first + p]:
            for j in neighbors[p]:
                if j >= 0 and keep[j]:
                    ends[np.searchsorted(bounds, j, side="right") - 1] += 1
    begin = 0
    for part in range(parts):
        begin, ends[part] = begin + ends[part], begin
    sent = np.empty((begin, 3), np.int32)
    for p in range(neighbors.shape[0]):
        if keep[first + p]:
            for q in range(neighbors.shape[1]):
                j = neighbors[p, q]
                if j >= 0 and keep[j]:
                    part = np.searchsorted(bounds, j, side="right") - 1
                    at = ends[part]
                    sent[at, 0], sent[at, 1], sent[at, 2] = j, first + p, bits[p, q]
                    ends[part] += 1
    return sent, ends


@kernel
def _fill(neighbors, distances, keep, first, sent, indptr, indices, lengths):
    """Write listed and reverse edges of a part into the room of their row, and sort each row."""
    rows = neighbors.shape[0]
    cursor = indptr[:rows].copy()
    for p in range(rows):
        if keep[first + p]:
            for q in range(neighbors.shape[1]):
                j = neighbors[p, q]
                if j >= 0 and keep[j]:
                    indices[cursor[p]], lengths[cursor[p]] = j, distances[p, q]
                    cursor[p] += 1
    sent_lengths = sent.view(np.float32)
    for at in range(sent.shape[0]):
        p = sent[at, 0] - first
        indices[cursor[p]], lengths[cursor[p]] = sent[at, 1], sent_lengths[at, 2]
        cursor[p] += 1
    for p in range(rows):
        sort_row(indices[indptr[p] : indptr[p + 1]], lengths[indptr[p] : indptr[p + 1]])


@kernel
def _keep_twice(indptr, indices):
    """Mark (-1) edges that are listed one way only; rows are sorted by neighbour.

    Of an edge that is listed both ways the first stays, which is the shorter one.
    """
    for p in range(indptr.shape[0] - 1):
        e = indptr[p]
        while e < indptr[p + 1]:
            twice = e + 1 < indptr[p + 1] and indices[e + 1] == indices[e]
            if not twice:
                indices[e] = -1
            e += 2 if twice else 1


def marked_neighbours(
    edges: Edges | EdgeParts, marked: NDArray[np.bool_], rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(m,) int64, how many neighbours of each of `rows` (m,), ascending, are `marked` (n,)."""
    counts, parts = np.zeros(rows.size, np.int64), in_parts(edges)
    ends = np.searchsorted(rows, parts.starts)
    for part, (first, loaded) in enumerate(parts.loaded()):
        a, b = ends[part : part + 2]
        _marked(loaded, first, marked, rows[a:b], counts[a:b])
    return counts


@kernel
def _marked(edges, first, marked, rows, counts):
    for at in range(rows.shape[0]):
        p = rows[at] - first
        for e in range(edges.indptr[p], edges.indptr[p + 1]):
            counts[at] += marked[edges.indices[e]]
