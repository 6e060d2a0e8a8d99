"""Arranges codes in blocks: by cell, carved, moved to the nearest block, and carved again."""

from __future__ import annotations

import numpy as np

from d2cli.graph.blocks.carve import carve
from d2cli.graph.blocks.sizes import BLOCK_ROWS
from d2cli.runtime.arrays import Int32, Int64, UInt8
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


def block_centres(codes: UInt8, starts: Int64) -> UInt8:
    """The rounded means (blocks, r) of the blocks starts[b] … starts[b + 1] of codes (n, r)."""
    centres = np.empty((len(starts) - 1, codes.shape[1]), np.uint8)
    _average_blocks(codes, starts, centres)
    return centres


def carve_again(codes: UInt8, counts: Int64, cells: Int64) -> tuple[Int64, Int64, Int64]:
    """Carve rows that lie sorted by their nearest block; small neighbouring blocks are merged.

    Args:
        codes: (n, r).
        counts: (blocks,) rows of each block.
        cells: (blocks,) the cell of each block, ascending.

    Returns:
        order (n,), starts (blocks + 1,), and the cell of each of the new blocks, none empty.
    """
    starts, segment_cells = _merged(starts_of(counts), cells)
    order, ends = carve(codes, starts)
    segment = np.searchsorted(starts, ends[:-1], side="right") - 1
    return order, ends, segment_cells[segment]


def _merged(starts: Int64, cells: Int64) -> tuple[Int64, Int64]:
    """Join runs of blocks of a cell that fit into one block; empty ones disappear."""
    last, kept = _merge(starts, cells, np.zeros(len(cells), np.bool_))
    return np.concatenate([[0], last[kept]]), cells[kept]


@kernel
def _merge(starts, cells, kept):
    """kept[b] <- whether a run ends with block b, at starts[b + 1]; returns these ends too."""
    begin = starts[0]
    for b in range(cells.shape[0]):
        if starts[b + 1] == begin:
            continue
        ends = b + 1 == cells.shape[0] or cells[b + 1] != cells[b]
        if not ends:
            size, following = starts[b + 1] - begin, starts[b + 2] - starts[b + 1]
            ends = size + following > BLOCK_ROWS
        if ends:
            kept[b] = True
            begin = starts[b + 1]
    return starts[1:], kept


@kernel
def _average_blocks(codes, starts, centres):
    sums = np.empty(codes.shape[1], np.int64)
    for b in range(centres.shape[0]):
        size = starts[b + 1] - starts[b]
        sums[:] = 0
        for i in range(starts[b], starts[b + 1]):
            for t in range(codes.shape[1]):
                sums[t] += codes[i, t]
        for t in range(codes.shape[1]):
            centres[b, t] = (2 * sums[t] + size) // (2 * size)


def unpack(points: np.ndarray, halves: Int32, starts: Int64) -> tuple[UInt8, Int32]:
    """Codes (n, r) and half square norms (n,) of the rows of packed blocks."""
    n = int(starts[-1])
    codes, row_halves = np.empty((n, points.shape[1] * 4), np.uint8), np.empty(n, np.int32)
    _unpack(points, halves, starts, codes, row_halves)
    return codes, row_halves


@kernel
def _unpack(points, halves, starts, codes, row_halves):
    for b in range(points.shape[0]):
        for lane in range(starts[b + 1] - starts[b]):
            i = starts[b] + lane
            row_halves[i] = halves[b, lane]
            for t in range(points.shape[1]):
                for d in range(points.shape[3]):
                    codes[i, t * points.shape[3] + d] = np.int32(points[b, t, lane, d]) + BIAS


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
