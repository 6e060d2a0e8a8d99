"""Edges of a graph, put into a store by the tasks of an engine.

Rows are cut into *pieces* of equally many consecutive rows. A first task for each piece sorts the
reverses of its listed edges by the piece that they belong to. A second task for each piece puts its
listed edges and the reverses from all pieces together, and cuts them into parts. Each task writes
arrays of its own, so that it may run twice. The edges are those of
:func:`d2cli.messages.edges.edges_of`, for any number of pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import EdgeRule
from d2cli.engine.store import PartStore
from d2cli.engine.tasks import Engine
from d2cli.graph.lists import NeighborLists
from d2cli.limits import check_choice
from d2cli.messages.edges import compact
from d2cli.messages.parts import (
    EDGES,
    REVERSE,
    EdgeParts,
    bounds_of_parts,
    fill_part,
    keep_twice,
    reverse_by_part,
    sent_to,
)
from d2cli.messages.sizes import rows_of_piece
from d2cli.runtime.jit import kernel

_CUT = "cut"  #: the name of how pieces are cut into parts


def edges_by_tasks(
    graph: NeighborLists, rule: EdgeRule, left_out: NDArray[np.bool_] | None, store: PartStore,
    engine: Engine, room: int = 0,
) -> EdgeParts:  # fmt: skip
    """As :func:`d2cli.messages.parts.stored_edges`, with tasks of an engine, which is kept.

    Tasks are given the graph and the store, which must be possible to pickle unless the engine is
    ``shared``. Memory of a task is O(n) for `left_out`, and that of a piece: its rows have room for
    up to PIECE_PARTS · PART_EDGES edges, and more if other rows list them more often than the mean.
    """
    check_choice("edges", rule, EdgeRule)
    n = graph.n
    keep = np.ones(n, np.bool_) if left_out is None else ~left_out
    bounds = [*range(0, n, rows_of_piece(n, graph.n_neighbors, rule, engine.at_once)), n]
    building = _Building(graph, rule, keep, store, bounds)
    pieces = range(len(bounds) - 1)
    if rule != "directed":
        engine.each(building.send, pieces)
    engine.each(building.put_together, pieces)
    starts, sizes, first_parts = [0], list[int](), [0]
    for piece in pieces:
        cut = store.whole(_CUT, piece)
        starts += cut["starts"].tolist()
        sizes += cut["sizes"].tolist()
        first_parts.append(len(sizes))
    store.forget(REVERSE, _CUT)
    return EdgeParts(tuple(starts), tuple(sizes), store, room, tuple(first_parts), engine)


@dataclass(frozen=True)
class _Building:
    """The two tasks of :func:`edges_by_tasks` of each piece.

    `bounds` are the first row of each piece, and n.
    """

    graph: NeighborLists
    rule: EdgeRule
    keep: NDArray[np.bool_]
    store: PartStore
    bounds: list[int]

    def send(self, piece: int) -> None:
        """Write the reverses of the listed edges, sorted by their piece, and where each ends."""
        start, stop = self.bounds[piece : piece + 2]
        bounds = np.array(self.bounds, np.int64)
        sent, ends = reverse_by_part(*self.graph.rows(start, stop), self.keep, start, bounds)
        self.store.put(REVERSE, piece, sent=sent, ends=np.append(0, ends))

    def put_together(self, piece: int) -> None:
        """Write the edges of the rows of a piece, and how they are cut into parts."""
        start, stop = self.bounds[piece : piece + 2]
        neighbors, distances = self.graph.rows(start, stop)
        sent, room = self._sent_to(piece), np.zeros(stop - start, np.int64)
        _count_listed(neighbors, self.keep, start, room)
        room += np.bincount(sent[:, 0] - start, minlength=room.size)
        indptr = np.concatenate([[0], np.cumsum(room)])
        indices, lengths = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)
        fill_part(neighbors, distances, self.keep, start, sent, indptr, indices, lengths)
        if self.rule == "mutual":
            keep_twice(indptr, indices)
        size = int(compact(indptr, indices, lengths))
        at = np.array(bounds_of_parts(np.diff(indptr)))
        self.store.put(
            EDGES, piece, indptr=_counted_anew(indptr, at), indices=indices[:size],
            distances=lengths[:size],
        )  # fmt: skip
        self.store.put(_CUT, piece, starts=start + at[1:], sizes=np.diff(indptr[at]))

    def _sent_to(self, piece: int) -> NDArray[np.int32]:
        """(m, 3) the reverse edges from all pieces, as of ``reverse_by_part``."""
        senders = [] if self.rule == "directed" else range(len(self.bounds) - 1)
        place = (piece, piece + 2)
        return sent_to(self.store, (self.store.get(REVERSE, s, "ends", *place) for s in senders))


def _counted_anew(indptr: NDArray[np.int64], at: NDArray[np.int64]) -> NDArray[np.int64]:
    """The `indptr` of each part, one after the other; parts begin at the rows `at`."""
    return np.concatenate([indptr[a : b + 1] - indptr[a] for a, b in pairwise(at.tolist())])


@kernel
def _count_listed(neighbors, keep, first, room):
    """Add the listed edges of the rows from `first` on to their room."""
    for p in range(neighbors.shape[0]):
        if keep[first + p]:
            for j in neighbors[p]:
                if j >= 0 and keep[j]:
                    room[p] += 1
