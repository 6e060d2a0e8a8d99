"""Carves rows into blocks of at most 32 rows that lie near each other, most of them nearly full.

Rows are split by k-means down to a few blocks, then halved along the line between two means, at a
place that leaves full blocks. All arithmetic is that of integers.
"""

import numpy as np

from d2cli.engine.threads import each
from d2cli.graph.blocks.kernels.codes import half_norms
from d2cli.graph.blocks.sizes import BLOCK_ROWS
from d2cli.runtime.arrays import Int64, UInt8
from d2cli.runtime.int8.blocks import pack
from d2cli.runtime.int8.compare import differences
from d2cli.runtime.int8.sizes import GROUP, NEVER, QUERIES
from d2cli.runtime.jit import kernel

#: Rows that are halved rather than split by k-means.
_FEW = 6 * BLOCK_ROWS
#: Rows per part of a split, the most parts, and rows per part that the means are fitted to.
_PART_ROWS, _MOST_PARTS, _FIT_ROWS = 3 * BLOCK_ROWS, 64, 24
_PASSES = 3
#: Segments carved in one piece of work.
_PIECE = 16


def carve(codes: UInt8, starts: Int64, threads: int = 1) -> tuple[Int64, Int64]:
    """Carve each of the segments starts[s] … starts[s + 1] of codes (n, r) into blocks.

    Returns:
        order (n,) int64, a permutation of the rows that stays within the segments, and the starts
        (blocks + 1,) int64 of the blocks in that order. No block crosses a segment.
    """
    order, ends = np.arange(len(codes)), np.zeros(len(codes), np.bool_)

    def work(first: int) -> None:
        last = min(first + _PIECE, len(starts) - 1)
        _carve(codes, starts[first : last + 1], order, ends)

    each(work, range(0, len(starts) - 1, _PIECE), threads, lambda _: None)
    return order, np.concatenate([[0], np.flatnonzero(ends) + 1])


