"""Lists of the best points of each row, and the meeting of rows with blocks.

A list holds the `K` best (score, place) pairs that were offered, by descending score, ties by
ascending place. It does not depend on the order of offers. The score of a row and a point is
``x·y - |y|²/2`` in codes: a higher score is a smaller distance. *Places* are the numbers of rows in
the order of all blocks.

The *bound* of a row is below every score that its list would take.
"""

import numpy as np

from d2cli.graph.blocks.sizes import BLOCK_ROWS, EMPTY
from d2cli.runtime.int8.compare import compare, differences, trailing_zeros
from d2cli.runtime.int8.sizes import NEVER, QUERIES
from d2cli.runtime.jit import borrowing_kernel, kernel
from d2cli.runtime.prefetch import prefetch_row

#: Offers whose lists are prefetched.
_AHEAD = 12


@borrowing_kernel
def offer(scores, places, i, score, place):
    """Offer a point to list i; a point that is in the list already is ignored.

    Callers pass `i` as int64, `score` and `place` as int32, so that it is compiled once.
    """
    last = scores.shape[1] - 1
    if score < scores[i, last] or (score == scores[i, last] and place >= places[i, last]):
        return
    known = False
    for p in range(last + 1):
        known |= places[i, p] == place
    if known:
        return
    p = last
    while p > 0 and (
        scores[i, p - 1] < score or (scores[i, p - 1] == score and places[i, p - 1] > place)
    ):
        scores[i, p], places[i, p] = scores[i, p - 1], places[i, p - 1]
        p -= 1
    scores[i, p], places[i, p] = score, place


@borrowing_kernel
def _bound(scores, places, i):
    last = scores.shape[1] - 1
    return scores[i, last] - 1 if places[i, last] >= 0 else np.int32(EMPTY)


@kernel
def meet_at_home(codes, starts, points, offsets, halves, first_place, scores, places, bounds):
    """All pairs of rows of the same block; fills empty lists and `bounds` (B, 32)."""
    chosen, found = np.empty(QUERIES, np.int64), np.empty((QUERIES, BLOCK_ROWS), np.int32)
    targets = np.empty(QUERIES, np.int64)
    for b in range(points.shape[0]):
        first, size = starts[b], starts[b + 1] - starts[b]
        bounds[b] = NEVER
        for x in range(0, size, QUERIES):
            for k in range(QUERIES):
                chosen[k], targets[k] = first + min(x + k, size - 1), k
            differences(points, offsets, halves, b, codes, chosen, targets, found)
            for k in range(min(QUERIES, size - x)):
                i = first + x + k
                for lane in range(size):
                    if lane != x + k:
                        place = np.int32(first_place + first + lane)
                        offer(scores, places, i, found[k, lane], place)
                bounds[b, x + k] = _bound(scores, places, i)


@kernel
def meet(
    codes, halves, own_block, starts, first_place, scores, places, bounds, own,
    points, offsets, point_halves, point_starts, point_place, point_bounds,
    keys, begins, ends, rows, at, shift, box, filled,
):  # fmt: skip
    """Rows of one group meet blocks of a group: better points enter the lists of the rows.

    Args:
        codes, halves, own_block, starts, first_place, scores, places, bounds: the group of the
            rows; `starts` of its blocks, `first_place` the place of its first row.
        own: whether both groups are the same; rows do not meet their own block.
        points, offsets, point_halves, point_starts, point_place, point_bounds: the other group.
        keys, begins, ends, rows: block ``keys[z] - shift`` meets ``rows[begins[z]:ends[z]]``.
        at: the first z; `keys` end with the last block of the group.
        box: (m, 3) int32 <- offers to rows of the other group: its row, the place of the point
            offered, the score.
        filled: offers that are in the box already.

    Returns:
        The next z, which is the number of keys unless the box is full, and the offers in the box.
    """
    chosen = np.empty(QUERIES, np.int64)
    row_halves, row_bounds = np.empty(QUERIES, np.int32), np.empty(QUERIES, np.int32)
    found = np.empty((QUERIES, BLOCK_ROWS), np.int32)
    near, far = np.empty(QUERIES, np.int64), np.empty(QUERIES, np.int64)
    for z in range(at, keys.shape[0]):
        if filled + (ends[z] - begins[z]) * BLOCK_ROWS > box.shape[0]:
            return z, filled
        filled = _meet_block(
            codes, halves, own_block, starts, first_place, scores, places, bounds, own,
            points, offsets, point_halves, point_starts, point_place, point_bounds,
            keys[z] - shift, rows, begins[z], ends[z], box, filled,
            chosen, row_halves, row_bounds, found, near, far,
        )  # fmt: skip
    return keys.shape[0], filled


@borrowing_kernel
def _meet_block(
    codes, halves, own_block, starts, first_place, scores, places, bounds, own,
    points, offsets, point_halves, point_starts, point_place, point_bounds,
    b, rows, begin, end, box, filled, chosen, row_halves, row_bounds, found, near, far,
):  # fmt: skip
    first_point = point_starts[b]
    for x in range(begin, end, QUERIES):
        for k in range(QUERIES):
            i = rows[min(x + k, end - 1)]
            home = own_block[i]
            chosen[k], row_halves[k] = i, halves[i]
            row_bounds[k] = bounds[home, i - starts[home]]
            if x + k >= end or (own and home == b):
                row_halves[k] = row_bounds[k] = NEVER
        if compare(
            points, offsets, point_halves, point_bounds, b, codes, chosen, row_halves, row_bounds,
            found, near, far,
        ) == 0:  # fmt: skip
            continue
        for k in range(QUERIES):
            i, mask = chosen[k], near[k]
            if mask != 0:
                while mask != 0:
                    lane = trailing_zeros(mask)
                    mask &= mask - 1
                    score = np.int32(found[k, lane] - point_halves[b, lane])
                    offer(scores, places, i, score, np.int32(point_place + first_point + lane))
                home = own_block[i]
                bounds[home, i - starts[home]] = _bound(scores, places, i)
            mask = far[k]
            while mask != 0:
                lane = trailing_zeros(mask)
                mask &= mask - 1
                box[filled, 0], box[filled, 1] = first_point + lane, first_place + i
                box[filled, 2] = found[k, lane] - halves[i]
                filled += 1
    return filled


@borrowing_kernel
def accept(box, own_block, starts, scores, places, bounds):
    """Offer what is in the box (m, 3) to the lists of a group."""
    last = scores.shape[1] - 1
    for t in range(box.shape[0]):
        coming = box[min(t + _AHEAD, box.shape[0] - 1), 0]
        prefetch_row(scores, coming)
        prefetch_row(places, coming)
        i, score = np.int64(box[t, 0]), box[t, 2]
        if score >= scores[i, last]:
            offer(scores, places, i, score, box[t, 1])
            home = own_block[i]
            bounds[home, i - starts[home]] = _bound(scores, places, i)


@kernel
def taken(scores, places, before):
    """What lists took since their places were `before`: a box (m, 3), as :func:`accept` takes it.

    The list of a row keeps the first of its former entries, in their order.
    """
    box, count = np.empty((0, 3), np.int32), 0
    for fill in range(2):
        if fill:
            box, count = np.empty((count, 3), np.int32), 0
        for i in range(places.shape[0]):
            kept = 0
            for p in range(places.shape[1]):
                if places[i, p] == before[i, kept]:
                    kept += 1
                else:
                    if fill:
                        box[count, 0], box[count, 1], box[count, 2] = i, places[i, p], scores[i, p]
                    count += 1
    return box
