"""Cells: centres fitted by k-means on codes, and the cells nearest to each row.

All sums are sums of integers, so nothing here depends on threads or instruction sets.
"""

from typing import NamedTuple

import numpy as np

from d2cli.engine.threads import for_blocks
from d2cli.graph.blocks.kernels.codes import half_norms
from d2cli.graph.blocks.sizes import BLOCK_ROWS, EMPTY, FIT_PASSES, FIT_ROWS
from d2cli.runtime.arrays import Int32, Int64, UInt8
from d2cli.runtime.int8.blocks import pack
from d2cli.runtime.int8.compare import compare, trailing_zeros
from d2cli.runtime.int8.sizes import ALWAYS, GROUP, NEVER, QUERIES
from d2cli.runtime.jit import borrowing_kernel, kernel

#: Rows that are compared with all centres before the next ones; their codes stay in the cache.
_TILE = 64
#: Rows of one piece of work.
_PIECE = 4096


class Packed(NamedTuple):
    """Points packed in blocks of at most 32, as :mod:`d2cli.runtime.int8.compare` reads them."""

    points: np.ndarray  # (B, r / 4, 32, 4) int8
    offsets: Int32  # (B, 32)
    halves: Int32  # (B, 32), half the square norms; NEVER at empty places

    @classmethod
    def of(cls, codes: UInt8, starts: Int64) -> "Packed":
        """Pack codes (n, r); block b holds the points starts[b] … starts[b + 1], at most 32."""
        count = len(starts) - 1
        halves = np.empty(len(codes), np.int32)
        half_norms(codes, halves)
        packed = cls(
            np.empty((count, codes.shape[1] // GROUP, BLOCK_ROWS, GROUP), np.int8),
            np.empty((count, BLOCK_ROWS), np.int32), np.empty((count, BLOCK_ROWS), np.int32),
        )  # fmt: skip
        pack(codes, halves, starts, packed.points, packed.halves, packed.offsets)
        return packed


def full_blocks(count: int) -> Int64:
    """The starts of blocks that hold `count` points, all full but the last."""
    return np.minimum(np.arange(-(-count // BLOCK_ROWS) + 1) * BLOCK_ROWS, count)


def fit_cells(sample: UInt8, count: int, rng: np.random.Generator, threads: int) -> UInt8:
    """Centres (count, r) uint8 by k-means on a sample (n, r) of codes, n >= count.

    Near centres have near numbers.
    """
    centres = sample[np.sort(rng.choice(len(sample), count, replace=False))]
    for _ in range(FIT_PASSES):
        labels = nearest_cells(sample, centres, 1, threads)[:, 0]
        sums, sizes = np.zeros(centres.shape, np.int64), np.zeros(count, np.int64)
        _add_up(sample, labels, sums, sizes)
        filled = sizes > 0
        means = sums[filled] * 2 + sizes[filled, None]
        centres[filled] = means // (2 * sizes[filled, None])  # rounded half up
        # A centre without rows moves to a row of one of the largest cells. If more centres than
        # cells with rows are without, the codes have few distinct rows: the others stay.
        empty, largest = np.flatnonzero(~filled), np.argsort(-sizes, kind="stable")
        for cell, large in zip(empty, largest[: np.count_nonzero(filled)], strict=False):
            centres[cell] = sample[np.flatnonzero(labels == large)[-1]]
    return centres[_in_tree_order(centres)]


def fit_size(cells: int) -> int:
    """The number of rows that `cells` centres are fitted to."""
    return cells * FIT_ROWS


def nearest_cells(codes: UInt8, centres: UInt8, size: int, threads: int = 1) -> Int32:
    """The `size` nearest centres (n, size) of each row, nearest first, ties by number.

    `size` is at most the number of centres.
    """
    packed = Packed.of(centres, full_blocks(len(centres)))
    never = np.full(packed.halves.shape, NEVER, np.int32)
    cells = np.empty((len(codes), size), np.int32)

    def find(start: int, stop: int) -> None:
        _find_nearest(codes, start, stop, *packed, never, cells)

    for_blocks(find, len(codes), _PIECE, threads)
    return cells


@kernel
def _find_nearest(codes, start, stop, points, offsets, halves, never, cells):
    tile = np.empty((_TILE, cells.shape[1]), np.int32)
    chosen, unused = np.empty(QUERIES, np.int64), np.zeros(QUERIES, np.int32)
    bounds, scores = np.empty(QUERIES, np.int32), np.empty((QUERIES, BLOCK_ROWS), np.int32)
    near, far = np.empty(QUERIES, np.int64), np.empty(QUERIES, np.int64)
    for first in range(start, stop, _TILE):
        last = min(first + _TILE, stop)
        tile[:] = EMPTY
        for b in range(points.shape[0]):
            _see_centres(
                codes, first, last, b, points, offsets, halves, never, tile, cells, chosen, unused,
                bounds, scores, near, far,
            )  # fmt: skip


@borrowing_kernel
def _see_centres(
    codes, first, last, b, points, offsets, halves, never, tile, cells, chosen, unused, bounds,
    scores, near, far,
):  # fmt: skip
    """Offer the centres of block b to the rows first … last, whose best scores are in `tile`."""
    size = cells.shape[1]
    for x in range(first, last, QUERIES):
        for k in range(QUERIES):
            chosen[k] = min(x + k, last - 1)
            bounds[k] = tile[chosen[k] - first, size - 1] if x + k < last else NEVER
        if compare(
            points, offsets, halves, never, b, codes, chosen, unused, bounds, scores, near, far
        ) == 0:  # fmt: skip
            continue
        for k in range(QUERIES):
            mask, i, t = near[k], chosen[k], chosen[k] - first
            while mask != 0:
                lane = trailing_zeros(mask)
                mask &= mask - 1
                score = scores[k, lane] - halves[b, lane]
                if score > tile[t, size - 1]:
                    place = size - 1
                    while place > 0 and tile[t, place - 1] < score:
                        tile[t, place], cells[i, place] = tile[t, place - 1], cells[i, place - 1]
                        place -= 1
                    tile[t, place], cells[i, place] = score, b * BLOCK_ROWS + lane


@kernel
def _add_up(codes, labels, sums, sizes):
    for i in range(codes.shape[0]):
        sizes[labels[i]] += 1
        for t in range(codes.shape[1]):
            sums[labels[i], t] += codes[i, t]


def _in_tree_order(points: UInt8) -> Int64:
    """An order of points (n, r) in which near points are near: halved again and again.

    They are halved at the median of their widest coordinate.
    """
    done, waiting = [], [np.arange(len(points))]
    while waiting:
        mine = waiting.pop()
        if len(mine) <= 1:
            done.append(mine)
            continue
        some = points[mine]
        widest = int(np.argmax(some.max(axis=0) - some.min(axis=0)))
        mine = mine[np.argsort(some[:, widest], kind="stable")]
        waiting += [mine[len(mine) // 2 :], mine[: len(mine) // 2]]
    return np.concatenate(done)


assert EMPTY == ALWAYS  # the first bound of a list admits every point