@kernel
def _carve(codes, starts, order, ends):
    """Permute order[starts[0]:starts[-1]]; ends[i] <- whether a block ends with place i."""
    r = codes.shape[1]
    blocks = np.empty((_MOST_PARTS // BLOCK_ROWS, r // GROUP, BLOCK_ROWS, GROUP), np.int8)
    offsets = np.empty((blocks.shape[0], BLOCK_ROWS), np.int32)
    halves = np.empty((blocks.shape[0], BLOCK_ROWS), np.int32)
    packed = (blocks, offsets, halves)
    centres, sums = np.empty((_MOST_PARTS, r), np.uint8), np.empty((_MOST_PARTS, r), np.int64)
    sizes = np.empty(_MOST_PARTS, np.int64)
    # Runs of rows that are still to be carved, which do not overlap: (first, last).
    waiting = np.empty((max(starts[-1] - starts[0], 1), 2), np.int64)
    for segment in range(starts.shape[0] - 1):
        waiting[0, 0], waiting[0, 1] = starts[segment], starts[segment + 1]
        count = int(starts[segment + 1] > starts[segment])
        while count > 0:
            count -= 1
            first, last = waiting[count, 0], waiting[count, 1]
            rows = last - first
            if rows <= BLOCK_ROWS:
                ends[last - 1] = True
                continue
            members = order[first:last]
            if rows <= _FEW:
                cut = first + _halve(codes, members, centres, sums, sizes, packed)
                waiting[count, 0], waiting[count, 1] = cut, last
                waiting[count + 1, 0], waiting[count + 1, 1] = first, cut
                count += 2
                continue
            parts = min(_MOST_PARTS, max(2, (rows + _PART_ROWS // 2) // _PART_ROWS))
            labels = _split(codes, members, parts, centres, sums, sizes, packed)
            largest = np.int64(0)
            for part in range(parts):
                largest = max(largest, sizes[part])
            if largest == rows:  # the codes cannot be told apart
                for block in range(1, (rows + BLOCK_ROWS - 1) // BLOCK_ROWS):
                    ends[first + block * BLOCK_ROWS - 1] = True
                ends[last - 1] = True
                continue
            begin = first
            for part in range(parts):
                if sizes[part] > 0:
                    waiting[count, 0], waiting[count, 1] = begin, begin + sizes[part]
                    count += 1
                begin += sizes[part]
            _sort_by_part(members, labels, sizes)


@kernel
def _sort_by_part(members, labels, sizes):
    """Sort members by label; `sizes` are those of the parts, and are changed."""
    begin = 0
    for part in range(sizes.shape[0]):
        size = sizes[part]
        sizes[part] = begin
        begin += size
    unsorted = members.copy()
    for place in range(labels.shape[0]):
        part = labels[place]
        members[sizes[part]] = unsorted[place]
        sizes[part] += 1


@kernel
def _split(codes, members, parts, centres, sums, sizes, packed):
    """The part (rows,) of each member by k-means, which is fitted to some of them; fills sizes."""
    fitted = min(members.shape[0], _FIT_ROWS * parts)
    some = np.empty(fitted, np.int64)
    for place in range(fitted):
        some[place] = members[place * members.shape[0] // fitted]
    for part in range(parts):
        _copy(codes, some[part * fitted // parts], centres, part)
    labels = np.empty(fitted, np.int64)
    for _ in range(_PASSES):
        _label(codes, some, centres[:parts], packed, labels)
        _average(codes, some, labels, centres[:parts], sums, sizes)
    labels = np.empty(members.shape[0], np.int64)
    _label(codes, members, centres[:parts], packed, labels)
    sizes[:] = 0
    for place in range(labels.shape[0]):
        sizes[labels[place]] += 1
    return labels


@kernel
def _halve(codes, members, centres, sums, sizes, packed):
    """Order members along the line between two means; returns where to cut."""
    rows = members.shape[0]
    labels, along = np.empty(rows, np.int64), np.empty(rows, np.int64)
    _copy(codes, members[0], centres, np.int64(0))
    farthest, reach = 0, np.int64(-1)
    for place in range(rows):
        away = np.int64(0)
        for t in range(codes.shape[1]):
            gap = np.int64(codes[members[place], t]) - np.int64(centres[0, t])
            away += gap * gap
        if away > reach:
            farthest, reach = place, away
    _copy(codes, members[farthest], centres, np.int64(1))
    for _ in range(_PASSES):
        _label(codes, members, centres[:2], packed, labels)
        _average(codes, members, labels, centres[:2], sums, sizes)
    _pack(centres[:2], packed)
    chosen, scores = np.empty(QUERIES, np.int64), np.empty((QUERIES, BLOCK_ROWS), np.int32)
    targets = np.empty(QUERIES, np.int64)
    for x in range(0, rows, QUERIES):
        for k in range(QUERIES):
            chosen[k], targets[k] = members[min(x + k, rows - 1)], k
        differences(packed[0], packed[1], packed[2], 0, codes, chosen, targets, scores)
        for k in range(min(QUERIES, rows - x)):
            along[x + k] = scores[k, 1] - scores[k, 0]
    for place in range(1, rows):  # by insertion: there are few rows
        number, member, hole = along[place], members[place], place
        while hole > 0 and along[hole - 1] > number:
            along[hole], members[hole] = along[hole - 1], members[hole - 1]
            hole -= 1
        along[hole], members[hole] = number, member
    # Of the cuts that leave full blocks, the one nearest to the border between the two means.
    blocks = (rows + BLOCK_ROWS - 1) // BLOCK_ROWS
    best, cut = rows + 1, 0
    for block in range(1, blocks):
        place = block * rows // blocks
        if abs(place - sizes[0]) < best:
            best, cut = abs(place - sizes[0]), place
    return cut


@kernel
def _copy(codes, i, centres, c):
    """centres[c] <- codes[i], by a loop: numba compiles much for the assignment of a slice."""
    for t in range(codes.shape[1]):
        centres[c, t] = codes[i, t]


@kernel
def _pack(centres, packed):
    count = centres.shape[0]
    halves = np.empty(count, np.int32)
    half_norms(centres, halves)
    blocks = (count + BLOCK_ROWS - 1) // BLOCK_ROWS
    starts = np.empty(blocks + 1, np.int64)
    for b in range(blocks + 1):
        starts[b] = min(b * BLOCK_ROWS, count)
    pack(centres, halves, starts, packed[0][:blocks], packed[2][:blocks], packed[1][:blocks])


@kernel
def _label(codes, members, centres, packed, labels):
    """Labels <- the nearest centre of each member, ties by number."""
    _pack(centres, packed)
    rows, count = members.shape[0], centres.shape[0]
    points, offsets, halves = packed
    chosen, scores = np.empty(QUERIES, np.int64), np.empty((QUERIES, BLOCK_ROWS), np.int32)
    best, targets = np.empty(QUERIES, np.int32), np.empty(QUERIES, np.int64)
    for x in range(0, rows, QUERIES):
        for k in range(QUERIES):
            chosen[k], targets[k] = members[min(x + k, rows - 1)], k
        best[:] = -NEVER
        for b in range((count + BLOCK_ROWS - 1) // BLOCK_ROWS):
            differences(points, offsets, halves, b, codes, chosen, targets, scores)
            for k in range(min(QUERIES, rows - x)):
                for lane in range(min(BLOCK_ROWS, count - b * BLOCK_ROWS)):
                    if scores[k, lane] > best[k]:
                        best[k], labels[x + k] = scores[k, lane], b * BLOCK_ROWS + lane


@kernel
def _average(codes, members, labels, centres, sums, sizes):
    """Centres <- the rounded means of their members; one without members stays."""
    sizes[:] = 0
    sums[: centres.shape[0]] = 0
    for place in range(members.shape[0]):
        part, i = labels[place], members[place]
        sizes[part] += 1
        for t in range(codes.shape[1]):
            sums[part, t] += codes[i, t]
    for part in range(centres.shape[0]):
        if sizes[part] > 0:
            for t in range(codes.shape[1]):
                centres[part, t] = (2 * sums[part, t] + sizes[part]) // (2 * sizes[part])
