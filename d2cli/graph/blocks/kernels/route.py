"""Chooses, for each row, the nearest of the blocks in the cells nearest to it."""

from typing import NamedTuple

import numpy as np

from d2cli.graph.blocks.kernels.cells import Packed, nearest_cells
from d2cli.graph.blocks.sizes import BLOCK_ROWS, EMPTY, ROUTED_ROWS
from d2cli.runtime.arrays import Int32, Int64, UInt8
from d2cli.runtime.int8.compare import above, differences, ones, trailing_zeros
from d2cli.runtime.int8.sizes import MASKED, QUERIES
from d2cli.runtime.jit import borrowing_kernel, kernel

#: Up to this many cells of a row are kept in a sorted list.
_FEW_CELLS = 6
#: Below the scores of all blocks and of places without one.
_NOTHING = -(2**31)


class Signposts(NamedTuple):
    """The centres of all blocks, packed cell by cell."""

    packed: Packed
    packs: Int64  # (cells + 1,); the packs of cell c are packs[c] … packs[c + 1]
    first: Int64  # (packs,), the first block of each pack
    cells: Int64  # (cells + 1,); the blocks of cell c are cells[c] … cells[c + 1]

    @classmethod
    def of(cls, centres: UInt8, cells: Int64) -> "Signposts":
        """From the centres (blocks, r) of the blocks, which lie in the order of their cells."""
        counts = -(-np.diff(cells) // BLOCK_ROWS)
        packs = np.concatenate([[0], np.cumsum(counts)])
        within = np.arange(packs[-1]) - np.repeat(packs[:-1], counts)
        first = np.repeat(cells[:-1], counts) + BLOCK_ROWS * within
        return cls(Packed.of(centres, np.append(first, cells[-1])), packs, first, cells)


def choose_blocks(codes: UInt8, cells: Int32, posts: Signposts, probes: int) -> Int32:
    """The `probes` nearest blocks (n, probes) among those of the cells of each row, or -1.

    The nearest is the first, the others are in no order; of equally near blocks the first are
    taken. `cells` (n, q) are cells near each row of codes (n, r), without repeats.
    """
    chosen = np.full((len(codes), probes), -1, np.int32)
    _choose_blocks(codes, cells, *posts.packed, posts.packs, posts.first, chosen)
    return chosen


def cells_near(codes: UInt8, centres: UInt8, size: int) -> Int32:
    """The `size` nearest centres (n, size) of each row of codes, the nearest first.

    The others come in no order. They are those of ``nearest_cells``, but for ties, and are found
    faster if they are many.
    """
    if size <= _FEW_CELLS:
        return nearest_cells(codes, centres, size)
    every = Signposts.of(centres, np.array([0, len(centres)]))
    return choose_blocks(codes, np.zeros((len(codes), 1), np.int32), every, size)


def ranks_of(codes: UInt8, cells: Int32, posts: Signposts, wanted: Int32) -> Int64:
    """How many of the blocks in the cells of each row are nearer than the `wanted` ones (n, m).

    A block that is in none of these cells has a rank above those of all others.
    """
    ranks = np.full(wanted.shape, len(posts.packed.halves) * BLOCK_ROWS)
    _rank(codes, cells, *posts.packed, posts.packs, posts.first, posts.cells, wanted, ranks)
    return ranks


@kernel
def _choose_blocks(codes, cells, points, offsets, halves, packs, first, chosen):
    work, scores, seen, used = _workspace(cells, packs)
    flat = scores.reshape(ROUTED_ROWS, seen.shape[1] * BLOCK_ROWS)
    for start in range(0, codes.shape[0], ROUTED_ROWS):
        stop = min(start + ROUTED_ROWS, codes.shape[0])
        _see_blocks(
            codes, cells, start, stop, points, offsets, halves, packs, *work, scores, seen, used
        )  # fmt: skip
        for i in range(start, stop):
            _keep_best(flat, seen, used, i - start, first, i, chosen)


@kernel
def _rank(codes, cells, points, offsets, halves, packs, first, blocks, wanted, ranks):
    work, scores, seen, used = _workspace(cells, packs)
    flat = scores.reshape(ROUTED_ROWS, seen.shape[1] * BLOCK_ROWS)
    for start in range(0, codes.shape[0], ROUTED_ROWS):
        stop = min(start + ROUTED_ROWS, codes.shape[0])
        _see_blocks(
            codes, cells, start, stop, points, offsets, halves, packs, *work, scores, seen, used
        )  # fmt: skip
        for i in range(start, stop):
            row = i - start
            for m in range(wanted.shape[1]):
                for u in range(used[row]):
                    lane = wanted[i, m] - first[seen[row, u]]
                    # A pack ends where the next one, of the same cell or not, begins.
                    pack = seen[row, u]
                    size = (first[pack + 1] if pack + 1 < first.shape[0] else blocks[-1]) - first[
                        pack
                    ]
                    if 0 <= lane < size:
                        own, nearer = flat[row, u * BLOCK_ROWS + lane], 0
                        for y in range(used[row] * BLOCK_ROWS):
                            nearer += flat[row, y] > own
                        ranks[i, m] = nearer


@kernel
def _workspace(cells, packs):
    """What :func:`_see_blocks` works with, and the three arrays that it fills."""
    widest, most = _widest(cells, packs), ROUTED_ROWS * cells.shape[1]
    scores = np.empty((ROUTED_ROWS * widest, BLOCK_ROWS), np.int32)
    seen, used = np.empty((ROUTED_ROWS, widest), np.int64), np.empty(ROUTED_ROWS, np.int64)
    slots, found_cells = np.full(packs.shape[0] - 1, -1, np.int32), np.empty(most, np.int64)
    ends, filled = np.empty(most + 1, np.int64), np.empty(most, np.int64)
    looking, query = np.empty(most, np.int64), np.empty(QUERIES, np.int64)
    targets = np.empty(QUERIES, np.int64)
    work = (slots, found_cells, ends, filled, looking, query, targets)
    return work, scores, seen, used


@kernel
def _widest(cells, packs):
    """The most packs that the cells of one row have."""
    widest = 1
    for i in range(cells.shape[0]):
        count = 0
        for c in range(cells.shape[1]):
            if cells[i, c] >= 0:
                count += packs[cells[i, c] + 1] - packs[cells[i, c]]
        widest = max(widest, count)
    return widest + widest % 2  # whole masks


@borrowing_kernel
def _see_blocks(
    codes, cells, start, stop, points, offsets, halves, packs, slots, found_cells, ends, filled,
    looking, chosen, targets, scores, seen, used,
):  # fmt: skip
    """Write the packs that each row sees to `seen`, and the scores of their centres to `scores`."""
    # Pairs of a row and a cell are sorted by cell, so that its rows are compared together.
    near = cells.shape[1]
    count = 0
    for i in range(start, stop):
        for c in range(near):
            cell = cells[i, c]
            if cell < 0:
                continue
            if slots[cell] < 0:
                slots[cell] = count
                found_cells[count], ends[count + 1] = cell, 0
                count += 1
            ends[slots[cell] + 1] += 1
    ends[0] = 0
    for z in range(count):
        ends[z + 1] += ends[z]
        filled[z] = ends[z]
    for i in range(start, stop):
        for c in range(near):
            if cells[i, c] < 0:
                continue
            z = slots[cells[i, c]]
            looking[filled[z]] = i
            filled[z] += 1
        used[i - start] = 0
    for z in range(count):
        slots[found_cells[z]] = -1
        for pack in range(packs[found_cells[z]], packs[found_cells[z] + 1]):
            _see_pack(
                codes, start, looking, ends[z], ends[z + 1], pack, points, offsets, halves, chosen,
                targets, scores, seen, used,
            )  # fmt: skip


@borrowing_kernel
def _see_pack(
    codes, start, looking, begin, end, pack, points, offsets, halves, chosen, targets, scores, seen,
    used,
):  # fmt: skip
    widest = seen.shape[1]
    for x in range(begin, end, QUERIES):
        for k in range(QUERIES):
            i = looking[min(x + k, end - 1)]
            row = i - start
            chosen[k], targets[k] = i, row * widest + used[row]
            if x + k < end:
                seen[row, used[row]] = pack
                used[row] += 1
            else:  # the last row again: the same numbers in the same place
                targets[k] = targets[k - 1]
        differences(points, offsets, halves, pack, codes, chosen, targets, scores)


@borrowing_kernel
def _keep_best(scores, seen, used, row, first, i, chosen):
    """chosen[i] <- the blocks with the best scores[row], as many as there is room for."""
    size, room = used[row] * BLOCK_ROWS, chosen.shape[1]
    for y in range(size, (size + MASKED - 1) // MASKED * MASKED):
        scores[row, y] = _NOTHING
    bound = _threshold(scores, row, size, room)
    filled, best, nearest = 0, bound, 0
    for begin in range(0, size, MASKED):
        mask = above(scores, row, begin, bound)
        while mask != 0:
            y = begin + trailing_zeros(mask)
            mask &= mask - 1
            chosen[i, filled] = first[seen[row, y // BLOCK_ROWS]] + y % BLOCK_ROWS
            if scores[row, y] > best:
                best, nearest = scores[row, y], filled
            filled += 1
    begin = 0
    while filled < room and begin < size and bound > EMPTY:  # of those at the bound, the first
        mask = above(scores, row, begin, bound - 1) & ~above(scores, row, begin, bound)
        while mask != 0 and filled < room:
            y = begin + trailing_zeros(mask)
            mask &= mask - 1
            chosen[i, filled] = first[seen[row, y // BLOCK_ROWS]] + y % BLOCK_ROWS
            filled += 1
        begin += MASKED
    chosen[i, 0], chosen[i, nearest] = chosen[i, nearest], chosen[i, 0]


@borrowing_kernel
def _threshold(scores, row, size, wanted):
    """A bound that at most `wanted` of scores[row, :size] exceed, and no smaller one more of them.

    EMPTY if all may exceed it. At places without a block, scores are below EMPTY.
    """
    if _count_above(scores, row, size, np.int32(EMPTY)) <= wanted:
        return np.int32(EMPTY)
    high = np.int32(EMPTY)
    for y in range(size):
        high = max(high, scores[row, y])
    low = high
    for y in range(size):
        low = min(low, scores[row, y] if scores[row, y] > EMPTY else high)
    low -= np.int32(1)
    while high - low > 1:  # more than `wanted` exceed low, at most `wanted` exceed high
        middle = np.int32(low + (high - low) // 2)
        count = _count_above(scores, row, size, middle)
        if count == wanted:
            return middle
        if count > wanted:
            low = middle
        else:
            high = middle
    return high


@borrowing_kernel
def _count_above(scores, row, size, bound):
    count = 0
    for begin in range(0, size, MASKED):
        count += ones(above(scores, row, begin, bound))
    return count
