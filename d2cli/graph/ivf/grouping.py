"""Kernels that group rows by label or by halving, and compute the means of groups."""

from __future__ import annotations

import numpy as np

from d2cli.runtime.jit import kernel


@kernel
def by_label(labels, count):
    """Sort rows by their labels (n,) 0 … count - 1.

    Returns order (n,) int32, the rows by (label, row), and starts (count + 1,) int32, the place in
    `order` where each label begins.
    """
    # Counts are stored two places late, so that filling `order` moves the starts into place.
    starts = np.zeros(count + 2, np.int32)
    for i in range(labels.shape[0]):
        starts[labels[i] + 2] += 1
    for c in range(count):
        starts[c + 2] += starts[c + 1]
    order = np.empty(labels.shape[0], np.int32)
    for i in range(labels.shape[0]):
        order[starts[labels[i] + 1]] = i
        starts[labels[i] + 1] += 1
    return order, starts[: count + 1]


@kernel
def average(points, starts, means):
    """means[c] <- the mean of points[starts[c]:starts[c + 1]], summed in order in float64."""
    sums = np.empty(points.shape[1], np.float64)
    for c in range(means.shape[0]):
        sums[:] = 0
        for i in range(starts[c], starts[c + 1]):
            row = points[i]
            for t in range(row.shape[0]):
                sums[t] += row[t]
        for t in range(sums.shape[0]):
            means[c, t] = sums[t] / (starts[c + 1] - starts[c])


@kernel
def halved(points, members, most):
    """Split rows recursively at the median of their widest coordinate, to `most` rows a part.

    The members (m,) are rows of the points (n, d), m >= 1. Returns order (m,) int32, the members
    part by part, and starts (parts + 1,) int32.
    """
    order = members.astype(np.int32)
    starts = np.zeros(order.size + 1, np.int32)
    parts = 0
    # A stack of the ends of right halves that are not split yet.
    waiting = [order.size]
    first = 0
    while waiting:
        last = waiting[-1]
        if last - first <= most:
            parts += 1
            starts[parts] = last
            first = waiting.pop()
            continue
        mine = order[first:last]
        widest, reach = 0, np.float32(-1)
        for t in range(points.shape[1]):
            low = high = points[mine[0], t]
            for i in mine:
                low, high = min(low, points[i, t]), max(high, points[i, t])
            if high - low > reach:
                widest, reach = t, high - low
        along = np.empty(mine.size, points.dtype)
        for r in range(mine.size):
            along[r] = points[mine[r], widest]
        order[first:last] = mine[np.argsort(along, kind="mergesort")]
        waiting.append(first + mine.size // 2)
    return order, starts[: parts + 1]
