"""Arranges codes in blocks: by cell, carved, moved to the nearest block, and carved again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from d2cli.graph.blocks.kernels.carve import carve
from d2cli.graph.blocks.sizes import BLOCK_ROWS
from d2cli.runtime.arrays import Bools, Int32, Int64, UInt8
from d2cli.runtime.int8.sizes import BIAS
from d2cli.runtime.jit import kernel


def cut_into_groups(counts: Int64, wanted: int) -> Int64:
    """The first cell of each group, and the number of cells: runs of cells of about equal rows.

    `counts` (cells,) are rows per cell, `wanted` is the number of groups.
    """
    ends = np.cumsum(counts)
    group = np.minimum(np.maximum(ends - 1, 0) * wanted // max(ends[-1], 1), wanted - 1)
    firsts = np.flatnonzero(np.diff(group, prepend=-1))
    return np.append(firsts, len(counts))


def starts_of(counts: Int64) -> Int64:
    """Where each of `counts` (m,) things starts, and their sum: (m + 1,) int64."""
    return np.concatenate([[0], np.cumsum(counts)])


def unlisted(more: Int32, listed: Int32) -> Int32:
    """Further candidates `more` (m, k) of rows, -1 in place of those in `listed` (m, any)."""
    known = (more[:, :, None] == listed[:, None, :]).any(axis=2)
    return np.where(known, np.int32(-1), more)


def block_centres(codes: UInt8, starts: Int64) -> UInt8:
    """The rounded means (blocks, r) of the blocks starts[b] … starts[b + 1], none empty, of codes.

    Means are rounded half up.
    """
    sums = np.add.reduceat(codes, starts[:-1], axis=0, dtype=np.int32)
    sizes = np.diff(starts).astype(np.int32)[:, None]
    return ((2 * sums + sizes) // (2 * sizes)).astype(np.uint8)


def carve_again(codes: UInt8, counts: Int64, packs: Int64) -> tuple[Int64, Int64, Int64]:
    """Carve rows that lie sorted by their nearest block; small neighbouring blocks are merged.

    Args:
        codes: (n, r).
        counts: (blocks,) rows of each block.
        packs: (blocks,) the pack of each block, ascending.

    Returns:
        order (n,), starts (blocks + 1,), and the pack of each of the new blocks, none empty.
    """
    starts, segment_packs = _merged(starts_of(counts), packs)
    order, ends = carve(codes, starts)
    segment = np.searchsorted(starts, ends[:-1], side="right") - 1
    return order, ends, segment_packs[segment]


def _merged(starts: Int64, packs: Int64) -> tuple[Int64, Int64]:
    """Join runs of blocks of a pack that fit into one block; empty ones disappear."""
    ends: list[int] = [0]
    of: list[int] = []
    for first, last, pack in zip(
        starts[:-1].tolist(), starts[1:].tolist(), packs.tolist(), strict=True
    ):
        if last == first:
            continue
        fits = len(ends) > 1 and of[-1] == pack and last - ends[-2] <= BLOCK_ROWS
        if fits:
            ends[-1] = last
        else:
            ends.append(last)
            of.append(pack)
    return np.array(ends), np.array(of, np.int64)


def unpack(points: NDArray[np.int8], halves: Int32, starts: Int64) -> tuple[UInt8, Int32]:
    """Codes (n, r) and half square norms (n,) of the rows of packed blocks."""
    filled = filled_places(starts)
    codes = points.transpose(0, 2, 1, 3).reshape(len(points), BLOCK_ROWS, -1)[filled]
    return codes.view(np.uint8) ^ np.uint8(BIAS), halves[filled]


def filled_places(starts: Int64) -> Bools:
    """(blocks, 32) bool, which places of packed blocks hold a row."""
    return np.arange(BLOCK_ROWS) < np.diff(starts)[:, None]


def by_block(chosen: Int32, blocks: int) -> tuple[Int32, Int32, Int32]:
    """Sort (row, block) pairs by block.

    Args:
        chosen: (n, p) blocks of each row, -1 for none.
        blocks: the number of all blocks.

    Returns:
        keys (m,), the blocks that are chosen at all, ascending; ends (m + 1,) and rows (pairs,):
        ``rows[ends[z]:ends[z + 1]]``, ascending, have chosen block ``keys[z]``.
    """
    counts = np.zeros(blocks + 1, np.int32)
    _count_pairs(chosen, counts)
    keys = np.flatnonzero(counts[1:]).astype(np.int32)
    ends = np.concatenate([[0], np.cumsum(counts[keys + 1])]).astype(np.int32)
    rows = np.empty(ends[-1], np.int32)
    counts[keys] = ends[:-1]
    _fill_pairs(chosen, counts, rows)
    return keys, ends, rows


@kernel
def _count_pairs(chosen, counts):
    for i in range(chosen.shape[0]):
        for p in range(chosen.shape[1]):
            if chosen[i, p] >= 0:
                counts[chosen[i, p] + 1] += 1


@kernel
def _fill_pairs(chosen, at, rows):
    for i in range(chosen.shape[0]):
        for p in range(chosen.shape[1]):
            block = chosen[i, p]
            if block >= 0:
                rows[at[block]] = i
                at[block] += 1
