"""Rows whose neighbours lie so near that their codes cannot tell them apart.

One scale serves all rows, so where some groups of rows are a thousand times tighter than others,
the codes of a tight group are equal. Such rows are *tight*: they are searched again, among the
tight rows of their own cell and of cells whose centres are as near, at a scale of their own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from d2cli.graph.blocks.kernels.components import flatten, runs, unite
from d2cli.graph.blocks.plan import are_tight
from d2cli.graph.blocks.search import BlockSearch
from d2cli.graph.vectors import Group
from d2cli.runtime.arrays import Bools, Int32, Int64, UInt8
from d2cli.runtime.jit import kernel

#: Squared distance of centres, in the same unit, up to which cells are searched together.
_NEAR_CENTRES = 4.0

#: Rows whose neighbours wait to be stored.
_WAITING = 1 << 18

#: Takes a group and the place of its first row; returns neighbors (n, k), numbers of the group.
Solve = Callable[[Group, int], Int32]


def tight_rows(search: BlockSearch) -> list[Bools]:
    """Which rows of each group are tight, (m,) bool each, by the k-th row of their lists."""
    return [
        are_tight(search.halves_of(g), search.store.get(search.lists, g, "scores"), search.plan)
        for g in range(search.layout.groups)
    ]


def search_again(search: BlockSearch, tight: list[Bools], solve: Solve) -> None:
    """Store, for every group, the neighbours that `solve` finds for its tight rows.

    Part ``tight`` of a group has `at` (m,), which count its rows, and `neighbors` (m, k), numbers
    of rows, -1 for none.
    """
    joined = joined_cells(search.plan.centres, _NEAR_CENTRES * search.plan.coder.width)
    layout = search.layout
    places = np.concatenate([
        np.flatnonzero(one) + first for one, first in zip(tight, layout.first_places, strict=False)
    ])  # fmt: skip
    component = joined[layout.chart.cell_of_block(layout.block_of_place[places])]
    numbers = layout.numbers_at(places.astype(np.int32))
    search.store.forget("tight")  # of a run that was stopped
    found: list[tuple[Int64, Int32]] = []
    waiting = 0
    for some in runs(component):
        members = some[np.argsort(numbers[some], kind="stable")]  # a group's rows ascend
        if len(members) > 1:
            own = numbers[members].astype(np.int64)
            group = Group(search.group.vectors, search.group.rows_at(own))
            near = solve(group, int(places[members[0]]))
            listed = np.where(near < 0, -1, own[near]).astype(np.int32)
            found.append((places[members], listed))
            waiting += len(members)
        if waiting > _WAITING:
            _store(search, found)
            found, waiting = [], 0
    if found:
        _store(search, found)
    search.find_tight()


def _store(search: BlockSearch, found: list[tuple[Int64, Int32]]) -> None:
    """Add the neighbours of rows at some places to the parts of their groups."""
    places = np.concatenate([one for one, _ in found])
    neighbors = np.concatenate([listed for _, listed in found])
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
