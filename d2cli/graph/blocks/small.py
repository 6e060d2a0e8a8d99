"""The search of one small group: codes at its own scale, and all pairs of its blocks."""

from __future__ import annotations

import numpy as np

from d2cli.graph.blocks.kernels.arrange import unlisted
from d2cli.graph.blocks.kernels.carve import carve
from d2cli.graph.blocks.kernels.cells import Packed
from d2cli.graph.blocks.kernels.codes import fit_coder
from d2cli.graph.blocks.kernels.components import flatten, runs, unite
from d2cli.graph.blocks.kernels.lists import accept, meet, meet_at_home
from d2cli.graph.blocks.meeting import own_blocks
from d2cli.graph.blocks.sizes import BLOCK_ROWS, BOX_OFFERS, EMPTY, MOST_DIMENSIONS, TELLING
from d2cli.graph.distances import nearest_of_all, rank_rows
from d2cli.graph.vectors import Group
from d2cli.runtime.arrays import Float32, Int32, Int64, UInt8
from d2cli.runtime.jit import kernel

#: Rows of the largest such group.
SMALL_ROWS = 4096
#: Fewer rows are compared by true distances at once.
_FEW_ROWS = 96
#: Candidates beyond twice k.
_SPARE = 12


def small_neighbors(group: Group, k: int, seed: int = 0) -> tuple[Int32, Float32]:
    """The k nearest neighbours of every row of a group of at most SMALL_ROWS rows.

    Rows that codes of the group cannot tell apart are searched again among themselves.

    Returns:
        neighbors (n, k), numbers of the group, and distances (n, k).
    """
    group = Group(group.block(0, len(group)))
    n, rows = len(group), group.all_rows()
    if n <= _FEW_ROWS:
        return nearest_of_all(rows, group, k)
    coder = fit_coder(group, MOST_DIMENSIONS, np.random.default_rng(seed), 1)
    codes, halves = coder.encode(group.block(0, n))
    order, starts = carve(codes, np.array([0, n]))
    codes, halves = codes[order], halves[order]
    scores, places = _all_pairs(codes, halves, starts, min(2 * k + _SPARE, n - 1))
    last = scores[:, min(k, scores.shape[1]) - 1].astype(np.int64)
    telling = TELLING * codes.shape[1]
    tight = 2 * (halves - last) < telling
    candidates = np.full((n, places.shape[1] + k), -1, np.int32)
    candidates[order, : places.shape[1]] = np.where(places < 0, -1, order[places])
    labels = np.arange(n)
    _link(scores, places, halves, telling, labels)
    for some in runs(np.where(tight, labels, -1)):
        if not tight[some[0]] or len(some) == 1:
            continue
        members = np.sort(order[some])
        if len(members) < n:
            near, _ = small_neighbors(Group(group.vectors, members), k, seed)
            more = np.where(near < 0, -1, members[near]).astype(np.int32)
        else:  # a scale of their own would be the same one
            more, _ = nearest_of_all(rows, group, k)
        known = candidates[members, : places.shape[1]]
        candidates[members, places.shape[1] :] = unlisted(more, known)
    return rank_rows(group.vectors, rows, candidates, k)


@kernel
def _link(scores, places, halves, square, labels):
    """Labels (n,) <- the lowest row that a row is linked with, by pairs nearer than `square`."""
    for i in range(places.shape[0]):
        for p in range(places.shape[1]):
            if places[i, p] < 0 or 2 * (halves[i] - scores[i, p]) >= square:
                break
            unite(labels, i, np.int64(places[i, p]))
    flatten(labels)


def _all_pairs(codes: UInt8, halves: Int32, starts: Int64, size: int) -> tuple[Int32, Int32]:
    """The lists (scores, places) of all rows after all blocks have met."""
    n = len(codes)
    packed, own = Packed.of(codes, starts), own_blocks(starts)
    scores, places = np.full((n, size), EMPTY, np.int32), np.full((n, size), -1, np.int32)
    bounds = np.empty((len(starts) - 1, BLOCK_ROWS), np.int32)
    meet_at_home(codes, starts, *packed, 0, scores, places, bounds)
    box = np.empty((max(BOX_OFFERS, n * BLOCK_ROWS), 3), np.int32)
    keys, rows = np.arange(len(bounds), dtype=np.int32), np.arange(n, dtype=np.int32)
    pairs = keys, np.zeros_like(keys), starts[:-1].astype(np.int32), rows
    at = 0
    while at < len(keys):
        at, filled = meet(
            codes, halves, own, starts, 0, scores, places, bounds, True,
            *packed, starts, 0, bounds, *pairs, at, 0, box, 0,
        )  # fmt: skip
        accept(box[:filled], own, starts, scores, places, bounds)
    return scores, places
