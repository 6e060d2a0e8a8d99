"""Rows whose neighbours lie so near that their codes cannot tell them apart.

One scale serves all rows, so where some groups of rows are a thousand times tighter than others,
the codes of a tight group are equal. Such rows are *tight*: they are searched again, among the
tight rows of their own cell and of cells whose centres are as near, at a scale of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from d2cli.engine.store import PartStore
from d2cli.graph.blocks.kernels.components import flatten, runs, unite
from d2cli.graph.blocks.plan import are_tight
from d2cli.graph.blocks.search import BlockSearch
from d2cli.graph.blocks.small import SMALL_ROWS, small_neighbors
from d2cli.graph.vectors import Group
from d2cli.runtime.arrays import Int32, Int64, UInt8
from d2cli.runtime.jit import kernel

#: Squared distance of centres, in the same unit, up to which cells are searched together.
_NEAR_CENTRES = 4.0

#: Parts with the places of tight rows, and with their neighbours before these are sorted by group.
_MARKED, _SOLVED = "tight places", "tight solved"

#: Rows that are searched again in one task, about.
_TOGETHER = 1 << 14

#: Takes a group and the place of its first row; returns neighbors (n, k), numbers of the group.
Solve = Callable[[Group, int], Int32]


class _Cluster(NamedTuple):
    """Tight rows that are searched among themselves, at least two, ascending by number."""

    places: Int64
    numbers: Int64

    def group(self, whole: Group) -> Group:
        """These rows of a whole group."""
        return Group(whole.vectors, whole.rows_at(self.numbers))

    def listed(self, near: Int32) -> Int32:
        """Neighbours that are numbers of the cluster, as numbers of the whole group."""
        return np.where(near < 0, -1, self.numbers[near]).astype(np.int32)


def search_again(search: BlockSearch, k: int, seed: int, solve: Solve) -> None:
    """Store, for every group, neighbours of its tight rows, judged by the k-th row of their lists.

    Part ``tight`` of a group has `at` (m,), which count its rows, and `neighbors` (m, k), numbers
    of rows, -1 for none. Small clusters of tight rows are searched in tasks, larger ones by
    `solve`.
    """
    small: list[list[_Cluster]] = [[]]
    large: list[_Cluster] = []
    waiting = 0
    for cluster in _clusters(search):
        if len(cluster.places) > SMALL_ROWS or len(cluster.places) == len(search.group):
            large.append(cluster)
            continue
        if waiting >= _TOGETHER:
            small.append([])
            waiting = 0
        small[-1].append(cluster)
        waiting += len(cluster.places)
    tasks = [_Task(at, some) for at, some in enumerate(small) if some]
    work = partial(_search_small, search.store, search.group, k, seed)
    search.engine.each(work, [task for task in tasks if not search.store.has(_SOLVED, task.number)])
    for at, cluster in enumerate(large, len(tasks)):
        if not search.store.has(_SOLVED, at):
            near = solve(cluster.group(search.group), int(cluster.places[0]))
            search.store.put(_SOLVED, at, places=cluster.places, neighbors=cluster.listed(near))
    search.store.forget("tight")  # of a run that was stopped
    for at in range(len(tasks) + len(large)):
        found = search.store.whole(_SOLVED, at)
        _store(search, found["places"], found["neighbors"])
    search.store.forget(_SOLVED, _MARKED)
    search.find_tight()


def _clusters(search: BlockSearch) -> Iterator[_Cluster]:
    """The tight rows, by cells with near centres."""
    layout, store = search.layout, search.store
    still = [g for g in search.groups if not store.has(_MARKED, g)]
    search.engine.each(partial(_mark, search), still)
    places = np.concatenate([store.get(_MARKED, g, "places") for g in search.groups])
    joined = joined_cells(search.plan.centres, _NEAR_CENTRES * search.plan.coder.width)
    component = joined[layout.chart.cell_of_block(layout.block_of_place[places])]
    numbers = layout.numbers_at(places.astype(np.int32))
    for some in runs(component):
        if len(some) > 1:
            members = some[np.argsort(numbers[some], kind="stable")]  # a group's rows ascend
            yield _Cluster(places[members], numbers[members].astype(np.int64))


def _mark(search: BlockSearch, g: int) -> None:
    """Store the places of the tight rows of a group."""
    scores = search.store.get(search.lists, g, "scores")
    tight = are_tight(search.halves_of(g), scores, search.plan)
    places = np.flatnonzero(tight) + search.layout.first_places[g]
    search.store.put(_MARKED, g, places=places)


class _Task(NamedTuple):
    """Clusters that are searched in one task."""

    number: int
    clusters: list[_Cluster]


def _search_small(store: PartStore, group: Group, k: int, seed: int, task: _Task) -> None:
    """Store the neighbours of the rows of small clusters."""
    found = [
        cluster.listed(small_neighbors(cluster.group(group), k, seed)[0])
        for cluster in task.clusters
    ]
    places = np.concatenate([cluster.places for cluster in task.clusters])
    store.put(_SOLVED, task.number, places=places, neighbors=np.concatenate(found))


def _store(search: BlockSearch, places: Int64, neighbors: Int32) -> None:
    """Add the neighbours of rows at some places to the parts of their groups."""
    for g, mine in search.layout.by_group(places):
        at, listed = places[mine] - search.layout.first_places[g], neighbors[mine]
        if search.store.has("tight", g):
            at = np.concatenate([search.store.get("tight", g, "at"), at])
            listed = np.concatenate([search.store.get("tight", g, "neighbors"), listed])
        order = np.argsort(at, kind="stable")
        search.store.put("tight", g, at=at[order], neighbors=listed[order])


def joined_cells(centres: UInt8, square: float) -> Int64:
    """The lowest cell (cells,) that each cell is joined with, through near centres of any number.

    `centres` are (cells, r); two are near if their squared distance is at most `square`.
    """
    joined = np.arange(len(centres))
    _join(centres, square, joined)
    return joined


@kernel
def _join(centres, square, joined):
    for a in range(centres.shape[0]):
        for b in range(a):
            away = np.int64(0)
            for t in range(centres.shape[1]):
                gap = np.int64(centres[a, t]) - np.int64(centres[b, t])
                away += gap * gap
                if away > square:
                    break
            if away <= square:
                unite(joined, a, b)
    flatten(joined)
