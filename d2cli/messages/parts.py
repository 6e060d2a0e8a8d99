"""Edges in parts of consecutive rows: one part in memory, or many in a store.

Parts hold about PART_EDGES edges each. A store is filled in two steps: the reverse edges of a range
of rows are sorted by the part of their row, and then the edges of each part are put together. Both
steps read and write whole ranges. The edges are those of :func:`d2cli.messages.edges.edges_of`.
:mod:`d2cli.messages.part_tasks` does the same in tasks of an engine.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import EdgeRule
from d2cli.engine.store import PartStore
from d2cli.engine.tasks import Engine
from d2cli.graph.knn_graph import Edges
from d2cli.graph.lists import NeighborLists, ranges
from d2cli.limits import check_choice
from d2cli.messages.edges import compact, sort_row
from d2cli.messages.sizes import PART_EDGES, TASKS, csr_bytes, sent_numbers
from d2cli.runtime.jit import kernel

#: The names of what a store holds: edges, of pieces; reverse edges on their way to their part, of
#: ranges of rows; and what tasks have found, of spans.
EDGES, REVERSE, _FOUND = "edges", "reverse", "found"
#: Consecutive parts: the first one, and the one after the last.
Span = tuple[int, int]


@dataclass(frozen=True)
class EdgeParts:
    """The edges of n rows, in parts.

    Attributes:
        starts: (parts + 1,) the first row of each part, and n.
        sizes: (parts,) the number of edges of each part.
        store: what holds the parts; None: they are in memory.
        room: bytes of edges that may be in memory at one time; at least one part is.
        pieces: (pieces + 1,) the first part of each piece, and the number of parts. The edges of a
            piece are stored together, as the part of this number of the store.
        engine: runs what is to be done with each part, as tasks, and if it has several nodes, holds
            the edges in shards for a selection; None: all is done in this process. Tasks read the
            parts from the store.
        whole: all edges, if they are in memory; then there is one part.
    """

    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    store: PartStore | None = None
    room: int = 0
    pieces: tuple[int, ...] = ()
    engine: Engine | None = None
    whole: Edges | None = None

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
        piece, begin = self._piece(part)
        first = sum(self.sizes[begin:part])
        edges = (first, first + self.sizes[part])
        places = {"indptr": self._pointers(part), "indices": edges, "distances": edges}
        return Edges(**self.store.some(EDGES, piece, **places))

    def loaded(self, span: Span | None = None) -> Iterator[tuple[int, Edges]]:
        """The first row of each part, of a span or of all, and its edges; one after the other."""
        for part in range(*(span or (0, len(self)))):
            yield self.starts[part], self.load(part)

    def brought_here(self) -> EdgeParts:
        """The same edges for this process alone: in memory if they fit in the room, else not."""
        if self.whole is not None or csr_bytes(self.n, self.count) > self.room:
            return replace(self, engine=None)
        indptr = np.zeros(self.n + 1, np.int64)
        indices, distances = np.empty(self.count, np.int32), np.empty(self.count, np.float32)
        at = 0
        for first, part in self.loaded():
            end = at + part.indices.size
            indptr[first + 1 : first + part.indptr.size] = at + part.indptr[1:]
            indices[at:end], distances[at:end] = part.indices, part.distances
            at = end
        return in_parts(Edges(indptr, indices, distances))

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
        found: NDArray[np.int64] = self.store.get(
            EDGES, self._piece(part)[0], "indptr", *self._pointers(part)
        )
        return found

    def _pointers(self, part: int) -> tuple[int, int]:
        """The places of the `indptr` of a part in that of its piece."""
        (a, b), (_, begin) = self.starts[part : part + 2], self._piece(part)
        before = a - self.starts[begin] + part - begin  # each part has one place more than rows
        return before, before + b - a + 1

    def _piece(self, part: int) -> tuple[int, int]:
        """The piece that holds a part, and its first part."""
        piece = bisect_right(self.pieces, part) - 1
        return piece, self.pieces[piece]

    def spans(self, count: int) -> list[Span]:
        """All parts in at most `count` spans of about as many edges and rows each; none is empty.

        The result depends on the parts and on `count`.
        """
        load = np.array(self.sizes) + np.diff(self.starts)
        ends = np.cumsum(load)
        at = np.searchsorted(ends, ends[-1] * np.arange(1, count) / count) + 1
        bounds = np.unique(np.concatenate([[0], at, [len(self)]])).tolist()
        return list(pairwise(bounds))

    def by_tasks(
        self, work: Callable[[EdgeParts, Span], NDArray[Any]],
        ended: Callable[[int], object] = lambda rows: None,
    ) -> list[NDArray[Any]]:  # fmt: skip
        """What ``work(parts, span)`` returns for all spans, in their order, as tasks of the engine.

        `work` can be pickled, and returns arrays of one dimension. After each task, ``ended(rows)``
        is called with the number of its rows. The results pass through the store, so that a task
        may run twice.
        """
        assert self.store is not None
        assert self.engine is not None
        items = [*enumerate(self.spans(TASKS * self.engine.at_once))]
        task = partial(_found, replace(self, engine=None), work)
        self.engine.each(
            task, items, lambda item: ended(self.starts[item[1][1]] - self.starts[item[1][0]])
        )
        found = [self.store.get(_FOUND, number, "found") for number, _ in items]
        self.store.forget(_FOUND)
        return found


def _found(
    parts: EdgeParts, work: Callable[[EdgeParts, Span], NDArray[Any]], item: tuple[int, Span]
) -> None:
    """One task of :meth:`EdgeParts.by_tasks`."""
    number, span = item
    assert parts.store is not None
    parts.store.put(_FOUND, number, found=work(parts, span))


def in_parts(edges: Edges | EdgeParts) -> EdgeParts:
    """Edges in memory as one part; parts are returned as they are."""
    if isinstance(edges, EdgeParts):
        return edges
    return EdgeParts((0, edges.indptr.size - 1), (edges.indices.size,), whole=edges)


def stored_edges(
    graph: NeighborLists, rule: EdgeRule, left_out: NDArray[np.bool_] | None, store: PartStore,
    room: int = 0,
) -> EdgeParts:  # fmt: skip
    """The edges of a graph, put into a store; graph, rule and left_out as of ``edges_of``.

    Memory is O(n), and that of a part. `store` must be empty.
    """
    check_choice("edges", rule, EdgeRule)
    n, k = graph.n, graph.n_neighbors
    keep = np.ones(n, np.bool_) if left_out is None else ~left_out
    both, room_of = rule != "directed", np.zeros(n, np.int32)
    for first, neighbors, _ in ranges(graph):
        _count(neighbors, keep, first, both, room_of)
    starts = bounds_of_parts(room_of)
    ends = list[list[int]]()  # of the reverse edges of each part, in those of each range
    if both:
        bounds = np.array(starts, np.int64)
        for first, *lists in ranges(graph, sent_numbers(n, k)):
            sent, of_parts = reverse_by_part(*lists, keep, first, bounds)
            store.put(REVERSE, len(ends), sent=sent)
            ends.append([0, *of_parts.tolist()])
    sizes = []
    for part, (a, b) in enumerate(pairwise(starts)):
        sent = sent_to(store, [of_parts[part : part + 2] for of_parts in ends])
        indptr = np.zeros(b - a + 1, np.int64)
        np.cumsum(room_of[a:b], out=indptr[1:])
        indices, lengths = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)
        fill_part(*graph.rows(a, b), keep, a, sent, indptr, indices, lengths)
        if rule == "mutual":
            keep_twice(indptr, indices)
        size = int(compact(indptr, indices, lengths))
        store.put(EDGES, part, indptr=indptr, indices=indices[:size], distances=lengths[:size])
        sizes.append(size)
    store.forget(REVERSE)
    return EdgeParts(tuple(starts), tuple(sizes), store, room, tuple(range(len(sizes) + 1)))


def sent_to(store: PartStore, bounds: Iterable[Sequence[int]]) -> NDArray[np.int32]:
    """(m, 3) the reverse edges at the places ``start … stop`` of those that each range has sent."""
    found = [np.empty((0, 3), np.int32)]
    for sender, (start, stop) in enumerate(bounds):
        if stop > start:
            found.append(store.get(REVERSE, sender, "sent", start, stop))
    return np.concatenate(found)


def bounds_of_parts(room_of: NDArray[np.integer]) -> list[int]:
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


@kernel
def reverse_by_part(neighbors, distances, keep, first, bounds):
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
def fill_part(neighbors, distances, keep, first, sent, indptr, indices, lengths):
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
def keep_twice(indptr, indices):
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
    parts = in_parts(edges)
    if parts.engine is None:
        return _marked_of(marked, rows, parts, (0, len(parts)))
    return np.concatenate(parts.by_tasks(partial(_marked_of, marked, rows)))


def _marked_of(
    marked: NDArray[np.bool_], rows: NDArray[np.int64], parts: EdgeParts, span: Span
) -> NDArray[np.int64]:
    """Those of the `rows` of one span."""
    ends = np.searchsorted(rows, parts.starts[span[0] : span[1] + 1])
    counts = np.zeros(ends[-1] - ends[0], np.int64)
    for at, (first, loaded) in enumerate(parts.loaded(span)):
        a, b = ends[at : at + 2]
        count_marked(loaded, first, marked, rows[a:b], counts[a - ends[0] : b - ends[0]])
    return counts


@kernel
def count_marked(edges, first, marked, rows, counts):
    """Add to `counts` the marked neighbours of `rows`; `edges` begin at row `first`."""
    for at in range(rows.shape[0]):
        p = rows[at] - first
        for e in range(edges.indptr[p], edges.indptr[p + 1]):
            counts[at] += marked[edges.indices[e]]
